package nearby

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// TestAThirdDenyAThirdGoStale has 10,000 users in 200 towns all over the Earth:
// a third never says where they are, a third did once, a third goes on. Then
// nobody is where they are not, nobody is shown who went stale, and ages are
// those of the last report.
func TestAThirdDenyAThirdGoStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const users, towns = 10_000, 200
		w := newWorld(t, 10, 3, 2)
		at := make([]geo.Point, towns)
		for i := range at {
			at[i] = geo.Point{Lat: float64(w.random(18_000))/100 - 90, Lng: float64(w.random(36_000))/100 - 180}
		}
		last := map[string]grant.View{}
		report := func(i int) {
			user := fmt.Sprintf("user-%05d", i)
			v := exactView(geo.Destination(at[i%towns], float64(w.random(360)), float64(w.random(5000))))
			if i%2 == 0 {
				v = coarse(v, 8)
			}
			last[user] = v
			until := v.Captured.Add(edge.FixLife)
			w.alive()[i%6].live().Put(user, user, v, until)
		}
		for i := range users {
			if i%3 > 0 { // the others deny
				report(i)
			}
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		// Whoever denies has no position: not even a node that errs makes it (0, 0).
		for i := 0; i < users; i += 3 {
			for _, f := range []*wire.Fix{{}, {Point: &wire.Point{}}, nil} {
				w.alive()[0].live().HandleUpdate("us-east-1", &peer.MapUpdate{Points: []*peer.MapPoint{{User: fmt.Sprintf("user-%05d", i), Version: 1, Fix: f}}})
			}
		}
		for range 4 {
			time.Sleep(5 * time.Minute)
			for i := range users {
				if i%3 == 2 {
					report(i)
				}
				if i%10 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}
		time.Sleep(3*time.Second + time.Duration(w.random(100))*time.Second)

		shown := map[string]bool{}
		for i, f := range w.alive() {
			for n := i; n < towns; n += 6 {
				got, err := f.live().Near(t.Context(), "somebody", "", at[n], 20_000, MaxLimit)
				require.NoError(t, err)
				require.Empty(t, got.Unreached)
				for _, p := range got.People {
					require.Equal(t, last[p.User], p.View, w.trace(p.User))
					require.Less(t, time.Since(p.View.Captured), 5*time.Minute+2*time.Minute, p.User)
					require.Positive(t, time.Since(p.View.Captured))
					shown[p.User] = true
				}
			}
			got, err := f.live().Near(t.Context(), "somebody", "", geo.Point{}, MaxRadius, MaxLimit)
			require.NoError(t, err)
			for _, p := range got.People { // a town may be near
				require.NotEqual(t, geo.Point{}, p.View.Point)
			}
		}
		for i := range users {
			require.Equal(t, i%3 == 2, shown[fmt.Sprintf("user-%05d", i)], i)
		}
	})
}
