//go:build !nofencing

package nemesis

import (
	"fmt"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPartition cuts a region off, both ways and one way, with and without
// owners that move meanwhile. MUSTER_NEMESIS_CUTS says how many seeds, _SEED the
// first one.
func TestPartition(t *testing.T) {
	first, count := env("MUSTER_NEMESIS_SEED", 1), env("MUSTER_NEMESIS_CUTS", 3)
	shape := Shape{Regions: 3, Nodes: 3, Rooms: 3, Devices: 18}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				level := slog.LevelError + 1
				if os.Getenv("MUSTER_NEMESIS_LOG") != "" {
					level = slog.LevelDebug
				}
				log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
				p := PartitionOf(seed, shape, 30*time.Second)
				h, healing, err := InPartition(seed, shape, p, log)
				require.NoError(t, err, p.String())
				violations := append(partitions(h, healing), Check(h)...)
				t.Log(healing.report())
				Report(t.Output(), seed, nil, h, violations)
				require.Empty(t, len(violations), "promises were broken, see above")
			})
		})
	}
}
