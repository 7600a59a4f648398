package turn

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/turn/quota"
)

func init() {
	// A system or a network card that does not cut up messages.
	carriers["uncut"] = func(sh *shard) (carrier, error) {
		c, err := newEpoll(sh)
		if err == nil {
			c.(*epoll).out.whole = true
		}
		return c, err
	}
}

// From the client's packet in the server's socket to the peer's, and back, nothing is
// allocated, however many packets there are.
func TestHotPathDoesNotAllocate(t *testing.T) {
	s := serve(t, func(s *Server) { s.common.Users = quota.New(quota.Limits{Bytes: -1}) })
	peer := peerSocket(t)
	c := dialBare(t, s.Listening()[0].Addr)
	back := c.open(peer)
	frame := append([]byte{0x40, 0, 1200 >> 8, 1200 & 0xff}, make([]byte, 1200)...)
	buf := make([]byte, 2048)
	const burst = 20
	relay := func() {
		for range burst {
			_, _ = c.conn.Write(frame)
		}
		for range burst {
			_, _, _ = peer.ReadFromUDPAddrPort(buf)
		}
		for range burst {
			_, _ = peer.WriteToUDPAddrPort(buf[:1200], back)
		}
		for range burst {
			_, _ = c.conn.Read(buf)
		}
	}
	before := s.counts()
	require.Less(t, testing.AllocsPerRun(50, relay), 1.0, "for %d packets there and back", burst)
	require.Equal(t, uint64(51*burst), s.counts().PacketsOut-before.PacketsOut)
	require.Equal(t, uint64(51*burst), s.counts().PacketsIn-before.PacketsIn)
}
