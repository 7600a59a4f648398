// Package loadgen makes load and measures it without coordinated omission (Gil
// Tene, "How NOT to Measure Latency"): arrivals lie on a timeline that is fixed
// beforehand, and latency counts from when something was meant to be sent, not
// from when a busy generator came round to it.
package loadgen

import (
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Open calls arrive for the 0th, 1st … of n arrivals, every apart from the one
// before, with the time at which it was due. A late one is made up for at once.
// It returns early when ctx ends. arrive must not block.
func Open(ctx context.Context, start time.Time, every time.Duration, n int, arrive func(i int, due time.Time)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range n {
		due := start.Add(time.Duration(i) * every)
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		arrive(i, due)
	}
	return nil
}

// Latencies collects durations from many goroutines in an HdrHistogram of three
// digits, from a microsecond to a minute.
type Latencies struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

// NewLatencies returns an empty collection.
func NewLatencies() *Latencies {
	return &Latencies{h: hdrhistogram.New(1, time.Minute.Microseconds(), 3)}
}

// Record adds one duration; what is out of range counts as the nearest that is
// not.
func (l *Latencies) Record(d time.Duration) {
	us := max(1, min(d.Microseconds(), time.Minute.Microseconds()))
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.h.RecordValue(us) // in range
}

// Reset forgets all.
func (l *Latencies) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.h.Reset()
}

// Count returns how many were recorded.
func (l *Latencies) Count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.h.TotalCount()
}

// At returns the percentile p, 0 to 100.
func (l *Latencies) At(p float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.h.ValueAtPercentile(p)) * time.Microsecond
}

// Max returns the longest.
func (l *Latencies) Max() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.h.Max()) * time.Microsecond
}

// shares are where a distribution is looked at: denser where it is of interest.
var shares = []float64{0, 1, 2, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.5, 99.9, 100}

// CDF returns the distribution of the durations less a part that does not
// count: (milliseconds, share up to there), to a hundredth.
func (l *Latencies) CDF(less time.Duration) (points [][2]float64) {
	if l.Count() == 0 {
		return nil
	}
	for _, p := range shares {
		ms := float64(l.At(p)-less) / float64(time.Millisecond)
		points = append(points, [2]float64{math.Round(ms*100) / 100, math.Round(p*100) / 1e4})
	}
	return points
}

// CPU returns the user and system time that a process has used so far; 0 means
// this process.
func CPU(pid int) (time.Duration, error) {
	if pid == 0 {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			return 0, fmt.Errorf("cpu time: %w", err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("cpu time: %w", err)
	}
	return parseStat(string(b), 2)
}

// TreeCPU returns the user and system time that a process and all its descendants
// have used so far, those that have ended and were waited for too.
func TreeCPU(pid int) (total time.Duration, err error) {
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		return 0, fmt.Errorf("cpu time: %w", err)
	}
	for _, task := range tasks {
		list, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + task.Name() + "/children")
		if err != nil {
			continue // the thread has ended
		}
		for _, child := range strings.Fields(string(list)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				return 0, fmt.Errorf("cpu time: %w", err)
			}
			if used, err := TreeCPU(id); err == nil { // else it has ended, and is its parent's
				total += used
			}
		}
	}
	// A child that ends meanwhile is counted twice: servers keep theirs.
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("cpu time: %w", err)
	}
	own, err := parseStat(string(b), 4)
	return total + own, err
}

// parseStat adds up the first n of utime, stime, cutime and cstime, fields 14 to 17
// of proc(5)'s stat. The second field is the program's name in parentheses and may
// hold anything.
func parseStat(stat string, n int) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("cpu time: %q is no process state", stat)
	}
	ticks := 0.0
	for _, f := range fields[11 : 11+n] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil || math.IsNaN(n) {
			return 0, fmt.Errorf("cpu time: %w", err)
		}
		ticks += n
	}
	const hz = 100 // USER_HZ, the same on every Linux that Go runs on
	return time.Duration(ticks / hz * float64(time.Second)), nil
}

// RSS returns the memory that a process has in RAM, in bytes.
func RSS(pid int) (int64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("memory: process %d has none", pid)
}
