package share

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
)

// nowhere is a hub in which every session is in every room.
type nowhere struct {
	edge.Hub
	fixes int
}

func (n *nowhere) Report(edge.Client, *wire.Fix, []string) []string {
	n.fixes++
	return nil
}
func (n *nowhere) Post(*peer.Post)            { n.fixes++ }
func (n *nowhere) Rooms(edge.Client) []string { return nil }
func (n *nowhere) Membership(edge.Client, string) (edge.Membership, bool) {
	return edge.Membership{}, true
}

// walker is a Sharer and a session of somebody whose choices are known.
func walker(tb testing.TB, grants ...grant.Grant) (h *Sharer, c *client, hub *nowhere) {
	w := newWorld()
	w.grants["ann"] = grants
	hub = &nowhere{}
	cfg := w.config()
	cfg.Hub, cfg.Receipts = hub, nil
	cfg.Rate.PerSecond, cfg.Rate.Burst = 1e9, 1e9
	h = New(cfg)
	c = w.session("ann", "phone", 1)
	require.NoError(tb, h.Start(tb.Context()))
	tb.Cleanup(h.Stop)
	require.NoError(tb, h.Report(c, 1, at(48, 11, time.Now()), []string{groupRoom + "g1"}))
	require.Eventually(tb, func() bool {
		s := h.lock("ann", false)
		defer s.mu.Unlock()
		return !s.read.IsZero()
	}, 10*time.Second, time.Millisecond)
	return h, c, hub
}

// What the exact position of a session costs beside what rooms do with it: the
// fix that they get, and nothing that grows.
func TestExactFixesAllocateLittle(t *testing.T) {
	h, c, _ := walker(t)
	rooms, n := []string{groupRoom + "g1"}, uint64(1)
	raws := make([]grant.Raw, 2000)
	for i := range raws {
		raws[i] = at(48, 11, time.Now().Add(time.Duration(i)*time.Microsecond))
	}
	i := 0
	require.LessOrEqual(t, testing.AllocsPerRun(1000, func() {
		n++
		_ = h.Report(c, n, raws[i], rooms)
		i++
	}), 5.0)
}

func BenchmarkReport(b *testing.B) {
	for name, grants := range map[string][]grant.Grant{
		"exact":  nil,
		"coarse": {{Audience: grant.Audience{Kind: grant.Group, ID: "g1"}, Precision: grant.Cells(7)}},
	} {
		b.Run(name, func(b *testing.B) {
			h, c, _ := walker(b, grants...)
			rooms, n, now := []string{groupRoom + "g1"}, uint64(1), time.Now()
			b.ReportAllocs()
			for b.Loop() {
				n++
				_ = h.Report(c, n, at(48, 11, now.Add(time.Duration(n)*time.Microsecond)), rooms)
			}
		})
	}
}
