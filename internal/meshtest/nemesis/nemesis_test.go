//go:build !nofencing

package nemesis

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNemesis plays a few seeds, for less than the time that they are meant for
// (make nemesis). MUSTER_NEMESIS_SEED, _SEEDS and _TIME say which, how many and
// for how long, _FAULTS which kinds, and _LOG=1 has the nodes tell what they do.
func TestNemesis(t *testing.T) {
	first, count := env("MUSTER_NEMESIS_SEED", 1), env("MUSTER_NEMESIS_SEEDS", 10)
	length := 5 * time.Second
	if l, err := time.ParseDuration(os.Getenv("MUSTER_NEMESIS_TIME")); err == nil {
		length = l
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			require.Zero(t, len(playSeed(t, seed, shape(seed), length)), "promises were broken, see above; again: make nemesis SEED=%d TIME=%v", seed, length)
		})
	}
}
