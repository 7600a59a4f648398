package peerlink

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
)

// inOrder is an onFrame that checks that the numbers in frames have no hole.
func inOrder(t *testing.T, next *atomic.Uint64) func(Peer, []byte) {
	return func(_ Peer, frame []byte) {
		if got, want := binary.BigEndian.Uint64(frame), next.Add(1)-1; got != want {
			t.Errorf("got frame %d, want %d", got, want)
		}
	}
}

func TestOrderAndNoLossUnderLoad(t *testing.T) {
	for _, c := range []struct {
		name string
		net  *simnet.Network
	}{
		{"loopback", nil},
		{"75 ms", simnet.New(simnet.Config{OneWay: func(string, string) time.Duration { return 75 * time.Millisecond / 2 }})},
		{"lossy", simnet.New(simnet.Config{
			OneWay: func(string, string) time.Duration { return 10 * time.Millisecond }, Jitter: 3 * time.Millisecond, Loss: 0.01, Seed: 1,
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t, c.net)
			a, b := m.start("a-1", 1), m.start("b-1", 1)
			var there, back atomic.Uint64
			b.onFrame, a.onFrame = inOrder(t, &there), inOrder(t, &back)
			const count = 20_000
			pump := func(from *node, to regions.NodeID) {
				frame := make([]byte, 200)
				for i := range uint64(count) {
					binary.BigEndian.PutUint64(frame, i)
					if err := from.Send(to, frame); err != nil {
						t.Errorf("send %d: %v", i, err)
						return
					}
				}
			}
			var wg sync.WaitGroup
			wg.Go(func() { pump(a, "b-1") }) // both dial at once
			wg.Go(func() { pump(b, "a-1") })
			wg.Wait()
			eventually(t, func() bool { return there.Load() == count && back.Load() == count }, "%d there, %d back", &there, &back)
			require.Equal(t, []string{"joined b-1/1", "up b-1/1"}, sorted(a.all()))
			require.Zero(t, a.count("down")+b.count("down"))
			status := a.Status()
			require.Len(t, status, 1)
			require.True(t, status[0].Up)
			require.Positive(t, status[0].RTT)
		})
	}
}

func sorted(s []string) []string { slices.Sort(s); return s }

func TestUpComesBeforeWhatItSends(t *testing.T) {
	m := newMesh(t, nil)
	a := m.open("a-1", 7)
	a.onUp = func(Peer) { require.NoError(t, a.Send("b-1", []byte("from up"))) }
	require.NoError(t, a.Start(t.Context()))
	b := m.start("b-1", 9)
	require.NoError(t, a.Send("b-1", []byte("first")))
	b.await(t, "frame a-1/7 from up")
	require.Equal(t, []string{"joined a-1/7", "frame a-1/7 first", "frame a-1/7 from up"}, b.all())
	require.Equal(t, []string{"up b-1/9"}, a.all())
}

func TestFramesWaitForAPeerThatStartsLate(t *testing.T) {
	m := newMesh(t, nil)
	a := m.start("a-1", 1)
	b := m.open("b-1", 1)
	require.NoError(t, a.Send("b-1", []byte("early")))
	require.NoError(t, b.Start(t.Context()))
	b.await(t, "frame a-1/1 early")
	require.Zero(t, a.count("down"))
}

func TestStopIsTold(t *testing.T) {
	m := newMesh(t, nil)
	a, b := m.start("a-1", 1), m.start("b-1", 1)
	require.NoError(t, a.Send("b-1", []byte("x")))
	b.await(t, "frame")
	began := time.Now()
	b.stop()
	require.Less(t, time.Since(began), time.Second)
	a.await(t, "down b-1")
	require.Less(t, time.Since(began), time.Second, "told, not timed out")
	require.ErrorIs(t, a.Send("b-1", []byte("y")), ErrDown)
	require.ErrorIs(t, b.Send("a-1", []byte("y")), ErrStopped)
	require.Equal(t, "left a-1/1", b.all()[len(b.all())-1])

	// It returns as a new incarnation, and the link heals by itself.
	b = m.start("b-1", 2)
	a.await(t, "up b-1/2")
	require.NoError(t, a.Send("b-1", []byte("again")))
	b.await(t, "frame a-1/1 again")
}

