package report

import (
	"errors"
	"fmt"
	"io"
)

// Roam is the result of `muster bench roam`.
type Roam struct {
	Head
	Mesh Mesh `json:"mesh"`
	Load Load `json:"load"`

	Travellers int `json:"travellers"`
	Stayed     int `json:"stayed"`          // whose sessions did not follow them
	Recovered  int `json:"rooms_continued"` // of the others, whose rooms went on from where they were

	Took    Quantiles `json:"took"`    // from the decision until every room was back
	Gap     Quantiles `json:"gap"`     // of it, without a live connection
	Silence Quantiles `json:"silence"` // the longest between two events at the application, while travelling
	Usual   Quantiles `json:"usual"`   // likewise, of the same applications before

	Absence Quantiles `json:"absence"` // how long those who vanished were gone for others

	TookCDF    [][2]float64 `json:"took_cdf"`
	SilenceCDF [][2]float64 `json:"silence_cdf"`
	UsualCDF   [][2]float64 `json:"usual_cdf"`

	Replayed uint64 `json:"replayed"` // events that came over new connections to bring rooms up to date
	Dropped  uint64 `json:"dropped"`  // of those, had been heard before; the SDK gave them to nobody
	Lost     int    `json:"lost"`     // deliveries of acknowledged messages that never came
	Faults
	Apart        int    `json:"apart"` // (who, whom) that don't see each other afterwards
	Acknowledged int64  `json:"messages_acknowledged"`
	FirstFailure string `json:"first_failure,omitempty"`
}

// Broken says what of the product's word was broken; nil: nothing.
func (r *Roam) Broken() error {
	if r.Lost != 0 || r.Duplicated != 0 || r.Left != 0 || r.Refused != 0 || r.Closed != 0 || r.Apart != 0 || r.Stayed != 0 {
		return fmt.Errorf("bench: travelling broke it: stayed %d, lost %d, %+v, apart %d; first: %s", r.Stayed, r.Lost, r.Faults, r.Apart, r.FirstFailure)
	}
	return nil
}

// Late: there is no goal for how long a move takes, since the old connection
// serves meanwhile; that it does is one, and that nobody
// notices.
func (r *Roam) Late() (err error) {
	if r.Vanished > 0 {
		err = fmt.Errorf("bench: others saw travellers vanish %d times, for %.0f ms (p50) to %.0f ms", r.Vanished, r.Absence.P50, r.Absence.Max)
	}
	if moved := r.Travellers - r.Stayed; r.Recovered < moved {
		err = errors.Join(err, fmt.Errorf("bench: the rooms of %d of %d travellers were not continued from where they were", moved-r.Recovered, moved))
	}
	return err
}

// Print writes it for people.
func (r *Roam) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `roam: %d of %d clients travel to another of %d regions of %d nodes, %g messages/s, %g fixes/s, %d CPUs

moved             %d, rooms continued %d, stayed %d
a move took       p50 %.0f, p99 %.0f, max %.0f ms, of which without a live connection p50 %.0f, max %.0f ms
longest silence   p50 %.0f, p99 %.0f, max %.0f ms while travelling; p50 %.0f, p99 %.0f, max %.0f ms before
others saw        left %d, vanished %d (for p50 %.0f, max %.0f ms), suspended %d; don't see each other afterwards %d
messages          acknowledged %d, lost %d, twice %d, refused %d; replayed events %d, of which %d were known and dropped
`, r.Travellers, r.Load.Users, len(r.Mesh.Regions), r.Mesh.Nodes, r.Load.MessagesPerSecond, r.Load.FixesPerSecond, r.Machine.CPUs,
		r.Travellers-r.Stayed, r.Recovered, r.Stayed, r.Took.P50, r.Took.P99, r.Took.Max, r.Gap.P50, r.Gap.Max,
		r.Silence.P50, r.Silence.P99, r.Silence.Max, r.Usual.P50, r.Usual.P99, r.Usual.Max,
		r.Left, r.Vanished, r.Absence.P50, r.Absence.Max, r.Suspended, r.Apart, r.Acknowledged, r.Lost, r.Duplicated, r.Refused, r.Replayed, r.Dropped)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (r *Roam) page() page {
	pg := page{
		Title: "Muster: people travel to other regions", Head: r.Head, Verdict: errors.Join(r.Broken(), r.Late()),
		Lead: "Devices find themselves in another place: the SDK times the regions, finds one clearly and steadily nearer, and moves there while the old connection still serves. Others must not notice.",
		Facts: append(r.Mesh.facts(), [][2]string{
			{"Travellers", fmt.Sprintf("%d of %d", r.Travellers, r.Load.Users)},
			{"Moved, continued", fmt.Sprintf("%d, %d", r.Travellers-r.Stayed, r.Recovered)},
			{"Without a live connection", fmt.Sprintf("max %.0f ms", r.Gap.Max)},
			{"Others saw left, vanished, suspended", fmt.Sprintf("%d, %d, %d", r.Left, r.Vanished, r.Suspended)},
			{"Messages lost, twice", fmt.Sprintf("%d, %d of %d", r.Lost, r.Duplicated, r.Acknowledged)},
		}...),
	}
	took := plot{title: "How long a move took", x: "ms", y: "share of travellers", ys: axis{from: 0, to: 1}, series: []series{{points: r.TookCDF}}}
	silence := plot{title: "Longest silence at the application", x: "ms between two events", y: "share of travellers", ys: axis{from: 0, to: 1},
		series: []series{{name: "while travelling", points: r.SilenceCDF, color: 1}, {name: "before", points: r.UsualCDF}}}
	s := section{Title: "Moves", Text: "From the decision to move until every room was back on the new connection."}
	s.Plots = append(s.Plots, took.svg(), silence.svg())
	pg.Sections = []section{s}
	return pg
}
