// Package viewstate is what a client knows of one watched area: a pure state
// machine without clock, lock or I/O. View frames go in, the changes that the
// application should see come out. The TypeScript SDK holds the same machine
// (web/sdk/src/view.ts), and both pass the same vectors (testdata/views.json);
// change them together.
//
// # The rules
//
//   - A key frame (n is 0) says all there is in the area. It comes in order, in one
//     or more parts, and replaces what was known when its last part (without
//     `more`) is there. Who was in the key frame before is named by the handle
//     alone.
//   - Every other frame lies on top of the key frame whose number it has, and may be
//     lost, late or doubled. A sight in it says how the subject is now, as the
//     difference to that key frame: what it does not set is as there, but for the
//     age, which is 0. Who is not in the key frame is named, and whole. Per handle
//     the highest n wins.
//   - A frame on top of a key frame that is yet to come waits for it; one on top of
//     an earlier one is dropped.
//   - A device may have two handles for a moment. The higher one is the truth.
//   - What was captured when is told as an age in whole seconds: where nothing else
//     of a subject has changed, the time known stays.
//   - A new connection begins anew, with a key frame. What was known is shown until
//     then.
package viewstate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

const (
	// maxEarly bounds the frames that wait for their key frame; the oldest goes.
	maxEarly = 64
	// maxSights bounds what a server can make us keep.
	maxSights = 4096
	// sameTime is by how much two ages of one fix may seem to differ.
	sameTime = 2 * time.Second

	// Where a subject has none of these, a sight says so by them.
	noSpeed   = 1 << 17
	noHeading = 360
	noCell    = 1

	micro = 1e6
)

// Sight is where a device is that is in the area.
type Sight struct {
	User, Device string
	Point        geo.Point
	Accuracy     float64   // metres, 68 %; 0 = unknown
	Speed        *float64  // m/s; nil = unknown
	Heading      *float64  // degrees from true north; nil = unknown
	Cell         geo.Cell  // whose centre the point is, if the position is told coarsely; else 0
	Captured     time.Time // by the clock that Apply was told, to a second
}

// Age returns how old the position is.
func (s Sight) Age(now time.Time) time.Duration { return max(0, now.Sub(s.Captured)) }

// Event is a change: SightChanged or SightGone.
type Event interface{ event() }

// SightChanged says that a device has come into the area, or has moved in it.
type SightChanged struct{ Sight Sight }

// SightGone says that a device is not in the area any more, or not told any more.
type SightGone struct{ User, Device string }

func (SightChanged) event() {}
func (SightGone) event()    {}

// Counters count what came and what was dropped.
type Counters struct {
	Keys   uint64 // key frames
	Deltas uint64 // frames on top of one, applied
	Stale  uint64 // frames and sights dropped: something newer was known
	Early  uint64 // frames that had to wait
	Bad    uint64 // sights that make no sense
}

type name struct{ user, device string }

type spot struct {
	lat, lng       int64 // micro-degrees
	accuracy       uint32
	speed, heading uint32
	cell           uint64
}

var nothing = spot{speed: noSpeed, heading: noHeading, cell: noCell}

type entry struct {
	name
	handle   uint32
	key      spot // as in the key frame; nothing, if it is not in it
	cur      spot
	captured time.Time
	n        uint32
}

// State is the state of one watch. Its methods are not safe for concurrent use.
type State struct {
	ready   bool // there was a key frame
	waiting bool // the next key frame begins anew, whatever its number
	key     uint32
	entries map[uint32]*entry
	byName  map[name]*entry // those that are shown

	next     map[uint32]*entry // a key frame of which parts are missing
	nextKey  uint32
	early    []*wire.View
	counters Counters
	out      []Event
}

// New returns the state of a watch of which nothing is known.
func New() *State {
	return &State{waiting: true, entries: map[uint32]*entry{}, byName: map[name]*entry{}}
}

// Reset says that what comes next is of a new connection.
func (s *State) Reset() { s.waiting, s.next, s.early = true, nil, nil }

// Ready reports whether the area was told whole, ever.
func (s *State) Ready() bool { return s.ready }

// Counters returns what was counted so far.
func (s *State) Counters() Counters { return s.counters }

// Sights returns who is in the area, by user and device.
func (s *State) Sights() []Sight {
	all := make([]Sight, 0, len(s.byName))
	for _, e := range s.byName {
		all = append(all, e.sight())
	}
	slices.SortFunc(all, func(a, b Sight) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Device, b.Device))
	})
	return all
}

func (e *entry) sight() Sight {
	s := Sight{
		User: e.user, Device: e.device, Captured: e.captured, Accuracy: float64(e.cur.accuracy),
		Point: geo.Point{Lat: float64(e.cur.lat) / micro, Lng: float64(e.cur.lng) / micro},
	}
	if e.cur.speed != noSpeed {
		s.Speed = new(float64(e.cur.speed) / 100)
	}
	if e.cur.heading != noHeading {
		s.Heading = new(float64(e.cur.heading))
	}
	if e.cur.cell != noCell {
		s.Cell = geo.Cell(e.cur.cell)
	}
	return s
}

