package meshtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sfu/sfutest"
	"github.com/mustermesh/muster/regions"
)

const (
	voice = 20 * time.Millisecond // a frame of sound
	grace = 3 * time.Second       // connections that are replaced go on: others may hear them still
)

// caller is a user in a call: a session for what is said about it, and two connections
// for what is said in it.
type caller struct {
	*User
	call *client.Call
	id   string // of the call
	stop context.CancelFunc

	mu      sync.Mutex // guards the following
	device  string
	conn    *sfutest.Client
	conns   []*sfutest.Client
	came    map[*sfutest.Client]map[string]time.Time // what was heard last, and when
	settled map[*sfutest.Client]time.Time            // since when all of before is heard over it
	mics    []*webrtc.TrackLocalStaticRTP
	early   *wire.CallDescription
	place   uint64
	version uint64
	people  map[string]bool
	events  []string // who came and went
	heard   map[string]map[uint32]int
	last    map[string]uint32
	n       uint32
	over    bool
}

// enter takes part in a call through a room, with a microphone.
func (u *User) enter(room *client.Room, id string) *caller {
	t := u.mesh.t
	t.Helper()
	c := &caller{User: u, id: id, people: map[string]bool{}, settled: map[*sfutest.Client]time.Time{}, came: map[*sfutest.Client]map[string]time.Time{}, heard: map[string]map[uint32]int{}, last: map[string]uint32{}}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	call, joined, err := room.JoinCall(t.Context(), id, &wire.CallJoin{Fresh: true})
	require.NoError(t, err)
	c.call = call
	c.joined(joined)
	go func() {
		for e := range call.Events(ctx) {
			if e, ok := e.(*client.CallEvent); ok {
				c.event(e)
			}
		}
		c.mu.Lock()
		c.over = true
		c.mu.Unlock()
	}()
	go c.talk(ctx)
	t.Cleanup(c.end)
	return c
}

func (c *caller) end() {
	c.stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.conns {
		x.Close()
	}
}

func (c *caller) event(e *wire.CallEvent) {
	switch b := e.Body.(type) {
	case *wire.CallEvent_Joined:
		c.joined(b.Joined)
	case *wire.CallEvent_Describe:
		c.mu.Lock()
		conn := c.conn
		if e.Place > c.place {
			conn, c.early = nil, b.Describe // it overtook what tells of the place
		}
		c.mu.Unlock()
		if conn != nil {
			_ = conn.Receive(b.Describe)
		}
	case *wire.CallEvent_Changed:
		c.mu.Lock()
		defer c.mu.Unlock()
		if e.Version <= c.version {
			return
		}
		c.version = e.Version
		for _, p := range b.Changed.Participants {
			if !c.people[p.User] {
				c.events = append(c.events, "came "+p.User)
			}
			c.people[p.User] = true
		}
		for _, g := range b.Changed.Gone {
			delete(c.people, g.User)
			c.events = append(c.events, g.Reason+" "+g.User)
		}
	}
}

func (c *caller) joined(j *wire.CallJoined) {
	c.mu.Lock()
	anew := j.Place > c.place
	c.place, c.version = max(c.place, j.Place), j.State.Version
	was := c.people
	c.people = map[string]bool{}
	for _, p := range j.State.Participants {
		c.people[p.User] = true
		if p.User == c.ID {
			c.device = p.Device
		}
	}
	for u := range was {
		if !c.people[u] {
			c.events = append(c.events, "vanished "+u)
		}
	}
	c.mu.Unlock()
	if anew {
		c.connect(j.Place)
	}
}

// connect makes connections to an SFU, beside those that there are.
func (c *caller) connect(place uint64) {
	t := c.mesh.t
	asks := make(chan *wire.CallDescription, 100) // in order, and not under the client's lock
	go func() {
		for d := range asks {
			untilHeard(context.Background(), c.call, d, func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.place == place
			})
		}
	}()
	conn, err := sfutest.New(sfutest.Options{}, func(d *wire.CallDescription) error {
		d.Place = place
		asks <- d
		return nil
	})
	if err != nil {
		t.Error(err)
		return
	}
	mic, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48_000, Channels: 2}, "mic", "me")
	if err != nil {
		t.Error(err)
		return
	}
	conn.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			c.hear(conn, track.StreamID(), p.Payload)
			c.settle(conn)
		}
	})
	c.mu.Lock()
	c.conn, c.conns, c.mics = conn, append(c.conns, conn), append(c.mics, mic)
	early := c.early
	c.early = nil
	c.mu.Unlock()
	if early != nil && early.Place == place {
		_ = conn.Receive(early)
	}
	if err := conn.Publish(sfutest.Track{Source: wire.CallSource_MIC, Layers: []*webrtc.TrackLocalStaticRTP{mic}}); err != nil {
		t.Error(err)
	}
}

