package scenario_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/scenario"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/meshtest"
)

// TestPresence: nothing twice, and every final position arrives, over both
// transports; and everybody is seen to come and go. Latency is the benchmark's
// business, not a loaded test machine's.
func TestPresence(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m := meshtest.Start(t, 3, 1)
	for name, tr := range map[string]client.Transport{"webtransport": client.WebTransportOnly, "websocket": client.WebSocketOnly} {
		t.Run(name, func(t *testing.T) {
			p := scenario.Presence{
				WAN:  scenario.WAN{API: m.API, Net: m.Net, Users: 18, RoomSize: 9, Transport: tr},
				Rate: 94, Changes: 4, Duration: 2 * time.Second, Warmup: time.Second,
			}
			r, err := p.Run(ctx)
			require.NoError(t, err)
			require.NoError(t, r.Broken())
			require.Positive(t, r.Deliveries)
			require.Len(t, r.Pairs, 9)
			require.NotNil(t, r.Pairs[0].Added)
			require.NotNil(t, r.Pairs[1].Crossing)
			require.Equal(t, r.Expected, r.Deliveries+r.Superseded)
			require.Positive(t, r.ChangesSent)
			require.Len(t, r.Links, 6)
			for _, l := range r.Links {
				require.Positive(t, l.PerUpdate)
				require.Positive(t, l.Naive)
			}
		})
	}
}

func TestRefusesNonsense(t *testing.T) {
	for _, p := range []scenario.Presence{
		{WAN: scenario.WAN{Users: 30, RoomSize: 7}, Rate: 30, Duration: time.Second},
		{WAN: scenario.WAN{Users: 30, RoomSize: 30}, Duration: time.Second},
		{WAN: scenario.WAN{Users: 30, RoomSize: 30}, Rate: 30},
		{WAN: scenario.WAN{Users: 30, RoomSize: 30}, Rate: 30, Changes: 30, Duration: time.Second},
	} {
		_, err := p.Run(t.Context())
		require.Error(t, err)
	}
}

// TestSDK is one round through the Go SDK's calls against the real thing.
func TestSDK(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	base := meshtest.Start(t, 3, 1).API
	ana, bo := client.NewAPI(base, client.APIConfig{}), client.NewAPI(base, client.APIConfig{})
	_, err := ana.Register(ctx, "Ana", "ana@example.org", "correct horse battery", "test")
	require.NoError(t, err)
	_, err = client.NewAPI(base, client.APIConfig{}).Login(ctx, "ana@example.org", "wrong horse battery", "test")
	refused, ok := err.(*client.Error)
	require.True(t, ok)
	require.Equal(t, 401, refused.Status)
	_, err = ana.Login(ctx, "ana@example.org", "correct horse battery", "test")
	require.NoError(t, err)
	_, err = bo.Guest(ctx, "Bo", "test")
	require.NoError(t, err)
	require.NoError(t, bo.Refresh(ctx))

	p, err := ana.Profile(ctx)
	require.NoError(t, err)
	require.Equal(t, "Ana", p.Username)
	group, err := ana.CreateGroup(ctx, client.GroupDraft{Name: "Lake walk"})
	require.NoError(t, err)
	invite, err := ana.Invite(ctx, group.GroupID)
	require.NoError(t, err)
	require.True(t, invite.ExpiresAt.After(time.Now()))
	joined, err := bo.Join(ctx, invite.InviteCode)
	require.NoError(t, err)
	require.Equal(t, group.Room(), joined.Room())
	g, err := bo.Group(ctx, group.GroupID)
	require.NoError(t, err)
	require.Len(t, g.Members, 2)
	list, err := bo.Groups(ctx)
	require.NoError(t, err)
	require.Equal(t, 2, list[0].MemberCount)

	edge, err := ana.Edge(ctx)
	require.NoError(t, err)
	require.True(t, edge.Regions[0].Valid())
	pins, err := edge.Pins()
	require.NoError(t, err)
	enter := func(api *client.API, region string) (*client.Session, *client.Room) {
		s, err := client.Connect(ctx, client.Config{Endpoints: edge.Endpoints(region), Tokens: api, Dialer: &client.Dialer{CertSHA256: pins}})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		r, err := s.Join(ctx, group.Room())
		require.NoError(t, err)
		return s, r
	}
	_, here := enter(ana, edge.Regions[0].Name)
	far, there := enter(bo, edge.Regions[1].Name)
	require.Equal(t, edge.Regions[1].Name, far.Status().Region)
	sent, err := there.Send(ctx, "hello from afar")
	require.NoError(t, err)
	for ev := range here.Events(ctx) {
		if e, ok := ev.(client.MessageArrived); ok {
			require.Equal(t, sent, e.Message)
			break
		}
	}
	stored, err := ana.Messages(ctx, group.GroupID, 0, 0, 10)
	require.NoError(t, err)
	require.Equal(t, sent.Body, stored[0].Body)
	past, more, err := here.History(ctx, 0, 0, 10)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, past, 1)

	require.NoError(t, ana.Kick(ctx, group.GroupID, bo.Credentials().UserID))
	for ev := range there.Events(ctx) {
		if e, ok := ev.(client.Ended); ok {
			require.True(t, client.IsCode(e.Err, wire.CodeNotMember), "%v", e.Err)
		}
	}
	require.Error(t, there.Err())
	require.NoError(t, bo.Logout(ctx))
	select {
	case <-far.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("a sign-out ends the session")
	}
	require.True(t, client.IsCode(far.Status().Err, wire.CodeSignedOut), "%v", far.Status().Err)
	require.NoError(t, ana.Leave(ctx, group.GroupID))
}
