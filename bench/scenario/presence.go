// Package scenario holds what benchmarks do: the story of a load, played
// through the Go SDK alone, as an application would.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// Presence is a crowd in rooms that spread over all regions. Everybody moves at
// a steady pace and sees everybody else of their room move, while visitors come
// and go.
type Presence struct {
	WAN
	Rate      float64 // updates per second, of all: fixes and changes
	Changes   float64 // of those, visitors who come or go
	Duration  time.Duration
	Warmup    time.Duration
	Ramp      bool // look for the highest rate, too
	ServerPID int  // 0: the servers run in this process
}

const (
	settle = 10 * time.Second // at most, until all that was sent is there
	// mergeWindow is how long presence of one room and region waits for more
	// after an event: edge/room's default. Visitors keep more apart.
	mergeWindow = 50 * time.Millisecond
)

// walk is a running scenario.
type walk struct {
	p Presence
	*wan
	visitors []*visitor
}

// stretch is one measured run at one rate.
type stretch struct {
	from, to       time.Time // what was meant to be sent between counts
	fixes          paths
	changes, calls paths
	sent, changed  atomic.Int64
	updates        map[[2]string]int64 // that crossed, by the region pair; counted by the sender's side
	mu             sync.Mutex          // guards updates
	refused        atomic.Int64
	overflowed     atomic.Int64
}

// counts reports whether what was due at a time is part of the measurement. Its
// monotonic part is gone where it came over the network.
func (s *stretch) counts(due time.Time) bool { return within(s.from, s.to, due) }

func (s *stretch) crossed(from string, to []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range to {
		s.updates[[2]string{from, r}]++
	}
}

// Run plays the scenario and returns what was measured.
func (p Presence) Run(ctx context.Context) (*report.Presence, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if fixes := (p.Rate - p.Changes) / float64(p.Users); !(fixes > 0 && fixes <= 50) || p.Changes < 0 || p.Duration <= 0 || p.Warmup < 0 {
		return nil, errors.New("bench: a user sends up to 50 fixes a second and some, for a while")
	}
	r, err := p.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return r, nil
}

func (p Presence) run(ctx context.Context) (*report.Presence, error) {
	w, err := p.open(ctx)
	if w != nil {
		defer w.close()
	}
	if err != nil {
		return nil, err
	}
	c := &walk{p: p, wan: w}
	defer c.dismiss()
	if err := c.connect(ctx, c.config); err != nil {
		return nil, err
	}
	if err := c.invite(ctx); err != nil {
		return nil, fmt.Errorf("visitors: %w", err)
	}
	if err := c.idleLinks(ctx); err != nil {
		return nil, err
	}
	r := &report.Presence{
		Mesh: w.Mesh, Users: p.Users, RoomSize: p.RoomSize, Rooms: w.rooms(), Visitors: len(c.visitors),
		Warmup: p.Warmup.Seconds(), Merge: report.Millis(mergeWindow), Transport: w.transports(),
		CPUScope: "servers and load generator together: they share the process",
	}
	if p.ServerPID != 0 {
		r.CPUScope = fmt.Sprintf("the servers' process %d alone", p.ServerPID)
	}
	for _, u := range w.users {
		r.Tick = max(r.Tick, report.Millis(u.session.Status().Tick))
	}
	first, err := c.measure(ctx, p.Rate)
	if err != nil {
		return nil, err
	}
	r.PresenceRun = *first
	if p.Ramp {
		if r.Steps, err = ramp(first.Step(r.Tick), 50*float64(p.Users), func(rate float64) (report.Step, error) {
			run, err := c.measure(ctx, rate)
			if err != nil {
				return report.Step{}, err
			}
			step := run.Step(r.Tick)
			if step.Why == "" {
				r.Highest = run
			}
			return step, nil
		}); err != nil {
			return nil, err
		}
	}
	r.Head = report.NewHead("presence")
	return r, nil
}

