package report

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Geo is the result of `muster bench geo`: what one server process does with
// moving points, per second of its own user and system time.
type Geo struct {
	Head
	Connections int        `json:"connections"`
	Batch       int        `json:"moves_of_a_batch"`
	Radius      float64    `json:"radius_metres"`
	Limit       int        `json:"nearest"`
	Rounds      int        `json:"rounds"`
	Seconds     float64    `json:"seconds"`
	Alone       []GeoAlone `json:"in_process"`
	Parts       []GeoPart  `json:"network"`
}

// The cases.
const (
	GeoSingle  = "single moves"
	GeoBatched = "moves in batches"
	GeoNearby  = "nearby"
)

// geoGoals is how many times as much per CPU second as another server.
var geoGoals = map[string]map[string]float64{
	"tile38": {GeoSingle: 3, GeoBatched: 4, GeoNearby: 4},
	"redis":  {GeoSingle: 1, GeoBatched: 1, GeoNearby: 1},
}

// geoMany is from how many points on Redis is to be beaten.
const geoMany = 1_000_000

// GeoAlone is a part of the server in this process, on one core, without a network.
type GeoAlone struct {
	Part   string  `json:"part"`
	Points int     `json:"points"`
	Moves  float64 `json:"moves_per_cpu_second"`
	Near   float64 `json:"nearby_per_cpu_second"`
	Bytes  float64 `json:"heap_bytes_per_point"`
}

// GeoPart is a number of points, over one transport of Muster's.
type GeoPart struct {
	Points  int         `json:"points"`
	Over    string      `json:"muster_over"`
	Servers []GeoServer `json:"servers"`
	Cases   []GeoRows   `json:"cases"`
}

// GeoServer is what a server has, and whether its answers are right.
type GeoServer struct {
	Server        string  `json:"server"`
	LoadedPerCPU  float64 `json:"loaded_per_cpu_second"`
	RSSBefore     int64   `json:"rss_before"`
	RSSFull       int64   `json:"rss_full"`
	RSSAfter      int64   `json:"rss_after_all"`
	BytesPerPoint float64 `json:"rss_per_point"` // by which it grew until it was full
	IdleCores     float64 `json:"idle_cores"`    // when nobody says anything

	Asked  int `json:"answers_compared"`
	Differ int `json:"answers_that_differ"` // from brute force, in a point or in the order
	Wrong  int `json:"answers_wrong"`       // by more than a metre
}

// GeoRows is one load on all servers.
type GeoRows struct {
	Case   string             `json:"case"`
	Rows   []GeoRow           `json:"servers"`
	Ratios map[string]float64 `json:"ratios,omitempty"` // of what Muster does per CPU second to what another one does
}

// GeoRow is all runs of one server together, and each. Together: what a server
// does seldom and at length, such as collecting garbage, counts for what it costs.
type GeoRow struct {
	Server string `json:"server"`
	GeoRun
	Runs []GeoRun `json:"runs"`
}

// GeoRun is one run of one server: points moved, or questions answered.
type GeoRun struct {
	PerSecond    float64   `json:"per_second"`
	Cores        float64   `json:"server_cores"`
	PerCPUSecond float64   `json:"per_cpu_second"`
	Latency      Quantiles `json:"latency"` // of a request
}

// Add adds a case, of which all rows have runs.
func (p *GeoPart) Add(name string, all []GeoRow) {
	rows := GeoRows{Case: name, Rows: all, Ratios: map[string]float64{}}
	for i := range rows.Rows {
		r := &rows.Rows[i]
		cpu := 0.0
		for _, run := range r.Runs {
			r.PerSecond += run.PerSecond / float64(len(r.Runs))
			r.Cores += run.Cores / float64(len(r.Runs))
			if run.PerCPUSecond > 0 { // else nothing was answered in time
				cpu += run.PerSecond / run.PerCPUSecond / float64(len(r.Runs))
			}
		}
		if cpu > 0 {
			r.PerCPUSecond = r.PerSecond / cpu
		}
	}
	ours := slices.IndexFunc(rows.Rows, func(r GeoRow) bool { return r.Server == "muster" })
	for i, r := range rows.Rows {
		if ours >= 0 && i != ours && r.PerCPUSecond > 0 {
			rows.Ratios[r.Server] = round(rows.Rows[ours].PerCPUSecond / r.PerCPUSecond)
		}
	}
	p.Cases = append(p.Cases, rows)
}

// Broken says what of the product's word was broken; nil: nothing.
func (r *Geo) Broken() (err error) {
	for _, p := range r.Parts {
		for _, s := range p.Servers {
			if s.Server == "muster" && s.Wrong > 0 {
				err = errors.Join(err, fmt.Errorf("bench: %d points over %s: %d of %d answers are wrong", p.Points, p.Over, s.Wrong, s.Asked))
			}
		}
	}
	return err
}

