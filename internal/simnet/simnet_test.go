package simnet

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func pair(t *testing.T, n *Network, a, b string) (*Conn, *Conn) {
	t.Helper()
	ca, err := n.listen(a)
	require.NoError(t, err)
	cb, err := n.listen(b)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ca.Close(); _ = cb.Close() })
	return ca, cb
}

func fixed(d time.Duration) func(string, string) time.Duration {
	return func(string, string) time.Duration { return d }
}

func TestTableIsCompleteAndSymmetric(t *testing.T) {
	names := []string{"eu-west", "us-east", "ap-south", "us-west", "ap-northeast", "ap-southeast", "sa-east", "eu-central", "af-south", "me-south"}
	for i, a := range names {
		require.Zero(t, RTT(a, a))
		for _, b := range names[i+1:] {
			_, there := published[[2]string{a, b}]
			_, back := published[[2]string{b, a}]
			require.True(t, there != back, "%s-%s stands once", a, b)
			require.Equal(t, RTT(a, b), RTT(b, a))
		}
	}
	require.Equal(t, 75*time.Millisecond, RTT("us-east", "eu-west"))
	require.Equal(t, UnknownRTT, RTT("us-east", "moon"))
}

func TestDelayIsKeptAndPrecise(t *testing.T) {
	n := New(Config{OneWay: fixed(20 * time.Millisecond)})
	rtts, err := n.Echo(t.Context(), "a", "b", 100, 3*time.Millisecond)
	require.NoError(t, err)
	require.Len(t, rtts, 100)
	slices.Sort(rtts)
	t.Logf("added to 40 ms: p50 %v p99 %v", rtts[50]-40*time.Millisecond, rtts[98]-40*time.Millisecond)
	require.GreaterOrEqual(t, rtts[0], 40*time.Millisecond, "never early")
	// Two crossings of 1.5 ms; the rest is for a busy test machine.
	require.Less(t, rtts[50], 45*time.Millisecond)
}

func TestSameRegionIsNotDelayed(t *testing.T) {
	n := New(Config{OneWay: fixed(time.Hour)})
	rtts, err := n.Echo(t.Context(), "a", "a", 10, time.Millisecond)
	require.NoError(t, err)
	require.Len(t, rtts, 10)
	require.Zero(t, n.Stats().Delayed)
}

func TestOrderIsKeptWithoutJitter(t *testing.T) {
	n := New(Config{OneWay: fixed(5 * time.Millisecond)})
	a, b := pair(t, n, "a", "b")
	require.NoError(t, b.SetReadBuffer(4<<20))
	const count = 500
	for i := range uint32(count) {
		_, err := a.WriteTo(binary.BigEndian.AppendUint32(nil, i), b.LocalAddr())
		require.NoError(t, err)
	}
	buf := make([]byte, 16)
	require.NoError(t, b.SetReadDeadline(time.Now().Add(5*time.Second)))
	for i := range uint32(count) {
		_, _, err := b.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, i, binary.BigEndian.Uint32(buf))
	}
}

