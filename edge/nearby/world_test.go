package nearby

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/index"
	"github.com/mustermesh/muster/regions"
)

// world is a mesh in memory: regions with rosters that nodes hear of late, links
// with delay that can be cut, nodes that die. Use it in a synctest bubble.
type world struct {
	t *testing.T

	mu      sync.Mutex // guards the following
	rng     *rand.Rand
	top     *regions.Topology
	slots   map[regions.RegionID]*[regions.Slots]slotOwner // the truth
	nodes   []*fake
	cuts    map[[2]regions.NodeID]bool
	blocked map[string]map[string]bool
	work    sync.WaitGroup
}

type slotOwner struct {
	node  regions.NodeID
	epoch regions.Epoch
}

// fake is a node of the world.
type fake struct {
	w      *world
	id     regions.NodeID
	region regions.RegionID

	mu    sync.Mutex // guards the following
	m     *Map       // nil: dead
	top   *regions.Topology
	heard map[regions.RegionID]*[regions.Slots]slotOwner
	down  map[regions.NodeID]bool // as this node was told
	lanes map[regions.NodeID]chan letter
	alone bool // without contact to the region's leader
	sent  int
}

var cities = []regions.Region{
	{Name: "eu-west", Location: regions.Location{Lat: 53.35, Lng: -6.26}},
	{Name: "us-east", Location: regions.Location{Lat: 38.9, Lng: -77.45}},
	{Name: "ap-south", Location: regions.Location{Lat: 18.52, Lng: 73.86}},
	{Name: "eu-central", Location: regions.Location{Lat: 50.11, Lng: 8.68}},
}

func newWorld(t *testing.T, seed uint64, regionCount, nodes int) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), slots: map[regions.RegionID]*[regions.Slots]slotOwner{},
		cuts: map[[2]regions.NodeID]bool{}, blocked: map[string]map[string]bool{},
	}
	w.top = w.topology(regionCount, nodes)
	for _, r := range w.top.Regions {
		w.table(r)
	}
	for _, r := range w.top.Regions {
		w.found(r)
	}
	t.Cleanup(w.stop)
	return w
}

func (w *world) topology(regionCount, nodes int) *regions.Topology {
	top := &regions.Topology{}
	for _, r := range cities[:regionCount] {
		for n := range nodes {
			r.Nodes = append(r.Nodes, regions.Node{ID: regions.NodeID(fmt.Sprintf("%s-%d", r.Name, n+1)), Peer: fmt.Sprintf("%s-%d:1", r.Name, n+1)})
		}
		top.Regions = append(top.Regions, r)
	}
	return top
}

// table makes a region's slots its nodes'.
func (w *world) table(r regions.Region) {
	w.mu.Lock()
	defer w.mu.Unlock()
	table := w.slots[r.Name] // of an earlier life
	if table == nil {
		table = new([regions.Slots]slotOwner)
	}
	for i := range table {
		table[i] = slotOwner{r.Nodes[i%len(r.Nodes)].ID, table[i].epoch + 1}
	}
	w.slots[r.Name] = table
}

// found starts a region's nodes.
func (w *world) found(r regions.Region) {
	for _, n := range r.Nodes {
		w.start(n.ID, r.Name)
	}
}

func (w *world) start(id regions.NodeID, region regions.RegionID) *fake {
	f := &fake{w: w, id: id, region: region, top: w.top, heard: map[regions.RegionID]*[regions.Slots]slotOwner{}, down: map[regions.NodeID]bool{}, lanes: map[regions.NodeID]chan letter{}}
	for r, table := range w.slots {
		c := *table
		f.heard[r] = &c
	}
	f.m = New(Config{
		Self: id, Region: region, Roster: f, Links: f, Blocks: w,
		Topology: func() *regions.Topology { f.mu.Lock(); defer f.mu.Unlock(); return f.top },
	})
	require.NoError(w.t, f.m.Start(context.Background()))
	w.mu.Lock()
	w.nodes = append(w.nodes, f)
	w.mu.Unlock()
	for _, o := range w.alive() {
		if o != f {
			o.tellUp(f.id)
		}
	}
	return f
}

func (w *world) stop() {
	for _, f := range w.alive() {
		w.kill(f)
	}
	w.work.Wait()
}

func (w *world) alive() (out []*fake) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.nodes {
		if f.live() != nil {
			out = append(out, f)
		}
	}
	return out
}

func (w *world) node(id regions.NodeID) *fake {
	for _, f := range w.alive() {
		if f.id == id {
			return f
		}
	}
	return nil
}

func (w *world) random(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

func (w *world) delay(a, b *fake) time.Duration {
	d := time.Duration(w.random(4)) * time.Millisecond
	if a.region != b.region {
		d += 40 * time.Millisecond
	}
	return d
}

func (w *world) cut(a, b regions.NodeID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts[[2]regions.NodeID{a, b}]
}

// Blocked satisfies edge.Blocks.
func (w *world) Blocked(_ context.Context, viewer string) (map[string]bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.blocked[viewer], nil
}

func (f *fake) live() *Map {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.m
}

// ---------------------------------------------------------------- roster

func (f *fake) Current() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.alone
}

