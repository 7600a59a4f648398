//go:build !nofencing

package nemesis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/internal/meshtest"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/internal/simnet"
)

// onSockets is a mesh with real sockets, disks and SQL, in one process.
type onSockets struct {
	*meshtest.Mesh
	t     *testing.T
	shape Shape
	log   *slog.Logger
	chat  *chat.Chat
	talks *chat.Conversations
	http  *http.Client
	users map[string]*meshtest.User
	wt    *client.Dialer
	ws    *client.Dialer
	ids   []string        // of the nodes, in the order of Mesh.Nodes
	turns []chan struct{} // whose lives end and begin one after another
	dead  []bool          // guarded by turns

	mu  sync.Mutex // guards the following
	rng *rand.Rand
}

func (m *onSockets) dial(ctx context.Context, _ Key, ep client.Endpoint) (client.Conn, error) {
	m.mu.Lock()
	d := m.wt
	if m.rng.IntN(2) == 0 {
		d = m.ws
	}
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return d.Connect(ctx, ep)
}

func (m *onSockets) tokens(user string) client.TokenSource { return m.users[user].API }

func (m *onSockets) endpoints(region int) (out []client.Endpoint) {
	for i := range m.shape.Nodes {
		out = append(out, m.Endpoint(region, i))
	}
	return out
}

// at asks a node's HTTP API as a user.
func (m *onSockets) at(ctx context.Context, user string) (*client.API, error) {
	token, err := m.users[user].Token(ctx, "")
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	i := m.rng.IntN(len(m.ids))
	m.mu.Unlock()
	base := m.Topology.Regions[i/m.shape.Nodes].Nodes[i%m.shape.Nodes].HTTP
	return client.NewAPI(base, client.APIConfig{HTTP: m.http, Credentials: client.Credentials{UserID: user, Token: token}}), nil
}

func (m *onSockets) revise(ctx context.Context, user, room string, v Revision) (msg client.Message, err error) {
	api, err := m.at(ctx, user)
	if err != nil {
		return client.Message{}, err
	}
	switch {
	case v.Delete:
		err = api.Delete(ctx, room, v.Number)
	case v.Body != "":
		msg, err = api.Edit(ctx, room, v.Number, v.Body, nil, 0)
	case v.Pin:
		msg, err = api.Pin(ctx, room, v.Number, v.On)
	default:
		msg, err = api.React(ctx, room, v.Number, v.Emoji, v.On)
	}
	if refused, ok := errors.AsType[*client.Error](err); ok && (refused.Status == http.StatusForbidden || refused.Status == http.StatusConflict) {
		return client.Message{Number: v.Number}, nil // somebody else's, or deleted: that is an answer
	}
	if v.Delete {
		msg.Number = v.Number
	}
	return msg, err
}

func (m *onSockets) receipts(ctx context.Context, user, room string) ([]client.Seen, error) {
	api, err := m.at(ctx, user)
	if err != nil {
		return nil, err
	}
	return api.Receipts(ctx, room)
}

func (m *onSockets) kept(room string) Kept {
	ctx := m.t.Context()
	last, change, err := m.chat.Last(ctx, room)
	require.NoError(m.t, err)
	out := Kept{Messages: m.messages(room, last), Change: change, Receipts: map[string]client.Seen{}}
	seen, _, err := m.talks.ReceiptsOf(ctx, core.UserID{}, room)
	require.NoError(m.t, err)
	for _, s := range seen {
		out.Receipts[s.User.String()] = client.Seen{User: s.User.String(), Delivered: s.Delivered, Read: s.Read}
	}
	return out
}

func (m *onSockets) messages(room string, last uint64) []*wire.Message {
	var all []*wire.Message
	for before := last + 1; before > 1; {
		page, err := m.chat.History(m.t.Context(), core.UserID{}, room, chat.Page{Before: before, Limit: wire.MaxHistory})
		require.NoError(m.t, err)
		require.NotEmpty(m.t, page.Messages)
		var ms []*wire.Message
		for _, x := range page.Messages {
			ms = append(ms, x.Wire())
		}
		all, before = append(ms, all...), page.Messages[0].Number
	}
	return all
}

func (m *onSockets) index(id string) int { return slices.Index(m.ids, id) }

func (m *onSockets) peer(id string) string {
	i := m.index(id)
	return m.Topology.Regions[i/m.shape.Nodes].Nodes[i%m.shape.Nodes].Peer
}

// take waits for a node's turn.
func (m *onSockets) take(id string) (i int, done func()) {
	i = m.index(id)
	m.turns[i] <- struct{}{}
	return i, func() { <-m.turns[i] }
}

func (m *onSockets) kill(id string) {
	i, done := m.take(id)
	defer done()
	if !m.dead[i] {
		m.Kill(i)
		m.dead[i] = true
	}
}

func (m *onSockets) again(id string) error {
	i, done := m.take(id)
	defer done()
	if !m.dead[i] {
		return nil
	}
	if err := m.Restart(m.t.Context(), i); err != nil {
		return err
	}
	m.dead[i] = false
	return nil
}

