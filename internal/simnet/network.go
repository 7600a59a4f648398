// Package simnet emulates a wide-area network between the nodes of one
// process, or of several on one machine: it wraps UDP sockets so that what is
// sent to another region arrives as late as it would in the world.
//
// The delay is added where a packet is sent, so receiving keeps all the
// kernel's speed (recvmmsg), and a batch that quic-go hands over for
// segmentation offload (GSO) travels as one. A packet within its own region
// goes straight to the kernel; a socket that isn't wrapped costs nothing.
// The kernels we run on have no netem; this needs neither it nor root.
//
//	n := simnet.New(simnet.Config{Seed: 1})
//	n.Place(peerAddr, "us-east")              // who is where
//	conn := n.Wrap(udpConn, "eu-west")        // hand it to quic.Transport
//	n.Cut("eu-west", "us-east")               // from now on, one way
//	n.Heal()
//
// Order is kept between two sockets as long as there is no jitter. Each
// wrapped socket holds at most Config.QueueBytes under way and drops what
// comes on top, as a router does, and counts it.
//
// A benchmark that wants to know what the product adds over the link itself
// measures the bare link in the same run with Network.Echo.
package simnet

import (
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Config describes a network; the zero value has the published delays, no
// jitter and no loss.
type Config struct {
	// OneWay is the delay from one region to another; nil means half of RTT.
	OneWay func(from, to string) time.Duration
	// Jitter is the most that is added to a packet's delay, uniformly. It
	// reorders packets, as the Internet does.
	Jitter time.Duration
	// Loss is the share of packets between regions that vanish, 0 to 1.
	Loss float64
	// Seed makes jitter and loss repeatable.
	Seed uint64
	// QueueBytes bounds what is under way per socket; 0 means 16 MiB, more
	// than 100 ms at 1 Gbit/s.
	QueueBytes int
}

// Network knows who is where and what happens between them.
type Network struct {
	cfg   Config
	state atomic.Pointer[state] // read per packet; replaced as a whole
	mu    sync.Mutex            // guards replacing state, and rng
	rng   *rand.Rand
	stats struct{ delayed, lost, cut, overflow atomic.Uint64 }
}

// state is never changed once it is stored.
type state struct {
	places map[netip.AddrPort]string
	cuts   map[[2]string]bool // from → to; each a region or an address
	flows  map[[2]string]*flow

	replaced chan struct{} // closed when another state is
}

// flow counts what one region sends to another.
type flow struct{ packets, bytes atomic.Uint64 }

func (f *flow) count(packets, size int) {
	f.packets.Add(uint64(packets))
	f.bytes.Add(uint64(size))
}

// Stats counts packets since New (a GSO batch counts once).
type Stats struct {
	Delayed  uint64 // sent over an emulated link
	Lost     uint64 // by Config.Loss
	Cut      uint64 // by Network.Cut
	Overflow uint64 // by Config.QueueBytes
}

// Traffic is what one region sent to another since New: UDP payload, which on a
// wire has 28 bytes of IPv4 and UDP headers more per packet.
type Traffic struct {
	Packets, Bytes uint64
}

// Less is the traffic since an earlier reading.
func (t Traffic) Less(earlier Traffic) Traffic {
	return Traffic{t.Packets - earlier.Packets, t.Bytes - earlier.Bytes}
}

// New makes a network without places.
func New(cfg Config) *Network {
	if cfg.OneWay == nil {
		cfg.OneWay = func(from, to string) time.Duration { return RTT(from, to) / 2 }
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = 16 << 20
	}
	n := &Network{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x5eed))}
	n.state.Store(&state{replaced: make(chan struct{})})
	return n
}

// Place says that addr is in region. Packets to addresses without a place are
// not touched.
func (n *Network) Place(addr netip.AddrPort, region string) {
	n.change(func(s *state) { s.places[plain(addr)] = region })
}

// Cut drops everything sent from one end to the other, one way; ends are
// regions or addresses ("127.0.1.2:7000"). What is under way still arrives.
func (n *Network) Cut(from, to string) {
	n.change(func(s *state) { s.cuts[[2]string{from, to}] = true })
}

// CutBoth cuts both ways.
func (n *Network) CutBoth(a, b string) {
	n.Cut(a, b)
	n.Cut(b, a)
}

// Mend ends one cut, one way.
func (n *Network) Mend(from, to string) {
	n.change(func(s *state) { delete(s.cuts, [2]string{from, to}) })
}

// IsCut reports whether Cut(from, to) is in force.
func (n *Network) IsCut(from, to string) bool { return n.state.Load().cuts[[2]string{from, to}] }

// Heal ends all cuts.
func (n *Network) Heal() { n.change(func(s *state) { clear(s.cuts) }) }

// Delay is the one-way delay from a to b, without jitter.
func (n *Network) Delay(a, b string) time.Duration {
	if a == b {
		return 0
	}
	return n.cfg.OneWay(a, b)
}

// Stats returns the counters.
func (n *Network) Stats() Stats {
	return Stats{n.stats.delayed.Load(), n.stats.lost.Load(), n.stats.cut.Load(), n.stats.overflow.Load()}
}

// Traffic returns what every region sent to every other one, by (from, to).
// What was cut, lost or dropped was sent too.
func (n *Network) Traffic() map[[2]string]Traffic {
	all := map[[2]string]Traffic{}
	for key, f := range n.state.Load().flows {
		all[key] = Traffic{f.packets.Load(), f.bytes.Load()}
	}
	return all
}

// Wrap puts a socket into a region, and its address with it. The wrapped
// socket takes over c: close only it.
func (n *Network) Wrap(c *net.UDPConn, region string) *Conn {
	local := plain(c.LocalAddr().(*net.UDPAddr).AddrPort())
	n.Place(local, region)
	return newConn(n, c, region, local.String())
}

func (n *Network) change(f func(*state)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.state.Load()
	next := &state{places: maps.Clone(old.places), cuts: maps.Clone(old.cuts), flows: old.flows, replaced: make(chan struct{})}
	if next.places == nil {
		next.places = map[netip.AddrPort]string{}
	}
	if next.cuts == nil {
		next.cuts = map[[2]string]bool{}
	}
	f(next)
	next.connect()
	n.state.Store(next)
	close(old.replaced)
}

// connect makes counters for the pairs of regions that have none.
func (s *state) connect() {
	flows := maps.Clone(s.flows)
	if flows == nil {
		flows = map[[2]string]*flow{}
	}
	regions := map[string]bool{}
	for _, r := range s.places {
		regions[r] = true
	}
	for a := range regions {
		for b := range regions {
			if key := [2]string{a, b}; a != b && flows[key] == nil {
				flows[key] = &flow{}
			}
		}
	}
	s.flows = flows
}

// roll returns what chance adds to one packet.
func (n *Network) roll() (jitter time.Duration, lost bool) {
	if n.cfg.Jitter == 0 && n.cfg.Loss == 0 {
		return 0, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cfg.Jitter > 0 {
		jitter = time.Duration(n.rng.Int64N(int64(n.cfg.Jitter)))
	}
	return jitter, n.rng.Float64() < n.cfg.Loss
}

func (s *state) cut(from, fromAddr, to string, toAddr netip.AddrPort) bool {
	if len(s.cuts) == 0 {
		return false
	}
	addr := toAddr.String()
	return s.cuts[[2]string{from, to}] || s.cuts[[2]string{from, addr}] ||
		s.cuts[[2]string{fromAddr, to}] || s.cuts[[2]string{fromAddr, addr}]
}

// plain makes an IPv4 address read from a dual-stack socket comparable.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
