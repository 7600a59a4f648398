package client

import (
	"slices"
	"time"
)

const (
	// stagger is the time between two dials, as RFC 8305 has it between two
	// addresses; firstStagger is that of a session's first search, which is in
	// no hurry. With every dial that is still under way it doubles, up to
	// maxStagger: where everybody is slow because there is too much to do, more
	// dials of all clients would be more to do.
	stagger      = 250 * time.Millisecond
	firstStagger = time.Second
	maxStagger   = 2 * time.Second
	// helloPatience is how long a Welcome is waited for before another node is
	// greeted as well: a region that has just lost its leader needs that. Half
	// of it later dialling goes on.
	helloPatience = 2 * time.Second
)

// stage is how far a connection has come.
type stage int

const (
	waiting stage = iota // for its turn
	dialing
	ready   // could say hello, which would commit it
	greeted // has said it
	live    // was welcomed
	over
)

// runner is one endpoint of a race.
type runner struct {
	ep      Endpoint
	stage   stage
	dialed  time.Time
	greeted time.Time
}

// race is one round of a search: who is dialled and who may say hello, and
// when. Dials are staggered and don't wait for each other; hellos do, since a
// Welcome takes the session over. It has no clock and does nothing itself.
type race struct {
	runners []runner
	stagger time.Duration
	hold    time.Time // not before: a server asked for the time
	closed  bool      // nobody new is dialled or may say hello
}

func newRace(endpoints []Endpoint, stagger time.Duration) *race {
	r := &race{stagger: stagger}
	for _, ep := range endpoints {
		r.runners = append(r.runners, runner{ep: ep})
	}
	return r
}

// turn returns whom to dial and who may say hello now, -1 for nobody, and when
// to look again if nothing happens before.
func (r *race) turn(now time.Time) (dial, speak int, next time.Time) {
	dial, speak, next = -1, -1, now.Add(idle)
	if r.closed {
		return dial, speak, next
	}
	running, dials, last := 0, 0, runner{}
	dialAt, speakAt := r.hold, r.hold
	for _, c := range r.runners {
		if c.stage == waiting {
			continue
		}
		if !c.dialed.Before(last.dialed) {
			last = c
		}
		if c.stage != over {
			running++
		}
		if c.stage == dialing {
			dials++
		}
		if c.stage == greeted {
			dialAt = later(dialAt, c.greeted.Add(helloPatience/2))
			speakAt = later(speakAt, c.greeted.Add(helloPatience))
		}
	}
	if running > 0 && last.stage != over {
		dialAt = later(dialAt, last.dialed.Add(max(r.stagger, min(r.stagger<<max(dials-1, 0), maxStagger))))
	}
	first := func(s stage, at time.Time) int {
		i := slices.IndexFunc(r.runners, func(c runner) bool { return c.stage == s })
		if i >= 0 && now.Before(at) {
			next = earlier(next, at)
			return -1
		}
		return i
	}
	return first(waiting, dialAt), first(ready, speakAt), next
}

// committed reports whether a hello was said whose answer is still to come.
func (r *race) committed() bool {
	return slices.ContainsFunc(r.runners, func(c runner) bool { return c.stage == greeted })
}

// done reports whether nothing can come of it any more.
func (r *race) done() bool {
	return !slices.ContainsFunc(r.runners, func(c runner) bool {
		return c.stage != over && (c.stage >= greeted || !r.closed)
	})
}
