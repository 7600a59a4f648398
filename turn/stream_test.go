package turn

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/turn/allocation"
)

// A host with a network of addresses is one source.
func TestANetworkOfAddressesIsOneSource(t *testing.T) {
	c := connections{most: 160, from: map[netip.Addr]int{}}
	all := make([]netip.Addr, 20)
	entered := 0
	for i := range all {
		all[i] = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)})
		if c.enter(all[i]) {
			entered++
		}
	}
	require.Equal(t, 10, entered)
	require.True(t, c.enter(netip.MustParseAddr("2001:db8:0:1::1")))
	for i := range entered {
		c.leave(all[i])
	}
	require.Equal(t, 1, c.count())
	require.Len(t, c.from, 1)
}

// A connection that has the address and port of an earlier one, whose end was not noticed
// yet, has nothing of it.
func TestALaterConnectionInheritsNothing(t *testing.T) {
	s := serve(t, nil)
	_, err := client(t, s, TCP, "anna").Allocate()
	require.NoError(t, err)
	require.Equal(t, 1, s.Allocations())
	var sh *shard
	var flow allocation.Flow
	for _, x := range s.shards {
		x.mu.Lock()
		for f := range x.streams {
			sh, flow = x, f
		}
		x.mu.Unlock()
	}
	near, far := net.Pipe()
	defer far.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.converse(t.Context(), flow.Listener, sameAddr{near, flow.Client}, sh)
	}()
	require.Eventually(t, func() bool { return s.Allocations() == 0 }, 5*time.Second, time.Millisecond)
	_ = far.Close()
	<-done
}

// sameAddr is a connection from an address.
type sameAddr struct {
	net.Conn
	from netip.AddrPort
}

func (c sameAddr) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.from) }
