package scenario

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/peers"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/geo"
)

// fakePoints answers by brute force, in this process; off moves what it is told.
type fakePoints struct {
	at  map[string]geo.Point
	off float64
}

func (f *fakePoints) Move(_ context.Context, moves []peers.Move) error {
	for _, m := range moves {
		f.at[m.Name] = geo.Destination(m.To, 90, f.off)
	}
	return nil
}

func (f *fakePoints) Near(_ context.Context, at geo.Point, radius float64, limit int) (names []string, _ error) {
	for name, p := range f.at {
		if geo.Distance(at, p) <= radius {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if geo.Distance(at, f.at[a]) < geo.Distance(at, f.at[b]) {
			return -1
		}
		return 1
	})
	return names[:min(limit, len(names))], nil
}

func (f *fakePoints) Close() {}

// What is moved to and fro is where the truth has it, whatever was moved how often.
func TestGeoTruth(t *testing.T) {
	t.Parallel()
	const points = 100_003
	w := newGeoWorld(points)
	for _, off := range []float64{0, 0.3, 20} {
		f := &fakePoints{at: map[string]geo.Point{}, off: off}
		var movers []*geoMover
		total := 0
		for i := range geoConns {
			m := &geoMover{geoWorld: w, share: i}
			movers = append(movers, m)
			total += m.size()
			moves := make([]peers.Move, geoLoad)
			for n := 0; n < m.size(); n += geoLoad {
				require.NoError(t, f.Move(t.Context(), moves[:m.homes(moves, n)]))
			}
			for range i * 700 { // some shares have moved once, some twice
				batch := moves[:geoBatch]
				m.next(batch)
				require.NoError(t, f.Move(t.Context(), batch))
			}
		}
		require.Equal(t, points, total)
		require.Len(t, f.at, points)
		truth := newGeoTruth(w, movers)
		differ, wrong := 0, 0
		for n := range 20 {
			from := w.away[n]
			answer, err := f.Near(t.Context(), from, geoRadius, geoLimit)
			require.NoError(t, err)
			same, right := truth.judge(from, answer)
			if !same {
				differ++
			}
			if !right {
				wrong++
			}
			_, right = truth.judge(from, answer[1:])
			require.False(t, right)
			_, right = truth.judge(from, append([]string{answer[0]}, answer[:geoLimit-1]...))
			require.False(t, right, "the same twice")
		}
		switch off {
		case 0:
			require.Zero(t, differ)
			require.Zero(t, wrong)
		case 20:
			require.Equal(t, 20, wrong)
		default:
			require.Zero(t, wrong)
		}
	}
}

func TestGeoAlone(t *testing.T) {
	t.Parallel()
	alone, err := GeoAlone{Points: GeoLeast, Duration: 50 * time.Millisecond, Progress: t.Logf}.Run(t.Context())
	require.NoError(t, err)
	require.Positive(t, alone.Moves)
	require.Positive(t, alone.Near)
	require.Positive(t, alone.Bytes)
}

// Against a real server.
func TestGeoWithRedis(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("redis-server")
	require.NoError(t, err, "`make test` installs it")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	cmd := exec.Command(binary, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	cmd.Dir, cmd.Stderr = t.TempDir(), os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond)
	part, err := Geo{
		Points: 2000, Over: "nothing", Cases: GeoCases(), Targets: []GeoTarget{RedisTarget(address, cmd.Process.Pid)},
		Rounds: 2, Warmup: 50 * time.Millisecond, Duration: 200 * time.Millisecond, Quiet: 50 * time.Millisecond, Queries: 50, Progress: t.Logf,
	}.Run(t.Context())
	require.NoError(t, err)
	require.Len(t, part.Cases, 3)
	for _, c := range part.Cases {
		require.Len(t, c.Rows[0].Runs, 2)
		require.Positive(t, c.Rows[0].PerSecond)
	}
	s := part.Servers[0]
	require.Equal(t, 100, s.Asked)
	require.Zero(t, s.Wrong)
	require.LessOrEqual(t, s.Differ, 10, fmt.Sprintf("%+v", s)) // it stores points to half a metre
	require.Equal(t, report.GeoSingle, part.Cases[0].Case)
}
