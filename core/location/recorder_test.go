package location

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

func (b *bundle) recorder() *Recorder {
	return NewRecorder(b.Store, slog.New(slog.DiscardHandler), nil)
}

// receipts are all of a user's, page by page, as text.
func (b *bundle) receipts(user core.UserID, name map[string]string, limit int) (list []string) {
	b.t.Helper()
	for cursor := ""; ; {
		page, next, err := b.Receipts(b.t.Context(), user, cursor, limit)
		require.NoError(b.t, err)
		require.LessOrEqual(b.t, len(page), limit)
		for _, r := range page {
			room := ""
			if r.Room != "" {
				room = " " + r.Room
			}
			list = append(list, fmt.Sprintf("%s %s%s %s %s-%s %d", name[r.Reader.String()], r.How, room, r.Precision, r.First.Format("15:04"), r.Last.Format("15:04"), r.Reads))
		}
		if next == "" {
			return list
		}
		cursor = next
	}
}

func TestReceipts(t *testing.T) {
	b := setup(t)
	ana, bo, cy, gone := b.user(), b.user(), b.user(), core.UserID(uuid.New())
	name := map[string]string{ana.String(): "ana", bo.String(): "bo", cy.String(): "cy"}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	b.now = at(200)
	r := b.recorder()
	// Ana is told exactly for an hour, then coarsely; Bo follows in two parts,
	// Cy only later, and Ana herself all the time.
	r.Told("group:x", ana, grant.Exact, at(0), at(0))
	r.Told("group:x", ana, grant.Exact, at(0), at(60))
	r.Told("group:x", ana, grant.Exact, at(0), at(30)) // late
	r.Told("group:x", ana, grant.Cells(7), at(60), at(90))
	r.Told("group:y", ana, grant.Exact, at(0), at(90))
	r.Told("group:x", bo, grant.Exact, at(0), at(90))
	r.Told("group:x", gone, grant.Exact, at(0), at(90))
	r.Saw("group:x", bo, at(-30), at(20))
	r.Saw("group:x", bo, at(40), at(70))
	r.Saw("group:x", cy, at(90), at(100))
	r.Saw("group:x", ana, at(0), at(100))
	r.Saw("group:x", gone, at(0), at(100))
	r.Stop()
	want := []string{
		"bo room group:x r7 13:00-13:10 1",
		"bo room group:x exact 12:40-13:00 1",
		"bo room group:x exact 12:00-12:20 1",
	}
	for _, limit := range []int{1, 2, 3, 100} {
		require.Equal(t, want, b.receipts(ana, name, limit), limit)
	}
	require.Equal(t, []string{"ana room group:x exact 12:00-13:30 1"}, b.receipts(bo, name, 10))

	// The same interval goes on, on any node; what lasts longer than now ends now.
	r = b.recorder()
	r.Told("group:x", ana, grant.Cells(7), at(60), at(300))
	r.Saw("group:x", cy, at(90), at(290))
	for i := range 5 {
		r.Read(cy, ana, "group", grant.Cells(5), at(110+i))
	}
	r.Read(cy, ana, "group", grant.Cells(5), at(120)) // the next hour
	r.Read(cy, ana, "group", grant.Cells(5), at(130))
	r.Read(cy, ana, "proximity", grant.Cells(5), at(131))
	r.Read(ana, ana, "group", grant.Exact, at(132)) // oneself
	r.Read(cy, gone, "group", grant.Exact, at(132))
	r.Stop()
	want = append([]string{
		"cy room group:x r7 13:30-15:20 1",
		"cy proximity r5 14:11-14:11 1",
		"cy group r5 14:00-14:10 2",
		"cy group r5 13:50-13:54 5",
	}, want...)
	for _, limit := range []int{1, 3, 100} {
		require.Equal(t, want, b.receipts(ana, name, limit), limit)
	}
	r = b.recorder()
	r.Read(cy, ana, "group", grant.Cells(5), at(121))
	r.Stop()
	require.Contains(t, b.receipts(ana, name, 10), "cy group r5 14:00-14:10 3")

	// Who is blocked, or has blocked, is not named.
	for _, pair := range [][2]core.UserID{{ana, cy}, {cy, ana}} {
		b.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, pair[0], pair[1])
		for _, limit := range []int{1, 100} {
			require.Equal(t, want[4:], b.receipts(ana, name, limit))
		}
		b.exec(`DELETE FROM blocks`)
	}
	require.Len(t, b.receipts(ana, name, 10), len(want))

	for _, bad := range []string{"x", "%", "e30x", strings.Repeat("A", 400)} {
		_, _, err := b.Receipts(t.Context(), ana, bad, 10)
		require.ErrorIs(t, err, core.ErrBadCursor, bad)
	}

	for _, ends := range []string{"0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"} { // somebody's own cursor
		page, _, err := b.Receipts(t.Context(), ana, base64.RawURLEncoding.EncodeToString([]byte(`{"l":"`+ends+`"}`)), 100)
		require.NoError(t, err)
		require.Equal(t, ends[0] == '9', len(page) > 0)
	}

	b.advance(keepReceipts + 4*time.Hour)
	require.NoError(t, b.Sweep(t.Context()))
	require.Empty(t, b.receipts(ana, name, 10))
	for _, table := range []string{`SELECT count(*) FROM location_told`, `SELECT count(*) FROM location_followed`, `SELECT count(*) FROM location_reads`} {
		require.Zero(t, b.number(table), table)
	}
}

