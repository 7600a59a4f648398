package meshtest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/node"
)

// Two people on two continents: they appear, move, speak and go, over either
// transport.
func TestPeopleSeeEachOtherAcrossRegions(t *testing.T) {
	t.Parallel()
	for _, how := range []struct {
		name string
		dial client.Transport
		is   wire.Transport
	}{
		{"WebTransport", client.WebTransportOnly, wire.Transport_WEBTRANSPORT},
		{"WebSocket", client.WebSocketOnly, wire.Transport_WEBSOCKET},
	} {
		t.Run(how.name, func(t *testing.T) {
			m := Start(t, 3, 3)
			ana := m.Guest(0, "Ana").Connect(0, 0, how.dial)
			bo := m.Guest(1, "Bo").Connect(1, 1, how.dial)
			require.Equal(t, how.is, ana.Session.Status().Transport)
			require.Equal(t, m.Region(1), bo.Session.Status().Region)
			group := m.Group(ana, bo)
			atAna, atBo := ana.Join(group), bo.Join(group)

			m.Eventually("they see each other, with region and transport", func() bool {
				a, okA := Member(atBo, ana.ID)
				b, okB := Member(atAna, bo.ID)
				return okA && okB && a.Live() && b.Live() && a.Name == "Ana" && a.Devices[0].Region == m.Region(0) &&
					b.Devices[0].Region == m.Region(1) && b.Devices[0].Transport == how.is && b.Devices[0].Node == m.Region(1)+"-2"
			})

			bled := geo.Point{Lat: 46.3683, Lng: 14.1146}
			require.NoError(t, atAna.Report(client.Fix{Point: bled, Accuracy: 7}))
			m.Eventually("Bo sees where Ana is", func() bool {
				f, ok := FixOf(atBo, ana.ID)
				return ok && f.Point == bled && f.Accuracy == 7
			})

			sent, err := atBo.Send(t.Context(), "dober dan")
			require.NoError(t, err)
			require.EqualValues(t, 1, sent.Number)
			m.Eventually("Ana reads it", func() bool {
				ms := atAna.Messages()
				return len(ms) == 1 && ms[0].Body == "dober dan" && ms[0].SenderName == "Bo" && ms[0].ID == sent.ID
			})

			bo.Session.Close()
			m.Eventually("Ana sees Bo go", func() bool {
				_, here := Member(atAna, bo.ID)
				return !here
			})
		})
	}
}

// Messages that are sent from all regions at once have dense numbers, and
// everybody ends up with the same list.
func TestMessagesOfAllRegionsAreOneList(t *testing.T) {
	t.Parallel()
	const users, each = 6, 15
	m := Start(t, 3, 2)
	var all []*User
	for i := range users {
		all = append(all, m.Guest(i%3, fmt.Sprintf("User %d", i)).Connect(i%3, i/3, client.Auto))
	}
	group := m.Group(all[0], all[1:]...)
	rooms := make([]*client.Room, users)
	for i, u := range all {
		rooms[i] = u.Join(group)
	}
	var wg sync.WaitGroup
	for i, r := range rooms {
		wg.Go(func() {
			for n := range each {
				if _, err := r.Send(t.Context(), fmt.Sprintf("%d of %s", n, all[i].Name)); err != nil {
					t.Errorf("send: %v", err)
				}
			}
		})
	}
	wg.Wait()
	want, err := all[0].Messages(t.Context(), group, 0, 0, 200)
	require.NoError(t, err)
	require.Len(t, want, users*each)
	for i, r := range rooms {
		m.Eventually("everybody has all of them", func() bool { return len(r.Messages()) == users*each })
		for n, got := range r.Messages() {
			require.EqualValues(t, n+1, got.Number, "dense at user %d", i)
			require.Equal(t, want[n].ID, got.ID)
		}
		require.Zero(t, r.Counters().DuplicateEvents)
	}
}

// Somebody who was removed is out of the region before the removal is
// acknowledged, and nothing that is said afterwards reaches them.
func TestARemovedMemberHearsNothingMore(t *testing.T) {
	m := Start(t, 2, 3)
	owner := m.Guest(0, "Owner").Connect(0, 0, client.Auto)
	near := m.Guest(0, "Near").Connect(0, 1, client.Auto)
	far := m.Guest(1, "Far").Connect(1, 0, client.Auto)
	group := m.Group(owner, near, far)
	atOwner, atNear, atFar := owner.Join(group), near.Join(group), far.Join(group)
	m.Eventually("all are there", func() bool { return len(atOwner.Members()) == 3 })

	require.NoError(t, owner.Kick(t.Context(), group, near.ID))
	require.NoError(t, owner.Kick(t.Context(), group, far.ID))
	_, err := atOwner.Send(t.Context(), "among ourselves")
	require.NoError(t, err)

	for _, r := range []*client.Room{atNear, atFar} {
		m.Eventually("the removed are told", func() bool { return client.IsCode(r.Err(), wire.CodeNotMember) })
		require.Empty(t, r.Messages())
	}
	m.Eventually("the room shows them gone", func() bool { return len(atOwner.Members()) == 1 })
	_, err = near.Session.Join(t.Context(), client.GroupRoom(group))
	require.True(t, client.IsCode(err, wire.CodeNotMember), "and can't come back: %v", err)
	_, err = near.Messages(t.Context(), group, 0, 0, 10)
	require.Error(t, err)
}

