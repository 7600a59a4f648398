package choice

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// runs is how many seeds a test tries: MUSTER_PROVE_MEDIA times as many, if it is set.
func runs(n uint64) uint64 {
	times, err := strconv.ParseUint(os.Getenv("MUSTER_PROVE_MEDIA"), 10, 16)
	if err != nil {
		return n
	}
	return n * times
}

// camera has the layers that browsers send of 720 lines.
func camera(id string, p Priority) Video {
	return Video{ID: id, Priority: p, Height: 720, Layers: [MaxSpatial]Layer{
		{180, [MaxTemporal]int{60e3, 90e3, 150e3}},
		{360, [MaxTemporal]int{200e3, 300e3, 500e3}},
		{720, [MaxTemporal]int{600e3, 1000e3, 1700e3}},
	}}
}

func random(r *rand.Rand) (tracks []Video) {
	for i := range 1 + r.IntN(8) {
		v := Video{ID: fmt.Sprint(i), Priority: Priority(r.IntN(3)), Height: r.IntN(5) * 200}
		rate := 20e3 + r.IntN(100e3)
		for s := range 1 + r.IntN(MaxSpatial) {
			v.Layers[s].Height = 180 << s
			for n := range 1 + r.IntN(3) {
				rate += r.IntN(rate)
				v.Layers[s].Rates[n] = rate
			}
			rate = rate*3/4 + 1
		}
		tracks = append(tracks, v)
	}
	return tracks
}

func sum(picks []Pick) (n int) {
	for _, p := range picks {
		n += p.Rate
	}
	return n
}

// Whatever is measured and estimated: never more than the estimate, and only layers
// that there are.
func TestLayersStayBelowTheEstimate(t *testing.T) {
	for seed := range runs(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		l, now, tracks := NewLayers(LayersConfig{}), start, random(r)
		var picks []Pick
		for range 100 {
			now = now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
			switch r.IntN(10) {
			case 0:
				tracks = random(r)
			case 1:
				tracks[r.IntN(len(tracks))].Priority = Priority(r.IntN(3))
			default: // rates change a bit
				for i := range tracks {
					for s := range tracks[i].Layers {
						for n := range tracks[i].Layers[s].Rates {
							tracks[i].Layers[s].Rates[n] = tracks[i].Layers[s].Rates[n] * (90 + r.IntN(21)) / 100
						}
					}
				}
			}
			audio := r.IntN(100e3)
			estimate := r.IntN(3e6)
			picks = l.Choose(picks, now, estimate, audio, tracks)
			require.Len(t, picks, len(tracks))
			require.LessOrEqual(t, sum(picks), max(estimate-audio, 0))
			for i, p := range picks {
				if p.Layer == Paused {
					require.Zero(t, p.Rate)
					continue
				}
				require.Positive(t, tracks[i].Height, "not shown")
				if p.Rate > 0 {
					require.Equal(t, tracks[i].Layers[p.Layer].Rates[p.Temporal], p.Rate)
				}
			}
		}
	}
}

// With more bandwidth the decisions are for more: as many pictures or more by priority,
// and, if they are the same, the most important ones are better first.
func TestLayersAreMonotone(t *testing.T) {
	for seed := range runs(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		tracks := random(r)
		tracks = tracks[:min(3, len(tracks))]
		for i := range tracks {
			tracks[i].Priority = Priority(i)
		}
		var before []Pick
		for estimate := 0; estimate < 3e6; estimate += 20e3 {
			picks := NewLayers(LayersConfig{}).Choose(nil, start, estimate, 0, tracks)
			slices.Reverse(picks) // the most important first
			if before != nil {
				shown := func(p []Pick) (v []int) {
					for _, p := range p {
						v = append(v, min(p.Layer, 0))
					}
					return v
				}
				quality := func(p []Pick) (v []int) {
					for _, p := range p {
						v = append(v, p.Layer*MaxTemporal+p.Temporal)
					}
					return v
				}
				more := slices.Compare(shown(picks), shown(before))
				require.GreaterOrEqual(t, more, 0)
				if more == 0 {
					require.GreaterOrEqual(t, slices.Compare(quality(picks), quality(before)), 0)
				}
			}
			before = picks
		}
	}
}

// At a constant estimate, with rates that go up and down as encoders' do, nothing changes
// all the time.
func TestLayersDoNotFlap(t *testing.T) {
	for seed := range runs(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		tracks := random(r)
		l, now := NewLayers(LayersConfig{}), start
		estimate := 100e3 + r.IntN(3e6)
		var picks, before []Pick
		changes := 0
		for range 600 { // a minute
			now = now.Add(100 * time.Millisecond)
			measured := slices.Clone(tracks)
			for i := range measured {
				by := 97 + r.IntN(7)
				for s := range measured[i].Layers {
					for n := range measured[i].Layers[s].Rates {
						measured[i].Layers[s].Rates[n] = measured[i].Layers[s].Rates[n] * by / 100
					}
				}
			}
			picks = l.Choose(picks, now, estimate, 0, measured)
			for i := range before {
				if before[i].Layer != picks[i].Layer || before[i].Temporal != picks[i].Temporal {
					changes++
					break
				}
			}
			before = append(before[:0], picks...)
		}
		assert.LessOrEqual(t, changes, 6, "seed %d", seed)
	}
}