// untilHeard says what a connection is until it is heard: what is under way when a session
// loses its connection, or goes to another node, is lost.
func untilHeard(ctx context.Context, to *client.Call, d *wire.CallDescription, still func() bool) {
	for to.Err() == nil && ctx.Err() == nil && still() {
		asking, cancel := context.WithTimeout(ctx, Patience)
		err := to.Describe(asking, d)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// settle ends the connections of before, once all that is heard over them is heard over
// the new ones, and a grace time after.
func (c *caller) settle(conn *sfutest.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != conn || len(c.conns) == 1 {
		return
	}
	for track, at := range c.came[c.conns[0]] {
		if time.Since(at) < time.Second && time.Since(c.came[conn][track]) > time.Second {
			return
		}
	}
	if c.settled[conn].IsZero() {
		c.settled[conn] = time.Now()
	}
	if time.Since(c.settled[conn]) < grace {
		return
	}
	for _, x := range c.conns[:len(c.conns)-1] {
		go x.Close()
	}
	c.conns, c.mics = c.conns[len(c.conns)-1:], c.mics[len(c.mics)-1:]
}

// talk sends a numbered frame every 20 ms.
func (c *caller) talk(ctx context.Context) {
	tick := time.NewTicker(voice)
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
		payload := binary.BigEndian.AppendUint32([]byte{0xfc}, n)
		for _, m := range mics {
			_ = m.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * 960, SSRC: 1}, Payload: payload})
		}
	}
}

func (c *caller) hear(conn *sfutest.Client, track string, b []byte) {
	if len(b) < 5 {
		return
	}
	n := binary.BigEndian.Uint32(b[1:])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(conn, track)
	if c.heard[track] == nil {
		c.heard[track] = map[uint32]int{}
	}
	c.heard[track][n]++
	c.last[track] = max(c.last[track], n)
}

// note is called with the lock held.
func (c *caller) note(conn *sfutest.Client, track string) {
	if c.came[conn] == nil {
		c.came[conn] = map[string]time.Time{}
	}
	c.came[conn][track] = time.Now()
}

func (c *caller) mic() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return media.TrackID(c.id, c.ID, c.device, wire.CallSource_MIC)
}

// newest is the last frame of somebody's that came, and count how many did.
func (c *caller) newest(of *caller) (last uint32, count int) {
	mic := of.mic()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last[mic], len(c.heard[mic])
}

// gap is the longest run of frames that did not come.
func (c *caller) gap(of *caller, since uint32) time.Duration {
	mic := of.mic()
	c.mu.Lock()
	defer c.mu.Unlock()
	run, longest := 0, 0
	for n := since; n <= c.last[mic]; n++ {
		if run++; c.heard[mic][n] > 0 {
			run = 0
		}
		longest = max(longest, run)
	}
	return time.Duration(longest) * voice
}

// String tells how it stands.
func (c *caller) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("%s (%s) at place %d was told %v", c.Name, c.ID, c.place, c.events)
	for _, x := range c.conns {
		s += fmt.Sprintf("; a connection %v, %v hears", x.Up.ConnectionState(), x.Down.ConnectionState())
		for track, at := range c.came[x] {
			s += fmt.Sprintf(" %s %v ago", track, time.Since(at))
		}
	}
	return s
}

func (c *caller) told() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.events)
}

// hearing waits until everybody hears everybody go on, and returns the newest frames.
func (m *Mesh) hearing(all ...*caller) map[[2]*caller]uint32 {
	m.t.Helper()
	marks := map[[2]*caller]uint32{}
	for _, a := range all {
		for _, b := range all {
			if a == b {
				continue
			}
			_, from := a.newest(b)
			require.Eventually(m.t, func() bool { _, n := a.newest(b); return n > from+10 }, Patience, 5*time.Millisecond, "%s hears %s: %v, %v", a.Name, b.Name, a, b)
		}
	}
	for _, a := range all {
		for _, b := range all {
			marks[[2]*caller{a, b}], _ = a.newest(b)
		}
	}
	return marks
}

// sfuOf is which node is a region's SFU of a call, by its place in Mesh.Nodes; -1: none.
func (m *Mesh) sfuOf(region int, call string) int {
	name := m.Topology.Regions[region].Name
	for _, n := range m.Nodes {
		if n.Region() != name || !n.Cluster().Current() {
			continue
		}
		if p, ok := n.Cluster().CallOf(regions.CallID(call)); ok {
			return slices.IndexFunc(m.Nodes, func(x *node.Node) bool { return x.ID() == p.Node })
		}
	}
	return -1
}

