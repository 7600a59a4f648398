package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// memory is a region of fakes that are reached without a network: its tests
// run under synctest, where time is fake and nothing overtakes anything by
// chance.
type memory struct {
	t     *testing.T
	nodes map[string]*fake
	via   func(ctx context.Context, ep Endpoint) (Conn, error) // nil: dial

	mu    sync.Mutex
	dials []string
	how   map[string]reach
}

// reach is how a node answers a dial.
type reach int

const (
	up     reach = iota
	down         // refuses
	silent       // lets the dial time out
)

var errRefused = errors.New("connection refused")

// newMemory makes nodes of the given names.
func newMemory(t *testing.T, names ...string) *memory {
	m := &memory{t: t, nodes: map[string]*fake{}, how: map[string]reach{}}
	epoch := new(atomic.Uint64)
	epoch.Store(100)
	for _, name := range names {
		f := bareFake(t, Endpoint{Region: "eu-west", Node: name, WS: "mem:" + name})
		f.epoch, f.ticket = epoch, []byte("ticket of "+name)
		m.nodes[name] = f
	}
	return m
}

func (m *memory) set(name string, how reach) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.how[name] = how
}

// dialed returns whom the client tried to reach since the last call.
func (m *memory) dialed() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.dials
	m.dials = nil
	return d
}

func (m *memory) dial(ctx context.Context, ep Endpoint) (Conn, error) {
	m.mu.Lock()
	m.dials = append(m.dials, ep.Node)
	how := m.how[ep.Node]
	m.mu.Unlock()
	f := m.nodes[ep.Node]
	switch {
	case f == nil || how == down:
		return nil, errRefused
	case how == silent:
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	p := &pipe{in: make(chan []byte, 1024), out: make(chan []byte, 1024), gone: make(chan struct{})}
	c := &fakeConn{kind: wire.Transport_WEBSOCKET, gone: p.gone}
	c.write = func(b []byte) error { return p.push(p.in, b) }
	c.closing = func(number int) {
		if number == 0 {
			p.end(errors.New("broken"))
		} else {
			p.end(&ClosedError{Number: number, Reason: "test"})
		}
	}
	go func() {
		for {
			select {
			case b := <-p.out:
				for len(b) > 0 {
					var body []byte
					var err error
					if body, b, err = wire.Split(b, wire.MaxClientFrame); err != nil {
						f.t.Errorf("bad frame: %v", err)
						return
					}
					f.frame(c, body, false)
				}
			case <-p.gone:
				return
			}
		}
	}()
	return p, nil
}

// pipe is a Conn in memory.
type pipe struct {
	in, out chan []byte
	gone    chan struct{}

	once sync.Once
	why  error // set before gone is closed
}

func (p *pipe) end(why error) {
	p.once.Do(func() {
		p.why = why
		close(p.gone)
	})
}

func (p *pipe) push(to chan []byte, b []byte) error {
	select {
	case <-p.gone:
		return errors.New("gone")
	default:
	}
	select {
	case to <- slices.Clone(b):
		return nil
	case <-p.gone:
		return errors.New("gone")
	}
}

func (p *pipe) Kind() wire.Transport { return wire.Transport_WEBSOCKET }

func (p *pipe) Receive(ctx context.Context, handle func([]byte)) error {
	take := func(b []byte) {
		for len(b) > 0 {
			body, rest, err := wire.Split(b, wire.MaxServerFrame)
			if err != nil {
				panic(err)
			}
			handle(body)
			b = rest
		}
	}
	for {
		select {
		case b := <-p.in:
			take(b)
		case <-p.gone:
			for {
				select {
				case b := <-p.in: // what was sent before the end arrives
					take(b)
				default:
					return p.why
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *pipe) Write(_ context.Context, b []byte) error { return p.push(p.out, b) }
func (p *pipe) Datagram([]byte) error                   { return errors.ErrUnsupported }
func (p *pipe) Close(int)                               { p.end(context.Canceled) }

// watch is what the application was told.
type watch struct {
	mu       sync.Mutex
	statuses []Status
	moves    []Move
}

func (w *watch) phases() (out []Phase) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, st := range w.statuses {
		out = append(out, st.Phase)
	}
	return out
}

func (w *watch) told() []Move {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.moves)
}

// connect opens a session whose endpoints are the named nodes.
func (m *memory) connect(names ...string) (*Session, *watch) {
	m.t.Helper()
	w := new(watch)
	dial := m.dial
	if m.via != nil {
		dial = m.via
	}
	cfg := Config{
		Tokens: StaticToken("token"), Device: "phone", Dialer: &Dialer{Dial: dial},
		OnStatus: func(st Status) { w.mu.Lock(); w.statuses = append(w.statuses, st); w.mu.Unlock() },
		OnMove:   func(mv Move) { w.mu.Lock(); w.moves = append(w.moves, mv); w.mu.Unlock() },
	}
	for _, n := range names {
		cfg.Endpoints = append(cfg.Endpoints, m.nodes[n].ep)
	}
	s, err := Connect(m.t.Context(), cfg)
	require.NoError(m.t, err)
	m.t.Cleanup(s.Close)
	return s, w
}

// hold has a node answer no hello by itself: the test does.
func (m *memory) hold(name string) *fake {
	f := m.nodes[name]
	f.greet(func(*fakeConn, *wire.ClientFrame) bool { return true })
	return f
}

// goaway asks a client to go to the named nodes.
func (m *memory) goaway(c *fakeConn, deadline time.Duration, names ...string) {
	g := &wire.Goaway{Ticket: []byte("ticket of goaway"), DeadlineMs: uint32(deadline.Milliseconds())}
	for _, n := range names {
		ep := m.nodes[n].ep
		g.Targets = append(g.Targets, &wire.Target{Region: ep.Region, Node: ep.Node, Ws: ep.WS, Wt: ep.WT})
	}
	c.send(&wire.ServerFrame{Body: &wire.ServerFrame_Goaway{Goaway: g}})
}

// closeWith ends a connection as a server does.
func (c *fakeConn) closeWith(code string, epoch uint64, retry time.Duration) {
	number, ok := wire.CloseNumber(code)
	if !ok {
		panic(code)
	}
	c.send(&wire.ServerFrame{Body: &wire.ServerFrame_Close{Close: &wire.Close{
		Code: code, Epoch: epoch, RetryAfterMs: uint32(retry.Milliseconds()),
	}}})
	c.closing(int(number))
}

// resumed answers the follow of the room: nothing was lost.
func resumed() *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{Room: room, Recovered: true}}}
}