func (b *bundle) number(sql string, args ...any) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, sql, args...).Scan(&n)
	}))
	return n
}

// What is written while a node stops, or by many at once, is all there.
func TestRecorderLosesNothing(t *testing.T) {
	b := setup(t)
	ana, readers := b.user(), []core.UserID{}
	for range 8 {
		readers = append(readers, b.user())
	}
	r := b.recorder()
	require.NoError(t, r.Start(t.Context()))
	var wg sync.WaitGroup
	for _, who := range readers {
		wg.Go(func() {
			for i := range 2000 {
				r.Read(who, ana, "group", grant.Exact, b.now.Add(time.Duration(i)*time.Hour))
				r.Saw("group:x", who, b.now.Add(time.Duration(i)*time.Minute), b.now.Add(time.Duration(i)*time.Minute))
			}
		})
	}
	wg.Wait()
	r.Stop()
	r.Stop()
	require.Equal(t, 16_000, b.number(`SELECT sum(reads) FROM location_reads`))
	require.Equal(t, 16_000, b.number(`SELECT count(*) FROM location_followed`))
}

func TestRecorderIsBounded(t *testing.T) {
	b := setup(t)
	metrics := prometheus.NewRegistry()
	r := NewRecorder(b.Store, slog.New(slog.DiscardHandler), metrics)
	ana, bo := b.user(), b.user()
	for i := range recordMost + 10 {
		r.Saw("group:x", bo, b.now.Add(time.Duration(i)*time.Second), b.now)
	}
	r.Saw("group:x", bo, b.now, b.now.Add(time.Hour)) // there already
	require.Equal(t, 10.0, testutil.ToFloat64(r.lost.WithLabelValues("followed")))
	r.Read(bo, ana, "group", grant.Exact, b.now)

	// A database that doesn't answer: what waits goes on waiting.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.write(ctx)
	require.Len(t, r.followed, recordMost)
	require.Len(t, r.reads, 1)
	r.Read(bo, ana, "group", grant.Exact, b.now)
	r.write(t.Context())
	require.Empty(t, r.followed)
	require.Equal(t, recordMost, b.number(`SELECT count(*) FROM location_followed`))
	require.Equal(t, 2, b.number(`SELECT sum(reads) FROM location_reads`))
}

func fixAt(t *testing.T, p geo.Point, captured time.Time) grant.Raw {
	raw, err := grant.NewRaw(p, 12.5, grant.Read(1.5), grant.Reading{}, grant.Read(0.5), captured)
	require.NoError(t, err)
	return raw
}

