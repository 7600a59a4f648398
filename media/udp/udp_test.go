package udp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func listenHere(t testing.TB) *Socket {
	ss, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), 1)
	require.NoError(t, err)
	t.Cleanup(func() { ss[0].Close() })
	return ss[0]
}

// What a batch sends arrives at each address whole, in order, with the sizes that it
// had: however runs of equal sizes are cut into messages.
func TestBatchArrives(t *testing.T) {
	for _, segments := range []bool{true, false} {
		s := listenHere(t)
		if !segments {
			s.segments.Store(false)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		const receivers, packets = 5, 600
		var to [receivers]*net.UDPConn
		for i := range to {
			c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
			require.NoError(t, err)
			require.NoError(t, c.SetReadBuffer(4<<20))
			defer c.Close()
			to[i] = c
		}
		want := make([][][]byte, receivers)
		b := s.NewBatch()
		size := 1_000
		for range packets {
			i := rng.IntN(receivers)
			if rng.IntN(5) == 0 {
				size = 1 + rng.IntN(1_400)
			}
			p := b.Space(1_500)[:size]
			for j := range p {
				p[j] = byte(rng.Uint32())
			}
			want[i] = append(want[i], bytes.Clone(p))
			b.Send(to[i].LocalAddr().(*net.UDPAddr).AddrPort(), p)
		}
		b.Flush()
		for i, c := range to {
			buf := make([]byte, 2_000)
			for _, w := range want[i] {
				require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
				n, err := c.Read(buf)
				require.NoError(t, err)
				require.Equal(t, w, buf[:n])
			}
		}
		require.EqualValues(t, packets, s.Stats().PacketsOut)
		require.Zero(t, s.Stats().Dropped)
	}
}

func TestReadHasHeadroomAndSender(t *testing.T) {
	s := listenHere(t)
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.Addr()))
	require.NoError(t, err)
	defer c.Close()
	var mu sync.Mutex
	var got []uint32
	over := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Read(func(from netip.AddrPort, room []byte) {
			mu.Lock()
			defer mu.Unlock()
			if from == c.LocalAddr().(*net.UDPAddr).AddrPort() && len(room) == Headroom+4 {
				got = append(got, binary.BigEndian.Uint32(room[Headroom:]))
			}
			if len(got) == 100 {
				close(over)
			}
		}, func() {})
	}()
	for i := range uint32(100) {
		_, err := c.Write(binary.BigEndian.AppendUint32(nil, i))
		require.NoError(t, err)
	}
	select {
	case <-over:
	case <-time.After(10 * time.Second):
		t.Fatal("not all came")
	}
	require.NoError(t, s.Close())
	<-ended
	for i, g := range got {
		require.EqualValues(t, i, g)
	}
}

// An address that nobody can be reached at costs its own packets only.
func TestUnreachableIsCounted(t *testing.T) {
	s := listenHere(t)
	b := s.NewBatch()
	b.Send(netip.MustParseAddrPort("203.0.113.1:9"), b.Space(10)) // from a loopback address: no route
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	require.NoError(t, err)
	defer c.Close()
	b.Send(c.LocalAddr().(*net.UDPAddr).AddrPort(), b.Space(11))
	b.Flush()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, err := c.Read(make([]byte, 20))
	require.NoError(t, err)
	require.Equal(t, 11, n)
	require.EqualValues(t, 1, s.Stats().Dropped)
}

func TestSendingAllocatesNothing(t *testing.T) {
	s := listenHere(t)
	b := s.NewBatch()
	to := netip.MustParseAddrPort("127.0.0.1:9")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for range 20 {
			b.Send(to, b.Space(1_200))
		}
		b.Flush()
	}))
}