func TestKilledPeerIsNoticed(t *testing.T) {
	t.Parallel()
	n := simnet.New(simnet.Config{OneWay: func(string, string) time.Duration { return 5 * time.Millisecond }})
	m := newMesh(t, n)
	a, b := m.start("a-1", 1), m.start("b-1", 1)
	require.NoError(t, a.Send("b-1", []byte("x")))
	require.NoError(t, b.Send("a-1", []byte("x")))
	a.await(t, "frame")
	b.await(t, "frame")
	began := time.Now()
	n.CutBoth("a", "b")
	a.await(t, "down b-1")
	a.await(t, "left b-1")
	b.await(t, "down a-1")
	b.await(t, "left a-1")
	took := time.Since(began)
	t.Logf("noticed after %v", took)
	require.Greater(t, took, idleTimeout-2*keepAlive)
	require.Less(t, took, idleTimeout+3*time.Second)
	n.Heal()
	eventually(t, func() bool { return a.count("up b-1") == 2 && b.count("up a-1") == 2 }, "not healed: %v; %v", a, b)
}

func TestRestartedPeerIsNoticedAtOnce(t *testing.T) {
	t.Parallel()
	m := newMesh(t, nil)
	a, b := m.start("a-1", 1), m.start("b-1", 1)
	require.NoError(t, a.Send("b-1", []byte("x")))
	b.await(t, "frame")
	identity := b.cfg.Identity
	b.kill()
	require.Zero(t, a.count("down"))
	began := time.Now()
	m.start("b-1", 2, withIdentity(identity))
	// The next keep-alive meets a stateless reset.
	a.await(t, "up b-1/2")
	require.Less(t, time.Since(began), idleTimeout)
}

func TestNewerIncarnationReplacesAndFences(t *testing.T) {
	m := newMesh(t, nil)
	b := m.start("b-1", 1)
	old := m.start("a-1", 1)
	require.NoError(t, old.Send("b-1", []byte("old")))
	old.datagram(t, "b-1", []byte("old"))
	b.await(t, "frame a-1/1 old")
	b.await(t, "datagram a-1")

	// The same node again, elsewhere: the old process is still alive.
	m.mu.Lock()
	delete(m.addrs, "a-1")
	m.mu.Unlock()
	young := m.start("a-1", 2)
	require.NoError(t, young.Send("b-1", []byte("new")))
	b.await(t, "frame a-1/2 new")
	old.await(t, "down b-1")
	// It tries again, and is refused.
	eventually(t, func() bool { return old.Send("b-1", []byte("zombie")) == ErrDown }, "old still up")
	never(t, 500*time.Millisecond, func() bool { return old.count("up") > 1 || b.count("joined a-1/1") > 1 })
	require.Equal(t, []string{"joined a-1/1", "frame a-1/1 old", "left a-1/1", "joined a-1/2", "frame a-1/2 new"},
		slices.DeleteFunc(b.all(), func(s string) bool { return strings.HasPrefix(s, "datagram") }))
}

func never(t *testing.T, for_ time.Duration, bad func() bool) {
	t.Helper()
	for end := time.Now().Add(for_); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		require.False(t, bad())
	}
}

func TestReplacingWaitsForTheOlderLinksFrame(t *testing.T) {
	m := newMesh(t, nil)
	release := make(chan struct{})
	b := m.open("b-1", 1)
	b.onFrame = func(p Peer, frame []byte) {
		b.add("begin %d", p.Incarnation)
		if p.Incarnation == 1 {
			<-release
		}
		b.add("end %d", p.Incarnation)
	}
	require.NoError(t, b.Start(t.Context()))
	old := m.start("a-1", 1)
	require.NoError(t, old.Send("b-1", []byte("1")))
	require.NoError(t, old.Send("b-1", []byte("2")))
	b.await(t, "begin 1")
	m.mu.Lock()
	delete(m.addrs, "a-1")
	m.mu.Unlock()
	young := m.start("a-1", 2)
	require.NoError(t, young.Send("b-1", []byte("3")))
	old.await(t, "down b-1")
	require.Zero(t, b.count("joined a-1/2"))
	close(release)
	b.await(t, "end 2")
	require.Equal(t, []string{"joined a-1/1", "begin 1", "end 1", "left a-1/1", "joined a-1/2", "begin 2", "end 2"}, b.all())
}

func TestBigFrames(t *testing.T) {
	m := newMesh(t, nil)
	a, b := m.start("a-1", 1), m.start("b-1", 1)
	var got atomic.Int64
	b.onFrame = func(_ Peer, frame []byte) {
		if !bytes.Equal(frame, bytes.Repeat([]byte{byte(len(frame))}, len(frame))) {
			t.Errorf("frame of %d bytes is damaged", len(frame))
		}
		got.Add(1)
	}
	sizes := []int{0, 1, 127, 128, 65_535, readBuffer, readBuffer + 1, 1 << 20, MaxFrame, 3}
	for _, size := range sizes {
		eventually(t, func() bool { // the queue holds one of the largest
			return a.links("b-1") == 0
		}, "queue does not drain")
		require.NoError(t, a.Send("b-1", bytes.Repeat([]byte{byte(size)}, size)))
	}
	eventually(t, func() bool { return got.Load() == int64(len(sizes)) }, "got %d", &got)
	require.ErrorIs(t, a.Send("b-1", make([]byte, MaxFrame+1)), ErrTooLarge)
	require.Zero(t, a.count("down"))
}