func TestTrack(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bo := b.user(), b.user()
	start := b.now.Add(-time.Hour)
	place := func(i int) geo.Point { return geo.Point{Lat: 45 + float64(i)/1000, Lng: -13.123456789} }
	keep := func(user core.UserID, from, n int) {
		r := b.recorder()
		for i := from; i < from+n; i++ {
			r.Keep(user, fixAt(t, place(i), start.Add(time.Duration(i)*time.Second)))
		}
		r.Stop()
	}
	track := func(user core.UserID) Track {
		tr, err := b.Track(ctx, user)
		require.NoError(t, err)
		return tr
	}
	keep(ana, 0, 3)
	require.Equal(t, Track{Days: trackDays}, track(ana), "off by default: nothing is kept")
	s, err := b.Sharing(ctx, ana, 0)
	require.NoError(t, err)
	require.False(t, s.Track)

	require.NoError(t, b.SetTrack(ctx, ana, true, 7))
	require.Equal(t, []string{fmt.Sprint("sharing ", ana, " 1")}, b.heard())
	s, err = b.Sharing(ctx, ana, 1)
	require.NoError(t, err)
	require.True(t, s.Track)
	keep(ana, 5, 5)
	keep(ana, 0, 6) // late ones, and one again
	keep(bo, 0, 3)
	require.Equal(t, Track{true, 7, 10, start, start.Add(9 * time.Second)}, track(ana))
	require.Zero(t, track(bo).Points)

	points, err := b.TrackPoints(ctx, ana, start.Add(2*time.Second), start.Add(6*time.Second), 100)
	require.NoError(t, err)
	require.Len(t, points, 3)
	require.Equal(t, grant.Own(fixAt(t, place(3), start.Add(3*time.Second))), points[0])

	// Sealed: the database has no position, and a row moved elsewhere is worthless.
	require.Zero(t, b.number(`SELECT count(*) FROM location_track WHERE position($1 IN sealed) > 0`, []byte{0x40, 0x46, 0x80})) // 45.0
	b.exec(`UPDATE location_track SET user_id = $2 WHERE user_id = $1 AND captured_at = $3`, ana, bo, start)
	_, err = b.TrackPoints(ctx, bo, time.Time{}, time.Time{}, 10)
	require.ErrorContains(t, err, "not sealed")
	b.exec(`DELETE FROM location_track WHERE user_id = $1`, bo)

	n, err := b.ClearTrack(ctx, ana, start.Add(8*time.Second), time.Time{})
	require.NoError(t, err)
	require.Equal(t, int64(2), n)
	n, err = b.ClearTrack(ctx, ana, time.Time{}, time.Time{})
	require.NoError(t, err)
	require.Equal(t, int64(7), n)
	keep(ana, 0, 3)
	require.Zero(t, track(ana).Points, "what was on its way then is deleted too")

	// Retention, and off.
	start = b.now
	keep(ana, 10, 10)
	require.NoError(t, b.SetTrack(ctx, ana, false, 0))
	keep(ana, 20, 10)
	require.Equal(t, 10, track(ana).Points)
	require.Equal(t, 7, track(ana).Days)
	b.advance(6 * 24 * time.Hour)
	require.NoError(t, b.Sweep(ctx))
	require.Equal(t, 10, track(ana).Points)
	b.advance(25 * time.Hour)
	require.NoError(t, b.Sweep(ctx))
	require.Equal(t, 0, track(ana).Points)
	require.ErrorIs(t, b.SetTrack(ctx, ana, true, 3651), ErrBadTrack)
	require.ErrorIs(t, b.SetTrack(ctx, ana, true, -1), ErrBadTrack)
}

// A track has one point of a second, the newest that any node has, and so many in
// all: then the oldest go.
func TestTrackIsBounded(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana := b.user()
	start := b.now.Add(-time.Hour)
	few, err := New(b.db, secret, Config{Now: b.clock, TrackPoints: 5})
	require.NoError(t, err)
	b.Store = few
	require.NoError(t, b.SetTrack(ctx, ana, true, 7))
	keep := func(at ...time.Duration) {
		r := b.recorder()
		for _, d := range at {
			r.Keep(ana, fixAt(t, geo.Point{Lat: 45}, start.Add(d)))
		}
		require.LessOrEqual(t, len(r.track), len(at))
		r.Stop()
	}
	has := func(want ...time.Duration) {
		t.Helper()
		points, err := b.TrackPoints(ctx, ana, time.Time{}, time.Time{}, 100)
		require.NoError(t, err)
		var got []time.Duration
		for _, p := range points {
			got = append(got, p.Captured.Sub(start))
		}
		require.Equal(t, want, got)
		tr, err := b.Track(ctx, ana)
		require.NoError(t, err)
		require.Equal(t, len(want), tr.Points)
	}
	const ms = time.Millisecond
	keep(100*ms, 900*ms, 500*ms, 1000*ms)
	has(900*ms, 1000*ms)
	keep(950*ms, 1000*ms)
	has(950*ms, 1000*ms)
	keep(200*ms, 1999*ms)
	has(950*ms, 1999*ms)
	keep(5000*ms, 4000*ms, 3000*ms)
	has(950*ms, 1999*ms, 3000*ms, 4000*ms, 5000*ms)
	keep(6000*ms, 7000*ms)
	has(3000*ms, 4000*ms, 5000*ms, 6000*ms, 7000*ms)
	keep(2000 * ms) // older than all when it is full
	has(3000*ms, 4000*ms, 5000*ms, 6000*ms, 7000*ms)
	n, err := b.ClearTrack(ctx, ana, time.Time{}, start.Add(4500*ms))
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	keep(8000 * ms)
	has(5000*ms, 6000*ms, 7000*ms, 8000*ms)
	b.advance(8 * 24 * time.Hour)
	require.NoError(t, b.Sweep(ctx))
	tr, err := b.Track(ctx, ana)
	require.NoError(t, err)
	require.Zero(t, tr.Points)
}

