package reports

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// world is what can be seen, and what was reported of it.
type world struct {
	*Store
	t    *testing.T
	db   *db.DB
	time time.Time
	seen map[Subject]Seen // what is not in it nobody sees
}

func (w *world) See(_ context.Context, _ core.UserID, s Subject) (Seen, error) {
	if seen, ok := w.seen[s]; ok {
		return seen, nil
	}
	return Seen{}, ErrNoSubject
}

func setup(t *testing.T) *world {
	w := &world{t: t, db: devdb.Test(t), time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), seen: map[Subject]Seen{}}
	var err error
	w.Store, err = New(w.db, secret, w, Config{Now: func() time.Time { return w.time }})
	require.NoError(t, err)
	return w
}

func (w *world) user(name string) core.UserID {
	w.t.Helper()
	id := core.UserID(uuid.New())
	require.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $3, true, 'eu-west')`, id, name, strings.ToLower(name))
		return err
	}))
	return id
}

func (w *world) list(state State) []Report {
	w.t.Helper()
	list, err := w.List(w.t.Context(), state, 100)
	require.NoError(w.t, err)
	return list
}

func TestReports(t *testing.T) {
	w, ctx := setup(t), t.Context()
	ana, bob := w.user("Ana"), w.user("Bob")
	message := Subject{Room: "group:x", Number: 7}
	w.seen[message] = Seen{User: bob, Evidence: map[string]any{"body": "an insult"}}
	w.seen[Subject{Room: "group:x"}] = Seen{}
	w.seen[Subject{User: bob}] = Seen{User: bob}

	for _, c := range []struct {
		about        Subject
		reason, text string
		err          error
	}{
		{message, "dislike", "", ErrBadReport},
		{message, "hate", strings.Repeat("x", maxText+1), ErrBadReport},
		{Subject{}, "hate", "", ErrBadReport},
		{Subject{Number: 1, User: bob}, "hate", "", ErrBadReport},
		{Subject{Room: "group:x", User: bob}, "hate", "", ErrBadReport},
		{Subject{User: ana}, "hate", "", ErrSelf},
		{Subject{Room: "group:y"}, "hate", "", ErrNoSubject},
	} {
		_, err := w.File(ctx, ana, c.about, c.reason, c.text)
		require.ErrorIs(t, err, c.err)
	}
	_, err := w.File(ctx, bob, message, "other", "")
	require.ErrorIs(t, err, ErrSelf, "one's own message")

	// Once while it is open, however often at once.
	ids := map[uuid.UUID]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			id, err := w.File(ctx, ana, message, "hate", "look")
			for errors.Is(err, db.ErrContended) {
				id, err = w.File(ctx, ana, message, "hate", "look")
			}
			assert.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			ids[id] = true
		})
	}
	wg.Wait()
	require.Len(t, ids, 1)
	w.time = w.time.Add(time.Minute)
	for _, about := range []Subject{{Room: "group:x"}, {User: bob}} {
		id, err := w.File(ctx, ana, about, "spam", "")
		require.NoError(t, err)
		again, err := w.File(ctx, ana, about, "hate", "")
		require.NoError(t, err)
		require.Equal(t, id, again)
	}

	// It shows what was there then, also after it was deleted, to who has the secret.
	delete(w.seen, message)
	open := w.list(Open)
	require.Len(t, open, 3)
	require.Equal(t, "group:x", open[0].Room)
	require.EqualValues(t, 7, open[0].Number)
	require.Equal(t, uuid.UUID(bob), *open[0].Subject)
	require.Equal(t, uuid.UUID(ana), *open[0].Reporter)
	require.JSONEq(t, `{"body":"an insult"}`, string(open[0].Evidence))
	var sealed []byte
	require.NoError(t, w.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT evidence FROM reports WHERE id = $1`, open[0].ID).Scan(&sealed)
	}))
	require.NotContains(t, string(sealed), "insult")
	other, err := New(w.db, []byte(strings.Repeat("x", 32)), w, Config{})
	require.NoError(t, err)
	list, err := other.List(ctx, Open, 1)
	require.NoError(t, err)
	require.JSONEq(t, `{"unreadable":true}`, string(list[0].Evidence))

	_, err = w.Close(ctx, open[0].ID, "")
	require.ErrorContains(t, err, "what became of it")
	for _, want := range []bool{true, false} {
		was, err := w.Close(ctx, open[0].ID, "warned")
		require.NoError(t, err)
		require.Equal(t, want, was)
	}
	require.Len(t, w.list(Open), 2)
	require.Equal(t, "warned", w.list(Closed)[0].Outcome)
	require.Len(t, w.list(All), 3)
	w.seen[message] = Seen{User: bob}
	_, err = w.File(ctx, ana, message, "hate", "")
	require.NoError(t, err, "another one")
	require.Len(t, w.list(Open), 3)

	w.time = w.time.Add(keepClosed + time.Hour)
	require.NoError(t, w.Sweep(ctx))
	require.Len(t, w.list(All), 3)
	require.Empty(t, w.list(Closed))
}

func TestReportsAreBounded(t *testing.T) {
	w, ctx := setup(t), t.Context()
	ana := w.user("Ana")
	for i := range maxDaily + 1 {
		about := Subject{User: w.user(fmt.Sprintf("Bo %d", i))}
		w.seen[about] = Seen{User: about.User}
		_, err := w.File(ctx, ana, about, "spam", "")
		if i < maxDaily {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrRate)
		w.time = w.time.Add(25 * time.Hour)
		_, err = w.File(ctx, ana, about, "spam", "")
		require.NoError(t, err)
	}
}
