package report_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/report"
)

func TestGeo(t *testing.T) {
	r := &report.Geo{Head: report.NewHead("geo"), Connections: 8, Alone: []report.GeoAlone{{Part: "geo/index", Points: 10, Moves: 1e6}}}
	p := report.GeoPart{Points: 1_000_000, Over: "websocket", Servers: []report.GeoServer{
		{Server: "muster", Asked: 200}, {Server: "tile38", Asked: 200, Differ: 3, Wrong: 1}, {Server: "redis"},
	}}
	runs := func(per ...float64) (list []report.GeoRun) {
		for _, v := range per {
			list = append(list, report.GeoRun{PerSecond: v, Cores: 1, PerCPUSecond: v})
		}
		return list
	}
	p.Add(report.GeoSingle, []report.GeoRow{
		{Server: "muster", Runs: runs(100, 50)}, {Server: "tile38", Runs: runs(20, 20)}, {Server: "redis", Runs: runs(150, 150)},
	})
	require.Equal(t, 75.0, p.Cases[0].Rows[0].PerCPUSecond)
	require.Equal(t, map[string]float64{"tile38": 3.75, "redis": 0.5}, p.Cases[0].Ratios)
	// One run that took three times the processor for as much: half of a second each.
	p.Add(report.GeoBatched, []report.GeoRow{{Server: "muster", Runs: []report.GeoRun{
		{PerSecond: 100, Cores: 1, PerCPUSecond: 100}, {PerSecond: 100, Cores: 3, PerCPUSecond: 100.0 / 3},
	}}, {Server: "tile38", Runs: runs(50)}})
	require.InDelta(t, 50, p.Cases[1].Rows[0].PerCPUSecond, 1e-9)
	p.Servers[1].RSSBefore, p.Servers[1].RSSFull = 1<<20, 101<<20
	r.AddPart(p)
	again := p
	again.Servers = []report.GeoServer{{Server: "tile38", RSSBefore: 90 << 20, RSSFull: 101 << 20}}
	r.AddPart(again)
	require.Equal(t, 104.8576, r.Parts[0].Servers[1].BytesPerPoint)
	require.Equal(t, 104.8576, r.Parts[1].Servers[0].BytesPerPoint)
	r.Parts = r.Parts[:1]

	var text, raw, html bytes.Buffer
	require.NoError(t, r.Print(&text))
	require.Contains(t, text.String(), "3.75")
	require.NoError(t, report.WriteJSON(&raw, r))
	var back report.Geo
	require.NoError(t, json.Unmarshal(raw.Bytes(), &back))
	require.Equal(t, *r, back)
	require.NoError(t, report.WriteHTML(&html, r))
	require.Contains(t, html.String(), "to tile38")
	require.NotContains(t, html.String(), "http")

	require.NoError(t, r.Broken(), "it is not ours that is wrong")
	late := r.Late()
	require.ErrorContains(t, late, "single moves: 0.50 times redis's")
	require.ErrorContains(t, late, "moves in batches: 1.00 times tile38's")
	require.NotContains(t, late.Error(), "3.75")
	r.Parts[0].Points = 100_000
	require.NotContains(t, r.Late().Error(), "redis")
	r.Parts[0].Servers[0].Wrong = 1
	require.Error(t, r.Broken())
}
