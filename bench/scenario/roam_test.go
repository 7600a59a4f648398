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

// TestRoam: sessions follow their travellers to other regions, and nobody else
// notices.
func TestRoam(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	m := meshtest.Start(t, 3, 1)
	r, err := scenario.Roam{
		Life:  scenario.Life{WAN: scenario.WAN{API: m.API, Net: m.Net, Users: 12, RoomSize: 6}, Fixes: 12, Messages: 6},
		Share: 0.5, Seed: 1,
	}.Run(ctx)
	require.NoError(t, err)
	require.NoError(t, r.Broken())
	require.Positive(t, r.Travellers)
	var text, html bytes.Buffer
	require.NoError(t, r.Print(&text))
	require.Contains(t, text.String(), "rooms continued")
	require.NoError(t, report.WriteHTML(&html, r))
}
