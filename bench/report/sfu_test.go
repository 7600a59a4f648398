package report

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sfuResult is a workload with goals, in three rounds of which the figures are given:
// packets per CPU second and the 99th percentile of the delay.
func sfuResult(runs map[string][][2]float64) *SFU {
	c := SFUCase{Case: "1 to 10", Goal: 100, GoalDelay: 2}
	for _, server := range []string{SFUMuster, SFUServe, SFULiveKit, SFUDirect} {
		for _, f := range runs[server] {
			c.Add(server, SFURun{In: 1, Forwarded: 10, PerCPUSecond: f[0], Delivered: 1, Delay: Quantiles{P99: f[1]}})
		}
	}
	c.Compare()
	return &SFU{Rounds: 3, Cases: []SFUCase{c}}
}

func TestSFUBesideOthers(t *testing.T) {
	r := sfuResult(map[string][][2]float64{
		SFUMuster:  {{200, 3}, {90, 9}, {150, 4}},
		SFULiveKit: {{100, 5}, {50, 20}, {100, 5}}, // twice as much work at a bad moment, for both
		SFUDirect:  {{0, 2}, {0, 8}, {0, 2.5}},
	})
	s := r.Cases[0].Servers
	assert.Equal(t, 1.8, s[0].Ratio)
	assert.Equal(t, 1.0, s[0].Added)
	assert.Zero(t, s[1].Ratio)
	assert.Equal(t, 3.0, s[1].Added)
	assert.Zero(t, s[2].Added)
	require.NoError(t, r.Late())
	require.NoError(t, r.Broken())
	var b bytes.Buffer
	require.NoError(t, r.Print(&b))
	assert.Contains(t, b.String(), "1.80")
	assert.Contains(t, b.String(), "200 (3.0 ms), 90 (9.0 ms), 150 (4.0 ms)")
}

func TestSFUGoals(t *testing.T) {
	for _, c := range []struct {
		name string
		runs map[string][][2]float64
		want string
	}{
		{"beside LiveKit the ratio counts", map[string][][2]float64{SFUServe: {{149, 1}}, SFULiveKit: {{100, 1}}}, "muster serve: 1.49 times"},
		{"alone the figure does", map[string][][2]float64{SFUMuster: {{99, 1}}}, "99 packets"},
		{"late", map[string][][2]float64{SFUMuster: {{150, 4.5}}, SFUDirect: {{0, 2}}}, "2.50 ms more"},
	} {
		t.Run(c.name, func(t *testing.T) { assert.ErrorContains(t, sfuResult(c.runs).Late(), c.want) })
	}
	r := sfuResult(map[string][][2]float64{SFULiveKit: {{1, 1}}})
	r.Cases[0].Servers[0].Runs[0].Delivered, r.Cases[0].Servers[0].Runs[0].Forwarded = 0.9, 0
	require.ErrorContains(t, r.Late(), "0.900 of what was sent")
	require.ErrorContains(t, r.Broken(), "nothing was forwarded")
}
