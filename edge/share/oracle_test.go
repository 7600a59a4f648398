package share

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

const secret = "s"

// oracle says what every audience of one user should see, from the rules alone:
// all fixes in the order of their arrival, and the choices as they are.
type oracle struct {
	snapper *grant.Snapper
	raw     grant.Raw
	since   time.Time
	posts   map[string]time.Time
	last    map[grant.Audience]grant.View
}

// walk lets a user with two sessions and an HTTP client wander, with all that
// may happen to grants meanwhile.
type walk struct {
	t   *testing.T
	rng *rand.Rand
	w   *world
	h   *Sharer
	o   oracle

	phones []*client
	n      []uint64
	point  geo.Point
	past   []grant.Raw
	made   int
}

var (
	groups    = []string{"g1", "g2", "g3"}
	audiences = []grant.Audience{
		{Kind: grant.Group, ID: "g1"}, {Kind: grant.Group, ID: "g2"}, {Kind: grant.Group, ID: "g3"},
		{Kind: grant.Person, ID: "bob"}, {Kind: grant.Person, ID: "abe"}, {Kind: grant.Link, ID: "l1"}, {Kind: grant.Discoverable},
	}
	precisions = []grant.Precision{grant.Exact, grant.Exact, grant.Cells(9), grant.Cells(7), grant.Cells(5)}
)

func TestEveryAudienceSeesWhatItMay(t *testing.T) {
	for seed := range uint64(30) {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				k := &walk{t: t, rng: rand.New(rand.NewPCG(seed, 7)), w: w, h: New(w.config()), point: geo.Point{Lat: 48.1, Lng: 11.5}}
				k.o = oracle{snapper: grant.NewSnapper([]byte(secret), "ann"), posts: map[string]time.Time{}, last: map[grant.Audience]grant.View{}}
				k.phones = []*client{
					w.session("ann", "phone", 1, groupRoom+"g1", groupRoom+"g2", "direct:ann:bob"),
					w.session("ann", "tablet", 1, groupRoom+"g1"),
				}
				k.n = make([]uint64, 2)
				require.NoError(t, k.h.Start(t.Context()))
				for step := range 400 {
					what := k.step()
					synctest.Wait()
					k.check(fmt.Sprintf("step %d: %s", step, what))
				}
				k.h.Stop()
			})
		})
		if !ok {
			return
		}
	}
}

func (k *walk) step() string {
	now := time.Now()
	switch p := k.rng.IntN(100); {
	case p < 30:
		d := time.Duration(k.rng.IntN(20)+1) * time.Second
		if k.rng.IntN(20) == 0 {
			d = time.Duration(k.rng.IntN(40)) * time.Minute
		}
		time.Sleep(d)
		return "sleep"
	case p < 60: // a session's fix
		i := k.rng.IntN(2)
		raw := k.fix(now)
		k.n[i]++
		n := k.n[i]
		if k.rng.IntN(10) == 0 {
			n = max(1, n-1) // a datagram that comes twice, or overtakes
		}
		var rooms []string
		for _, room := range k.w.in[k.phones[i]] {
			if k.rng.IntN(6) == 0 && !k.w.out["ann "+room] { // or it would have been put out
				rooms = append(rooms, room)
			}
		}
		require.NoError(k.t, k.h.Report(k.phones[i], n, raw, rooms))
		k.takes(raw, rooms)
		return fmt.Sprint("report ", i, n, rooms)
	case p < 72:
		raw := k.fix(now)
		var rooms []string
		if k.rng.IntN(3) == 0 {
			if room := groupRoom + groups[k.rng.IntN(3)]; !k.w.out["ann "+room] {
				rooms = []string{room}
			}
		}
		require.NoError(k.t, k.h.Post("ann", "ann", raw, rooms))
		k.takes(raw, rooms)
		return fmt.Sprint("post ", rooms)
	case p < 84:
		var gs []grant.Grant
		for range k.rng.IntN(5) {
			g := grant.Grant{Audience: audiences[k.rng.IntN(len(audiences))], Precision: precisions[k.rng.IntN(len(precisions))]}
			if k.rng.IntN(2) == 0 {
				g.Expires = now.Add(time.Duration(k.rng.IntN(300)-30) * time.Second)
			}
			gs = append(gs, g)
		}
		k.w.mu.Lock()
		k.w.grants["ann"] = gs
		k.w.zones["ann"] = nil
		if k.rng.IntN(3) == 0 {
			k.w.zones["ann"] = []grant.Zone{{Center: k.point, Radius: 300, Precision: grant.Cells(7)}}
		}
		k.w.ghosts["ann"] = k.rng.IntN(6) == 0
		k.w.mu.Unlock()
		k.change()
		return fmt.Sprint("grants ", gs)
	case p < 88:
		k.h.Withdraw("ann", now)
		k.o.since = latest(now, k.o.raw.Captured())
		clear(k.o.posts)
		clear(k.o.last)
		return "withdraw"
	case p < 92:
		yes := k.rng.IntN(2) == 0
		k.w.mu.Lock()
		k.w.hidden["ann"] = yes
		k.w.mu.Unlock()
		k.h.SetInvisible("ann", yes)
		return fmt.Sprint("invisible ", yes)
	case p < 95: // it comes back under a higher epoch, as sessions do
		i := k.rng.IntN(2)
		old := k.phones[i].member.Device
		k.phones[i] = k.w.session("ann", old.Device, old.Epoch+1, k.w.in[k.phones[i]]...)
		k.n[i] = 0
		return fmt.Sprint("again ", i)
	case p < 97: // removed from a group, or back in
		room := groupRoom + groups[k.rng.IntN(3)]
		k.w.mu.Lock()
		k.w.out["ann "+room] = !k.w.out["ann "+room]
		k.w.mu.Unlock()
		k.change()
		return "membership of " + room
	default: // the database is away for a moment, in which a change is made
		k.w.mu.Lock()
		k.w.down, k.w.grants["ann"] = true, nil
		k.w.mu.Unlock()
		k.change()
		time.Sleep(3 * time.Second)
		k.w.mu.Lock()
		k.w.down = false
		k.w.mu.Unlock()
		time.Sleep(3 * time.Second)
		return "all grants gone, and the database too"
	}
}

