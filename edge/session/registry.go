package session

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
)

// Config of a Registry. Region and Node are required; the zero value of
// another field means its default.
type Config struct {
	Region regions.RegionID
	Node   regions.NodeID

	Hello    time.Duration // how long a connection may take to say it: 5 s
	Ping     time.Duration // how often clients ping: 10 s; three missed close
	Grace    time.Duration // how long a lost connection keeps the session: 30 s
	Tick     time.Duration // what the hub merges fixes over, told to clients: 100 ms
	Request  time.Duration // how long core may take for a request: 10 s
	InFlight int           // requests of one session that wait for core: 16
	AtOnce   int           // requests of all sessions that core works on: 256
	Devices  int           // sessions of one user on this node: 64. All of them are in every snapshot.
	Limits   admit.Limits
	Gate     admit.GateConfig

	// TicketKey signs tickets: the same on all nodes. Without one, tickets are
	// good on this node until it ends.
	TicketKey []byte
}

func (c Config) defaults() Config {
	c.Hello = cmp.Or(c.Hello, 5*time.Second)
	c.Ping = cmp.Or(c.Ping, 10*time.Second)
	c.Grace = cmp.Or(c.Grace, 30*time.Second)
	c.Tick = cmp.Or(c.Tick, 100*time.Millisecond)
	c.Request = cmp.Or(c.Request, 10*time.Second)
	c.InFlight = cmp.Or(c.InFlight, 16)
	c.AtOnce = cmp.Or(c.AtOnce, 256)
	c.Devices = cmp.Or(c.Devices, 64)
	c.Limits = c.Limits.Defaults()
	return c
}

// Deps are what sessions use. Log, Metrics, Settings and People may be nil.
type Deps struct {
	Hub      edge.Hub
	Members  edge.Members
	Messages edge.Messages
	Verifier edge.Verifier
	Roster   edge.Roster
	Settings edge.Settings
	// People returns a page of the people of a room, by user id.
	People  func(ctx context.Context, room, after string, limit int) (*wire.PeoplePage, error)
	Log     *slog.Logger
	Metrics *Metrics
}

// device is the key of a session: a user may be live once per device.
type device struct{ user, id string }

// Registry holds the sessions of a node.
type Registry struct {
	config Config
	deps   Deps
	gate   *admit.Gate
	core   chan struct{} // a place per request that core works on
	life   run.Lifecycle

	mu       sync.Mutex // guards the following
	draining bool
	stopped  bool
	sessions map[device]*Session
	logins   map[string]map[*Session]struct{}
	devices  map[string]int // sessions by user
	revoked  map[string]time.Time
	work     sync.WaitGroup // connections, requests and timers under way
}

// NewRegistry returns an empty registry. Its Accept is the transport's.
func NewRegistry(c Config, d Deps) *Registry {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Metrics == nil {
		d.Metrics = NewMetrics(nil)
	}
	c = c.defaults()
	return &Registry{
		config: c, deps: d, gate: admit.NewGate(c.Gate), core: make(chan struct{}, c.AtOnce),
		sessions: make(map[device]*Session), logins: make(map[string]map[*Session]struct{}),
		devices: make(map[string]int), revoked: make(map[string]time.Time),
	}
}

// Gate meters connections: its Connect is for the transport's Admit.
func (r *Registry) Gate() *admit.Gate { return r.gate }

// Start makes the registry a service; sessions come with their connections.
func (r *Registry) Start(ctx context.Context) error {
	return r.life.Start(ctx, func(context.Context) error { return nil })
}

// Close ends all connections with draining, and refuses new ones.
func (r *Registry) Close() {
	r.mu.Lock()
	r.draining = true
	all := r.allLocked()
	r.mu.Unlock()
	for _, s := range all {
		s.drain()
	}
}

// Stop drains, and ends what is left without a word to the rooms: this node is
// gone, and its sessions are suspended until their devices return elsewhere.
// Connections end with the transport, which is to be stopped after Close and
// before this.
func (r *Registry) Stop() {
	r.life.Stop(func() {
		r.Close()
		r.mu.Lock()
		r.stopped = true
		all := r.allLocked()
		r.mu.Unlock()
		for _, s := range all {
			s.timer.Stop()
		}
		r.work.Wait()
	})
}

