package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/simnet"
)

// Lose loses regions for good, one after another: from one moment on nothing goes
// in or out, neither between regions nor to clients, and nobody is told. Half of
// the users are looked at and move, the others only are there. The database is
// outside and survives.
type Lose struct {
	Life
	Rounds int // regions that are lost
	Seed   uint64
}

const (
	// loseLimit is how long is waited for somebody to live elsewhere.
	loseLimit = 60 * time.Second
	loseCalm  = 8 * time.Second // between two losses
)

// flight is how a client came away from where it was.
type flight struct {
	mu          sync.Mutex // guards the following
	from        string     // region; empty: it stays
	since       time.Time
	live        time.Time // welcomed elsewhere
	back        time.Time // with all its rooms
	to          string
	unrecovered int
}

// begin notes that something happens to a region.
func (f *flight) begin(from string, since time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.from, f.since, f.live, f.back, f.to, f.unrecovered = from, since, time.Time{}, time.Time{}, "", 0
}

func (f *flight) status(s client.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from != "" && s.Phase == client.Live && s.Region != f.from && f.live.IsZero() {
		f.live, f.to = time.Now(), s.Region
	}
}

func (f *flight) moved(m client.Move) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from != "" && m.ToRegion != f.from && f.back.IsZero() {
		f.back, f.unrecovered = time.Now(), m.Unrecovered
	}
}

func (f *flight) over() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.back.IsZero()
}

// Run plays it.
func (s Lose) Run(ctx context.Context) (*report.Lose, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Net == nil || s.Rounds < 1 {
		return nil, errors.New("bench: at least one region of an emulated network is lost")
	}
	var hole *holes
	var dialer *client.Dialer
	var once sync.Once
	flights := make([]flight, s.Users)
	l, err := s.live(ctx, func(w *wan, x *watch) client.Config {
		once.Do(func() {
			hole = newHoles(w.regions)
			dialer = hole.around(w.dialer)
		})
		c := w.config(x.u)
		c.Endpoints = w.nearest(x.u)
		c.Dialer = dialer
		c.Background = w.idler(x.u)
		x.still.Store(w.idler(x.u))
		f := &flights[x.u.index]
		c.OnStatus, c.OnMove = f.status, f.moved
		return c
	})
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer l.end()
	if s.Rounds > len(l.regions)-2 {
		return nil, fmt.Errorf("bench: %d of %d regions can't be lost: two have to be left", s.Rounds, len(l.regions))
	}
	r := &report.Lose{Mesh: l.Mesh, Load: s.report(), Goal: report.LoseGoal}
	rng := rand.New(rand.NewPCG(s.Seed, 0x105e))
	left := slices.Clone(l.regions)
	for range s.Rounds {
		if err := pause(ctx, loseCalm); err != nil {
			return nil, err
		}
		i := rng.IntN(len(left))
		region := left[i]
		left = slices.Delete(left, i, i+1)
		row, err := s.round(ctx, l, hole, flights, region)
		if err != nil {
			return nil, fmt.Errorf("bench: %s: %w", region, err)
		}
		r.Rounds = append(r.Rounds, row)
		s.Progress("%s is lost: %d in the foreground live elsewhere p50 %.0f, p99 %.0f ms; %d idle p50 %.0f, max %.0f ms; %d of %d continued; left %d, lost %d, twice %d",
			region, row.Foreground.Clients, row.Foreground.Live.P50, row.Foreground.Live.P99, row.Idle.Clients, row.Idle.Live.P50, row.Idle.Live.Max,
			row.Foreground.Recovered+row.Idle.Recovered, row.Foreground.Clients+row.Idle.Clients, row.Left, row.Lost, row.Duplicated)
	}
	r.Sum()
	r.Acknowledged, r.FirstFailure = l.counts.acked.Load(), l.firstFailure()
	r.Head = report.NewHead("lose-region")
	return r, nil
}

// idler says who only is there: every second user of each room and region.
func (w *wan) idler(u *user) bool { return u.index%w.RoomSize/len(w.regions)%2 == 1 }

// nearest lists the nodes for a user: those of their own region, then the others
// by their distance from it, as the mesh would tell a client that is there.
func (w *wan) nearest(u *user) []client.Endpoint {
	list := w.endpoints(u.region, u.index/len(w.regions))
	slices.SortStableFunc(list, func(a, b client.Endpoint) int {
		return int(simnet.RTT(u.region, a.Region) - simnet.RTT(u.region, b.Region))
	})
	return list
}

func (s Lose) round(ctx context.Context, l *life, hole *holes, flights []flight, region string) (row report.LoseRound, err error) {
	row.Region = region
	before, away := l.counts.now(), l.away.Load()
	since := time.Now()
	var victims []*watch
	for _, x := range l.watches {
		if x.u.session.Status().Region == region {
			flights[x.u.index].begin(region, since)
			victims = append(victims, x)
		}
	}
	for _, other := range l.regions {
		if other != region {
			l.Net.CutBoth(region, other)
		}
	}
	hole.dig(region)

	waiting := slices.Clone(victims)
	for tick := time.NewTicker(20 * time.Millisecond); len(waiting) > 0 && time.Since(since) < loseLimit; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return row, ctx.Err()
		}
		waiting = slices.DeleteFunc(waiting, func(x *watch) bool { return flights[x.u.index].over() })
	}
	for _, of := range []struct {
		out  *report.LoseClients
		idle bool
	}{{&row.Foreground, false}, {&row.Idle, true}} {
		live, back := loadgen.NewLatencies(), loadgen.NewLatencies()
		for _, x := range victims {
			if l.idler(x.u) != of.idle {
				continue
			}
			f := &flights[x.u.index]
			f.mu.Lock()
			of.out.Clients++
			if f.live.IsZero() || f.back.IsZero() {
				of.out.Stranded++
			} else {
				live.Record(f.live.Sub(since))
				back.Record(f.back.Sub(since))
				of.out.Times = append(of.out.Times, report.Millis(f.live.Sub(since)))
				if f.unrecovered == 0 {
					of.out.Recovered++
				}
			}
			f.from = ""
			f.mu.Unlock()
		}
		slices.Sort(of.out.Times)
		of.out.Live, of.out.Back = report.QuantilesOf(live.At, live.Max()), report.QuantilesOf(back.At, back.Max())
		of.out.CDF = live.CDF(0)
	}
	if row.Apart, err = l.agree(ctx, settleLimit); err != nil {
		return row, err
	}
	if row.Lost, err = missing(ctx, l.books, l.ears(), settleLimit); err != nil {
		return row, err
	}
	row.Faults = l.counts.since(before)
	row.Away = l.away.Load() - away
	return row, nil
}
