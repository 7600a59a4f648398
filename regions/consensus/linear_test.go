package consensus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// access is a read (write 0) or a write of a register.
type access struct {
	register byte
	write    uint64
}

var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[byte][]porcupine.Operation{}
		for _, op := range history {
			r := op.Input.(access).register
			by[r] = append(by[r], op)
		}
		var parts [][]porcupine.Operation
		for _, p := range by {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(access); in.write != 0 {
			return true, in.write
		}
		return output.(uint64) == state.(uint64), state
	},
}

// history collects what clients saw.
type history struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

func (h *history) add(op porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// client reads and writes on any node until ctx ends. A write whose outcome is
// unknown is made again with its id until it is known: to the checker it is
// one operation from the first attempt to the last answer.
func (g *faulty) client(ctx context.Context, id int, rng *rand.Rand, h *history, ids *atomic.Uint64) {
	for ctx.Err() == nil {
		in := access{register: byte(rng.IntN(2))}
		if rng.IntN(2) == 0 {
			in.write = ids.Add(1)
		}
		call := time.Now().UnixNano()
		for {
			n := g.node(rng)
			if n == nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			try, cancel := context.WithTimeout(context.Background(), time.Duration(50+rng.IntN(1000))*time.Millisecond)
			var out uint64
			var err error
			if in.write != 0 {
				_, err = n.Propose(try, put(in.register, in.write, in.write))
			} else if err = n.Read(try); err == nil {
				out = n.fsm.machine.(*registers).get(in.register)
			}
			cancel()
			if err == nil {
				h.add(porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: time.Now().UnixNano()})
				break
			}
			if in.write == 0 { // nothing happened: another read
				call = time.Now().UnixNano()
			}
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
			if g.over.Load() && time.Since(g.ended) > 20*time.Second {
				g.t.Errorf("client %d is stuck: %v", id, err)
				return
			}
		}
		time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
	}
}

// faulty is a group to which things happen.
type faulty struct {
	*group
	mu    sync.Mutex // guards nodes, with group's own methods
	over  atomic.Bool
	ended time.Time
}

func (g *faulty) node(rng *rand.Rand) *Node {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.nodes[g.ids[rng.IntN(len(g.ids))]]
}

// restart holds no lock while it waits: under synctest no time would pass.
func (g *faulty) restart(id regions.NodeID) {
	var n *Node
	g.with(func() {
		n = g.nodes[id]
		delete(g.nodes, id)
	})
	g.net.set(id, nil)
	n.Stop()
	g.with(func() { g.start(id) })
}

func (g *faulty) with(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// fault does one thing, at times undone soon.
func (g *faulty) fault(rng *rand.Rand) string {
	pick := func() regions.NodeID { return g.ids[rng.IntN(len(g.ids))] }
	a, b := pick(), pick()
	var lead *Node
	g.with(func() {
		for _, n := range g.nodes {
			if n.IsLeader() {
				lead = n
			}
		}
	})
	switch what := rng.IntN(7); {
	case what == 0 && lead != nil:
		g.net.isolate(lead.cfg.Self, g.ids...)
		return "leader cut off " + string(lead.cfg.Self)
	case what == 1:
		g.net.isolate(a, g.ids...)
		return "cut off " + string(a)
	case what == 2 && a != b:
		g.net.cut(a, b)
		return fmt.Sprintf("one way %s→%s", a, b)
	case what == 3:
		g.restart(a)
		return "restart " + string(a)
	case what == 4 && lead != nil:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = lead.TransferLeadership(ctx)
		return "transfer"
	case what == 5:
		var n *Node
		g.with(func() { n = g.nodes[a] })
		_ = n.raft.Snapshot().Error()
		return "snapshot " + string(a)
	default:
		g.net.healAll()
		return "heal"
	}
}

// Reads and writes on all nodes, voters and learners, are linearizable
// whatever happens between the nodes, and nothing is applied twice.
func TestLinearizable(t *testing.T) {
	seeds, first := 20, 1
	if s := os.Getenv("MUSTER_SEEDS"); s != "" {
		_, _ = fmt.Sscan(s, &seeds)
	}
	if s := os.Getenv("MUSTER_SEED"); s != "" {
		_, _ = fmt.Sscan(s, &first)
		seeds = 1
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(seed), 1))
				size := []int{3, 5}[seed%2]
				g := &faulty{group: newGroup(t, size, func(c *Config) { c.SnapshotEvery = 200 })}
				g.startAll()
				defer g.stopAll()
				h := &history{}
				var ids atomic.Uint64
				var clients sync.WaitGroup
				ctx, cancel := context.WithCancel(context.Background())
				for c := range 4 {
					clients.Go(func() { g.client(ctx, c, rand.New(rand.NewPCG(uint64(seed), uint64(c+2))), h, &ids) })
				}
				var story []string
				for range 15 {
					time.Sleep(time.Duration(100+rng.IntN(1500)) * time.Millisecond)
					story = append(story, g.fault(rng))
				}
				g.net.healAll()
				time.Sleep(time.Second)
				g.ended = time.Now()
				g.over.Store(true)
				cancel()
				clients.Wait()
				require.Equal(t, porcupine.Ok, porcupine.CheckOperationsTimeout(registerModel, h.ops, time.Minute), "seed %d: %q", seed, story)
				for _, n := range g.nodes {
					require.NoError(t, g.read(n))
					require.Equal(t, ids.Load(), g.machine(n).count(), "each write once")
				}
				t.Logf("seed %d: %d operations, %v", seed, len(h.ops), story)
			})
		})
	}
}