// links returns the bytes that wait for a peer.
func (n *node) links(to regions.NodeID) int {
	n.Links.mu.RLock()
	out := n.peers[to]
	n.Links.mu.RUnlock()
	if out == nil {
		return 0
	}
	out.events.mu.Lock()
	defer out.events.mu.Unlock()
	return out.events.bytesHeld
}

func TestSlowReaderOverflowsAndRecovers(t *testing.T) {
	m := newMesh(t, nil)
	a := m.start("a-1", 1, func(c *Config) { c.QueueBytes = 1 << 20 })
	release := make(chan struct{})
	b := m.open("b-1", 1)
	b.onFrame = func(Peer, []byte) { <-release }
	require.NoError(t, b.Start(t.Context()))
	frame := make([]byte, 32<<10)
	require.NoError(t, a.Send("b-1", frame))
	b.await(t, "joined a-1")
	eventually(t, func() bool { return errors.Is(a.Send("b-1", frame), ErrOverflow) }, "never full")
	a.await(t, "down b-1: "+ErrOverflow.Error())
	close(release)
	eventually(t, func() bool { return a.count("up") >= 2 && b.count("joined") >= 2 }, "not up again: %v", a)
	require.GreaterOrEqual(t, b.count("left"), 1)
}

func TestSlowReaderOfOnePeerHoldsUpNobodyElse(t *testing.T) {
	m := newMesh(t, nil)
	release := make(chan struct{})
	defer close(release)
	b := m.open("b-1", 1)
	b.onFrame = func(p Peer, _ []byte) {
		if p.Node == "a-1" {
			<-release
		}
		b.add("done %s", p.Node)
	}
	require.NoError(t, b.Start(t.Context()))
	a, c := m.start("a-1", 1), m.start("c-1", 1)
	require.NoError(t, a.Send("b-1", []byte("stuck")))
	b.await(t, "joined a-1")
	require.NoError(t, c.Send("b-1", []byte("free")))
	b.await(t, "done c-1")
	a.datagram(t, "b-1", []byte("other class"))
	b.await(t, "datagram a-1")
}

func TestDatagrams(t *testing.T) {
	m := newMesh(t, nil)
	a, b := m.start("a-1", 1), m.start("b-1", 1)
	require.ErrorIs(t, a.SendDatagram("b-1", []byte("too early")), ErrDown, "what waits for a dial would be old when it leaves")
	a.datagram(t, "b-1", bytes.Repeat([]byte("x"), MaxDatagram))
	b.await(t, "datagram a-1 xxx")
	require.ErrorIs(t, a.SendDatagram("b-1", make([]byte, MaxDatagram+1)), ErrTooLarge)
	require.Zero(t, b.count("joined"), "datagrams have a connection of their own")
}

func TestDatagramQueueDropsTheOldest(t *testing.T) {
	m := newMesh(t, nil)
	a := m.start("a-1", 1, func(c *Config) { c.QueueDatagrams = 3 })
	d := newDatagramsLink(a.Links, "b-1")
	d.accepting = true
	for i := range 5 {
		require.NoError(t, d.push(fmt.Appendf(nil, "%d", i)))
	}
	var got []string
	var frame []byte
	for ok := true; ok; {
		if frame, ok = d.pop(frame); ok {
			got = append(got, string(frame))
		}
	}
	require.Equal(t, []string{"2", "3", "4"}, got)
}

