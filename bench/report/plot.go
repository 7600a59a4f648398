package report

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// plot is a line chart, drawn as SVG without a script.
type plot struct {
	title  string
	x, y   string // what the axes are
	xs     axis
	ys     axis
	series []series
	marks  []mark
	bands  []band
}

// axis is the shown range; an empty one is that of the data.
type axis struct {
	from, to float64
	log      bool
}

// series is one line. It has a name and a colour of the palette.
type series struct {
	name   string
	color  int
	points [][2]float64
	dots   bool // single measurements, not a line
}

// mark is a vertical line, such as a goal.
type mark struct {
	at   float64
	name string
}

// band is a stretch of time, such as a cut.
type band struct {
	from, to float64
	name     string
}

// A plot's size and margins, in SVG units.
const (
	plotWidth, plotHeight = 420.0, 230.0
	left, right           = 46.0, 10.0
	top, bottom           = 12.0, 36.0
)

// palette is how many colours the page defines.
const palette = 10

func (p plot) svg() template.HTML {
	p.fit()
	var b strings.Builder
	fmt.Fprintf(&b, `<figure><figcaption>%s</figcaption><svg viewBox="0 0 %g %g" role="img" aria-label="%s">`,
		template.HTMLEscapeString(p.title), plotWidth, plotHeight, template.HTMLEscapeString(p.title))
	for _, s := range p.bands {
		a, z := p.px(s.from), p.px(s.to)
		fmt.Fprintf(&b, `<rect class="band" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/><text class="note" x="%.1f" y="%.1f">%s</text>`,
			a, top, max(0, z-a), plotHeight-top-bottom, a+3, top+10, template.HTMLEscapeString(s.name))
	}
	for _, t := range p.xs.ticks(6) {
		fmt.Fprintf(&b, `<line class="grid" x1="%[1]g" x2="%[1]g" y1="%[2]g" y2="%[3]g"/><text x="%[1]g" y="%[4]g" text-anchor="middle">%[5]s</text>`,
			p.px(t), top, plotHeight-bottom, plotHeight-bottom+13, number(t))
	}
	for _, t := range p.ys.ticks(5) {
		fmt.Fprintf(&b, `<line class="grid" x1="%[1]g" x2="%[2]g" y1="%[3]g" y2="%[3]g"/><text x="%[4]g" y="%[5]g" text-anchor="end">%[6]s</text>`,
			left, plotWidth-right, p.py(t), left-5, p.py(t)+3.5, number(t))
	}
	fmt.Fprintf(&b, `<text class="axis" x="%g" y="%g" text-anchor="middle">%s</text><text class="axis" transform="translate(11 %g) rotate(-90)" text-anchor="middle">%s</text>`,
		(left+plotWidth-right)/2, plotHeight-6, template.HTMLEscapeString(p.x), (top+plotHeight-bottom)/2, template.HTMLEscapeString(p.y))
	for i, m := range p.marks { // their names stand low, where distributions leave room
		x, anchor := p.px(m.at)+3, "start"
		if x > plotWidth-right-40 {
			x, anchor = x-6, "end"
		}
		fmt.Fprintf(&b, `<line class="mark" x1="%[1]g" x2="%[1]g" y1="%[2]g" y2="%[3]g"/><text class="note" x="%[4]g" y="%[5]g" text-anchor="%[6]s">%[7]s</text>`,
			p.px(m.at), top, plotHeight-bottom, x, plotHeight-bottom-5-11*float64(i), anchor, template.HTMLEscapeString(m.name))
	}
	for _, s := range p.series {
		p.draw(&b, s)
	}
	b.WriteString(`</svg>`)
	if len(p.series) > 1 || len(p.series) == 1 && p.series[0].name != "" {
		b.WriteString(`<ul class="legend">`)
		for _, s := range p.series {
			fmt.Fprintf(&b, `<li><i class="s%d"></i>%s</li>`, s.color%palette, template.HTMLEscapeString(s.name))
		}
		b.WriteString(`</ul>`)
	}
	b.WriteString(`</figure>`)
	return template.HTML(b.String()) // all that is not a number was escaped
}

func (p plot) draw(b *strings.Builder, s series) {
	if s.dots {
		for _, pt := range s.points {
			fmt.Fprintf(b, `<circle class="s%d" cx="%.1f" cy="%.1f" r="2.6"/>`, s.color%palette, p.px(pt[0]), p.py(pt[1]))
		}
		return
	}
	fmt.Fprintf(b, `<polyline class="s%d" points="`, s.color%palette)
	for _, pt := range s.points {
		fmt.Fprintf(b, "%.1f,%.1f ", p.px(pt[0]), p.py(pt[1]))
	}
	b.WriteString(`"/>`)
}

// fit takes the ranges that were not given from the data.
func (p *plot) fit() {
	for i, a := range []*axis{&p.xs, &p.ys} {
		if a.from == a.to {
			lo, hi := math.Inf(1), math.Inf(-1)
			for _, s := range p.series {
				for _, pt := range s.points {
					if !a.log || pt[i] > 0 {
						lo, hi = min(lo, pt[i]), max(hi, pt[i])
					}
				}
			}
			for _, m := range p.marks {
				if i == 0 {
					hi = max(hi, m.at)
				}
			}
			if math.IsInf(lo, 1) {
				lo, hi = 0, 1
			}
			if !a.log {
				lo = min(lo, 0)
				hi += (hi - lo) * 0.05
			}
			a.from, a.to = lo, hi
		}
		if a.log {
			a.from = math.Pow(10, math.Floor(math.Log10(a.from)))
			a.to = math.Pow(10, math.Ceil(math.Log10(a.to)))
		}
		if a.to <= a.from {
			a.to = a.from + 1
		}
	}
}

func (p plot) px(v float64) float64 { return left + p.xs.share(v)*(plotWidth-left-right) }
func (p plot) py(v float64) float64 {
	return plotHeight - bottom - p.ys.share(v)*(plotHeight-top-bottom)
}

// share is where a value lies in the range, 0 to 1.
func (a axis) share(v float64) float64 {
	from, to := a.from, a.to
	if a.log {
		from, to, v = math.Log10(from), math.Log10(to), math.Log10(max(v, a.from))
	}
	return min(1, max(0, (v-from)/(to-from)))
}

// ticks are round numbers in the range, about n of them.
func (a axis) ticks(n int) (ticks []float64) {
	if a.log {
		for t := a.from; t <= a.to*1.001; t *= 10 {
			ticks = append(ticks, t)
		}
		return ticks
	}
	step := math.Pow(10, math.Floor(math.Log10((a.to-a.from)/float64(n))))
	for _, m := range []float64{1, 2, 5, 10} {
		if (a.to-a.from)/(step*m) <= float64(n) {
			step *= m
			break
		}
	}
	for t := math.Ceil(a.from/step) * step; t <= a.to+step/1e6; t += step {
		ticks = append(ticks, math.Round(t/step)*step)
	}
	return ticks
}

func number(v float64) string {
	switch {
	case math.Abs(v) >= 1e9:
		return strconv.FormatFloat(v/1e9, 'g', 3, 64) + "G"
	case math.Abs(v) >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + "M"
	case math.Abs(v) >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 3, 64) + "k"
	}
	return strconv.FormatFloat(math.Round(v*1e4)/1e4, 'g', 5, 64)
}
