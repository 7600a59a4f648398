package session

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/regions"
)

// quiet is a connection that says what it is given and then nothing.
type quiet struct {
	first *wire.ClientFrame
	sent  chan struct{}
	until chan struct{}
}

func (q *quiet) Serve(h transport.Handler) error {
	h(q.first, q.first.SizeVT(), nil)
	q.first = nil
	<-q.until
	return nil
}

func (q *quiet) Send(*edge.Frame)          { q.sent <- struct{}{} }
func (q *quiet) Close(*wire.Close)         {}
func (q *quiet) Transport() wire.Transport { return wire.Transport_WEBSOCKET }
func (q *quiet) Remote() netip.Addr        { return netip.Addr{} }

// nowhere is a region that remembers nothing, and nobody a hub that doesn't.
type nowhere struct{ seat }

func (n nowhere) Open(_ context.Context, o regions.Opening) (regions.Opened, error) {
	return regions.Opened{Epoch: regions.Epoch(o.Connection)}, nil
}
func (n nowhere) Enter(context.Context, regions.SessionID, ...string) error { return nil }
func (n nowhere) Suspend(regions.SessionID)                                 {}

type nobody struct{ *rooms }

var snapshot = edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{}}})

func (nobody) Join(c edge.Client, _ edge.Join) { c.Deliver(snapshot) }
func (nobody) Suspend(edge.Client)             {}

// A session at rest, in one room, with its place in the tables, its timer and
// its reader's goroutine, but without connection and hub.
func TestIdleMemory(t *testing.T) {
	w := newWorld(t, Config{})
	const sessions = 1000
	idle := func() (heap, stack uint64) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, m.StackInuse
	}
	w.Registry.deps.Roster = nowhere{seat{w.region, "n1"}}
	w.Registry.deps.Hub = nobody{w.hub}
	sent, until := make(chan struct{}, 3*sessions), make(chan struct{})
	heap, stack := idle()
	for i := range sessions {
		first := hello(fmt.Sprintf("user%d l%d", i, i), "phone", roomA)
		c := &quiet{first: first, sent: sent, until: until}
		handle, over := w.Accept(c)
		go func() { over(c.Serve(handle)) }()
		<-sent // Welcome
		<-sent // Snapshot
	}
	require.Eventually(t, func() bool { return w.Len() == sessions }, 10*time.Second, time.Millisecond)
	heapAfter, stackAfter := idle()
	t.Logf("%d B heap and %d B stack a session", (heapAfter-heap)/sessions, (stackAfter-stack)/sessions)
	require.Less(t, (heapAfter-heap)/sessions, uint64(2000))
	close(until)
	w.Stop()
}