func (f *fake) Slot(slot int) (regions.NodeID, regions.Epoch) { return f.SlotIn(f.region, slot) }

func (f *fake) SlotIn(region regions.RegionID, slot int) (regions.NodeID, regions.Epoch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.heard[region]; t != nil {
		return t[slot].node, t[slot].epoch
	}
	return "", 0
}

func (f *fake) RegionOf(node regions.NodeID) regions.RegionID {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, region, _ := f.top.Node(node)
	return region
}

// hear takes what a region says of its slots.
func (f *fake) hear(region regions.RegionID, table [regions.Slots]slotOwner) {
	f.mu.Lock()
	was := f.heard[region]
	if was == nil {
		was = new([regions.Slots]slotOwner)
		f.heard[region] = was
	}
	var moves []regions.SlotMove
	var slots []int
	for i, now := range table {
		if now.epoch > was[i].epoch {
			moves = append(moves, regions.SlotMove{Slot: i, From: was[i].node, To: now.node, Epoch: now.epoch})
			slots = append(slots, i)
			was[i] = now
		}
	}
	m := f.m
	f.mu.Unlock()
	switch {
	case m == nil || len(slots) == 0:
	case region == f.region:
		m.SlotsMoved(moves)
	default:
		m.RegionMoved(region, slots)
	}
}

// move gives slots of a region to others, of which nodes hear as links let them.
func (w *world) move(region regions.RegionID, who func(slot int, was regions.NodeID) regions.NodeID) {
	w.mu.Lock()
	table := w.slots[region]
	for i := range table {
		if to := who(i, table[i].node); to != table[i].node {
			table[i] = slotOwner{to, table[i].epoch + 1}
		}
	}
	w.mu.Unlock()
	w.announce(region)
}

func (w *world) announce(region regions.RegionID) {
	for _, f := range w.alive() {
		w.after(time.Duration(w.random(100))*time.Millisecond, func() {
			if f.region != region && !w.reaches(region, f) {
				return // with heal
			}
			w.mu.Lock()
			table := *w.slots[region]
			w.mu.Unlock()
			f.hear(region, table)
		})
	}
}

func (w *world) reaches(region regions.RegionID, f *fake) bool {
	return slices.ContainsFunc(w.alive(), func(g *fake) bool { return g.region == region && !w.cut(g.id, f.id) })
}

func (w *world) after(d time.Duration, f func()) {
	w.work.Go(func() { time.Sleep(d); f() })
}

// ---------------------------------------------------------------- links

func (f *fake) Send(to regions.NodeID, fr *peer.Frame) {
	b, err := fr.MarshalVT()
	require.NoError(f.w.t, err)
	g := f.w.node(to)
	if g == nil {
		return
	}
	due := time.Now().Add(f.w.delay(f, g))
	f.mu.Lock()
	defer f.mu.Unlock()
	if g == f || f.down[to] || f.m == nil {
		return
	}
	f.sent += len(b)
	lane := f.lanes[to]
	if lane == nil {
		lane = make(chan letter, 10_000)
		f.lanes[to] = lane
		f.w.work.Go(func() { f.carry(g, lane) })
	}
	lane <- letter{b, due}
}

// letter is a frame on its way, and when it arrives.
type letter struct {
	b   []byte
	due time.Time
}

// carry delivers in order, and loses what a cut or a death meets.
func (f *fake) carry(to *fake, lane chan letter) {
	for l := range lane {
		if f.w.cut(f.id, to.id) {
			continue
		}
		time.Sleep(time.Until(l.due))
		var fr peer.Frame
		require.NoError(f.w.t, fr.UnmarshalVT(l.b))
		if m := to.live(); m != nil && f.live() != nil {
			m.HandleUpdate(f.id, fr.GetMapUpdate())
		}
	}
}

var errCut = errors.New("cut")

func (f *fake) Call(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
	f.mu.Lock()
	down := f.down[to]
	f.mu.Unlock()
	g := f.w.node(to)
	if down {
		return nil, errCut
	}
	if g == nil || f.w.cut(f.id, to) || f.w.cut(to, f.id) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b, err := c.MarshalVT()
	if err != nil {
		return nil, err
	}
	time.Sleep(2 * f.w.delay(f, g))
	var got peer.Call
	if err := got.UnmarshalVT(b); err != nil {
		return nil, err
	}
	m := g.live()
	if m == nil {
		return nil, errCut
	}
	found, err := m.HandleQuery(got.GetMapQuery())
	if err != nil {
		return nil, err
	}
	b, err = (&peer.Answer{Body: &peer.Answer_MapFound{MapFound: found}}).MarshalVT()
	if err != nil {
		return nil, err
	}
	a := new(peer.Answer)
	return a, a.UnmarshalVT(b)
}

