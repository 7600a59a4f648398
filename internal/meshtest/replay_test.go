package meshtest

import (
	"context"
	"maps"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/replay"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// The three recorded tracks, each played in a region of its own, as an
// independent subscriber in another region sees them: it ends with exactly the
// last point of each track, and nothing older ever replaces something newer.
// MUSTER_REPLAY_SPEED sets the speed; `make prove-replay` takes 60.
func TestReplayEndsAtTheLastPoint(t *testing.T) {
	t.Parallel()
	speed := 600.0
	if s := os.Getenv("MUSTER_REPLAY_SPEED"); s != "" {
		var err error
		speed, err = strconv.ParseFloat(s, 64)
		require.NoError(t, err)
	}
	m := Start(t, 3, 3)
	tracks, err := replay.LoadFS(replay.Demo())
	require.NoError(t, err)
	require.Len(t, tracks, 3)

	// The subscriber sits in the first region, on a node that no player uses.
	watcher := m.Guest(0, "Watcher").Connect(0, 2, client.Auto)
	group := m.Group(watcher)
	invite, err := watcher.Invite(t.Context(), group)
	require.NoError(t, err)
	room := watcher.Join(group)

	type order struct {
		epoch, n uint64
		captured time.Time
	}
	var mu sync.Mutex
	last := map[string]client.MemberFix{} // by the user's id
	names := map[string]string{}          // by id; a fix that goes by datagram may come first
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		seen := map[string]order{}
		for e := range room.Events(ctx) {
			mu.Lock()
			switch e := e.(type) {
			case client.PresenceChanged:
				names[e.User] = e.Name
			case client.FixChanged:
				o := order{e.Fix.Epoch, e.Fix.N, e.Fix.Captured}
				was := seen[e.Fix.User]
				if o.epoch < was.epoch || o.epoch == was.epoch && o.n <= was.n || o.captured.Before(was.captured) {
					t.Errorf("%s went back from %+v to %+v", names[e.Fix.User], was, o)
				}
				seen[e.Fix.User] = o
				last[e.Fix.User] = e.Fix
			case client.Missed:
				t.Error("the watcher was too slow for its own queue")
			}
			mu.Unlock()
		}
	})

	require.NoError(t, replay.Run(t.Context(), replay.Config{
		API: m.API, Tracks: tracks, Speed: speed, Invite: invite.InviteCode,
		Regions: []string{m.Region(1), m.Region(2), m.Region(1)},
		SignIn: func(ctx context.Context, api *client.API, i int) error {
			_, err := api.Guest(ctx, "track-"+strconv.Itoa(i), "meshtest")
			return err
		},
	}))

	want := map[string]geo.Point{}
	for i, track := range tracks {
		want["track-"+strconv.Itoa(i)] = track.Points[len(track.Points)-1].Point
	}
	got := func() map[string]geo.Point {
		mu.Lock()
		defer mu.Unlock()
		points := map[string]geo.Point{}
		for user, f := range last {
			points[names[user]] = f.Point
		}
		return points
	}
	defer func() {
		if t.Failed() {
			t.Logf("got %v, want %v", got(), want)
		}
	}()
	m.Eventually("the last point of each track", func() bool { return maps.Equal(got(), want) })
	stop()
	wg.Wait()
	require.Equal(t, want, got())
	t.Logf("speed %g×: %d fixes seen, %d stale ones dropped", speed, room.Counters().Fixes, room.Counters().StaleFixes)
}