func TestCalls(t *testing.T) {
	m := newMesh(t, nil)
	a, b := m.start("a-1", 1), m.open("b-1", 1)
	ended := make(chan error, 1)
	b.onCall = func(ctx context.Context, from Peer, frame []byte) ([]byte, error) {
		switch string(frame) {
		case "known":
			return nil, errs.New(errs.Forbidden, "not_member", "join first")
		case "unknown":
			return nil, errors.New("disk on fire")
		case "wait":
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}
		return append([]byte(from.Node+":"), frame...), nil
	}
	require.NoError(t, b.Start(t.Context()))

	answer, err := a.Call(t.Context(), "b-1", []byte("hi"))
	require.NoError(t, err)
	require.Equal(t, "a-1:hi", string(answer))

	big := bytes.Repeat([]byte("z"), 1<<20)
	answer, err = a.Call(t.Context(), "b-1", big)
	require.NoError(t, err)
	require.Len(t, answer, len(big)+4)

	_, err = a.Call(t.Context(), "b-1", []byte("known"))
	var known *errs.Error
	require.ErrorAs(t, err, &known)
	require.Equal(t, errs.Error{Kind: errs.Forbidden, Code: "not_member", Message: "join first"}, *known)

	_, err = a.Call(t.Context(), "b-1", []byte("unknown"))
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	require.Equal(t, RemoteError{"b-1", "disk on fire"}, *remote)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = a.Call(ctx, "b-1", []byte("wait"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, <-ended, context.Canceled, "the peer is told")

	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err = a.Call(ctx, "b-1", []byte("wait"))
	require.ErrorIs(t, err, context.Canceled)
	<-ended

	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			_, err := a.Call(t.Context(), "b-1", []byte("many"))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()

	// A call under way when the peer stops fails; so does one to a dead peer.
	time.AfterFunc(20*time.Millisecond, b.stop)
	_, err = a.Call(t.Context(), "b-1", []byte("wait"))
	require.Error(t, err)
	_, err = a.Call(t.Context(), "b-1", []byte("hi"))
	require.ErrorIs(t, err, ErrDown)
}

func TestWhoMayNotBeSpokenTo(t *testing.T) {
	m := newMesh(t, nil)
	a := m.open("a-1", 1)
	require.ErrorIs(t, a.Send("b-1", nil), ErrStopped)
	require.NoError(t, a.Start(t.Context()))
	require.ErrorIs(t, a.Send("a-1", nil), ErrSelf)
	require.ErrorIs(t, a.SendDatagram("a-1", nil), ErrSelf)
	_, err := a.Call(t.Context(), "a-1", nil)
	require.ErrorIs(t, err, ErrSelf)
	require.ErrorIs(t, a.Send("nobody-1", nil), ErrUnknownPeer)
}

func TestStopLeaksNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	m := newMesh(t, nil)
	nodes := []*node{m.start("a-1", 1), m.start("b-1", 1), m.start("c-1", 1)}
	for _, n := range nodes {
		n.onCall = func(context.Context, Peer, []byte) ([]byte, error) { return nil, nil }
	}
	for _, from := range nodes {
		for _, to := range nodes {
			if from == to {
				continue
			}
			id := to.cfg.Self
			require.NoError(t, from.Send(id, []byte("x")))
			from.datagram(t, id, []byte("x"))
			_, err := from.Call(t.Context(), id, []byte("x"))
			require.NoError(t, err)
		}
	}
	for _, n := range nodes {
		eventually(t, func() bool { return n.count("up") == 2 && n.count("joined") == 2 }, "not all up: %v", n)
	}
	m.mu.Lock()
	m.addrs["dead-1"] = "127.0.0.1:9" // one that is being dialled in vain
	m.mu.Unlock()
	require.NoError(t, nodes[0].Send("dead-1", []byte("x")))
	began := time.Now()
	for _, n := range nodes {
		n.stop()
		n.Stop()
	}
	require.Less(t, time.Since(began), time.Second)
	for _, n := range nodes {
		require.Equal(t, n.count("up")+n.count("down dead-1"), n.count("down"), "one Down per Up: %v", n)
		require.Equal(t, n.count("joined"), n.count("left"))
	}
	eventually(t, func() bool { return runtime.NumGoroutine() <= before }, "%d goroutines before, now more:\n%s", before, lazyStacks{})
}

type lazyStacks struct{}

func (lazyStacks) String() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

// What the link itself adds, on an idle connection, is a matter of
// microseconds; the bound leaves room for a busy test machine.
func TestLinkAddsLittleToTheNetwork(t *testing.T) {
	const oneWay = 37 * time.Millisecond
	m := newMesh(t, simnet.New(simnet.Config{OneWay: func(string, string) time.Duration { return oneWay }}))
	a, b := m.start("a-1", 1), m.start("b-1", 1)
	start := time.Now()
	var mu sync.Mutex
	var added []time.Duration
	b.onFrame = func(_ Peer, frame []byte) {
		mu.Lock()
		defer mu.Unlock()
		sent := time.Duration(binary.BigEndian.Uint64(frame))
		added = append(added, time.Since(start)-sent-oneWay)
	}
	const count = 200
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	require.NoError(t, a.Send("b-1", make([]byte, 200)))
	a.await(t, "up")
	for range count {
		<-tick.C
		frame := make([]byte, 200)
		binary.BigEndian.PutUint64(frame, uint64(time.Since(start)))
		require.NoError(t, a.Send("b-1", frame))
	}
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(added) == count+1 }, "frames missing")
	added = added[1:] // it waited for the handshake
	slices.Sort(added)
	t.Logf("added: p50 %v p99 %v", added[count/2], added[count*99/100])
	require.Less(t, added[count/2], 10*time.Millisecond)
}
