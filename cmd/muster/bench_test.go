package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/scenario"
)

// asMuster makes this test's own binary be muster: the benchmarks start it as
// the processes of a region.
const asMuster = "MUSTER_TEST_AS_MUSTER"

func TestMain(m *testing.M) {
	if os.Getenv(asMuster) != "" || len(os.Args) > 1 && os.Args[1] == "hash" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func testFleet() benchFleet { return benchFleet{env: []string{asMuster + "=1"}} }

// A twentieth of `make prove-drain`, with fewer clients.
func TestBenchDrain(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "drain.json")
	c := &BenchDrainCmd{
		benchFleet: testFleet(), benchOutput: benchOutput{JSON: out},
		benchLoad: benchLoad{Nodes: 3, Users: 30, RoomSize: 6, Rate: 20}, Rounds: 1, DrainRate: 100,
	}
	require.NoError(t, c.Run(t.Context()))
	require.FileExists(t, out)
}

// A twentieth of `make prove-failover`, with fewer clients.
func TestBenchFailover(t *testing.T) {
	t.Parallel()
	c := &BenchFailoverCmd{
		benchFleet: testFleet(), benchLoad: benchLoad{Nodes: 3, Users: 40, RoomSize: 8, Rate: 20},
		Kills: 1, Pauses: 1, Pause: 6 * time.Second, Lost: 2,
	}
	require.NoError(t, c.Run(t.Context()))
}

func TestBenchIdle(t *testing.T) {
	t.Parallel()
	c := &BenchIdleCmd{benchFleet: testFleet(), Sessions: 40, RoomSize: 10, AtOnce: 8, Quiet: time.Second}
	require.NoError(t, c.Run(t.Context()))
}

// Few sign-ins: what they do to rooms shows only with many.
func TestBenchLogins(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "logins.json")
	c := &BenchLoginsCmd{
		benchFleet: testFleet(), benchOutput: benchOutput{JSON: out},
		Users: 10, RoomSize: 5, Rate: 10, Logins: 5, Accounts: 5, Stretch: time.Second, Rounds: 1,
	}
	require.NoError(t, c.Run(t.Context()))
	require.FileExists(t, out)
}

func TestBenchFanout(t *testing.T) {
	t.Parallel()
	c := &BenchFanoutCmd{
		benchFleet: testFleet(), Rounds: 1, Duration: time.Second, Warmup: 500 * time.Millisecond, Size: 128,
		cases: []scenario.FanoutCase{
			{Name: "messages", Members: 40, Messages: 20},
			{Name: "window", Members: 40, Window: 2},
			{Name: "moves", Members: 40, Moves: true},
		},
	}
	require.NoError(t, c.Run(t.Context()))
}

// A node, the media server alone, and nobody between; LiveKit is tested in bench/media.
func TestBenchSFU(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "sfu.json")
	c := &BenchSFUCmd{
		benchFleet: testFleet(), benchOutput: benchOutput{JSON: out},
		Serve: true, Rounds: 1, Duration: time.Second, Case: "10 talk to each other",
	}
	require.NoError(t, c.Run(t.Context()))
	require.FileExists(t, out)
	c.LiveKit = "ws://127.0.0.1:1"
	require.ErrorContains(t, c.Run(t.Context()), "come together")
	c.LiveKit, c.Case = "", "nothing"
	require.ErrorContains(t, c.Run(t.Context()), "1 to 10")
}

// Both transports; the other servers are tested in bench/scenario.
func TestBenchGeo(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "geo.json")
	c := &BenchGeoCmd{
		benchFleet: testFleet(), benchPage: benchPage{benchOutput: benchOutput{JSON: out}},
		Points: []int{2000}, Transport: []string{"webtransport", "websocket"},
		Rounds: 1, Duration: 500 * time.Millisecond, Warmup: 100 * time.Millisecond, Quiet: 100 * time.Millisecond, Queries: 50,
	}
	require.NoError(t, c.Run(t.Context()))
	require.FileExists(t, out)
}
