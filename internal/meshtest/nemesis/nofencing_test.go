//go:build nofencing

package nemesis

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/edge"
)

// TestTheCheckerFindsWhatFencesPrevent is the checker's own test: receivers that
// believe what they should refuse break promises, and it notices. One seed may
// be lucky, not all of them.
func TestTheCheckerFindsWhatFencesPrevent(t *testing.T) {
	require.False(t, edge.Fencing)
	for seed := uint64(1); seed <= 5; seed++ {
		s := shape(seed)
		s.Faults = []Kind{Isolate, Pause}
		for _, v := range playSeed(t, seed, s, 20*time.Second) {
			if v.Promise == edgesRefuse || v.Promise == ownersStop {
				return
			}
		}
	}
	t.Fatal("without fences nothing was found")
}