func (k *walk) change() {
	k.w.mu.Lock()
	k.w.versions["ann"]++
	version := k.w.versions["ann"]
	k.w.mu.Unlock()
	k.h.Changed("ann", version)
}

// fix is where the user is, or was some time ago, or a fix that was there before.
func (k *walk) fix(now time.Time) grant.Raw {
	if len(k.past) > 0 && k.rng.IntN(12) == 0 {
		return k.past[k.rng.IntN(len(k.past))]
	}
	k.point = geo.Destination(k.point, k.rng.Float64()*360, k.rng.Float64()*400)
	captured := now
	if k.rng.IntN(5) == 0 {
		captured = now.Add(-time.Duration(k.rng.IntN(1200)) * time.Second)
	}
	k.made++ // no two at the very same moment
	raw := at(k.point.Lat, k.point.Lng, captured.Add(time.Duration(k.made-1_000_000)*time.Microsecond))
	if k.past = append(k.past, raw); len(k.past) > 8 {
		k.past = k.past[1:]
	}
	return raw
}

func (k *walk) takes(raw grant.Raw, rooms []string) {
	now, captured := time.Now(), raw.Captured()
	if now.Sub(captured) >= edge.FixLife || !captured.After(k.o.since) {
		return
	}
	for _, room := range rooms {
		if len(room) == len(groupRoom)+2 {
			g, until := room[len(groupRoom):], captured.Add(edge.FixLife)
			if until.After(k.o.posts[g]) {
				k.o.posts[g] = until
			}
		}
	}
	newest, err := k.o.snapper.Take(raw, now)
	require.NoError(k.t, err)
	if newest {
		k.o.raw = raw
	}
}

// check compares what each audience sees with what it should.
func (k *walk) check(step string) {
	now := time.Now()
	set, err := grant.NewSet(k.w.grants["ann"], k.w.zones["ann"], k.w.ghosts["ann"])
	require.NoError(k.t, err)
	for g, until := range k.o.posts {
		set.Post(g, until)
	}
	live := set.Audiences(now)
	shows := k.o.raw.Captured().After(k.o.since) && now.Sub(k.o.raw.Captured()) < edge.FixLife
	for _, a := range audiences {
		room := roomOf("ann", a)
		if !slices.Contains(live, a) || k.w.hidden["ann"] || k.w.out["ann "+room] || !k.o.raw.Captured().After(k.o.since) {
			delete(k.o.last, a)
		} else if shows {
			if v, ok := set.View(now, k.o.snapper, a); !ok {
				delete(k.o.last, a)
			} else {
				k.o.last[a] = v
			}
		}
		want, ok := k.o.last[a]
		if ok && !now.Before(lapses(want)) {
			delete(k.o.last, a)
			ok = false
		}
		if a.Kind == grant.Discoverable {
			k.w.mu.Lock()
			got, there := k.w.near["ann"]
			k.w.mu.Unlock()
			there = there && now.Before(lapses(got))
			require.Equal(k.t, ok, there, "%s: is %v on the map", step, a)
			if ok {
				require.Equal(k.t, want, got, step)
			}
			continue
		}
		got := k.w.sees(room, "ann")
		require.Equal(k.t, ok, got != nil, "%s: does %v see: want %v, got %v", step, a, want, got)
		if ok {
			require.Equal(k.t, show(fixOf(want, 0)), show(got), "%s: %v", step, a)
		}
	}
}

func show(f *wire.Fix) string {
	return fmt.Sprintf("%v ±%v %v %v %v cell %x", f.Point, f.Accuracy, f.GetSpeed(), f.Battery, f.Captured.AsTime(), f.Cell)
}