// measure plays the load at one rate.
func (c *walk) measure(ctx context.Context, rate float64) (*report.PresenceRun, error) {
	start := time.Now().Add(100 * time.Millisecond)
	s := &stretch{
		from: start.Add(c.p.Warmup), to: start.Add(c.p.Warmup + c.p.Duration), updates: map[[2]string]int64{},
		fixes: newPaths(c.regions), changes: newPaths(c.regions), calls: newPaths(c.regions),
	}
	var gaps, connections int64 // so far
	for _, u := range c.users {
		gaps -= int64(u.room.Counters().Gaps)
		connections -= int64(u.session.Counters().Connections)
	}
	readCtx, stopReading := context.WithCancel(ctx)
	var readers sync.WaitGroup
	for _, u := range c.users {
		readers.Go(func() { c.read(readCtx, s, u) })
	}
	defer readers.Wait()
	defer stopReading()

	var links map[[2]string]bare
	helpers, helping := errgroup.WithContext(ctx)
	helpers.Go(func() (err error) {
		links, err = c.bare(helping, c.p.Warmup+c.p.Duration)
		return err
	})
	helpers.Go(func() error { return c.comeAndGo(helping, s, start) })

	c.Progress("%.0f updates a second for %s after %s of warm-up", rate, c.p.Duration, c.p.Warmup)
	every := time.Duration(float64(time.Second) / (rate - c.p.Changes))
	var before, after time.Duration
	var cpuErr error
	var m meter
	err := loadgen.Open(ctx, start, every, int((c.p.Warmup+c.p.Duration)/every), func(i int, due time.Time) {
		if m.at.IsZero() && !due.Before(s.from) {
			m = c.meter()
			before, cpuErr = loadgen.CPU(c.p.ServerPID)
		}
		c.send(s, c.users[i%c.Users], i/c.Users, due)
	})
	if err != nil {
		return nil, err
	}
	after, err = loadgen.CPU(c.p.ServerPID)
	if err = errors.Join(cpuErr, err); err != nil {
		return nil, err
	}
	if err := helpers.Wait(); err != nil {
		return nil, err
	}
	flows := c.flows(m, s.updates, s.fixes, s.changes)
	_ = c.until(ctx, settle, func(u *user) int { return len(u.behind()) })
	stopReading()
	readers.Wait()

	r := &report.PresenceRun{
		Rate: rate, Seconds: c.p.Duration.Seconds(), Links: flows, CPUSeconds: (after - before).Seconds(),
		Sent: s.sent.Load(), ChangesSent: s.changed.Load(), Refused: s.refused.Load(), Overflowed: s.overflowed.Load(),
		Gaps: gaps, Reconnects: connections,
	}
	for _, u := range c.users {
		r.Gaps += int64(u.room.Counters().Gaps)
		r.Reconnects += int64(u.session.Counters().Connections)
		for _, p := range u.behind() {
			s.fixes[[2]string{p.region, u.region}].lost++
			r.LostFinal++
		}
	}
	for _, p := range s.changes {
		p.lost = max(0, p.expected.Load()-p.latencies.Count())
		r.ChangesLost += p.lost
	}
	r.Pairs, r.Changes, r.Calls = s.fixes.pairs(c.regions, links), s.changes.pairs(c.regions, links), s.calls.pairs(c.regions, nil)
	for i := range r.Pairs {
		p := &r.Pairs[i]
		p.Superseded = p.Expected - p.Deliveries
		r.Deliveries += p.Deliveries
		r.Expected += p.Expected
		r.Superseded += p.Superseded
		r.Duplicates += p.Duplicates
	}
	if r.Deliveries > 0 {
		r.CPUPerMillion = r.CPUSeconds / float64(r.Deliveries) * 1e6
	}
	return r, nil
}

// send reports the k-th fix of a user: a walk around the block. Its capture
// time is the time it was meant to be sent, by which receivers measure.
func (c *walk) send(s *stretch, u *user, k int, due time.Time) {
	at := geo.Destination(geo.Point{Lat: 52.52, Lng: 13.4}, float64(k*3%360), 100+float64(u.index))
	u.mu.Lock()
	u.last = due
	u.mu.Unlock()
	if err := u.room.Report(client.Fix{Point: at, Accuracy: 5, Captured: due}); err != nil {
		return // shows as lost
	}
	if due.Before(s.from) || !due.Before(s.to) {
		return
	}
	s.sent.Add(1)
	for _, peer := range u.peers {
		s.fixes[[2]string{u.region, peer.region}].expected.Add(1)
	}
	s.crossed(u.region, u.others)
}

// read is the application of one user.
func (c *walk) read(ctx context.Context, s *stretch, u *user) {
	type seen struct{ epoch, n uint64 }
	known := map[string]seen{}
	ops := map[*op]bool{}
	for ev := range u.room.Events(ctx) {
		now := time.Now()
		switch ev := ev.(type) {
		case client.Missed:
			s.overflowed.Add(1)
		case client.PresenceChanged:
			c.see(s, u, ev, now, ops)
		case client.FixChanged:
			from := u.byID[ev.Fix.User]
			if from == nil || from == u {
				continue
			}
			p := s.fixes[[2]string{from.region, u.region}]
			was, is := known[ev.Fix.User], seen{ev.Fix.Epoch, ev.Fix.N}
			if is.epoch < was.epoch || is.epoch == was.epoch && is.n <= was.n {
				p.duplicates.Add(1)
				continue
			}
			known[ev.Fix.User] = is
			if !s.counts(ev.Fix.Captured) {
				continue
			}
			p.latencies.Record(now.Sub(ev.Fix.Captured))
			if from.region == u.region {
				from.seenAtHome(ev.Fix.Captured, now)
			} else if at, ok := from.atHome(ev.Fix.Captured); ok {
				p.crossings.Record(now.Sub(at))
			}
		}
	}
}

// behind returns the peers of whom the user does not have the last fix.
func (u *user) behind() (out []*user) {
	have := map[string]time.Time{}
	for _, f := range u.room.Fixes() {
		have[f.User] = f.Captured
	}
	for _, p := range u.peers {
		p.mu.Lock()
		last := p.last
		p.mu.Unlock()
		if !have[p.id].Equal(last) {
			out = append(out, p)
		}
	}
	return out
}
