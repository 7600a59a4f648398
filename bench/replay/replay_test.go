package replay_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/replay"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/meshtest"
)

// TestEndsWithTheLastPoint plays the three recorded tracks at 600×, one per
// region, on a whole mesh with a real database. Somebody who watches from each
// region ends with exactly the last point of each track, and never sees
// something older after something newer.
func TestEndsWithTheLastPoint(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	api := meshtest.Start(t, 3, 1).API
	tracks, err := replay.LoadFS(replay.Demo())
	require.NoError(t, err)

	type group struct{ id, code string }
	made := make(chan group, 1)
	played := make(chan error, 1)
	go func() {
		played <- replay.Run(ctx, replay.Config{
			API: api, Tracks: tracks, Speed: 600,
			OnGroup: func(id, code string) { made <- group{id, code} },
		})
	}()
	var g group
	select {
	case g = <-made:
	case err := <-played:
		t.Fatalf("the replay ended early: %v", err)
	}

	edge, err := client.NewAPI(api, client.APIConfig{}).Edge(ctx)
	require.NoError(t, err)
	pins, err := edge.Pins()
	require.NoError(t, err)
	type watcher struct {
		region string
		last   map[string]client.MemberFix
		ended  chan struct{}
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var watchers []*watcher
	for _, r := range edge.Regions {
		user := client.NewAPI(api, client.APIConfig{})
		_, err := user.Guest(ctx, "", "watcher")
		require.NoError(t, err)
		_, err = user.Join(ctx, g.code)
		require.NoError(t, err)
		s, err := client.Connect(ctx, client.Config{
			Endpoints: edge.Endpoints(r.Name), Tokens: user, Dialer: &client.Dialer{CertSHA256: pins},
		})
		require.NoError(t, err)
		defer s.Close()
		room, err := s.Join(ctx, client.GroupRoom(g.id))
		require.NoError(t, err)
		w := &watcher{r.Name, map[string]client.MemberFix{}, make(chan struct{})}
		watchers = append(watchers, w)
		go func() {
			defer close(w.ended)
			for ev := range room.Events(watching) {
				e, ok := ev.(client.FixChanged)
				if !ok {
					continue
				}
				if was, ok := w.last[e.Fix.User]; ok && !e.Fix.Captured.After(was.Captured) {
					t.Errorf("%s: a fix of %s after one of %s", w.region, e.Fix.Captured, was.Captured)
				}
				w.last[e.Fix.User] = e.Fix
			}
		}()
	}
	require.NoError(t, <-played)
	stop()
	for _, w := range watchers {
		<-w.ended
		require.Len(t, w.last, len(tracks), w.region)
		for _, track := range tracks {
			end := track.Points[len(track.Points)-1].Point
			found := false
			for _, f := range w.last {
				found = found || f.Point == end
			}
			require.True(t, found, "%s: nobody is at the end of %s", w.region, track.Name)
		}
	}
}
