package simnet

import (
	"container/heap"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Conn is a UDP socket of which the writes pass through the emulated network.
// It is all that a *net.UDPConn is, so quic-go keeps its batched reads, its
// segmentation offload and its buffer sizes.
type Conn struct {
	*net.UDPConn
	net    *Network
	region string
	local  string
	apart  bool // not counted: it measures

	mu     sync.Mutex
	wire   flight // under way, the earliest first
	bytes  int    // in wire
	seq    uint64
	closed bool

	wake chan struct{} // a new earliest packet, or closed
	done chan struct{} // the deliverer has gone
}

// packet is one datagram, or one GSO batch, under way.
type packet struct {
	due  time.Time
	seq  uint64 // keeps the order of packets due at the same time
	to   netip.AddrPort
	data []byte
	oob  []byte
}

var packets = sync.Pool{New: func() any { return new(packet) }}

func newConn(n *Network, c *net.UDPConn, region, local string) *Conn {
	w := &Conn{
		UDPConn: c, net: n, region: region, local: local,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go w.deliver()
	return w
}

// Close waits until what is under way has been delivered (at most the longest
// delay), as a network would, and closes the socket.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.notify()
	<-c.done
	return c.UDPConn.Close()
}

func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) {
	addr, ok := to.(*net.UDPAddr)
	if !ok {
		return c.UDPConn.WriteTo(b, to)
	}
	return c.WriteToUDPAddrPort(b, addr.AddrPort())
}

func (c *Conn) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) {
	return c.WriteToUDPAddrPort(b, to.AddrPort())
}

func (c *Conn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	n, _, err := c.WriteMsgUDPAddrPort(b, nil, to)
	return n, err
}

func (c *Conn) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (int, int, error) {
	return c.WriteMsgUDPAddrPort(b, oob, to.AddrPort())
}

// WriteMsgUDPAddrPort is where all writes come together.
func (c *Conn) WriteMsgUDPAddrPort(b, oob []byte, to netip.AddrPort) (int, int, error) {
	s := c.net.state.Load()
	key := plain(to)
	region, known := s.places[key]
	size, rest := len(b), oob
	if flow := s.flows[[2]string{c.region, region}]; flow != nil {
		// Counters and chance are for packets, not for batches.
		if size, rest = segment(oob); size == 0 {
			size = max(len(b), 1)
		}
		if !c.apart {
			flow.count((len(b)+size-1)/size, len(b))
		}
	}
	if known && s.cut(c.region, c.local, region, key) {
		c.net.stats.cut.Add(1)
		return len(b), len(oob), nil
	}
	if !known || region == c.region {
		return c.UDPConn.WriteMsgUDPAddrPort(b, oob, to)
	}
	delay := c.net.Delay(c.region, region)
	if c.net.cfg.Loss == 0 && c.net.cfg.Jitter == 0 {
		return len(b), len(oob), c.send(b, oob, to, delay)
	}
	for at := 0; at < len(b); at += size {
		if err := c.chance(b[at:min(at+size, len(b))], rest, to, delay); err != nil {
			return at, 0, err
		}
	}
	return len(b), len(oob), nil
}

func (c *Conn) chance(b, oob []byte, to netip.AddrPort, delay time.Duration) error {
	jitter, lost := c.net.roll()
	if lost {
		c.net.stats.lost.Add(1)
		return nil
	}
	return c.send(b, oob, to, delay+jitter)
}

// send puts one packet on the wire. A full wire drops it silently, as a
// router does.
func (c *Conn) send(b, oob []byte, to netip.AddrPort, delay time.Duration) error {
	p := packets.Get().(*packet)
	p.due, p.to = time.Now().Add(delay), to
	p.data, p.oob = append(p.data[:0], b...), append(p.oob[:0], oob...)

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return net.ErrClosed
	}
	if c.bytes+len(b) > c.net.cfg.QueueBytes {
		c.mu.Unlock()
		packets.Put(p)
		c.net.stats.overflow.Add(1)
		return nil
	}
	c.seq++
	p.seq = c.seq
	c.bytes += len(b)
	heap.Push(&c.wire, p)
	first := c.wire[0] == p
	c.mu.Unlock()

	c.net.stats.delayed.Add(1)
	if first {
		c.notify()
	}
	return nil
}

func (c *Conn) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// deliver hands each packet to the kernel when it is due. It sleeps until
// then: a runtime timer is good to about a millisecond, never early, and an
// idle socket costs nothing.
func (c *Conn) deliver() {
	defer close(c.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var due []*packet
	for {
		var wait time.Duration
		due, wait = c.take(due[:0])
		for _, p := range due {
			// An error here is what a lost packet is to the sender: silence.
			_, _, _ = c.UDPConn.WriteMsgUDPAddrPort(p.data, p.oob, p.to)
			packets.Put(p)
		}
		switch {
		case len(due) > 0:
			continue // writing took time, more may be due
		case wait < 0:
			return
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-c.wake:
		}
	}
}

// take removes the packets that are due, and says how long until the next:
// negative when there will be none.
func (c *Conn) take(due []*packet) ([]*packet, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for len(c.wire) > 0 && len(due) < 64 {
		if wait := c.wire[0].due.Sub(now); wait > 0 {
			return due, wait
		}
		p := heap.Pop(&c.wire).(*packet)
		c.bytes -= len(p.data)
		due = append(due, p)
	}
	if c.closed && len(c.wire) == 0 {
		return due, -1
	}
	return due, time.Hour
}

// flight is a heap by due time.
type flight []*packet

func (f flight) Len() int { return len(f) }
func (f flight) Less(i, j int) bool {
	if f[i].due.Equal(f[j].due) {
		return f[i].seq < f[j].seq
	}
	return f[i].due.Before(f[j].due)
}
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flight) Push(x any)   { *f = append(*f, x.(*packet)) }
func (f *flight) Pop() any {
	old := *f
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*f = old[:len(old)-1]
	return p
}
