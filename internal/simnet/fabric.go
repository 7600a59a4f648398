package simnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// What the links of a Fabric fail with, as those of regions/peerlink do.
var (
	// ErrDown: the link is down.
	ErrDown = errors.New("simnet: link is down")
	// ErrUnsent comes with ErrDown when the peer has seen nothing of the request.
	ErrUnsent = errors.New("simnet: the peer was not reached")
	// ErrReset: the other end of a connection is gone.
	ErrReset = errors.New("simnet: connection reset")
	// ErrKilled: this process was killed.
	ErrKilled = errors.New("simnet: killed")
)

// Times of the links, those of regions/peerlink.
const (
	eventsIdle    = 2*time.Second + keepAlive // a silent events link is dead after, at most
	controlIdle   = time.Second               // likewise a control link, and one attempt to dial it
	dialWait      = 2 * time.Second           // of the first attempt
	controlRedial = 250 * time.Millisecond
	redialMin     = 50 * time.Millisecond
	probeEvery    = 200 * time.Millisecond // while a peer can't be reached
	keepAlive     = 500 * time.Millisecond
	laneBytes     = 8 << 20 // wait on one connection; more break it
	streamBytes   = 1 << 20 // wait on one stream; more wait for the reader
)

// FabricConfig describes a Fabric; the zero value has the published delays.
type FabricConfig struct {
	// OneWay is the delay between two places; nil means half of RTT. Within a
	// place it is Local, 250 µs if zero.
	OneWay func(from, to string) time.Duration
	Local  time.Duration
	Jitter time.Duration // the most that is added to a delay; order is kept where it is promised
	Loss   float64       // the share of datagrams that vanish, 0 to 1
	Seed   uint64
}

// Peer is a process in one of its lives.
type Peer struct {
	Name, Place string
	Incarnation uint64
}

// Handler is what a host's links and connections are for. The order of calls
// is that of peerlink.Handler.
type Handler interface {
	Up(to Peer)
	Down(to string, reason error)
	Joined(from Peer)
	Frame(from Peer, frame []byte)
	Left(from Peer)
	Datagram(from Peer, frame []byte)
	Call(ctx context.Context, from Peer, frame []byte) ([]byte, error)
	Stream(ctx context.Context, from Peer, s io.ReadWriter) error
	// Accept runs a client's connection until it is over.
	Accept(c *Pipe)
}

// Fabric is a network in memory: everything that the nodes of a mesh and their
// clients say to each other, without sockets, so that it runs under
// testing/synctest. It has the faults of a network, and those of processes as
// far as the network shows them: a host can be killed, and held, which is how
// the others see a process that is stopped and continued.
//
// Where a way is cut, what goes there waits as QUIC and TCP would send it
// again: it arrives when the way heals, unless the link was given up before.
// Datagrams vanish.
type Fabric struct {
	cfg FabricConfig

	mu      sync.Mutex // guards the following
	hosts   map[string]*Host
	cuts    map[[2]string]bool
	held    map[string]bool
	changed chan struct{} // closed and replaced when any of these changed
	rng     *rand.Rand
}

// NewFabric makes a network without hosts.
func NewFabric(cfg FabricConfig) *Fabric {
	if cfg.OneWay == nil {
		cfg.OneWay = func(from, to string) time.Duration { return RTT(from, to) / 2 }
	}
	if cfg.Local == 0 {
		cfg.Local = 250 * time.Microsecond
	}
	return &Fabric{
		cfg: cfg, hosts: map[string]*Host{}, cuts: map[[2]string]bool{}, held: map[string]bool{},
		changed: make(chan struct{}), rng: rand.New(rand.NewPCG(cfg.Seed, 0xfab)),
	}
}

// Cut stops everything from one host to another, one way.
func (f *Fabric) Cut(from, to string) { f.change(func() { f.cuts[[2]string{from, to}] = true }) }

// Mend ends a cut.
func (f *Fabric) Mend(from, to string) { f.change(func() { delete(f.cuts, [2]string{from, to}) }) }

// Hold keeps everything that goes into a host and comes out of it, until
// Release. The host's clocks go on.
func (f *Fabric) Hold(host string) { f.change(func() { f.held[host] = true }) }

// Release ends a Hold: all that was kept arrives at once.
func (f *Fabric) Release(host string) { f.change(func() { delete(f.held, host) }) }

// Heal ends all cuts and holds.
func (f *Fabric) Heal() {
	f.change(func() {
		clear(f.cuts)
		clear(f.held)
	})
}