// Apply takes a frame of the watch.
func (s *State) Apply(now time.Time, v *wire.View) []Event {
	if v.GetN() == 0 {
		s.part(now, v)
	} else {
		s.changes(now, v)
	}
	out := s.out
	s.out = nil
	return out
}

// part takes a part of a key frame.
func (s *State) part(now time.Time, v *wire.View) {
	// Where the area has changed, what the one before still said may come between
	// the parts of the next one.
	if !s.waiting && v.GetKey() <= s.key || s.next != nil && v.GetKey() < s.nextKey {
		s.counters.Stale++
		return
	}
	if s.next == nil || v.GetKey() != s.nextKey {
		s.next, s.nextKey = map[uint32]*entry{}, v.GetKey()
	}
	for _, w := range v.GetSights() {
		e := &entry{name: name{w.GetUser(), w.GetDevice()}, handle: w.GetHandle(), key: nothing}
		if old := s.entries[e.handle]; e.user == "" && old != nil && !s.waiting {
			e.name = old.name
		}
		if e.user == "" || len(s.next) >= maxSights || !e.take(now, w) {
			s.counters.Bad++
			continue
		}
		e.key = e.cur
		s.next[e.handle] = e
	}
	if !v.GetMore() {
		s.whole(now)
	}
}

// whole makes a key frame that is complete what is known.
func (s *State) whole(now time.Time) {
	before := s.byName
	s.entries, s.byName = s.next, make(map[name]*entry, len(s.next))
	s.key, s.next, s.waiting, s.ready = s.nextKey, nil, false, true
	s.counters.Keys++
	for _, e := range s.entries {
		if o := s.byName[e.name]; o == nil || o.handle < e.handle {
			s.byName[e.name] = e
		}
	}
	for _, e := range sorted(before) {
		if s.byName[e.name] == nil {
			s.out = append(s.out, SightGone{e.user, e.device})
		}
	}
	for _, e := range sorted(s.byName) {
		o := before[e.name]
		if o != nil && o.cur == e.cur && near(o.captured, e.captured) {
			e.captured = o.captured
			continue
		}
		s.out = append(s.out, SightChanged{e.sight()})
	}
	early := s.early
	s.early = nil
	for _, v := range early {
		s.changes(now, v)
	}
}

func sorted(m map[name]*entry) []*entry {
	all := make([]*entry, 0, len(m))
	for _, e := range m {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.device, b.device)) })
	return all
}

func near(a, b time.Time) bool { return a.Sub(b).Abs() < sameTime }

// changes takes a frame on top of a key frame.
func (s *State) changes(now time.Time, v *wire.View) {
	switch {
	case s.waiting || v.GetKey() > s.key:
		s.counters.Early++
		if s.early = append(s.early, v); len(s.early) > maxEarly {
			s.early = slices.Delete(s.early, 0, 1)
		}
		return
	case v.GetKey() < s.key:
		s.counters.Stale++
		return
	}
	s.counters.Deltas++
	for _, w := range v.GetSights() {
		s.change(now, v.GetN(), w)
	}
}

func (s *State) change(now time.Time, n uint32, w *wire.Sight) {
	e := s.entries[w.GetHandle()]
	switch {
	case e != nil && n <= e.n:
		s.counters.Stale++
		return
	case e == nil && (len(s.entries) >= 2*maxSights || w.GetUser() == "" && !w.GetGone()):
		s.counters.Bad++
		return
	case e == nil:
		e = &entry{name: name{w.GetUser(), w.GetDevice()}, handle: w.GetHandle(), key: nothing, cur: nothing}
		s.entries[e.handle] = e
	}
	if e.user == "" { // was gone before it was heard of
		e.name = name{w.GetUser(), w.GetDevice()}
	}
	shown := s.byName[e.name]
	if w.GetGone() {
		e.n = n
		if shown == e {
			delete(s.byName, e.name)
			s.out = append(s.out, SightGone{e.user, e.device})
		}
		return
	}
	was, at := e.cur, e.captured
	if e.user == "" || !e.take(now, w) {
		s.counters.Bad++
		return
	}
	e.n = n
	if shown != nil && shown.handle > e.handle {
		return
	}
	s.byName[e.name] = e
	if shown == e && was == e.cur && near(at, e.captured) {
		e.captured = at
		return
	}
	s.out = append(s.out, SightChanged{e.sight()})
}

// take sets how a subject is, from the difference to its key. false: that is
// nowhere; it stays as it was.
func (e *entry) take(now time.Time, w *wire.Sight) bool {
	c := e.key
	c.lat += int64(w.GetLat())
	c.lng += int64(w.GetLng())
	if math.Abs(float64(c.lat)) > 90*micro || math.Abs(float64(c.lng)) > 180*micro {
		return false
	}
	if w.Accuracy != nil {
		c.accuracy = *w.Accuracy
	}
	if w.Speed != nil {
		c.speed = min(*w.Speed, noSpeed)
	}
	if w.Heading != nil {
		c.heading = min(*w.Heading, noHeading)
	}
	if w.GetCell() != 0 {
		c.cell = w.GetCell()
	}
	e.cur, e.captured = c, now.Add(-time.Duration(w.GetAge())*time.Second)
	return true
}
