package nemesis

import (
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

// playSeed plays one seed in a bubble of its own and reports what was broken.
func playSeed(t *testing.T, seed uint64, s Shape, length time.Duration) (violations []Violation) {
	if names, ok := os.LookupEnv("MUSTER_NEMESIS_FAULTS"); ok {
		s.Faults = []Kind{}
		for _, k := range allKinds {
			if slices.Contains(strings.Split(names, ","), k.String()) {
				s.Faults = append(s.Faults, k)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		level := slog.LevelError + 1
		if os.Getenv("MUSTER_NEMESIS_LOG") != "" {
			level = slog.LevelDebug
		}
		log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: level}))
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
