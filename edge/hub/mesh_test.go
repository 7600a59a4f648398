package hub

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

const testRoom = "group:8c0e3e3e-7d2c-4a0a-9a53-0a7c1b1a5f10"

// mesh is several hubs in one process. Node "a1" is a node of region "a"; in the
// beginning the first node of a region owns all rooms there. Use it inside
// synctest.
type mesh struct {
	t       *testing.T
	mu      sync.Mutex // guards hubs against what comes over wires
	hubs    map[regions.NodeID]*Hub
	rosters map[regions.NodeID]*nodeRoster
	regions map[regions.RegionID]*region
	wires   map[[2]regions.NodeID]*pipe
	core    *fakeCore
	ledger  *ledger
	epoch   uint64
	began   time.Time
	sniffMu sync.Mutex
	sniffer func(from, to regions.NodeID, f *peer.Frame, dgrm *peer.Fixes) // sees what is sent

	observed sync.Map // see observer
}

func (m *mesh) sniff(f func(from, to regions.NodeID, f *peer.Frame, dgrm *peer.Fixes)) {
	m.sniffMu.Lock()
	defer m.sniffMu.Unlock()
	m.sniffer = f
}

func (m *mesh) sent(from, to regions.NodeID, f *peer.Frame, dgrm *peer.Fixes) {
	m.sniffMu.Lock()
	defer m.sniffMu.Unlock()
	if m.sniffer != nil {
		m.sniffer(from, to, f, dgrm)
	}
}

func (m *mesh) hub(n regions.NodeID) *Hub {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hubs[n]
}

func (m *mesh) regionOf(n regions.NodeID) regions.RegionID { return regions.RegionID(n[:1]) }

func newMesh(t *testing.T, nodes ...regions.NodeID) *mesh {
	m := &mesh{
		t: t, hubs: map[regions.NodeID]*Hub{}, rosters: map[regions.NodeID]*nodeRoster{},
		regions: map[regions.RegionID]*region{}, wires: map[[2]regions.NodeID]*pipe{}, core: newFakeCore(),
		ledger: newLedger(), began: time.Now(),
	}
	for _, a := range nodes {
		m.regions[m.regionOf(a)] = &region{id: m.regionOf(a), m: m, state: newRoll()}
	}
	for _, a := range nodes {
		for _, b := range nodes {
			if a != b {
				delay := time.Millisecond
				if a[0] != b[0] {
					delay = 40 * time.Millisecond
				}
				m.wires[[2]regions.NodeID{a, b}] = m.newPipe(a, b, delay)
			}
		}
	}
	for _, n := range nodes {
		m.boot(n)
	}
	t.Cleanup(func() {
		for _, h := range m.hubs {
			h.Stop()
		}
		for _, p := range m.wires {
			close(p.queue)
		}
		for _, r := range m.rosters {
			r.stop()
		}
	})
	return m
}

// boot starts a node, with what its region has agreed on so far.
func (m *mesh) boot(n regions.NodeID) {
	all := slices.Collect(maps.Values(m.regions))
	for _, g := range all {
		g.mu.Lock() // from here on its copy gets all entries
	}
	r := m.newRoster(n)
	m.mu.Lock()
	m.rosters[n] = r
	m.mu.Unlock()
	for _, g := range all {
		g.mu.Unlock()
	}
	h := New(Config{
		Self: n, Region: m.regionOf(n), Roster: r, Links: fakeLinks{m, n},
		Members: m.core, Messages: m.core, Activity: m.core, Lately: m.core.Lately, Observe: m.observer(n),
	})
	require.NoError(m.t, h.Start(context.Background()))
	m.mu.Lock()
	m.hubs[n] = h
	m.mu.Unlock()
	go r.run()
}

// cut breaks the links between two nodes, both ways: what was on the way is lost.
func (m *mesh) cut(a, b regions.NodeID) {
	for _, w := range [][2]regions.NodeID{{a, b}, {b, a}} {
		m.wires[w].setDown(true)
		m.hubs[w[0]].LinkDown(w[1])
		m.hubs[w[1]].PeerLeft(w[0])
	}
}

func (m *mesh) mend(a, b regions.NodeID) {
	for _, w := range [][2]regions.NodeID{{a, b}, {b, a}} {
		m.wires[w].setDown(false)
	}
	for _, w := range [][2]regions.NodeID{{a, b}, {b, a}} {
		m.hubs[w[0]].LinkUp(w[1])
		m.hubs[w[1]].PeerJoined(w[0])
	}
}

