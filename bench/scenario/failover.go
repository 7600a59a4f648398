package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
)

// Failover is the death of the node that leads its region and owns rooms, again
// and again, while people talk; and its coming back from a pause as if nothing
// had happened.
type Failover struct {
	Load
	Fleet    *fleet.Fleet // not started
	Kills    int          // rounds of SIGKILL
	Pauses   int          // rounds of SIGSTOP, and SIGCONT after Pause
	Pause    time.Duration
	Lost     int           // devices that go down with the node, each round
	Quiet    time.Duration // afterwards, without a fault; 0: none
	Progress func(format string, args ...any)
}

const (
	aliveLimit = 20 * time.Second // until rooms live again
	probeEvery = 40 * time.Millisecond
	graceSlack = 6 * time.Second // from the end of the grace time until nobody may be shown any more
	lookEvery  = 500 * time.Millisecond
	lookLimit  = 2 * time.Second // of one look at a node, which may be paused

	electedMetric = "muster_consensus_elected_total"
)

// Run plays it.
func (s Failover) Run(ctx context.Context) (*report.Failover, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Pauses > 0 && s.Pause <= 0 {
		return nil, errors.New("bench: a pause takes a while")
	}
	t := s.talk(s.Fleet, s.Progress)
	defer t.end()
	r := &report.Failover{Load: s.report(), Nodes: len(s.Fleet.Nodes), Grace: 30}
	if err := t.begin(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	looking, stop := context.WithCancel(ctx)
	defer stop()
	for _, p := range s.Fleet.Nodes {
		t.done.Go(func() { t.elections(looking, p) })
	}
	for i := range s.Kills + s.Pauses {
		row, err := s.round(ctx, t, i >= s.Kills)
		if err != nil {
			return nil, fmt.Errorf("bench: round %d: %w", i+1, err)
		}
		r.Rounds = append(r.Rounds, row)
		s.Progress("round %d of %d, %s of %s with %d rooms: all live after %.0f ms, lost %d, duplicated %d, left %d, suspended %d, fenced %.0f",
			i+1, s.Kills+s.Pauses, row.How, row.Node, row.Rooms, row.All, row.Lost, row.Duplicated, row.Left, row.Suspended, row.Fenced)
	}
	var err error
	if s.Quiet > 0 {
		if r.Quiet, err = s.quiet(ctx, t); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	if err := s.ghosts(ctx, t, r); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	t.measuring.Store(false)
	t.mu.Lock()
	if t.failure != nil {
		r.FirstFailure = t.failure.Error()
	}
	t.mu.Unlock()
	r.Acknowledged = t.counts.acked.Load()
	r.Head = report.NewHead("failover")
	return r, nil
}

// round takes the leader away, and brings it back.
func (s Failover) round(ctx context.Context, t *talk, pauses bool) (row report.FailoverRound, err error) {
	began := time.Now()
	roster, down, err := s.leader(ctx, t)
	if err != nil {
		return row, err
	}
	row.How, row.Node = "SIGKILL", roster.Leader
	if pauses {
		row.How = "SIGSTOP"
	} else if err := s.abandon(ctx, t, down); err != nil {
		return row, err
	}
	fenced, err := t.sum(ctx, "muster_hub_fenced_total", down)
	if err != nil {
		return row, err
	}
	before := t.counts.now()
	for _, e := range t.ears {
		e.orphan.Store(e.u.session.Status().Node == roster.Leader)
	}
	var probes []*probe
	probing, stop := context.WithCancel(ctx)
	defer stop()

	signal := syscall.SIGKILL
	if pauses {
		signal = syscall.SIGSTOP
	}
	if err := down.Signal(signal); err != nil {
		return row, err
	}
	since := time.Now()
	t.mu.Lock()
	t.disturbed = since
	for _, a := range t.gone {
		if a.since.IsZero() {
			a.since = since
		}
	}
	t.mu.Unlock()
	for i, b := range t.books {
		voices := t.voices(i)
		if fleet.OwnerOf(roster, b.room) == roster.Leader && len(voices) > 1 {
			p := &probe{since: since, heard: make(chan time.Time, 1)}
			b.probe.Store(p)
			defer b.probe.Store(nil)
			probes = append(probes, p)
			t.done.Go(func() { t.ask(probing, voices) })
		}
	}
	row.Rooms = len(probes)
	limit := time.NewTimer(aliveLimit)
	defer limit.Stop()
	for _, p := range probes {
		select {
		case at := <-p.heard:
			ms := report.Millis(at.Sub(since))
			row.Alive, row.All = append(row.Alive, ms), max(row.All, ms)
		case <-limit.C:
			return row, fmt.Errorf("a room of %s is still dead after %s", row.Node, aliveLimit)
		case <-ctx.Done():
			return row, ctx.Err()
		}
	}
	stop()

	if pauses {
		if err := pause(ctx, s.Pause-time.Since(since)); err != nil {
			return row, err
		}
		if err := down.Signal(syscall.SIGCONT); err != nil {
			return row, err
		}
	} else {
		if err := down.Kill(ctx); err != nil { // waits for its end
			return row, err
		}
		if err := down.Start(); err != nil {
			return row, err
		}
	}
	if err := down.Ready(ctx); err != nil {
		return row, err
	}
	if err := t.calm(ctx, calmLimit); err != nil {
		return row, err
	}
	if row.Apart, err = t.agree(ctx, 2*settleLimit); err != nil {
		return row, err
	}
	if row.Lost, err = t.settle(ctx, settleLimit); err != nil {
		return row, err
	}
	now, err := t.sum(ctx, "muster_hub_fenced_total", down)
	if err != nil {
		return row, err
	}
	row.Fenced = now - fenced
	row.Faults = t.counts.since(before)
	row.Seconds = report.Seconds(time.Since(began))
	return row, nil
}

// leader returns the region and the node that leads it and owns rooms, when it
// has been so for a while.
func (s Failover) leader(ctx context.Context, t *talk) (r node.RegionView, p *fleet.Process, err error) {
	var failed error
	for range 10 {
		if err := pause(ctx, 2*time.Second); err != nil {
			return r, nil, err
		}
		if err := t.calm(ctx, calmLimit); err != nil {
			return r, nil, err
		}
		if r, err = s.Fleet.Nodes[0].Roster(ctx); err != nil {
			return r, nil, err
		}
		if p = s.Fleet.Node(r.Leader); p == nil {
			continue // an election, on a machine that has too much to do
		}
		if slices.ContainsFunc(t.books, func(b *book) bool { return fleet.OwnerOf(r, b.room) == r.Leader }) {
			return r, p, nil
		}
		failed = p.Ctl(ctx, "transfer") // somebody else may lead by now
	}
	return r, nil, errors.Join(errors.New("no leader owns a room"), failed)
}

// voices are those of a room who are not on the node that is down.
func (t *talk) voices(room int) (list []*ear) {
	for _, u := range t.mates(room) {
		if e := t.ears[u.index]; !e.orphan.Load() {
			list = append(list, e)
		}
	}
	return list
}

// ask has people on living nodes write to their room until that is heard.
func (t *talk) ask(ctx context.Context, voices []*ear) {
	_ = loadgen.Open(ctx, time.Now(), probeEvery, int(aliveLimit/probeEvery), func(i int, due time.Time) {
		// Not under the probe's context: what was said is in the book.
		t.done.Go(func() { t.say(context.WithoutCancel(ctx), voices[i%len(voices)], due) })
	})
}

// abandon brings people to a node, in one room each, who will be lost with it:
// they know no other node and give up when it is gone.
func (s Failover) abandon(ctx context.Context, t *talk, down *fleet.Process) error {
	endpoint := client.Endpoint{Region: fleet.Region, Node: string(down.ID), WS: down.WS}
	dialer := &client.Dialer{Transport: client.WebSocketOnly}
	g, ctx := errgroup.WithContext(ctx)
	for i := range s.Lost {
		room := i % t.rooms()
		g.Go(func() error {
			api := client.NewAPI(t.fleet.API(), client.APIConfig{HTTP: t.pool})
			creds, err := api.Guest(ctx, "", "muster bench")
			if err != nil {
				return err
			}
			invite, err := t.mates(room)[0].api.Invite(ctx, t.groups[room])
			if err != nil {
				return err
			}
			if _, err := api.Join(ctx, invite.InviteCode); err != nil {
				return err
			}
			t.mu.Lock()
			t.gone[creds.UserID] = &abandoned{}
			t.mu.Unlock()
			lost := make(chan struct{}, 1)
			session, err := client.Connect(ctx, client.Config{
				Endpoints: []client.Endpoint{endpoint}, Tokens: api, Dialer: dialer,
				OnStatus: func(s client.Status) {
					if s.Phase == client.Reconnecting {
						select {
						case lost <- struct{}{}:
						default:
						}
					}
				},
			})
			if err != nil {
				return err
			}
			t.done.Go(func() {
				select {
				case <-lost:
				case <-session.Done():
				}
				session.Close() // without a connection nobody is told
			})
			_, err = session.Join(ctx, t.books[room].room)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("people to be lost: %w", err)
	}
	return nil
}

// sum adds up a metric over all nodes but one.
func (t *talk) sum(ctx context.Context, metric string, but *fleet.Process) (sum float64, err error) {
	for _, p := range t.fleet.Nodes {
		if p == but {
			continue
		}
		v, err := p.Metric(ctx, metric)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// quiet is load without a fault.
func (s Failover) quiet(ctx context.Context, t *talk) (*report.Quiet, error) {
	elections, err := t.sum(ctx, electedMetric, nil)
	if err != nil {
		return nil, err
	}
	before := t.counts.now()
	t.latency.Reset()
	began := time.Now()
	s.Progress("%s without a fault", s.Quiet)
	if err := pause(ctx, s.Quiet); err != nil {
		return nil, err
	}
	q := &report.Quiet{Seconds: report.Seconds(time.Since(began)), Delivery: report.QuantilesOf(t.latency.At, t.latency.Max())}
	now, err := t.sum(ctx, electedMetric, nil)
	if err != nil {
		return nil, err
	}
	q.Elections = now - elections
	if q.Lost, err = t.settle(ctx, settleLimit); err != nil {
		return nil, err
	}
	q.Faults = t.counts.since(before)
	return q, nil
}

// elections notes when a node becomes the leader, until ctx ends: whatever the cause,
// the grace time begins anew then. Where the machine has too much to do it happens
// without a fault.
func (t *talk) elections(ctx context.Context, p *fleet.Process) {
	var terms float64
	for last := time.Now(); pause(ctx, lookEvery) == nil; {
		began := time.Now()
		look, cancel := context.WithTimeout(ctx, lookLimit)
		now, err := p.Metric(look, electedMetric)
		paused := look.Err() != nil
		cancel()
		switch {
		case err == nil && now > terms:
			t.mu.Lock()
			if t.noticed = time.Now(); last.After(t.disturbed) {
				t.disturbed = last
			}
			t.mu.Unlock()
			terms = now
		case err != nil && !paused:
			terms = 0 // it is dead, and begins anew
		}
		last = began
	}
}

// ghosts waits until nobody is shown who was lost, or can be within the grace time
// any more, and counts who is still shown.
func (s Failover) ghosts(ctx context.Context, t *talk, r *report.Failover) error {
	grace := time.Duration(r.Grace * float64(time.Second))
	for {
		t.mu.Lock()
		since := min(time.Since(t.disturbed), time.Since(t.noticed))
		t.mu.Unlock()
		r.Ghosts = 0
		for _, e := range t.ears {
			for _, m := range e.u.room.Members() {
				if e.u.byID[m.User] == nil {
					r.Ghosts++
				}
			}
		}
		if err := pause(ctx, lookEvery); err != nil { // who was seen to leave just now is noted
			return err
		}
		if r.Ghosts == 0 {
			break
		}
		if since > grace+graceSlack {
			for _, p := range s.Fleet.Nodes {
				region, err := p.Roster(ctx)
				s.Progress("%d ghosts %s after the last change of the leader; %s says that %d sessions are live and %d suspended under %q (%v)",
					r.Ghosts, since.Round(time.Second), p.ID, region.Sessions.Live, region.Sessions.Suspended, region.Leader, err)
			}
			break
		}
	}
	gone := loadgen.NewLatencies()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.gone {
		r.Abandoned++
		for _, d := range a.seen {
			gone.Record(d.leader)
			if d.lost < grace {
				r.Early++
			}
		}
	}
	r.Gone = report.QuantilesOf(gone.At, gone.Max())
	return nil
}
