package choice

import (
	"cmp"
	"slices"
	"time"
)

// Priority is how much a picture matters to the one who sees it.
type Priority uint8

const (
	Others  Priority = iota
	Speaker          // who speaks
	Screen           // shared: what is spoken about
)

// Limits of what a track has.
const (
	MaxSpatial  = 3 // simulcast layers
	MaxTemporal = 4 // temporal layers of each
)

// Layer is a simulcast layer as it is now.
type Layer struct {
	Height int // pixels; 0: not known
	// Rates are measured, in bit/s: of temporal layers up to the n-th. 0: it is not
	// sent now, or the layer has no such temporal layer.
	Rates [MaxTemporal]int
}

// Video is a picture that could be sent to a receiver.
type Video struct {
	ID       string
	Priority Priority
	Height   int               // that it is shown at, in pixels; 0: not shown
	Layers   [MaxSpatial]Layer // the smallest first
}

// Pick is what is sent of a track.
type Pick struct {
	Layer    int // Paused: nothing
	Temporal int // highest temporal layer
	Rate     int // bit/s, as measured
}

// Paused is the layer of what is not sent.
const Paused = -1

// LayersConfig has the times and margins of Layers. Zero values are replaced by what
// stands beside them.
type LayersConfig struct {
	Headroom float64       // 1.15: the estimate must be this many times what is sent to go up
	Hold     time.Duration // 1 s: for so long
	MaxHold  time.Duration // 4 s: Hold doubles up to this when a step up was followed by one down
	Relapse  time.Duration // 8 s: within this time
}

// Layers chooses which layers one receiver gets.
//
// A track's steps are the layers that are worth having, each costlier than the one
// before. Everybody's first step comes first, the most important tracks first; then
// those of a priority take turns to go up, the highest priority until none of its steps
// fits. What does not fit is left, and the next is tried. So with more bandwidth the
// first decision that differs is one for more.
//
// The sum of what is picked, with sound, is never above the estimate: a picture of which
// not even the smallest layer fits is paused, since sound must get through.
//
// Down is at once. Up is when the result would fit with headroom all the time for Hold,
// and then all at once. What the receiver asks for (a new track, another size, another
// priority) is at once as well.
//
// It belongs to one goroutine, or to its owner's lock.
type Layers struct {
	c      LayersConfig
	tracks map[string]*chosen
	round  uint64
	order  []*chosen // of this round, the most important first
	probe  int

	better  time.Time // since when a step up would fit; zero: it doesn't
	raised  time.Time // the last time
	hold    time.Duration
	lowered time.Time
}

// chosen is what is remembered of a track.
type chosen struct {
	id       string
	at       int // among the tracks of this round
	round    uint64
	priority Priority
	height   int
	steps    [MaxSpatial * MaxTemporal]Pick
	n        int // steps
	now      Pick
	level    int // step that is sent: 0 is paused, n is steps[n-1]
	ideal    int // step that would be best
	blocked  bool
}

// NewLayers returns one that has chosen nothing.
func NewLayers(c LayersConfig) *Layers {
	if c.Headroom < 1 {
		c.Headroom = 1.15
	}
	if c.Hold <= 0 {
		c.Hold = time.Second
	}
	if c.MaxHold <= 0 {
		c.MaxHold = 4 * time.Second
	}
	if c.Relapse <= 0 {
		c.Relapse = 8 * time.Second
	}
	return &Layers{c: c, hold: c.Hold, tracks: make(map[string]*chosen)}
}

// Choose picks a layer for each track, into picks, which it returns; at the same places
// as the tracks. estimate is what the receiver's connection can take, in bit/s; audio is
// what of it sound has, which is never touched. It wants to be asked every 100 ms or so,
// and when one of them changed.
func (l *Layers) Choose(picks []Pick, now time.Time, estimate, audio int, tracks []Video) []Pick {
	budget := max(estimate-audio, 0)
	asked := l.take(tracks)
	if asked {
		l.best(budget, false)
		l.set()
		l.better = time.Time{}
	} else {
		sum := 0
		for _, t := range l.order {
			sum += t.cost(t.level)
		}
		if sum > budget {
			l.best(budget, true) // nobody goes up by it
			l.set()
			l.better = time.Time{}
			if now.Sub(l.raised) < l.c.Relapse && !l.raised.IsZero() && l.lowered.Before(l.raised) {
				l.hold = min(2*l.hold, l.c.MaxHold)
			}
			l.lowered = now
		} else {
			l.up(budget, now)
		}
	}
	l.wish(audio)

	picks = picks[:0]
	for range tracks {
		picks = append(picks, Pick{Layer: Paused})
	}
	for _, t := range l.order {
		picks[t.at] = t.now
	}
	return picks
}

// Probe is the rate in bit/s, sound included, that the connection would have to be
// shown to take before the next step up; 0: there is none. An estimate seldom grows
// above what is sent, so somebody has to send it.
func (l *Layers) Probe() int { return l.probe }

