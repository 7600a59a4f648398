package nemesis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/client/roomstate"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/peerlink"
)

const (
	grace = 10 * time.Second // longer than a node that is cut off keeps its clients
	ping  = 500 * time.Millisecond
)

// inMemory is a mesh in one bubble of fake time.
type inMemory struct {
	fabric   *simnet.Fabric
	topology *regions.Topology
	stores   *stores
	history  *History
	log      *slog.Logger
	nodes    []*memoryNode

	mu     sync.Mutex // guards the following
	rng    *rand.Rand
	phones map[Key]*simnet.Host
}

// memoryNode is a node across its lives.
type memoryNode struct {
	mesh   *inMemory
	id     regions.NodeID
	region regions.RegionID
	log    *consensus.Memory
	wrong  atomic.Int64 // the wall clock is, by so much

	// To end a life takes time, and one may be about to begin. It is a channel
	// since a bubble's time stands still while somebody waits for a mutex.
	turn chan struct{}

	mu   sync.Mutex // guards the following
	life *life      // nil while dead
}

// take waits for the node's turn, and returns what ends it.
func (n *memoryNode) take() (*life, func()) {
	n.turn <- struct{}{}
	return n.present(), func() { <-n.turn }
}

func (n *memoryNode) present() *life {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.life
}

func (n *memoryNode) set(l *life) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.life = l
}

// life is one start of a node.
type life struct {
	node    *memoryNode
	rt      *node.Realtime
	said    *progress
	host    *simnet.Host
	started time.Time
	open    chan struct{} // closed when clients may come
}

var errDisk = errors.New("no space left on device")

func newInMemory(seed uint64, s Shape, h *History, log *slog.Logger) *inMemory {
	rng := rand.New(rand.NewPCG(seed, 0x3e3))
	m := &inMemory{
		fabric: simnet.NewFabric(simnet.FabricConfig{
			Seed: seed, Jitter: time.Duration(1+rng.IntN(8)) * time.Millisecond, Loss: float64(rng.IntN(4)) * 0.02,
		}),
		topology: &regions.Topology{}, stores: newStores(seed), history: h, log: log, rng: rng,
		phones: map[Key]*simnet.Host{},
	}
	for r := range s.Regions {
		region := regions.Region{Name: regions.RegionID(places[r])}
		for n := range s.Nodes {
			id := node0(r, n)
			region.Nodes = append(region.Nodes, regions.Node{
				ID: id, Peer: fmt.Sprintf("127.0.%d.%d:1", r+1, n+1), HTTP: "http://" + string(id), WS: "ws://" + string(id),
			})
			m.nodes = append(m.nodes, &memoryNode{mesh: m, id: id, region: region.Name, log: consensus.NewMemory(), turn: make(chan struct{}, 1)})
		}
		m.topology.Regions = append(m.topology.Regions, region)
	}
	return m
}

func node0(region, number int) regions.NodeID { return regions.NodeID(nodeName(region, number)) }

func (m *inMemory) find(id string) *memoryNode {
	i := slices.IndexFunc(m.nodes, func(n *memoryNode) bool { return string(n.id) == id })
	return m.nodes[i]
}

// lost says whether the next datagram to or from a client is.
func (m *inMemory) lost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(25) == 0
}

// dial satisfies network: the phone is in the region where it is first seen,
// and connects in one of two ways.
func (m *inMemory) dial(ctx context.Context, k Key, ep client.Endpoint) (client.Conn, error) {
	m.mu.Lock()
	host := m.phones[k]
	if host == nil {
		host = m.fabric.Host(simnet.Peer{Name: "phone of " + k.User + "/" + k.Device, Place: ep.Region}, nil)
		m.phones[k] = host
	}
	kind := wire.Transport_WEBTRANSPORT
	if m.rng.IntN(2) == 0 {
		kind = wire.Transport_WEBSOCKET
	}
	m.mu.Unlock()
	pipe, err := host.Dial(ctx, ep.Node)
	if err != nil {
		return nil, err
	}
	pipe.Send([]byte{hello, byte(kind)})
	return &phone{pipe: pipe, kind: kind, lost: m.lost}, nil
}

func (m *inMemory) tokens(user string) client.TokenSource { return client.StaticToken(user) }

func (m *inMemory) endpoints(region int) (out []client.Endpoint) {
	for _, n := range m.topology.Regions[region].Nodes {
		out = append(out, client.Endpoint{Region: string(m.topology.Regions[region].Name), Node: string(n.ID), WS: n.WS})
	}
	return out
}

