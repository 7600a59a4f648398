package room

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// world is three owners, two nodes each, and six devices that wander between
// the nodes, with links that break at random. It knows the truth, and what each
// node's observer, following the client rule, believes.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Time
	cfg   map[regions.RegionID]*Config
	rooms map[regions.RegionID]*Room
	nodes []*observer
	links map[[2]string][]mail // between owners ("a") and nodes ("a1")
	cut   map[[2]string]bool

	devices  []*traveller
	epoch    uint64
	slot     uint64
	messages uint64
	alive    map[string][]span // user@epoch: when it was live in its owner's reach
	bytes    map[string]string // event number: its bytes, the same everywhere
	stats    map[string]int
}

type span struct{ from, to time.Time }

type mail struct {
	at   time.Time
	f    *peer.Frame
	dgrm *peer.Fixes
}

// traveller is a device.
type traveller struct {
	user  string
	node  *observer // where its newest session is; nil: it left
	epoch uint64
	n     uint64 // of its last fix
}

// observer is a node with a client that is always in the room.
type observer struct {
	w        *world
	id       regions.NodeID
	region   regions.RegionID
	watcher  *peer.Member
	sessions map[string]*wire.Device // by user; the watcher's too
	ended    map[string]time.Time    // when a suspended one ends

	attached bool
	asking   bool
	at       map[string]*wire.Position
	people   map[string]*wire.Device
	fixes    map[string]*wire.MemberFix
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_000_000, 0),
		cfg: map[regions.RegionID]*Config{}, rooms: map[regions.RegionID]*Room{}, links: map[[2]string][]mail{},
		cut: map[[2]string]bool{}, alive: map[string][]span{}, bytes: map[string]string{}, stats: map[string]int{},
	}
	all := []regions.RegionID{"a", "b", "c"}
	for _, g := range all {
		cfg := Config{Region: g, RingEvents: 16, Others: slices.DeleteFunc(slices.Clone(all), func(o regions.RegionID) bool { return o == g })}.WithDefaults()
		w.cfg[g] = &cfg
		w.boot(g)
		for _, n := range []string{"1", "2"} {
			o := &observer{
				w: w, id: regions.NodeID(string(g) + n), region: g, sessions: map[string]*wire.Device{}, ended: map[string]time.Time{},
				at: map[string]*wire.Position{}, people: map[string]*wire.Device{}, fixes: map[string]*wire.MemberFix{},
			}
			w.nodes = append(w.nodes, o)
			o.join("watch-" + string(o.id))
		}
	}
	for i := range 6 {
		w.devices = append(w.devices, &traveller{user: fmt.Sprintf("u%d", i)})
	}
	return w
}

func (w *world) boot(g regions.RegionID) {
	w.slot++
	w.rooms[g] = New(w.cfg[g], "r", regions.Epoch(w.slot), 0, w.now)
}

