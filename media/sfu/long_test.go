package sfu

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/media/udp"
)

// A call goes on for longer than there are numbers.
func TestNumbersWrap(t *testing.T) {
	u, w := bench(t, 2)
	room := make([]byte, udp.Headroom+udp.Size)
	before := u.s.Stats().PacketsForwarded
	const packets = 200_000
	for n := range packets {
		u.rtp(w, next(room, uint16(n), 20, n == 0))
		if n%10 == 9 {
			w.b.Flush()
		}
	}
	require.Equal(t, uint64(2*packets), u.s.Stats().PacketsForwarded-before)
}
