package peerlink

import (
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// A region that a node doesn't know yet knocks in vain until it does, and one
// that is taken away is hung up on.
func TestStrangers(t *testing.T) {
	m := newMesh(t, nil)
	var known atomic.Bool
	b := m.start("b-1", 1, func(c *Config) {
		c.Regions = func(r regions.RegionID) bool { return r != "a" || known.Load() }
		peers := c.Peers
		c.Peers = func(n regions.NodeID) (string, regions.RegionID, bool) {
			addr, region, ok := peers(n)
			return addr, region, ok && c.Regions(region)
		}
	})
	a := m.start("a-1", 1, func(c *Config) { c.Addrs = Addrs{Peer: "a.example:7000", WS: "wss://a.example/ws"} })
	require.NoError(t, a.Send("b-1", []byte("x")))
	a.await(t, "down b-1: dial b-1: "+ErrStranger.Error())
	require.ErrorIs(t, b.Send("a-1", []byte("x")), ErrUnknownPeer)
	require.Zero(t, a.count("up")+b.count("joined"))

	known.Store(true)
	b.Prune()
	a.await(t, "up b-1/1")
	require.NoError(t, b.Send("a-1", []byte("x")))
	b.await(t, "up a-1/1")
	b.await(t, "joined a-1/1")
	b.inboundOf(func(in *[classes]*incoming) { require.Equal(t, a.cfg.Addrs, in[events].peer.Addrs) })

	known.Store(false)
	b.Prune()
	a.await(t, "down b-1: ")
	b.await(t, "left a-1/1")
	b.await(t, "down a-1")
	never(t, 300*time.Millisecond, func() bool { return a.count("up") > 1 || b.count("joined") > 1 })

	known.Store(true)
	b.Prune()
	eventually(t, func() bool { return a.count("up b-1") == 2 && b.count("up a-1") == 2 }, "not up again: %v; %v", a, b)
}

func (n *node) inboundOf(f func(in *[classes]*incoming)) {
	n.Links.mu.Lock()
	defer n.Links.mu.Unlock()
	f(n.inbound["a-1"])
}

// Nodes that are gone for good leave nothing behind, and can come back.
func TestNodesAreForgotten(t *testing.T) {
	m := newMesh(t, nil)
	var gone atomic.Bool
	a := m.start("a-1", 1, func(c *Config) {
		peers := c.Peers
		c.Peers = func(n regions.NodeID) (string, regions.RegionID, bool) {
			addr, region, ok := peers(n)
			return addr, region, ok && !gone.Load()
		}
	})
	a.forget = 0
	b := m.start("b-1", 1)
	require.NoError(t, a.Send("b-1", []byte("x")))
	a.await(t, "up b-1/1")
	require.ErrorIs(t, a.SendDatagram("b-1", []byte("x")), ErrDown, "it is being dialled")
	gone.Store(true)
	a.Prune()
	eventually(t, func() bool {
		a.Links.mu.Lock()
		defer a.Links.mu.Unlock()
		return len(a.Links.peers) == 0
	}, "still there")
	gone.Store(false)
	require.NoError(t, a.Send("b-1", []byte("y")))
	b.await(t, "frame a-1/1 y")
}

// What comes to the port and is no QUIC, nor a probe, is of no consequence; an
// answer is never longer than its question.
func TestProbesOfStrangers(t *testing.T) {
	m := newMesh(t, nil)
	b := m.start("b-1", 1)
	addr, _, _ := m.peers("b-1")
	c, err := net.Dial("udp", addr)
	require.NoError(t, err)
	defer c.Close()
	for _, packet := range [][]byte{{}, {1}, {2}, make([]byte, probeSize), append([]byte{2}, make([]byte, probeSize-1)...), append([]byte{1}, make([]byte, 1000)...)} {
		_, err := c.Write(packet)
		require.NoError(t, err)
	}
	p := probes{origin: time.Now()}
	answer := make([]byte, 2000)
	read := func(within time.Duration) (int, error) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(within)))
		return c.Read(answer)
	}
	require.Eventually(t, func() bool { // what comes before it listens for probes is lost
		_, err := c.Write(p.ping(6))
		require.NoError(t, err)
		_, err = read(100 * time.Millisecond)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	for err := error(nil); err == nil; {
		_, err = read(300 * time.Millisecond)
	}

	_, err = c.Write(p.ping(7))
	require.NoError(t, err)
	n, err := read(5 * time.Second)
	require.NoError(t, err)
	require.Equal(t, probePong, answer[0])
	require.Equal(t, probeSize, n)
	_, err = read(100 * time.Millisecond)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "one answer")

	a := m.start("a-1", 1)
	require.NoError(t, a.Send("b-1", []byte("x")))
	b.await(t, "frame a-1/1 x")
}

// What a pair of nodes that says nothing costs, and a peer that is gone.
func TestIdleCost(t *testing.T) {
	t.Parallel()
	m := newMesh(t, nil)
	var sent atomic.Int64
	count := func(c *Config) { c.Conn = &counted{c.Conn.(*net.UDPConn), &sent} }
	a, b := m.start("a-1", 1, count), m.start("b-1", 1, count)
	b.onCall, a.onCall = echoCall, echoCall
	for _, x := range []struct {
		n  *node
		to regions.NodeID
	}{{a, "b-1"}, {b, "a-1"}} {
		require.NoError(t, x.n.Send(x.to, []byte("x")))
		x.n.datagram(t, x.to, []byte("x"))
		_, err := x.n.Call(t.Context(), x.to, []byte("x"))
		require.NoError(t, err)
	}
	time.Sleep(2 * time.Second) // path MTU discovery
	measure := func() float64 {
		const d = 4 * time.Second
		was := sent.Load()
		time.Sleep(d)
		return float64(sent.Load()-was) / d.Seconds()
	}
	idle := measure()
	b.kill()
	a.await(t, "down b-1")
	time.Sleep(time.Second)
	alone := measure()
	t.Logf("two nodes of two regions with all links in both directions: %.1f packets/s; a node alone, of a peer that is gone: %.1f packets/s", idle, alone)
	require.Less(t, idle, 6*2*1.5/keepAlive.Seconds())
	require.Less(t, alone, 3*3/probeEvery.Seconds())
}

// counted is a socket without batches that counts what it sends.
type counted struct {
	*net.UDPConn
	sent *atomic.Int64
}

func (c *counted) WriteTo(b []byte, to net.Addr) (int, error) {
	c.sent.Add(1)
	return c.UDPConn.WriteTo(b, to)
}

func (c *counted) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (int, int, error) {
	c.sent.Add(1)
	return c.UDPConn.WriteMsgUDP(b, oob, to)
}