func (w *world) send(from, to string, m mail) {
	if w.cut[pair(from, to)] {
		return
	}
	m.at = w.now
	w.links[[2]string{from, to}] = append(w.links[[2]string{from, to}], m)
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

func (w *world) effects(g regions.RegionID, out []Effect) {
	for _, e := range out {
		to := string(e.Node)
		if e.Region != "" {
			to = string(e.Region)
		}
		if e.Fixes != nil && w.rng.IntN(4) == 0 {
			continue // datagrams get lost
		}
		w.send(string(g), to, mail{f: e.Frame, dgrm: e.Fixes})
	}
}

// deliver hands over the first frame of a link.
func (w *world) deliver(l [2]string) {
	m := w.links[l][0]
	w.links[l] = w.links[l][1:]
	if i := slices.IndexFunc(w.nodes, func(o *observer) bool { return string(o.id) == l[1] }); i >= 0 {
		w.nodes[i].take(m)
		return
	}
	g, from := regions.RegionID(l[1]), regions.RegionID(l[0])
	node, r := regions.NodeID(l[0]), w.rooms[g]
	if m.dgrm != nil {
		w.effects(g, r.Fixes(w.now, from, m.dgrm))
		return
	}
	switch b := m.f.Body.(type) {
	case *peer.Frame_Join:
		w.effects(g, r.Join(w.now, node, b.Join))
	case *peer.Frame_Attach:
		w.effects(g, r.Attach(w.now, node, b.Attach, nil))
	case *peer.Frame_Change:
		w.effects(g, r.Change(w.now, node, b.Change))
	case *peer.Frame_Report:
		w.effects(g, r.Report(w.now, node, b.Report.Fix))
	case *peer.Frame_Publish:
		w.effects(g, r.Publish(w.now, b.Publish.Message))
	case *peer.Frame_Subscribe:
		w.effects(g, r.Subscribe(w.now, from, b.Subscribe.Position))
	case *peer.Frame_Unsubscribe:
		w.effects(g, r.Unsubscribe(w.now, from))
	case *peer.Frame_Event:
		w.effects(g, r.Event(w.now, from, m.f))
	case *peer.Frame_Parts:
		w.effects(g, r.Parts(w.now, from, m.f))
	case *peer.Frame_Fixes:
		w.effects(g, r.SettledFixes(w.now, from, m.f))
	}
}

func (w *world) busy() [][2]string {
	var ls [][2]string
	for l, q := range w.links {
		if len(q) > 0 {
			ls = append(ls, l)
		}
	}
	slices.SortFunc(ls, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	return ls
}

// pass lets time go by; nothing is on the way for longer than 2 s.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(50 * time.Millisecond)
		for _, l := range w.busy() {
			for len(w.links[l]) > 0 && w.now.Sub(w.links[l][0].at) > 2*time.Second {
				w.deliver(l)
			}
		}
		for _, g := range []regions.RegionID{"a", "b", "c"} {
			if next := w.rooms[g].Next(); due(next, w.now) {
				w.effects(g, w.rooms[g].Tick(w.now))
			}
		}
		for _, o := range w.nodes {
			o.pass()
		}
	}
}

func (w *world) drain() {
	for ls := w.busy(); len(ls) > 0; ls = w.busy() {
		w.deliver(ls[w.rng.IntN(len(ls))])
	}
}

func (w *world) breakLink(a, b string) {
	if w.cut[pair(a, b)] {
		return
	}
	w.stats["cuts"]++
	w.cut[pair(a, b)] = true
	delete(w.links, [2]string{a, b})
	delete(w.links, [2]string{b, a})
	for _, s := range [][2]string{{a, b}, {b, a}} {
		r := w.rooms[regions.RegionID(s[0])]
		switch {
		case r == nil: // a node
		case len(s[1]) > 1:
			w.effects(regions.RegionID(s[0]), r.NodeLost(w.now, regions.NodeID(s[1])))
		default:
			w.effects(regions.RegionID(s[0]), r.RegionLost(w.now, regions.RegionID(s[1])))
		}
	}
}

func (w *world) mend(a, b string) {
	if !w.cut[pair(a, b)] {
		return
	}
	delete(w.cut, pair(a, b))
	for _, s := range [][2]string{{a, b}, {b, a}} {
		if r := w.rooms[regions.RegionID(s[0])]; r != nil && len(s[1]) == 1 {
			w.effects(regions.RegionID(s[0]), r.Refollow(w.now, regions.RegionID(s[1])))
		}
	}
	for _, o := range w.nodes {
		if string(o.id) == a || string(o.id) == b {
			o.attach()
		}
	}
}

func (w *world) pairs() [][2]string {
	ps := [][2]string{{"a", "b"}, {"a", "c"}, {"b", "c"}}
	for _, o := range w.nodes {
		ps = append(ps, pair(string(o.region), string(o.id)))
	}
	return ps
}

func (w *world) restart(g string) {
	w.stats["restarts"]++
	var mine [][2]string
	for _, p := range w.pairs() {
		if (p[0] == g || p[1] == g) && !w.cut[p] {
			w.breakLink(p[0], p[1])
			mine = append(mine, p)
		}
	}
	w.boot(regions.RegionID(g))
	for _, p := range mine {
		w.mend(p[0], p[1])
	}
}

