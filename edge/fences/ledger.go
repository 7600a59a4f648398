package fences

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
)

// entry is how somebody stands to a fence, or two to each other: what is stored,
// and what is to be.
type entry struct {
	place *place // nil: of two members
	id    string // of the pair, in the engine
	user  *person
	other *person // of two, the one with the larger id

	n      uint64
	inside bool
	at     time.Time
	// assumed: another region is taken to have stored this.
	assumed bool
	// look: it may be otherwise than the engine believes.
	look bool

	want  []change // to be stored; the first one is, while busy
	busy  bool
	tries int
	retry time.Time // not before
	gone  bool      // the fence is
}

// change is a crossing that is not stored yet.
type change struct {
	inside bool
	at     time.Time
	passed bool
	coarse bool      // told by coarse positions
	seen   time.Time // when the fix came that told it
}

// maxWant bounds what waits to be stored per entry: while nothing can be stored,
// it is compared again later.
const maxWant = 8

// end returns how it stands when all that waits is stored.
func (e *entry) end() (inside bool, at time.Time) {
	if n := len(e.want); n > 0 {
		return e.want[n-1].inside, e.want[n-1].at
	}
	return e.inside, e.at
}

// wish has a change stored, unless it is none. Of a region that is not
// responsible for it, it is assumed that another stores it.
func (e *entry) wish(c change, responsible bool) {
	inside, at := e.end()
	switch {
	case inside == c.inside:
	case !c.at.After(at): // the engine tells what was before that again
		e.look = true
	case responsible && len(e.want) < maxWant:
		e.want = append(e.want, c)
	case responsible:
		e.look = true
	case len(e.want) == 0:
		e.n, e.inside, e.at, e.assumed = e.n+1, c.inside, c.at, true
	}
}

// adopt takes over what is stored. Of what waits, that remains which is news to
// it.
func (e *entry) adopt(s State) {
	e.n, e.inside, e.at, e.assumed, e.look = s.N, s.Inside, s.At, false, true
	inside := e.inside
	e.want = slices.DeleteFunc(e.want, func(c change) bool {
		if c.inside == inside || !c.at.After(s.At) {
			return true
		}
		inside = c.inside
		return false
	})
}

// vanish forgets that they stand anywhere. What is being stored is on its way.
func (e *entry) vanish(at time.Time) {
	if e.want = e.want[:min(len(e.want), 1)]; !e.busy {
		e.want = nil
	}
	if e.inside {
		e.n, e.inside, e.at, e.assumed = e.n+1, false, at, true
	}
	e.look = false
}

// idle: nothing would be lost with the entry, since what is stored is read.
func (e *entry) idle() bool { return !e.inside && !e.busy && len(e.want) == 0 }

// crossing is the first change that waits.
func (e *entry) crossing(room string) Crossing {
	c := e.want[0]
	at := c.at.Truncate(time.Millisecond)
	if c.coarse { // the way was guessed between places and minutes
		at = at.Truncate(time.Minute)
	}
	out := &wire.Crossing{User: e.user.id, At: timestamppb.New(at), Passed: c.passed}
	x := Crossing{Crossing: out, N: e.n + 1}
	switch {
	case e.place == nil && c.inside:
		out.Kind, out.Other = wire.Crossing_MEET, e.other.id
	case e.place == nil:
		out.Kind, out.Other = wire.Crossing_PART, e.other.id
	case !c.inside:
		out.Kind = wire.Crossing_EXIT
	case e.place.Dwell > 0:
		out.Kind = wire.Crossing_DWELL
	default:
		out.Kind = wire.Crossing_ENTER
	}
	if e.place != nil {
		out.Fence, out.Name, x.Revision = e.place.ID, e.place.Name, e.place.Revision
	}
	out.Id = x.id(room)
	return x
}

// crossings is the name space of their ids (RFC 9562, version 5).
var crossings = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/mustermesh/muster/edge/fences"))

// id is a function of what the crossing says. The time is part of it, since rows
// that were deleted (the member left the group, and came back) count anew.
func (x Crossing) id(room string) string {
	return uuid.NewSHA1(crossings, fmt.Appendf(nil, "%s %s %s %s %d %d %d",
		room, x.Fence, x.User, x.Other, x.Revision, x.N, x.At.AsTime().UnixMilli())).String()
}

// again is when something that failed is tried again.
func again(now time.Time, tries int) time.Time {
	return now.Add(min(250*time.Millisecond<<min(tries, 6), 10*time.Second))
}
