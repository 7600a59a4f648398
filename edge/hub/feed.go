package hub

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// feed is this node's side of one room. The shard's lock guards it.
type feed struct {
	room     string
	locals   map[device]*local
	live     []*local // those who get frames; replaced, never changed
	plain    []*local // those of them who get fixes: not tapped
	looking  bool     // some of them get no messages
	tap      edge.Tap // hears for those who are; nil: nobody is
	joins    map[uint64]*join
	at       []*wire.Position    // how far the feed has come per region; entries are ours
	beyond   []*wire.RegionReach // regions that can't be reached, as told last
	attached bool                // the owner feeds us, and at is true
	version  uint64              // all locals were checked against it

	queue    []item // queue[head:] waits
	head     int
	draining bool // somebody delivers
	holding  bool // a check of memberships must end first
	lost     bool // the queue overflowed, or a hole was met: attach again

	need     uint64    // what the check is to reach
	checking bool      // a check is under way or waits for a worker
	tries    int       // of checks that got no answer
	checked  time.Time // the last check that got answers
	touched  time.Time
}

type device struct{ user, device string }

// local is a session of this node in the room.
type local struct {
	client    edge.Client
	member    *peer.Member // replaced, never changed
	version   uint64       // of the membership, as checked
	name      string       // the user's, as of then
	role      string       // in the room, likewise
	talk      edge.Talk    // likewise
	verified  time.Time    // when
	suspended bool
	tapped    bool // the feed's tap gets its fixes
	fix       *wire.MemberFix
	since     time.Time   // it follows the room
	off       atomic.Bool // is out: a delivery that is under way passes it by
	looks     atomic.Bool // talk is edge.Looks, for a delivery that is under way
}

// join is a request to the owner that was not answered yet.
type join struct {
	client  edge.Client
	re      uint64
	frame   *peer.Frame // as sent, to be sent again
	since   time.Time
	version uint64          // of the membership, as checked
	name    string          // the user's, as of then
	role    string          // in the room, likewise
	talk    edge.Talk       // likewise
	at      time.Time       // when
	fix     *wire.MemberFix // reported meanwhile
}

func (j *join) req() *peer.Join { return j.frame.GetJoin() }

// item is one frame from the owner in the feed's queue.
type item struct {
	frame *peer.Frame // Event, Joined, Parts, Fence, Reach or Typing; or
	fixes *peer.Fixes
	lossy bool
}

func (it item) version() uint64 {
	if it.fixes != nil {
		return it.fixes.GetVersion()
	}
	switch b := it.frame.Body.(type) {
	case *peer.Frame_Event:
		return b.Event.GetVersion()
	case *peer.Frame_Joined:
		return b.Joined.GetVersion()
	case *peer.Frame_Parts:
		return b.Parts.GetVersion()
	}
	return 0
}

// delivery is what an item comes to: one frame for many, frames for one, or a
// call.
type delivery struct {
	frame  *edge.Frame
	to     []*local
	frames []*edge.Frame
	one    *local
	call   func()
	some   bool // to are not all who get frames: nothing may go with this one
	looked bool // some of those in to get no messages
}

func (t *turn) feedOrNew() *feed {
	fd := t.sl.feeds[t.room]
	if fd == nil {
		fd = &feed{room: t.room, locals: map[device]*local{}, joins: map[uint64]*join{}, checked: t.now}
		t.sl.feeds[t.room] = fd
	}
	return fd
}

// push queues an item; turn.end delivers it.
func (t *turn) push(it item) {
	fd := t.sl.feeds[t.room]
	switch {
	case fd == nil:
	case len(fd.queue)-fd.head < queueLimit:
		fd.queue = append(fd.queue, it)
	case it.lossy:
		t.h.metrics.dropped.Inc()
	default: // start over from where we are, once the queue moves again
		t.h.metrics.dropped.Add(float64(len(fd.queue) - fd.head + 1))
		clear(fd.queue)
		fd.queue, fd.head, fd.lost = fd.queue[:0], 0, true
	}
}

// pop takes the first item, of a queue that is not empty.
func (fd *feed) pop() (it item) {
	it, fd.queue[fd.head] = fd.queue[fd.head], item{}
	if fd.head++; fd.head == len(fd.queue) || fd.head >= queueLimit/2 {
		n := copy(fd.queue, fd.queue[fd.head:])
		clear(fd.queue[n:])
		fd.queue, fd.head = fd.queue[:n], 0
	}
	return it
}

