package scenario_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/bench/scenario"
	"github.com/mustermesh/muster/internal/meshtest"
	"github.com/mustermesh/muster/internal/node"
)

// TestLoseRegion: the clients of a region that is lost live in another one, and
// nobody is seen to leave. How fast is the benchmark's business.
func TestLoseRegion(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	m := meshtest.StartWith(t, node.MeshConfig{Regions: 3, Nodes: 1, DatabaseSurvives: true})
	r, err := scenario.Lose{
		Life:   scenario.Life{WAN: scenario.WAN{API: m.API, Net: m.Net, Users: 12, RoomSize: 6}, Fixes: 12, Messages: 6},
		Rounds: 1, Seed: 1,
	}.Run(ctx)
	require.NoError(t, err)
	require.NoError(t, r.Broken())
	require.Equal(t, 2, r.Foreground.Clients)
	require.Equal(t, 2, r.Idle.Clients)
	require.Positive(t, r.Foreground.Live.P50)
	var text, html bytes.Buffer
	require.NoError(t, r.Print(&text))
	require.Contains(t, text.String(), "foreground")
	require.NoError(t, report.WriteHTML(&html, r))
}
