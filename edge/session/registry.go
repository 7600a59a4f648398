package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/obs"
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
	Grace    time.Duration // how long a lost connection keeps the session, as the region has it: 30 s
	Memory   time.Duration // how long a suspended session is kept without a word of the region: 4 times Grace
	Tick     time.Duration // what the hub merges fixes over, told to clients: 100 ms
	Request  time.Duration // how long core may take for a request: 10 s
	InFlight int           // requests of one session that wait for core: 16
	AtOnce   int           // requests of all sessions that core works on, but for messages: 256
	Devices  int           // sessions of one user on this node: 64. All of them are in every snapshot.
	Limits   admit.Limits
	Gateways admit.Limits // of a fleet's gateway
	Gate     admit.GateConfig

	// TicketKey signs tickets: the same on all nodes. Without one, tickets are
	// good on this node until it ends.
	TicketKey []byte
}

func (c Config) defaults() Config {
	c.Hello = cmp.Or(c.Hello, 5*time.Second)
	c.Ping = cmp.Or(c.Ping, 10*time.Second)
	c.Grace = cmp.Or(c.Grace, 30*time.Second)
	c.Memory = cmp.Or(c.Memory, 4*c.Grace)
	c.Tick = cmp.Or(c.Tick, 100*time.Millisecond)
	c.Request = cmp.Or(c.Request, 10*time.Second)
	c.InFlight = cmp.Or(c.InFlight, 16)
	c.AtOnce = cmp.Or(c.AtOnce, 256)
	c.Devices = cmp.Or(c.Devices, 64)
	c.Limits, c.Gateways = c.Limits.Defaults(), c.Gateways.GatewayDefaults()
	if len(c.TicketKey) == 0 {
		c.TicketKey = make([]byte, 32)
		_, _ = rand.Read(c.TicketKey) // it never fails
	}
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
	// Sharer takes fixes.
	Sharer edge.Sharer
	// Withdraw has all nodes forget where a user is. Optional.
	Withdraw func(ctx context.Context, user string) error
	// Forget has all other nodes forget where subjects of a fleet were until a
	// moment, as far as they can be told. Optional.
	Forget func(ctx context.Context, fleet string, subjects []string, at time.Time)
	// Map finds who is near, and Receipts notes who asked. Optional.
	Map      edge.Map
	Receipts edge.Receipts
	// Blocks says who must not see whom, Discreet who is told nobody's receipts.
	// Optional.
	Blocks   edge.Blocks
	Discreet edge.Discreet
	// Progress takes how far devices have got; nil: nobody wants to know.
	Progress edge.Progress
	// Calls is the node's part in calls; nil: it has none.
	Calls edge.Calls
	// Fixes returns the last fixes in a room. Optional.
	Fixes func(ctx context.Context, room string) ([]*wire.MemberFix, error)
	// Areas watches areas of interest; nil: this node has none.
	Areas edge.Areas
	// People returns a page of the people of a room whom a viewer may see, by user id.
	People func(ctx context.Context, viewer, room, after string, limit int) (*wire.PeoplePage, error)
	// Arrived is told, once its rooms show it, of a session whose device was not
	// in this region before: the region that its ticket is of, "" if that is not
	// another one, and whether it is in rooms. It must not block. Optional.
	Arrived func(id regions.SessionID, from regions.RegionID, rooms bool)
	Log     *slog.Logger
	Metrics *Metrics
	Tracer  obs.Tracer // optional: of requests that wait for something
}

// device is the key of a session: a user may be live once per device.
type device struct{ user, id string }

// Registry holds the sessions of a node.
type Registry struct {
	config     Config
	deps       Deps
	gate       *admit.Gate
	core       chan struct{} // a place per request that core works on
	began      time.Time
	connection atomic.Uint64 // the last one's number
	callsMu    sync.Mutex    // guards callRooms
	callRooms  map[string]string
	life       run.Lifecycle

	mu        sync.Mutex // guards the following
	plan      *DrainPlan // once the node is about to go
	stopped   bool
	users     map[string][]*Session // the sessions of a user, one per device
	logins    map[string][]*Session
	size      int // sessions in users
	connected int // connections that were welcomed
	opening   map[device]*opening
	losses    int // how often the region gave this node up
	revoked   map[string]time.Time
	work      sync.WaitGroup // connections, requests and timers under way
}

// opening is what the region says of a device while it is asked for a session
// of it here: its word may overtake its answer.
type opening struct {
	n      int           // how many times it is being asked
	fenced regions.Epoch // sessions up to this one are over, since the device
	winner regions.Epoch // is live under this one
	ended  regions.Epoch // sessions up to this one have ended
}

// NewRegistry returns an empty registry. Its Accept is the transport's.
func NewRegistry(c Config, d Deps) *Registry {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Metrics == nil {
		d.Metrics = NewMetrics(nil)
	}
	if d.Calls == nil {
		d.Calls = noCalls{}
	}
	c = c.defaults()
	return &Registry{
		config: c, deps: d, gate: admit.NewGate(c.Gate), core: make(chan struct{}, c.AtOnce), began: time.Now(),
		users: make(map[string][]*Session), logins: make(map[string][]*Session),
		callRooms: make(map[string]string), opening: make(map[device]*opening), revoked: make(map[string]time.Time),
	}
}

// now is the time since the registry began, which no step of the wall clock
// moves.
func (r *Registry) now() time.Duration { return time.Since(r.began) }

// Gate meters connections: its Connect is for the transport's Admit.
func (r *Registry) Gate() *admit.Gate { return r.gate }

