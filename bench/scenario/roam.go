package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/simnet"
)

// Roam has people travel to other regions with their devices: their network
// changes, the SDK times the regions, finds another one nearer and moves there
// while the old connection still serves.
type Roam struct {
	Life
	Share float64 // of the users who travel, 0 to 1
	Seed  uint64
}

// The SDK wants to see three times, five seconds apart, that another region is
// nearer. A network that changes once more has it look again.
const (
	roamLimit = 90 * time.Second
	roamAgain = 18 * time.Second
)

// traveller is somebody's device, and how it was fed while it moved.
type traveller struct {
	x *watch

	mu      sync.Mutex // guards the following
	at      string     // where it is
	began   time.Time
	move    client.Move
	done    bool
	before  time.Time     // the last event before the move
	longest time.Duration // between two events around it
	usual   time.Duration // likewise, before it set out
	travels bool
}

// heard notes an event.
func (t *traveller) heard(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.before.IsZero() {
		gap := at.Sub(t.before)
		if t.travels {
			t.longest = max(t.longest, gap)
		} else {
			t.usual = max(t.usual, gap)
		}
	}
	t.before = at
}

func (t *traveller) moved(m client.Move) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.travels && !t.done && m.ToRegion == t.at {
		t.move, t.done = m, true
	}
}

// distance is how far a host is from where the traveller is.
func (t *traveller) distance(regions map[string]string, to *url.URL) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return simnet.RTT(t.at, regions[to.Host])
}

// away is an http.RoundTripper that takes as long as from where somebody is.
type away struct {
	t       *traveller
	regions map[string]string // by host
	base    http.RoundTripper
}

func (a away) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := pause(r.Context(), a.t.distance(a.regions, r.URL)); err != nil {
		return nil, err
	}
	return a.base.RoundTrip(r)
}

// Run plays it.
func (s Roam) Run(ctx context.Context) (*report.Roam, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if !(s.Share > 0 && s.Share <= 1) {
		return nil, errors.New("bench: a share of the users travels, up to all")
	}
	travellers := make([]*traveller, s.Users)
	hosts := map[string]string{}
	var once sync.Once
	var list client.Edge
	s.heard = func(x *watch, at time.Time) { travellers[x.u.index].heard(at) }
	l, err := s.live(ctx, func(w *wan, x *watch) client.Config {
		once.Do(func() {
			list = w.edge
			list.TTL = 10 // seconds: whoever travels far hears soon what is near there
			for i := range list.Regions {
				r := &list.Regions[i]
				r.State = "up"
				for _, n := range r.Nodes {
					if u, err := url.Parse(n.HTTP); err == nil {
						hosts[u.Host] = r.Name
					}
				}
			}
		})
		t := &traveller{x: x, at: x.u.region}
		travellers[x.u.index] = t
		c := w.config(x.u)
		c.Edges, c.OnMove = nearby{w, t, list}, t.moved
		c.HTTP = &http.Client{Transport: away{t, hosts, w.pool.Transport}}
		return c
	})
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer l.end()
	r, err := s.travel(ctx, l, travellers)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return r, nil
}

// nearby tells a device where the edge nodes are, nearest to it first.
type nearby struct {
	w    *wan
	t    *traveller
	list client.Edge
}

func (n nearby) Edge(context.Context) (client.Edge, error) {
	n.t.mu.Lock()
	at := n.t.at
	n.t.mu.Unlock()
	return n.w.from(n.list, at), nil
}

func (s Roam) travel(ctx context.Context, l *life, travellers []*traveller) (*report.Roam, error) {
	if err := pause(ctx, 10*time.Second); err != nil { // how it usually is
		return nil, err
	}
	rng := rand.New(rand.NewPCG(s.Seed, 0x20a3))
	before := l.counts.now()
	var gone []*traveller
	for _, t := range travellers {
		if rng.Float64() >= s.Share {
			continue
		}
		to := t.x.u.region
		for to == t.x.u.region {
			to = l.regions[rng.IntN(len(l.regions))]
		}
		t.mu.Lock()
		t.at, t.travels, t.began = to, true, time.Now()
		t.mu.Unlock()
		gone = append(gone, t)
		t.x.u.session.NetworkChanged()
		if err := pause(ctx, 20*time.Millisecond); err != nil { // nobody travels at the same moment
			return nil, err
		}
	}
	again := time.Now().Add(roamAgain)
	for since := time.Now(); time.Since(since) < roamLimit; {
		there := 0
		changes := time.Now().After(again)
		for _, t := range gone {
			t.mu.Lock()
			done := t.done
			t.mu.Unlock()
			if done {
				there++
			} else if changes {
				t.x.u.session.NetworkChanged()
			}
		}
		if there == len(gone) {
			break
		}
		if changes {
			again = time.Now().Add(roamAgain)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, 3*time.Second); err != nil { // what comes late comes twice, if at all
		return nil, err
	}
	r := &report.Roam{Mesh: l.Mesh, Load: s.report(), Travellers: len(gone)}
	took, gap, silence, usual := loadgen.NewLatencies(), loadgen.NewLatencies(), loadgen.NewLatencies(), loadgen.NewLatencies()
	for _, t := range gone {
		t.mu.Lock()
		if !t.done {
			r.Stayed++
		} else {
			took.Record(t.move.Took)
			gap.Record(t.move.Gap)
			if t.move.Unrecovered == 0 {
				r.Recovered++
			}
			r.Replayed += t.move.Replayed
			r.Dropped += t.move.Duplicates
			silence.Record(t.longest)
			usual.Record(t.usual)
		}
		t.mu.Unlock()
	}
	for _, q := range []struct {
		out *report.Quantiles
		of  *loadgen.Latencies
	}{{&r.Took, took}, {&r.Gap, gap}, {&r.Silence, silence}, {&r.Usual, usual}} {
		*q.out = report.QuantilesOf(q.of.At, q.of.Max())
	}
	r.Absence = report.QuantilesOf(l.absence.At, l.absence.Max())
	r.TookCDF, r.SilenceCDF, r.UsualCDF = took.CDF(0), silence.CDF(0), usual.CDF(0)
	var err error
	if r.Apart, err = l.agree(ctx, settleLimit); err != nil {
		return nil, err
	}
	if r.Lost, err = missing(ctx, l.books, l.ears(), settleLimit); err != nil {
		return nil, err
	}
	r.Faults = l.counts.since(before)
	r.Acknowledged, r.FirstFailure = l.counts.acked.Load(), l.firstFailure()
	r.Head = report.NewHead("roam")
	return r, nil
}