// step does one random thing.
func (w *world) step() {
	ps := w.pairs()
	switch k := w.rng.IntN(100); {
	case k < 55:
		if ls := w.busy(); len(ls) > 0 {
			w.deliver(ls[w.rng.IntN(len(ls))])
		}
	case k < 70:
		w.pass(time.Duration(w.rng.IntN(20)) * 50 * time.Millisecond)
	case k < 73:
		p := ps[w.rng.IntN(len(ps))]
		w.breakLink(p[0], p[1])
	case k < 78:
		p := ps[w.rng.IntN(len(ps))]
		w.mend(p[0], p[1])
	case k < 83:
		w.messages++
		o := w.nodes[w.rng.IntN(len(w.nodes))]
		o.tell(&peer.Frame{Body: &peer.Frame_Publish{Publish: &peer.Publish{Message: &wire.Message{Number: w.messages}}}})
	default:
		w.travel(w.devices[w.rng.IntN(len(w.devices))])
	}
	if w.rng.IntN(700) == 0 {
		w.restart([]string{"a", "b", "c"}[w.rng.IntN(3)])
	}
}

func (w *world) travel(d *traveller) {
	switch k := w.rng.IntN(10); {
	case d.node == nil, k < 2: // (re)join somewhere; the old session is cut off
		if d.node != nil {
			d.node.suspend(d.user, d.epoch)
		}
		d.node = w.nodes[w.rng.IntN(len(w.nodes))]
		d.epoch, d.n = d.node.join(d.user), 0
	case k < 4: // a blip
		d.node.suspend(d.user, d.epoch)
		d.epoch, d.n = d.node.join(d.user), 0
	case k < 5:
		d.node.leave(d.user, d.epoch, wire.Reason_BYE)
		d.node = nil
	default:
		d.n++
		d.node.report(d)
	}
}

func (o *observer) tell(f *peer.Frame) { o.w.send(string(o.id), string(o.region), mail{f: f}) }

func (o *observer) join(user string) uint64 {
	o.w.epoch++
	d := &wire.Device{Device: "d", Epoch: o.w.epoch, State: wire.State_LIVE}
	o.sessions[user] = d
	delete(o.ended, user)
	m := &peer.Member{User: user, Name: user, Device: d}
	if o.watcher == nil {
		o.watcher = m
	}
	o.tell(&peer.Frame{Body: &peer.Frame_Join{Join: &peer.Join{Room: "r", Request: d.Epoch, Member: m}}})
	return d.Epoch
}

func (o *observer) change(user string, d *wire.Device, s wire.State, r wire.Reason) {
	o.tell(&peer.Frame{Body: &peer.Frame_Change{Change: &peer.Change{Room: "r", User: user, Device: &wire.Device{
		Device: "d", Epoch: d.Epoch, State: s, Reason: r,
	}}}})
}

func (o *observer) suspend(user string, epoch uint64) {
	if d := o.sessions[user]; d != nil && d.Epoch == epoch && d.State == wire.State_LIVE {
		o.sessions[user] = &wire.Device{Device: "d", Epoch: epoch, State: wire.State_SUSPENDED}
		o.ended[user] = o.w.now.Add(30 * time.Second)
		o.change(user, d, wire.State_SUSPENDED, 0)
	}
}

func (o *observer) leave(user string, epoch uint64, reason wire.Reason) {
	if d := o.sessions[user]; d != nil && d.Epoch == epoch {
		delete(o.sessions, user)
		delete(o.ended, user)
		o.change(user, d, wire.State_LEFT, reason)
	}
}

func (o *observer) report(d *traveller) {
	if s := o.sessions[d.user]; s != nil && s.Epoch == d.epoch {
		o.tell(&peer.Frame{Body: &peer.Frame_Report{Report: &peer.Report{Room: "r", Fix: &wire.MemberFix{
			User: d.user, Device: "d", Epoch: d.epoch, Fix: &wire.Fix{N: d.n, Captured: stamp(o.w.now)},
		}}}})
	}
}

// pass ends the sessions whose grace is over and notes which are alive.
func (o *observer) pass() {
	for _, user := range slices.Sorted(maps.Keys(o.sessions)) {
		d := o.sessions[user]
		if d.State == wire.State_LIVE && !o.w.cut[pair(string(o.id), string(o.region))] {
			k := fmt.Sprintf("%s@%d", user, d.Epoch)
			if s := o.w.alive[k]; len(s) > 0 && o.w.now.Sub(s[len(s)-1].to) < 100*time.Millisecond {
				s[len(s)-1].to = o.w.now
			} else {
				o.w.alive[k] = append(s, span{o.w.now, o.w.now})
			}
		}
		if due(o.ended[user], o.w.now) {
			o.leave(user, d.Epoch, wire.Reason_TIMED_OUT)
		}
	}
}