// Signing out ends the login's sessions everywhere, and its token with them.
func TestSigningOutClosesTheSessions(t *testing.T) {
	m := Start(t, 2, 2)
	ana := m.Guest(0, "Ana").Connect(1, 1, client.Auto) // signed in here, connected there
	bo := m.Guest(0, "Bo").Connect(0, 0, client.Auto)
	group := m.Group(bo, ana)
	ana.Join(group)
	atBo := bo.Join(group)
	m.Eventually("Bo sees Ana", func() bool { _, ok := Member(atBo, ana.ID); return ok })
	token, err := ana.Token(t.Context(), "")
	require.NoError(t, err)

	require.NoError(t, ana.Logout(t.Context()))
	select {
	case <-ana.Session.Done():
	case <-time.After(Patience):
		t.Fatal("the session did not end")
	}
	m.Eventually("Bo sees Ana go", func() bool { _, ok := Member(atBo, ana.ID); return !ok })
	// Its access token is still valid by signature; no node takes it.
	for r := range 2 {
		n := m.edge.Regions[r].Nodes[0]
		_, err := client.Connect(t.Context(), client.Config{
			Endpoints: []client.Endpoint{{WS: n.WS}}, Tokens: client.StaticToken(token),
			Dialer: &client.Dialer{Transport: client.WebSocketOnly},
		})
		require.True(t, client.IsCode(err, wire.CodeSignedOut), "%v", err)
	}
}

// A link between regions that is cut and heals leaves nobody behind: what was
// said and where people went meanwhile is on both sides afterwards, and nobody
// is thought to have left.
func TestACutBetweenRegionsHeals(t *testing.T) {
	t.Parallel()
	m := StartWith(t, node.MeshConfig{Regions: 2, Nodes: 2, DatabaseSurvives: true})
	ana := m.Guest(0, "Ana").Connect(0, 0, client.Auto)
	bo := m.Guest(1, "Bo").Connect(1, 0, client.Auto)
	group := m.Group(ana, bo)
	atAna, atBo := ana.Join(group), bo.Join(group)
	m.Eventually("they see each other", func() bool { return len(atAna.Members()) == 2 && len(atBo.Members()) == 2 })
	left := watchForLeaves(t, atAna, bo.ID)

	m.Net.CutBoth(m.Region(0), m.Region(1))
	last := geo.Point{Lat: 45.1, Lng: 13.7}
	require.NoError(t, atBo.Report(client.Fix{Point: last}))
	sent, err := atBo.Send(t.Context(), "can you hear me?")
	require.NoError(t, err, "each side goes on")
	// Longer than the links' idle timeout: they break, and must mend.
	select {
	case <-time.After(6 * time.Second):
	case <-t.Context().Done():
	}
	_, seen := FixOf(atAna, bo.ID)
	require.False(t, seen)
	asked := ana.send(http.MethodGet, "/location/group/"+group, "", http.StatusOK)
	require.Equal(t, m.Region(1), asked.Get("Unreached-Regions"), "who is asked where they are says whom it could not ask")
	m.Net.Heal()

	m.Eventually("what was said arrives", func() bool {
		ms := atAna.Messages()
		return len(ms) == 1 && ms[0].ID == sent.ID
	})
	m.Eventually("and where he is", func() bool {
		f, ok := FixOf(atAna, bo.ID)
		return ok && f.Point == last
	})
	require.Empty(t, left(), "nobody left")
}

// watchForLeaves collects the leave events of a user in a room.
func watchForLeaves(t *testing.T, r *client.Room, user string) func() []client.PresenceChanged {
	ctx, cancel := context.WithCancel(t.Context())
	var left []client.PresenceChanged
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range r.Events(ctx) {
			if p, ok := e.(client.PresenceChanged); ok && p.User == user && p.Device.State == wire.State_LEFT {
				left = append(left, p)
			}
		}
	})
	return func() []client.PresenceChanged {
		cancel()
		wg.Wait()
		return left
	}
}