func TestCutOneWayAndHeal(t *testing.T) {
	n := New(Config{OneWay: fixed(time.Millisecond)})
	a, b := pair(t, n, "a", "b")
	arrives := func(from, to *Conn) bool {
		_, err := from.WriteTo([]byte("x"), to.LocalAddr())
		require.NoError(t, err)
		require.NoError(t, to.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		_, _, err = to.ReadFrom(make([]byte, 8))
		return err == nil
	}
	require.True(t, arrives(a, b))
	n.Cut("a", "b")
	require.False(t, arrives(a, b))
	require.True(t, arrives(b, a))
	n.Heal()
	require.True(t, arrives(a, b))
	// One socket only, by address.
	n.CutBoth(a.local, "b")
	require.False(t, arrives(a, b))
	require.False(t, arrives(b, a))
	require.EqualValues(t, 3, n.Stats().Cut)
}

func TestCutWorksWithinARegion(t *testing.T) {
	n := New(Config{})
	a, b := pair(t, n, "a", "a")
	n.Cut(a.local, b.local)
	_, err := a.WriteTo([]byte("x"), b.LocalAddr())
	require.NoError(t, err)
	require.EqualValues(t, 1, n.Stats().Cut)
}

func TestLossIsSeeded(t *testing.T) {
	lost := func(seed uint64) uint64 {
		n := New(Config{OneWay: fixed(0), Loss: 0.3, Seed: seed})
		a, b := pair(t, n, "a", "b")
		for range 1000 {
			_, err := a.WriteTo([]byte("x"), b.LocalAddr())
			require.NoError(t, err)
		}
		return n.Stats().Lost
	}
	first := lost(7)
	require.InDelta(t, 300, float64(first), 60)
	require.Equal(t, first, lost(7))
}

func TestFullWireDropsAndCounts(t *testing.T) {
	n := New(Config{OneWay: fixed(20 * time.Millisecond), QueueBytes: 1000})
	a, b := pair(t, n, "a", "b")
	for range 15 {
		_, err := a.WriteTo(make([]byte, 100), b.LocalAddr())
		require.NoError(t, err)
	}
	require.Equal(t, Stats{Delayed: 10, Overflow: 5}, n.Stats())
}

func TestTrafficIsCountedPerPairOfRegions(t *testing.T) {
	n := New(Config{OneWay: fixed(time.Millisecond)})
	a, b := pair(t, n, "a", "b")
	a.apart, b.apart = false, false
	for range 3 {
		_, err := a.WriteTo(make([]byte, 100), b.LocalAddr())
		require.NoError(t, err)
	}
	before := n.Traffic()[[2]string{"a", "b"}]
	require.Equal(t, Traffic{Packets: 3, Bytes: 300}, before)
	n.Cut("a", "b")
	_, err := a.WriteTo(make([]byte, 50), b.LocalAddr())
	require.NoError(t, err)
	require.Equal(t, Traffic{Packets: 1, Bytes: 50}, n.Traffic()[[2]string{"a", "b"}].Less(before))
	require.Zero(t, n.Traffic()[[2]string{"b", "a"}])
	_, err = n.Echo(t.Context(), "b", "a", 3, time.Millisecond)
	require.NoError(t, err)
	require.Zero(t, n.Traffic()[[2]string{"b", "a"}], "what measures is not counted")
}

func TestCloseDeliversWhatIsUnderWay(t *testing.T) {
	n := New(Config{OneWay: fixed(20 * time.Millisecond)})
	a, b := pair(t, n, "a", "b")
	_, err := a.WriteTo([]byte("bye"), b.LocalAddr())
	require.NoError(t, err)
	require.NoError(t, a.Close())
	_, err = a.WriteTo([]byte("late"), b.LocalAddr())
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, b.SetReadDeadline(time.Now().Add(time.Second)))
	buf := make([]byte, 8)
	m, _, err := b.ReadFrom(buf)
	require.NoError(t, err)
	require.Equal(t, "bye", string(buf[:m]))
}

func TestUnknownAddressesAreNotTouched(t *testing.T) {
	n := New(Config{OneWay: fixed(time.Hour)})
	a, err := n.listen("a")
	require.NoError(t, err)
	defer a.Close()
	stranger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer stranger.Close()
	_, err = a.WriteTo([]byte("x"), stranger.LocalAddr())
	require.NoError(t, err)
	require.NoError(t, stranger.SetReadDeadline(time.Now().Add(time.Second)))
	_, _, err = stranger.ReadFrom(make([]byte, 8))
	require.NoError(t, err)
}

func TestWritingDoesNotAllocate(t *testing.T) {
	n := New(Config{OneWay: fixed(time.Microsecond)})
	a, b := pair(t, n, "a", "b")
	to := b.LocalAddr().(*net.UDPAddr).AddrPort()
	data := make([]byte, 1200)
	allocs := testing.AllocsPerRun(200, func() {
		_, _ = a.WriteToUDPAddrPort(data, to)
		time.Sleep(50 * time.Microsecond) // let the deliverer give the buffer back
	})
	require.Less(t, allocs, 2.0)
}

func ExampleNetwork_Delay() {
	n := New(Config{})
	fmt.Println(n.Delay("eu-west", "ap-south"), n.Delay("eu-west", "eu-west"))
	// Output: 80ms 0s
}
