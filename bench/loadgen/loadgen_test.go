package loadgen

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOpenKeepsItsTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var late []time.Duration
		require.NoError(t, Open(t.Context(), start, 10*time.Millisecond, 5, func(i int, due time.Time) {
			require.Equal(t, start.Add(time.Duration(i)*10*time.Millisecond), due)
			late = append(late, time.Since(due))
			if i == 1 {
				time.Sleep(25 * time.Millisecond) // the generator stalls
			}
		}))
		require.Equal(t, []time.Duration{0, 0, 15 * time.Millisecond, 5 * time.Millisecond, 0}, late)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, Open(ctx, time.Now().Add(time.Hour), time.Second, 1, nil), context.Canceled)
	})
}

func TestLatencies(t *testing.T) {
	l := NewLatencies()
	for i := range 100 {
		l.Record(time.Duration(i+1) * time.Millisecond)
	}
	l.Record(-time.Second)
	require.EqualValues(t, 101, l.Count())
	require.InDelta(t, 50, l.At(50).Milliseconds(), 1)
	require.InDelta(t, 100, l.Max().Milliseconds(), 1)
}

func TestCPU(t *testing.T) {
	own, err := CPU(0)
	require.NoError(t, err)
	require.Positive(t, own)
	_, err = CPU(os.Getpid())
	require.NoError(t, err)
	d, err := parseStat("7 (a (b) c) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20", 2)
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, d)
	_, err = parseStat("nonsense", 2)
	require.Error(t, err)
}

func TestRSS(t *testing.T) {
	rss, err := RSS(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, rss, int64(1<<20))
	_, err = RSS(1 << 30)
	require.Error(t, err)
}

func TestDistribution(t *testing.T) {
	l := NewLatencies()
	require.Empty(t, l.CDF(0))
	for i := range 1000 {
		l.Record(time.Duration(i+1) * time.Millisecond)
	}
	points := l.CDF(100 * time.Millisecond)
	require.InDelta(t, -99, points[0][0], 1)
	require.Equal(t, 1.0, points[len(points)-1][1])
	for i, p := range points[1:] {
		require.GreaterOrEqual(t, p[0], points[i][0])
		if p[1] == 0.5 {
			require.InDelta(t, 400, p[0], 2)
		}
	}
}
