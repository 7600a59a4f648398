package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
)

// Messages is a crowd that writes messages in rooms that spread over all
// regions. How long a message takes to be stored, and how long from then on until
// others have it, are told apart.
type Messages struct {
	WAN
	Rate     float64 // messages per second, of all
	Duration time.Duration
	Warmup   time.Duration
	Ramp     bool
	// Home is the region in which the database is, and all rooms with it; empty:
	// each room is at home in the region of its first user, of all regions in turn.
	Home string
	// Commits says when messages were stored; nil: the stamp that they carry
	// counts, which is from before their INSERT and COMMIT.
	Commits *Commits
}

// Commits is when messages were stored, as their servers say that are in this
// process.
type Commits struct{ at sync.Map }

type commit struct {
	room   string
	number uint64
}

// Note is told of each message as soon as its transaction is committed.
func (c *Commits) Note(room string, number uint64) {
	c.at.LoadOrStore(commit{room, number}, time.Now())
}

func (c *Commits) take(room string, number uint64) (time.Time, bool) {
	at, ok := c.at.Load(commit{room, number})
	if !ok {
		return time.Time{}, false
	}
	return at.(time.Time), true
}

// letters is a running scenario.
type letters struct {
	p Messages
	*wan
	homes []string // per room
	heard []*ear   // per user
	books []*book  // per room
}

// postbag is one measured run at one rate.
type postbag struct {
	from, to        time.Time // what was meant to be sent between counts
	spreads, writes paths
	updates         map[[2]string]int64
	mu              sync.Mutex // guards updates
	acked, refused  atomic.Int64
	duplicated      atomic.Int64
	unstamped       atomic.Int64
	failure         atomic.Pointer[error]
}

// Run plays the scenario and returns what was measured.
func (p Messages) Run(ctx context.Context) (*report.Messages, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if each := p.Rate / float64(p.Users); !(each > 0 && each <= 10) || p.Duration <= 0 || p.Warmup < 0 {
		return nil, errors.New("bench: a user writes up to 10 messages a second and some, for a while")
	}
	p.first = p.Home
	r, err := p.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return r, nil
}

func (p Messages) run(ctx context.Context) (*report.Messages, error) {
	w, err := p.open(ctx)
	if w != nil {
		defer w.close()
	}
	if err != nil {
		return nil, err
	}
	c := &letters{p: p, wan: w}
	for i, group := range c.groups {
		g, err := c.mates(i)[0].api.Group(ctx, group)
		if err != nil {
			return nil, err
		}
		c.homes = append(c.homes, cmp.Or(p.Home, g.HomeRegion))
		c.books = append(c.books, &book{room: client.GroupRoom(group)})
	}
	for _, u := range c.users {
		c.heard = append(c.heard, &ear{u: u, book: c.books[u.index/c.roomSize]})
	}
	if err := c.connect(ctx, c.config); err != nil {
		return nil, err
	}
	if err := c.idleLinks(ctx); err != nil {
		return nil, err
	}
	r := &report.Messages{
		Mesh: w.Mesh, Users: p.Users, RoomSize: p.RoomSize, Rooms: w.rooms(), Warmup: p.Warmup.Seconds(),
		Transport: w.transports(), Size: bodySize, Since: "the return of COMMIT, in the server",
	}
	if p.Commits == nil {
		r.Since = "the message's stamp, before its INSERT and COMMIT"
	}
	first, err := c.measure(ctx, p.Rate)
	if err != nil {
		return nil, err
	}
	r.MessagesRun = *first
	if p.Ramp {
		if r.Steps, err = ramp(first.Step(), 10*float64(p.Users), func(rate float64) (report.Step, error) {
			run, err := c.measure(ctx, rate)
			if err != nil {
				return report.Step{}, err
			}
			step := run.Step()
			if step.Why == "" {
				r.Highest = run
			}
			return step, nil
		}); err != nil {
			return nil, err
		}
	}
	r.Head = report.NewHead("messages")
	return r, nil
}