// drain delivers the feed's queue in order. It gives the lock away while it
// delivers; others queue behind it meanwhile.
func (t *turn) drain(fd *feed) {
	if fd.draining {
		return
	}
	fd.draining = true
	waited := false
	for !fd.holding {
		if fd.head == len(fd.queue) {
			if !fd.lost {
				break
			}
			fd.lost = false
			t.attach(fd) // an owner that is this node answers right into the queue
			continue
		}
		if !t.passes(fd, fd.queue[fd.head]) {
			fd.holding = true
			t.h.check(fd)
			break
		}
		if !waited && len(fd.live) >= crowd && len(fd.queue)-fd.head == 1 && fd.alike(false) {
			// Messages of one commit are published by a goroutine each: those that
			// are ready now shall go with the first one.
			waited = true
			t.sh.mu.Unlock()
			runtime.Gosched()
			t.sh.mu.Lock()
			continue
		}
		waited = false
		if d := t.process(fd, fd.pop()); d.frame != nil || d.one != nil || d.call != nil {
			if d.looked = fd.looking; !d.some {
				d.frame = t.bundle(fd, d.frame)
			}
			t.sh.mu.Unlock()
			t.h.deliver(d)
			t.sh.mu.Lock()
		}
	}
	fd.draining = false
	t.collect(fd)
}

// crowd is how many clients make it worthwhile to wait for others' events.
const crowd = 32

const bundleBytes = 32 << 10 // and the frame that goes beyond

// bundle adds what waits behind a frame for all to it, fixes to fixes and events
// to events: every client then gets one write instead of many.
func (t *turn) bundle(fd *feed, first *edge.Frame) *edge.Frame {
	if first == nil || !fd.alike(first.Lossy()) {
		return first
	}
	parts, size := []*edge.Frame{first}, len(first.Prefixed())
	for size < bundleBytes && fd.alike(first.Lossy()) {
		if d := t.process(fd, fd.pop()); d.frame != nil {
			parts = append(parts, d.frame)
			size += len(d.frame.Prefixed())
		}
	}
	return edge.Bundle(parts)
}

// alike reports whether fixes (lossy) or an event are next, and nothing has to
// be checked before they go.
func (fd *feed) alike(lossy bool) bool {
	if fd.head == len(fd.queue) || fd.queue[fd.head].version() > fd.version {
		return false
	}
	next := &fd.queue[fd.head]
	if lossy {
		return next.fixes != nil && next.lossy
	}
	return next.fixes == nil && next.frame.GetEvent() != nil
}

func (h *Hub) deliver(d delivery) {
	n := 0
	if d.looked {
		d.split()
	}
	if d.frame != nil {
		for _, l := range d.to {
			if !l.off.Load() {
				l.client.Deliver(d.frame)
				n++
			}
		}
	}
	if d.one != nil {
		for _, f := range d.frames {
			d.one.client.Deliver(f)
			n++
		}
	}
	if n > 0 {
		h.metrics.deliveries.Add(float64(n))
	}
	if d.call != nil {
		d.call()
	}
}

// collect forgets a feed that nobody needs. The owner finds out by itself: the
// node has no members left there.
func (t *turn) collect(fd *feed) {
	if len(fd.locals) == 0 && len(fd.joins) == 0 && !fd.draining && !fd.checking && t.sl.feeds[fd.room] == fd {
		delete(t.sl.feeds, fd.room)
	}
}

// passes reports whether everyone the item concerns was checked against the
// membership version it carries. If so, and that is news, the owner is told.
func (t *turn) passes(fd *feed, it item) bool {
	v := it.version()
	need := max(v, fd.version)
	if j := fd.joins[it.frame.GetJoined().GetRequest()]; j != nil && j.version < need {
		fd.need = need
		return false
	}
	if v > fd.version {
		for _, l := range fd.locals {
			if l.version < v {
				fd.need = v
				return false
			}
		}
		fd.version = v
		t.applied(fd)
	} else if it.frame.GetParts() != nil && fd.version > 0 {
		t.applied(fd) // an owner that we attach to anew can't know
	}
	return true
}

func (t *turn) applied(fd *feed) {
	t.toOwner(&peer.Frame{Body: &peer.Frame_Applied{Applied: &peer.Applied{Room: fd.room, Version: fd.version}}})
}

// process decides what comes of an item.
func (t *turn) process(fd *feed, it item) delivery {
	if it.fixes != nil {
		p := fd.position(it.fixes.GetRegion())
		if !fd.attached || p == nil || p.Epoch != it.fixes.GetEpoch() || len(fd.live) == 0 {
			return delivery{}
		}
		if fd.tap != nil {
			fd.tap.Fixes(it.fixes.Frame)
		}
		if len(fd.plain) == 0 {
			return delivery{}
		}
		return delivery{frame: edge.RawFrame(it.fixes.Frame, 0, it.lossy), to: fd.plain}
	}
	switch b := it.frame.Body.(type) {
	case *peer.Frame_Event:
		return t.event(fd, b.Event)
	case *peer.Frame_Parts:
		return t.parts(fd, b.Parts)
	case *peer.Frame_Joined:
		if regions.Epoch(it.frame.Epoch) < t.sl.epoch {
			return delivery{} // by now its successor was asked, and answers too
		}
		return t.joined(fd, b.Joined)
	case *peer.Frame_Fence:
		return t.fenced(fd, b.Fence)
	case *peer.Frame_Reach:
		return t.reached(fd, b.Reach)
	case *peer.Frame_Typing:
		return t.typing(fd, b.Typing.GetTyping())
	}
	return delivery{}
}

