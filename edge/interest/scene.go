package interest

import (
	"cmp"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// Where a fix does not say, a subject has one of these; see wire.Sight.
const (
	noSpeed   = 1 << 17 // cm/s: above any speed
	noHeading = 360     // degrees
	noCell    = 1       // is no cell
)

const (
	// maxSubjects bounds a scene. Of a room that has more, the later ones are not
	// shown.
	maxSubjects = 20_000
	// maxLeft bounds whom a scene remembers to have left.
	maxLeft = 1024
)

// spot is how a subject is, as far as viewers are told.
type spot struct {
	lat, lng       int32 // micro-degrees
	accuracy       uint32
	speed, heading uint32 // noSpeed, noHeading
	cell           uint64 // noCell
}

type key struct{ user, device string }

// subject is a device of a user in a scene. Views compare their own copies of
// its spot with it.
type subject struct {
	key
	spot
	captured int64  // Unix ms
	epoch, n uint64 // of the fix
	session  uint64 // the highest epoch heard of
	until    int64  // Unix ms: when the fix lapses, or that nothing is known any more is forgotten
	heard    uint64 // the scene's count when it was last told of
	shown    bool   // false: withdrawn
	fix      *wire.MemberFix
	applied  uint64 // the scene's count of fixes with that one
}

// Scene is what a node knows of where somebody is who may be seen together: the
// members of a room, or discoverable people of a part of the map. It is a pure
// state machine, without clock, lock or I/O, as are the Views that look at it.
// Of what it is told the latest wins, in whatever order it comes.
type Scene struct {
	subjects map[key]*subject
	left     map[key]uint64 // the session epochs that are over
	views    []*View
	count    uint64 // of marks
	lapse    int64  // when to look for fixes that lapse
	frames   encoder
	order    []*subject // scratch
	Stats    Stats
}

// Stats count what a scene was told and what it told.
type Stats struct {
	Applied, Stale uint64 // fixes
	Lapsed         uint64
	Refused        uint64 // for maxSubjects
	Keys, Deltas   uint64 // frames
	Bytes          uint64
}

// NewScene returns a scene without subjects.
func NewScene() *Scene {
	return &Scene{subjects: map[key]*subject{}, left: map[key]uint64{}, lapse: never}
}

// Apply takes a fix. until is when it lapses; zero: its capture says. The same fix
// may come again with a later one.
func (s *Scene) Apply(now time.Time, f *wire.MemberFix, until time.Time) {
	fix := f.GetFix()
	if fix == nil {
		return
	}
	sub := s.subjects[key{f.User, f.Device}]
	if sub != nil {
		sub.heard = s.count
	}
	if sub == nil {
		k := key{f.User, f.Device}
		if over, left := s.left[k]; left && f.Epoch <= over {
			s.Stats.Stale++
			return
		}
		if len(s.subjects) >= maxSubjects {
			s.Stats.Refused++
			return
		}
		sub = &subject{key: k, heard: s.count}
		s.subjects[k] = sub
	} else if f.Epoch < sub.epoch || f.Epoch == sub.epoch && fix.N <= sub.n {
		if f.Epoch == sub.epoch && fix.N == sub.n && !until.IsZero() && sub.shown {
			sub.until = max(sub.until, until.UnixMilli())
		}
		s.Stats.Stale++
		return
	}
	s.Stats.Applied++
	sub.epoch, sub.n, sub.session = f.Epoch, fix.N, max(sub.session, f.Epoch)
	sub.fix, sub.applied = f, s.Stats.Applied
	if fix.Point == nil {
		sub.until = now.Add(edge.FixLife).UnixMilli()
		s.hide(sub)
	} else {
		sub.captured = fix.Captured.GetSeconds()*1000 + int64(fix.Captured.GetNanos())/1_000_000
		if until.IsZero() {
			until = edge.Lapses(fix)
		}
		sub.until = until.UnixMilli()
		sub.spot = spotOf(fix)
		sub.shown = sub.until > now.UnixMilli()
		for _, v := range s.views {
			v.apply(sub)
		}
	}
	s.lapse = min(s.lapse, sub.until)
}

func spotOf(f *wire.Fix) spot {
	s := spot{
		lat: degrees(f.Point.Lat), lng: degrees(f.Point.Lng), accuracy: uint32(f.Accuracy + 0.5),
		speed: noSpeed, heading: noHeading, cell: noCell,
	}
	if f.Speed != nil {
		s.speed = min(uint32(*f.Speed*100+0.5), noSpeed-1)
	}
	if f.Heading != nil {
		s.heading = uint32(*f.Heading+0.5) % 360
	}
	if f.Cell != 0 {
		s.cell = f.Cell
	}
	return s
}

// hide takes a subject out of all views, for sure.
func (s *Scene) hide(sub *subject) {
	sub.shown = false
	for _, v := range s.views {
		v.apply(sub)
	}
}

// Present says that a session of a device is there.
func (s *Scene) Present(user, device string, epoch uint64) {
	k := key{user, device}
	if sub := s.subjects[k]; sub != nil {
		sub.session = max(sub.session, epoch)
	}
	if over, left := s.left[k]; left && epoch >= over { // who hid shows again
		delete(s.left, k)
	}
}

// Left says that a session of a device is over. What is known of it is gone,
// unless it has a later one.
func (s *Scene) Left(user, device string, epoch uint64) {
	k := key{user, device}
	sub := s.subjects[k]
	if sub != nil {
		if sub.session > epoch {
			return
		}
		s.hide(sub)
		delete(s.subjects, k)
	}
	if len(s.left) >= maxLeft {
		clear(s.left) // a fix that comes so late that this matters lapses
	}
	s.left[k] = max(s.left[k], epoch)
}

// Gone forgets a subject, whatever is known of it.
func (s *Scene) Gone(user, device string) {
	k := key{user, device}
	if sub := s.subjects[k]; sub != nil {
		s.hide(sub)
		delete(s.subjects, k)
	}
}

// Mark begins to count who is told of: see Only.
func (s *Scene) Mark() uint64 {
	s.count++
	return s.count
}

// Only forgets who was not told of since a mark.
func (s *Scene) Only(mark uint64) {
	for k, sub := range s.subjects {
		if sub.shown && sub.heard < mark {
			s.hide(sub)
			delete(s.subjects, k)
		}
	}
}

// Lapse forgets what has become too old, and returns when to look again.
func (s *Scene) Lapse(now time.Time) time.Time {
	at := now.UnixMilli()
	if at >= s.lapse {
		s.lapse = never
		for k, sub := range s.subjects {
			if sub.until > at {
				s.lapse = min(s.lapse, sub.until)
				continue
			}
			if sub.shown {
				s.Stats.Lapsed++
			}
			s.hide(sub)
			delete(s.subjects, k)
		}
		s.lapse = max(s.lapse, at+1000) // many lapse at once, none a second late
	}
	return timeOf(s.lapse)
}

// Add has a view look at the scene, and at no other. Look says where.
func (s *Scene) Add(v *View) {
	v.since = s.Stats.Applied
	s.views = append(s.views, v)
}

// Remove ends that.
func (s *Scene) Remove(v *View) {
	for i, o := range s.views {
		if o == v {
			s.views = slices.Delete(s.views, i, i+1)
			return
		}
	}
}

// Look changes what a view of the scene shows.
func (s *Scene) Look(v *View, area *wire.Box) {
	v.area = areaOf(area)
	v.look()
	s.fill(v)
}

// Hide has a view of the scene not show some users, or nobody at all; all others
// may be shown.
func (s *Scene) Hide(v *View, users map[string]bool, all bool) {
	v.hidden, v.blind = users, all
	v.look()
	s.fill(v)
}

func (s *Scene) fill(v *View) {
	v.short = false
	s.order = s.order[:0]
	for _, sub := range s.subjects {
		if v.wants(sub) {
			s.order = append(s.order, sub)
		}
	}
	slices.SortFunc(s.order, func(a, b *subject) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.device, b.device))
	})
	for _, sub := range s.order {
		v.apply(sub)
	}
	clear(s.order)
}

// Views returns how many views look at the scene.
func (s *Scene) Views() int { return len(s.views) }

// Tick says what the views have to tell, frame by frame: each is a server frame,
// valid until emit returns; lossy: it may go by datagram. It returns when it is
// to be called again if nothing else happens. Not to call it more often than a
// client should get frames is up to the caller.
func (s *Scene) Tick(now time.Time, emit func(v *View, frame []byte, lossy bool)) time.Time {
	next := s.Lapse(now)
	for _, v := range s.views {
		if v.short && len(v.sights) < maxSights {
			s.fill(v)
		}
		if at := v.tick(now, &s.frames, &s.Stats, emit); at.Before(next) {
			next = at
		}
	}
	return next
}

const never = int64(1) << 62 / 1_000_000

func timeOf(ms int64) time.Time { return time.UnixMilli(ms) }
