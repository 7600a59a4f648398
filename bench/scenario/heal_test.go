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
)

// TestHeal: of a region that is cut off nobody is seen to leave, no message is
// lost, and both sides are told. How fast it heals is the benchmark's business.
func TestHeal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	m := meshtest.Start(t, 3, 1)
	r, err := scenario.Heal{
		Life:  scenario.Life{WAN: scenario.WAN{API: m.API, Net: m.Net, Users: 12, RoomSize: 6}, Fixes: 12, Messages: 6},
		Nodes: m.Mesh, Cut: 16 * time.Second, Seeds: 2, First: 1,
	}.Run(ctx)
	require.NoError(t, err)
	require.NoError(t, r.Broken())
	require.Len(t, r.Rounds, 2)
	for _, h := range r.Rounds {
		require.Zero(t, h.Hidden, "%s", h.Kind)
		require.Positive(t, h.Unknown.P50)
		require.Positive(t, h.Converged)
		require.Less(t, h.Converged, 30_000.0)
		require.Len(t, h.Pairs, 4)
	}
	var text, html bytes.Buffer
	require.NoError(t, r.Print(&text))
	require.Contains(t, text.String(), "both ways")
	require.NoError(t, report.WriteHTML(&html, r))
	require.Contains(t, html.String(), "Convergence")
}
