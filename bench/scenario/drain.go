package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/report"
)

// Load is a crowd that talks, for the scenarios in which nodes come and go.
type Load struct {
	Users    int // in whole rooms, spread over the nodes
	RoomSize int
	Rate     float64 // messages per second, of all
}

func (l Load) check() error {
	if l.Users < 2 || l.RoomSize < 2 || l.Users%l.RoomSize != 0 || !(l.Rate > 0 && l.Rate <= 2000) {
		return errors.New("bench: users come in whole rooms of at least two, and write 0 to 2,000 messages a second")
	}
	return nil
}

func (l Load) talk(f *fleet.Fleet, progress func(string, ...any)) *talk {
	return &talk{crowd: newCrowd(l.Users, l.RoomSize, progress), fleet: f, rate: l.Rate}
}

func (l Load) report() report.Load {
	return report.Load{Users: l.Users, Rooms: l.Users / l.RoomSize, RoomSize: l.RoomSize, MessagesPerSecond: l.Rate}
}

// Drain is a rolling upgrade: every node is drained, ended and started again,
// one after another, while people talk.
type Drain struct {
	Load
	Fleet     *fleet.Fleet // not started
	DrainRate float64      // that it is configured with, for the report
	Rounds    int
	Progress  func(format string, args ...any)
}

const (
	calmLimit   = 60 * time.Second // until a region has settled after a change
	settleLimit = 20 * time.Second // until everybody has heard everything
	drainLimit  = 2 * time.Minute
)

// Run plays it. Each round drains every node: by SIGTERM and by `muster ctl
// drain` in turn.
func (d Drain) Run(ctx context.Context) (*report.Drain, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	t := d.talk(d.Fleet, d.Progress)
	defer t.end()
	r := &report.Drain{Load: d.report(), Nodes: len(d.Fleet.Nodes), RatePerSecond: d.DrainRate}
	if err := t.begin(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	for round := range d.Rounds {
		row, err := d.round(ctx, t, round)
		if err != nil {
			return nil, fmt.Errorf("bench: round %d: %w", round+1, err)
		}
		r.Rounds = append(r.Rounds, row)
		d.Progress("round %d of %d: %.1f s, lost %d, duplicated %d, left %d, suspended %d, %d reconnects, most in a second %d",
			round+1, d.Rounds, row.Seconds, row.Lost, row.Duplicated, row.Left, row.Suspended, row.Reconnects, row.MostPerSecond)
	}
	t.measuring.Store(false)
	t.mu.Lock()
	if t.failure != nil {
		r.FirstFailure = t.failure.Error()
	}
	t.mu.Unlock()
	r.Acknowledged = t.counts.acked.Load()
	r.Latency = report.QuantilesOf(t.latency.At, t.latency.Max())
	r.Head = report.NewHead("drain")
	return r, nil
}

func (d Drain) round(ctx context.Context, t *talk, round int) (row report.DrainRound, err error) {
	began := time.Now()
	_, _, mark := t.dials(0)
	before := t.counts.now()
	for i, p := range d.Fleet.Nodes {
		drainCtx, cancel := context.WithTimeout(ctx, drainLimit)
		begins := time.Now()
		if (round*len(d.Fleet.Nodes)+i)%2 == 1 {
			err = p.Ctl(drainCtx, "drain", string(p.ID))
		}
		if err == nil {
			err = p.Terminate(drainCtx)
		}
		cancel()
		if err != nil {
			return row, err
		}
		row.DrainSeconds = append(row.DrainSeconds, report.Seconds(time.Since(begins)))
		if err := p.Start(); err != nil {
			return row, err
		}
		if err := p.Ready(ctx); err != nil {
			return row, err
		}
		if err := t.calm(ctx, calmLimit); err != nil {
			return row, err
		}
	}
	if row.Apart, err = t.agree(ctx, settleLimit); err != nil {
		return row, err
	}
	if row.Lost, err = t.settle(ctx, settleLimit); err != nil {
		return row, err
	}
	row.Faults = t.counts.since(before)
	row.Reconnects, row.MostPerSecond, _ = t.dials(mark)
	row.Seconds = report.Seconds(time.Since(began))
	return row, nil
}

// now reads the tally.
func (t *tally) now() report.Faults {
	return report.Faults{
		Duplicated: t.duplicated.Load(), Left: t.left.Load(), Suspended: t.suspended.Load(), Unrecovered: t.unrecovered.Load(),
		Overflowed: t.overflowed.Load(), Refused: t.refused.Load(), Closed: t.closed.Load(), Vanished: t.vanished.Load(),
	}
}

func (t *tally) since(f report.Faults) report.Faults {
	n := t.now()
	return report.Faults{
		Duplicated: n.Duplicated - f.Duplicated, Left: n.Left - f.Left, Suspended: n.Suspended - f.Suspended,
		Unrecovered: n.Unrecovered - f.Unrecovered, Overflowed: n.Overflowed - f.Overflowed,
		Refused: n.Refused - f.Refused, Closed: n.Closed - f.Closed, Vanished: n.Vanished - f.Vanished,
	}
}
