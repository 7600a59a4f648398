// Package report holds the results of benchmarks: their JSON form, which is
// kept in bench/baseline, the table that people read, and for those over
// emulated links a page with plots that needs nothing but itself.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"time"
)

// Machine says where a benchmark ran; figures of different machines are not to
// be compared.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

// Quantiles are latencies in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Less returns the quantiles less a part that does not count.
func (q Quantiles) Less(ms float64) Quantiles {
	return Quantiles{round(q.P50 - ms), round(q.P90 - ms), round(q.P99 - ms), round(q.Max - ms)}
}

// Here is the machine that this runs on.
func Here() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
}

// Head is what all results begin with.
type Head struct {
	Scenario string    `json:"scenario"`
	Time     time.Time `json:"time"`
	Machine  Machine   `json:"machine"`
}

// NewHead returns the head of a result that is ready now.
func NewHead(scenario string) Head {
	return Head{Scenario: scenario, Time: time.Now().UTC().Truncate(time.Second), Machine: Here()}
}

// QuantilesOf reads them from a source.
func QuantilesOf(at func(p float64) time.Duration, most time.Duration) Quantiles {
	return Quantiles{Millis(at(50)), Millis(at(90)), Millis(at(99)), Millis(most)}
}

// Millis is d in milliseconds, to a hundredth.
func Millis(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

func round(ms float64) float64 {
	if ms < 0 {
		return float64(int64(ms*100-0.5)) / 100
	}
	return float64(int64(ms*100+0.5)) / 100
}

// WriteJSON writes the JSON form of a result. Lists of numbers stand on one line.
func WriteJSON(w io.Writer, result any) error {
	b, err := json.MarshalIndent(result, "", "  ")
	if err == nil {
		for _, lists := range []*regexp.Regexp{numbers, pairs} {
			b = lists.ReplaceAllFunc(b, func(list []byte) []byte { return bytes.Join(bytes.Fields(list), []byte(" ")) })
		}
		_, err = w.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// numbers is an indented list of numbers, pairs one of lists that are on one
// line already. Strings have no line breaks in JSON, so neither matches there.
var (
	numbers = regexp.MustCompile(`\[\n\s+[-\d.e+]+(,\n\s+[-\d.e+]+)*\n\s+\]`)
	pairs   = regexp.MustCompile(`\[\n\s+\[ [^\[\]\n]*\](,\n\s+\[ [^\[\]\n]*\])*\n\s+\]`)
)