// measure plays the load at one rate.
func (c *letters) measure(ctx context.Context, rate float64) (*report.MessagesRun, error) {
	start := time.Now().Add(100 * time.Millisecond)
	s := &postbag{
		from: start.Add(c.p.Warmup), to: start.Add(c.p.Warmup + c.p.Duration), updates: map[[2]string]int64{},
		spreads: newPaths(c.regions), writes: newPaths(c.regions),
	}
	readCtx, stopReading := context.WithCancel(ctx)
	var readers, calls sync.WaitGroup
	for _, e := range c.heard {
		readers.Go(func() { c.read(readCtx, s, e) })
	}
	defer readers.Wait()
	defer stopReading()

	var links map[[2]string]bare
	helpers, helping := errgroup.WithContext(ctx)
	helpers.Go(func() (err error) {
		links, err = c.bare(helping, c.p.Warmup+c.p.Duration)
		return err
	})
	c.Progress("%.0f messages a second for %s after %s of warm-up", rate, c.p.Duration, c.p.Warmup)
	every := time.Duration(float64(time.Second) / rate)
	var before time.Duration
	var cpuErr error
	var m meter
	err := loadgen.Open(ctx, start, every, int((c.p.Warmup+c.p.Duration)/every), func(i int, due time.Time) {
		if m.at.IsZero() && !due.Before(s.from) {
			m = c.meter()
			before, cpuErr = loadgen.CPU(0)
		}
		calls.Go(func() { c.say(ctx, s, c.heard[i%len(c.heard)], due) })
	})
	if err != nil {
		return nil, err
	}
	after, err := loadgen.CPU(0)
	if err = errors.Join(cpuErr, err, helpers.Wait()); err != nil {
		return nil, err
	}
	calls.Wait()
	lost, err := c.settled(ctx)
	if err != nil {
		return nil, err
	}
	flows := c.flows(m, s.updates, s.spreads)
	stopReading()
	readers.Wait()

	r := &report.MessagesRun{
		Rate: rate, Seconds: c.p.Duration.Seconds(), CPUSeconds: (after - before).Seconds(), Links: flows,
		Acknowledged: s.acked.Load(), Refused: s.refused.Load(), Lost: lost, Duplicated: s.duplicated.Load(),
		Deliveries: s.spreads.pairs(c.regions, links),
	}
	if err := s.failure.Load(); err != nil {
		r.FirstFailure = (*err).Error()
	}
	if n := s.unstamped.Load(); n > 0 {
		return nil, fmt.Errorf("%d messages were delivered of which nobody said when they were stored", n)
	}
	for key, l := range links { // a write is there and back
		links[key] = bare{2 * l.p50, 2 * l.p99}
	}
	r.Writes = s.writes.pairs(c.regions, links)
	return r, nil
}

// say writes one message.
func (c *letters) say(ctx context.Context, s *postbag, e *ear, due time.Time) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	room := e.u.index / c.roomSize
	body := fmt.Sprintf("%d %d ", due.UnixNano(), e.u.index)
	m, err := e.u.room.Send(ctx, body+strings.Repeat(".", max(0, bodySize-len(body))))
	now := time.Now()
	if err != nil {
		s.refused.Add(1)
		s.failure.CompareAndSwap(nil, &err)
		return
	}
	e.book.acknowledge(m.Number)
	if !within(s.from, s.to, due) {
		return
	}
	s.acked.Add(1)
	key := [2]string{e.u.region, c.homes[room]}
	s.writes[key].expected.Add(1)
	s.writes[key].latencies.Record(now.Sub(due))
	for _, p := range e.u.peers {
		s.spreads[[2]string{c.homes[room], p.region}].expected.Add(1)
	}
	var to []string
	for _, u := range c.mates(room) {
		if u.region != c.homes[room] && !slices.Contains(to, u.region) {
			to = append(to, u.region)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range to {
		s.updates[[2]string{c.homes[room], r}]++
	}
}

// read is the application of one user.
func (c *letters) read(ctx context.Context, s *postbag, e *ear) {
	for ev := range e.u.room.Events(ctx) {
		now := time.Now()
		m, ok := ev.(client.MessageArrived)
		if !ok {
			continue
		}
		if e.hear(m.Message.Number) {
			s.duplicated.Add(1)
			continue
		}
		var nanos int64
		var sender int
		if _, err := fmt.Sscanf(m.Message.Body, "%d %d", &nanos, &sender); err != nil || sender == e.u.index || !within(s.from, s.to, time.Unix(0, nanos)) {
			continue
		}
		at := m.Message.SentAt
		if c.p.Commits != nil {
			if at, ok = c.p.Commits.take(e.book.room, m.Message.Number); !ok {
				s.unstamped.Add(1)
				continue
			}
		}
		home := c.homes[e.u.index/c.roomSize]
		s.spreads[[2]string{home, e.u.region}].latencies.Record(now.Sub(at))
	}
}

// settled waits until everybody has heard all that was acknowledged, and
// returns how many deliveries are missing when the time is up.
func (c *letters) settled(ctx context.Context) (lost int, err error) {
	return missing(ctx, c.books, c.heard, settleLimit)
}
