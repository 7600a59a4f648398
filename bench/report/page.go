package report

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

// page is a result as people read it in a browser. It is one file and needs no
// network.
type page struct {
	Title    string
	Lead     string
	Head     Head
	Facts    [][2]string
	Verdict  error // what of the product's word was broken
	Sections []section
}

// section is a heading with plots and a table.
type section struct {
	Title string
	Text  string
	Plots []template.HTML
	Table table
}

// table has its numbers right-aligned but for the first columns, which name
// what a row is.
type table struct {
	Names  int
	Header []string
	Rows   [][]string
}

// Cell is one of a table for the template.
func (t table) Name(column int) bool { return column < t.Names }

// Paged is a result that has a page.
type Paged interface{ page() page }

// WriteHTML writes the page of a result.
func WriteHTML(w io.Writer, r Paged) error {
	if err := pageTemplate.Execute(w, r.page()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark; --ink: #17202a; --soft: #5b6773; --line: #e1e5ea; --back: #fff; --panel: #f6f8fa; --band: #fdeee0; --good: #1a7f37; --bad: #b3261e;
 --c0: #1f6feb; --c1: #d4531c; --c2: #1a7f37; --c3: #8250df; --c4: #0e7c86; --c5: #bf2c6d; --c6: #8a6200; --c7: #57606a; --c8: #3949ab; --c9: #6d4c41; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa6b2; --line: #2a323b; --back: #0f141a; --panel: #171d25; --band: #3a2a1c; --good: #56d364; --bad: #ff7b72;
 --c0: #6cb0ff; --c1: #ff9d6b; --c2: #56d364; --c3: #c3a1ff; --c4: #4fd1dc; --c5: #ff8fbf; --c6: #e3b341; --c7: #b1bac4; --c8: #9fa8ff; --c9: #d7b5a6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 28px 20px 60px; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); }
h1 { font-size: 25px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 38px 0 4px; }
p { margin: 4px 0 10px; max-width: 78ch; } .soft { color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 10px; margin: 18px 0; padding: 0; }
dl div { background: var(--panel); border-radius: 8px; padding: 9px 12px; } dt { color: var(--soft); font-size: 12.5px; } dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.verdict { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); white-space: pre-line; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 18px; margin: 12px 0; }
figure { margin: 0; background: var(--panel); border-radius: 10px; padding: 10px 12px; } figcaption { font-weight: 600; font-size: 13.5px; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 10px; font-variant-numeric: tabular-nums; } svg .axis { font-size: 10.5px; } svg .note { fill: var(--ink); }
.grid { stroke: var(--line); stroke-width: 1; } .mark { stroke: var(--ink); stroke-dasharray: 3 3; } .band { fill: var(--band); }
polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
{{range .Colors}}polyline.s{{.}} { stroke: var(--c{{.}}); } circle.s{{.}} { fill: var(--c{{.}}); } i.s{{.}} { background: var(--c{{.}}); }
{{end}}
.legend { list-style: none; margin: 2px 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 12.5px; } .legend i { display: inline-block; width: 12px; height: 4px; border-radius: 2px; margin: 0 6px 3px 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 10px 0; }
th, td { padding: 3px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); } th { color: var(--soft); font-weight: 600; } .name { text-align: left; }
</style></head><body>
<h1>{{.Title}}</h1>
<p class="soft">{{.Head.Time.Format "2 January 2006, 15:04"}} UTC · {{.Head.Machine.CPUs}} CPUs, {{.Head.Machine.OS}}/{{.Head.Machine.Arch}}, {{.Head.Machine.Go}}</p>
<p>{{.Lead}}</p>
{{if .Verdict}}<p class="verdict bad">{{.Faults}}</p>{{else}}<p class="verdict good">Every goal was reached.</p>{{end}}
<dl>{{range .Facts}}<div><dt>{{index . 0}}</dt><dd>{{index . 1}}</dd></div>{{end}}</dl>
{{range .Sections}}<h2>{{.Title}}</h2>
{{with .Text}}<p>{{.}}</p>{{end}}
{{with .Plots}}<div class="plots">{{range .}}{{.}}{{end}}</div>{{end}}
{{$t := .Table}}{{if .Table.Rows}}<div class="scroll"><table><thead><tr>{{range $i, $h := .Table.Header}}<th{{if $t.Name $i}} class="name"{{end}}>{{$h}}</th>{{end}}</tr></thead>
<tbody>{{range .Table.Rows}}<tr>{{range $i, $c := .}}<td{{if $t.Name $i}} class="name"{{end}}>{{$c}}</td>{{end}}</tr>
{{end}}</tbody></table></div>{{end}}
{{end}}</body></html>
`))

// Faults is the verdict, line by line, for the template.
func (p page) Faults() string {
	lines := strings.Split(p.Verdict.Error(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "bench: ")
	}
	return strings.Join(lines, "\n")
}

// Colors are the numbers of the palette, for the template.
func (p page) Colors() (list []int) {
	for i := range palette {
		list = append(list, i)
	}
	return list
}

func ms(v float64) string { return fmt.Sprintf("%.1f", v) }

// mesh are the facts about where something ran.
func (m Mesh) facts() [][2]string {
	return [][2]string{
		{"Mesh", fmt.Sprintf("%d regions × %d nodes", len(m.Regions), m.Nodes)},
		{"Links", fmt.Sprintf("jitter %g ms, loss %s", m.Jitter, percent(m.Loss))},
		{"Database", m.Database},
	}
}

// regionsOf lists the regions of pairs in order.
func regionsOf(pairs []Pair) (list []string) {
	for _, p := range pairs {
		if !slices.Contains(list, p.From) {
			list = append(list, p.From)
		}
	}
	for _, p := range pairs {
		if !slices.Contains(list, p.To) {
			list = append(list, p.To)
		}
	}
	return list
}

// pairPlots draws one distribution per sender's region, with a line for each
// receiver's.
func pairPlots(title string, pairs []Pair, goal Goal, of func(Pair) [][2]float64) (plots []template.HTML) {
	regions := regionsOf(pairs)
	for _, from := range regions {
		p := plot{title: title + " " + from, x: "ms over the bare link", y: "share of deliveries", ys: axis{from: 0, to: 1}}
		if goal.P99 > 0 {
			p.xs = axis{from: 0, to: goal.P99 * 1.4}
			p.marks = append(p.marks, mark{goal.P50, "p50 goal"}, mark{goal.P99, "p99 goal"})
		}
		for _, pair := range pairs {
			if pair.From == from && pair.wide() && len(of(pair)) > 0 {
				p.series = append(p.series, series{name: "to " + pair.To, color: slices.Index(regions, pair.To), points: of(pair)})
			}
		}
		if len(p.series) > 0 {
			plots = append(plots, p.svg())
		}
	}
	return plots
}

func pairTable(pairs []Pair) table {
	t := table{Names: 2, Header: []string{"from", "to", "delivered", "lost", "twice", "p50", "p90", "p99", "max", "link p50", "link p99", "over link p50", "over link p99"}}
	for _, p := range pairs {
		row := []string{p.From, p.To, fmt.Sprint(p.Deliveries), fmt.Sprint(p.Lost), fmt.Sprint(p.Duplicates),
			ms(p.Latency.P50), ms(p.Latency.P90), ms(p.Latency.P99), ms(p.Latency.Max)}
		if p.Link != nil {
			p50, p99 := p.Over(p.Latency)
			row = append(row, ms(p.Link.P50), ms(p.Link.P99), ms(p50), ms(p99))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// linkSection shows the bytes on each region link.
func linkSection(flows []Flow) []section {
	if len(flows) == 0 {
		return nil
	}
	var one, naive series
	one.name, naive.name, naive.color = "over the link", "naive: each receiver over the link", 1
	one.dots, naive.dots = true, true
	t := table{Names: 2, Header: []string{"from", "to", "updates", "receivers each", "packets", "KiB", "idle B/s", "B/update", "B/delivery", "naive B/update", "times"}}
	for i, f := range flows {
		one.points = append(one.points, [2]float64{float64(i + 1), f.PerUpdate})
		naive.points = append(naive.points, [2]float64{float64(i + 1), f.Naive})
		t.Rows = append(t.Rows, []string{f.From, f.To, fmt.Sprint(f.Updates), ms(ratio(float64(f.Deliveries), float64(f.Updates))), fmt.Sprint(f.Packets),
			fmt.Sprintf("%.0f", float64(f.Bytes)/1024), fmt.Sprintf("%.0f", f.Idle), fmt.Sprintf("%.0f", f.PerUpdate), fmt.Sprintf("%.0f", f.PerDelivery),
			fmt.Sprintf("%.0f", f.Naive), ms(ratio(f.Naive, f.PerUpdate))})
	}
	return []section{{
		Title: "Bytes over each region link",
		Text: "UDP payload that the emulated links carried while the load ran, acknowledgements and all, less what they carry when idle. " +
			"Naive is what the receivers' sessions read of the same updates, without any transport around it: what would cross the link if each receiver got its own copy.",
		Plots: []template.HTML{plot{title: "Bytes per update, by link", x: "link, in the order of the table", y: "bytes", series: []series{one, naive}}.svg()},
		Table: t,
	}}
}
