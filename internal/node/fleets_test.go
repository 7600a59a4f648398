package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// fleetRow is a fleet in a database that takes its time. Version n shows cells of
// resolution n % 11.
type fleetRow struct {
	mu      sync.Mutex
	random  *rand.Rand
	version uint64
	reads   int
	err     error
}

func (r *fleetRow) read(ctx context.Context, _ core.FleetID) (fleets.Shown, uint64, error) {
	r.mu.Lock()
	r.reads++
	before, after := upTo(r.random, 20*time.Millisecond), upTo(r.random, 200*time.Millisecond)
	r.mu.Unlock()
	time.Sleep(before)
	r.mu.Lock()
	v, err := r.version, r.err
	r.mu.Unlock()
	select {
	case <-time.After(after): // the answer is on its way
	case <-ctx.Done():
		return fleets.Shown{}, 0, ctx.Err()
	}
	if err != nil || v == 0 {
		return fleets.Shown{}, 0, err
	}
	return fleets.Shown{Precision: shownAt(v)}, v, nil
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

func shownAt(version uint64) grant.Precision { return grant.Cells(int(version % 11)) }

// shows is the precision at which choices show a subject.
func shows(t *testing.T, c edge.Choices) grant.Precision {
	raw, err := grant.NewRaw(geo.Point{Lat: 45, Lng: 13}, 5, grant.Reading{}, grant.Reading{}, grant.Reading{}, time.Now())
	require.NoError(t, err)
	at := grant.NewSnapper([]byte("secret"), "x")
	_, err = at.Take(raw, time.Now())
	require.NoError(t, err)
	v, _ := c.Set.View(time.Now(), at, grant.Audience{Kind: grant.Discoverable})
	return v.Precision
}

// Whatever the order in which changes happen, are told and are read: who asks after
// the node heard of a version is not given an older one, and a change that nobody
// told holds a few seconds later.
func TestNoOlderChoicesThanThoseTold(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 97))
				row := &fleetRow{random: rand.New(rand.NewPCG(seed, 98)), version: 1}
				c := newFleetChoices(row.read)
				fleet := uuid.NewString()
				var mu sync.Mutex
				told, since := uint64(0), []time.Time{{}, time.Now()} // when a version began
				var all sync.WaitGroup
				asked := 0
				for range 300 {
					time.Sleep(upTo(random, 100*time.Millisecond))
					switch random.IntN(10) {
					case 0, 1:
						row.mu.Lock()
						row.version++
						v := row.version
						row.mu.Unlock()
						mu.Lock()
						since = append(since, time.Now())
						mu.Unlock()
						if random.IntN(4) > 0 { // else the news is lost
							late := upTo(random, 400*time.Millisecond)
							all.Go(func() {
								time.Sleep(late)
								c.Changed(fleet, v)
								mu.Lock()
								told = max(told, v)
								mu.Unlock()
							})
						}
					default:
						asked++
						all.Go(func() {
							mu.Lock()
							need, began := told, time.Now()
							mu.Unlock()
							min := uint64(0)
							if began.UnixNano()%2 == 0 {
								min = need
							}
							got, err := c.Choices(t.Context(), fleet, min)
							require.NoError(t, err)
							require.GreaterOrEqual(t, got.Version, need, "told before it was asked for")
							require.Equal(t, shownAt(got.Version), shows(t, got))
							mu.Lock()
							defer mu.Unlock()
							if next := int(got.Version) + 1; next < len(since) {
								require.Less(t, began.Sub(since[next]), fleetFor, "not told")
							}
						})
					}
				}
				all.Wait()
				require.Less(t, row.reads, asked, "answers are shared")
				require.Zero(t, c.known[fleet].waiting)
			})
		})
	}
}

// A million subjects that ask at the same time are one read.
func TestSubjectsShareARead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		row := &fleetRow{random: rand.New(rand.NewPCG(1, 1)), version: 3}
		s := sharing{fleets: newFleetChoices(row.read)}
		fleet := uuid.NewString()
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				got, err := s.Sharing(t.Context(), edge.Subject(fleet, fmt.Sprint("s-", i)), 0)
				require.NoError(t, err)
				require.EqualValues(t, 3, got.Version)
				require.False(t, got.Track)
			})
		}
		all.Wait()
		require.Equal(t, 1, row.reads)
		_, err := s.Sharing(t.Context(), "fleet:nonsense:x", 0)
		require.Error(t, err)
	})
}

func TestChoicesThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		row := &fleetRow{random: rand.New(rand.NewPCG(2, 2)), version: 1}
		c := newFleetChoices(row.read)
		fleet := uuid.NewString()
		_, err := c.Choices(t.Context(), fleet, 2)
		require.ErrorIs(t, err, location.ErrBehind, "the database does not have it yet")
		row.err = errors.New("no database")
		_, err = c.Choices(t.Context(), fleet, 0)
		require.ErrorIs(t, err, row.err)

		// Who leads a read and gives up does not take the others along.
		row.err = nil
		quitter, quit := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			_, err := c.Choices(quitter, fleet, 0)
			require.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		for range 3 {
			all.Go(func() {
				_, err := c.Choices(t.Context(), fleet, 0)
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		quit()
		all.Wait()

		// A fleet that is no more shows nothing, as of any version.
		row.version = 0
		time.Sleep(fleetFor)
		got, err := c.Choices(t.Context(), fleet, 7)
		require.NoError(t, err)
		require.Equal(t, grant.None, shows(t, got))
		require.EqualValues(t, 7, got.Version)
	})
}

func TestFewFleetsAreRemembered(t *testing.T) {
	c := newFleetChoices(func(context.Context, core.FleetID) (fleets.Shown, uint64, error) { return fleets.Shown{}, 1, nil })
	for range fleetMost + 10 {
		fleet := uuid.NewString()
		_, err := c.Choices(t.Context(), fleet, 0)
		require.NoError(t, err)
		c.Changed(uuid.NewString(), 5) // of which nobody asked
	}
	require.Len(t, c.known, fleetMost)
}