func (o *observer) attach() {
	a := &peer.Attach{Room: "r"}
	for _, user := range slices.Sorted(maps.Keys(o.sessions)) {
		a.Members = append(a.Members, &peer.Member{User: user, Name: user, Device: o.sessions[user]})
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
	case *peer.Frame_Fence:
		if d := o.sessions[b.Fence.User]; d != nil && d.Epoch < b.Fence.Epoch {
			delete(o.sessions, b.Fence.User)
			delete(o.ended, b.Fence.User)
		}
	}
}

func (o *observer) frame(body []byte) {
	var f wire.ServerFrame
	require.NoError(o.w.t, f.UnmarshalVT(body))
	switch b := f.Body.(type) {
	case *wire.ServerFrame_Snapshot:
		for _, p := range b.Snapshot.Parts {
			o.part(p)
		}
	case *wire.ServerFrame_Event:
		at, p := b.Event.At, o.at[b.Event.At.Region]
		k := showAts([]*wire.Position{at})
		if o.w.bytes[k] == "" {
			o.w.bytes[k] = string(body)
		}
		require.Equal(o.w.t, o.w.bytes[k], string(body), "one number, two events")
		if p == nil || p.Epoch != at.Epoch || at.Seq > p.Seq+1 {
			if !o.asking {
				o.attach()
			}
			return
		}
		if at.Seq <= p.Seq {
			return
		}
		o.at[at.Region] = at
		o.w.stats["events"]++
		o.presence(at.Region, b.Event.GetPresence().GetPeople())
	case *wire.ServerFrame_Fixes:
		for _, f := range b.Fixes.Fixes {
			o.fix(f)
		}
	}
}

func (o *observer) part(p *wire.Part) {
	o.w.stats["parts"]++
	o.at[p.At.Region] = p.At
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
				o.left(person.User, d)
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

// left checks that nobody is said to have timed out who did not.
func (o *observer) left(user string, d *wire.Device) {
	if d.Reason != wire.Reason_TIMED_OUT {
		return
	}
	o.w.stats["timeouts"]++
	for _, s := range o.w.alive[fmt.Sprintf("%s@%d", user, d.Epoch)] {
		since := d.Since.AsTime()
		if s.from.After(since.Add(-2500 * time.Millisecond)) {
			break // it came back too late to be heard of
		}
		if s.to.Sub(s.from) < 2500*time.Millisecond {
			continue // cut again before it was heard of
		}
		// Two seconds for what was on its way, either way.
		require.GreaterOrEqual(o.w.t, since.Sub(s.to), 26*time.Second, "%s@%d timed out", user, d.Epoch)
	}
}

func (o *observer) fix(f *wire.MemberFix) {
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

// TestObserversAgree lets the world go wrong in every way, then heals it: all
// observers believe the truth.
func TestObserversAgree(t *testing.T) {
	worlds, steps := 20, 1500
	if testing.Short() {
		worlds = 10
	}
	stats := map[string]int{}
	for seed := range worlds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, uint64(seed))
			for range steps {
				w.step()
			}
			for _, p := range w.pairs() {
				w.mend(p[0], p[1])
			}
			for range 40 { // old sessions time out
				w.pass(2 * time.Second)
				w.drain()
			}
			for _, d := range w.devices {
				if d.node != nil {
					d.n++
					d.node.report(d)
				}
			}
			w.drain()
			w.pass(4 * time.Second)
			w.drain()

			truth := map[string]string{}
			for _, o := range w.nodes {
				truth[o.watcher.User] = fmt.Sprintf("%s #0", o.id)
			}
			for _, d := range w.devices {
				if d.node != nil {
					truth[d.user] = fmt.Sprintf("%s #%d", d.node.id, d.n)
				}
			}
			for _, o := range w.nodes {
				require.Equal(t, truth, o.beliefs(), "node %s, now %v", o.id, w.now)
				for g, r := range w.rooms {
					require.Equal(t, r.own.epoch, o.at[string(g)].Epoch)
					require.Equal(t, r.own.seq, o.at[string(g)].Seq, "%s follows %s to the end", o.id, g)
				}
			}
			for k, n := range w.stats {
				stats[k] += n
			}
		})
		if !ok {
			break
		}
	}
	t.Log(stats)
}
