package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sfu"
	"github.com/mustermesh/muster/media/sfu/sfutest"
	"github.com/mustermesh/muster/regions"
)

// soon is how long anything may take on a machine that is busy with other things.
const soon = 30 * time.Second

const theCall, theRoom = "call", "group:g"

// world is nodes of several regions with real SFUs, and clients with real connections;
// links, rosters and the book of calls are of the test.
type world struct {
	t     testing.TB
	delay time.Duration // of a link between regions, one way
	loss  float64       // of datagrams between regions

	mu      sync.Mutex // guards the following
	nodes   map[regions.NodeID]*node
	order   []regions.NodeID
	place   map[spot]*regions.CallPlace
	clients map[*client]struct{}
	ended   map[string]bool // calls beside theCall
	epoch   regions.Epoch
	record  media.Record
	cut     map[regions.RegionID]bool
	sent    map[[2]regions.NodeID]map[uint32]int // bytes of media between regions, by track
	floor   floorOf
	where   map[string]geo.Point
	links   map[[2]regions.NodeID]chan func()
	idle    atomic.Int32
}

// spot is a call in a region.
type spot struct {
	region regions.RegionID
	call   regions.CallID
}

type node struct {
	*Host
	w        *world
	id       regions.NodeID
	region   regions.RegionID
	sfu      *sfu.Server
	dead     atomic.Bool
	draining atomic.Bool
	clients  map[regions.SessionID]*client // guarded by world.mu
}

func newWorld(t testing.TB, nodes ...string) *world {
	w := &world{
		t: t, nodes: map[regions.NodeID]*node{}, place: map[spot]*regions.CallPlace{}, ended: map[string]bool{}, clients: map[*client]struct{}{}, cut: map[regions.RegionID]bool{},
		sent: map[[2]regions.NodeID]map[uint32]int{}, links: map[[2]regions.NodeID]chan func(){}, epoch: 1000, where: map[string]geo.Point{},
		record: media.Record{Call: theCall, Room: theRoom, Type: "audio", Home: "eu", StartedAt: time.Now(), Version: 1},
	}
	for _, id := range nodes {
		w.start(regions.NodeID(id))
	}
	t.Cleanup(func() {
		w.mu.Lock()
		clients := slices.Collect(maps.Keys(w.clients))
		w.mu.Unlock()
		for _, c := range clients {
			c.leave()
		}
	})
	return w
}

func (w *world) start(id regions.NodeID) *node {
	n := &node{w: w, id: id, region: regions.RegionID(id[:2]), clients: map[regions.SessionID]*client{}}
	var err error
	n.sfu, err = sfu.New(sfu.Options{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Sockets: 1})
	require.NoError(w.t, err)
	require.NoError(w.t, n.sfu.Start(context.Background()))
	n.Host, err = New(Config{
		Self: id, Region: n.region, SFU: n.sfu, Places: n, Book: w, Floor: floorAt{n}, Positions: w, Links: n, World: n, Tell: n.tell,
		Silence: 3 * time.Second, Idle: 500 * time.Millisecond, DrainDeadline: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(w.t, err)
	require.NoError(w.t, n.Host.Start(context.Background()))
	w.mu.Lock()
	w.nodes[id] = n
	w.order = append(w.order, id)
	w.mu.Unlock()
	w.t.Cleanup(func() {
		n.dead.Store(true)
		n.Host.Stop()
		n.sfu.Stop()
	})
	return n
}

func (w *world) node(id regions.NodeID) *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id]
}

// away is how long a frame takes; false: it does not arrive.
func (n *node) away(to regions.NodeID) (*node, time.Duration, bool) {
	w := n.w
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.nodes[to]
	if m == nil || m.dead.Load() || n.dead.Load() {
		return nil, 0, false
	}
	if m.region == n.region {
		return m, 0, true
	}
	return m, w.delay, !w.cut[m.region] && !w.cut[n.region]
}

func (n *node) Send(to regions.NodeID, f *peer.CallFrame) {
	m, d, ok := n.away(to)
	if !ok {
		return
	}
	b, err := f.MarshalVT()
	require.NoError(n.w.t, err)
	n.link(to) <- func() {
		time.Sleep(d)
		if _, _, ok := n.away(to); !ok {
			return
		}
		f := new(peer.CallFrame)
		if f.UnmarshalVT(b) == nil {
			m.HandleFrame(n.id, n.region, f)
		}
	}
}