// restart starts a node anew. The region notices: its slots get new epochs, its
// sessions are suspended.
func (m *mesh) restart(n regions.NodeID) {
	m.kill(n)
	m.rosters[n].stop()
	m.boot(n)
	g := m.regions[m.regionOf(n)]
	if owner, _ := g.owner(testRoom); owner == n {
		g.move(regions.SlotOf(testRoom), n)
	}
	for other := range m.hubs {
		if other != n {
			m.wires[[2]regions.NodeID{n, other}].setDown(false)
			m.wires[[2]regions.NodeID{other, n}].setDown(false)
			m.hubs[other].LinkUp(n)
			m.hubs[other].PeerJoined(n)
		}
	}
}

// kill ends a node; nobody is told but those who notice that its links broke.
func (m *mesh) kill(n regions.NodeID) {
	for other := range m.hubs {
		if other != n {
			m.wires[[2]regions.NodeID{n, other}].setDown(true)
			m.wires[[2]regions.NodeID{other, n}].setDown(true)
			m.hubs[other].LinkDown(n)
			m.hubs[other].PeerLeft(n)
		}
	}
	m.hubs[n].Stop()
}

// pipe is an ordered link with a delay.
type pipe struct {
	mu    sync.Mutex
	down  bool
	life  int // of the connection
	delay time.Duration
	queue chan packet
}

type packet struct {
	at   time.Time
	life int
	give func()
}

func (m *mesh) newPipe(a, b regions.NodeID, delay time.Duration) *pipe {
	p := &pipe{queue: make(chan packet, 100_000), delay: delay}
	go func() {
		for k := range p.queue {
			time.Sleep(time.Until(k.at))
			p.mu.Lock()
			ok := !p.down && p.life == k.life
			p.mu.Unlock()
			if ok {
				k.give()
			}
		}
	}()
	return p
}

func (p *pipe) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	p.life++
}

func (p *pipe) setDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *pipe) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

func (p *pipe) send(give func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.down {
		p.queue <- packet{time.Now().Add(p.delay), p.life, give}
	}
}

type fakeLinks struct {
	m    *mesh
	from regions.NodeID
}

func (l fakeLinks) Send(to regions.NodeID, f *peer.Frame) {
	l.m.sent(l.from, to, f, nil)
	b, err := f.MarshalVT()
	require.NoError(l.m.t, err)
	require.LessOrEqual(l.m.t, len(b), 4<<20, "links take no more")
	l.m.wires[[2]regions.NodeID{l.from, to}].send(func() {
		var f peer.Frame
		if f.UnmarshalVT(b) == nil {
			l.m.hub(to).HandleFrame(l.from, &f)
		}
	})
}

func (l fakeLinks) SendFixes(to regions.NodeID, f *peer.Fixes) {
	l.m.sent(l.from, to, nil, f)
	l.m.wires[[2]regions.NodeID{l.from, to}].send(func() { l.m.hub(to).HandleFixes(l.from, f) })
}

// fakeCore knows who is a member.
type fakeCore struct {
	mu      sync.Mutex
	version uint64
	out     map[string]bool
	broken  bool
	touched int
	last    uint64
	change  uint64
	lately  []*wire.Seen
	talks   map[string]edge.Talk
}

func newFakeCore() *fakeCore {
	return &fakeCore{version: 1, out: map[string]bool{}, talks: map[string]edge.Talk{}}
}

func (c *fakeCore) talk(user string, talk edge.Talk) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.talks[user] = talk
	c.version++
	return c.version
}

func (c *fakeCore) Member(_ context.Context, user, _ string, _ uint64) (edge.Membership, error) {
	time.Sleep(5 * time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.broken:
		return edge.Membership{}, context.DeadlineExceeded
	case c.out[user]:
		return edge.Membership{}, errs.New(errs.Forbidden, edge.CodeNotMember, "no member")
	}
	return edge.Membership{Version: c.version, Talk: c.talks[user]}, nil
}

func (c *fakeCore) Last(context.Context, string) (edge.Last, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return edge.Last{Number: c.last, Change: c.change}, nil
}

func (c *fakeCore) Lately(context.Context, string) ([]*wire.Seen, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lately, nil
}

