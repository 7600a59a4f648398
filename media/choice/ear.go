package choice

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/mustermesh/muster/geo"
)

// Weights say whom one hears in a call.
type Weights struct {
	Most     int     // streams at a time; 0: all
	Loudness float64 // weight, 0 to 1
	Nearness float64 // weight, 0 to 1
	Radius   float64 // metres, beyond which nobody is heard; 0: no limit
}

// Place is where somebody is. One that is not known neither helps nor harms.
type Place struct {
	At    geo.Point // as the other may see it
	Known bool
}

// Sound is a stream that could be heard.
type Sound struct {
	ID    string
	Level uint8 // smoothed, in -dBov; see Meter
	Place Place
}

// Listener is who hears.
type Listener struct {
	Place      Place
	Heading    float64 // degrees from true north
	HasHeading bool    // else north is ahead
}

// Heard is how a stream reaches a listener.
type Heard struct {
	Yes  bool
	Gain float32 // hint, 0 to 1
	Pan  float32 // hint, -1 (left) to 1
	// From is when what belongs to it began: a talker who just came in is heard from the
	// first syllable if packets since then (200 ms at most) are sent, too.
	From time.Time
}

const (
	audible   = 60 // dB below the loudest: what is quieter does not compete with talkers
	fullLevel = 20 // from which on louder does not count for more
	noLevel   = 100

	keptSpeech = 200 * time.Millisecond // of somebody who comes in
	breath     = 120 * time.Millisecond // between syllables: nobody loses the place in it
	clearly    = 0.06                   // by which an outsider's score must be higher
	lasting    = 60 * time.Millisecond  // for so long; except those who begin to talk
	idle       = 3 * time.Second        // likewise, of two who are quiet
	recently   = 10 * time.Second       // who talked may go on

	middling = 1000. // metres at which nearness is a half, without a radius
	leastFar = 0.2   // gain
)

// Ear chooses whom one listener hears: at most Weights.Most of the streams within the
// radius. Talkers come before those who are quiet, of whom those who talked recently come
// first; else the higher weighted mean of loudness and nearness, both 0 to 1, does.
//
// Somebody who begins to talk takes the place of one who is quiet, at once. A talker
// takes another's place when clearly better for a moment. Nobody loses the place in the
// short break between two syllables, nor to somebody who is as quiet, for a while. So
// those who take turns stay as long as there are no more of them than places.
//
// It belongs to one goroutine, or to its owner's lock.
type Ear struct {
	streams map[string]*stream
	round   uint64
	order   []*stream
	in, out []*stream
}

// stream is what is remembered of a sound.
type stream struct {
	id     string
	at     int // among the sounds
	round  uint64
	heard  bool
	from   time.Time // that it is heard
	began  time.Time // that it is loud; zero: it is quiet
	loud   time.Time // the last time that it was
	recent bool      // that is not long ago
	better time.Time // that it would take a place; zero: it would not
	score  float64
	far    float64 // metres; NaN: not known
}

func (s *stream) talks() bool { return !s.began.IsZero() }

// resting reports whether it is quiet as between two syllables.
func (s *stream) resting(now time.Time) bool {
	return !s.talks() && !s.loud.IsZero() && now.Sub(s.loud) < breath
}

// Choose says for each sound whether it is heard, into heard, which it returns; at the
// same places as the sounds. It wants to be asked every 20 ms or so.
func (e *Ear) Choose(heard []Heard, now time.Time, w Weights, l Listener, sounds []Sound) []Heard {
	e.take(now, w, l, sounds)
	most := w.Most
	if most <= 0 || most > len(e.order) {
		most = len(e.order)
	}
	e.choose(now, most)

	heard = heard[:0]
	for range sounds {
		heard = append(heard, Heard{})
	}
	for _, s := range e.in {
		if !s.heard {
			s.heard, s.from = true, now
			if s.talks() {
				s.from = s.began
			}
			if limit := now.Add(-keptSpeech); s.from.Before(limit) {
				s.from = limit
			}
		}
		s.better = time.Time{}
		gain, pan := s.hints(w, l, sounds[s.at].Place)
		heard[s.at] = Heard{true, gain, pan, s.from}
	}
	for _, s := range e.out {
		s.heard = false
	}
	return heard
}

