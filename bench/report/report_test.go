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
	beyond := added.Less(100)
	link := 37.5
	p := &report.Presence{Head: report.NewHead("presence"), Users: 2, Pairs: []report.Pair{
		{From: "eu-west", To: "us-east", Deliveries: 3, Latency: latency, Link: &link, Added: &added, BeyondTick: &beyond},
		{From: "eu-west", To: "eu-west", Latency: latency},
	}}
	var text, raw bytes.Buffer
	require.NoError(t, p.Print(&text))
	require.Contains(t, text.String(), "61.5")
	require.Contains(t, text.String(), "-38.5")
	require.NoError(t, report.WriteJSON(&raw, p))
	var back report.Presence
	require.NoError(t, json.Unmarshal(raw.Bytes(), &back))
	require.Equal(t, *p, back)
}