func (m *onSockets) inflict(ctx context.Context, f Fault) {
	over, cancel := context.WithTimeout(ctx, f.For)
	defer cancel()
	cut := func(do func(from, to string)) {
		for _, id := range m.ids {
			a, b := m.peer(f.On), m.peer(id)
			if id == f.On {
				continue
			}
			if f.Kind != Deafen {
				do(a, b)
			}
			if f.Kind != Mute {
				do(b, a)
			}
		}
	}
	switch f.Kind {
	case Kill:
		m.kill(f.On)
		<-over.Done()
	case Drain:
		i := m.index(f.On)
		_ = m.Nodes[i].Drain(over) // one that was killed meanwhile drains nothing
		m.kill(f.On)
		<-over.Done()
	case Isolate, Mute, Deafen:
		cut(m.Net.Cut)
		<-over.Done()
		cut(m.Net.Mend)
		return
	case Part, Split:
		a, b := f.On, f.Other
		if f.Kind == Part {
			a, b = m.peer(a), m.peer(b)
		}
		m.Net.CutBoth(a, b)
		<-over.Done()
		m.Net.Mend(a, b)
		m.Net.Mend(b, a)
		return
	}
	if err := m.again(f.On); err != nil {
		m.log.Error("node does not start", "node", f.On, "err", err)
	}
}

func (m *onSockets) heal(context.Context) error {
	m.Net.Heal()
	for _, id := range m.ids {
		if err := m.again(id); err != nil {
			return err
		}
	}
	return nil
}

func (m *onSockets) rosters() map[string]map[string][]Session {
	out := map[string]map[string][]Session{}
	for i, id := range m.ids {
		region := m.Region(i / m.shape.Nodes)
		if out[region] == nil {
			out[region] = map[string][]Session{}
		}
		out[region][id] = rosterOf(m.Nodes[i].Cluster())
	}
	return out
}

// TestNemesisOnSockets is the nemesis with nothing emulated but distance and
// cuts. MUSTER_NEMESIS_SEED, _SOCKETS (how many) and _TIME choose, as for
// TestNemesis.
func TestNemesisOnSockets(t *testing.T) {
	first, count := env("MUSTER_NEMESIS_SEED", 1), env("MUSTER_NEMESIS_SOCKETS", 1)
	length := 6 * time.Second
	if l, err := time.ParseDuration(os.Getenv("MUSTER_NEMESIS_TIME")); err == nil {
		length = l
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { playOnSockets(t, seed, length) })
	}
}

func playOnSockets(t *testing.T, seed uint64, length time.Duration) {
	s := Shape{
		Regions: 2, Nodes: 3, Rooms: 2, Devices: 12,
		Faults: []Kind{Kill, Isolate, Mute, Deafen, Part, Split, Drain},
	}
	m := &onSockets{
		t: t, shape: s, log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		Mesh: meshtest.StartWith(t, node.MeshConfig{
			Regions: s.Regions, Nodes: s.Nodes, Raft: t.TempDir(), Net: simnet.Config{Seed: seed},
			Session: session.Config{Ping: time.Second, Grace: grace}, Drain: node.DrainConfig{Rate: 20, Deadline: 3 * time.Second},
		}),
		users: map[string]*meshtest.User{}, rng: rand.New(rand.NewPCG(seed, 0x50c)),
	}
	m.chat = chat.New(m.DB, chat.Config{})
	t.Cleanup(m.chat.Stop)
	m.talks = chat.NewConversations(m.DB, chat.ConversationsConfig{})
	m.http = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	t.Cleanup(m.http.CloseIdleConnections)
	edge, err := client.NewAPI(m.API, client.APIConfig{}).Edge(t.Context())
	require.NoError(t, err)
	pins, err := edge.Pins()
	require.NoError(t, err)
	m.wt = &client.Dialer{Transport: client.WebTransportOnly, CertSHA256: pins}
	m.ws = &client.Dialer{Transport: client.WebSocketOnly}
	for r := range s.Regions {
		for n := range s.Nodes {
			m.ids = append(m.ids, nodeName(r, n))
			m.turns = append(m.turns, make(chan struct{}, 1))
		}
	}
	m.dead = make([]bool, len(m.ids))

	var names []string
	var people []*meshtest.User
	for i := range s.Devices {
		if i%3 == 2 {
			names = append(names, names[i-1]) // a second device
			continue
		}
		u := m.Guest(i%s.Regions, fmt.Sprintf("Guest %d", i))
		m.users[u.ID] = u
		people, names = append(people, u), append(names, u.ID)
	}
	var rooms []string
	for range s.Rooms {
		rooms = append(rooms, client.GroupRoom(m.Group(people[0], people[1:]...)))
	}

	h := NewHistory(grace)
	faults := Schedule(seed, s, length)
	require.NoError(t, play(t.Context(), m, seed, s, faults, length, rooms, func(i int) string { return names[i] }, h, m.log), Print(faults))
	violations := Check(h)
	Report(t.Output(), seed, faults, h, violations)
	require.Zero(t, len(violations), "promises were broken, see above; again: make nemesis-sockets SEED=%d TIME=%v", seed, length)
}
