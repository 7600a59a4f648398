package region

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

// Restart is a full roster that first loses a node, then all of them.
type Restart struct {
	Region   Config
	Sessions int // spread over the nodes, each in one room
	RoomSize int
	InFlight int // openings that wait for their answer, per node
	// Snapshots: wait so long for every node to have written a snapshot of the
	// full roster; 0: don't.
	Snapshots time.Duration
	Progress  func(format string, args ...any)
}

// restart is a running one.
type restart struct {
	Restart
	region *Region
	epochs []regions.Epoch // per session
	busy   atomic.Int64
	stall  time.Duration // of the nodes that are gone
}

// Run plays it.
func (s Restart) Run(ctx context.Context) (*report.Roster, error) {
	if s.Sessions < s.Region.Nodes || s.RoomSize < 1 || s.InFlight < 1 {
		return nil, errors.New("bench: some sessions, in rooms")
	}
	region, err := New(ctx, s.Region)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer region.Stop()
	r, err := (&restart{Restart: s, region: region, epochs: make([]regions.Epoch, s.Sessions)}).run(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return r, nil
}

func (s *restart) run(ctx context.Context) (*report.Roster, error) {
	nodes := len(s.region.Nodes)
	r := &report.Roster{Nodes: nodes, Sessions: s.Sessions, Rooms: (s.Sessions + s.RoomSize - 1) / s.RoomSize, InFlight: s.InFlight}
	since := func(t time.Time) float64 { return report.Seconds(time.Since(t)) }

	s.Progress("opening %d sessions", s.Sessions)
	began := time.Now()
	if err := s.open(ctx, 0, 1, true); err != nil {
		return nil, err
	}
	r.OpenSeconds = since(began)
	if err := s.live(ctx, s.Sessions); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(s.Snapshots)
	for time.Now().Before(deadline) {
		if _, n, err := s.region.SnapshotSize(); err != nil || n >= nodes {
			break // an error comes again at the end
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}

	// A node dies: one command suspends its sessions, and they come back at the
	// others.
	s.Progress("opened after %.1f s; a node dies", r.OpenSeconds)
	if err := s.stalled(nodes - 1); err != nil {
		return nil, err
	}
	began = time.Now()
	s.region.Kill(nodes - 1)
	lost := s.of(nodes - 1)
	err := s.until(ctx, func(c roster.Counts) bool { return c.Suspended == lost && c.Live == s.Sessions-lost })
	if err != nil {
		return nil, err
	}
	r.LostSessions, r.SuspendedSeconds = lost, since(began)
	if err := s.open(ctx, nodes-1, nodes, false); err != nil {
		return nil, err
	}
	if err := s.live(ctx, s.Sessions); err != nil {
		return nil, err
	}
	r.NodeResumedSeconds = since(began)
	s.Progress("suspended after %.2f s, all live again after %.1f s; now the whole region", r.SuspendedSeconds, r.NodeResumedSeconds)
	if err := s.region.Restart(ctx, nodes-1); err != nil {
		return nil, err
	}
	if err := s.region.Ready(ctx); err != nil {
		return nil, err
	}

	all := make([]int, nodes)
	for i := range all {
		all[i] = i
	}
	if err := s.stalled(all...); err != nil {
		return nil, err
	}
	s.region.Kill(all...)
	began = time.Now()
	if err := s.region.Restart(ctx, all...); err != nil {
		return nil, err
	}
	if err := s.region.Ready(ctx); err != nil {
		return nil, err
	}
	r.ReadySeconds = since(began)
	if c := s.region.Nodes[0].Counts(); c.Live+c.Suspended != s.Sessions {
		return nil, fmt.Errorf("after the restart the roster has %d live and %d suspended sessions", c.Live, c.Suspended)
	}
	s.Progress("ready after %.2f s", r.ReadySeconds)
	if err := s.open(ctx, 0, 1, false); err != nil {
		return nil, err
	}
	if err := s.live(ctx, s.Sessions); err != nil {
		return nil, err
	}
	r.AllResumedSeconds = since(began)
	if err := s.stalled(all...); err != nil {
		return nil, err
	}
	if r.SnapshotBytes, r.Snapshots, err = s.region.SnapshotSize(); err != nil {
		return nil, err
	}
	r.LongestStall, r.Busy = report.Millis(s.stall), s.busy.Load()
	r.Head = report.NewHead("roster")
	return r, nil
}

// open opens the sessions first, first+step, …, each at its node or, if that is
// gone, at another. fresh ones enter their room; the others must still be in it.
func (s *restart) open(ctx context.Context, first, step int, fresh bool) error {
	var up []*Node
	for _, n := range s.region.Nodes {
		if n != nil {
			up = append(up, n)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for w := range s.InFlight * len(up) {
		g.Go(func() error {
			for {
				k := int(next.Add(1)) - 1
				i := first + k*step
				if i >= s.Sessions {
					return nil
				}
				n := s.region.Nodes[i%len(s.region.Nodes)]
				if n == nil {
					n = up[w%len(up)]
				}
				o := opening(n, i, s.epochs[i])
				opened, busy, err := open(ctx, n, o)
				if err != nil {
					return fmt.Errorf("session %d: %w", i, err)
				}
				s.busy.Add(int64(busy))
				if opened.Epoch <= s.epochs[i] {
					return fmt.Errorf("session %d: epoch %d after %d", i, opened.Epoch, s.epochs[i])
				}
				s.epochs[i] = opened.Epoch
				if !fresh {
					if len(opened.Rooms) != 1 {
						return fmt.Errorf("session %d: resumed in %d rooms", i, len(opened.Rooms))
					}
					continue
				}
				id := regions.SessionID{User: o.User, Device: o.Device, Epoch: opened.Epoch}
				if err := n.Enter(ctx, id, fmt.Sprintf("group:%d", i/s.RoomSize)); err != nil {
					return fmt.Errorf("session %d: %w", i, err)
				}
			}
		})
	}
	return g.Wait()
}

// of is how many sessions a node has.
func (s *restart) of(node int) int {
	n := len(s.region.Nodes)
	return (s.Sessions - node + n - 1) / n
}

// live waits until every node that runs knows of so many live sessions, and of
// none that is suspended.
func (s *restart) live(ctx context.Context, n int) error {
	return s.until(ctx, func(c roster.Counts) bool { return c.Live == n && c.Suspended == 0 })
}

const limit = time.Minute

func (s *restart) until(ctx context.Context, ok func(roster.Counts) bool) error {
	deadline := time.Now().Add(limit)
	for {
		var bad *roster.Counts
		for _, n := range s.region.Nodes {
			if n != nil {
				if c := n.Counts(); !ok(c) {
					bad = &c
				}
			}
		}
		if bad == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %s a node still knows of %d live and %d suspended sessions", limit, bad.Live, bad.Suspended)
		}
		if err := pause(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}

// stalled keeps the longest stall of nodes that are about to end.
func (s *restart) stalled(list ...int) error {
	for _, i := range list {
		d, err := s.region.Nodes[i].Stall()
		if err != nil {
			return err
		}
		s.stall = max(s.stall, d)
	}
	return nil
}