func (f *Fabric) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

// open reports whether what is sent from a to b arrives now, and a channel that
// is closed when that may have changed.
func (f *Fabric) open(a, b *Host) (bool, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !a.dead && !b.dead && !f.cuts[[2]string{a.Name, b.Name}] && !f.held[a.Name] && !f.held[b.Name], f.changed
}

// blocked reports whether the way between two names is closed, whoever lives.
func (f *Fabric) blocked(from, to string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cuts[[2]string{from, to}] || f.held[from] || f.held[to]
}

// bothWays is open in both directions.
func (f *Fabric) bothWays(a, b *Host) (bool, <-chan struct{}) {
	there, changed := f.open(a, b)
	back, _ := f.open(b, a)
	return there && back, changed
}

// delay is how long something takes from a to b, this time.
func (f *Fabric) delay(a, b *Host) time.Duration {
	d := f.cfg.Local
	if a.Place != b.Place {
		d = f.cfg.OneWay(a.Place, b.Place)
	}
	if f.cfg.Jitter > 0 {
		d += f.random(f.cfg.Jitter)
	}
	return d
}

func (f *Fabric) random(most time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Duration(f.rng.Int64N(int64(most)))
}

func (f *Fabric) lost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cfg.Loss > 0 && f.rng.Float64() < f.cfg.Loss
}

// find returns the living host of a name, nil if there is none.
func (f *Fabric) find(name string) *Host {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hosts[name]
}

// Host is a process in one of its lives: a node, or a client, which has no
// handler and dials only.
type Host struct {
	Peer
	net     *Fabric
	handler Handler
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	dead bool // guarded by net.mu

	mu       sync.Mutex // guards the following
	closed   bool
	events   map[string]*eventsLink
	controls map[string]*control
	reading  map[string]*arrival // events links of others to us, the present one
	known    map[string]bool     // where datagrams went before
	conns    map[*Pipe]struct{}  // clients'
}

// Host starts a process. A name has one living process at a time.
func (f *Fabric) Host(p Peer, h Handler) *Host {
	ctx, cancel := context.WithCancel(context.Background())
	host := &Host{
		Peer: p, net: f, handler: h, ctx: ctx, cancel: cancel,
		events: map[string]*eventsLink{}, controls: map[string]*control{},
		reading: map[string]*arrival{}, known: map[string]bool{}, conns: map[*Pipe]struct{}{},
	}
	f.change(func() {
		if f.hosts[p.Name] != nil {
			panic(fmt.Sprintf("simnet: %s lives already", p.Name))
		}
		f.hosts[p.Name] = host
	})
	return host
}

// Kill ends the process as far as the network goes: nothing that it says goes
// anywhere from now on, and nothing is told to it. Clients' connections are
// reset, as the kernel does; peers find out by silence. It returns when no call
// to the handler is under way, so it must not be called by one.
func (h *Host) Kill() {
	h.net.change(func() {
		h.dead = true
		if h.net.hosts[h.Name] == h {
			delete(h.net.hosts, h.Name)
		}
	})
	h.mu.Lock()
	h.closed = true
	var conns []*Pipe
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	h.cancel()
	for _, c := range conns {
		c.reset()
	}
	h.work.Wait()
}

// run does f in a goroutine that Kill waits for; false: it is dead.
func (h *Host) run(f func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.work.Go(f)
	return true
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await waits until the way from a to b is open in both directions.
func (f *Fabric) await(ctx context.Context, a, b *Host) bool {
	for {
		open, changed := f.bothWays(a, b)
		if open {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// watch breaks a connection of a's to b that was silent for too long. It
// returns when the connection is over.
func (f *Fabric) watch(a, b *Host, idle time.Duration, over <-chan struct{}, broken func()) {
	var since time.Time
	for {
		open, changed := f.bothWays(a, b)
		var limit <-chan time.Time
		var timer *time.Timer
		if open {
			since = time.Time{}
		} else {
			if since.IsZero() {
				since = time.Now()
			}
			wait := idle - time.Since(since)
			if f.replaced(b) { // its successor answers what it does not know with a reset
				wait = min(wait, 0)
			}
			if wait <= 0 {
				broken()
				return
			}
			timer = time.NewTimer(wait)
			limit = timer.C
		}
		select {
		case <-changed:
		case <-limit:
		case <-over:
			return
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

func (f *Fabric) replaced(h *Host) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return h.dead && f.hosts[h.Name] != nil && !f.held[h.Name]
}
