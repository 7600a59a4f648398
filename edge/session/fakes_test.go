package session

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

const (
	roomA = "group:00000000-0000-4000-8000-00000000000a"
	roomB = "group:00000000-0000-4000-8000-00000000000b"
	roomC = "group:00000000-0000-4000-8000-00000000000c" // nobody is a member
)

// core is all that sessions ask of others: tokens are "user login", every user
// is a member of all rooms but roomC.
type core struct {
	mu       sync.Mutex
	expires  map[string]time.Time // by token
	numbers  map[string]uint64
	stored   map[string]*wire.Message // by room/user/client id
	block    chan struct{}            // Last waits for it, if not nil
	blocking int
	lastErr  error
	talk     edge.Talk

	invisible   map[string]bool
	settingsErr error
	wasHere     []string
}

func (c *core) Verify(token string) (edge.Identity, error) {
	user, login, ok := strings.Cut(token, " ")
	if !ok || user == "forged" {
		return edge.Identity{}, errs.New(errs.Unauthorized, edge.CodeUnauthenticated, "sign in")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	expires, ok := c.expires[token]
	if !ok {
		expires = time.Now().Add(time.Hour)
	}
	return edge.Identity{User: user, Name: "Name of " + user, Login: strings.Fields(login)[0], Expires: expires}, nil
}

func (c *core) Invisible(_ context.Context, user string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.invisible[user], c.settingsErr
}

func (c *core) Seen(user string, _ time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wasHere = append(c.wasHere, user)
}

func (c *core) People(_ context.Context, _, room, after string, limit int) (*wire.PeoplePage, error) {
	p := &wire.PeoplePage{Room: room, Counts: &wire.Counts{Live: 1000}}
	for i := range limit {
		p.People = append(p.People, &wire.Person{User: fmt.Sprint(after, i), Name: strings.Repeat("x", 4000)})
	}
	return p, nil
}

func (c *core) Member(_ context.Context, _, room string, _ uint64) (edge.Membership, error) {
	if room == roomC {
		return edge.Membership{}, errs.New(errs.Forbidden, edge.CodeNotMember, "join the group first")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return edge.Membership{Role: "member", Version: 3, Talk: c.talk}, nil
}

func (c *core) Store(_ context.Context, d edge.Draft) (*wire.Message, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Body == "crash" {
		return nil, false, errors.New("the database burns")
	}
	key := d.Room + d.Sender + d.ClientID
	if m := c.stored[key]; m != nil {
		return m, false, nil
	}
	c.numbers[d.Room]++
	m := &wire.Message{Number: c.numbers[d.Room], Sender: d.Sender, SenderName: d.SenderName, ClientId: d.ClientID, Body: d.Body}
	c.stored[key] = m
	return m, true, nil
}

func (c *core) History(_ context.Context, _, room string, p edge.Page) (ms []*wire.Message, more bool, err error) {
	for i := range p.Limit {
		ms = append(ms, &wire.Message{Number: p.After + uint64(i) + 1, Body: strings.Repeat("ö", wire.MaxBody)})
	}
	return ms, false, nil
}

func (c *core) Last(ctx context.Context, room string) (edge.Last, error) {
	c.mu.Lock()
	wait := c.block
	c.blocking++
	n, err := c.numbers[room], c.lastErr
	c.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return edge.Last{}, ctx.Err()
		}
	}
	return edge.Last{Number: n, Change: n}, err
}

// rooms is a hub that answers at once and writes down what it was told.
type rooms struct {
	mu   sync.Mutex
	log  []string
	in   map[string]map[*Session]bool
	last *Session
	raw  grant.Raw

	positions []*wire.Position // of the last join
	hidden    bool
	refuse    error // joins
}

func (h *rooms) say(c edge.Client, what ...string) *Session {
	s := c.(*Session)
	h.last = s
	h.log = append(h.log, s.member.User+"/"+s.member.Device.Device+" "+strings.Join(what, " "))
	return s
}

func short(room string) string { return room[len(room)-1:] }

