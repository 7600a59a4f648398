package fleets

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/geo/grant"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// bundle is a Store on a real database, with what was announced.
type bundle struct {
	*Store
	t  *testing.T
	db *db.DB

	mu      sync.Mutex
	now     time.Time
	said    []string
	version map[core.FleetID]uint64 // the highest that was announced
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(time.Millisecond)
	return b.now
}

func (b *bundle) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bundle) FleetChanged(_ context.Context, f core.FleetID, version uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, fmt.Sprint("fleet ", version))
	b.version[f] = max(b.version[f], version)
}

func (b *bundle) KeysRevoked(_ context.Context, keys []core.LoginID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, fmt.Sprint("keys ", len(keys)))
}

func setup(t *testing.T) *bundle {
	b := &bundle{t: t, db: devdb.Test(t), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), version: map[core.FleetID]uint64{}}
	s, err := New(b.db, secret, Config{Now: b.clock, Announce: b})
	require.NoError(t, err)
	b.Store = s
	return b
}

func in[T any](b *bundle, fn func(ctx context.Context, tx pgx.Tx) (T, error)) (out T, err error) {
	err = b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = fn(ctx, tx)
		return err
	})
	return out, err
}

func (b *bundle) user() core.UserID {
	id := core.UserID(uuid.New())
	_, err := in(b, func(ctx context.Context, tx pgx.Tx) (int, error) {
		_, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, "u"+id.String())
		return 0, err
	})
	require.NoError(b.t, err)
	return id
}

func (b *bundle) create(owner core.UserID, d Draft) (Fleet, error) {
	return in(b, func(ctx context.Context, tx pgx.Tx) (Fleet, error) { return b.Create(ctx, tx, owner, d) })
}

func (b *bundle) key(owner core.UserID, fleet core.FleetID) (Key, error) {
	return in(b, func(ctx context.Context, tx pgx.Tx) (Key, error) { return b.AddKey(ctx, tx, owner, fleet, "depot") })
}

func (b *bundle) count(sql string) (n int) {
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error { return q.QueryRow(ctx, sql).Scan(&n) }))
	return n
}

func ptr[T any](v T) *T { return &v }

