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

// TestMessages: none is lost, none comes twice, none is refused.
func TestMessages(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	commits := &scenario.Commits{}
	m := meshtest.StartWith(t, node.MeshConfig{Regions: 3, Nodes: 1, Committed: commits.Note})
	r, err := scenario.Messages{
		WAN:  scenario.WAN{API: m.API, Net: m.Net, Users: 18, RoomSize: 6},
		Rate: 30, Duration: 2 * time.Second, Warmup: time.Second, Commits: commits,
	}.Run(ctx)
	require.NoError(t, err)
	require.Zero(t, r.Lost)
	require.Zero(t, r.Duplicated)
	require.Zero(t, r.Refused, r.FirstFailure)
	require.Len(t, r.Deliveries, 9)
	require.Len(t, r.Writes, 9)
	require.Len(t, r.Links, 6)
	var text, html bytes.Buffer
	require.NoError(t, r.Print(&text))
	require.Contains(t, text.String(), "wide round trips")
	require.NoError(t, report.WriteHTML(&html, r))
}