// link delivers in order.
func (n *node) link(to regions.NodeID) chan func() {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	at := [2]regions.NodeID{n.id, to}
	c := n.w.links[at]
	if c == nil {
		c = make(chan func(), 10_000)
		n.w.links[at] = c
		ctx, cancel := context.WithCancel(context.Background())
		n.w.t.Cleanup(cancel)
		go func() {
			for {
				select {
				case f := <-c:
					f()
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return c
}

func (n *node) SendMedia(to regions.NodeID, b []byte) {
	m, d, ok := n.away(to)
	if !ok {
		return
	}
	b = slices.Clone(b)
	if m.region != n.region {
		n.w.mu.Lock()
		at := [2]regions.NodeID{n.id, to}
		if n.w.sent[at] == nil {
			n.w.sent[at] = map[uint32]int{}
		}
		n.w.sent[at][0] += len(b)
		lost := n.w.loss > 0 && rand.Float64() < n.w.loss
		n.w.mu.Unlock()
		if lost {
			return
		}
	}
	time.AfterFunc(max(d, 100*time.Microsecond), func() { m.HandleMedia(n.id, b) })
}

func (n *node) Call(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
	m, d, ok := n.away(to)
	if !ok {
		pause(ctx, 300*time.Millisecond)
		return nil, errors.New("down")
	}
	pause(ctx, 2*d)
	switch b := c.Body.(type) {
	case *peer.Call_CallAsk:
		a, err := m.HandleAsk(ctx, n.id, b.CallAsk)
		return &peer.Answer{Body: &peer.Answer_CallAnswer{CallAnswer: a}}, err
	case *peer.Call_CallMeet:
		return &peer.Answer{Body: &peer.Answer_CallMet{CallMet: m.HandleMeet(ctx, n.id, b.CallMeet)}}, nil
	case *peer.Call_CallList:
		return &peer.Answer{Body: &peer.Answer_CallState{CallState: m.HandleList(ctx, b.CallList)}}, nil
	}
	return nil, errors.New("unknown")
}

func (n *node) Others() (list []regions.RegionID) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, id := range n.w.order {
		if r := n.w.nodes[id].region; r != n.region && !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list
}

func (n *node) Nodes(r regions.RegionID) (list []regions.NodeID) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, id := range n.w.order {
		if m := n.w.nodes[id]; m.region == r && !m.dead.Load() {
			list = append(list, id)
		}
	}
	return list
}

// ---------------------------------------------------------------- the roster

func (n *node) CallOf(id regions.CallID) (regions.CallPlace, bool) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if p := n.w.place[spot{n.region, id}]; p != nil {
		return *p, true
	}
	return regions.CallPlace{}, false
}

func (n *node) PlaceCall(_ context.Context, id regions.CallID, room string) (regions.CallPlace, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if p := n.w.place[spot{n.region, id}]; p != nil {
		return *p, nil
	}
	for _, other := range n.w.order {
		if m := n.w.nodes[other]; m.region == n.region && !m.dead.Load() && !m.draining.Load() {
			n.w.epoch++
			n.w.place[spot{n.region, id}] = &regions.CallPlace{Call: id, Room: room, Node: m.id, Epoch: n.w.epoch}
			return *n.w.place[spot{n.region, id}], nil
		}
	}
	return regions.CallPlace{}, media.ErrNoMedia
}

func (n *node) KeepCalls(context.Context, []regions.CallPlace) ([]regions.CallID, error) {
	return nil, nil
}

func (n *node) CallGone(_ context.Context, id regions.CallID, epoch regions.Epoch) (bool, error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	p := n.w.place[spot{n.region, id}]
	switch {
	case p == nil:
		return true, nil
	case p.Node != n.id || p.Epoch != epoch:
		return false, errors.New("stale")
	case p.Former != "":
		return false, nil
	}
	delete(n.w.place, spot{n.region, id})
	return true, nil
}

func (n *node) CallLeft(_ context.Context, id regions.CallID, epoch regions.Epoch) error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if p := n.w.place[spot{n.region, id}]; p != nil && p.Former == n.id && p.FormerEpoch == epoch {
		p.Former, p.FormerEpoch = "", 0
	}
	return nil
}

func (n *node) Hosts() []regions.NodeID { return n.Nodes(n.region) }

// move has the region's call go to another node.
func (w *world) move(region regions.RegionID, draining bool) (from, to *node) {
	w.mu.Lock()
	p := w.place[spot{region, theCall}]
	from = w.nodes[p.Node]
	for _, id := range w.order {
		if m := w.nodes[id]; m.region == region && m != from && !m.dead.Load() && !m.draining.Load() {
			to = m
		}
	}
	w.epoch++
	next := &regions.CallPlace{Call: p.Call, Room: p.Room, Node: to.id, Epoch: w.epoch}
	if draining {
		next.Former, next.FormerEpoch = from.id, p.Epoch
	}
	w.place[spot{region, theCall}] = next
	w.mu.Unlock()
	for _, id := range w.order {
		if m := w.node(id); m.region == region && !m.dead.Load() {
			m.Moved(regions.CallMove{Call: p.Call, Room: p.Room, From: from.id, To: to.id, Epoch: next.Epoch, Draining: draining})
		}
	}
	return from, to
}

// kill ends a node.
func (w *world) kill(n *node) {
	n.dead.Store(true)
	n.sfu.Stop()
	n.Host.Stop()
}

// ---------------------------------------------------------------- the book

func (w *world) Record(_ context.Context, call string) (media.Record, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.record
	if call != theCall {
		r.Call, r.Ended = call, w.ended[call]
		if r.Ended {
			r.Version++
		}
	}
	return r, nil
}

func (w *world) change(f func(r *media.Record)) {
	w.mu.Lock()
	f(&w.record)
	w.record.Version++
	r := w.record
	w.mu.Unlock()
	for _, id := range w.order {
		w.node(id).Changed(r)
	}
}

func (w *world) Lock(_ context.Context, _ string, _ media.Session, locked bool) error {
	w.change(func(r *media.Record) { r.Locked = locked })
	return nil
}

func (w *world) End(context.Context, string, media.Session) error {
	w.change(func(r *media.Record) { r.Ended = true })
	return nil
}

func (w *world) Joined(context.Context, string, string) error { return nil }
func (w *world) Idle(context.Context, string) error           { w.idle.Add(1); return nil }
func (w *world) Seen(context.Context, []string) ([]media.Record, error) {
	return nil, nil
}

func (w *world) Positions(context.Context, string) (map[string]geo.Point, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := map[string]geo.Point{}
	for k, v := range w.where {
		at[k] = v
	}
	return at, nil
}

// ---------------------------------------------------------------- clients

// client is somebody's device, with its session at a node.
type client struct {
	t    testing.TB
	w    *world
	who  media.Session
	edge *node
	call string // theCall, unless it says otherwise
	p2p  bool
	// leave ends the device.
	leave func()

	mu      sync.Mutex // guards the following
	state   map[string]*wire.CallParticipant
	gone    []string // who went, and why
	came    []string
	heardOn map[*sfutest.Client]map[string]time.Time // what was heard last, and when
	direct  bool
	place   uint64
	version uint64
	joins   int // times it was told all
	over    string
	conn    *sfutest.Client
	conns   []*sfutest.Client
	mics    []*webrtc.TrackLocalStaticRTP
	heard   map[string]*ear2
	floor   *wire.CallFloor
	sounds  map[string]*wire.CallSound
	spoke   map[string]bool
	signal  []string
	events  chan func()
	early   *wire.CallDescription
	silent  bool
	loud    atomic.Int32 // level of what it says, -dBov
	n       uint32
}

// ear2 is what came of somebody's microphone: numbers that its sender counted.
type ear2 struct {
	numbers map[uint32]int
	last    uint32
	late    time.Duration // the longest way
}

// enter joins the call with a session at a node, and sends sound from then on.
func (w *world) enter(user, at string, o ...func(*client)) *client {
	w.mu.Lock()
	w.epoch++
	epoch := w.epoch
	w.mu.Unlock()
	c := &client{
		t: w.t, w: w, edge: w.node(regions.NodeID(at)), who: media.Session{User: user, Device: "d", Epoch: epoch, Name: user, Role: "member", Node: regions.NodeID(at)},
		call:  theCall,
		state: map[string]*wire.CallParticipant{}, heardOn: map[*sfutest.Client]map[string]time.Time{}, heard: map[string]*ear2{}, spoke: map[string]bool{}, events: make(chan func(), 10_000),
	}
	c.loud.Store(30)
	for _, f := range o {
		f(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.leave = sync.OnceFunc(func() {
		cancel()
		w.mu.Lock()
		delete(w.clients, c)
		for _, n := range w.nodes {
			delete(n.clients, c.who.ID())
		}
		w.mu.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, x := range c.conns {
			x.Close()
		}
	})
	w.mu.Lock()
	w.clients[c] = struct{}{}
	w.mu.Unlock()
	go func() {
		for {
			select {
			case f := <-c.events:
				f()
			case <-ctx.Done():
				return
			}
		}
	}()
	if !c.silent {
		go c.talk(ctx)
	}
	c.attach()
	c.join(true)
	return c
}

// attach has the session at its node.
func (c *client) attach() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.edge.clients[c.who.ID()] = c
}

func (n *node) tell(to regions.SessionID, e *wire.CallEvent) {
	n.w.mu.Lock()
	c := n.clients[to]
	n.w.mu.Unlock()
	if c != nil {
		c.events <- func() { c.event(e) }
	}
}

func (c *client) ask(r *wire.CallRequest) (*wire.ServerFrame, error) {
	r.Call = c.call
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.edge.Ask(ctx, c.who, theRoom, r)
}

func (c *client) join(fresh bool) {
	a, err := c.ask(&wire.CallRequest{Body: &wire.CallRequest_Join{Join: &wire.CallJoin{PeerToPeer: c.p2p, Fresh: fresh}}})
	require.NoError(c.t, err, "%s joins at %s", c.who.User, c.edge.id)
	done := make(chan struct{})
	c.events <- func() { c.joined(a.GetCallJoined()); close(done) }
	<-done
}

func (c *client) event(e *wire.CallEvent) {
	c.mu.Lock()
	if e.Place < c.place {
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	switch b := e.Body.(type) {
	case *wire.CallEvent_Joined:
		c.joined(b.Joined)
	case *wire.CallEvent_Describe:
		c.mu.Lock()
		conn := c.conn
		if e.Place > c.place || conn == nil {
			conn, c.early = nil, b.Describe // it overtook what tells of the place
		}
		c.mu.Unlock()
		if conn != nil {
			_ = conn.Receive(b.Describe)
		}
	default:
		c.note(e)
	}
}

func (c *client) note(e *wire.CallEvent) {
	c.mu.Lock()
	connect := false
	defer func() {
		c.mu.Unlock()
		if connect {
			c.connect()
		}
	}()
	switch b := e.Body.(type) {
	case *wire.CallEvent_Changed:
		if e.Version <= c.version {
			return // it was in what was told whole
		}
		c.version = e.Version
		for _, p := range b.Changed.Participants {
			if c.state[p.User] == nil {
				c.came = append(c.came, p.User)
			}
			c.state[p.User] = p
		}
		for _, g := range b.Changed.Gone {
			delete(c.state, g.User)
			c.gone = append(c.gone, g.User+" "+g.Reason)
		}
		if b.Changed.Direct != nil {
			c.direct = *b.Changed.Direct
			if connect = !c.direct; c.direct && c.conn != nil {
				go c.conn.Close()
				c.conn, c.conns, c.mics = nil, nil, nil
			}
		}
	case *wire.CallEvent_Over:
		c.over = b.Over.Reason
	case *wire.CallEvent_Floor:
		c.floor = b.Floor
	case *wire.CallEvent_Sounds:
		c.sounds = map[string]*wire.CallSound{}
		for _, s := range b.Sounds.Sounds {
			c.sounds[s.Track] = s
		}
	case *wire.CallEvent_Speakers:
		for _, s := range b.Speakers.Speakers {
			c.spoke[s.User] = true
		}
	case *wire.CallEvent_Signal:
		c.signal = append(c.signal, b.Signal.User+" "+b.Signal.Data)
	}
}

// joined is told all: at a new place both connections are made anew.
func (c *client) joined(j *wire.CallJoined) {
	c.mu.Lock()
	c.state = map[string]*wire.CallParticipant{}
	for _, p := range j.State.Participants {
		c.state[p.User] = p
	}
	c.joins++
	c.direct = j.State.Direct
	anew := j.Place > c.place || c.conn == nil
	c.place, c.version = j.Place, j.State.Version
	direct := c.direct
	c.mu.Unlock()
	if anew && !direct {
		c.connect()
	}
}

// connect makes both connections to the present SFU; those of before go on until media
// flow over the new ones.
func (c *client) connect() {
	c.mu.Lock()
	place := c.place
	c.mu.Unlock()
	var conn *sfutest.Client
	conn, err := sfutest.New(sfutest.Options{}, func(d *wire.CallDescription) error {
		d.Place = place
		go func() { _, _ = c.ask(&wire.CallRequest{Body: &wire.CallRequest_Describe{Describe: d}}) }()
		return nil
	})
	if err != nil {
		c.t.Error(err)
		return
	}
	mic, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48_000, Channels: 2}, "mic", "me")
	if err != nil {
		c.t.Error(err)
		return
	}
	conn.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := t.ReadRTP()
			if err != nil {
				return
			}
			c.hear(conn, t.StreamID(), p.Payload)
			c.settle(conn)
		}
	})
	c.mu.Lock()
	c.conn = conn
	c.conns = append(c.conns, conn)
	c.mics = append(c.mics, mic)
	early := c.early
	c.early = nil
	c.mu.Unlock()
	if early != nil && early.Place == place {
		_ = conn.Receive(early)
	}
	if err := conn.Publish(sfutest.Track{Source: wire.CallSource_MIC, Layers: []*webrtc.TrackLocalStaticRTP{mic}}); err != nil {
		c.t.Error(err)
	}
}

