package peerlink

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHandshakesGetMoreTimeTheMoreFail(t *testing.T) {
	const rtt = 100 * time.Millisecond
	require.Equal(t, redialTimeout+4*rtt, redialIn(rtt, 0))
	last := time.Duration(0)
	for failed := range 100 {
		now := redialIn(rtt, failed)
		require.GreaterOrEqual(t, now, last)
		require.LessOrEqual(t, now, acceptTimeout, "whoever is dialled has given up by then")
		last = now
	}
	require.Equal(t, acceptTimeout, last)
}
