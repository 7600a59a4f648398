package meshtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/regions/roster"
)

// phone speaks the protocol itself: one connection, without the SDK's wits.
type phone struct {
	mu       sync.Mutex // guards the following
	welcome  *wire.Welcome
	snapshot *wire.Snapshot
	events   []*wire.Event
	close    *wire.Close
}

// phone opens a session of the user's one device in a region and joins rooms.
func (u *User) phone(region int, ticket []byte, follows ...*wire.Follow) *phone {
	m, t := u.mesh, u.mesh.t
	t.Helper()
	token, err := u.Token(t.Context(), "")
	require.NoError(t, err)
	c, err := (&client.Dialer{Transport: client.WebSocketOnly}).Connect(t.Context(), m.Endpoint(region, 0))
	require.NoError(t, err)
	p := &phone{}
	var reading sync.WaitGroup
	reading.Go(func() {
		_ = c.Receive(context.Background(), func(b []byte) {
			f, err := wire.DecodeServer(b)
			if err != nil {
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			switch b := f.Body.(type) {
			case *wire.ServerFrame_Welcome:
				p.welcome = b.Welcome
			case *wire.ServerFrame_Snapshot:
				p.snapshot = b.Snapshot
			case *wire.ServerFrame_Event:
				p.events = append(p.events, b.Event)
			case *wire.ServerFrame_Close:
				p.close = b.Close
			}
		})
	})
	t.Cleanup(reading.Wait)
	t.Cleanup(func() { c.Close(0) })
	b, err := wire.AppendFrame(nil, &wire.ClientFrame{Body: &wire.ClientFrame_Hello{Hello: &wire.Hello{
		Version: wire.Version, Token: token, Device: "phone", Ticket: ticket, Follows: follows,
	}}})
	require.NoError(t, err)
	require.NoError(t, c.Write(t.Context(), b))
	m.Eventually("welcome", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		require.Nil(t, p.close)
		return p.welcome != nil && (len(follows) == 0 || p.snapshot != nil)
	})
	return p
}

func (p *phone) closed() *wire.Close {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.close
}

// positions are those of the snapshot and of what came after it.
func (p *phone) positions() (all []*wire.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range p.snapshot.Parts {
		at := part.At
		for _, e := range p.events {
			if e.At.GetRegion() == at.Region {
				at = e.At
			}
		}
		all = append(all, at)
	}
	return all
}

// here is a device's session in a region's roster, nil if there is none.
func (m *Mesh) here(region int, user, device string) (x *roster.Session) {
	for _, n := range m.Nodes {
		if n.Region() == m.Topology.Regions[region].Name && n.Cluster().Current() {
			n.Cluster().View(func(s *roster.State, _ uint64) {
				if y, ok := s.Session(user, device); ok {
					x = y
				}
			})
			return x
		}
	}
	return nil
}

// The same device opens a session in another region, with the ticket of the one
// before and its positions. That one ends with the word of the other region, at
// once if it can be told and when the regions hear of each other again if not;
// nobody sees the device leave.
func TestDeviceGoesToAnotherRegion(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 2)
	ann, bob := m.Guest(0, "Ann"), m.Guest(0, "Bob").Connect(0, 1, client.WebSocketOnly)
	group := m.Group(bob, ann)
	room := client.GroupRoom(group)
	b := bob.Join(group)
	at := func(region int) func() bool {
		return func() bool {
			got, ok := Member(b, ann.ID)
			return ok && got.Live() && len(got.Devices) == 1 && got.Devices[0].Region == m.Region(region)
		}
	}
	var left []client.PresenceChanged // as Bob saw
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		for e := range b.Events(ctx) {
			if p, ok := e.(client.PresenceChanged); ok && p.User == ann.ID && p.State == wire.State_LEFT && p.Device.Reason != wire.Reason_MOVED {
				left = append(left, p)
			}
		}
	})
	over := func(p *phone, region int) func() bool {
		return func() bool { return p.closed() != nil && m.here(region, ann.ID, "phone") == nil }
	}

	first := ann.phone(0, nil, &wire.Follow{Room: room})
	m.Eventually("Bob sees Ann", at(0))
	began := time.Now()
	sent := first.positions()
	second := ann.phone(1, first.welcome.Ticket, &wire.Follow{Room: room, Positions: sent})
	require.Greater(t, second.welcome.Epoch, first.welcome.Epoch)
	if !second.snapshot.Recovered { // its owner may have begun to follow the other region before the positions came
		t.Logf("not recovered from %v", sent)
	}
	m.Eventually("the older session is over", over(first, 0))
	t.Logf("over after %v", time.Since(began))
	require.Equal(t, wire.CodeSuperseded, first.closed().Code)
	require.Less(t, time.Since(began), 5*time.Second)
	m.Eventually("Bob sees where Ann is", at(1))

	cancel()
	watching.Wait()
	require.Empty(t, left, "Ann was there all the time")

	// The two need not be in one room.
	began = time.Now()
	third := ann.phone(0, second.welcome.Ticket)
	m.Eventually("the older session is over", over(second, 1))
	t.Logf("over after %v", time.Since(began))
	require.Less(t, time.Since(began), 5*time.Second)
	require.Nil(t, third.closed())
	fourth := ann.phone(1, third.welcome.Ticket, &wire.Follow{Room: room})
	m.Eventually("the older session is over", over(third, 0))
	m.Eventually("Bob sees where Ann is", at(1))

	// While the regions can't hear each other both are live; then one is.
	m.Net.CutBoth(m.Region(0), m.Region(1))
	time.Sleep(4 * time.Second)
	fifth := ann.phone(0, fourth.welcome.Ticket, &wire.Follow{Room: room})
	m.Eventually("Bob sees Ann here", at(0))
	require.Nil(t, fourth.closed())
	require.NotNil(t, m.here(1, ann.ID, "phone"))
	began = time.Now()
	m.Net.Heal()
	m.Eventually("one is over", over(fourth, 1))
	t.Logf("over %v after the cut", time.Since(began))
	m.Eventually("Bob sees where Ann is", at(0))
	require.Nil(t, fifth.closed())
	require.NotNil(t, m.here(0, ann.ID, "phone"))
}
