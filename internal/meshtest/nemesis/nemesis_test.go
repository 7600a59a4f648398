package nemesis

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// shape is the mesh of a seed: two regions of three, or one of the others now
// and then.
func shape(seed uint64) Shape {
	s := Shape{Regions: 2, Nodes: 3, Rooms: 3, Devices: 20 + int(seed%3)*8}
	switch seed % 5 {
	case 1:
		s.Regions = 1
	case 2:
		s.Regions, s.Nodes = 3, 3
	case 3:
		s.Regions, s.Nodes = 1, 5
	}
	return s
}

// runSeed plays one seed in a bubble of its own and reports what was broken.
func runSeed(t *testing.T, seed uint64, length time.Duration) (violations []Violation) {
	synctest.Test(t, func(t *testing.T) {
		level := slog.LevelError
		if os.Getenv("MUSTER_NEMESIS_LOG") != "" {
			level = slog.LevelDebug
		}
		log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
		s := shape(seed)
		if names, ok := os.LookupEnv("MUSTER_NEMESIS_FAULTS"); ok {
			s.Faults = []Kind{}
			for _, k := range allKinds {
				if slices.Contains(strings.Split(names, ","), k.String()) {
					s.Faults = append(s.Faults, k)
				}
			}
		}
		h, faults, err := InMemory(seed, s, length, log)
		require.NoError(t, err, "seed %d\n%s", seed, Print(faults))
		violations = Check(h)
		Report(t.Output(), seed, faults, h, violations)
	})
	return violations
}

func env(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// TestNemesis plays a few seeds; MUSTER_NEMESIS_SEED, _SEEDS and _TIME say
// which, how many and for how long, _FAULTS which kinds, and _LOG=1 has the
// nodes tell what they do.
func TestNemesis(t *testing.T) {
	first, count := env("MUSTER_NEMESIS_SEED", 1), env("MUSTER_NEMESIS_SEEDS", 10)
	length := 20 * time.Second
	if l, err := time.ParseDuration(os.Getenv("MUSTER_NEMESIS_TIME")); err == nil {
		length = l
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			require.Empty(t, len(runSeed(t, seed, length)), "promises were broken: see above")
		})
	}
}