func (c *fakeCore) kick(user string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out[user] = true
	c.version++
	return c.version
}

func (c *fakeCore) Touch(string, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.touched++
}

// phone is a client that follows the rule of the session protocol.
type phone struct {
	member *peer.Member
	ledger *ledger

	mu         sync.Mutex
	at         map[string]*wire.Position
	people     map[string]*wire.Device // by user/device
	fixes      map[string]*wire.MemberFix
	messages   []uint64
	updates    []string
	heard      uint64 // the highest number it was told of
	frames     []*edge.Frame
	snapshots  int
	unrecovers int
	gaps       int
	backs      int // an older epoch came after a newer one
	left       []string
	began      time.Time // since in unreached is told from here
	unreached  []*wire.RegionReach
	flaps      int      // times that a region could not be reached any more
	vanished   []string // were not in a part any more
	refused    []error
	removed    []wire.Reason
	superseded uint64
}

// session makes a client on a node; each gets a higher epoch.
func (m *mesh) session(user string, node regions.NodeID) *phone {
	m.epoch++
	p := &phone{
		ledger: m.ledger, began: m.began, member: &peer.Member{User: user, Name: strings.ToUpper(user), Device: &wire.Device{
			Device: "phone", Epoch: m.epoch, State: wire.State_LIVE, Region: string(node[:1]), Node: string(node),
			Transport: wire.Transport_WEBSOCKET,
		}},
		at: map[string]*wire.Position{}, people: map[string]*wire.Device{}, fixes: map[string]*wire.MemberFix{},
	}
	m.regions[m.regionOf(node)].open(p.member)
	return p
}

// enter puts a session in a room.
func (m *mesh) enter(p *phone, j edge.Join) {
	n := regions.NodeID(p.member.Device.Node)
	m.regions[m.regionOf(n)].enter(p.member, j.Room)
	m.hubs[n].Join(p, j)
}

// suspend is a session whose connection broke.
func (m *mesh) suspend(p *phone) {
	n := regions.NodeID(p.member.Device.Node)
	m.hubs[n].Suspend(p)
	m.regions[m.regionOf(n)].suspend(p.member)
}

// bye ends a session.
func (m *mesh) bye(p *phone) {
	n := regions.NodeID(p.member.Device.Node)
	m.hubs[n].Gone(p, wire.Reason_BYE)
	m.regions[m.regionOf(n)].end(p.member, wire.Reason_BYE)
}

// join makes a session and puts it in the room, and waits for the answer.
func (m *mesh) join(user string, node regions.NodeID) *phone {
	p := m.session(user, node)
	m.enter(p, edge.Join{Room: testRoom, Re: 7, Membership: edge.Membership{Version: 1}})
	settle(200 * time.Millisecond)
	return p
}

// resume goes on with what a phone knows, in a new session.
func (m *mesh) resume(old *phone, node regions.NodeID) *phone {
	p := m.session(old.member.User, node)
	p.at, p.people, p.fixes = maps.Clone(old.at), maps.Clone(old.people), maps.Clone(old.fixes)
	m.enter(p, edge.Join{
		Room: testRoom, Re: 7, Membership: edge.Membership{Version: 1}, Positions: slices.Collect(maps.Values(p.at)),
	})
	settle(200 * time.Millisecond)
	return p
}

func (p *phone) Member() *peer.Member { return p.member }

func (p *phone) Deliver(f *edge.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range f.Parts() {
		p.deliver(one)
	}
}

