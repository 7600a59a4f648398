package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/share"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// fleetRow is a fleet in a database that takes its time. Its versions show their
// own numbers: r0, r1 …, exact.
type fleetRow struct {
	mu      sync.Mutex
	random  *rand.Rand
	version uint64
}

func (r *fleetRow) upTo(d time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Duration(r.random.Int64N(int64(d)))
}

func (r *fleetRow) change() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	return r.version
}

func (r *fleetRow) read(context.Context, core.FleetID) (fleets.Shown, uint64, error) {
	time.Sleep(r.upTo(100 * time.Millisecond))
	r.mu.Lock()
	v := r.version
	r.mu.Unlock()
	time.Sleep(r.upTo(3 * time.Second)) // the answer is on its way
	return fleets.Shown{Precision: grant.Precision(v)}, v, nil
}

// fleetMap is a map that knows of which version it may be told.
type fleetMap struct {
	edge.Map
	mu    sync.Mutex
	told  grant.Precision // the version that the node heard of last
	shown map[string]grant.Precision
	early []string // what was told of an older one
}

func (m *fleetMap) Put(user, _ string, v grant.View, _ time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shown[user] = v.Precision
	if v.Precision < m.told {
		m.early = append(m.early, fmt.Sprintf("%s is told at %v after %v was heard of", user, v.Precision, m.told))
	}
}

func (m *fleetMap) Gone(user string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.shown, user)
}

// Whatever the order in which changes happen, are told and are read: a node that
// has heard of a version tells nothing by an older one, and one that nobody told
// of a change finds it within 30 seconds.
func TestNothingIsToldByOlderChoicesOfAFleet(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 97))
				row := &fleetRow{random: rand.New(rand.NewPCG(seed, 98)), version: 1}
				places := &fleetMap{shown: map[string]grant.Precision{}}
				h := share.New(share.Config{Sharing: sharing{fleets: row.read}, Map: places, Secret: []byte("secret")})
				require.NoError(t, h.Start(t.Context()))
				fleet := uuid.NewString()
				post := func() {
					raw, err := grant.NewRaw(geo.Destination(geo.Point{Lat: 45, Lng: 13}, 0, 10*random.Float64()), 5, grant.Reading{}, grant.Reading{}, grant.Reading{}, time.Now())
					require.NoError(t, err)
					require.NoError(t, h.Post(edge.Subject(fleet, fmt.Sprint(random.IntN(5))), "", raw, nil))
				}
				var news sync.WaitGroup
				for step := range 600 {
					time.Sleep(row.upTo(100 * time.Millisecond))
					post()
					if step%50 != 49 || grant.Precision(row.version) == grant.Exact {
						continue
					}
					v := row.change()
					if random.IntN(3) == 0 {
						continue // the news is lost
					}
					late := row.upTo(5 * time.Second)
					news.Go(func() {
						time.Sleep(late)
						h.FleetChanged(fleet, v)
						places.mu.Lock()
						places.told = max(places.told, grant.Precision(v))
						places.mu.Unlock()
					})
				}
				news.Wait()
				require.Empty(t, places.early)
				for range 35 {
					time.Sleep(time.Second)
					post()
				}
				h.Stop()
				require.Len(t, places.shown, 5)
				for user, p := range places.shown {
					require.Equal(t, grant.Precision(row.version), p, user)
				}
				require.Empty(t, places.early)
			})
		})
	}
}

func TestChoicesOfAFleet(t *testing.T) {
	now := time.Now()
	shown, version := fleets.Shown{Precision: grant.Cells(8), Expires: now.Add(time.Minute)}, uint64(3)
	s := sharing{fleets: func(context.Context, core.FleetID) (fleets.Shown, uint64, error) { return shown, version, nil }}
	fleet := uuid.NewString()
	for _, user := range []string{edge.FleetUser(fleet), edge.Subject(fleet, "s-1")} {
		c, err := s.Sharing(t.Context(), user, 3)
		require.NoError(t, err)
		require.EqualValues(t, 3, c.Version)
		require.False(t, c.Track)
		require.Equal(t, []grant.Audience{{Kind: grant.Discoverable}}, c.Set.Audiences(now))
		require.Empty(t, c.Set.Audiences(now.Add(time.Minute)))
		_, err = s.Sharing(t.Context(), user, 4)
		require.ErrorIs(t, err, location.ErrBehind)
	}
	shown, version = fleets.Shown{}, 0
	c, err := s.Sharing(t.Context(), edge.FleetUser(fleet), 7)
	require.NoError(t, err)
	require.EqualValues(t, 7, c.Version, "it is no more")
	require.Empty(t, c.Set.Audiences(now))
	_, err = s.Sharing(t.Context(), "fleet:nonsense", 0)
	require.Error(t, err)
}

// What is shown by cells is shown for longer after its fix than what is exact, and
// can be taken back through another node for as long.
func TestACellIsTakenBackElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := &fleetMap{shown: map[string]grant.Precision{}}
		read := func(context.Context, core.FleetID) (fleets.Shown, uint64, error) {
			return fleets.Shown{Precision: grant.Cells(8)}, 1, nil
		}
		h := share.New(share.Config{Sharing: sharing{fleets: read}, Map: places, Secret: []byte("secret")})
		require.NoError(t, h.Start(t.Context()))
		fleet := uuid.NewString()
		raw, err := grant.NewRaw(geo.Point{Lat: 45, Lng: 13}, 5, grant.Reading{}, grant.Reading{}, grant.Reading{}, time.Now())
		require.NoError(t, err)
		require.NoError(t, h.Post(edge.Subject(fleet, "s"), "", raw, nil))
		time.Sleep(edge.FixLife + edge.CoarseLife/2)
		synctest.Wait()
		require.Len(t, places.shown, 1)
		changes := &sharingChanges{rt: &Realtime{Sharer: h}}
		changes.heard(&peer.SharingChanged{User: edge.FleetUser(fleet), Subjects: []string{"s", "never"}, Withdrawn: timestamppb.Now()})
		require.Empty(t, places.shown)
		h.Stop()
	})
}