func (h *rooms) Join(c edge.Client, j edge.Join) {
	h.mu.Lock()
	s := h.say(c, "join", short(j.Room))
	h.positions, h.hidden = j.Positions, j.Hidden
	refusal := h.refuse
	for other := range h.in[j.Room] {
		if other.key() == s.key() {
			delete(h.in[j.Room], other)
		}
	}
	if h.in[j.Room] == nil {
		h.in[j.Room] = map[*Session]bool{}
	}
	if refusal == nil {
		h.in[j.Room][s] = true
	}
	h.mu.Unlock()
	if refusal != nil {
		c.Refused(j.Re, j.Room, refusal)
		return
	}
	c.Deliver(edge.NewFrame(&wire.ServerFrame{Re: j.Re, Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{Room: j.Room, LastNumber: j.Last.Number}}}))
}

func (h *rooms) Leave(c edge.Client, room string, r wire.Reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.in[room], h.say(c, "leave", short(room), r.String()))
}

func (h *rooms) Suspend(c edge.Client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say(c, "suspend")
}

func (h *rooms) Gone(c edge.Client, r wire.Reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.say(c, "gone", r.String())
	for _, in := range h.in {
		delete(in, s)
	}
}

// Membership has core asked.
func (h *rooms) Membership(edge.Client, string) (edge.Membership, bool) {
	return edge.Membership{}, false
}

func (h *rooms) Hide(c edge.Client, hidden bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say(c, "hide", fmt.Sprint(hidden))
}

func (h *rooms) Report(edge.Client, *wire.Fix, []string) []string { panic("only the sharer reports") }
func (h *rooms) Post(*peer.Post)                                  { panic("only the sharer posts") }

func (h *rooms) Rooms(c edge.Client) (in []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for room, cs := range h.in {
		if cs[c.(*Session)] {
			in = append(in, room)
		}
	}
	return in
}

// sharer takes fixes for the hub's log.
type sharer struct {
	edge.Sharer
	h *rooms
}

func (s sharer) Report(c edge.Client, n uint64, raw grant.Raw, rooms []string) error {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say(c, "fix")
	h.raw = raw
	return nil
}

func (s sharer) Withdraw(user string, _ time.Time) {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, user+" withdraws")
}

func (sharer) Gone(edge.Client) {}

// crowd is a map on which everybody is near.
type crowd struct{ edge.Map }

func (crowd) Here(_ geo.Point, radius float64) bool { return radius < 10 }

func (crowd) Near(_ context.Context, viewer, fleet string, at geo.Point, radius float64, limit int) (edge.Nearby, error) {
	found := edge.Nearby{More: true}
	for i := range limit {
		found.People = append(found.People, edge.Neighbour{User: fmt.Sprint(i), Distance: radius, View: grant.View{Point: at}})
	}
	return found, nil
}

func (h *rooms) Typing(c edge.Client, room string, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.say(c, "typing", short(room), fmt.Sprint(on))
}

func (h *rooms) Publish(room string, m *wire.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, "publish "+short(room)+" "+m.Body)
}

func (h *rooms) said() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.log)
}

func (h *rooms) members(room string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.in[room])
}

// world is a registry with its fakes.
type world struct {
	*Registry
	core    *core
	hub     *rooms
	region  *region
	metrics *prometheus.Registry
}

func newWorld(t testing.TB, c Config) *world {
	return newRegion().node(t, "n1", c)
}

// node adds a node to a region.
func (r *region) node(t testing.TB, name regions.NodeID, c Config) *world {
	w := &world{
		core: &core{
			expires: map[string]time.Time{}, numbers: map[string]uint64{}, stored: map[string]*wire.Message{}, invisible: map[string]bool{},
		},
		hub:     &rooms{in: map[string]map[*Session]bool{}},
		region:  r,
		metrics: prometheus.NewRegistry(),
	}
	c.Region, c.Node, c.TicketKey = "r1", name, []byte("the key of all nodes")
	w.Registry = NewRegistry(c, Deps{
		Hub: w.hub, Members: w.core, Messages: w.core, Verifier: w.core, Settings: w.core, People: w.core.People,
		Roster: seat{r, name}, Metrics: NewMetrics(w.metrics), Sharer: sharer{h: w.hub}, Map: crowd{},
	})
	r.mu.Lock()
	r.nodes[name] = w.Registry
	r.mu.Unlock()
	require.NoError(t, w.Start(t.Context()))
	return w
}

