package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

// SDK is what the SDK calls itself in Hello.
const SDK = "muster-go/1"

// TokenSource gives access tokens. *API is one.
type TokenSource interface {
	// Token returns an access token other than stale, which was refused or
	// ends soon; stale may be empty.
	Token(ctx context.Context, stale string) (string, error)
}

// StaticToken is a token that can't be renewed.
type StaticToken string

// Token returns the token, or refuses if that is the one no longer good.
func (t StaticToken) Token(_ context.Context, stale string) (string, error) {
	if stale == string(t) {
		return "", &Error{Code: wire.CodeTokenExpired, Message: "the static token is no longer valid"}
	}
	return string(t), nil
}

// Config describes a session. Tokens is required, and one of Endpoints and Edges.
type Config struct {
	Endpoints []Endpoint // in order of preference; others are tried when one fails
	// Edges says where the edge nodes are, the best first; an *API does. It is
	// asked when there are no Endpoints, when its answer has become old, and when
	// nobody could be reached. With it the session moves to a region that has
	// become clearly nearer, unless StayPut is set.
	Edges   EdgeSource
	StayPut bool
	Tokens  TokenSource
	// Background: nobody looks, see Session.SetForeground.
	Background bool
	// HTTP times the regions, and asks nodes for the list when Edges can't; nil
	// means a client of its own.
	HTTP *http.Client
	// Device is chosen once per installation: 1-64 of [A-Za-z0-9_-]. A random
	// one is made if it is empty: fine for a program that has no place to keep it.
	Device string
	// Dialer makes the connections; nil means one of its own.
	Dialer *Dialer
	// OnStatus is told of every change of Status, in order, by one goroutine.
	// It must not block.
	OnStatus func(Status)
	// OnMove is told of every change of connection after the first one, once the
	// rooms are back, by the goroutine of OnStatus. It must not block.
	OnMove func(Move)
	// Quiet: the session says nothing by itself of what was delivered to it.
	Quiet bool
	Log   *slog.Logger // nil: silent
	// QueueSize bounds the events that wait in a room for the application;
	// 0 means 1,024. See Room.Events.
	QueueSize int
}

// Phase is where a session is in its life.
type Phase int

// Phases of a session; package comment has the picture.
const (
	Connecting Phase = iota
	Live
	Reconnecting
	Closed
)

func (p Phase) String() string {
	return [...]string{"connecting", "live", "reconnecting", "closed"}[p]
}

// Status is how a session stands.
type Status struct {
	Phase     Phase
	User      string // from the first Welcome on
	Name      string
	Epoch     uint64
	Region    string
	Node      string
	Transport wire.Transport
	Fallback  string        // why it is a WebSocket although WebTransport was asked for
	Tick      time.Duration // fixes of a room are merged per tick
	RTT       time.Duration // smoothed; 0 until measured
	Err       error         // why it is reconnecting or closed
}

// Counters count what happened to a session.
type Counters struct {
	Connections uint64 // that became live
	FramesIn    uint64
	BytesIn     uint64
	FixesSent   uint64 // handed to a connection, without repeats
	FixRepeats  uint64 // sent again on the stream
	Refused     uint64 // frames without id that the server refused
	BadFrames   uint64
	Goaways     uint64 // requests of a server to go elsewhere
	Dials       uint64 // connections that were tried and are over
	Suspicions  uint64 // times that a connection was too silent
}