func TestWhatAFleetShows(t *testing.T) {
	b := setup(t)
	ana, eve := b.user(), b.user()
	f, err := b.create(ana, Draft{Name: "Scooters"})
	require.NoError(t, err)
	require.Equal(t, Shown{}, f.Shown, "nobody sees it at first")
	seen := func() (Shown, uint64) {
		s, v, err := b.Choices(t.Context(), f.ID)
		require.NoError(t, err)
		return s.At(b.clock()), v
	}
	s, v := seen()
	require.Equal(t, Shown{}, s)
	require.EqualValues(t, 1, v)

	f, err = b.Change(t.Context(), ana, f.ID, Change{Precision: ptr(grant.Cells(9)), Life: ptr(time.Hour)})
	require.NoError(t, err)
	s, v = seen()
	require.Equal(t, f.Shown, s)
	require.Equal(t, grant.Cells(9), s.Precision)
	require.EqualValues(t, 2, v)
	f, err = b.Change(t.Context(), ana, f.ID, Change{Precision: ptr(grant.Exact)})
	require.NoError(t, err)
	s, _ = seen()
	require.Equal(t, grant.Exact, s.Precision)
	require.False(t, s.Expires.IsZero(), "its end is unchanged")

	for _, bad := range []Change{
		{Name: ptr("")}, {Name: ptr("a\nb")}, {Precision: ptr(grant.Exact + 1)}, {Life: ptr(time.Second)}, {Life: ptr(-time.Hour)},
		{Life: ptr(maxLife + 1)}, {Precision: ptr(grant.None), Life: ptr(time.Hour)},
	} {
		_, err := b.Change(t.Context(), ana, f.ID, bad)
		require.Error(t, err)
	}
	_, err = b.Change(t.Context(), eve, f.ID, Change{Precision: ptr(grant.Exact)})
	require.ErrorIs(t, err, ErrNoFleet)
	_, err = b.Get(t.Context(), eve, f.ID)
	require.ErrorIs(t, err, ErrNoFleet)
	require.ErrorIs(t, b.Delete(t.Context(), eve, f.ID), ErrNoFleet)
	_, v = seen()
	require.EqualValues(t, 3, v, "what was refused changed nothing")

	b.advance(2 * time.Hour)
	s, _ = seen()
	require.Equal(t, Shown{}, s, "over")
	_, err = b.Change(t.Context(), ana, f.ID, Change{Life: ptr(time.Hour)})
	require.ErrorIs(t, err, ErrNotShown, "what is over is not shown again by a new end")
	f, err = b.Change(t.Context(), ana, f.ID, Change{Precision: ptr(grant.Cells(5))})
	require.NoError(t, err)
	require.True(t, f.Shown.Expires.IsZero(), "the old end is over, too")

	k, err := b.key(ana, f.ID)
	require.NoError(t, err)
	b.said = nil
	require.NoError(t, b.Delete(t.Context(), ana, f.ID))
	require.Equal(t, []string{"keys 1", "fleet 5"}, b.said)
	s, v = seen()
	require.Equal(t, Shown{}, s)
	require.EqualValues(t, 5, v)
	_, err = b.Open(t.Context(), b.Secret(k.ID))
	require.ErrorIs(t, err, ErrKeyInvalid)
	_, err = b.key(ana, f.ID)
	require.ErrorIs(t, err, ErrNoFleet)

	// Of what was deleted edges can hear for a while.
	require.NoError(t, b.Sweep(t.Context()))
	ended, err := b.RevokedSince(t.Context(), b.clock().Add(-time.Hour))
	require.NoError(t, err)
	require.Equal(t, []core.LoginID{k.ID}, ended)
	b.advance(keepPast + time.Minute)
	require.NoError(t, b.Sweep(t.Context()))
	require.Zero(t, b.count(`SELECT count(*) FROM fleets`)+b.count(`SELECT count(*) FROM fleet_keys`))
	s, v = seen()
	require.Equal(t, Shown{}, s)
	require.Zero(t, v)
}

func TestKeys(t *testing.T) {
	b := setup(t)
	ana, eve := b.user(), b.user()
	f, err := b.create(ana, Draft{Name: "Scooters"})
	require.NoError(t, err)
	other, err := b.create(ana, Draft{Name: "Vans"})
	require.NoError(t, err)
	k, err := b.key(ana, f.ID)
	require.NoError(t, err)
	two, err := b.key(ana, f.ID)
	require.NoError(t, err)
	require.NotEqual(t, b.Secret(k.ID), b.Secret(two.ID))
	g, err := b.Open(t.Context(), b.Secret(k.ID))
	require.NoError(t, err)
	require.Equal(t, Gateway{f.ID, "Scooters", k.ID}, g)
	_, err = b.key(eve, f.ID)
	require.ErrorIs(t, err, ErrNoFleet)
	_, err = b.Keys(t.Context(), eve, f.ID)
	require.ErrorIs(t, err, ErrNoFleet)
	require.ErrorIs(t, b.RevokeKey(t.Context(), eve, f.ID, k.ID), ErrNoFleet)
	require.ErrorIs(t, b.RevokeKey(t.Context(), ana, other.ID, k.ID), ErrNoKey)

	// A copy of the database opens nothing: the secret is not in it.
	require.Zero(t, b.count(`SELECT count(*) FROM fleet_keys WHERE encode(secret_hash, 'escape') LIKE 'mfk_%'`))
	elsewhere, err := New(b.db, []byte("another secret of some other deployment"), Config{})
	require.NoError(t, err)
	require.NotEqual(t, b.Secret(k.ID), elsewhere.Secret(k.ID))
	_, err = elsewhere.Open(t.Context(), b.Secret(k.ID))
	require.NoError(t, err, "keys outlive a change of the deployment's secret")

	before := b.clock()
	b.said = nil
	require.NoError(t, b.RevokeKey(t.Context(), ana, f.ID, k.ID))
	require.Equal(t, []string{"keys 1"}, b.said)
	require.ErrorIs(t, b.RevokeKey(t.Context(), ana, f.ID, k.ID), ErrNoKey)
	_, err = b.Open(t.Context(), b.Secret(k.ID))
	require.ErrorIs(t, err, ErrKeyInvalid)
	left, err := b.Keys(t.Context(), ana, f.ID)
	require.NoError(t, err)
	require.Equal(t, []Key{two}, left)
	ended, err := b.RevokedSince(t.Context(), before)
	require.NoError(t, err)
	require.Equal(t, []core.LoginID{k.ID}, ended)
	ended, err = b.RevokedSince(t.Context(), b.clock())
	require.NoError(t, err)
	require.Empty(t, ended)
}