// settle ends the connections of before, once all that is heard over them is heard over
// the new ones.
func (c *client) settle(conn *sfutest.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != conn || len(c.conns) == 1 {
		return
	}
	for track, at := range c.heardOn[c.conns[0]] {
		if time.Since(at) < time.Second && time.Since(c.heardOn[conn][track]) > time.Second {
			return
		}
	}
	for _, x := range c.conns[:len(c.conns)-1] {
		go x.Close()
	}
	c.conns, c.mics = c.conns[len(c.conns)-1:], c.mics[len(c.mics)-1:]
}

const frame = 20 * time.Millisecond

// talk sends a frame of sound every 20 ms: its number, and when it was sent.
func (c *client) talk(ctx context.Context) {
	tick := time.NewTicker(frame)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		c.n++
		n, mics := c.n, slices.Clone(c.mics)
		c.mu.Unlock()
		p := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte{0xfc}, n), uint64(time.Now().UnixNano()))
		for _, m := range mics {
			_ = m.WriteRTP(soundPacket(n, p))
		}
	}
}

func (c *client) hear(conn *sfutest.Client, track string, b []byte) {
	if len(b) < 13 {
		return
	}
	n, sent := binary.BigEndian.Uint32(b[1:]), time.Unix(0, int64(binary.BigEndian.Uint64(b[5:])))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heardOn[conn] == nil {
		c.heardOn[conn] = map[string]time.Time{}
	}
	c.heardOn[conn][track] = time.Now()
	e := c.heard[track]
	if e == nil {
		e = &ear2{numbers: map[uint32]int{}}
		c.heard[track] = e
	}
	e.numbers[n]++
	e.last = max(e.last, n)
	e.late = max(e.late, time.Since(sent))
}