// Session is one device's realtime session. Its methods are safe for
// concurrent use.
type Session struct {
	cfg    Config
	dialer *Dialer
	log    *slog.Logger
	http   *http.Client
	cancel context.CancelFunc
	conns  sync.WaitGroup
	first  chan struct{} // closed with the first Welcome, or the end
	done   chan struct{} // closed when all is over
	turn   chan struct{} // something has changed that run should see
	shaken chan struct{} // the device's network has changed

	mu         sync.Mutex // guards the following fields
	status     Status
	told       Status      // what the application was told last
	ticket     []byte      // of the last Welcome or Goaway
	above      uint64      // an epoch that won against ours
	refreshes  int         // closes for a bad token since the last Welcome
	superseded []time.Time // lately
	strays     []time.Time // when connections ended whose hello may be heard yet
	nextID     uint64
	pending    map[uint64]*request
	rooms      map[string]*Room
	views      map[uint32]*View
	calls      map[string]*Call     // by id; nil: none yet
	watches    uint32               // the number of the last view
	reports    map[string]*report   // by the rooms they name
	n          uint64               // of the last fix
	conn       *connection          // the live one; nil while there is none
	latest     *connection          // the last one that was live
	old        *connection          // the live one before, until the rooms are back
	greeting   map[*connection]bool // have said hello; false: in vain if all goes well
	background bool                 // nobody looks
	alarms     int                  // suspicions within a minute of each other
	alarmed    time.Time
	homing     homing
	wish       string    // the region that would be better, for run to see
	edge       Edge      // the last list
	edgeAt     time.Time // when it was asked for
	asking     bool      // for the list
	listed     bool      // it came, for run to see
	shakes     int       // times that the network has changed
	fresh      *renewal  // of a token, for run to see
	notices    *queue    // nil: nobody asked for them
	noticed    roomstate.Heard
	counters   Counters
	bye        bool
	said       bool // the first status is decided
	slots      chan struct{}
	sends      chan struct{} // held by messages that wait for their answer
}

// maxPending bounds the unanswered requests of a session. A call that comes on
// top waits until one was answered.
const maxPending = 256

// maxSends bounds the messages among them. It is well below what a session may send at
// once, and many at a time for who writes.
const maxSends = 16

// request is a frame that waits for its answer.
type request struct {
	id    uint64
	body  *wire.ClientFrame
	keep  bool // send it again after a reconnect
	reply func(f *wire.ServerFrame, err error)
}

// Connect opens a session and returns when it is live, when the server refused
// it for good, or when ctx ends. Afterwards ctx has no influence on it.
func Connect(ctx context.Context, cfg Config) (*Session, error) {
	if len(cfg.Endpoints) == 0 && cfg.Edges == nil {
		return nil, errors.New("client: no endpoint to connect to")
	}
	if cfg.Tokens == nil {
		return nil, errors.New("client: no source of tokens")
	}
	if cfg.Device == "" {
		cfg.Device = NewDevice()
	}
	if err := problem(wire.CheckDevice(cfg.Device)); err != nil {
		return nil, err
	}
	if cfg.Dialer == nil {
		cfg.Dialer = new(Dialer)
	}
	if cfg.HTTP == nil {
		cfg.HTTP = cfg.Dialer.timing()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.QueueSize <= 0 {
		cfg.QueueSize = 1024
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Session{
		cfg: cfg, dialer: cfg.Dialer, log: cfg.Log, http: cfg.HTTP, cancel: cancel,
		first: make(chan struct{}), done: make(chan struct{}),
		turn: make(chan struct{}, 1), shaken: make(chan struct{}, 1), background: cfg.Background,
		pending: map[uint64]*request{}, rooms: map[string]*Room{}, views: map[uint32]*View{}, reports: map[string]*report{},
		greeting: map[*connection]bool{}, slots: make(chan struct{}, maxPending), sends: make(chan struct{}, maxSends),
	}
	if err := s.locate(ctx); err != nil {
		cancel()
		return nil, err
	}
	go s.run(life)
	select {
	case <-s.first:
	case <-ctx.Done():
		s.Close()
		return nil, ctx.Err()
	}
	if st := s.Status(); st.Phase == Closed {
		<-s.done
		return nil, st.Err
	}
	return s, nil
}

// NewDevice makes a random device id.
func NewDevice() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Status returns how the session stands.
func (s *Session) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Counters returns what was counted so far.
func (s *Session) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counters
}

// Device returns the session's device id.
func (s *Session) Device() string { return s.cfg.Device }

// Done is closed when the session is over; Status says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// SetForeground says whether somebody looks: then a connection that goes silent
// is noticed within two seconds, at the price of one small frame a second while
// nothing else is heard. It is so unless Config.Background was set. In the
// background it takes up to nine seconds, or less when something is sent, and
// neither are regions timed nor is the list of nodes kept fresh.
func (s *Session) SetForeground(foreground bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.background = !foreground
	s.notify()
	s.poke()
}

// NetworkChanged says that the device has another network now (Wi-Fi, mobile, a
// VPN). The session finds out at once whether its connection still works, tries
// again at once if it has none, and times the regions anew.
func (s *Session) NetworkChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shakes++
	if s.conn != nil {
		s.conn.pulse.nudged, s.conn.moved = true, true
	}
	select {
	case s.shaken <- struct{}{}:
	default:
	}
	s.notify()
	s.poke()
}