// start begins a new life of the node.
func (n *memoryNode) start(ctx context.Context) error {
	old, done := n.take()
	defer done()
	if old != nil {
		return nil
	}
	l := &life{node: n, started: time.Now(), open: make(chan struct{}), said: &progress{stores: n.mesh.stores}}
	l.said.publish = func(room string, seen []*wire.Seen) { l.rt.Hub.Receive(room, &wire.Receipts{Seen: seen}) }
	rt, err := node.NewRealtime(node.RealtimeConfig{
		ID: n.id, Directory: regions.NewDirectory(n.mesh.topology), Started: l.started, Secret: []byte(strings.Repeat("s", 32)),
		Memory: n.log, Clock: func() time.Time { return time.Now().Add(time.Duration(n.wrong.Load())) }, Members: n.mesh.stores, Messages: storing{n.mesh.stores, l.said}, Verifier: n.mesh.stores,
		Settings: n.mesh.stores, Activity: n.mesh.stores, Progress: l.said,
		Session: session.Config{Ping: ping, Grace: grace},
		Drain:   node.DrainConfig{Rate: 20, Deadline: 3 * time.Second},
		Log:     n.mesh.log.With("node", n.id), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	l.rt = rt
	rt.Connect(l)
	if err := rt.Start(ctx); err != nil {
		l.Stop()
		rt.Stop()
		return fmt.Errorf("%s: %w", n.id, err)
	}
	n.set(l)
	close(l.open)
	return nil
}

// kill ends the node's life as SIGKILL does.
func (n *memoryNode) kill() {
	l, done := n.take()
	defer done()
	if l != nil {
		n.set(nil)
		n.log.Fail(errDisk) // nothing of what it still does stays
		l.host.Kill()
		l.said.stop()
		l.rt.Stop()
	}
	n.log.Fail(nil)
}

// drain ends the node's life as SIGTERM does.
func (n *memoryNode) drain(ctx context.Context) {
	l := n.present()
	if l == nil {
		return
	}
	_ = l.rt.Drain(ctx)
	now, done := n.take()
	defer done()
	if now == l {
		n.set(nil)
		l.host.Kill() // connections that never said hello end with their transport
		l.said.stop()
		l.rt.Stop()
	}
}

// storing is what a node stores: who writes has read what was there.
type storing struct {
	*stores
	said *progress
}

// Store satisfies edge.Messages.
func (s storing) Store(ctx context.Context, d edge.Draft) (*wire.Message, bool, error) {
	m, spread, err := s.stores.Store(ctx, d)
	if err == nil {
		s.said.Advance(d.Room, d.Sender, "", m.Number, m.Number)
	}
	return m, spread, err
}

// revise satisfies network: any node that is up is asked.
func (m *inMemory) revise(ctx context.Context, user, room string, v Revision) (client.Message, error) {
	l := m.anybody()
	if l == nil {
		return client.Message{}, errUnavailable
	}
	w, err := m.stores.revise(ctx, user, room, v)
	if err != nil {
		return client.Message{}, err // if it is stored, nobody is told before it is asked for again
	}
	if w.Change > 0 {
		l.rt.Hub.Revise(room, &wire.Revised{Change: w.Change, Message: w})
	}
	if l.node.present() != l {
		return client.Message{}, errUnavailable
	}
	return roomstate.MessageOf(w), nil
}

// receipts satisfies network.
func (m *inMemory) receipts(ctx context.Context, _, room string) ([]client.Seen, error) {
	if before, after := m.stores.wait(ctx); before != nil || after != nil {
		return nil, errUnavailable
	}
	return slices.Collect(maps.Values(m.stores.kept(room).Receipts)), nil
}

// anybody is a node that is up; nil if the one that is asked is not.
func (m *inMemory) anybody() *life {
	m.mu.Lock()
	n := m.nodes[m.rng.IntN(len(m.nodes))]
	m.mu.Unlock()
	return n.present()
}

// ------------------------------------------------------- the node's Peers

// Start brings the node onto the network.
func (l *life) Start(context.Context) error {
	l.host = l.node.mesh.fabric.Host(simnet.Peer{
		Name: string(l.node.id), Place: string(l.node.region), Incarnation: uint64(l.started.UnixMilli()),
	}, ears{l})
	return nil
}

// Stop takes it off.
func (l *life) Stop() {
	if l.host != nil {
		l.host.Kill()
	}
}

// Send satisfies node.Peers.
func (l *life) Send(to regions.NodeID, frame []byte) error {
	if f := new(peer.Frame); f.UnmarshalVT(frame) == nil {
		l.overhear(f)
	}
	return translate(l.host.Send(string(to), frame))
}

// SendDatagram satisfies node.Peers.
func (l *life) SendDatagram(to regions.NodeID, frame []byte) error {
	if len(frame) > peerlink.MaxDatagram {
		return peerlink.ErrTooLarge
	}
	if d := new(peer.Datagram); d.UnmarshalVT(frame) == nil {
		l.overhear(&peer.Frame{Body: &peer.Frame_Fixes{Fixes: d.GetFixes()}})
	}
	return translate(l.host.SendDatagram(string(to), frame))
}

// Call satisfies node.Peers.
func (l *life) Call(ctx context.Context, to regions.NodeID, frame []byte) ([]byte, error) {
	b, err := l.host.Call(ctx, string(to), frame)
	return b, translate(err)
}

// Open satisfies node.Peers.
func (l *life) Open(ctx context.Context, to regions.NodeID) (io.ReadWriteCloser, error) {
	s, err := l.host.Open(ctx, string(to))
	if err != nil {
		return nil, translate(err)
	}
	return s, nil
}

// translate puts the words of peerlink in place of those of simnet.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, simnet.ErrUnsent):
		return fmt.Errorf("%w: %w: %w", peerlink.ErrDown, regions.ErrUnsent, err)
	case errors.Is(err, simnet.ErrDown):
		return fmt.Errorf("%w: %w", peerlink.ErrDown, err)
	default:
		return err
	}
}