// count sums a metric over the labels that match.
func (w *world) count(t testing.TB, name string, labels ...string) (sum float64) {
	families, err := w.metrics.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			ok := f.GetName() == "muster_session_"+name
			for _, l := range m.Label {
				ok = ok && (len(labels) == 0 || slices.Contains(labels, l.GetValue()))
			}
			if ok {
				sum += m.Counter.GetValue() + m.Gauge.GetValue()
			}
		}
	}
	return sum
}

// pipe is a Conn in memory.
type pipe struct {
	world  *world
	in     chan func(transport.Handler)
	out    chan *wire.ServerFrame
	broken chan struct{}
	once   sync.Once
	closed chan *wire.Close
	over   chan struct{}

	mu   sync.Mutex
	last bool
}

func (w *world) connect() *pipe {
	p := &pipe{
		world: w, in: make(chan func(transport.Handler)), out: make(chan *wire.ServerFrame, 10_000),
		broken: make(chan struct{}), closed: make(chan *wire.Close, 1), over: make(chan struct{}),
	}
	handle, over := w.Accept(p)
	go func() {
		defer close(p.over)
		over(p.Serve(handle))
	}()
	return p
}

func (p *pipe) Serve(h transport.Handler) error {
	for {
		select {
		case <-p.broken:
			return errors.New("broken")
		case f := <-p.in:
			f(h)
		}
	}
}

func (p *pipe) Send(f *edge.Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range f.Parts() {
		if m, err := wire.DecodeServer(one.Body()); err == nil && !p.last {
			p.out <- m
		}
	}
}

func (p *pipe) Close(c *wire.Close) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last {
		p.last = true
		p.closed <- c
		p.cut()
	}
}

func (p *pipe) Transport() wire.Transport { return wire.Transport_WEBSOCKET }
func (p *pipe) Remote() netip.Addr        { return netip.Addr{} }

// cut loses the connection.
func (p *pipe) cut() { p.once.Do(func() { close(p.broken) }) }

func (p *pipe) give(f *wire.ClientFrame, err error) {
	select {
	case p.in <- func(h transport.Handler) { h(f, max(f.SizeVT(), 1), err) }:
	case <-p.broken:
	}
}

func (p *pipe) ask(id uint64, f *wire.ClientFrame) { f.Id = id; p.give(f, nil) }

func (p *pipe) next(t testing.TB) *wire.ServerFrame {
	t.Helper()
	select {
	case f := <-p.out:
		return f
	case <-time.After(time.Minute):
		require.Fail(t, "no frame")
		return nil
	}
}

func (p *pipe) lastWord(t testing.TB) *wire.Close {
	t.Helper()
	select {
	case c := <-p.closed:
		return c
	case <-time.After(time.Hour):
		require.Fail(t, "not closed")
		return nil
	}
}

func hello(token, device string, follows ...string) *wire.ClientFrame {
	h := &wire.Hello{Version: 1, Token: token, Device: device}
	for _, f := range follows {
		h.Follows = append(h.Follows, &wire.Follow{Room: f})
	}
	return &wire.ClientFrame{Body: &wire.ClientFrame_Hello{Hello: h}}
}

func (w *world) live(t testing.TB, token, device string, follows ...string) *pipe {
	p := w.connect()
	p.ask(1, hello(token, device, follows...))
	require.NotNil(t, p.next(t).GetWelcome())
	for range follows {
		require.NotNil(t, p.next(t).GetSnapshot())
	}
	return p
}

func join(room string) *wire.ClientFrame {
	return &wire.ClientFrame{Body: &wire.ClientFrame_Join{Join: &wire.Join{Room: room}}}
}

func send(room, id, body string) *wire.ClientFrame {
	return &wire.ClientFrame{Body: &wire.ClientFrame_Send{Send: &wire.Send{Room: room, ClientId: id, Body: body}}}
}

func goodFix(n uint64) *wire.Fix {
	return &wire.Fix{Point: &wire.Point{Lat: 1, Lng: 2}, Captured: timestamppb.Now(), N: n}
}

func report(fix *wire.Fix, rooms ...string) *wire.ClientFrame {
	return &wire.ClientFrame{Body: &wire.ClientFrame_Report{Report: &wire.Report{Fix: fix, Rooms: rooms}}}
}
