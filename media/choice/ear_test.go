package choice

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

var here = geo.Point{Lat: 48.2, Lng: 16.4}

// peers are scripted: each has a level and a place.
type peers struct {
	ids    []string
	levels []uint8
	places []Place
	meters []Meter
}

func newPeers(n int) *peers {
	p := &peers{levels: make([]uint8, n), places: make([]Place, n), meters: make([]Meter, n)}
	for i := range n {
		p.ids = append(p.ids, fmt.Sprintf("p%02d", i))
		p.levels[i] = Silence
		p.places[i] = Place{geo.Destination(here, float64(i*37%360), float64(i)*40), true}
	}
	return p
}

// packets has 20 ms of everybody's sound come.
func (p *peers) packets(now time.Time) {
	for i, level := range p.levels {
		p.meters[i].Observe(level, now)
	}
}

func (p *peers) sounds(now time.Time) (s []Sound) {
	for i, id := range p.ids {
		s = append(s, Sound{id, p.meters[i].Level(now), p.places[i]})
	}
	return s
}

func (p *peers) voices(now time.Time) (v []Voice) {
	for i, id := range p.ids {
		v = append(v, Voice{id, p.meters[i].Level(now), p.meters[i].Talking(now)})
	}
	return v
}

// oracle is who of the talkers is heard: tries all, by what is scripted. ok is false
// when it is too close to say.
func (p *peers) oracle(w Weights, at Place) (ids []string, ok bool) {
	type talker struct {
		id    string
		score float64
	}
	var all []talker
	for i, id := range p.ids {
		d := geo.Distance(at.At, p.places[i].At)
		if p.levels[i] > audible || w.Radius > 0 && d > w.Radius {
			continue
		}
		loud := min(float64(noLevel-int(p.levels[i]))/(noLevel-fullLevel), 1)
		all = append(all, talker{id, (w.Loudness*loud + w.Nearness*(1-d/w.Radius)) / (w.Loudness + w.Nearness)})
	}
	slices.SortFunc(all, func(a, b talker) int { return cmp.Compare(b.score, a.score) })
	n := min(w.Most, len(all))
	if n < len(all) && all[n-1].score-all[n].score < clearly+0.02 {
		return nil, false
	}
	for _, a := range all[:n] {
		ids = append(ids, a.id)
	}
	slices.Sort(ids)
	return ids, true
}

// 24 peers talk, stop and walk; each of them hears the right ones 200 ms later.
func TestEarAgainstAnOracle(t *testing.T) {
	const each = 20 * time.Millisecond
	asked := 0
	for seed := range runs(2) {
		r := rand.New(rand.NewPCG(seed, 5))
		p := newPeers(24)
		w := Weights{Most: 3 + r.IntN(4), Loudness: 1, Nearness: 0.5 + r.Float64(), Radius: 900}
		ears := make([]Ear, 24)
		var heard []Heard
		now := start
		for range 60 { // scenes
			for range 1 + r.IntN(4) {
				i := r.IntN(24)
				switch r.IntN(3) {
				case 0:
					p.levels[i] = Silence
				case 1:
					p.levels[i] = uint8(20 + r.IntN(30))
				case 2:
					p.places[i].At = geo.Destination(here, float64(r.IntN(360)), float64(r.IntN(1000)))
				}
			}
			began := now
			for now.Sub(began) <= 400*time.Millisecond {
				p.packets(now)
				sounds := p.sounds(now)
				for me := range ears {
					heard = ears[me].Choose(heard, now, w, Listener{Place: p.places[me]}, sounds)
					yes := 0
					var talkers []string
					for i, h := range heard {
						if h.Yes {
							yes++
							if p.levels[i] <= audible {
								talkers = append(talkers, p.ids[i])
							}
						}
					}
					require.LessOrEqual(t, yes, w.Most)
					if now.Sub(began) < 200*time.Millisecond {
						continue
					}
					if want, ok := p.oracle(w, p.places[me]); ok {
						asked++
						slices.Sort(talkers)
						require.Equal(t, want, talkers, "seed %d, %s, %v after the scene began", seed, p.ids[me], now.Sub(began))
					}
				}
				now = now.Add(each)
			}
		}
	}
	assert.Greater(t, asked, 10_000)
	t.Logf("%d sets", asked)
}

// run has a script and counts how often who is heard changes for a listener.
func run(p *peers, w Weights, d time.Duration, script func(at time.Duration)) (changes int, ever map[string]time.Time) {
	var e Ear
	var heard, before []Heard
	ever = map[string]time.Time{}
	for at := time.Duration(0); at < d; at += 20 * time.Millisecond {
		script(at)
		now := start.Add(at)
		p.packets(now)
		heard = e.Choose(heard, now, w, Listener{Place: Place{here, true}}, p.sounds(now))
		for i, h := range heard {
			if before != nil && before[i].Yes != h.Yes {
				changes++
			}
			if h.Yes && ever[p.ids[i]].IsZero() {
				ever[p.ids[i]] = h.From
			}
		}
		before = append(before[:0], heard...)
	}
	return changes, ever
}

func TestEarInAlternatingTalk(t *testing.T) {
	w := Weights{Most: 3, Loudness: 1, Nearness: 1, Radius: 1000}
	for _, turn := range []time.Duration{100, 300, 1000, 2500} {
		p := newPeers(24)
		far := []int{15, 18, 20} // nearer ones are quiet
		changes, _ := run(p, w, time.Minute, func(at time.Duration) {
			for i, who := range far {
				p.levels[who] = Silence
				if int(at/(turn*time.Millisecond))%3 == i && at%(200*time.Millisecond) < 160*time.Millisecond {
					p.levels[who] = 30
				}
			}
		})
		assert.LessOrEqual(t, changes, 6, "each of three comes in once (turns of %d ms)", turn)
	}
}

