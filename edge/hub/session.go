package hub

import (
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

var (
	errRetry     = errs.New(errs.Unavailable, edge.CodeRetry, "the room can't be reached right now; try again").After(time.Second)
	errNotMember = errs.New(errs.Forbidden, edge.CodeNotMember, "you are not a member of this group")
)

// stays is the list of rooms a client is in, or about to be.
type stays struct {
	mu    sync.Mutex
	rooms []string // replaced, never changed
}

func (s *stays) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms
}

func (h *Hub) stays(c edge.Client) []string {
	if s, ok := h.clients.Load(c); ok {
		return s.(*stays).list()
	}
	return nil
}

func (t *turn) addStay(c edge.Client) {
	v, _ := t.h.clients.LoadOrStore(c, &stays{})
	s := v.(*stays)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.rooms, t.room) {
		s.rooms = append(slices.Clip(s.rooms), t.room)
	}
}

// forgetStay takes the turn's room off the client's list.
func (t *turn) forgetStay(c edge.Client) {
	v, ok := t.h.clients.Load(c)
	if !ok {
		return
	}
	s := v.(*stays)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.rooms, t.room); i >= 0 {
		s.rooms = slices.Delete(slices.Clone(s.rooms), i, i+1)
	}
}

// Join puts a client into a room. See edge.Hub.
func (h *Hub) Join(c edge.Client, j edge.Join) {
	t := h.begin(j.Room)
	defer t.end()
	fd := t.feedOrNew()
	if q := t.takeBack(fd, c); q != nil && j.Re == 0 {
		j.Re = q.re // nobody asked for this one: it answers that, too
	}
	m := c.Member()
	frame := &peer.Frame{Body: &peer.Frame_Join{Join: &peer.Join{
		Room: j.Room, Request: h.request.Add(1), Positions: j.Positions,
		Member:  memberOf(m, deviceIn(m.Device, wire.State_LIVE, 0), j.Hidden),
		Version: j.Membership.Version, LastNumber: j.Last.Number, LastChange: j.Last.Change,
	}}}
	q := &join{client: c, re: j.Re, frame: frame, since: t.now,
		version: j.Membership.Version, name: j.Membership.Name, role: j.Membership.Role, talk: j.Membership.Talk, at: t.now}
	fd.joins[q.req().Request] = q
	t.sh.joins = append(t.sh.joins, q)
	t.addStay(c)
	t.toOwner(frame)
}

// takeBack forgets the client's unanswered Join: an answer is not wanted any
// more. It reports whether there was one.
func (t *turn) takeBack(fd *feed, c edge.Client) (q *join) {
	for id, j := range fd.joins {
		if j.client == c {
			delete(fd.joins, id)
			q = j
		}
	}
	return q
}

// expireJoins refuses those that no owner answered, or for which there was none
// for a while. The owner may have taken them in: it is told that they are
// suspended, so that a retry makes no noise and a client that gives up times
// out.
func (h *Hub) expireJoins(s *shard, now time.Time) {
	var old []*join
	s.mu.Lock()
	s.joins = slices.DeleteFunc(s.joins, func(q *join) bool {
		wait := now.Sub(q.since)
		if wait < joinWait && (wait < ownerWait || s.slots[regions.SlotOf(q.req().Room)/shards].owner != "") {
			return false
		}
		old = append(old, q)
		return true
	})
	s.mu.Unlock()
	for _, q := range old {
		t := h.begin(q.req().Room)
		if fd := t.sl.feeds[t.room]; fd != nil && fd.joins[q.req().Request] == q {
			delete(fd.joins, q.req().Request)
			if t.local(fd, q.client) == nil {
				t.forgetStay(q.client)
			}
			t.change(q.req().Member, wire.State_SUSPENDED, 0)
			t.after = append(t.after, func() { q.client.Refused(q.re, q.req().Room, errRetry) })
		}
		t.end()
	}
}

