package share

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// shows sets what a fleet shows, and returns the new version, which nobody is told.
func (w *world) shows(fleet string, grants ...grant.Grant) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	user := edge.FleetUser(fleet)
	w.grants[user] = grants
	w.versions[user]++
	return w.versions[user]
}

// onMap is what the map shows of a user.
func (w *world) onMap(user string) (grant.View, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.near[user]
	return v, ok && time.Now().Before(lapses(v))
}

func (w *world) reads() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func to(p grant.Precision) grant.Grant { return grant.Grant{Audience: whoIsNear, Precision: p} }

func until(p grant.Precision, t time.Time) grant.Grant {
	return grant.Grant{Audience: whoIsNear, Precision: p, Expires: t}
}

// A fleet's subjects are shown as the fleet says, whatever happens: what the rules
// say by themselves of fixes and choices is what the map has.
func TestFleetsAreSeenAsTheyMay(t *testing.T) {
	for seed := range uint64(8) {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				cfg := w.config()
				cfg.Remember = 1000 * time.Hour // what was forgotten is told by cells drawn anew
				h := New(cfg)
				require.NoError(t, h.Start(t.Context()))
				newFleetWalk(t, w, h, seed).run(200)
				h.Stop()
			})
		})
		if !ok {
			return
		}
	}
}

type fleetWalk struct {
	t    *testing.T
	w    *world
	h    *Sharer
	rng  *rand.Rand
	subj []*wanderer
}

// wanderer is a subject, and what should be seen of it.
type wanderer struct {
	fleet, user string
	point       geo.Point
	snapper     *grant.Snapper
	raw         grant.Raw
	since       time.Time
	last        grant.View
}

func newFleetWalk(t *testing.T, w *world, h *Sharer, seed uint64) *fleetWalk {
	k := &fleetWalk{t: t, w: w, h: h, rng: rand.New(rand.NewPCG(seed, 3))}
	for i := range 6 {
		fleet := []string{"a", "b"}[i%2]
		user := edge.Subject(fleet, fmt.Sprint(i))
		k.subj = append(k.subj, &wanderer{
			fleet: fleet, user: user, point: geo.Point{Lat: 48, Lng: 11}, snapper: grant.NewSnapper([]byte(secret), user),
		})
	}
	return k
}

func (k *fleetWalk) run(steps int) {
	for step := range steps {
		what := k.step()
		synctest.Wait()
		for _, s := range k.subj {
			k.check(s, fmt.Sprintf("step %d: %s: %s", step, what, s.user))
		}
	}
}

func (k *fleetWalk) step() string {
	now := time.Now()
	s := k.subj[k.rng.IntN(len(k.subj))]
	switch p := k.rng.IntN(100); {
	case p < 25:
		d := time.Duration(k.rng.IntN(20)+1) * time.Second
		if k.rng.IntN(10) == 0 {
			d = time.Duration(k.rng.IntN(40)) * time.Minute
		}
		time.Sleep(d)
		return fmt.Sprint("sleep ", d)
	case p < 80:
		s.point = geo.Destination(s.point, k.rng.Float64()*360, k.rng.Float64()*400)
		captured := now
		if k.rng.IntN(5) == 0 {
			captured = now.Add(-time.Duration(k.rng.IntN(1200)) * time.Second)
		}
		raw := at(s.point.Lat, s.point.Lng, captured)
		require.NoError(k.t, k.h.Post(s.user, "", raw, nil))
		if now.Sub(captured) < edge.FixLife && captured.After(s.since) {
			if newest, err := s.snapper.Take(raw, now); newest {
				require.NoError(k.t, err)
				s.raw = raw
			}
		}
		synctest.Wait()
		k.check(s, "fix of "+s.user)
		time.Sleep(time.Second) // within its limit, and at a tick
		return "fix of " + s.user
	case p < 92:
		var gs []grant.Grant
		if k.rng.IntN(4) > 0 {
			gs = append(gs, to(precisions[k.rng.IntN(len(precisions))]))
			if k.rng.IntN(2) == 0 {
				gs[0].Expires = now.Add(time.Duration(k.rng.IntN(300)+2) * time.Second)
			}
		}
		k.h.FleetChanged(s.fleet, k.w.shows(s.fleet, gs...))
		return fmt.Sprint(s.fleet, " shows ", gs)
	case p < 96:
		k.h.Withdraw(s.user, now)
		s.since, s.last = latest(now, s.raw.Captured()), grant.View{}
		return "withdraw " + s.user
	default: // a change while the database is away for a moment
		k.w.mu.Lock()
		k.w.down = true
		k.w.mu.Unlock()
		k.h.FleetChanged(s.fleet, k.w.shows(s.fleet))
		time.Sleep(3 * time.Second)
		k.w.mu.Lock()
		k.w.down = false
		k.w.mu.Unlock()
		time.Sleep(3 * time.Second)
		return s.fleet + " shows nothing, and the database is away"
	}
}

