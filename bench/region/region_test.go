package region_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/region"
)

func TestOpens(t *testing.T) {
	r, err := region.Opens{
		Region: region.Config{Dir: t.TempDir(), Nodes: 3}, InFlight: 8, Devices: 100, Duration: 500 * time.Millisecond, Progress: t.Logf,
	}.Run(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.Print(t.Output()))
	require.Positive(t, r.PerSecond)
	require.Positive(t, r.Latency.P99)
}

// A twentieth of `make prove-roster`.
func TestRestart(t *testing.T) {
	r, err := region.Restart{
		Region: region.Config{Dir: t.TempDir(), Nodes: 3, SnapshotEvery: 64}, Sessions: 2500, RoomSize: 50, InFlight: 64, Progress: t.Logf,
	}.Run(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.Print(t.Output()))
	require.Positive(t, r.LongestStall)
}

func TestRefusesNonsense(t *testing.T) {
	_, err := region.Opens{}.Run(t.Context())
	require.Error(t, err)
	_, err = region.Restart{Region: region.Config{Nodes: 3}}.Run(t.Context())
	require.Error(t, err)
}
