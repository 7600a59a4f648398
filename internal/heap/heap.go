// Package heap decides how much garbage a process lets gather before it is
// collected.
//
// Go collects when the heap has grown by a share of what lives (GOGC). A node's
// live heap is small, so that means often, and while a collection runs the
// goroutines that allocate help it: on two cores, fifteen nodes in one process
// answered up to a tenth of a second later for as long as one took, long enough
// for QUIC to think that packets are lost. Memory that nothing uses is cheaper
// than that. So a process that works may gather the garbage of a minute, if the
// machine has the memory, and one that rests gives it back.
package heap

import (
	"bytes"
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/mustermesh/muster/internal/run"
)

const (
	// MinPercent is the garbage that may gather in any case, in percent of what
	// lives; Go's own default is 100. Most of a large heap is sessions at rest: a
	// third more collections cost little, and save an eighth of it.
	MinPercent = 75

	minRoom  = 32 << 20
	maxRoom  = 1 << 30
	period   = time.Minute // between two collections, where there is room
	interval = time.Second
	memory   = 8 // intervals over which the rate of allocation is smoothed
)

// Pacer keeps the garbage collector at its pace. It is a run.Service, one of a
// process.
type Pacer struct {
	room    int64
	percent int
	before  int
	allocs  int64   // bytes, ever
	rate    float64 // bytes an interval, smoothed
	life    run.Lifecycle
}

// NewPacer returns a Pacer for the memory that this process may use. It leaves
// everything as it is where GOGC is set.
func NewPacer() *Pacer { return &Pacer{room: Room(available())} }

// Room returns how much garbage may gather where a process may use so many
// bytes: an eighth, at least 32 MiB, at most 1 GiB.
func Room(available int64) int64 { return min(max(available/8, minRoom), maxRoom) }

// Percent returns the GOGC that lets so many bytes of garbage gather, or
// MinPercent of what lives where that is more.
func Percent(live, garbage int64) int {
	return int(max(MinPercent, min(100*garbage/max(live, 1<<20), math.MaxInt32)))
}

// Start begins to set the pace.
func (p *Pacer) Start(ctx context.Context) error {
	return p.life.Start(ctx, func(ctx context.Context) error {
		if os.Getenv("GOGC") != "" {
			return nil
		}
		_, p.allocs = read()
		p.percent = MinPercent
		p.before = debug.SetGCPercent(p.percent)
		p.life.Go(func() { p.follow(ctx) })
		return nil
	})
}

// Stop gives the pace back that was there before.
func (p *Pacer) Stop() {
	p.life.Stop(nil)
	if p.percent != 0 {
		debug.SetGCPercent(p.before)
		p.percent = 0
	}
}

func (p *Pacer) follow(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.step(read())
		}
	}
}

// step takes what the last interval was like.
func (p *Pacer) step(live, allocs int64) {
	p.rate += (float64(allocs-p.allocs) - p.rate) / memory
	p.allocs = allocs
	// To set it stops the world for a moment: not for little.
	want := Percent(live, min(int64(p.rate*float64(period/interval)), p.room))
	if 4*want < 3*p.percent || 4*want > 5*p.percent {
		p.percent = want
		debug.SetGCPercent(want)
	}
}

// read returns the bytes that the last collection found in use, and those that
// were ever allocated.
func read() (live, allocs int64) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64()), int64(s[1].Value.Uint64())
}

// available returns the bytes that this process may use: the machine's, or
// less where a control group or GOMEMLIMIT says so.
func available() int64 {
	n := min(total("/proc/meminfo"), limit("/sys/fs/cgroup/memory.max"), limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
	return min(n, debug.SetMemoryLimit(-1))
}

// unknown stands for a machine that does not say how much memory it has.
const unknown = 2 << 30

// total reads MemTotal from a file like /proc/meminfo.
func total(file string) int64 {
	b, _ := os.ReadFile(file)
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "MemTotal:" {
			if kib, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
				return kib << 10
			}
		}
	}
	return unknown
}

// limit reads the number in a file of a control group; there is none if the
// file is missing or says max.
func limit(file string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil {
		return math.MaxInt64
	}
	return n
}