func (k *fleetWalk) check(s *wanderer, step string) {
	now := time.Now()
	k.w.mu.Lock()
	set, err := grant.NewSet(k.w.grants[edge.FleetUser(s.fleet)], nil, false)
	k.w.mu.Unlock()
	require.NoError(k.t, err)
	captured := s.raw.Captured()
	var v grant.View
	ok := false
	shows := now.Sub(captured) < edge.FixLife
	if captured.After(s.since) && (shows || s.last.Cell != 0) {
		v, ok = set.View(now, s.snapper, whoIsNear)
	}
	switch {
	case !ok:
		s.last = grant.View{}
	case shows && now.Before(lapses(v)):
		s.last = v
	case s.last.Precision > v.Precision:
		s.last = grant.View{}
	}
	got, there := k.w.onMap(s.user)
	if s.last == (grant.View{}) || !now.Before(lapses(s.last)) {
		require.False(k.t, there, step)
		return
	}
	require.True(k.t, there, step)
	require.Equal(k.t, s.last, got, step)
}

// What many subjects show is read once for all of them, and again before it is too
// old; a change of it is applied to all.
func TestAFleetIsReadOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		w.shows("f", to(grant.Exact))
		post := func(n int) {
			for i := range n {
				require.NoError(t, h.Post(edge.Subject("f", fmt.Sprint(i)), "", at(48, 11, time.Now()), nil))
			}
		}
		post(1000)
		settle(time.Second)
		require.Len(t, w.near, 1000)
		require.Equal(t, 1, w.reads())
		for range 6 {
			settle(10 * time.Second)
			post(1000)
		}
		require.InDelta(t, 4, w.reads(), 1)
		require.Empty(t, w.notes(), "no receipts")

		h.FleetChanged("f", w.shows("f"))
		h.FleetChanged("other", 7)
		synctest.Wait()
		require.Empty(t, w.near)
		post(1000)
		settle(time.Second)
		require.Empty(t, w.near)
		h.Changed(edge.FleetUser("f"), w.shows("f", to(grant.Cells(8))))
		synctest.Wait()
		require.Len(t, w.near, 1000)
		for _, v := range w.near {
			require.Equal(t, grant.Cells(8), v.Precision)
		}
	})
}

// A grant that ends does so by itself, and a fleet's choices that can't be read
// are trusted for as long as a user's.
func TestAFleetWithoutTheDatabase(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		ends := time.Now().Add(4 * time.Minute)
		w.shows("f", until(grant.Exact, ends))
		a, b := edge.Subject("f", "a"), edge.Subject("f", "b")
		post := func(user string, lng float64) { require.NoError(t, h.Post(user, "", at(48, lng, time.Now()), nil)) }
		sees := func(user string, lng float64) {
			t.Helper()
			v, ok := w.onMap(user)
			require.Equal(t, lng != 0, ok)
			require.Equal(t, lng, v.Point.Lng)
		}
		setDown := func(down bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.down = down
		}
		post(a, 1)
		settle(time.Second)
		sees(a, 1)

		setDown(true)
		settle(35 * time.Second)
		post(a, 2)
		post(b, 2)
		settle(time.Second)
		sees(a, 1) // nothing is known to have changed, but nothing new is told
		sees(b, 0)
		setDown(false)
		settle(2 * time.Second)
		sees(a, 2)
		sees(b, 2)

		setDown(true)
		version := w.shows("f", to(grant.Exact))
		h.FleetChanged("f", version)
		post(a, 3)
		settle(25 * time.Second)
		sees(a, 2) // a change is to be read
		settle(10 * time.Second)
		sees(a, 0)
		setDown(false)
		settle(2 * time.Second)
		sees(a, 3)

		h.FleetChanged("f", w.shows("f", until(grant.Exact, time.Now().Add(time.Minute))))
		synctest.Wait()
		sees(a, 3)
		setDown(true)
		settle(58 * time.Second)
		sees(a, 3)
		settle(4 * time.Second)
		sees(a, 0)
	})
}