// Close says Bye, so that others see the device leave at once, and ends the
// session. Fixes not yet sent are sent before.
func (s *Session) Close() {
	s.mu.Lock()
	s.bye = true
	live := s.conn != nil
	s.notify()
	s.mu.Unlock()
	if live {
		timer := time.NewTimer(2 * time.Second)
		defer timer.Stop()
		select {
		case <-s.done:
		case <-timer.C:
		}
	}
	s.cancel()
	<-s.done
}

// notify has the connections look for what is due. The caller holds the lock.
func (s *Session) notify() {
	for _, c := range []*connection{s.conn, s.old} {
		if c != nil {
			s.notifyOne(c)
		}
	}
	for c := range s.greeting {
		s.notifyOne(c)
	}
}

func (s *Session) notifyOne(c *connection) {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// poke has the goroutine of the session look how its connections stand.
func (s *Session) poke() {
	select {
	case s.turn <- struct{}{}:
	default:
	}
}

// Join enters a room, or returns it if the session is in it already.
func (s *Session) Join(ctx context.Context, room string) (*Room, error) {
	if err := problem(wire.CheckRoom(room)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	r := s.rooms[room]
	if r != nil && r.state.Joined() {
		s.mu.Unlock()
		return r, nil
	}
	if r == nil {
		r = newRoom(s, room)
		s.rooms[room] = r
	}
	s.mu.Unlock()
	_, err := s.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Join{Join: &wire.Join{Room: room}}})
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.rooms[room] == r && !r.state.Joined() {
			delete(s.rooms, room)
		}
		return nil, err
	}
	return r, nil
}

// call sends a request and waits for its answer, however many connections that
// takes. A refusal that passes is tried again when the server says so.
func (s *Session) call(ctx context.Context, body *wire.ClientFrame) (*wire.ServerFrame, error) {
	for attempt := 0; ; attempt++ {
		f, err := s.once(ctx, body)
		refused, ok := errors.AsType[*Error](err)
		if !ok || !refused.passing() {
			return f, err
		}
		if sleep(ctx, refused.RetryAfter+jitter(attempt, requestRetry)) != nil {
			return nil, err // says more than the context's end
		}
	}
}

func (s *Session) once(ctx context.Context, body *wire.ClientFrame) (*wire.ServerFrame, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.done:
		return nil, s.over()
	}
	type answer struct {
		f   *wire.ServerFrame
		err error
	}
	got := make(chan answer, 1)
	s.mu.Lock()
	id := s.requestLocked(body, true, func(f *wire.ServerFrame, err error) { got <- answer{f, err} })
	s.notify()
	s.mu.Unlock()
	select {
	case a := <-got:
		return a.f, a.err
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.pending, id)
		s.mu.Unlock()
		return nil, ctx.Err()
	case <-s.done:
		return nil, s.over()
	}
}

// requestLocked registers a request and queues its frame if there is a live
// connection; else it goes out once there is one, if keep is set. reply runs
// under the lock, exactly once unless the request is forgotten.
func (s *Session) requestLocked(body *wire.ClientFrame, keep bool, reply func(*wire.ServerFrame, error)) uint64 {
	s.nextID++
	r := &request{id: s.nextID, keep: keep, reply: reply, body: &wire.ClientFrame{Id: s.nextID, Body: body.GetBody()}}
	s.pending[r.id] = r
	if s.conn != nil {
		s.conn.queue = append(s.conn.queue, r.body)
	}
	return r.id
}

// forgetLocked fails the requests that are not sent again.
func (s *Session) forgetLocked() {
	for id, r := range s.pending {
		if !r.keep {
			delete(s.pending, id)
			r.reply(nil, errSilent)
		}
	}
}

func (s *Session) over() error {
	if st := s.Status(); st.Err != nil {
		return st.Err
	}
	return ErrClosed
}
