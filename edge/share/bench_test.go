package share

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
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
		return !s.asOf.IsZero()
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

// still is a map that takes what it is given.
type still struct {
	edge.Map
	puts atomic.Int64
}

func (m *still) Put(string, string, grant.View, time.Time) { m.puts.Add(1) }
func (m *still) Gone(string)                               {}

// scooters is a Sharer with a fleet of so many subjects, who are seen at a
// precision.
func scooters(tb testing.TB, n int, p grant.Precision) (h *Sharer, users []string) {
	w := newWorld()
	w.grants["fleet:f"] = []grant.Grant{{Audience: grant.Audience{Kind: grant.Discoverable}, Precision: p}}
	cfg := w.config()
	cfg.Map, cfg.Rate = &still{}, admit.Rate{PerSecond: 1e9, Burst: 1e9}
	h = New(cfg)
	require.NoError(tb, h.Start(tb.Context()))
	tb.Cleanup(h.Stop)
	users = make([]string, n)
	now := time.Now()
	for i := range users {
		users[i] = edge.Subject("f", fmt.Sprintf("d290f1ee-6c54-4b01-90e6-%012d", i))
		require.NoError(tb, h.Post(users[i], "", at(48, 11+float64(i)/1e6, now), nil))
	}
	require.Eventually(tb, func() bool { c := h.fleet("f").chosen.Load(); return h.fleet("f").trusted(c, time.Now()) }, 10*time.Second, time.Millisecond)
	return h, users
}

// What a fleet's fix costs: nothing that is not thrown away at once.
func TestFixesOfFleetsAllocateNothing(t *testing.T) {
	h, users := scooters(t, 100, grant.Exact)
	raws := make([]grant.Raw, 2000)
	for i := range raws {
		raws[i] = at(48, 11, time.Now().Add(time.Duration(i)*time.Microsecond))
	}
	i := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		_ = h.Post(users[i%100], "", raws[i], nil)
		i++
	}))
	require.GreaterOrEqual(t, h.cfg.Map.(*still).puts.Load(), int64(1001))
}

// BenchmarkFleet says what fixes of a fleet cost: post-ns alone, cpu-ns with making
// them (BenchmarkRaw) and collecting what was; and what a subject does, its fix and
// the string that names it included.
func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		for name, p := range map[string]grant.Precision{"exact": grant.Exact, "cells": grant.Cells(8)} {
			if p != grant.Exact && n > 100_000 {
				continue
			}
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				before := heap()
				h, users := scooters(b, n, p)
				size := float64(heap()-before) / float64(n)
				rand.Shuffle(n, func(i, j int) { users[i], users[j] = users[j], users[i] })
				// As a gateway's frame brings them: names and fixes are made anew.
				var fixes [256]grant.Raw
				var names [256]string
				var posting time.Duration
				now, i, all := time.Now(), 0, busy(b, unix.RUSAGE_SELF)
				runtime.LockOSThread()
				b.ReportAllocs()
				for b.Loop() {
					j := i % len(fixes)
					now = now.Add(time.Microsecond)
					names[j], fixes[j] = strings.Clone(users[i%n]), at(48, 11, now)
					if i++; j == len(fixes)-1 {
						began := busy(b, unix.RUSAGE_THREAD)
						for j := range fixes {
							_ = h.Post(names[j], "", fixes[j], nil)
						}
						posting += busy(b, unix.RUSAGE_THREAD) - began
					}
				}
				runtime.UnlockOSThread()
				b.ReportMetric(float64(posting)/float64(b.N), "post-ns/op")
				b.ReportMetric(float64(busy(b, unix.RUSAGE_SELF)-all)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(size, "B/subject")
			})
		}
	}
}

// BenchmarkFleetTick says what a second costs in which nothing comes.
func BenchmarkFleetTick(b *testing.B) {
	h, _ := scooters(b, 1_000_000, grant.Exact)
	began, turn := busy(b, unix.RUSAGE_SELF), 0
	for b.Loop() {
		h.tickFleets(time.Now(), turn)
		turn++
	}
	b.ReportMetric(float64(busy(b, unix.RUSAGE_SELF)-began)/float64(b.N), "cpu-ns/op")
}

// BenchmarkFleetWalk says what a change of what a fleet shows costs.
func BenchmarkFleetWalk(b *testing.B) {
	h, _ := scooters(b, 1_000_000, grant.Exact)
	f := h.fleet("f")
	began := busy(b, unix.RUSAGE_SELF)
	for b.Loop() {
		f.walk()
	}
	b.ReportMetric(float64(busy(b, unix.RUSAGE_SELF)-began)/float64(b.N), "cpu-ns/op")
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// busy is how long this process or thread has computed: other than the time of a
// benchmark that tells something on a machine that does something else beside.
func busy(tb testing.TB, who int) time.Duration {
	var u unix.Rusage
	require.NoError(tb, unix.Getrusage(who, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkRaw(b *testing.B) {
	b.ReportAllocs()
	now := time.Now()
	for b.Loop() {
		now = now.Add(time.Microsecond)
		kept = at(48, 11, now)
	}
}

var kept grant.Raw
