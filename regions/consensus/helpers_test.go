package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// network is links in memory, for use under synctest. A direction that is cut
// holds what is written until it heals, as QUIC would; whatever was held for
// 1 s ends its streams.
type network struct {
	mu    sync.Mutex
	nodes map[regions.NodeID]*Node
	cuts  map[[2]regions.NodeID]bool
	delay time.Duration
	heal  chan struct{} // closed when a cut ends
	work  sync.WaitGroup
}

func newNetwork() *network {
	return &network{
		nodes: map[regions.NodeID]*Node{}, cuts: map[[2]regions.NodeID]bool{},
		delay: 500 * time.Microsecond, heal: make(chan struct{}),
	}
}

func (w *network) cut(from, to regions.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cuts[[2]regions.NodeID{from, to}] = true
}

// isolate cuts a node off, both ways.
func (w *network) isolate(id regions.NodeID, others ...regions.NodeID) {
	for _, o := range others {
		if o != id {
			w.cut(id, o)
			w.cut(o, id)
		}
	}
}

func (w *network) healAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cuts)
	close(w.heal)
	w.heal = make(chan struct{})
}

func (w *network) set(id regions.NodeID, n *Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[id] = n
}

// pass waits until a packet may go from one node to another.
func (w *network) pass(ctx context.Context, from, to regions.NodeID) error {
	deadline := time.Now().Add(time.Second)
	for {
		w.mu.Lock()
		cut, heal := w.cuts[[2]regions.NodeID{from, to}], w.heal
		w.mu.Unlock()
		if !cut {
			return nil
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-heal:
			timer.Stop()
		case <-timer.C:
			return errors.New("link is silent")
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// endpoint is a node's Links.
type endpoint struct {
	net  *network
	self regions.NodeID
}

func (e endpoint) Open(ctx context.Context, to regions.NodeID) (io.ReadWriteCloser, error) {
	w := e.net
	w.mu.Lock()
	peer := w.nodes[to]
	w.mu.Unlock()
	if peer == nil {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
		return nil, fmt.Errorf("nobody at %s: %w", to, regions.ErrUnsent)
	}
	ctx, cancel := context.WithCancel(ctx)
	there, back := newLane(), newLane()
	mine := &end{net: w, ctx: ctx, cancel: cancel, in: back, out: there, from: e.self, to: to}
	theirs := &end{net: w, ctx: ctx, cancel: cancel, in: there, out: back, from: to, to: e.self}
	w.work.Go(func() {
		defer cancel()
		if err := w.pass(ctx, e.self, to); err != nil {
			return
		}
		if err := peer.Serve(ctx, e.self, theirs); err == nil {
			close(back.end)
			<-ctx.Done()
		}
	})
	return mine, nil
}

// lane is one direction of a stream.
type lane struct {
	chunks chan []byte
	end    chan struct{}
}

func newLane() *lane { return &lane{make(chan []byte, 16), make(chan struct{})} }

type end struct {
	net      *network
	ctx      context.Context
	cancel   context.CancelFunc
	in, out  *lane
	from, to regions.NodeID
	rest     []byte
}

func (e *end) Write(b []byte) (int, error) {
	if err := e.net.pass(e.ctx, e.from, e.to); err != nil {
		e.cancel()
		return 0, err
	}
	select {
	case <-time.After(e.net.delay):
	case <-e.ctx.Done():
		return 0, e.ctx.Err()
	}
	select {
	case e.out.chunks <- append([]byte(nil), b...):
		return len(b), nil
	case <-e.ctx.Done():
		return 0, e.ctx.Err()
	}
}

func (e *end) Read(b []byte) (int, error) {
	for len(e.rest) == 0 {
		select {
		case e.rest = <-e.in.chunks:
			continue
		default:
		}
		select {
		case e.rest = <-e.in.chunks:
		case <-e.in.end:
			return 0, io.EOF
		case <-e.ctx.Done():
			return 0, e.ctx.Err()
		}
	}
	n := copy(b, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (e *end) Close() error {
	e.cancel()
	return nil
}

// registers is the toy machine: numbered registers of 8 bytes. A command is
// [register, request id 8 bytes, value 8 bytes]; one with an id that was seen
// changes nothing. The result is the number of changes so far.
type registers struct {
	mu      sync.Mutex
	values  map[byte]uint64
	seen    map[uint64]uint64 // request → result
	changes uint64
	slow    time.Duration
	stamps  []regions.Stamp
}

func newRegisters() *registers {
	return &registers{values: map[byte]uint64{}, seen: map[uint64]uint64{}}
}

func put(register byte, id, value uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{register}, id)
	return binary.BigEndian.AppendUint64(b, value)
}

func (r *registers) Apply(_ uint64, stamp regions.Stamp, c []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stamps = append(r.stamps, stamp)
	if r.slow > 0 {
		time.Sleep(r.slow)
	}
	id := binary.BigEndian.Uint64(c[1:])
	result, ok := r.seen[id]
	if !ok {
		r.changes++
		result = r.changes
		r.seen[id], r.values[c[0]] = result, binary.BigEndian.Uint64(c[9:])
	}
	return binary.BigEndian.AppendUint64(nil, result)
}

func (r *registers) get(register byte) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.values[register]
}

func (r *registers) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes
}

func (r *registers) Snapshot() func(io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := binary.BigEndian.AppendUint64(nil, r.changes)
	b = binary.BigEndian.AppendUint64(b, uint64(len(r.values)))
	for k, v := range r.values {
		b = binary.BigEndian.AppendUint64(append(b, k), v)
	}
	for k, v := range r.seen {
		b = binary.BigEndian.AppendUint64(b, k)
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return func(w io.Writer) error { _, err := w.Write(b); return err }
}

func (r *registers) Restore(from io.Reader) error {
	b, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := func() (v uint64) { v, b = binary.BigEndian.Uint64(b), b[8:]; return v }
	r.values, r.seen = map[byte]uint64{}, map[uint64]uint64{}
	r.changes = next()
	for range next() {
		k := b[0]
		b = b[1:]
		r.values[k] = next()
	}
	for len(b) > 0 {
		k := next()
		r.seen[k] = next()
	}
	return nil
}

// group is the nodes of a region on a network.
type group struct {
	t        testing.TB
	net      *network
	ids      []regions.NodeID
	nodes    map[regions.NodeID]*Node
	machines map[regions.NodeID]*registers
	disks    map[regions.NodeID]*Memory
	change   func(*Config)
	log      *slog.Logger
}

func newGroup(t testing.TB, size int, change func(*Config)) *group {
	g := &group{
		t: t, net: newNetwork(), change: change,
		nodes: map[regions.NodeID]*Node{}, machines: map[regions.NodeID]*registers{}, disks: map[regions.NodeID]*Memory{},
	}
	for i := range size {
		g.ids = append(g.ids, regions.NodeID(fmt.Sprintf("n%d", i+1)))
	}
	return g
}

func (g *group) startAll() *group {
	for _, id := range g.ids {
		g.start(id)
	}
	return g
}

func (g *group) start(id regions.NodeID) *Node {
	g.t.Helper()
	if g.disks[id] == nil {
		g.disks[id] = NewMemory()
	}
	g.machines[id] = newRegisters()
	cfg := Config{
		Self: id, Region: "r", Nodes: g.ids, Memory: g.disks[id], Machine: g.machines[id], Links: endpoint{g.net, id}, Logger: g.log,
	}
	if g.change != nil {
		g.change(&cfg)
	}
	n, err := New(cfg)
	require.NoError(g.t, err)
	require.NoError(g.t, n.Start(context.Background()))
	g.nodes[id] = n
	g.net.set(id, n)
	return n
}

// stop ends a node; its disk stays.
func (g *group) stop(id regions.NodeID) {
	if n := g.nodes[id]; n != nil {
		g.net.set(id, nil)
		n.Stop()
		delete(g.nodes, id)
	}
}

func (g *group) stopAll() {
	for _, id := range g.ids {
		g.stop(id)
	}
	g.net.healAll()
	g.net.work.Wait()
}

// leader waits until a node leads that can say so with a majority.
func (g *group) leader(except ...regions.NodeID) *Node {
	g.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for _, id := range g.ids {
			n := g.nodes[id]
			if n != nil && n.ready.Load() != 0 && n.IsLeader() && !contains(except, id) {
				return n
			}
		}
	}
	require.FailNow(g.t, "no leader")
	return nil
}

func contains(ids []regions.NodeID, id regions.NodeID) bool {
	for _, i := range ids {
		if i == id {
			return true
		}
	}
	return false
}

func (g *group) follower() *Node {
	g.t.Helper()
	lead := g.leader()
	for _, id := range g.ids {
		if n := g.nodes[id]; n != nil && n != lead {
			return n
		}
	}
	require.FailNow(g.t, "no follower")
	return nil
}

func (g *group) put(n *Node, register byte, id, value uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := n.Propose(ctx, put(register, id, value))
	return err
}

func (g *group) read(n *Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return n.Read(ctx)
}

func (g *group) machine(n *Node) *registers { return g.machines[n.cfg.Self] }

// eventually polls: under synctest in no time.
func eventually(t testing.TB, ok func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, what)
		}
	}
}