// Start makes the registry a service; sessions come with their connections.
func (r *Registry) Start(ctx context.Context) error {
	return r.life.Start(ctx, func(context.Context) error { return nil })
}

// Stop closes all connections, and ends what is left without a word to the
// rooms: this node is gone, and its sessions are suspended until their devices
// return elsewhere. Connections end with the transport, which is to be stopped
// after Close and before this.
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
	all := slices.Clone(r.logins[login])
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

// Clients returns a user's sessions on this node.
func (r *Registry) Clients(user string) []edge.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []edge.Client
	for _, s := range r.users[user] {
		all = append(all, s)
	}
	return all
}

// Len is the number of sessions, suspended ones included.
func (r *Registry) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size
}

// Accept takes a connection: what it returns takes its frames, and is called
// when everything of it is gone.
func (r *Registry) Accept(c transport.Conn) (handle transport.Handler, over func(error)) {
	if !r.begin() {
		c.Close(transport.Draining())
		return ignore, func(error) {}
	}
	if !r.gate.Enter() {
		c.Close(&wire.Close{Code: wire.CodeRetry, Message: "this node is full: connect to another one", RetryAfterMs: 5000})
		return ignore, func(error) { r.work.Done() }
	}
	s := newSession(r, c)
	return s.frame, s.over
}

// over is called when everything of the connection is gone.
func (s *Session) over(err error) {
	r := s.registry
	s.lost(err)
	if s.counted {
		r.mu.Lock()
		r.connected--
		r.mu.Unlock()
	}
	r.work.Done()
}

func ignore(*wire.ClientFrame, int, error) {}

// begin counts something under way that Stop waits for; false: too late.
func (r *Registry) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.plan != nil {
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

// over reports whether Stop has been called.
func (r *Registry) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
}

func (r *Registry) allLocked() []*Session {
	all := make([]*Session, 0, r.size)
	for _, of := range r.users {
		all = append(all, of...)
	}
	return all
}

func (r *Registry) all() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.allLocked()
}

func (r *Registry) findLocked(key device) *Session {
	for _, s := range r.users[key.user] {
		if s.member.Device.Device == key.id {
			return s
		}
	}
	return nil
}

// devicesWait is when a user with too many devices may try again with one more.
const devicesWait = 30 * time.Second

// expect notes that the region is being asked for a session of a device, until
// enter or unexpect. floor is the epoch that it has here, if any.
func (r *Registry) expect(key device) (floor regions.Epoch, losses int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plan != nil {
		return 0, 0, errs.New(errs.Unavailable, edge.CodeDraining, "the node shuts down: connect to another one").
			After(time.Duration(spread(0)) * time.Millisecond)
	}
	if s := r.findLocked(key); s != nil {
		floor = s.epoch()
	} else if len(r.users[key.user]) >= r.config.Devices {
		return 0, 0, errs.New(errs.RateLimited, edge.CodeRateLimited,
			"%d devices of yours are connected to this node: close one first", r.config.Devices).After(devicesWait)
	}
	o := r.opening[key]
	if o == nil {
		o = &opening{}
		r.opening[key] = o
	}
	o.n++
	return floor, r.losses, nil
}

// unexpect is for when the region gave no session. What Fenced left to enter is
// done here.
func (r *Registry) unexpect(key device) {
	r.mu.Lock()
	o, s := *r.unexpectLocked(key), r.findLocked(key)
	r.mu.Unlock()
	if s != nil && s.epoch() <= o.fenced {
		s.finish(Fenced, wire.Reason_MOVED, superseded(o.winner))
	}
}

func (r *Registry) unexpectLocked(key device) *opening {
	o := r.opening[key]
	if o.n--; o.n == 0 {
		delete(r.opening, key)
	}
	return o
}

// enter makes s the session of its device, unless that is over already: then it
// returns with what to close s. If there was an older one it is returned, and
// over in any case: to be replaced by s, or by what replaced s.
func (r *Registry) enter(s *Session, losses int) (old *Session, over *wire.Close, plan *DrainPlan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, epoch := s.key(), s.epoch()
	o := r.unexpectLocked(key)
	old = r.findLocked(key)
	switch {
	case old != nil && old.epoch() >= epoch:
		return nil, superseded(old.epoch()), nil
	case epoch <= o.fenced || epoch < o.winner:
		return old, superseded(o.winner), nil
	case epoch <= o.ended, losses != r.losses:
		return old, again("the session is over already: connect again", 0), nil
	}
	if old != nil {
		r.forgetLocked(old)
	}
	r.users[key.user] = append(r.users[key.user], s)
	r.logins[s.member.Login] = append(r.logins[s.member.Login], s)
	r.size++
	r.connected++
	s.counted = true
	return old, nil, r.plan
}

// forget takes a session that is over out of the tables.
func (r *Registry) forget(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(s)
}

func (r *Registry) forgetLocked(s *Session) {
	if without(r.users, s.member.User, s) {
		without(r.logins, s.member.Login, s)
		r.size--
	}
}

// without takes a session off a list; false: it was not on it.
func without(lists map[string][]*Session, key string, s *Session) bool {
	list := lists[key]
	i := slices.Index(list, s)
	switch {
	case i < 0:
		return false
	case len(list) == 1:
		delete(lists, key)
	default:
		lists[key] = slices.Delete(list, i, i+1)
	}
	return true
}

// spread is when one of n clients that are sent away at once may come back, in
// milliseconds: at random, so that a deploy is not a stampede.
func spread(n int) uint32 {
	const perSecond = 500
	return 100 + mrand.Uint32N(uint32(max(1900, n*1000/perSecond)))
}