// Leave takes a client out of a room. See edge.Hub.
func (h *Hub) Leave(c edge.Client, room string, reason wire.Reason) {
	t := h.begin(room)
	defer t.end()
	if !t.leave(c, wire.State_LEFT, reason) {
		// The device's last session was in the room, and this one does not come.
		t.change(c.Member(), wire.State_LEFT, reason)
	}
	t.forgetStay(c)
}

// leave takes a client out of the room; false: it is not in it.
func (t *turn) leave(c edge.Client, state wire.State, reason wire.Reason) bool {
	fd := t.sl.feeds[t.room]
	if fd == nil {
		return false
	}
	q := t.takeBack(fd, c)
	l := t.local(fd, c)
	if l != nil {
		t.takeOut(fd, l)
	}
	switch {
	case q != nil: // at least as new
		t.change(q.req().Member, state, reason)
	case l != nil:
		t.change(l.member, state, reason)
	}
	return q != nil || l != nil
}

// local returns the client's stay in the room.
func (t *turn) local(fd *feed, c edge.Client) *local {
	m := c.Member()
	if l := fd.locals[device{m.User, m.Device.Device}]; l != nil && l.client == c {
		return l
	}
	return nil
}

// change tells the owner of a session's new state.
func (t *turn) change(m *peer.Member, state wire.State, reason wire.Reason) {
	t.toOwner(&peer.Frame{Body: &peer.Frame_Change{Change: &peer.Change{
		Room: t.room, User: m.User, Device: deviceIn(m.Device, state, reason), Hidden: m.Hidden,
	}}})
}

// Suspend stops deliveries to a client. See edge.Hub.
func (h *Hub) Suspend(c edge.Client) {
	for _, room := range h.stays(c) {
		t := h.begin(room)
		if fd := t.sl.feeds[room]; fd != nil {
			q, l := t.takeBack(fd, c), t.local(fd, c)
			if l != nil {
				t.saw(l)
				l.suspended = true
				l.off.Store(true)
				fd.untap(l)
				fd.relist()
				t.change(l.member, wire.State_SUSPENDED, 0)
			} else if q != nil {
				t.forgetStay(c)
				t.change(q.req().Member, wire.State_SUSPENDED, 0)
			}
		}
		t.end()
	}
}

// Gone takes a client out of all rooms. See edge.Hub.
//
// A session that MOVED makes no leave event: the owner hears only that it is
// suspended, which it ignores if it knows the newer session, and which ends in
// a time-out if the device never joins this room again.
func (h *Hub) Gone(c edge.Client, reason wire.Reason) {
	state := wire.State_LEFT
	if reason == wire.Reason_MOVED {
		state = wire.State_SUSPENDED
	}
	for _, room := range h.stays(c) {
		t := h.begin(room)
		t.leave(c, state, reason)
		t.end()
	}
	h.clients.Delete(c)
}

// Rooms returns the client's rooms. See edge.Hub.
func (h *Hub) Rooms(c edge.Client) []string { return h.stays(c) }

// Report spreads a fix. See edge.Hub.
func (h *Hub) Report(c edge.Client, fix *wire.Fix, rooms []string) (missing []string) {
	m := c.Member()
	mf := &wire.MemberFix{User: m.User, Device: m.Device.Device, Epoch: m.Device.Epoch, Fix: fix}
	for _, room := range rooms {
		if !h.report(c, room, mf) {
			missing = append(missing, room)
		}
	}
	return missing
}

func (h *Hub) report(c edge.Client, room string, mf *wire.MemberFix) bool {
	t := h.begin(room)
	fd := t.sl.feeds[room]
	var l *local
	if fd != nil {
		l = t.local(fd, c)
	}
	if l == nil {
		q := t.unanswered(fd, c)
		if q != nil && news(q.fix, mf) {
			q.fix = mf // it comes in with the client
		}
		t.end()
		return q != nil
	}
	touch := t.report(l, mf) && mf.Fix.Point != nil && t.now.Sub(fd.touched) >= touchEvery
	if touch {
		fd.touched = t.now
	}
	now := t.now
	t.end()
	if touch {
		h.cfg.Activity.Touch(room, now)
	}
	return true
}