func (c *client) micOf(user string) string {
	return media.TrackID(c.call, user, "d", wire.CallSource_MIC)
}

// count is how many frames of somebody's sound came.
func (c *client) count(user string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.heard[c.micOf(user)]; e != nil {
		return len(e.numbers)
	}
	return 0
}

// gap is the longest run of frames of somebody that did not come, since the number.
func (c *client) gap(user string, since uint32) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, run, longest := c.heard[c.micOf(user)], 0, 0
	for n := since; n <= e.last; n++ {
		if run++; e.numbers[n] > 0 {
			run = 0
		}
		longest = max(longest, run)
	}
	return time.Duration(longest) * frame
}

// last is the newest frame of somebody's that came.
func (c *client) last(user string) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.heard[c.micOf(user)]; e != nil {
		return e.last
	}
	return 0
}

func (c *client) people() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for u := range c.state {
		list = append(list, u)
	}
	slices.Sort(list)
	return list
}

func (c *client) get(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	require.Eventually(w.t, f, soon, 20*time.Millisecond, what)
}

// hears waits until everybody hears everybody go on.
func (w *world) hears(all ...*client) {
	w.t.Helper()
	for _, a := range all {
		for _, b := range all {
			if a != b {
				from := a.count(b.who.User)
				w.eventually(fmt.Sprint(a.who.User, " hears ", b.who.User), func() bool { return a.count(b.who.User) > from+10 })
			}
		}
	}
}
