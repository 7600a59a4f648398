package turn

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/turn/cred"
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
	server := netip.MustParseAddrPort(s.addr(UDP))
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(server))
	require.NoError(t, err)
	defer conn.Close()
	username, password := cred.Mint(secret, "anna", time.Now(), time.Hour)
	buf := make([]byte, 2048)
	nonce := ""
	ask := func(method stun.Method, with ...stun.Setter) *stun.Message {
		all := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, with...)
		m, err := stun.Build(append(all, stun.NewUsername(username), stun.NewRealm("example.org"), stun.NewNonce(nonce),
			stun.NewLongTermIntegrity(username, "example.org", password))...)
		require.NoError(t, err)
		_, err = conn.Write(m.Raw)
		require.NoError(t, err)
		n, err := conn.Read(buf)
		require.NoError(t, err)
		answer := &stun.Message{Raw: append([]byte{}, buf[:n]...)}
		require.NoError(t, answer.Decode())
		return answer
	}
	transport := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
	b, err := ask(stun.MethodAllocate, transport).Get(stun.AttrNonce)
	require.NoError(t, err)
	nonce = string(b)
	var relayed stun.XORMappedAddress
	require.NoError(t, relayed.GetFromAs(ask(stun.MethodAllocate, transport), stun.AttrXORRelayedAddress))
	peer := peerSocket(t)
	at := peer.LocalAddr().(*net.UDPAddr).AddrPort()
	bind, err := stun.Build(stun.TransactionID)
	require.NoError(t, err)
	require.NoError(t, (&stun.XORMappedAddress{IP: at.Addr().AsSlice(), Port: int(at.Port())}).AddToAs(bind, stun.AttrXORPeerAddress))
	value, err := bind.Get(stun.AttrXORPeerAddress)
	require.NoError(t, err)
	answer := ask(stun.MethodChannelBind, stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{0x40, 0, 0, 0}},
		stun.RawAttribute{Type: stun.AttrXORPeerAddress, Value: value})
	require.Equal(t, stun.ClassSuccessResponse, answer.Type.Class)

	back := netip.AddrPortFrom(local, uint16(relayed.Port))
	frame := append([]byte{0x40, 0, 1200 >> 8, 1200 & 0xff}, make([]byte, 1200)...)
	const burst = 20
	relay := func() {
		for range burst {
			_, _ = conn.Write(frame)
		}
		for range burst {
			_, _, _ = peer.ReadFromUDPAddrPort(buf)
		}
		for range burst {
			_, _ = peer.WriteToUDPAddrPort(buf[:1200], back)
		}
		for range burst {
			_, _ = conn.Read(buf)
		}
	}
	before := s.counts()
	require.Less(t, testing.AllocsPerRun(50, relay), 1.0, "for %d packets there and back", burst)
	require.Equal(t, uint64(51*burst), s.counts().PacketsOut-before.PacketsOut)
	require.Equal(t, uint64(51*burst), s.counts().PacketsIn-before.PacketsIn)
}