// What a node may hold of fleets is bounded, and who says nothing is forgotten:
// who was told by cells only after a while.
func TestFleetsAreBoundedAndForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		cfg := w.config()
		cfg.MostOfFleets, cfg.MostOfFleet = 20, 12
		h := New(cfg)
		require.NoError(t, h.Start(t.Context()))
		w.shows("cells", to(grant.Cells(8)))
		w.shows("exact", to(grant.Exact))
		full := &errs.Error{Code: edge.CodeRetry}
		post := func(fleet string, i int) error {
			return h.Post(edge.Subject(fleet, fmt.Sprint(i)), "", at(48, 11, time.Now()), nil)
		}
		for i := range 12 {
			require.NoError(t, post("exact", i))
		}
		require.ErrorIs(t, post("exact", 12), full)
		require.NoError(t, post("cells", 1))
		settle(time.Second)
		require.Len(t, w.near, 13)
		require.ErrorIs(t, post("other", 1), full, "one by cells takes the room of eight")
		require.NoError(t, post("exact", 3), "who is there already has theirs")
		settle(20 * time.Minute)
		require.Zero(t, h.fleet("exact"))
		require.EqualValues(t, 1, h.fleet("cells").size.Load())
		require.EqualValues(t, cellsWeight, h.fleetSize.Load())
		settle(3 * time.Hour)
		require.Empty(t, h.fleets)
		require.Zero(t, h.fleetSize.Load())
		require.Less(t, w.reads(), 1000)
		h.Stop()
	})
}

// Own, limits, and fixes that come twice or late.
func TestAFleetsSubject(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		w.shows("f", to(grant.Exact))
		user, now := edge.Subject("f", "a"), time.Now()
		_, ok := h.Own(user)
		require.False(t, ok)
		for _, ago := range []time.Duration{time.Minute, 2 * time.Minute, time.Minute, 0, time.Hour} {
			require.NoError(t, h.Post(user, "", at(48, ago.Minutes(), now.Add(-ago)), nil))
		}
		settle(time.Second)
		own, ok := h.Own(user)
		require.True(t, ok)
		require.True(t, own.Captured().Equal(now))
		v, _ := w.onMap(user)
		require.Zero(t, v.Point.Lng)
		require.Equal(t, 1, w.puts)

		h.Withdraw(user, time.Now())
		_, ok = h.Own(user)
		require.False(t, ok)
		_, ok = w.onMap(user)
		require.False(t, ok)
		var err error
		for i := range 20 {
			if e := h.Post(user, "", at(48, 11, time.Now().Add(time.Duration(i))), nil); e != nil {
				err = e
			}
		}
		require.ErrorIs(t, err, &errs.Error{Code: edge.CodeRateLimited})
	})
}

// Fixes of many gateways and changes at the same time end in what was chosen last.
func TestFleetsAtTheSameTime(t *testing.T) {
	w := newWorld()
	cfg := w.config()
	cfg.Rate = admit.Rate{PerSecond: 1e9, Burst: 1e9}
	h := New(cfg)
	require.NoError(t, h.Start(t.Context()))
	defer h.Stop()
	var gateways sync.WaitGroup
	for g := range 4 {
		gateways.Go(func() {
			for i := range 3000 {
				_ = h.Post(edge.Subject("f", fmt.Sprint((i*(g+1))%200)), "", at(48, 11, time.Now()), nil)
			}
		})
	}
	var version uint64
	for i := range 200 {
		grants := [][]grant.Grant{nil, {to(grant.Exact)}, {to(grant.Cells(7))}}[i%3]
		version = w.shows("f", grants...)
		h.FleetChanged("f", version)
	}
	gateways.Wait() // the last change is to exact: 199 = 1 modulo 3
	require.Eventually(t, func() bool {
		c := h.fleet("f").chosen.Load()
		w.mu.Lock()
		defer w.mu.Unlock()
		if c.version != version || len(w.near) != 200 {
			return false
		}
		for _, v := range w.near {
			if v.Precision != grant.Exact {
				return false
			}
		}
		return true
	}, 10*time.Second, 10*time.Millisecond)
}
