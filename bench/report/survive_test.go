package report_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/report"
)

func TestDrainIsJudged(t *testing.T) {
	good := report.DrainRound{Reconnects: 40, MostPerSecond: 100, DrainSeconds: []float64{1, 2, 3}, Faults: report.Faults{Suspended: 7}}
	r := &report.Drain{Head: report.NewHead("drain"), RatePerSecond: 100, Rounds: []report.DrainRound{good, good}}
	require.NoError(t, r.Broken(), "a blip is no fault")
	var text bytes.Buffer
	require.NoError(t, r.Print(&text))
	require.Contains(t, text.String(), "80 reconnects, at most 100 in a second")
	for _, f := range []func(*report.DrainRound){
		func(d *report.DrainRound) { d.Lost = 1 }, func(d *report.DrainRound) { d.Duplicated = 1 },
		func(d *report.DrainRound) { d.Left = 1 }, func(d *report.DrainRound) { d.Unrecovered = 1 },
		func(d *report.DrainRound) { d.Closed = 1 }, func(d *report.DrainRound) { d.Refused = 1 },
		func(d *report.DrainRound) { d.Apart = 1 }, func(d *report.DrainRound) { d.MostPerSecond = 150 },
	} {
		bad := good
		f(&bad)
		r.Rounds[1] = bad
		require.Error(t, r.Broken(), "%+v", bad)
	}
}

func TestFailoverIsJudged(t *testing.T) {
	kill := func(ms ...float64) report.FailoverRound {
		return report.FailoverRound{How: "SIGKILL", Rooms: len(ms), Alive: ms, All: ms[len(ms)-1]}
	}
	r := &report.Failover{
		Head:   report.NewHead("failover"),
		Rounds: []report.FailoverRound{kill(500, 600), kill(400, 700), kill(300, 900), {How: "SIGSTOP", Alive: []float64{650}, All: 650}},
		Quiet:  &report.Quiet{Seconds: 600},
	}
	rounds, rooms := r.Alive("SIGKILL")
	require.Equal(t, report.Quantiles{P50: 700, P90: 900, P99: 900, Max: 900}, rounds)
	require.Equal(t, 600.0, rooms.P50)
	require.NoError(t, r.Broken())
	var text bytes.Buffer
	require.NoError(t, r.Print(&text))
	require.Contains(t, text.String(), "SIGKILL: all rooms live again p50 700 ms, max 900 ms")
	r.Quiet.Elections = 1
	require.Error(t, r.Broken())
	r.Quiet, r.Ghosts = nil, 1
	require.Error(t, r.Broken())
	r.Ghosts, r.Early = 0, 1
	require.Error(t, r.Broken())
	r.Early, r.Rounds[1].Left = 0, 1
	require.Error(t, r.Broken())
}
