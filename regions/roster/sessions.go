package roster

import (
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// SessionState is where a session is in its life, as the region knows it.
type SessionState uint8

const (
	Gone      SessionState = iota // none here: the device is remembered for its epochs
	Live                          // connected to its node
	Suspended                     // within its grace time
)

func (s SessionState) String() string { return [...]string{"gone", "live", "suspended"}[s] }

// Session is what the roster knows of a device, as of a moment: it is never
// changed, a newer one takes its place.
type Session struct {
	User, Device string
	State        SessionState
	Transport    wire.Transport
	place        int32 // where it is in the table, for as long as the device is known
	Epoch        regions.Epoch
	Node         regions.NodeID // the last one
	Incarnation  uint64
	Connection   uint64
	Login, Name  string
	Since        int64 // of the state: Unix milliseconds of the leader then

	rooms   []*room // by name
	idle    idle    // unless it is live
	earlier []opened
	seen    []Seen
}

// idle is when a session was suspended or a device gone, or of a call or a floor
// something was heard, and its number in the queue.
type idle struct {
	moment
	order uint64
}

// opened is a connection and the epoch it got.
type opened struct {
	node                    regions.NodeID
	incarnation, connection uint64
	epoch                   regions.Epoch
}

// Seen is what another region said of a device.
type Seen struct {
	Region regions.RegionID
	Epoch  regions.Epoch
}

// Rooms returns the rooms that the session is in, in order.
func (x *Session) Rooms() []string { return namesOf(x.rooms) }

// Elsewhere returns the epochs that other regions have for the device.
func (x *Session) Elsewhere() []Seen { return slices.Clone(x.seen) }

// Highest returns the highest epoch known of the device, of all regions.
func (x *Session) Highest() regions.Epoch {
	high := x.Epoch
	for _, e := range x.seen {
		high = max(high, e.Epoch)
	}
	return high
}

// Before returns the region in which the device had a session before the one of
// that epoch here; "" if that was this one, or nothing is known of another.
func (x *Session) Before(epoch regions.Epoch) (region regions.RegionID) {
	var last regions.Epoch
	for _, e := range append(x.earlier[:len(x.earlier):len(x.earlier)], opened{epoch: x.Epoch}) {
		if e.epoch < epoch {
			last = max(last, e.epoch)
		}
	}
	for _, e := range x.seen {
		if e.Epoch > last && e.Epoch < epoch {
			last, region = e.Epoch, e.Region
		}
	}
	return region
}

func (x *Session) by(node string, incarnation, connection uint64) bool {
	return string(x.Node) == node && x.Incarnation == incarnation && x.Connection == connection
}

// past returns the connections before the next one, the latest last.
func (x *Session) past() []opened {
	if x.Epoch == 0 {
		return x.earlier // it never had a session here
	}
	from := max(0, len(x.earlier)-maxEarlier+1)
	return append(slices.Clone(x.earlier[from:]), opened{x.Node, x.Incarnation, x.Connection, x.Epoch})
}

func (s *State) open(c *peer.SessionOpen) *peer.RosterAnswer {
	if !id(c.User, c.Device, c.Node) || len(c.Login) > maxID || len(c.Name) > maxName ||
		c.Floor > MaxEpoch || c.Transport < 0 || c.Transport > wire.Transport_WEBSOCKET {
		return refuse(invalid, 0)
	}
	old := s.devices.get(c.User, c.Device)
	if old != nil {
		if old.Epoch > 0 && old.by(c.Node, c.Incarnation, c.Connection) {
			return again(old)
		}
		for _, o := range old.earlier {
			if (o == opened{regions.NodeID(c.Node), c.Incarnation, c.Connection, o.epoch}) {
				return refuse(peer.RosterCode_ROSTER_SUPERSEDED, old.Highest())
			}
		}
	} else if len(s.devices.users[c.User]) >= MaxDevices {
		return refuse(peer.RosterCode_ROSTER_TOO_MANY, 0)
	}
	n, ok := s.known(c.Node, c.Incarnation)
	switch {
	case !ok:
		return refuse(peer.RosterCode_ROSTER_STALE_NODE, 0)
	case n.State == Draining:
		return refuse(peer.RosterCode_ROSTER_DRAINING, 0)
	}

	x := &Session{
		State: Live, Transport: c.Transport, Epoch: s.issue(old, regions.Epoch(c.Floor)),
		Node: n.ID, Incarnation: n.Incarnation, Connection: c.Connection, Since: int64(s.clock.wall),
	}
	a := granted(x.Epoch)
	if old == nil {
		x.User, x.Device, x.Login, x.Name = packed(c.User, c.Device, c.Login, c.Name)
	} else {
		x.User, x.Device, x.Login, x.Name = old.User, old.Device, c.Login, c.Name
		if old.Login == c.Login {
			x.Login = old.Login
		}
		if old.Name == c.Name {
			x.Name = old.Name
		}
		x.rooms, x.earlier, x.seen = old.rooms, old.past(), old.seen
	}
	resumed := old != nil && old.State != Gone
	if resumed {
		a.PreviousNode, a.PreviousEpoch, a.Rooms = string(old.Node), uint64(old.Epoch), old.Rooms()
	}
	s.put(old, x)
	if resumed {
		s.emit(SessionFenced{User: x.User, Device: x.Device, Node: old.Node, Epoch: old.Epoch, Winning: x.Epoch})
	}
	s.emit(SessionOpened{User: x.User, Device: x.Device, Node: x.Node, Epoch: x.Epoch, Resumed: resumed})
	return a
}

// again answers an open whose first answer was lost, perhaps.
func again(x *Session) *peer.RosterAnswer {
	if x.State == Gone {
		return refuse(peer.RosterCode_ROSTER_NO_SESSION, x.Highest())
	}
	a := granted(x.Epoch)
	a.Suspended, a.Rooms = x.State == Suspended, x.Rooms()
	if n := len(x.earlier); n > 0 {
		a.PreviousNode, a.PreviousEpoch = string(x.earlier[n-1].node), uint64(x.earlier[n-1].epoch)
	}
	return a
}

// issue is the only source of session epochs.
func (s *State) issue(old *Session, floor regions.Epoch) regions.Epoch {
	last := s.forgotten
	if old != nil {
		last = max(last, old.Highest())
	}
	return max(last, floor, s.clock.wall) + 1
}

// packed returns the strings in one allocation: there are many of them.
func packed(a, b, c, d string) (_, _, _, _ string) {
	all := strings.Join([]string{a, b, c, d}, "")
	i, j, k := len(a), len(a)+len(b), len(a)+len(b)+len(c)
	return all[:i], all[i:j], all[j:k], all[k:]
}

func (s *State) resume(c *peer.SessionResume) *peer.RosterAnswer {
	old := s.devices.get(c.User, c.Device)
	if old != nil && old.State == Live && old.by(c.Node, c.Incarnation, c.Connection) && slices.Contains(old.earlier,
		opened{old.Node, c.Incarnation, c.Connection, regions.Epoch(c.Epoch)}) {
		return granted(old.Epoch) // said again
	}
	old, refused := s.current(c.User, c.Device, c.Epoch)
	switch {
	case refused != nil:
		return refused
	case !old.by(c.Node, c.Incarnation, c.Connection):
		return refuse(invalid, old.Epoch)
	case old.State == Live:
		return granted(old.Epoch) // it never was suspended
	}
	if _, ok := s.known(c.Node, c.Incarnation); !ok {
		return refuse(peer.RosterCode_ROSTER_STALE_NODE, old.Epoch)
	}
	x := *old
	x.State, x.Epoch, x.Since, x.idle, x.earlier = Live, s.issue(old, 0), int64(s.clock.wall), idle{}, old.past()
	s.put(old, &x)
	s.emit(SessionOpened{User: x.User, Device: x.Device, Node: x.Node, Epoch: x.Epoch, Resumed: true})
	a := granted(x.Epoch)
	a.PreviousNode, a.PreviousEpoch, a.Rooms = string(x.Node), c.Epoch, x.Rooms()
	return a
}

// current returns the session of that very epoch.
func (s *State) current(user, device string, epoch uint64) (*Session, *peer.RosterAnswer) {
	x := s.devices.get(user, device)
	switch {
	case x != nil && uint64(x.Highest()) > epoch:
		return nil, refuse(peer.RosterCode_ROSTER_SUPERSEDED, x.Highest())
	case x == nil || x.State == Gone || uint64(x.Epoch) != epoch:
		return nil, refuse(peer.RosterCode_ROSTER_NO_SESSION, 0)
	}
	return x, nil
}

func (s *State) suspend(c *peer.SessionSuspend) *peer.RosterAnswer {
	x, refused := s.current(c.User, c.Device, c.Epoch)
	if refused != nil {
		return refused
	}
	if x.State == Live {
		s.suspendOne(x, false)
	}
	return granted(x.Epoch)
}

func (s *State) suspendOne(old *Session, nodeLost bool) {
	x := *old
	x.State, x.Since, x.idle = Suspended, int64(s.clock.wall), s.nowIdle()
	s.put(old, &x)
	s.emit(SessionSuspended{User: x.User, Device: x.Device, Node: x.Node, Epoch: x.Epoch, NodeLost: nodeLost, Rooms: x.Rooms()})
}

// suspendAll suspends the sessions of a node that died.
func (s *State) suspendAll(node regions.NodeID) {
	s.held[node].each(func(place int32) {
		if x := s.devices.all[place]; x.State == Live {
			s.suspendOne(x, true)
		}
	})
}

func (s *State) close(c *peer.SessionClose) *peer.RosterAnswer {
	if x := s.devices.get(c.User, c.Device); x != nil && x.State == Gone && uint64(x.Epoch) == c.Epoch {
		return granted(x.Epoch) // said again
	}
	x, refused := s.current(c.User, c.Device, c.Epoch)
	if refused != nil {
		return refused
	}
	s.end(x, x.seen, c.Reason)
	return granted(x.Epoch)
}

// end takes a session out of everything; the device is remembered for a while.
func (s *State) end(old *Session, seen []Seen, why wire.Reason) {
	s.leaveAll(old)
	s.put(old, &Session{
		User: old.User, Device: old.Device, Epoch: old.Epoch, Node: old.Node, Incarnation: old.Incarnation,
		Connection: old.Connection, Since: int64(s.clock.wall), idle: s.nowIdle(), earlier: old.earlier, seen: seen,
	})
	s.emit(SessionEnded{User: old.User, Device: old.Device, Node: old.Node, Epoch: old.Epoch, Reason: why, Rooms: old.Rooms()})
	s.bound()
}

func (s *State) deviceSeen(c *peer.DeviceSeen) *peer.RosterAnswer {
	if !id(c.User, c.Device, c.Region) || c.Region == string(s.region) || c.Epoch == 0 || c.Epoch > MaxEpoch {
		return refuse(invalid, 0)
	}
	e := Seen{regions.RegionID(c.Region), regions.Epoch(c.Epoch)}
	old := s.devices.get(c.User, c.Device)
	if old == nil {
		if len(s.devices.users[c.User]) >= MaxDevices {
			return refuse(peer.RosterCode_ROSTER_TOO_MANY, 0)
		}
		x := &Session{idle: s.nowIdle(), seen: []Seen{e}}
		x.User, x.Device, _, _ = packed(c.User, c.Device, "", "")
		s.put(nil, x)
		s.bound()
		return granted(0)
	}
	here := old.State != Gone
	if here && (old.Epoch > e.Epoch || (old.Epoch == e.Epoch && s.region > e.Region)) {
		return granted(old.Epoch) // ours is the current one
	}
	seen := slices.Clone(old.seen)
	switch i := slices.IndexFunc(seen, func(o Seen) bool { return o.Region == e.Region }); {
	case i >= 0 && seen[i].Epoch >= e.Epoch:
		return granted(old.Epoch)
	case i >= 0:
		seen[i] = e
	case len(seen) == maxSeen: // the lowest one decides nothing
		low := 0
		for i := range seen {
			if seen[i].Epoch < seen[low].Epoch {
				low = i
			}
		}
		if seen[low].Epoch < e.Epoch {
			seen[low] = e
		}
	default:
		seen = append(seen, e)
	}
	if here {
		s.emit(SessionFenced{User: old.User, Device: old.Device, Node: old.Node, Epoch: old.Epoch, Winning: e.Epoch, Region: e.Region})
		s.end(old, seen, wire.Reason_MOVED)
		return granted(old.Epoch)
	}
	x := *old
	x.seen, x.idle = seen, s.nowIdle()
	s.put(old, &x)
	return granted(old.Epoch)
}

// Session returns the session of a device, live or suspended.
func (s *State) Session(user, device string) (*Session, bool) {
	x := s.devices.get(user, device)
	return x, x != nil && x.State != Gone
}

// Device returns what is known of a device, also if it has no session here;
// nil if nothing is.
func (s *State) Device(user, device string) *Session { return s.devices.get(user, device) }

// Sessions returns the sessions of a user, by device.
func (s *State) Sessions(user string) []*Session {
	return slices.DeleteFunc(slices.Clone(s.devices.users[user]), func(x *Session) bool { return x.State == Gone })
}

// SessionsOn returns the sessions of a node, suspended ones that were last
// there included.
func (s *State) SessionsOn(node regions.NodeID) []*Session {
	var out []*Session
	s.held[node].each(func(place int32) { out = append(out, s.devices.all[place]) })
	return out
}

// Held returns how many sessions a node has, suspended ones that were last there
// included.
func (s *State) Held(node regions.NodeID) (n int) {
	for _, word := range s.held[node] {
		n += bits.OnesCount64(word)
	}
	return n
}

// IdleFor returns for how long a session has been suspended, or a device gone,
// on the leader's clock as of the last command: since the leader's term began
// if it was before.
func (s *State) IdleFor(x *Session) time.Duration {
	return time.Duration(s.since(x.idle.moment)) * time.Millisecond
}

// Counts returns how much there is of everything.
func (s *State) Counts() Counts { return s.counts }
