package room

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// heal ends all that is wrong and gives everybody time to notice.
func (w *world) heal() {
	clear(w.former)
	for _, o := range w.nodes {
		w.learn(o)
	}
	for _, g := range everyRegion {
		for _, from := range everyRegion {
			w.hear(g, from)
		}
	}
	for _, p := range w.pairs() {
		w.mend(p[0], p[1])
	}
	for range 40 { // old sessions time out
		w.pass(2 * time.Second)
		w.drain()
	}
	for _, d := range w.devices {
		if d.node != nil && (d.n == 0 || w.shy[d.epoch]) { // what it said while it hid is for nobody
			d.n++
			d.node.report(d)
		}
	}
	for user := range 4 { // a node that was lost took its posts with it
		w.nodes[w.rng.IntN(len(w.nodes))].post(fmt.Sprintf("p%d", user), w.rng.IntN(2) == 0)
	}
	w.drain()
	w.pass(4 * time.Second)
	w.drain()
}

// agree checks that everybody believes the truth.
func (w *world) agree() {
	truth := map[string]string{}
	live := map[regions.RegionID]uint32{}
	for _, o := range w.nodes {
		truth[o.watcher.User] = fmt.Sprintf("%s #0", o.id)
		live[o.region]++
	}
	for _, d := range w.devices {
		if d.node != nil && !d.hidden {
			truth[d.user] = fmt.Sprintf("%s #%d", d.node.id, d.n)
			live[d.node.region]++
		}
	}
	for _, o := range w.nodes {
		require.Empty(w.t, o.beyond)
		require.Equal(w.t, truth, o.beliefs(), "node %s, now %v", o.id, w.now)
		for g, r := range w.owners {
			require.Equal(w.t, r.own.epoch, o.at[string(g)].Epoch)
			require.Equal(w.t, r.own.seq, o.at[string(g)].Seq, "%s follows %s to the end", o.id, g)
			require.Equal(w.t, strconv.Itoa(int(live[g]))+"+0", o.counts[string(g)], "%s counts %s", o.id, g)
		}
	}
	for user, last := range w.truth {
		for _, o := range w.nodes {
			require.Equal(w.t, last.N, o.posted[user].GetFix().GetN(), "%s's post at %s", user, o.id)
			require.Equal(w.t, last.Point == nil, o.posted[user].Fix.Point == nil, "%s's post at %s", user, o.id)
		}
		for _, r := range w.owners {
			i, ok := r.findPost(user)
			require.True(w.t, ok)
			require.Equal(w.t, last.N, r.posts[i].fix.Fix.N, "%s's post at %s's owner", user, r.own.id)
		}
	}
	for _, r := range w.owners {
		var all []string
		for page := r.People("", 3); ; page = r.People(all[len(all)-1], 3) {
			for _, p := range page.People {
				all = append(all, p.User)
			}
			require.Equal(w.t, len(truth), int(page.Counts.Live))
			if !page.More {
				break
			}
		}
		require.Equal(w.t, slices.Sorted(maps.Keys(truth)), all)
	}
}

// TestObserversAgree lets the world go wrong in every way, then heals it: all
// observers believe the truth.
func TestObserversAgree(t *testing.T) {
	stats := map[string]int{}
	for seed := range worlds() {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, uint64(seed), 16, []time.Duration{0, 20 * time.Second}[seed%2])
			for range 1500 {
				w.step(true)
			}
			w.heal()
			w.agree()
			sum(stats, w.stats)
		})
		if !ok {
			break
		}
	}
	t.Log(stats)
}

// TestHandOverLosesNothing hands rooms over all the time: nobody is told that
// anything was lost, and nothing was.
func TestHandOverLosesNothing(t *testing.T) {
	stats := map[string]int{}
	for seed := range worlds() {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, uint64(seed), 256, 0)
			for _, cfg := range w.cfg {
				cfg.Unknown = 20 * time.Second // answers take up to 4 s here, and moves as long
			}
			w.drain() // everybody is in
			for _, o := range w.nodes {
				o.gaps = 0
				clear(o.messages)
			}
			for range 1500 {
				w.step(false)
			}
			w.heal()
			w.agree()
			for _, o := range w.nodes {
				require.Zero(t, o.gaps, "node %s", o.id)
				require.Zero(t, w.stats["unreached"])
				require.Len(t, o.messages, int(w.messages), "node %s", o.id)
			}
			sum(stats, w.stats)
		})
		if !ok {
			break
		}
	}
	t.Log(stats)
}

// TestCutsHealByDigest breaks links between regions in which people move and
// little else happens: owners that agree go on at once, and nobody lacks a fix.
func TestCutsHealByDigest(t *testing.T) {
	stats := map[string]int{}
	for seed := range worlds() {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t, uint64(seed), 256, 0)
			w.drain()
			for _, d := range w.devices {
				w.travel(d)
			}
			for range 1500 {
				w.quiet()
			}
			w.heal()
			w.agree()
			sum(stats, w.stats)
		})
		if !ok {
			break
		}
	}
	t.Log(stats)
	require.Greater(t, stats["digests agree"], stats["digests differ"])
}

// quiet is a step in which links between regions break, and hardly anybody comes
// or goes.
func (w *world) quiet() {
	ps := w.pairs()[:3]
	p := ps[w.rng.IntN(3)]
	switch k := w.rng.IntN(200); {
	case k < 110:
		if ls := w.busy(); len(ls) > 0 {
			w.deliver(ls[w.rng.IntN(len(ls))])
		}
	case k < 150:
		w.pass(time.Duration(w.rng.IntN(20)) * 50 * time.Millisecond)
	case k < 153:
		w.breakLink(p[0], p[1])
	case k < 160:
		w.mend(p[0], p[1])
	case k < 161:
		w.travel(w.devices[w.rng.IntN(len(w.devices))])
	case k < 162 && w.rng.IntN(4) == 0:
		w.handOver(everyRegion[w.rng.IntN(3)])
	default:
		if d := w.devices[w.rng.IntN(len(w.devices))]; d.node != nil {
			d.n++
			d.node.report(d)
		}
	}
}

func worlds() int {
	if n, _ := strconv.Atoi(os.Getenv("MUSTER_RUNS")); n > 0 {
		return n
	}
	if testing.Short() {
		return 10
	}
	return 20
}

func sum(all, one map[string]int) {
	for k, n := range one {
		all[k] += n
	}
}