// reached takes which regions can't be reached, for all sessions.
func (t *turn) reached(fd *feed, r *peer.Reach) delivery {
	var f wire.ServerFrame
	if !fd.attached || f.UnmarshalVT(r.Frame) != nil {
		return delivery{}
	}
	fd.beyond = f.GetReach().GetUnreached()
	for _, u := range fd.beyond {
		if u.GetLost() { // what comes of it next is all of it
			fd.at = slices.DeleteFunc(fd.at, func(p *wire.Position) bool { return p.Region == u.Region })
		}
	}
	if len(fd.live) == 0 {
		return delivery{}
	}
	return delivery{frame: edge.RawFrame(r.Frame, 0, false), to: fd.live}
}

func (t *turn) event(fd *feed, e *peer.Event) delivery {
	if !fd.attached || e.GetAt() == nil {
		return delivery{}
	}
	p := fd.position(e.At.Region)
	switch {
	case p != nil && (e.At.Epoch < p.Epoch || e.At.Epoch == p.Epoch && e.At.Seq <= p.Seq):
		return delivery{} // seen: what goes on from an older epoch is given again with that
	case p == nil || e.At.Epoch != p.Epoch && e.PriorEpoch != p.Epoch || e.At.Seq != p.Seq+1:
		fd.lost, fd.attached = true, false // a hole: until the owner answers, nothing fits
		return delivery{}
	}
	p.Epoch, p.Seq = e.At.Epoch, e.At.Seq
	if fd.tap != nil {
		fd.tap.Event(e.Frame)
	}
	if len(fd.live) == 0 {
		return delivery{}
	}
	return delivery{frame: edge.RawFrame(e.Frame, 0, false), to: fd.live}
}

func (t *turn) parts(fd *feed, p *peer.Parts) delivery {
	fd.attached = fd.attached || !p.GetAlone()
	if len(p.GetParts()) == 0 && p.GetLastNumber() == 0 && p.GetLastChange() == 0 {
		return delivery{}
	}
	snap := &wire.Snapshot{Room: fd.room, Recovered: true, LastNumber: p.LastNumber, LastChange: p.LastChange, Parts: p.Parts}
	for _, part := range p.Parts {
		at := part.GetAt()
		known := fd.position(at.GetRegion())
		if known == nil {
			known = &wire.Position{Region: at.GetRegion()}
			fd.at = append(fd.at, known)
			if slices.ContainsFunc(fd.beyond, func(u *wire.RegionReach) bool { return u.Region == known.Region && u.Lost }) {
				snap.Recovered = false
			}
		} else if known.Epoch != at.GetEpoch() || known.Seq != at.GetSeq() {
			snap.Recovered = false
		}
		known.Epoch, known.Seq = at.GetEpoch(), at.GetSeq()
	}
	// Who is in the part is there again: that the region is lost was said before it.
	snap.Unreached = slices.DeleteFunc(slices.Clone(fd.beyond), func(u *wire.RegionReach) bool {
		return u.Lost && slices.ContainsFunc(p.Parts, func(part *wire.Part) bool { return part.GetAt().GetRegion() == u.Region })
	})
	fd.beyond = snap.Unreached
	if fd.tap != nil {
		fd.tap.Anew()
	}
	if len(fd.live) == 0 {
		return delivery{}
	}
	return delivery{
		frame: edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Snapshot{Snapshot: snap}}),
		to:    fd.live,
	}
}