func (f *fake) tellDown(to regions.NodeID) {
	f.mu.Lock()
	m := f.m
	if f.down[to] = true; f.lanes[to] != nil {
		close(f.lanes[to])
		delete(f.lanes, to)
	}
	f.mu.Unlock()
	if m != nil {
		m.LinkDown(to)
	}
}

func (f *fake) tellUp(to regions.NodeID) {
	f.mu.Lock()
	m := f.m
	delete(f.down, to)
	f.mu.Unlock()
	if m != nil {
		m.LinkUp(to)
	}
}

// sever cuts the links between two nodes, of which they hear after 2 s.
func (w *world) sever(a, b *fake) {
	for _, p := range [][2]*fake{{a, b}, {b, a}} {
		w.mu.Lock()
		w.cuts[[2]regions.NodeID{p[0].id, p[1].id}] = true
		w.mu.Unlock()
		w.after(2*time.Second, func() {
			if w.cut(p[0].id, p[1].id) {
				p[0].tellDown(p[1].id)
			}
		})
	}
}

// heal mends all links and has everybody hear everything.
func (w *world) heal() {
	w.mu.Lock()
	cuts := w.cuts
	w.cuts = map[[2]regions.NodeID]bool{}
	w.mu.Unlock()
	for c := range cuts {
		if a, b := w.node(c[0]), w.node(c[1]); a != nil && b != nil {
			a.tellDown(b.id) // if it was so short that it was not told: what was sent is lost all the same
			a.tellUp(b.id)
		}
	}
	for _, r := range w.top.Regions {
		w.announce(r.Name)
	}
}

// kill ends a node; its region gives its slots to others soon.
func (w *world) kill(f *fake) {
	f.mu.Lock()
	m := f.m
	f.m = nil
	for to, lane := range f.lanes {
		close(lane)
		delete(f.lanes, to)
	}
	f.mu.Unlock()
	if m == nil {
		return
	}
	m.Stop()
	for _, g := range w.alive() {
		g.tellDown(f.id)
	}
}

// lose is kill with what the region does about it.
func (w *world) lose(f *fake) {
	w.kill(f)
	w.after(1500*time.Millisecond, func() { w.rebalance(f.region) })
}

// back starts a node anew.
func (w *world) back(f *fake) *fake {
	g := w.start(f.id, f.region)
	w.rebalance(f.region)
	return g
}

// rebalance spreads a region's slots over the nodes that live.
func (w *world) rebalance(region regions.RegionID) {
	var ids []regions.NodeID
	for _, f := range w.alive() {
		if f.region == region {
			ids = append(ids, f.id)
		}
	}
	if len(ids) > 0 {
		w.move(region, func(slot int, _ regions.NodeID) regions.NodeID { return ids[slot%len(ids)] })
	}
}

// adopt gives every node another topology, each at another moment.
func (w *world) adopt(top *regions.Topology) {
	w.mu.Lock()
	w.top = top
	w.mu.Unlock()
	for _, f := range w.alive() {
		w.after(time.Duration(w.random(2000))*time.Millisecond, func() {
			w.mu.Lock()
			top := w.top // by now
			w.mu.Unlock()
			f.mu.Lock()
			defer f.mu.Unlock()
			f.top = top
		})
	}
}

// trace tells what every node has of a user.
func (w *world) trace(user string) (out string) {
	for _, f := range w.alive() {
		m := f.live()
		s, _, tag := m.owner.of(user)
		s.mu.Lock()
		if p := s.find(tag); p != nil {
			e, o := &p.pub, &p.own
			out += fmt.Sprintf("\n%s publishes %s: v%d state %v until %v told %v slot %d dirty %v", f.id, user, e.version, e.state, time.UnixMilli(e.until).UTC(), list(e.told), e.slot, e.dirty)
			out += fmt.Sprintf("\n%s owns %s: v%d state %v expires %d in the tree %v", f.id, user, o.version, o.state, p.Expires(), p.In())
			if o.state == there {
				out += fmt.Sprintf(" at %v slot %d owned %v, nearest there %v, within %v", p.Point(), o.in.slot, m.owns(o.in.slot), len(o.layer.tree.Nearest(nil, p.Point(), 10, 1, index.Options{})), len(o.layer.tree.Nearest(nil, p.Point(), 10000, 50000, index.Options{})))
			}
		}
		s.mu.Unlock()
		m.anchors.mu.Lock()
		if c, ok := m.anchors.of[user]; ok {
			out += fmt.Sprintf("\n%s anchors %s: v%d of %s", f.id, user, c.version, c.node)
		}
		m.anchors.mu.Unlock()
	}
	return out
}

// ---------------------------------------------------------------- views

func exactView(p geo.Point) grant.View {
	return grant.View{Point: p, Precision: grant.Exact, Accuracy: 5, Captured: time.Now().UTC()}
}
