package nemesis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind int

// What can happen to a node, or between two ends.
const (
	Kill     Kind = iota // SIGKILL, and a restart when it is over
	Pause                // nothing goes in or out, then all of it at once
	Isolate              // cut off from all other nodes, both ways
	Mute                 // what it says reaches no other node, but it hears
	Deafen               // it hears no other node, but is heard
	Part                 // two nodes can't reach each other
	Split                // two regions can't
	DiskFull             // the log can't be written any more; killed and restarted when it is over
	Drain                // SIGTERM, and a restart when it is over
	Clock                // the wall clock is wrong
	kinds
)

var kindNames = [kinds]string{"kill", "pause", "isolate", "mute", "deafen", "part", "split", "disk full", "drain", "clock"}

var allKinds = [...]Kind{Kill, Pause, Isolate, Mute, Deafen, Part, Split, DiskFull, Drain, Clock}

func (k Kind) String() string { return kindNames[k] }

// Fault is one of them, with its time.
type Fault struct {
	At, For   time.Duration
	Kind      Kind
	On, Other string        // nodes; regions for Split
	By        time.Duration // Clock: so far ahead, or behind
}

func (f Fault) String() string {
	s := fmt.Sprintf("%6.2fs  %-9s %s", f.At.Seconds(), f.Kind, f.On)
	if f.Other != "" {
		s += " ↔ " + f.Other
	}
	if f.By != 0 {
		s += fmt.Sprintf(" by %v", f.By)
	}
	return s + fmt.Sprintf(" for %.2fs", f.For.Seconds())
}

// Shape is how large a mesh is, and with whom in it.
type Shape struct {
	Regions, Nodes int // nodes per region
	Rooms, Devices int
	Faults         []Kind // nil: all kinds; none if empty
}

// places are regions of simnet's table.
var places = []string{"eu-west", "us-east", "ap-south"}

// nodeName names a node.
func nodeName(region, number int) string { return fmt.Sprintf("%s-%d", places[region], number+1) }

// Schedule draws the faults of a run from its seed: one begins every second or
// so, they overlap, and a node suffers one of those that end its process at a
// time.
func Schedule(seed uint64, s Shape, length time.Duration) []Fault {
	rng := rand.New(rand.NewPCG(seed, 0xfa017))
	var out []Fault
	if s.Faults == nil {
		s.Faults = allKinds[:]
	}
	if len(s.Faults) == 0 {
		return nil
	}
	busy := map[string]time.Duration{} // until then
	between := func(low, high time.Duration) time.Duration { return low + time.Duration(rng.Int64N(int64(high-low))) }
	for at := between(time.Second, 3*time.Second); at < length-time.Second; at += between(300*time.Millisecond, 2*time.Second) {
		region := rng.IntN(s.Regions)
		f := Fault{At: at, Kind: s.Faults[rng.IntN(len(s.Faults))], On: nodeName(region, rng.IntN(s.Nodes))}
		f.For = min(between(300*time.Millisecond, 7*time.Second), length-at)
		switch f.Kind {
		case Kill, DiskFull, Drain:
			if at < busy[f.On] {
				continue
			}
			busy[f.On] = at + f.For + time.Second
		case Clock:
			f.By = between(-2*time.Hour, 2*time.Hour).Round(time.Second)
		case Part:
			f.Other = nodeName(rng.IntN(s.Regions), rng.IntN(s.Nodes))
			if f.Other == f.On {
				continue
			}
		case Split:
			other := rng.IntN(s.Regions)
			if other == region {
				continue
			}
			f.On, f.Other = places[region], places[other]
		}
		out = append(out, f)
	}
	slices.SortStableFunc(out, func(a, b Fault) int { return int(a.At - b.At) })
	return out
}

// Print is a schedule as people read it.
func Print(faults []Fault) string {
	var b strings.Builder
	for _, f := range faults {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}
