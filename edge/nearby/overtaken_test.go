package nearby

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions"
)

// TestWhatWasOvertakenStaysAway: of a user whom a node published that was cut off
// since, nothing comes back when the link is mended, also if what another node
// published meanwhile has lapsed before; unless nobody is left who knows of that.
func TestWhatWasOvertakenStaysAway(t *testing.T) {
	const short = 10 * time.Second
	dublin, berlin := geo.Point{Lat: 53.35, Lng: -6.26}, geo.Point{Lat: 52.52, Lng: 13.4}
	for _, c := range []struct {
		name string
		// meanwhile is what happens since b published for a short time, a being cut off.
		meanwhile func(w *world, a, b, anchor *fake)
		back      bool // until it lapses
	}{
		{name: "lapsed", meanwhile: func(*world, *fake, *fake, *fake) { time.Sleep(short + life + lease) }},
		{name: "lapsed minutes ago", meanwhile: func(*world, *fake, *fake, *fake) { time.Sleep(10 * time.Minute) }},
		{name: "lapsed just now, and the anchor moved", meanwhile: func(w *world, _, _, anchor *fake) {
			time.Sleep(short)
			w.slotsAway(anchor)
			time.Sleep(2 * time.Second)
		}},
		{name: "lapsed, and the anchor moved", meanwhile: func(w *world, _, _, anchor *fake) {
			time.Sleep(short + life)
			w.slotsAway(anchor)
			time.Sleep(lease)
		}},
		{name: "lapsed, and the anchor died", meanwhile: func(w *world, _, _, anchor *fake) {
			time.Sleep(short + life)
			w.lose(anchor)
			time.Sleep(lease)
		}},
		{name: "lapsed before the anchor could be told", meanwhile: func(w *world, _, b, anchor *fake) {
			w.sever(b, anchor) // the claim is still to be sent
			time.Sleep(short + life)
		}},
		{name: "withdrawn, of which its node hears late", meanwhile: func(w *world, a, b, _ *fake) {
			b.live().Gone("u")
			time.Sleep(life + lease)
			w.heal()
			time.Sleep(time.Second)
			a.live().Gone("u")
		}},
		{name: "its node died just now", meanwhile: func(w *world, _, b, _ *fake) {
			time.Sleep(short + lease)
			w.lose(b)
			time.Sleep(2 * time.Second)
		}},
		{name: "its node died a while ago", back: true, meanwhile: func(w *world, _, b, _ *fake) {
			time.Sleep(short + lease)
			w.lose(b)
			time.Sleep(life + lease)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, 3, 3)
				anchor := w.anchorOf("u")
				var others []*fake
				for _, f := range w.alive() {
					if f != anchor && f.region == "us-east" { // which has neither point
						others = append(others, f)
					}
				}
				a, b := others[0], others[1]
				a.live().Put("u", "U", exactView(dublin), time.Now().Add(edge.FixLife))
				time.Sleep(time.Second)
				require.Len(t, w.whoSees(t, dublin), 9)
				for _, f := range w.alive() {
					if f != a {
						w.sever(a, f)
					}
				}
				time.Sleep(time.Second)
				b.live().Put("u", "U", exactView(berlin), time.Now().Add(short))
				c.meanwhile(w, a, b, anchor)
				w.heal()
				time.Sleep(lease + time.Second)
				require.Equal(t, c.back, len(w.whoSees(t, dublin)) > 0, w.trace("u"))
				require.Empty(t, w.whoSees(t, berlin), w.trace("u"))
				for range 6 { // and later
					time.Sleep(lease)
					require.Equal(t, c.back, len(w.whoSees(t, dublin)) > 0, w.trace("u"))
				}
				time.Sleep(edge.FixLife)
				require.Empty(t, w.whoSees(t, dublin), w.trace("u"))
			})
		})
	}
}

// TestWhoLapsedTakesNoRoom: they are few, for a time, and beside those who are there.
func TestWhoLapsedTakesNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mapOfTwo(nil)
		m.publisher.most, m.owner.most = 8, 8
		renew := func() (remembered []string) {
			now := time.Now()
			var out outbox
			m.flush(now, &out)
			for i := range m.owner.shards {
				s := &m.owner.shards[i]
				m.renew(now, s, &out)
				s.each(func(p *someone) {
					if p.pub.state == lapsed {
						remembered = append(remembered, p.user)
					}
				})
			}
			m.owner.sweep(now, 0, 1)
			require.EqualValues(t, len(remembered), m.publisher.lapsed.Load())
			return remembered
		}
		put := func(user string, life time.Duration) {
			m.Put(user, "", exactView(geo.Point{Lat: 52.52, Lng: 13.4}), time.Now().Add(life))
		}
		for i := range 8 {
			put(fmt.Sprint("short ", i), 10*time.Second)
		}
		time.Sleep(10 * time.Second)
		who := renew()
		require.Len(t, who, 2, "a quarter")
		require.Zero(t, m.publisher.count.Load())

		for i := range 7 {
			put(fmt.Sprint("long ", i), time.Hour)
		}
		put(who[0], time.Hour)
		require.EqualValues(t, 8, m.publisher.count.Load(), "there is room for all who are there")
		put(who[1], time.Hour)
		require.EqualValues(t, 8, m.publisher.count.Load())
		require.Equal(t, who[1:], renew(), "who finds no room is still remembered")
		m.superseded(who[1], math.MaxUint64)
		require.Empty(t, renew(), "whom another node has by now is not")

		time.Sleep(time.Minute)
		m.Gone(who[0])
		time.Sleep(life)
		require.Empty(t, renew(), "nor is who withdrew")
		put(who[1], time.Second)
		time.Sleep(time.Second)
		require.Equal(t, who[1:], renew())
		time.Sleep(edge.FixLife + edge.CoarseLife - time.Minute)
		require.Equal(t, who[1:], renew(), "for as long as an older one may be somewhere")
		time.Sleep(2 * time.Minute)
		require.Empty(t, renew())
		time.Sleep(time.Hour)
		require.Empty(t, renew(), "nothing is as old as what lapsed an hour after its capture")
		require.Zero(t, m.publisher.count.Load())
		for i := range shards {
			require.Zero(t, m.owner.shards[i].count)
		}
	})
}

// anchorOf returns the node that is a user's anchor.
func (w *world) anchorOf(user string) *fake {
	m := w.alive()[0].live()
	return w.node(m.ownerIn(m.atlas.Load().anchor(user), anchorSlot(user)))
}

// slotsAway gives the slots of a node to another one of its region.
func (w *world) slotsAway(from *fake) {
	var to *fake
	for _, f := range w.alive() {
		if f != from && f.region == from.region {
			to = f
		}
	}
	w.move(from.region, func(_ int, was regions.NodeID) regions.NodeID {
		if was == from.id {
			return to.id
		}
		return was
	})
}

// whoSees returns which nodes find somebody near a point.
func (w *world) whoSees(t *testing.T, at geo.Point) (out []regions.NodeID) {
	for _, f := range w.alive() {
		got, err := f.live().Near(t.Context(), "viewer", "", at, 1000, 0)
		require.NoError(t, err)
		require.Empty(t, got.Unreached)
		if len(got.People) > 0 {
			out = append(out, f.id)
		}
	}
	return out
}
