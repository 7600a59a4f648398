package names

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/report"
)

// The load against the server itself: everything that is asked is answered.
func TestLoad(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	addr, ended := free(), make(chan error, 1)
	go func() { ended <- Serve(ctx, addr) }()
	p := &process{addr: addr, log: os.DevNull}
	require.NoError(t, p.ready(ctx))
	l, err := newLoad(addr, 2)
	require.NoError(t, err)
	defer l.close()
	for _, rate := range []int{0, 2000} {
		c, err := l.run(ctx, 300*time.Millisecond, rate, 8)
		require.NoError(t, err)
		require.Greater(t, c.answers, 50)
		require.GreaterOrEqual(t, c.answers, c.sent*9/10)
		require.NotZero(t, c.latency.Count())
	}
	stop()
	require.NoError(t, <-ended)
}

func TestMedian(t *testing.T) {
	require.InDelta(t, 2, median([]Run{{PerCPU: 3}, {PerCPU: 1}, {PerCPU: 2}}, func(r Run) float64 { return r.PerCPU }), 0)
	r := &Result{Head: report.NewHead("dns"), Servers: []Server{{Name: "x", Fixed: []Run{{}}, Saturated: []Run{{}}}}}
	require.NoError(t, r.Print(t.Output()))
}
