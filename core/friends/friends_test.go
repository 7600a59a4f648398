package friends

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
)

// parted remembers whom it was told of, and fails when it is asked to.
type parted struct {
	mu   sync.Mutex
	said []string
	err  error
}

func (p *parted) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, fmt.Sprintf(format, args...))
}

func (p *parted) Parted(_ context.Context, _ pgx.Tx, a, b core.UserID) error {
	p.say("parted %s %s", a, b)
	return p.err
}

func (p *parted) Tell(ctx context.Context, user core.UserID, others ...core.UserID) {
	p.say("tell %s %v %v", user, others, ctx.Err())
}

func addUser(t *testing.T, d *db.DB) core.UserID {
	id := core.UserID(uuid.New())
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, id.String())
		return err
	}))
	return id
}

func TestBlocks(t *testing.T) {
	d, p := devdb.Test(t), &parted{}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := New(d, Config{Sharing: p, Now: func() time.Time { now = now.Add(time.Second); return now }})
	ctx := t.Context()
	ana, bo, cy := addUser(t, d), addUser(t, d), addUser(t, d)
	hidden := func(u core.UserID) []core.UserID {
		ids, err := s.Hidden(ctx, u)
		require.NoError(t, err)
		return ids
	}
	require.Empty(t, hidden(ana))
	require.ErrorIs(t, s.Block(ctx, ana, ana), ErrSelf)
	require.ErrorIs(t, s.Block(ctx, ana, core.UserID(uuid.New())), ErrNoUser)
	require.NoError(t, s.Unblock(ctx, ana, bo))
	require.Empty(t, p.said)

	require.NoError(t, s.Block(ctx, ana, bo))
	told := []string{fmt.Sprintf("parted %s %s", ana, bo), fmt.Sprintf("tell %s [%s] <nil>", ana, bo), fmt.Sprintf("tell %s [] <nil>", bo)}
	require.Equal(t, told, p.said)
	require.NoError(t, s.Block(ctx, ana, bo), "again")
	require.Equal(t, told, p.said, "nothing changed")
	require.Equal(t, []core.UserID{bo}, hidden(ana))
	require.Equal(t, []core.UserID{ana}, hidden(bo), "both ways")
	require.NoError(t, s.Block(ctx, bo, ana))
	require.NoError(t, s.Block(ctx, cy, ana))
	require.ElementsMatch(t, []core.UserID{bo, cy}, hidden(ana))
	require.NoError(t, s.Unblock(ctx, ana, bo))
	require.Equal(t, []core.UserID{ana}, hidden(bo), "bo's own is still there")
	require.NoError(t, s.Unblock(ctx, bo, ana))
	require.Empty(t, hidden(bo))

	// Who made one sees it, who is meant by it does not.
	list, next, err := s.List(ctx, cy, "", 10)
	require.NoError(t, err)
	require.Empty(t, next)
	require.Equal(t, []core.UserID{ana}, []core.UserID{list[0].User})
	list, _, err = s.List(ctx, ana, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
	_, _, err = s.List(ctx, ana, "x", 10)
	require.ErrorIs(t, err, core.ErrBadCursor)

	// Block and what it means are one transaction.
	p.err = context.DeadlineExceeded
	require.ErrorIs(t, s.Block(ctx, ana, bo), p.err)
	require.Empty(t, hidden(bo))
	require.NoError(t, New(d, Config{}).Block(ctx, ana, bo))
}

func TestBlocksAreBounded(t *testing.T) {
	d := devdb.Test(t)
	s := New(d, Config{})
	ana, bo := addUser(t, d), addUser(t, d)
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `WITH n AS (INSERT INTO users (id, username, username_key, guest, home_region)
		   SELECT gen_random_uuid(), 'n' || i::TEXT, 'n' || i::TEXT, true, 'eu-west' FROM generate_series(1, $2::INT) AS i RETURNING id)
		 INSERT INTO blocks (blocker, blocked) SELECT $1, id FROM n`, ana, maxBlocks)
		return err
	}))
	require.ErrorIs(t, s.Block(t.Context(), ana, bo), ErrTooMany)
}