func (p *phone) deliver(f *edge.Frame) {
	p.frames = append(p.frames, f)
	var s wire.ServerFrame
	if err := s.UnmarshalVT(f.Body()); err != nil {
		panic(err)
	}
	switch b := s.Body.(type) {
	case *wire.ServerFrame_Snapshot:
		p.snapshots++
		p.heard = max(p.heard, b.Snapshot.LastNumber)
		if !b.Snapshot.Recovered {
			p.unrecovers++
		}
		p.reached(b.Snapshot.Unreached)
		for _, part := range b.Snapshot.Parts {
			if slices.ContainsFunc(p.unreached, func(u *wire.RegionReach) bool { return u.Lost && u.Region == part.At.Region }) {
				panic("a region that is lost and there")
			}
			if was := p.at[part.At.Region]; was != nil && part.At.Epoch < was.Epoch {
				p.backs++
			}
			p.at[part.At.Region] = part.At
			var had []string
			for k, d := range p.people {
				if d.Region == part.At.Region {
					had = append(had, k)
					delete(p.people, k)
				}
			}
			p.presence(part.At.Region, part.People)
			for _, k := range had {
				if p.people[k] == nil {
					p.vanished = append(p.vanished, k)
				}
			}
			for _, f := range part.Fixes {
				p.fix(f)
			}
		}
	case *wire.ServerFrame_Event:
		at := p.at[b.Event.At.Region]
		switch {
		case at != nil && (b.Event.At.Epoch < at.Epoch || at.Epoch == b.Event.At.Epoch && b.Event.At.Seq <= at.Seq):
			return
		case at == nil || at.Epoch != b.Event.At.Epoch && at.Epoch != b.Event.PriorEpoch || b.Event.At.Seq != at.Seq+1:
			p.gaps++
			return
		}
		p.at[b.Event.At.Region] = b.Event.At
		p.ledger.saw(b.Event, f.Body())
		switch e := b.Event.Body.(type) {
		case *wire.Event_Presence:
			p.presence(b.Event.At.Region, e.Presence.People)
		case *wire.Event_Message:
			p.messages = append(p.messages, e.Message.Number)
			p.heard = max(p.heard, e.Message.Number)
		case *wire.Event_Update:
			p.updates = append(p.updates, e.Update.Id)
		}
	case *wire.ServerFrame_Fixes:
		for _, f := range b.Fixes.Fixes {
			p.fix(f)
		}
	case *wire.ServerFrame_Reach:
		p.reached(b.Reach.Unreached)
	}
}

// reached follows the rule of regions that can't be heard.
func (p *phone) reached(us []*wire.RegionReach) {
	for _, u := range us {
		if !slices.ContainsFunc(p.unreached, func(old *wire.RegionReach) bool { return old.Region == u.Region }) {
			p.flaps++
		}
		if u.Lost {
			delete(p.at, u.Region)
			maps.DeleteFunc(p.people, func(_ string, d *wire.Device) bool { return d.Region == u.Region })
		}
	}
	p.unreached = us
}

func (p *phone) reach() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var s []string
	for _, u := range p.unreached {
		what := fmt.Sprint(u.Region, " since ", u.UnknownSince.AsTime().Sub(p.began))
		if u.Lost {
			what += " lost"
		}
		s = append(s, what)
	}
	return strings.Join(s, ", ")
}

func (p *phone) presence(region string, people []*wire.Person) {
	for _, person := range people {
		for _, d := range person.Devices {
			k := person.User + "/" + d.Device
			old := p.people[k]
			if old != nil && (d.Epoch < old.Epoch || d.Epoch == old.Epoch && region < old.Region) {
				continue
			}
			if d.State == wire.State_LEFT {
				delete(p.people, k)
				p.left = append(p.left, k+":"+d.Reason.String())
				continue
			}
			p.people[k] = d
		}
	}
}

func (p *phone) fix(f *wire.MemberFix) {
	k := f.User + "/" + f.Device
	old := p.fixes[k]
	if p.people[k] == nil && f.Device != edge.PostDevice || old != nil && (f.Epoch < old.Epoch || f.Epoch == old.Epoch && f.Fix.N <= old.Fix.N) {
		return
	}
	p.fixes[k] = f
}

func (p *phone) Refused(_ uint64, _ string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = append(p.refused, err)
}

func (p *phone) Removed(_ string, reason wire.Reason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removed = append(p.removed, reason)
}

func (p *phone) Superseded(epoch uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.superseded = epoch
}

func (p *phone) who() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var s []string
	for k, d := range p.people {
		s = append(s, fmt.Sprintf("%s:%s:%s", strings.TrimSuffix(k, "/phone"), d.Node, d.State))
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

func (p *phone) lastFix(user string) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fixes[user+"/phone"].GetFix().GetN()
}

func fixN(n uint64) *wire.Fix {
	return &wire.Fix{Point: &wire.Point{Lat: 48, Lng: 11}, N: n, Captured: timestamppb.Now()}
}

// everywhere reports a fix to all rooms of a client.
func everywhere(h *Hub, c edge.Client, f *wire.Fix) (missing []string) {
	return h.Report(c, f, h.Rooms(c))
}

// settle lets d of fake time go by, and all that it causes.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
