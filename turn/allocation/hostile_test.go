package allocation

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/turn/quota"
)

// A packet costs its user what it costs the network: many empty ones are no way around
// the quota.
func TestEmptyPacketsAreNotFree(t *testing.T) {
	m, _ := machine(quota.Limits{Bytes: 1000, Burst: 2800})
	u := newUser(t, m, "anna", 1000)
	u.allocate()
	require.Zero(t, u.bind(0x4000, public))
	out, in := 0, 0
	for range 10_000 {
		if u.channel(0x4000, "").Kind == ToPeer {
			out++
		}
	}
	require.Equal(t, 100, out)
	u.now = start.Add(time.Second)
	for range 10_000 {
		if u.fromPeer(public, "").Kind == ToClient {
			in++
		}
	}
	require.Equal(t, 1000/28, in)
}

// However many sources were made up, whoever comes next is answered; and what one source
// owes is not forgotten by a few others.
func TestAFullTableKeepsNobodyOut(t *testing.T) {
	m, _ := machine(quota.Limits{})
	binding, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	require.NoError(t, err)
	from := func(ip netip.Addr) bool {
		return m.FromClient(start, Flow{Client: netip.AddrPortFrom(ip, 1)}, binding.Raw).Answer
	}
	victim := netip.MustParseAddr("192.0.2.99")
	for from(victim) {
	}
	for i := range maxSources + 2000 {
		from(netip.AddrFrom4([4]byte{9, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	require.LessOrEqual(t, len(m.sources.table), maxSources)
	bare, err := stun.Build(stun.TransactionID, allocateRequest, udp)
	require.NoError(t, err)
	u := newUser(t, m, "anna", 1000)
	code, _ := u.take(bare.Raw)
	require.Equal(t, 401, code)
	u.allocate()
}

// Whoever has a connection gets what is sent there: what others say in the name of that
// address keeps nobody off.
func TestAConnectionNeedsNoAllowance(t *testing.T) {
	m, _ := machine(quota.Limits{})
	m.Connected = []bool{false, true}
	binding, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	require.NoError(t, err)
	u := newUser(t, m, "anna", 1000)
	for m.FromClient(start, u.flow, binding.Raw).Answer {
	}
	bare, err := stun.Build(stun.TransactionID, allocateRequest, udp)
	require.NoError(t, err)
	code, _ := u.take(bare.Raw)
	require.Equal(t, -1, code, "too much was asked in its name")
	udpFlow := u.flow
	for range 100 {
		m.FromClient(start, udpFlow, binding.Raw)
	}
	for m.FromClient(start, udpFlow, binding.Raw).Answer {
	}
	u.flow.Listener = 1
	code, _ = u.take(bare.Raw)
	require.Equal(t, 401, code)
	u.allocate()
}
