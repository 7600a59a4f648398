package sfu_test

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// link is a client's socket with a bad network behind it: it loses packets at random,
// both ways, and lets through what a rate allows, with a queue, towards the client.
type link struct {
	mu    sync.Mutex // guards the following
	rng   *rand.Rand
	loss  float64
	rate  float64 // bit/s towards the client; 0: all
	queue time.Duration
	free  time.Time // when the link has sent what it has
}

func newLink(seed uint64) *link {
	return &link{rng: rand.New(rand.NewPCG(seed, 3)), queue: 200 * time.Millisecond}
}

func (l *link) set(loss, rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loss, l.rate = loss, rate
}

func (l *link) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Float64() < l.loss
}

// options has each connection of a client use its own socket behind the link.
func (l *link) options(t testing.TB) sfutest.Options {
	return sfutest.Options{Conn: func() net.PacketConn {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		require.NoError(t, err)
		require.NoError(t, c.SetReadBuffer(4<<20))
		t.Cleanup(func() { c.Close() })
		return &linkConn{UDPConn: c, l: l}
	}}
}

type linkConn struct {
	*net.UDPConn
	l *link
}

func (c *linkConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, a, err := c.UDPConn.ReadFrom(b)
		if err != nil {
			return n, a, err
		}
		if c.l.lost() {
			continue
		}
		if !c.l.through(n) {
			continue
		}
		return n, a, nil
	}
}

// through waits as long as a packet takes; false: the queue is full.
func (l *link) through(n int) bool {
	l.mu.Lock()
	if l.rate == 0 {
		l.mu.Unlock()
		return true
	}
	now := time.Now()
	// Sleep wakes late: what it lost of the rate comes later, within limits.
	if credit := now.Add(-8 * time.Millisecond); l.free.Before(credit) {
		l.free = credit
	}
	if l.free.Sub(now) > l.queue {
		l.mu.Unlock()
		return false
	}
	l.free = l.free.Add(time.Duration(float64(n*8) / l.rate * float64(time.Second)))
	wait := l.free.Sub(now)
	l.mu.Unlock()
	if wait > time.Millisecond {
		time.Sleep(wait)
	}
	return true
}

func (c *linkConn) WriteTo(b []byte, a net.Addr) (int, error) {
	if c.l.lost() {
		return len(b), nil
	}
	return c.UDPConn.WriteTo(b, a)
}