// overhear notes what an owner says about its own region's devices.
func (l *life) overhear(f *peer.Frame) {
	region := string(l.node.region)
	s := Spoken{Node: string(l.node.id), Region: region}
	var frame []byte
	switch body := f.Body.(type) {
	case *peer.Frame_Event:
		if body.Event.GetAt().GetRegion() != region {
			return // relayed
		}
		s.Room, s.Epoch, s.Seq, frame = body.Event.GetRoom(), body.Event.GetAt().GetEpoch(), body.Event.GetAt().GetSeq(), body.Event.GetFrame()
	case *peer.Frame_Fixes:
		if body.Fixes.GetRegion() != region {
			return
		}
		s.Room, s.Epoch, frame = body.Fixes.GetRoom(), body.Fixes.GetEpoch(), body.Fixes.GetFrame()
	default:
		return
	}
	sf, err := wire.DecodeServer(frame)
	if err != nil {
		return
	}
	s.Event = sf.GetEvent()
	for _, p := range sf.GetEvent().GetPresence().GetPeople() {
		for _, d := range p.GetDevices() {
			s.Devices = append(s.Devices, Device{Key{p.GetUser(), d.GetDevice()}, d.GetEpoch(), d.GetState(), 0})
		}
	}
	for _, x := range sf.GetFixes().GetFixes() {
		s.Devices = append(s.Devices, Device{Key{x.GetUser(), x.GetDevice()}, x.GetEpoch(), 0, x.GetFix().GetCaptured().AsTime().Sub(l.node.mesh.history.start)})
	}
	l.node.mesh.history.spoke(s)
}

// ears give what the network tells to the node.
type ears struct{ *life }

func peerOf(p simnet.Peer) peerlink.Peer {
	return peerlink.Peer{Node: regions.NodeID(p.Name), Region: regions.RegionID(p.Place), Incarnation: p.Incarnation}
}

func (e ears) Up(to simnet.Peer)                { e.rt.Handler().Up(peerOf(to)) }
func (e ears) Down(to string, err error)        { e.rt.Handler().Down(regions.NodeID(to), err) }
func (e ears) Joined(from simnet.Peer)          { e.rt.Handler().Joined(peerOf(from)) }
func (e ears) Left(from simnet.Peer)            { e.rt.Handler().Left(peerOf(from)) }
func (e ears) Frame(from simnet.Peer, b []byte) { e.rt.Handler().Frame(peerOf(from), b) }

func (e ears) Datagram(from simnet.Peer, b []byte) { e.rt.Handler().Datagram(peerOf(from), b) }

func (e ears) Call(ctx context.Context, from simnet.Peer, b []byte) ([]byte, error) {
	return e.rt.Handler().Call(ctx, peerOf(from), b)
}

func (e ears) Stream(ctx context.Context, from simnet.Peer, s io.ReadWriter) error {
	return e.rt.Stream(ctx, peerOf(from), s)
}

