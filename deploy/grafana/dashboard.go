// Package grafana makes the dashboard that operators load into Grafana:
// muster.json beside this file. It is kept as a table of panels (panels.go), from
// which TestDashboard writes the file with -rewrite; a test of internal/node holds
// its queries against the metrics that a node registers, both ways.
package grafana

import (
	"encoding/json"
	"fmt"
	"strings"
)

// row is a part of the dashboard that folds.
type row struct {
	title  string
	panels []panel
}

// panel is a graph.
type panel struct {
	title, unit string // Grafana's names of units
	note        string
	queries     []query
}

// query is one expression; legend names its lines.
type query struct{ expr, legend string }

func p(title, unit string, queries ...query) panel {
	return panel{title: title, unit: unit, queries: queries}
}

func (x panel) says(note string) panel {
	x.note = note
	return x
}

const here = `region=~"$region",node=~"$node"`

func legend(by []string) string { return "{{" + strings.Join(by, "}} {{") + "}}" }

// rate is how often a second, by labels; without any, by node.
func rate(counter string, by ...string) query {
	by = some(by)
	return query{fmt.Sprintf(`sum by (%s) (rate(%s{%s}[$__rate_interval]))`, strings.Join(by, ","), counter, here), legend(by)}
}

// now is the sum of gauges.
func now(gauge string, by ...string) query {
	by = some(by)
	return query{fmt.Sprintf(`sum by (%s) (%s{%s})`, strings.Join(by, ","), gauge, here), legend(by)}
}

// most is the highest of gauges that several nodes have of one thing.
func most(gauge string, by ...string) query {
	by = some(by)
	return query{fmt.Sprintf(`max by (%s) (%s{%s})`, strings.Join(by, ","), gauge, here), legend(by)}
}

// quantile is of a histogram.
func quantile(q float64, histogram string, by ...string) query {
	by = some(by)
	l := fmt.Sprintf("p%g ", 100*q)
	return query{fmt.Sprintf(`histogram_quantile(%g, sum by (le,%s) (rate(%s_bucket{%s}[$__rate_interval])))`, q, strings.Join(by, ","), histogram, here), l + legend(by)}
}

func some(by []string) []string {
	if len(by) == 0 {
		return []string{"node"}
	}
	return append([]string(nil), by...)
}

type object map[string]any

// Dashboard is the JSON of the dashboard.
func Dashboard() ([]byte, error) {
	const width, height = 8, 7
	source := object{"type": "prometheus", "uid": "${datasource}"}
	var panels []object
	y, id := 0, 0
	for _, r := range rows {
		id++
		head := object{"id": id, "type": "row", "title": r.title, "collapsed": false, "panels": []object{}, "gridPos": object{"x": 0, "y": y, "w": 24, "h": 1}}
		panels = append(panels, head)
		y++
		for i, x := range r.panels {
			id++
			var targets []object
			for n, q := range x.queries {
				targets = append(targets, object{"refId": string(rune('A' + n)), "expr": q.expr, "legendFormat": q.legend, "datasource": source})
			}
			panels = append(panels, object{
				"id": id, "type": "timeseries", "title": x.title, "description": x.note, "datasource": source, "targets": targets,
				"gridPos":     object{"x": i % 3 * width, "y": y + i/3*height, "w": width, "h": height},
				"fieldConfig": object{"defaults": object{"unit": x.unit, "min": 0, "custom": object{"fillOpacity": 8, "showPoints": "never"}}, "overrides": []object{}},
				"options":     object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi", "sort": "desc"}},
			})
		}
		y += (len(r.panels) + 2) / 3 * height
	}
	variable := func(name, label, query string) object {
		return object{
			"name": name, "label": label, "type": "query", "datasource": source, "query": object{"query": query, "refId": name}, "definition": query,
			"refresh": 2, "includeAll": true, "multi": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"}, "sort": 1,
		}
	}
	b, err := json.MarshalIndent(object{
		"uid": "muster", "title": "Muster", "tags": []string{"muster"}, "schemaVersion": 39, "editable": true, "graphTooltip": 1,
		"time": object{"from": "now-1h", "to": "now"}, "refresh": "30s", "timezone": "utc",
		"templating": object{"list": []object{
			{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
			variable("region", "Region", `label_values(muster_cluster_slots_owned, region)`),
			variable("node", "Node", `label_values(muster_cluster_slots_owned{region=~"$region"}, node)`),
		}},
		"panels": panels,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	return append(b, '\n'), nil
}