// take makes the list of those within the radius.
func (e *Ear) take(now time.Time, w Weights, l Listener, sounds []Sound) {
	if e.streams == nil {
		e.streams = make(map[string]*stream)
	}
	e.round++
	e.order = e.order[:0]
	known := 0
	for i := range sounds {
		sound := &sounds[i]
		s := e.streams[sound.ID]
		if s == nil {
			s = &stream{id: sound.ID}
			e.streams[sound.ID] = s
		}
		if s.round == e.round {
			continue // named twice
		}
		s.at, s.round = i, e.round
		known++
		s.listen(sound.Level, now)
		s.far = math.NaN()
		if l.Place.Known && sound.Place.Known {
			s.far = geo.Distance(l.Place.At, sound.Place.At)
		}
		if w.Radius > 0 && s.far > w.Radius {
			s.heard, s.better = false, time.Time{}
			continue
		}
		s.score = score(w, sound.Level, s.far)
		e.order = append(e.order, s)
	}
	if len(e.streams) > known {
		for id, s := range e.streams {
			if s.round != e.round {
				delete(e.streams, id)
			}
		}
	}
}

func (s *stream) listen(level uint8, now time.Time) {
	s.recent = !s.loud.IsZero() && now.Sub(s.loud) < recently
	if level > audible {
		s.began = time.Time{}
		return
	}
	if s.began.IsZero() {
		s.began = now
		if now.Sub(s.loud) < breath && !s.loud.IsZero() {
			s.began = s.loud
		}
	}
	s.loud = now
}

// nearness is 1 here, 0 at the radius, and a half where somebody is not known to be.
func nearness(w Weights, far float64) float64 {
	switch {
	case math.IsNaN(far):
		return 0.5
	case w.Radius > 0:
		return max(1-far/w.Radius, 0)
	}
	return middling / (middling + far)
}

func score(w Weights, level uint8, far float64) float64 {
	loud := min(max(float64(noLevel-int(level))/(noLevel-fullLevel), 0), 1)
	both := w.Loudness + w.Nearness
	if !(both > 0) { // also if it is no number
		return loud
	}
	return (w.Loudness*loud + w.Nearness*nearness(w, far)) / both
}

// before orders by who is to be heard rather.
func (s *stream) before(o *stream) int {
	if s.talks() != o.talks() {
		if s.talks() {
			return -1
		}
		return 1
	}
	if !s.talks() && (s.recent || o.recent) {
		if c := o.loud.Compare(s.loud); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(o.score, s.score), cmp.Compare(s.id, o.id))
}

// choose divides them into those who are heard and those who are not.
func (e *Ear) choose(now time.Time, most int) {
	slices.SortFunc(e.order, (*stream).before)
	e.in, e.out = e.in[:0], e.out[:0]
	for _, s := range e.order {
		if s.heard && len(e.in) < most {
			e.in = append(e.in, s)
		}
	}
	// Places that nobody has go to the best.
	free := most - len(e.in)
	for _, s := range e.order {
		switch {
		case slices.Contains(e.in, s):
		case free > 0:
			e.in = append(e.in, s)
			free--
		default:
			e.out = append(e.out, s)
		}
	}
	// The best outsider against the weakest insider, the second best against the second
	// weakest, and so on.
	slices.SortFunc(e.in, func(a, b *stream) int {
		if ra, rb := a.resting(now), b.resting(now); ra != rb {
			if ra { // to the end: it keeps its place
				return 1
			}
			return -1
		}
		return b.before(a)
	})
	for i, o := range e.out {
		switch {
		case i >= len(e.in), e.in[i].resting(now), !o.wouldBeat(e.in[i]):
			o.better = time.Time{}
		case o.beats(e.in[i], now):
			e.in[i], e.out[i] = o, e.in[i]
		}
	}
}

// wouldBeat reports whether o is better than an insider, if that lasts.
func (o *stream) wouldBeat(in *stream) bool {
	if o.talks() != in.talks() {
		return o.talks()
	}
	if !o.talks() && (o.recent || in.recent) {
		return !in.recent
	}
	return o.score > in.score+clearly
}

// beats reports whether o, who is better than an insider, takes its place now.
func (o *stream) beats(in *stream, now time.Time) bool {
	if o.talks() != in.talks() {
		return true
	}
	if o.better.IsZero() {
		o.better = now
	}
	wait := lasting
	if !o.talks() {
		wait = idle
	}
	return now.Sub(o.better) >= wait
}

// hints are gain by distance and pan by bearing, where the call is about distance.
func (s *stream) hints(w Weights, l Listener, p Place) (gain, pan float32) {
	if math.IsNaN(s.far) || w.Radius <= 0 && w.Nearness <= 0 {
		return 1, 0
	}
	gain = float32(leastFar + (1-leastFar)*nearness(w, s.far))
	if s.far < 1 { // the same cell: from everywhere
		return gain, 0
	}
	bearing := geo.Bearing(l.Place.At, p.At)
	if l.HasHeading && !math.IsNaN(l.Heading) && !math.IsInf(l.Heading, 0) {
		bearing -= l.Heading
	}
	return gain, float32(math.Sin(bearing * math.Pi / 180))
}