func (e ears) Accept(p *simnet.Pipe) {
	select {
	case <-e.open:
	default:
		return // not listening yet: reset
	}
	if c, err := accept(p, e.node.mesh.lost); err == nil {
		handle, over := e.rt.Sessions.Accept(c)
		over(c.Serve(handle))
	}
}

// ------------------------------------------------------- faults

// inflict satisfies mesh.
func (m *inMemory) inflict(ctx context.Context, f Fault) {
	over, cancel := context.WithTimeout(ctx, f.For)
	defer cancel()
	everyone := func(do func(from, to string)) {
		for _, n := range m.nodes {
			if id := string(n.id); id != f.On {
				switch f.Kind {
				case Mute:
					do(f.On, id)
				case Deafen:
					do(id, f.On)
				default:
					do(f.On, id)
					do(id, f.On)
				}
			}
		}
	}
	switch f.Kind {
	case Kill:
		m.find(f.On).kill()
		<-over.Done()
		m.again(f.On)
	case DiskFull:
		n := m.find(f.On)
		n.log.Fail(errDisk)
		<-over.Done()
		n.kill()
		m.again(f.On)
	case Drain:
		m.find(f.On).drain(over)
		<-over.Done()
		m.again(f.On)
	case Pause:
		m.fabric.Hold(f.On)
		<-over.Done()
		m.fabric.Release(f.On)
	case Clock:
		m.find(f.On).wrong.Store(int64(f.By))
		<-over.Done()
		m.find(f.On).wrong.Store(0)
	case Isolate, Mute, Deafen:
		everyone(m.fabric.Cut)
		<-over.Done()
		everyone(m.fabric.Mend)
	case Part:
		m.fabric.Cut(f.On, f.Other)
		m.fabric.Cut(f.Other, f.On)
		<-over.Done()
		m.fabric.Mend(f.On, f.Other)
		m.fabric.Mend(f.Other, f.On)
	case Split:
		split := func(do func(from, to string)) {
			for _, a := range m.nodes {
				for _, b := range m.nodes {
					if string(a.region) == f.On && string(b.region) == f.Other {
						do(string(a.id), string(b.id))
						do(string(b.id), string(a.id))
					}
				}
			}
		}
		split(m.fabric.Cut)
		<-over.Done()
		split(m.fabric.Mend)
	}
}

// again starts a node after a fault.
func (m *inMemory) again(id string) {
	if err := m.find(id).start(context.Background()); err != nil {
		m.log.Error("node does not start", "node", id, "err", err)
	}
}

// heal satisfies mesh.
func (m *inMemory) heal(ctx context.Context) error {
	m.stores.heal()
	m.fabric.Heal()
	for _, n := range m.nodes {
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *inMemory) rosters() map[string]map[string][]Session {
	out := map[string]map[string][]Session{}
	for _, n := range m.nodes {
		region := string(n.region)
		if out[region] == nil {
			out[region] = map[string][]Session{}
		}
		out[region][string(n.id)] = rosterOf(n.present().rt.Cluster)
	}
	return out
}

func (m *inMemory) kept(room string) Kept { return m.stores.kept(room) }

// stop ends all nodes.
func (m *inMemory) stop() {
	var wg sync.WaitGroup
	for _, n := range m.nodes {
		wg.Go(n.kill)
	}
	wg.Wait()
}

// ready waits until all nodes are in their regions.
func (m *inMemory) ready(ctx context.Context) error {
	for _, n := range m.nodes {
		for {
			err := n.present().rt.Ready(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", n.id, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// InMemory plays a seed in the present bubble of fake time.
func InMemory(seed uint64, s Shape, length time.Duration, log *slog.Logger) (*History, []Fault, error) {
	h := NewHistory(grace)
	faults := Schedule(seed, s, length)
	m := newInMemory(seed, s, h, log)
	defer m.stop()
	ctx := context.Background()
	for _, n := range m.nodes {
		if err := n.start(ctx); err != nil {
			return h, faults, err
		}
	}
	starting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := m.ready(starting); err != nil {
		return h, faults, err
	}
	var rooms []string
	for i := range s.Rooms {
		rooms = append(rooms, fmt.Sprintf("group:00000000-0000-4000-8000-%012d", int(seed%1000)*100+i))
	}
	// A third of the devices are somebody's second.
	users := func(i int) string { return fmt.Sprintf("00000000-0000-4000-9000-%012d", i-i%3/2) }
	return h, faults, play(ctx, m, seed, s, faults, length, rooms, users, h, log)
}
