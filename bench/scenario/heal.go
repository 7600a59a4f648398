package scenario

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/internal/simnet"
)

// Heal cuts one region off, again and again, while life goes on, and looks how
// long after each healing everybody knows everything of everybody again. The
// database can be reached from everywhere.
type Heal struct {
	Life
	Nodes *node.Mesh    // what Life runs on
	Cut   time.Duration // how long
	Seeds int           // rounds
	First uint64        // seed of the first one; the others follow
}

// kinds are how a region is cut off, in turn.
var kinds = []string{
	"both ways", "is not heard", "does not hear", "both ways, an owner is killed meanwhile", "both ways, an owner is drained meanwhile",
}

// healLimit is how long after a healing is waited for.
const healLimit = 30 * time.Second

// healing is a running scenario.
type healing struct {
	s Heal
	*life
}

// Run plays it.
func (s Heal) Run(ctx context.Context) (*report.Heal, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Nodes == nil || s.Cut <= 0 || s.Seeds < 1 {
		return nil, errors.New("bench: a mesh is cut for a while, once or more")
	}
	l, err := s.live(ctx, func(w *wan, x *watch) client.Config {
		c := w.config(x.u)
		// What a cut does to the mesh is looked at, not what it does to clients:
		// they stay in their region.
		c.Endpoints = slices.DeleteFunc(c.Endpoints, func(e client.Endpoint) bool { return e.Region != x.u.region })
		return c
	})
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer l.end()
	h := &healing{s: s, life: l}
	r := &report.Heal{Mesh: l.Mesh, Load: s.report(), Allowed: report.HealAllowed}
	if err := pause(ctx, 3*time.Second); err != nil {
		return nil, err
	}
	for i := range s.Seeds {
		row, err := h.round(ctx, s.First+uint64(i), kinds[i%len(kinds)])
		if err != nil {
			return nil, fmt.Errorf("bench: seed %d: %w", s.First+uint64(i), err)
		}
		r.Rounds = append(r.Rounds, row)
		s.Progress("seed %d, %s %s: unknown after %.0f ms, converged %.0f ms after healing (%.0f over the round trip), left %d, lost %d, twice %d",
			row.Seed, row.Region, row.Kind, row.Unknown.P50, row.Converged, row.Over, row.Left, row.Lost, row.Duplicated)
	}
	r.Acknowledged, r.FirstFailure = l.counts.acked.Load(), l.firstFailure()
	r.Head = report.NewHead("heal")
	return r, nil
}

func (h *healing) round(ctx context.Context, seed uint64, kind string) (row report.HealRound, err error) {
	rng := rand.New(rand.NewPCG(seed, 0xc07))
	region := h.regions[rng.IntN(len(h.regions))]
	row = report.HealRound{Seed: seed, Region: region, Kind: kind}
	before, away := h.counts.now(), h.away.Load()

	began := time.Now()
	for _, other := range h.regions {
		if other == region {
			continue
		}
		if kind != "does not hear" {
			h.s.Net.Cut(region, other)
		}
		if kind != "is not heard" {
			h.s.Net.Cut(other, region)
		}
	}
	defer h.s.Net.Heal()
	moved := -1
	if kind == kinds[3] || kind == kinds[4] {
		if err := pause(ctx, h.s.Cut/4); err != nil {
			return row, err
		}
		side := region
		if rng.IntN(2) == 1 {
			side = h.regions[rng.IntN(len(h.regions))]
		}
		moved = h.owner(side)
		row.Moved = string(h.s.Nodes.Nodes[moved].ID())
		if kind == kinds[4] {
			draining, cancel := context.WithTimeout(ctx, h.s.Cut/2)
			err = h.s.Nodes.Nodes[moved].Drain(draining)
			cancel()
			if err != nil {
				return row, fmt.Errorf("drain %s: %w", row.Moved, err)
			}
		}
		h.s.Nodes.Kill(moved)
		if err := pause(ctx, time.Until(began.Add(h.s.Cut*3/4))); err != nil {
			return row, err
		}
		if err := h.s.Nodes.Restart(ctx, moved); err != nil {
			return row, err
		}
	}
	if err := pause(ctx, time.Until(began.Add(h.s.Cut))); err != nil {
		return row, err
	}
	row.Cut = report.Seconds(time.Since(began))
	row.Unknown, row.Hidden = h.unknown(region, began)
	if err := h.mend(ctx, region, &row); err != nil {
		return row, err
	}
	if row.Apart, err = h.agree(ctx, settleLimit); err != nil {
		return row, err
	}
	if row.Lost, err = missing(ctx, h.books, h.ears(), settleLimit); err != nil {
		return row, err
	}
	row.Faults = h.counts.since(before)
	row.Away = h.away.Load() - away
	return row, pause(ctx, 3*time.Second) // life as usual, before the next cut
}