// unanswered returns the client's Join that has no answer yet.
func (t *turn) unanswered(fd *feed, c edge.Client) *join {
	if fd != nil {
		for _, q := range fd.joins {
			if q.client == c {
				return q
			}
		}
	}
	return nil
}

// report tells the owner of a client's fix, if it is news. Datagrams overtake
// each other: what is older than what the room has is not wrong, only late. Each
// room is asked for itself, since a fix may be for some.
func (t *turn) report(l *local, mf *wire.MemberFix) bool {
	if !news(l.fix, mf) {
		return false
	}
	l.fix = mf
	t.toOwner(&peer.Frame{Body: &peer.Frame_Report{Report: &peer.Report{Room: t.room, Fix: mf}}})
	return true
}

// news reports whether a fix comes after another one of the same session's, or of
// an earlier session of the device.
func news(old, mf *wire.MemberFix) bool {
	return old == nil || old.Epoch != mf.Epoch || mf.Fix.N > old.Fix.N
}

// Publish spreads a stored message. See edge.Hub.
func (h *Hub) Publish(room string, m *wire.Message) {
	t := h.begin(room)
	t.sl.said[room] = t.now
	t.toOwner(&peer.Frame{Body: &peer.Frame_Publish{Publish: &peer.Publish{Room: room, Message: m}}})
	now := t.now
	t.end()
	h.cfg.Activity.Touch(room, now)
}

// Revise spreads what became of a message, which is stored: where it was stored, and
// after that.
func (h *Hub) Revise(room string, v *wire.Revised) {
	t := h.begin(room)
	t.sl.said[room] = t.now
	t.toOwner(&peer.Frame{Body: &peer.Frame_Revise{Revise: &peer.Revise{Room: room, Revised: v}}})
	now := t.now
	t.end()
	h.cfg.Activity.Touch(room, now)
}

// Receive spreads how far members have got in a room, which is stored.
func (h *Hub) Receive(room string, c *wire.Receipts) {
	t := h.begin(room)
	t.sl.said[room] = t.now
	t.toOwner(&peer.Frame{Body: &peer.Frame_Receive{Receive: &peer.Receive{Room: room, Receipts: c}}})
	t.end()
}

// Typing tells that a client's user is typing. See edge.Hub.
func (h *Hub) Typing(c edge.Client, room string, on bool) {
	t := h.begin(room)
	defer t.end()
	fd := t.sl.feeds[room]
	if fd == nil {
		return
	}
	if l := t.local(fd, c); l != nil && !l.suspended && !l.member.Hidden && l.talk == edge.Talks {
		t.toOwner(&peer.Frame{Body: &peer.Frame_Typing{Typing: &peer.Typing{
			Typing: &wire.Typing{Room: room, On: on, User: l.member.User}, Region: string(h.cfg.Region),
		}}})
	}
}

// Hide makes a client seen by nobody, or seen again. See edge.Hub.
func (h *Hub) Hide(c edge.Client, hidden bool) {
	for _, room := range h.stays(c) {
		t := h.begin(room)
		if fd := t.sl.feeds[room]; fd != nil {
			t.hide(fd, c, hidden)
		}
		t.end()
	}
}

func (t *turn) hide(fd *feed, c edge.Client, hidden bool) {
	var m *peer.Member
	state := wire.State_LIVE
	if l := t.local(fd, c); l != nil && l.member.Hidden != hidden {
		l.member = memberOf(l.member, l.member.Device, hidden)
		if m = l.member; l.suspended {
			state = wire.State_SUSPENDED
		}
	}
	for _, q := range fd.joins {
		if req := q.req(); q.client == c && req.Member.Hidden != hidden {
			req.Member = memberOf(req.Member, req.Member.Device, hidden)
			m, state = req.Member, wire.State_LIVE
		}
	}
	if m != nil {
		t.change(m, state, 0)
	}
}