func TestLimits(t *testing.T) {
	b := setup(t)
	ana := b.user()
	var fleets []Fleet
	for range maxFleets {
		f, err := b.create(ana, Draft{Name: "x"})
		require.NoError(t, err)
		fleets = append(fleets, f)
	}
	_, err := b.create(ana, Draft{Name: "x"})
	require.ErrorIs(t, err, ErrTooManyFleets)
	list, err := b.List(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, fleets, list)
	require.NoError(t, b.Delete(t.Context(), ana, fleets[0].ID))
	_, err = b.create(ana, Draft{Name: "x"})
	require.NoError(t, err)

	// Who makes and revokes them over and over leaves no more rows than that.
	f := fleets[1].ID
	for range maxKeys {
		_, err := b.key(ana, f)
		require.NoError(t, err)
	}
	_, err = b.key(ana, f)
	require.ErrorIs(t, err, ErrTooManyKeys)
	made := maxKeys
	for ; err == nil || made == maxKeys; made++ {
		keys, listed := b.Keys(t.Context(), ana, f)
		require.NoError(t, listed)
		require.NoError(t, b.RevokeKey(t.Context(), ana, f, keys[0].ID))
		if _, err = b.key(ana, f); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ErrTooManyKeys)
	require.Equal(t, maxKeys*pastAsWell, made)
	b.advance(keepPast + time.Minute)
	require.NoError(t, b.Sweep(t.Context()))
	_, err = b.key(ana, f)
	require.NoError(t, err)
}

// Many at once make no more than the limits allow.
func TestLimitsAtOnce(t *testing.T) {
	b := setup(t)
	ana := b.user()
	f, err := b.create(ana, Draft{Name: "x"})
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { _, _ = b.key(ana, f.ID) })
	}
	all.Wait()
	keys, err := b.Keys(t.Context(), ana, f.ID)
	require.NoError(t, err)
	require.LessOrEqual(t, len(keys), maxKeys)
	require.NotEmpty(t, keys)
}

// Changes at the same time get versions of their own, and what is read at a version
// is what that change left; once a version was announced nothing older is read.
func TestVersionsOfChangesAtOnce(t *testing.T) {
	b := setup(t)
	ana := b.user()
	f, err := b.create(ana, Draft{Name: "x"})
	require.NoError(t, err)
	var mu sync.Mutex
	left := map[uint64]grant.Precision{1: grant.None}
	var all, reads sync.WaitGroup
	over := make(chan struct{})
	for range 3 {
		reads.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				b.mu.Lock()
				told := b.version[f.ID]
				b.mu.Unlock()
				_, v, err := b.Choices(t.Context(), f.ID)
				if err != nil || v < told {
					t.Errorf("version %d, after %d was told: %v", v, told, err)
					return
				}
			}
		})
	}
	for i := range 4 {
		all.Go(func() {
			for j := range 8 {
				p := grant.Cells((i + j) % 11)
				f, err := b.Change(t.Context(), ana, f.ID, Change{Precision: &p})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				_, twice := left[f.Version]
				left[f.Version] = p
				mu.Unlock()
				if twice {
					t.Errorf("version %d twice", f.Version)
				}
			}
		})
	}
	all.Wait()
	close(over)
	reads.Wait()
	s, v, err := b.Choices(t.Context(), f.ID)
	require.NoError(t, err)
	require.EqualValues(t, 33, v)
	require.Equal(t, left[v], s.Precision)
}
