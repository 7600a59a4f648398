package hub

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// blackHole loses what goes from one region's nodes to another's, for a while
// without anybody noticing.
func (m *mesh) blackHole(from, to regions.RegionID, noticed time.Duration) {
	each := func(f func(from, to regions.NodeID)) {
		for x := range m.hubs {
			for y := range m.hubs {
				if m.regionOf(x) == from && m.regionOf(y) == to {
					f(x, y)
				}
			}
		}
	}
	each(func(from, to regions.NodeID) { m.wires[[2]regions.NodeID{from, to}].setDown(true) })
	time.AfterFunc(noticed, func() {
		each(func(from, to regions.NodeID) {
			m.hub(from).LinkDown(to)
			m.hub(to).PeerLeft(from)
		})
	})
}

func (m *mesh) healed(from, to regions.RegionID) {
	for w, p := range m.wires {
		if m.regionOf(w[0]) == from && m.regionOf(w[1]) == to && p.isDown() {
			p.setDown(false)
			m.hub(w[0]).LinkUp(w[1])
			m.hub(w[1]).PeerJoined(w[0])
		}
	}
}

// TestRegionsCutOffAtRandom cuts two regions off each other, one way or both,
// for as long as it likes, while people talk, move and roam and the owners on
// either side die and hand over. Nobody is said to have left, and 1.5 s and a
// round trip after it heals everybody has everything.
func TestRegionsCutOffAtRandom(t *testing.T) {
	seeds := 20
	if testing.Short() {
		seeds = 8
	}
	if n, _ := strconv.Atoi(os.Getenv("MUSTER_RUNS")); n > 0 {
		seeds = n
	}
	stats := map[string]int{}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &storm{mesh: newMesh(t, stormNodes...), rng: rand.New(rand.NewPCG(uint64(seed), 9))}
				for i := range 5 {
					g := &guest{user: fmt.Sprintf("g%d", i)}
					s.guests = append(s.guests, g)
					s.join(g, stormNodes[i])
				}
				settle(5 * time.Second)
				said := map[string]uint64{} // the last fix
				for round := range 3 {
					ways := 1 + s.rng.IntN(3)
					noticed := time.Duration(s.rng.IntN(3500)) * time.Millisecond
					lasts := noticed + time.Duration(s.rng.IntN([]int{2000, 30_000}[s.rng.IntN(2)]))*time.Millisecond
					if ways&1 > 0 {
						s.blackHole("a", "b", noticed)
					}
					if ways&2 > 0 {
						s.blackHole("b", "a", noticed)
					}
					for end := time.Now().Add(lasts); time.Now().Before(end); settle(time.Duration(s.rng.IntN(300)) * time.Millisecond) {
						s.amongCuts(said, round)
					}
					s.moves.Wait()
					settle(time.Second) // owners have settled in: nothing but the cut is wrong
					s.retry()
					settle(time.Second)
					s.healed("a", "b")
					s.healed("b", "a")
					settle(1500*time.Millisecond + 80*time.Millisecond)
					wrong := s.faults()
					for _, g := range s.guests {
						for user, n := range said {
							if last := g.phone.lastFix(user); last != n {
								wrong = append(wrong, fmt.Sprintf("%s has fix %d of %s, not %d", g.user, last, user, n))
							}
						}
						if r := g.phone.reach(); r != "" {
							wrong = append(wrong, fmt.Sprintf("%s can't hear %s", g.user, r))
						}
					}
					for _, p := range s.all {
						if slices.ContainsFunc(p.left, func(l string) bool { return !strings.HasSuffix(l, ":MOVED") }) {
							wrong = append(wrong, fmt.Sprintf("%s@%d saw %v leave", p.member.User, p.member.Device.Epoch, p.left))
						}
					}
					require.Empty(t, wrong, "round %d: %d ways for %v, noticed after %v", round, ways, lasts, noticed)
					settle(5 * time.Second)
				}
				for _, p := range s.all {
					stats["unreached"] += p.flaps
					stats["not recovered"] += p.unrecovers
				}
			})
		})
		if !ok {
			return
		}
	}
	t.Log(stats)
	require.NotZero(t, stats["unreached"])
}

// amongCuts is something that may happen while regions are cut off.
func (s *storm) amongCuts(said map[string]uint64, round int) {
	g := s.guests[s.rng.IntN(len(s.guests))]
	switch k := s.rng.IntN(100); {
	case k < 20:
		s.say()
	case k < 60:
		n := uint64(time.Now().UnixMilli())
		if s.hubs[regions.NodeID(g.phone.member.Device.Node)].Report(g.phone, fixN(n), []string{testRoom}) == nil {
			said[g.user] = n
		}
	case k < 64 && round > 0:
		n := s.node()
		s.regions[s.regionOf(n)].move(testSlot, n)
	case k < 68 && round > 0:
		s.handOverSome()
	case k < 72 && round > 1: // it roams, or changes its node
		delete(said, g.user) // where it was is known where it was, until it says more
		s.lose(g)
		s.join(g, s.node())
		settle(time.Second)
		s.retry()
	}
}
