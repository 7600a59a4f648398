package room

import (
	"fmt"
	"maps"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// observer is a node with a client that is always in the room.
type observer struct {
	w        *world
	id       regions.NodeID
	region   regions.RegionID
	knows    uint64 // the slot's epoch, as its copy of the roster has it
	watcher  *peer.Member
	sessions map[string]*peer.Member // by user; the watcher's too

	attached bool
	asking   bool
	at       map[string]*wire.Position
	people   map[string]*wire.Device
	fixes    map[string]*wire.MemberFix
	counts   map[string]string
	messages map[uint64]bool
	last     map[string]*wire.MemberFix // of its own sessions
	posts    map[string]*peer.Post      // that it keeps
	posted   map[string]*wire.MemberFix // that its client knows
	beyond   []*wire.RegionReach        // regions that can't be heard
	gaps     int                        // what was told as lost
}

// start makes the node new, as after a crash.
func (o *observer) start() {
	o.attached, o.asking = false, false
	o.sessions, o.at = map[string]*peer.Member{}, map[string]*wire.Position{}
	o.people, o.fixes = map[string]*wire.Device{}, map[string]*wire.MemberFix{}
	o.counts, o.messages = map[string]string{}, map[uint64]bool{}
	o.last, o.beyond = map[string]*wire.MemberFix{}, nil
	o.posts, o.posted = map[string]*peer.Post{}, map[string]*wire.MemberFix{}
	o.join("watch-"+string(o.id), false)
	o.watcher = o.sessions["watch-"+string(o.id)]
}

func (o *observer) tell(f *peer.Frame) {
	o.w.send(string(o.id), name(o.region, o.knows), mail{f: f, epoch: o.knows})
}

func (o *observer) join(user string, hidden bool) uint64 {
	o.w.epoch++
	m := &peer.Member{User: user, Name: user, Hidden: hidden, Device: &wire.Device{Device: "d", Epoch: o.w.epoch, State: wire.State_LIVE}}
	o.sessions[user] = m
	o.enter(m)
	o.tell(&peer.Frame{Body: &peer.Frame_Join{Join: &peer.Join{Room: "r", Request: o.w.epoch, Member: m}}})
	return o.w.epoch
}

// enter tells the roster who is in the room: nobody who hides.
func (o *observer) enter(m *peer.Member) {
	if m.Hidden {
		o.w.shy[m.Device.Epoch] = true
		o.w.note(o.region, m.User, nil)
		return
	}
	o.w.note(o.region, m.User, &regions.Stay{
		SessionID: regions.SessionID{User: m.User, Device: "d", Epoch: regions.Epoch(m.Device.Epoch)},
		Name:      m.User, Node: o.id, Since: o.w.now,
	})
}

func (o *observer) session(user string, epoch uint64) *peer.Member {
	if m := o.sessions[user]; m != nil && m.Device.Epoch == epoch {
		return m
	}
	return nil
}

func (o *observer) change(m *peer.Member, s wire.State, r wire.Reason) {
	o.tell(&peer.Frame{Body: &peer.Frame_Change{Change: &peer.Change{Room: "r", User: m.User, Hidden: m.Hidden, Device: &wire.Device{
		Device: "d", Epoch: m.Device.Epoch, State: s, Reason: r,
	}}}})
}

func (o *observer) suspend(user string, epoch uint64) {
	if m := o.session(user, epoch); m != nil && m.Device.State == wire.State_LIVE {
		o.sessions[user] = &peer.Member{User: user, Name: user, Hidden: m.Hidden, Device: &wire.Device{
			Device: "d", Epoch: epoch, State: wire.State_SUSPENDED,
		}}
		o.change(m, wire.State_SUSPENDED, 0)
		o.w.suspend(o.region, user, epoch)
		if m.Hidden { // no roster ends it: its node does
			o.over(user, epoch)
		}
	}
}

// over ends a session that the roster has ended.
func (o *observer) over(user string, epoch uint64) {
	if m := o.session(user, epoch); m != nil {
		delete(o.sessions, user)
		o.change(m, wire.State_LEFT, wire.Reason_TIMED_OUT)
	}
}

// leave takes a session out of the room, or ends it.
func (o *observer) leave(user string, epoch uint64, reason wire.Reason) {
	m := o.session(user, epoch)
	if m == nil {
		return
	}
	delete(o.sessions, user)
	o.change(m, wire.State_LEFT, reason)
	if s, ok := o.w.stay(o.region, user); ok && uint64(s.Epoch) == epoch && o.w.rng.IntN(2) == 0 {
		o.w.note(o.region, user, nil)
		return
	}
	o.w.end(o.region, user, epoch, reason)
}

func (o *observer) hide(user string, epoch uint64, hidden bool) {
	if m := o.session(user, epoch); m != nil {
		m = &peer.Member{User: user, Name: user, Hidden: hidden, Device: m.Device}
		o.sessions[user] = m
		o.enter(m)
		o.change(m, wire.State_LIVE, 0)
	}
}

func (o *observer) report(d *traveller) {
	if m := o.session(d.user, d.epoch); m != nil {
		fix := &wire.MemberFix{User: d.user, Device: "d", Epoch: d.epoch, Fix: &wire.Fix{
			Point: &wire.Point{Lat: 1}, N: d.n, Captured: stamp(o.w.now),
		}}
		o.last[d.user] = fix
		o.tell(&peer.Frame{Body: &peer.Frame_Report{Report: &peer.Report{Room: "r", Fix: fix}}})
	}
}

// post has the node say where somebody is who has no session, or that they
// don't want it known any more.
func (o *observer) post(user string, withdrawn bool) {
	o.w.posts++
	f := &wire.Fix{Point: &wire.Point{Lat: 1}, N: o.w.posts, Captured: stamp(o.w.now)}
	if withdrawn {
		f.Point = nil
	}
	o.w.truth[user] = f
	p := &peer.Post{Room: "r", Until: stamp(o.w.now.Add(edge.FixLife)), Fix: &wire.MemberFix{User: user, Device: edge.PostDevice, Fix: f}}
	o.posts[user] = p
	o.tell(&peer.Frame{Body: &peer.Frame_Post{Post: p}})
}

func (o *observer) attach() {
	a := &peer.Attach{Room: "r", Unreached: o.beyond}
	for _, user := range slices.Sorted(maps.Keys(o.sessions)) {
		a.Members = append(a.Members, o.sessions[user])
		if fix := o.last[user]; fix != nil {
			a.Fixes = append(a.Fixes, fix)
		}
	}
	for _, user := range slices.Sorted(maps.Keys(o.posts)) {
		a.Posts = append(a.Posts, o.posts[user])
	}
	for _, g := range slices.Sorted(maps.Keys(o.at)) {
		a.Positions = append(a.Positions, o.at[g])
	}
	o.tell(&peer.Frame{Body: &peer.Frame_Attach{Attach: a}})
	o.asking = true
}

// take follows the rules of the feed and of the client.
func (o *observer) take(m mail) {
	if m.dgrm != nil {
		o.frame(m.dgrm.Frame)
		return
	}
	switch b := m.f.Body.(type) {
	case *peer.Frame_Joined:
		if !o.attached && b.Joined.Error == "" {
			o.attached = true
			for _, f := range b.Joined.Frames {
				o.frame(f)
			}
		}
	case *peer.Frame_Parts:
		o.attached, o.asking = true, false
		for _, p := range b.Parts.Parts {
			o.part(p)
		}
	case *peer.Frame_Event:
		if o.attached {
			o.frame(b.Event.Frame)
		}
	case *peer.Frame_Fixes:
		o.frame(b.Fixes.Frame)
	case *peer.Frame_Reach:
		if o.attached {
			o.frame(b.Reach.Frame)
		}
	case *peer.Frame_Fence:
		if m := o.sessions[b.Fence.User]; m != nil && m.Device.Epoch < b.Fence.Epoch {
			delete(o.sessions, b.Fence.User)
			o.w.end(o.region, b.Fence.User, m.Device.Epoch, wire.Reason_MOVED)
		}
	}
}

func (o *observer) frame(body []byte) {
	var f wire.ServerFrame
	require.NoError(o.w.t, f.UnmarshalVT(body))
	switch b := f.Body.(type) {
	case *wire.ServerFrame_Reach:
		o.reached(b.Reach.Unreached)
	case *wire.ServerFrame_Snapshot:
		o.reached(b.Snapshot.Unreached)
		for _, p := range b.Snapshot.Parts {
			o.part(p)
		}
	case *wire.ServerFrame_Event:
		o.event(b.Event, string(body))
	case *wire.ServerFrame_Fixes:
		for _, f := range b.Fixes.Fixes {
			o.fix(f)
		}
	}
}

// reached follows the client's rule for regions that can't be heard, and checks
// that they are not told of early.
func (o *observer) reached(us []*wire.RegionReach) {
	for _, u := range us {
		since := u.UnknownSince.AsTime()
		require.GreaterOrEqual(o.w.t, o.w.now.Sub(since), o.w.cfg[o.region].Unknown, "%s is told too early of %s", o.id, u.Region)
		if !slices.ContainsFunc(o.beyond, func(old *wire.RegionReach) bool { return old.Region == u.Region }) {
			o.w.stats["unreached"]++
		}
		if u.Lost {
			o.w.stats["lost"]++
			delete(o.at, u.Region)
			maps.DeleteFunc(o.people, func(_ string, d *wire.Device) bool { return d.Region == u.Region })
			maps.DeleteFunc(o.fixes, func(user string, _ *wire.MemberFix) bool { return o.people[user] == nil })
		}
	}
	o.beyond = us
}

func (o *observer) event(e *wire.Event, body string) {
	at, p := e.At, o.at[e.At.Region]
	k := showAts([]*wire.Position{at})
	if o.w.bytes[k] == "" {
		o.w.bytes[k] = body
	}
	require.Equal(o.w.t, o.w.bytes[k], body, "one number, two events")
	follows := p != nil && at.Seq == p.Seq+1 && (at.Epoch == p.Epoch || e.PriorEpoch != 0 && e.PriorEpoch == p.Epoch)
	switch {
	case p != nil && (at.Epoch < p.Epoch || at.Epoch == p.Epoch && at.Seq <= p.Seq):
		return // seen, or of the past
	case !follows:
		if !o.asking {
			o.attach()
		}
		return
	}
	o.at[at.Region] = at
	o.w.stats["events"]++
	if n := e.GetMessage().GetNumber(); n != 0 {
		require.False(o.w.t, o.messages[n], "message %d twice", n)
		o.messages[n] = true
	}
	if c := e.GetPresence().GetCounts(); c != nil {
		o.counts[at.Region] = fmt.Sprintf("%d+%d", c.Live, c.Suspended)
	}
	o.presence(at.Region, e.GetPresence().GetPeople())
}

func (o *observer) part(p *wire.Part) {
	o.w.stats["parts"]++
	if known := o.at[p.At.Region]; known != nil && (known.Epoch != p.At.Epoch || known.Seq != p.At.Seq) {
		o.gaps++
	}
	o.at[p.At.Region] = p.At
	o.counts[p.At.Region] = fmt.Sprintf("%d+%d", p.Counts.Live, p.Counts.Suspended)
	for k, d := range o.people {
		if d.Region == p.At.Region {
			delete(o.people, k)
		}
	}
	o.presence(p.At.Region, p.People)
	for _, f := range p.Fixes {
		o.fix(f)
	}
}

func (o *observer) presence(region string, people []*wire.Person) {
	for _, person := range people {
		for _, d := range person.Devices {
			old := o.people[person.User]
			if d.State == wire.State_LEFT {
				o.left(region, person.User, d)
			}
			if old != nil && (d.Epoch < old.Epoch || d.Epoch == old.Epoch && region < old.Region) {
				continue
			}
			if o.people[person.User] = d; d.State == wire.State_LEFT {
				delete(o.people, person.User)
				delete(o.fixes, person.User)
			}
		}
	}
}

// left checks that nobody is said to have left who did not: a session that is
// over never comes back, and one that never hid has no other way to leave.
func (o *observer) left(region, user string, d *wire.Device) {
	if o.w.shy[d.Epoch] || d.Reason == wire.Reason_MOVED {
		return
	}
	o.w.stats["left: "+d.Reason.String()]++
	s, ok := o.w.stay(regions.RegionID(region), user)
	require.False(o.w.t, ok && uint64(s.Epoch) == d.Epoch, "%s@%d did not leave: %s", user, d.Epoch, d.Reason)
}

func (o *observer) fix(f *wire.MemberFix) {
	if f.Device == edge.PostDevice {
		if old := o.posted[f.User]; old == nil || f.Fix.N > old.Fix.N {
			o.posted[f.User] = f
		}
		return
	}
	old := o.fixes[f.User]
	if o.people[f.User] == nil || old != nil && (f.Epoch < old.Epoch || f.Epoch == old.Epoch && f.Fix.N <= old.Fix.N) {
		return
	}
	o.fixes[f.User] = f
}

func (o *observer) beliefs() map[string]string {
	out := map[string]string{}
	for user, d := range o.people {
		out[user] = fmt.Sprintf("%s #%d", d.Node, o.fixes[user].GetFix().GetN())
	}
	return out
}
