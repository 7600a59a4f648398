package report_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/report"
)

func TestPresence(t *testing.T) {
	latency := report.QuantilesOf(func(p float64) time.Duration { return time.Duration(p) * time.Millisecond }, time.Second)
	require.Equal(t, report.Quantiles{P50: 50, P90: 90, P99: 99, Max: 1000}, latency)
	added := latency.Less(37.5)
	pair := report.Pair{From: "eu-west", To: "us-east", Deliveries: 3, Latency: latency, Link: &report.Bare{P50: 37.5, P99: 38},
		Added: &added, CDF: [][2]float64{{1, 0.5}, {-2.25, 1}}}
	p := &report.Presence{Head: report.NewHead("presence"), Users: 2, Tick: 100, PresenceRun: report.PresenceRun{Rate: 500, Seconds: 1, Pairs: []report.Pair{
		pair, {From: "eu-west", To: "eu-west", Latency: latency},
	}, Changes: []report.Pair{pair}, Links: []report.Flow{
		report.NewFlow(report.Flow{From: "eu-west", To: "us-east", Bytes: 1100, Idle: 100, Updates: 10, Deliveries: 50}, 1, 3000),
	}}}
	require.Equal(t, 100.0, p.Links[0].PerUpdate)
	require.Equal(t, 20.0, p.Links[0].PerDelivery)
	require.Equal(t, 300.0, p.Links[0].Naive)
	var text, raw, html bytes.Buffer
	require.NoError(t, p.Print(&text))
	require.Contains(t, text.String(), "12.5")
	require.NoError(t, report.WriteJSON(&raw, p))
	require.Contains(t, raw.String(), "[ [ 1, 0.5 ], [ -2.25, 1 ] ]")
	var back report.Presence
	require.NoError(t, json.Unmarshal(raw.Bytes(), &back))
	require.Equal(t, *p, back)
	require.NoError(t, report.WriteHTML(&html, p))
	require.Contains(t, html.String(), "<polyline")
	require.NotContains(t, html.String(), "http")

	require.NoError(t, p.Broken())
	require.ErrorContains(t, p.Late(), "presence: 1 of 1 pairs")
	require.NotContains(t, p.Late().Error(), "fixes")
	p.Changes[0].Lost = 1
	require.Error(t, p.Broken())
	require.NotEmpty(t, p.Step(100).Why)
}
