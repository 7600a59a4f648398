package admit

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.Unix(1_800_000_000, 0)

func TestBucket(t *testing.T) {
	r := Rate{PerSecond: 10, Burst: 3}
	var b Bucket
	for range 3 {
		require.Zero(t, b.Take(start, r, 1))
	}
	wait := b.Take(start, r, 1)
	require.Equal(t, 100*time.Millisecond, wait)
	require.NotZero(t, b.Take(start.Add(wait-time.Millisecond), r, 1), "asking early doesn't help")
	require.Zero(t, b.Take(start.Add(wait), r, 1), "waiting as told does")
	require.NotZero(t, b.Take(start.Add(-time.Hour), r, 1), "nor does a clock that goes back")
	require.Zero(t, b.Take(start.Add(time.Hour), r, 99), "a big one needs the whole burst")
	require.NotZero(t, b.Take(start.Add(time.Hour), r, 1))
}

func TestClientLimits(t *testing.T) {
	l := Limits{}.Defaults()
	for name, c := range map[string]struct {
		kind Kind
		size int
		pass int
	}{
		"frames":   {Other, 1, 300},
		"bytes":    {Other, 64 << 10, 8},
		"messages": {Message, 100, 50},
		"fixes":    {Fix, 40, 100},
	} {
		t.Run(name, func(t *testing.T) {
			var client Client
			for range c.pass {
				require.Equal(t, Verdict{}, client.Frame(start, &l, c.kind, 1, c.size))
			}
			v := client.Frame(start, &l, c.kind, 1, c.size)
			require.NotZero(t, v.Wait)
			require.False(t, v.Close)
			require.Equal(t, Verdict{}, client.Frame(start.Add(v.Wait), &l, c.kind, 1, c.size))
		})
	}
	var client Client
	var v Verdict
	n := 0
	for ; !v.Close; n++ {
		v = client.Frame(start, &l, Other, 1, 1)
	}
	require.Equal(t, 300+3000+1, n, "ten times over is abuse")

	for range 20 {
		require.True(t, client.Unasked(start, &l))
	}
	require.False(t, client.Unasked(start, &l))
	require.Zero(t, testing.AllocsPerRun(100, func() { client.Frame(start, &l, Fix, 1, 40) }))
}

// A gateway's fixes count one by one, however they are packed.
func TestGatewayLimits(t *testing.T) {
	l := Limits{Errors: Rate{1, 2}}.GatewayDefaults()
	require.Equal(t, Rate{1, 2}, l.Errors)
	require.NotZero(t, l.Abuse)
	var c Client
	for range 400 {
		require.Equal(t, Verdict{}, c.Frame(start, &l, Fix, 1000, 60<<10))
	}
	v := c.Frame(start, &l, Fix, 1000, 60<<10)
	require.Equal(t, Verdict{Wait: 5 * time.Millisecond}, v)
	require.Equal(t, Verdict{}, c.Frame(start.Add(v.Wait), &l, Fix, 1000, 60<<10))
	require.Equal(t, Verdict{}, c.Frame(start.Add(v.Wait), &l, Other, 1, 10), "other frames go on")
}

func TestGate(t *testing.T) {
	g := NewGate(GateConfig{Address: Rate{PerSecond: 1, Burst: 2}, Addresses: 100, Sessions: 2})
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1")
	require.Zero(t, g.Connect(start, a))
	require.Zero(t, g.Connect(start, b))
	require.Equal(t, time.Second, g.Connect(start, a), "both are the same address")
	require.Zero(t, g.Connect(start, netip.MustParseAddr("2001:db8::1")))
	require.Zero(t, g.Connect(start, netip.MustParseAddr("2001:db8::2")))
	require.NotZero(t, g.Connect(start, netip.MustParseAddr("2001:db8::3")), "the same /64")
	require.Zero(t, g.Connect(start, netip.MustParseAddr("2001:db8:0:1::1")))

	next := netip.MustParseAddr("198.18.0.0")
	for range 5000 {
		next = next.Next()
		require.Zero(t, g.Connect(start, next))
		require.LessOrEqual(t, len(g.addresses), 100, "the table is bounded")
	}

	require.True(t, g.Enter())
	require.True(t, g.Enter())
	require.False(t, g.Enter())
	g.Leave()
	require.True(t, g.Enter())
}