// crossed is how many packets of media each node sent to others.
func (m *Mesh) crossed(name string) (sum float64) {
	families, err := m.Gather()
	require.NoError(m.t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, x := range f.Metric {
				sum += x.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// A call over three regions, through all that happens to its servers: everybody hears
// everybody, each track crosses to each other region once; a node that drains is neither
// heard nor seen to; one that is killed is made up for; who is put out of the group is
// out of the call; and when a region is lost, the others go on.
func TestACallOverThreeRegions(t *testing.T) {
	m := StartWith(t, node.MeshConfig{
		Regions: 3, Nodes: 3, Calls: true, Drain: node.DrainConfig{Deadline: 5 * time.Second},
		Session: session.Config{Ping: 500 * time.Millisecond, Grace: 6 * time.Second},
	})
	owner := m.Guest(0, "Owner")
	users := []*User{owner, m.Guest(0, "Eu"), m.Guest(1, "Us"), m.Guest(2, "Ap")}
	group := m.Group(owner, users[1:]...)
	started, err := owner.StartCall(t.Context(), client.CallDraft{GroupID: group, Type: "audio"})
	require.NoError(t, err)
	var all []*caller
	rooms := map[*User]*client.Room{}
	for i, u := range users {
		region := max(0, i-1)
		u.ConnectTo(client.Auto, m.Endpoint(region, 0), m.Endpoint(region, 1), m.Endpoint(region, 2))
		rooms[u] = u.Join(group)
		all = append(all, u.enter(rooms[u], started.ID))
	}
	m.hearing(all...)

	// 4 tracks, each to 2 other regions: so many packets cross as there are frames.
	said := func() (n uint32) {
		for _, c := range all {
			c.mu.Lock()
			n += c.n
			c.mu.Unlock()
		}
		return n
	}
	crossed := func() float64 { // for the first time
		return m.crossed("muster_media_cascade_sent_packets_total") - m.crossed("muster_media_cascade_repaired_total")
	}
	before, from := crossed(), said()
	time.Sleep(2 * time.Second)
	packets, frames := crossed()-before, 2*float64(said()-from)
	t.Logf("%.0f packets crossed links, of %.0f frames of 4 tracks to 2 other regions each", packets, frames)
	require.InDelta(t, 1, packets/frames, .25)

	quiet := map[*caller]int{}
	for _, c := range all {
		quiet[c] = len(c.told())
	}
	nobodyWent := func(of ...*caller) {
		t.Helper()
		for _, c := range of {
			require.Empty(t, c.told()[quiet[c]:], c.Name)
		}
	}

	// The SFU of eu drains.
	marks := m.hearing(all...)
	drains := m.sfuOf(0, started.ID)
	require.GreaterOrEqual(t, drains, 0)
	require.NoError(t, m.Nodes[drains].Drain(t.Context()))
	m.Eventually("the call is at another node", func() bool { to := m.sfuOf(0, started.ID); return to >= 0 && to != drains })
	m.hearing(all...)
	// What two hear of each other whom the drain is nothing to shows what the machine
	// that the test runs on has lost by itself.
	unconcerned, longest := all[2:], time.Duration(0)
	for pair, mark := range marks {
		if gap := pair[0].gap(pair[1], mark); slices.Contains(unconcerned, pair[0]) && slices.Contains(unconcerned, pair[1]) {
			longest = max(longest, gap)
		}
	}
	for pair, mark := range marks {
		gap := pair[0].gap(pair[1], mark)
		t.Logf("a drain: %s of %s: %v", pair[0].Name, pair[1].Name, gap)
		assert.Less(t, gap, 300*time.Millisecond+longest)
	}
	require.False(t, t.Failed())
	nobodyWent(all...)

	// The SFU of us is killed.
	dies := m.sfuOf(1, started.ID)
	marks = m.hearing(all...)
	m.Kill(dies)
	m.Eventually("the call is at another node of us", func() bool { to := m.sfuOf(1, started.ID); return to >= 0 && to != dies })
	m.hearing(all...)
	nobodyWent(all[0], all[1], all[3]) // Us may have lost its session's node, and is told anew by one that has just begun
	t.Logf("a kill: Owner of Us: %v", all[0].gap(all[2], marks[[2]*caller{all[0], all[2]}]))

	// Put out of the group is put out of the call.
	require.NoError(t, owner.Kick(t.Context(), group, users[1].ID))
	require.Eventually(t, func() bool {
		return slices.Contains(all[0].told(), "removed "+users[1].ID) && slices.Contains(all[3].told(), "removed "+users[1].ID)
	}, Patience, 5*time.Millisecond, "Eu is out of the call: %v, %v", all[0], all[3])
	rest := []*caller{all[0], all[2], all[3]}
	m.hearing(rest...)

	// And ap is gone.
	for i, n := range m.Nodes {
		if n.Region() == m.Topology.Regions[2].Name {
			m.Kill(i)
		}
	}
	two := rest[:2]
	marks = m.hearing(two...)
	m.Eventually("Ap is given up", func() bool {
		return slices.Contains(two[0].told(), "region_lost "+users[3].ID) && slices.Contains(two[1].told(), "region_lost "+users[3].ID)
	})
	m.hearing(two...)
	for pair, mark := range marks {
		if pair[0] != pair[1] {
			require.Less(t, pair[0].gap(pair[1], mark), 300*time.Millisecond)
		}
	}
	require.NoError(t, owner.EndCall(t.Context(), started.ID))
	m.Eventually("it is over for all", func() bool { return two[0].call.Err() != nil && two[1].call.Err() != nil })
	require.True(t, strings.Contains(two[1].call.Err().Error(), "ended"), two[1].call.Err())
}
