package replay

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/mustermesh/muster/bench/replay/gpx"
	"github.com/mustermesh/muster/geo"
)

// MaxGap is the longest pause of a replay: a longer one (lunch, a lost signal)
// is shortened to it.
const MaxGap = 10 * time.Second

// Track is a recorded track that can be played.
type Track struct {
	Name     string
	Points   []gpx.Point // with growing times
	Untimed  int         // points left out since their segment carries no times
	Backward int         // points left out since their time is not after the one before
}

// Load reads a track from GPX. Segments without times are left out, the others
// are played one after another.
func Load(name string, r io.Reader) (Track, error) {
	segments, err := gpx.Read(r)
	if err != nil {
		return Track{}, fmt.Errorf("track %s: %w", name, err)
	}
	t := Track{Name: name}
	for _, s := range segments {
		if !s.Timed() {
			t.Untimed += len(s)
			continue
		}
		for _, p := range s {
			if n := len(t.Points); n > 0 && !p.Time.After(t.Points[n-1].Time) {
				t.Backward++
				continue
			}
			t.Points = append(t.Points, p)
		}
	}
	if len(t.Points) == 0 {
		return Track{}, fmt.Errorf("track %s: no points with times", name)
	}
	return t, nil
}

// step is one point of a plan.
type step struct {
	at      time.Duration // since the start of the replay
	point   geo.Point
	speed   float64 // m/s, as recorded
	heading float64
}

// plan lays a track out on the clock of its replay.
func plan(points []gpx.Point, speed float64) []step {
	steps := make([]step, len(points))
	for i, p := range points {
		steps[i] = step{point: p.Point}
		if i == 0 {
			continue
		}
		before := points[i-1]
		took := p.Time.Sub(before.Time)
		steps[i].at = steps[i-1].at + min(time.Duration(float64(took)/speed), MaxGap)
		metres := geo.Distance(before.Point, p.Point)
		// A jump of a poor signal is no speed.
		steps[i].speed = min(metres/took.Seconds(), 100)
		steps[i].heading = steps[i-1].heading
		if metres > 0.5 {
			steps[i].heading = geo.Bearing(before.Point, p.Point)
		}
	}
	return steps
}

// back is the way from a plan's end to its start at the same pace, so that a
// loop does not jump.
func back(steps []step) []step {
	out := slices.Clone(steps)
	slices.Reverse(out)
	end := steps[len(steps)-1].at
	for i := range out {
		out[i].at = end - out[i].at
		if i > 0 { // what the way there did to arrive at the point before
			was := steps[len(steps)-i]
			out[i].speed, out[i].heading = was.speed, opposite(was.heading)
		}
	}
	return out
}

func opposite(heading float64) float64 {
	if heading >= 180 {
		return heading - 180
	}
	return heading + 180
}