const (
	// revokedFor is how long a sign-out is remembered: no access token that was
	// issued before it lives longer.
	revokedFor = time.Hour
	maxRevoked = 100_000
)

// Revoke closes the sessions of a login that was signed out, and refuses it
// from now on.
func (r *Registry) Revoke(login string) {
	now := time.Now()
	r.mu.Lock()
	if len(r.revoked) >= maxRevoked {
		maps.DeleteFunc(r.revoked, func(_ string, at time.Time) bool { return now.Sub(at) > revokedFor })
	}
	if len(r.revoked) < maxRevoked { // else those tokens live out their time
		r.revoked[login] = now
	}
	all := make([]*Session, 0, len(r.logins[login]))
	for s := range r.logins[login] {
		all = append(all, s)
	}
	r.mu.Unlock()
	for _, s := range all {
		s.end(wire.Reason_SIGNED_OUT, signedOut())
	}
}

func signedOut() *wire.Close {
	return &wire.Close{Code: wire.CodeSignedOut, Message: "you signed out: sign in again"}
}

func (r *Registry) isRevoked(login string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.revoked[login]
	if ok && time.Since(at) > revokedFor {
		delete(r.revoked, login)
		return false
	}
	return ok
}

// Len is the number of sessions, suspended ones included.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// Accept runs a connection until it is over.
func (r *Registry) Accept(c transport.Conn) {
	if !r.begin() {
		c.Close(transport.Draining())
		_ = c.Serve(ignore)
		return
	}
	defer r.work.Done()
	if !r.gate.Enter() {
		c.Close(&wire.Close{Code: wire.CodeRetry, Message: "this node is full: connect to another one", RetryAfterMs: 5000})
		_ = c.Serve(ignore)
		return
	}
	s := newSession(r, c)
	err := c.Serve(s.frame)
	s.lost(err)
}

func ignore(*wire.ClientFrame, int, error) {}

// begin counts something under way that Stop waits for; false: too late.
func (r *Registry) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.draining {
		return false
	}
	r.work.Add(1)
	return true
}

// run does f in a goroutine that Stop waits for.
func (r *Registry) run(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.work.Go(f)
	}
}

func (r *Registry) allLocked() []*Session {
	all := make([]*Session, 0, len(r.sessions))
	for _, s := range r.sessions {
		all = append(all, s)
	}
	return all
}

// enter makes s the session of its device. If there was an older one it is
// returned, to be replaced; if there is a newer one, s is too late (ok false).
func (r *Registry) enter(s *Session) (old *Session, winner regions.Epoch, draining, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := s.key()
	if old = r.sessions[key]; old != nil {
		if old.epoch >= s.epoch {
			return nil, old.epoch, r.draining, false
		}
		r.forgetLocked(old)
	}
	r.sessions[key] = s
	r.devices[key.user]++
	of := r.logins[s.identity.Login]
	if of == nil {
		of = make(map[*Session]struct{})
		r.logins[s.identity.Login] = of
	}
	of[s] = struct{}{}
	return old, s.epoch, r.draining, true
}

// current returns the session of a device, nil if there is none, and whether
// there is room for one.
func (r *Registry) current(key device) (s *Session, room bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = r.sessions[key]
	return s, s != nil || r.devices[key.user] < r.config.Devices
}

// forget takes a session that is over out of the tables.
func (r *Registry) forget(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(s)
}

func (r *Registry) forgetLocked(s *Session) {
	if key := s.key(); r.sessions[key] == s {
		delete(r.sessions, key)
		if r.devices[key.user]--; r.devices[key.user] == 0 {
			delete(r.devices, key.user)
		}
	}
	if of := r.logins[s.identity.Login]; of != nil {
		if delete(of, s); len(of) == 0 {
			delete(r.logins, s.identity.Login)
		}
	}
}
