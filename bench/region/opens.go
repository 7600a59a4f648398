package region

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// Opens is how many sessions a region opens, by all of its nodes, and how long
// one takes when it is half as busy.
type Opens struct {
	Region   Config
	InFlight int // openings that wait for their answer, per node
	Devices  int // that open sessions, in turn
	Duration time.Duration
	Progress func(format string, args ...any)
}

// opening is what device i asks for.
func opening(n *Node, i int, floor regions.Epoch) regions.Opening {
	return regions.Opening{
		User: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Device: fmt.Sprintf("device-%d", i), Login: fmt.Sprintf("00000000-0000-4000-9000-%012d", i),
		Name: fmt.Sprintf("User %d", i), Transport: wire.Transport_WEBSOCKET, Floor: floor, Connection: n.Connection(),
	}
}

// open opens a session, again when the region says it is too busy.
func open(ctx context.Context, n *Node, o regions.Opening) (opened regions.Opened, busy int, err error) {
	for {
		opened, err := n.Open(ctx, o)
		e, told := errs.From(err)
		if err == nil || !told || e.RetryAfter == 0 || ctx.Err() != nil {
			return opened, busy, err
		}
		busy++
		if err := pause(ctx, e.RetryAfter); err != nil {
			return opened, busy, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run measures: first as fast as it goes, then at half that rate.
func (s Opens) Run(ctx context.Context) (*report.Opens, error) {
	if s.InFlight < 1 || s.Devices < 1 || s.Duration <= 0 {
		return nil, errors.New("bench: some devices open sessions for a while")
	}
	region, err := New(ctx, s.Region)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer region.Stop()
	r := &report.Opens{Head: report.NewHead("opens"), Nodes: len(region.Nodes), InFlight: s.InFlight, Devices: s.Devices}

	var next, done, busy atomic.Int64
	s.Progress("as fast as it goes, for %s", s.Duration)
	fast, stop := context.WithTimeout(ctx, s.Duration)
	defer stop()
	began := time.Now()
	g, fast := errgroup.WithContext(fast)
	for i := range s.InFlight * len(region.Nodes) {
		n := region.Nodes[i%len(region.Nodes)]
		g.Go(func() error {
			for fast.Err() == nil {
				_, again, err := open(fast, n, opening(n, int(next.Add(1))%s.Devices, 0))
				if err != nil && fast.Err() == nil {
					return err
				}
				busy.Add(int64(again))
				if err == nil {
					done.Add(1)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	r.PerSecond = float64(done.Load()) / time.Since(began).Seconds()
	r.Busy = busy.Load()

	every := time.Duration(2 * float64(time.Second) / r.PerSecond)
	s.Progress("%.0f a second; now half of it, for %s", r.PerSecond, s.Duration)
	latencies := loadgen.NewLatencies()
	var failed atomic.Pointer[error]
	var under sync.WaitGroup
	err = loadgen.Open(ctx, time.Now(), every, int(s.Duration/every), func(i int, due time.Time) {
		n := region.Nodes[i%len(region.Nodes)]
		under.Go(func() {
			if _, _, err := open(ctx, n, opening(n, i%s.Devices, 0)); err != nil {
				failed.Store(&err)
				return
			}
			latencies.Record(time.Since(due))
		})
	})
	under.Wait()
	if f := failed.Load(); err == nil && f != nil {
		err = *f
	}
	if err != nil {
		return nil, fmt.Errorf("bench: at half the rate: %w", err)
	}
	r.HalfPerSecond = float64(time.Second) / float64(every)
	r.Latency = report.QuantilesOf(latencies.At, latencies.Max())
	return r, nil
}
