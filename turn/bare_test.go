package turn

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/turn/cred"
)

// bare is a client over UDP with nothing around it: no goroutine, no timer.
type bare struct {
	t                         testing.TB
	conn                      *net.UDPConn
	username, password, nonce string
}

func dialBare(t testing.TB, server netip.AddrPort) *bare {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	b := &bare{t: t, conn: conn}
	b.username, b.password = cred.Mint(secret, "anna", time.Now(), time.Hour)
	return b
}

func (b *bare) ask(method stun.Method, with ...stun.Setter) *stun.Message {
	b.t.Helper()
	all := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, with...)
	m, err := stun.Build(append(all, stun.NewUsername(b.username), stun.NewRealm("example.org"), stun.NewNonce(b.nonce),
		stun.NewLongTermIntegrity(b.username, "example.org", b.password))...)
	require.NoError(b.t, err)
	_, err = b.conn.Write(m.Raw)
	require.NoError(b.t, err)
	buf := make([]byte, 1500)
	require.NoError(b.t, b.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := b.conn.Read(buf)
	require.NoError(b.t, err)
	answer := &stun.Message{Raw: buf[:n]}
	require.NoError(b.t, answer.Decode())
	if nonce, err := answer.Get(stun.AttrNonce); err == nil {
		b.nonce = string(nonce)
	}
	return answer
}

// open makes an allocation with the channel 0x4000 to the peer, and returns the relayed
// address.
func (b *bare) open(peer *net.UDPConn) netip.AddrPort {
	b.t.Helper()
	transport := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
	b.ask(stun.MethodAllocate, transport) // a nonce
	var relayed, to stun.XORMappedAddress
	require.NoError(b.t, relayed.GetFromAs(b.ask(stun.MethodAllocate, transport), stun.AttrXORRelayedAddress))
	to.IP, to.Port = local.AsSlice(), peer.LocalAddr().(*net.UDPAddr).Port
	answer := b.ask(stun.MethodChannelBind, stun.RawAttribute{Type: stun.AttrChannelNumber, Value: []byte{0x40, 0, 0, 0}}, peerAt(to))
	require.Equal(b.t, stun.ClassSuccessResponse, answer.Type.Class)
	return netip.AddrPortFrom(local, uint16(relayed.Port))
}

// peerAt is an address as XOR-PEER-ADDRESS.
type peerAt stun.XORMappedAddress

func (p peerAt) AddTo(m *stun.Message) error {
	x := stun.XORMappedAddress(p)
	return x.AddToAs(m, stun.AttrXORPeerAddress)
}