// What can't be written of one kind keeps nothing else from being written, and
// waits.
func TestOneKindThatFails(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bo := b.user(), b.user()
	require.NoError(t, b.SetTrack(ctx, ana, true, 7))
	r := b.recorder()
	r.Told("group:x", ana, grant.Exact, b.now, b.now)
	r.Saw("group:x", bo, b.now, b.now)
	r.Read(bo, ana, "group", grant.Exact, b.now)
	r.Keep(ana, fixAt(t, geo.Point{Lat: 45}, b.clock()))
	r.Remember(ana, []byte("sealed"), 0)
	b.exec(`ALTER TABLE location_told RENAME TO away`)
	b.exec(`ALTER TABLE location_reads RENAME TO away_too`)
	p := r.pending
	err := b.record(ctx, &p)
	require.ErrorContains(t, err, "who was told of")
	require.ErrorContains(t, err, "who read")
	require.Len(t, p.told, 1)
	require.Len(t, p.reads, 1)
	require.Empty(t, p.followed)
	require.Empty(t, p.memories)
	require.Empty(t, p.track)
	for _, table := range []string{"location_followed", "location_memories", "location_track"} {
		require.EqualValues(t, 1, b.number(`SELECT count(*) FROM `+table), table)
	}
	b.exec(`ALTER TABLE away RENAME TO location_told`)
	b.exec(`ALTER TABLE away_too RENAME TO location_reads`)
	r.Stop()
	require.EqualValues(t, 1, b.number(`SELECT count(*) FROM location_told`))
	require.EqualValues(t, 1, b.number(`SELECT count(*) FROM location_reads`))
}

// A user who is deleted leaves nothing behind.
func TestNothingStaysOfADeletedUser(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bo := b.user(), b.user()
	crew := b.group(bo, ana)
	for _, a := range []grant.Audience{person(bo), toGroup(crew), discoverable} {
		_, err := b.grant(ana, Draft{Audience: a, Precision: grant.Exact})
		require.NoError(t, err)
	}
	_, err := in(b, func(ctx context.Context, tx pgx.Tx) (Zone, error) {
		return b.AddZone(ctx, tx, ana, "home", grant.Zone{Center: geo.Point{Lat: 45}, Radius: 100, Precision: grant.Cells(7)})
	})
	require.NoError(t, err)
	_, err = b.link(ana, LinkDraft{Precision: grant.Exact})
	require.NoError(t, err)
	_, err = b.ask(bo, AskDraft{Asked: ana, Precision: grant.Exact})
	require.NoError(t, err)
	require.NoError(t, b.SetTrack(ctx, ana, true, 1))
	f, err := b.fence(ana, crew, FenceDraft{Name: "x", Shape: circle(100)})
	require.NoError(t, err)
	_, stored, err := b.Cross(ctx, crew.Room(), Crossing{ID: uuid.New(), Kind: Enter, Fence: f.ID, Name: "x", User: ana, At: b.now, Revision: 1, N: 1})
	require.NoError(t, err)
	require.True(t, stored)
	r := b.recorder()
	r.Told(crew.Room(), ana, grant.Exact, b.now, b.now)
	r.Saw(crew.Room(), ana, b.now, b.now)
	r.Read(bo, ana, "group", grant.Exact, b.now)
	r.Keep(ana, fixAt(t, geo.Point{Lat: 45}, b.clock()))
	r.Remember(ana, []byte("sealed"), 0)
	r.Stop()
	// location_followed is of whom others saw, too: core/privacy makes it nameless.
	tables := []string{
		`SELECT count(*) FROM location_sharing`, `SELECT count(*) FROM location_grants`, `SELECT count(*) FROM location_zones`,
		`SELECT count(*) FROM location_links`, `SELECT count(*) FROM location_asks`, `SELECT count(*) FROM location_track`, `SELECT count(*) FROM location_told`,
		`SELECT count(*) FROM location_reads`, `SELECT count(*) FROM fence_states`, `SELECT count(*) FROM fence_crossings`,
		`SELECT count(*) FROM location_memories`,
	}
	for _, q := range tables {
		require.NotZero(t, b.number(q), q)
	}
	b.exec(`DELETE FROM users WHERE id = $1`, ana)
	for _, q := range tables {
		require.Zero(t, b.number(q), q)
	}
	list, _, err := b.Fences(ctx, bo, crew)
	require.NoError(t, err)
	require.Len(t, list, 1, "the fence is the group's")
	require.Zero(t, list[0].CreatedBy)
	b.exec(`DELETE FROM groups WHERE id = $1`, crew)
	require.Zero(t, b.number(`SELECT count(*) FROM fences`))
}