// A talker who begins is heard from the first syllable.
func TestEarKeepsTheFirstSyllable(t *testing.T) {
	p := newPeers(24)
	w := Weights{Most: 2, Loudness: 1, Nearness: 1, Radius: 1000}
	_, ever := run(p, w, 3*time.Second, func(at time.Duration) {
		p.levels[10] = 25
		if at >= time.Second {
			p.levels[12] = 30
		}
	})
	assert.WithinDuration(t, start.Add(time.Second), ever["p12"], 20*time.Millisecond)
}

func TestEarHints(t *testing.T) {
	var e Ear
	at := func(bearing, metres float64) Place { return Place{geo.Destination(here, bearing, metres), true} }
	sounds := []Sound{{"north", 30, at(0, 100)}, {"east", 30, at(90, 500)}, {"west", 30, at(270, 900)},
		{"nowhere", 30, Place{}}, {"away", 30, at(0, 1100)}, {"here", 30, Place{here, true}}}
	w := Weights{Nearness: 1, Radius: 1000}
	heard := e.Choose(nil, start, w, Listener{Place: Place{here, true}}, sounds)
	type hint struct{ gain, pan float64 }
	want := []hint{{0.92, 0}, {0.6, 1}, {0.28, -1}, {1, 0}, {}, {1, 0}}
	for i, h := range heard {
		assert.Equal(t, i != 4, h.Yes)
		assert.InDelta(t, want[i].gain, h.Gain, 0.001)
		assert.InDelta(t, want[i].pan, h.Pan, 0.001)
	}
	heard = e.Choose(heard, start, w, Listener{Place{here, true}, 90, true}, sounds)
	assert.InDelta(t, -1, heard[0].Pan, 0.001, "looks east: north is on the left")
	assert.InDelta(t, 0, heard[1].Pan, 0.001)
	// Nobody's place is known: the loudest, as in any call.
	heard = e.Choose(heard, start.Add(time.Second), Weights{Most: 1, Loudness: 1}, Listener{}, []Sound{{"a", 50, Place{}}, {"b", 25, Place{}}})
	assert.Equal(t, []Heard{{}, {true, 1, 0, start.Add(time.Second)}}, heard)
}

func TestSpeakers(t *testing.T) {
	p := newPeers(4)
	var s Speakers
	now, changes := start, 0
	var ids []string
	talk := func(d time.Duration, level func(at time.Duration)) {
		for from := now; now.Sub(from) < d; now = now.Add(20 * time.Millisecond) {
			level(now.Sub(from))
			p.packets(now)
			list, changed := s.Update(now, p.voices(now))
			if changed {
				changes++
			}
			ids = slices.Clone(list)
		}
	}
	talk(time.Second, func(at time.Duration) { p.levels[1] = 20; p.levels[3] = 50 })
	assert.Equal(t, []string{"p01"}, ids, "a murmur is no speech")
	assert.Equal(t, 1, changes)
	talk(60*time.Millisecond, func(time.Duration) { p.levels[2] = 10 })
	p.levels[2] = Silence
	talk(time.Second, func(time.Duration) {})
	assert.Equal(t, []string{"p01"}, ids, "nor is a cough")

	// Two take turns of 300 ms: both speak, all the time.
	changes = 0
	talk(20*time.Second, func(at time.Duration) {
		p.levels[1], p.levels[2] = 20, Silence
		if at/(300*time.Millisecond)%2 == 1 {
			p.levels[1], p.levels[2] = Silence, 20
		}
	})
	assert.Equal(t, []string{"p01", "p02"}, ids)
	assert.Equal(t, 1, changes)

	talk(2*time.Second, func(time.Duration) { p.levels[1], p.levels[2] = 28, 15 })
	assert.Equal(t, []string{"p02", "p01"}, ids, "clearly louder for a while")
	p.levels[2] = Silence
	talk(2*time.Second, func(time.Duration) {})
	assert.Equal(t, []string{"p01"}, ids)
	// Nothing comes any more.
	now = now.Add(2 * time.Second)
	ids, _ = s.Update(now, p.voices(now))
	assert.Empty(t, ids)
}

func FuzzEar(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 1.0, 1.0, 100.0, 3)
	f.Fuzz(func(t *testing.T, b []byte, loud, near, radius float64, most int) {
		var e Ear
		now := start
		for ; len(b) > 4; b = b[1:] {
			var sounds []Sound
			for i, x := range b[:5] {
				sounds = append(sounds, Sound{fmt.Sprint(x & 7), x, Place{geo.Point{Lat: float64(x), Lng: loud * float64(i)}, x&1 == 0}})
			}
			now = now.Add(time.Duration(b[0]) * time.Millisecond)
			heard := e.Choose(nil, now, Weights{most, loud, near, radius}, Listener{Place: Place{here, true}, Heading: near, HasHeading: true}, sounds)
			yes := 0
			for _, h := range heard {
				if h.Yes {
					yes++
				}
				if !(h.Gain >= 0 && h.Gain <= 1 && h.Pan >= -1 && h.Pan <= 1) {
					t.Fatalf("%+v", h)
				}
			}
			if most > 0 && yes > most {
				t.Fatal("too many")
			}
		}
	})
}