// take makes the order of this round, and reports whether the receiver asks for
// something else than before.
func (l *Layers) take(tracks []Video) (asked bool) {
	l.round++
	l.order = l.order[:0]
	for i := range tracks {
		v := &tracks[i]
		t := l.tracks[v.ID]
		if t == nil {
			t = &chosen{id: v.ID, now: Pick{Layer: Paused}, height: -1}
			l.tracks[v.ID] = t
		}
		if t.round == l.round {
			continue // named twice
		}
		if t.priority != v.Priority || t.height != v.Height {
			t.priority, t.height, asked = v.Priority, v.Height, true
		}
		t.at, t.round = i, l.round
		had := t.n > 0
		t.climb(v)
		asked = asked || !had && t.n > 0 // its first packets are measured
		l.order = append(l.order, t)
	}
	if len(l.tracks) > len(l.order) {
		asked = true
		for id, t := range l.tracks {
			if t.round != l.round {
				delete(l.tracks, id)
			}
		}
	}
	slices.SortFunc(l.order, func(a, b *chosen) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.id, b.id))
	})
	return asked
}

// climb finds a track's steps, and the one that it is on now.
func (t *chosen) climb(v *Video) {
	t.n = 0
	if v.Height <= 0 {
		t.level = 0
		return
	}
	for s, layer := range v.Layers {
		top := 0
		for n, rate := range layer.Rates {
			if rate > 0 {
				top = n
			}
		}
		for n, rate := range layer.Rates {
			// Of a camera, half the motion is better than twice the size; not so of a
			// screen, on which one reads.
			if rate <= 0 || s > 0 && v.Priority != Screen && n+1 < top {
				continue
			}
			for t.n > 0 && t.steps[t.n-1].Rate >= rate {
				t.n-- // costs as much, and is worse
			}
			t.steps[t.n] = Pick{s, n, rate}
			t.n++
		}
		// Three quarters of a size look like all of it.
		if t.n > 0 && layer.Height > 0 && layer.Height*4 >= v.Height*3 {
			break
		}
	}
	if t.n == 0 && t.now.Layer != Paused { // silent for a while, as a screen may be
		t.steps[0], t.n = Pick{t.now.Layer, t.now.Temporal, 0}, 1
	}
	// Where it is: the highest step that is no better than what is sent.
	t.level = 0
	for i, p := range t.steps[:t.n] {
		if t.now.Layer > p.Layer || t.now.Layer == p.Layer && t.now.Temporal >= p.Temporal {
			t.level = i + 1
		}
	}
	if t.level == 0 && t.now.Layer != Paused && t.n > 0 {
		t.level = 1 // its layer is gone, and only better ones are there
	}
}

func (t *chosen) cost(level int) int {
	if level == 0 {
		return 0
	}
	return t.steps[level-1].Rate
}

// best finds the ideal steps for a budget. noHigher: nobody gets more than now.
func (l *Layers) best(budget int, noHigher bool) {
	raise := func(t *chosen) bool {
		more := t.cost(t.ideal+1) - t.cost(t.ideal)
		if more > budget {
			return false
		}
		budget -= more
		t.ideal++
		return true
	}
	limit := func(t *chosen) int {
		if noHigher {
			return t.level
		}
		return t.n
	}
	for _, t := range l.order {
		t.ideal, t.blocked = 0, false
		t.blocked = limit(t) == 0 || !raise(t)
	}
	for from := 0; from < len(l.order); {
		to := from
		for to < len(l.order) && l.order[to].priority == l.order[from].priority {
			to++
		}
		for again := true; again; {
			again = false
			for _, t := range l.order[from:to] {
				if t.blocked {
					continue
				}
				t.blocked = t.ideal >= limit(t) || !raise(t)
				again = again || !t.blocked
			}
		}
		from = to
	}
}

// set takes the ideal steps.
func (l *Layers) set() {
	for _, t := range l.order {
		t.level = t.ideal
	}
	l.picks()
}

// picks follows the steps that are sent.
func (l *Layers) picks() {
	for _, t := range l.order {
		t.now = Pick{Layer: Paused}
		if t.level > 0 {
			t.now = t.steps[t.level-1]
		}
	}
}

// up goes up if that would have fitted for long enough.
func (l *Layers) up(budget int, now time.Time) {
	l.best(int(float64(budget)/l.c.Headroom), false)
	if !l.isBetter() {
		l.better = time.Time{}
		l.picks() // rates may have changed
		if now.Sub(l.raised) >= l.c.Relapse {
			l.hold = l.c.Hold
		}
		return
	}
	if l.better.IsZero() {
		l.better = now
	}
	if now.Sub(l.better) < l.hold {
		l.picks()
		return
	}
	l.set()
	l.better, l.raised = time.Time{}, now
}

// isBetter reports whether the ideal steps are better than those that are sent: the
// first that differs, in the order in which they were decided on, is more.
func (l *Layers) isBetter() bool {
	for _, t := range l.order {
		if (t.ideal > 0) != (t.level > 0) {
			return t.ideal > 0
		}
	}
	for from := 0; from < len(l.order); {
		// Those of a priority have turns: more of the lower steps comes first.
		to, more := from, 0
		for to < len(l.order) && l.order[to].priority == l.order[from].priority {
			more += l.order[to].ideal - l.order[to].level
			to++
		}
		if more != 0 {
			return more > 0
		}
		from = to
	}
	return false
}

// wish computes what the next step up needs.
func (l *Layers) wish(audio int) {
	sum, least := 0, 0
	for _, t := range l.order {
		sum += t.cost(t.level)
		if t.level < t.n {
			if more := t.cost(t.level+1) - t.cost(t.level); least == 0 || more < least {
				least = more
			}
		}
	}
	l.probe = 0
	if least > 0 {
		l.probe = audio + int(float64(sum+least)*l.c.Headroom)
	}
}