func (t *turn) joined(fd *feed, r *peer.Joined) delivery {
	j := fd.joins[r.GetRequest()]
	if j == nil {
		return delivery{} // taken back
	}
	delete(fd.joins, r.Request)
	switch {
	case r.Error == wire.CodeSuperseded:
		t.forgetStay(j.client)
		return delivery{call: func() { j.client.Superseded(r.Epoch) }}
	case r.Error != "":
		t.forgetStay(j.client)
		return delivery{call: func() { j.client.Refused(j.re, t.room, errRetry) }}
	}
	if len(fd.locals) == 0 { // only with sessions of ours the owner feeds us
		fd.at, fd.attached, fd.beyond = fd.at[:0], true, r.Unreached
		for _, p := range r.Positions {
			fd.at = append(fd.at, &wire.Position{Region: p.Region, Epoch: p.Epoch, Seq: p.Seq})
		}
	}
	m := j.req().Member
	l := &local{client: j.client, member: m, version: j.version, name: j.name, role: j.role, verified: j.at, since: t.now}
	l.stands(j.talk)
	k := device{m.User, m.Device.Device}
	d := delivery{one: l}
	if old := fd.locals[k]; old != nil {
		l.fix = old.fix
		if old.client == l.client {
			l.tapped = old.tapped
		} else {
			fd.untap(old)
		}
		old.off.Store(true)
		if old.client != l.client && old.member.Device.Epoch < m.Device.Epoch {
			t.forgetStay(old.client)
			d.call = func() { old.client.Superseded(m.Device.Epoch) }
		}
	} else {
		t.h.metrics.clients.Inc()
	}
	fd.locals[k] = l
	fd.relist()
	t.saw(l)
	if j.fix != nil {
		t.report(l, j.fix)
	}
	for i, body := range r.Frames {
		re := uint64(0)
		if i == 0 {
			re = j.re
		}
		f := edge.RawFrame(body, re, false)
		if l.talk == edge.Looks {
			f = withoutTalk(f)
		}
		d.frames = append(d.frames, f)
	}
	return d
}

func (t *turn) fenced(fd *feed, f *peer.Fence) delivery {
	l := fd.locals[device{f.GetUser(), f.GetDevice()}]
	if l == nil || l.member.Device.Epoch >= f.Epoch {
		return delivery{}
	}
	t.takeOut(fd, l)
	return delivery{call: func() { l.client.Superseded(f.Epoch) }}
}

func (fd *feed) position(region string) *wire.Position {
	for _, p := range fd.at {
		if p.Region == region {
			return p
		}
	}
	return nil
}

// relist makes the list of those who get frames anew.
func (fd *feed) relist() {
	live := make([]*local, 0, len(fd.locals))
	for _, l := range fd.locals {
		if !l.suspended {
			live = append(live, l)
		}
	}
	fd.live, fd.plain = live, live
	fd.looking = slices.ContainsFunc(live, func(l *local) bool { return l.talk == edge.Looks })
	if fd.tap != nil {
		fd.plain = slices.DeleteFunc(slices.Clone(live), func(l *local) bool { return l.tapped })
	}
}

// takeOut removes a local client from the room.
func (t *turn) takeOut(fd *feed, l *local) {
	t.saw(l)
	l.off.Store(true)
	delete(fd.locals, device{l.member.User, l.member.Device.Device})
	fd.untap(l)
	fd.relist()
	t.forgetStay(l.client)
	t.h.metrics.clients.Dec()
}

// saw has it noted that a client follows the room, or did until now.
func (t *turn) saw(l *local) {
	if r := t.h.cfg.Receipts; r != nil && !l.suspended {
		r.Saw(t.room, l.member.User, l.since, t.now)
	}
}

// attach asks the owner to go on from where the feed is, with all sessions.
func (t *turn) attach(fd *feed) {
	t.h.metrics.reattach.Inc()
	if len(fd.locals) > 0 {
		t.repost()
		a := &peer.Attach{Room: fd.room, Unreached: fd.beyond}
		for _, p := range fd.at {
			a.Positions = append(a.Positions, &wire.Position{Region: p.Region, Epoch: p.Epoch, Seq: p.Seq})
		}
		coming := map[device]bool{}
		for _, j := range fd.joins { // whoever the owner was told of is listed, or would have left
			m := j.req().Member
			a.Members = append(a.Members, m)
			coming[device{m.User, m.Device.Device}] = true
		}
		for k, l := range fd.locals {
			if !coming[k] {
				a.Members = append(a.Members, l.asMember())
			}
			if l.fix != nil {
				a.Fixes = append(a.Fixes, l.fix)
			}
		}
		t.toOwner(&peer.Frame{Body: &peer.Frame_Attach{Attach: a}})
	}
	for _, j := range fd.joins {
		t.toOwner(j.frame)
	}
}

func (l *local) asMember() *peer.Member {
	state := wire.State_LIVE
	if l.suspended {
		state = wire.State_SUSPENDED
	}
	return memberOf(l.member, deviceIn(l.member.Device, state, 0), l.member.Hidden)
}

func memberOf(m *peer.Member, d *wire.Device, hidden bool) *peer.Member {
	return &peer.Member{User: m.User, Name: m.Name, Login: m.Login, Device: d, Hidden: hidden}
}

func deviceIn(d *wire.Device, state wire.State, reason wire.Reason) *wire.Device {
	return &wire.Device{
		Device: d.Device, Epoch: d.Epoch, State: state, Region: d.Region, Node: d.Node, Transport: d.Transport,
		Reason: reason,
	}
}