func TestLayersPriority(t *testing.T) {
	tracks := []Video{camera("other", Others), camera("speaker", Speaker), camera("screen", Screen)}
	levels := func(estimate int) (v []int) {
		for _, p := range NewLayers(LayersConfig{}).Choose(nil, start, estimate, 50e3, tracks) {
			v = append(v, p.Layer)
		}
		return v
	}
	assert.Equal(t, []int{Paused, Paused, Paused}, levels(100e3), "sound comes first")
	assert.Equal(t, []int{Paused, Paused, 0}, levels(120e3))
	assert.Equal(t, []int{0, 0, 0}, levels(250e3))
	assert.Equal(t, []int{0, 0, 2}, levels(2000e3))
	assert.Equal(t, []int{0, 2, 2}, levels(3700e3))
	assert.Equal(t, []int{2, 2, 2}, levels(6000e3))
	tracks[2].Height = 0
	tracks[1].Height = 200
	assert.Equal(t, []int{2, 0, Paused}, levels(6000e3), "not shown, and shown small")
}

// 3 Mb/s, then 500 kb/s, then 3 Mb/s.
func TestLayersSteps(t *testing.T) {
	tracks := []Video{camera("a", Speaker), camera("b", Others)}
	l, now := NewLayers(LayersConfig{}), start
	var picks []Pick
	run := func(estimate int, d time.Duration) (until time.Duration) {
		from := now
		last := slices.Clone(picks)
		for now.Sub(from) < d {
			picks = l.Choose(picks, now, estimate, 64e3, tracks)
			if !slices.Equal(last, picks) {
				until = now.Sub(from)
			}
			last = slices.Clone(picks)
			now = now.Add(100 * time.Millisecond)
		}
		return until
	}
	run(3e6, 10*time.Second)
	assert.Equal(t, []Pick{{2, 2, 1700e3}, {2, 1, 1000e3}}, picks)
	assert.Zero(t, run(500e3, 10*time.Second), "down is at once")
	assert.Equal(t, []Pick{{1, 1, 300e3}, {0, 1, 90e3}}, picks, "both go on")
	assert.Greater(t, l.Probe(), 454_000)
	back := run(3e6, 10*time.Second)
	assert.LessOrEqual(t, back, 5*time.Second)
	assert.Equal(t, []Pick{{2, 2, 1700e3}, {1, 2, 500e3}}, picks, "with headroom")
	t.Logf("back up after %v", back)
	// And again and again: it takes longer each time, but never more than 5 s.
	for range 5 {
		run(500e3, 2*time.Second)
		assert.LessOrEqual(t, run(3e6, 6*time.Second), 5*time.Second)
	}
}

func TestLayersGoOnWhileNothingIsMeasured(t *testing.T) {
	l := NewLayers(LayersConfig{})
	v := camera("screen", Screen)
	one := l.Choose(nil, start, 3e6, 0, []Video{{ID: "screen", Priority: Screen, Height: 720}})
	assert.Equal(t, Paused, one[0].Layer)
	one = l.Choose(nil, start.Add(time.Millisecond), 3e6, 0, []Video{v})
	assert.Equal(t, 2, one[0].Layer, "as soon as there is something")
	v.Layers = [MaxSpatial]Layer{}
	one = l.Choose(nil, start.Add(time.Second), 3e6, 0, []Video{v})
	assert.Equal(t, 2, one[0].Layer)
}

func tracks50() (tracks []Video) {
	for i := range 50 {
		tracks = append(tracks, camera(fmt.Sprint(i), Others))
	}
	tracks[7].Priority, tracks[9].Priority = Speaker, Screen
	return tracks
}

func TestChoicesAllocateNothing(t *testing.T) {
	l, tracks, now := NewLayers(LayersConfig{}), tracks50(), start
	picks := l.Choose(nil, now, 5e6, 0, tracks)
	n := 0
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		n++
		now = now.Add(time.Second)
		picks = l.Choose(picks, now, n%7*1e6, 0, tracks)
	}))
	var e Ear
	var s Speakers
	p := newPeers(24)
	sounds, voices := p.sounds(now), p.voices(now)
	w := Weights{Most: 5, Loudness: 1, Nearness: 1, Radius: 1000}
	heard := e.Choose(nil, now, w, Listener{Place: p.places[0]}, sounds)
	for i := range voices {
		voices[i].Talking = true
	}
	s.Update(now, voices)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		n++
		now = now.Add(20 * time.Millisecond)
		p.meters[0].Observe(30, now)
		sounds[n%24].Level = uint8(n)
		voices[n%24].Level = uint8(n)
		voices[n%24].Talking = n%5 == 0
		heard = e.Choose(heard, now, w, Listener{Place: p.places[0]}, sounds)
		s.Update(now, voices)
	}))
}

func BenchmarkLayers50(b *testing.B) {
	l, tracks, now := NewLayers(LayersConfig{}), tracks50(), start
	var picks []Pick
	b.ReportAllocs()
	for i := range b.N {
		now = now.Add(100 * time.Millisecond)
		picks = l.Choose(picks, now, 5e6+i%3*1e6, 0, tracks)
	}
}

func BenchmarkEar50(b *testing.B) {
	p := newPeers(50)
	sounds := p.sounds(start)
	var e Ear
	var heard []Heard
	now := start
	w := Weights{Most: 5, Loudness: 1, Nearness: 1, Radius: 1000}
	b.ReportAllocs()
	for i := range b.N {
		now = now.Add(20 * time.Millisecond)
		sounds[i%50].Level = uint8(i*7) & 127
		heard = e.Choose(heard, now, w, Listener{Place: p.places[0]}, sounds)
	}
}