// owner returns the node of a region that owns the most rooms.
func (h *healing) owner(region string) (most int) {
	owned := make([]int, len(h.s.Nodes.Nodes))
	most = -1
	for i, n := range h.s.Nodes.Nodes {
		if string(n.Region()) != region {
			continue
		}
		for _, b := range h.books {
			if id, _ := n.Cluster().Owner(b.room); id == n.ID() {
				owned[i]++
			}
		}
		if most < 0 || owned[i] > owned[most] {
			most = i
		}
	}
	return most
}

// unknown says when applications were told that a region is not heard, on both
// sides, since the cut; and how many were not told.
func (h *healing) unknown(region string, cut time.Time) (report.Quantiles, int) {
	after, hidden := loadgen.NewLatencies(), 0
	for _, x := range h.watches {
		x.mu.Lock()
		for _, other := range h.regions {
			if !h.between(region, other, x.u.region) {
				continue
			}
			if at, ok := x.unknown[other]; ok {
				after.Record(at.Sub(cut))
			} else {
				hidden++
			}
		}
		x.mu.Unlock()
	}
	return report.QuantilesOf(after.At, after.Max()), hidden
}

// between reports whether a cut is between a region and the one of a watch.
func (h *healing) between(cut, origin, here string) bool {
	return origin != here && (origin == cut || here == cut)
}

// meeting is a region of which a watch has not yet heard everything.
type meeting struct {
	x      *watch
	origin string
	want   map[string]time.Time // fixes that are at least this new
}

func (m *meeting) over() bool {
	m.x.mu.Lock()
	defer m.x.mu.Unlock()
	if _, unknown := m.x.unknown[m.origin]; unknown {
		return false
	}
	for user, captured := range m.want {
		if m.x.fixes[user].Before(captured) {
			return false
		}
		delete(m.want, user)
	}
	return true
}

// mend heals the cut, and looks how long it takes until every application knows
// of every region that it can be heard, has a fix of each of its people that is
// not older than their last one before the healing, and has heard all messages
// that were stored until then.
func (h *healing) mend(ctx context.Context, region string, row *report.HealRound) error {
	want := map[string]time.Time{}
	for _, u := range h.users {
		u.mu.Lock()
		want[u.id] = u.last
		u.mu.Unlock()
	}
	var meetings []*meeting
	for _, x := range h.watches {
		for _, origin := range h.regions {
			if !h.between(region, origin, x.u.region) {
				continue
			}
			m := &meeting{x: x, origin: origin, want: map[string]time.Time{}}
			for _, p := range x.u.peers {
				if p.region == origin {
					m.want[p.id] = want[p.id]
				}
			}
			meetings = append(meetings, m)
		}
	}
	acked := h.acknowledged()
	ears := h.ears()
	h.s.Net.Heal()
	healed := time.Now()

	took := map[[2]string]*loadgen.Latencies{}
	all := loadgen.NewLatencies()
	for tick := time.NewTicker(10 * time.Millisecond); len(meetings) > 0 || len(ears) > 0; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		now := time.Now()
		late := now.Sub(healed) > healLimit
		meetings = slices.DeleteFunc(meetings, func(m *meeting) bool {
			if !m.over() && !late {
				return false
			}
			key := [2]string{m.origin, m.x.u.region}
			if took[key] == nil {
				took[key] = loadgen.NewLatencies()
			}
			took[key].Record(now.Sub(healed))
			all.Record(now.Sub(healed))
			return true
		})
		had := len(ears)
		ears = slices.DeleteFunc(ears, func(e *ear) bool { return late || e.missing(acked[e.book]) == 0 })
		if len(ears) == 0 && had > 0 {
			row.Messages = report.Millis(now.Sub(healed))
		}
	}
	row.CDF = all.CDF(0)
	row.Converged = report.Millis(all.Max())
	var far time.Duration
	for _, from := range h.regions {
		for _, to := range h.regions {
			l := took[[2]string{from, to}]
			if l == nil {
				continue
			}
			rtt := simnet.RTT(from, to)
			far = max(far, rtt)
			row.Pairs = append(row.Pairs, report.HealPair{From: from, To: to, RTT: report.Millis(rtt), P50: report.Millis(l.At(50)), Max: report.Millis(l.Max())})
			row.Over = max(row.Over, report.Millis(l.Max()-rtt))
		}
	}
	row.Over = max(row.Over, row.Messages-report.Millis(far))
	return nil
}