// Late says which goals were missed.
func (r *Geo) Late() (err error) {
	for _, p := range r.Parts {
		for _, c := range p.Cases {
			for _, other := range []string{"tile38", "redis"} {
				got, there := c.Ratios[other]
				goal := geoGoals[other][c.Case]
				if there && got < goal && (other != "redis" || p.Points >= geoMany) {
					err = errors.Join(err, fmt.Errorf("bench: %d points over %s: %s: %.2f times %s's per CPU second: at least %g", p.Points, p.Over, c.Case, got, other, goal))
				}
			}
		}
	}
	return err
}

func (r *Geo) about() string {
	return fmt.Sprintf("points in a square of 40 by 40 km that move by 10 m; %d connections with one request under way each; batches of %d; the %d nearest within %g m. "+
		"%d runs of %g s, per second of the server's own CPU time",
		r.Connections, r.Batch, r.Limit, r.Radius, r.Rounds, r.Seconds)
}

// Print writes it for people.
func (r *Geo) Print(w io.Writer) error {
	fmt.Fprintf(w, "geo: %s; %d CPUs\n", r.about(), r.Machine.CPUs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range r.tables() {
		fmt.Fprintf(t, "\n%s\n%s\n", s.Title, strings.Join(s.Table.Header, "\t"))
		for _, row := range s.Table.Rows {
			fmt.Fprintln(t, strings.Join(row, "\t"))
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	return nil
}

// tables are what both people's forms have.
func (r *Geo) tables() (all []section) {
	if len(r.Alone) > 0 {
		t := table{Names: 1, Header: []string{"part", "points", "moves per CPU s", "nearby per CPU s", "bytes a point"}}
		for _, a := range r.Alone {
			t.Rows = append(t.Rows, []string{a.Part, fmt.Sprint(a.Points), fmt.Sprintf("%.0f", a.Moves), fmt.Sprintf("%.0f", a.Near), fmt.Sprintf("%.0f", a.Bytes)})
		}
		all = append(all, section{Title: "In process, on one core", Table: t})
	}
	for _, p := range r.Parts {
		others := p.others()
		t := table{Names: 2, Header: append([]string{"load", "server", "per s", "cores", "per CPU s", "p50 ms", "p99 ms"}, others...)}
		for i, o := range others {
			t.Header[len(t.Header)-len(others)+i] = "to " + o
		}
		for _, c := range p.Cases {
			for _, row := range c.Rows {
				cells := []string{c.Case, row.Server, fmt.Sprintf("%.0f", row.PerSecond), fmt.Sprintf("%.2f", row.Cores), fmt.Sprintf("%.0f", row.PerCPUSecond),
					fmt.Sprintf("%.2f", row.Latency.P50), fmt.Sprintf("%.2f", row.Latency.P99)}
				for _, o := range others {
					cell := ""
					if row.Server == "muster" {
						cell = fmt.Sprintf("%.2f", c.Ratios[o])
					}
					cells = append(cells, cell)
				}
				t.Rows = append(t.Rows, cells)
			}
		}
		all = append(all, section{Title: fmt.Sprintf("%d points, Muster over %s", p.Points, p.Over), Table: t})
		have := table{Names: 1, Header: []string{"server", "filled per CPU s", "MiB before", "full", "after all", "bytes a point", "idle cores", "answers compared", "differ", "wrong by over 1 m"}}
		for _, s := range p.Servers {
			mib := func(b int64) string { return fmt.Sprint(b >> 20) }
			have.Rows = append(have.Rows, []string{s.Server, fmt.Sprintf("%.0f", s.LoadedPerCPU), mib(s.RSSBefore), mib(s.RSSFull), mib(s.RSSAfter),
				fmt.Sprintf("%.0f", s.BytesPerPoint), fmt.Sprintf("%.3f", s.IdleCores), fmt.Sprint(s.Asked), fmt.Sprint(s.Differ), fmt.Sprint(s.Wrong)})
		}
		all = append(all, section{Title: "What they have, and whether it is true", Table: have})
	}
	return all
}

// AddPart adds a part. The process of another server may be the one of an earlier
// part, whose points it has dropped: it grew from what it had when it had none.
func (r *Geo) AddPart(p GeoPart) {
	for i := range p.Servers {
		s := &p.Servers[i]
		least := s.RSSBefore
		for _, q := range r.Parts {
			for _, t := range q.Servers {
				if t.Server == s.Server {
					least = min(least, t.RSSBefore)
				}
			}
		}
		s.BytesPerPoint = float64(s.RSSFull-least) / float64(p.Points)
	}
	r.Parts = append(r.Parts, p)
}

// others are the servers beside ours.
func (p GeoPart) others() (names []string) {
	for _, s := range p.Servers {
		if s.Server != "muster" {
			names = append(names, s.Server)
		}
	}
	return names
}

func (r *Geo) page() page {
	return page{
		Title: "Muster: moving points", Head: r.Head, Verdict: errors.Join(r.Broken(), r.Late()),
		Lead: "What one server process does with a fleet: " + r.about() + ". All servers are given the same points, moves and questions, in turn, in one run. " +
			"Muster runs as it is shipped, with tokens, grants, limits and metrics, and answers with names, distances, directions and fixes; of the others only names are asked for.",
		Sections: r.tables(),
	}
}
