package chat

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// A message that was sent by somebody in the room and would be stored after they left,
// were removed or blocked, or the conversation ended, is not; others of its batch are.
func TestWhoLeftWritesNoMore(t *testing.T) {
	b := setupTalks(t)
	ctx := t.Context()
	ana, bo, cy := b.person("ana"), b.person("bo"), b.person("cy")
	group := b.group(ana, bo)
	b.friends(ana, bo)
	b.friends(ana, cy)
	talk, err := b.Open(ctx, ana, bo)
	require.NoError(t, err)
	ended, err := b.Open(ctx, ana, cy)
	require.NoError(t, err)
	c := New(b.db, Config{Members: true, Audience: b.Audience})
	t.Cleanup(c.Stop)
	draft := func(room string, by core.UserID, mentions ...core.UserID) *pending {
		return &pending{id: uuid.New(), ctx: ctx, Draft: Draft{Room: room, Sender: by, ClientID: uuid.NewString(), Body: "x", Mentions: mentions}}
	}
	send := func(room string, by core.UserID, mentions ...core.UserID) error {
		_, _, err := c.Store(ctx, draft(room, by, mentions...).Draft)
		return err
	}
	for _, room := range []string{group.Room(), talk.Room} {
		require.NoError(t, send(room, bo))
		require.NoError(t, send(room, bo, ana), "one that is more than a row")
		require.ErrorIs(t, send(room, cy), ErrNotMember)
		require.ErrorIs(t, send(room, cy, ana), ErrNotMember)
		batch := []*pending{draft(room, ana), draft(room, cy), draft(room, bo), draft(room, bo)}
		batch[3].ReplyTo = 99
		answers, err := c.commit(room, batch)
		require.NoError(t, err)
		require.Equal(t, []uint64{3, 0, 4, 0}, []uint64{answers[0].message.Number, answers[1].message.Number, answers[2].message.Number, answers[3].message.Number})
		require.ErrorIs(t, answers[1].err, ErrNotMember)
		require.ErrorIs(t, answers[3].err, ErrNoReplyTo)
	}
	b.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, ana, bo)
	require.ErrorIs(t, send(talk.Room, bo), ErrNotMember)
	require.ErrorIs(t, send(talk.Room, ana), ErrNotMember)
	require.NoError(t, send(group.Room(), bo), "messages in groups stay: ADR 98")
	b.exec(`DELETE FROM blocks WHERE blocker = $1`, ana)
	require.NoError(t, b.Leave(ctx, cy, ended.Room))
	require.ErrorIs(t, send(ended.Room, ana), ErrNotMember)

	// While the one who writes goes: the message is there before, or never.
	for _, x := range []struct {
		room string
		sql  string
		arg  any
	}{
		{group.Room(), `DELETE FROM group_members WHERE user_id = $1`, bo},
		{talk.Room, `UPDATE conversations SET version = version + 1, ended_at = now() WHERE room = $1`, talk.Room},
	} {
		answer := make(chan error, 1)
		require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, x.sql, x.arg); err != nil {
				return err
			}
			go func() { answer <- send(x.room, bo) }() // begins before the commit, and waits for it
			select {
			case err := <-answer:
				t.Error("it didn't wait", err)
			case <-time.After(100 * time.Millisecond):
			}
			return nil
		}))
		require.ErrorIs(t, <-answer, ErrNotMember)
	}
}

// Who left, was removed or blocked, or whose conversation ended, does not edit, react or
// pin any more, also if they were about to.
func TestWhoLeftRevisesNoMore(t *testing.T) {
	b := setupTalks(t)
	ctx := t.Context()
	ana, bo, cy := b.person("ana"), b.person("bo"), b.person("cy")
	group := b.group(ana, bo)
	b.friends(ana, bo)
	talk, err := b.Open(ctx, ana, bo)
	require.NoError(t, err)
	c := New(b.db, Config{Members: true, Audience: b.Audience})
	t.Cleanup(c.Stop)
	edit := func(room string, by core.UserID) error {
		_, err := c.Edit(ctx, Actor{User: by}, room, 1, uuid.NewString(), nil, nil)
		return err
	}
	all := func(room string, by core.UserID) (errs []error) {
		_, react := c.React(ctx, Actor{User: by}, room, 1, "👍", true)
		_, pin := c.Pin(ctx, Actor{User: by}, room, 1, true)
		return []error{edit(room, by), react, pin}
	}
	for _, room := range []string{group.Room(), talk.Room} {
		_, _, err := c.Store(ctx, Draft{Room: room, Sender: bo, ClientID: "1", Body: "x"})
		require.NoError(t, err)
		for i := range 3 {
			require.NoError(t, all(room, bo)[i])
			require.ErrorIs(t, all(room, cy)[i], ErrNotMember)
		}
	}
	b.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, ana, bo)
	for i := range 3 {
		require.ErrorIs(t, all(talk.Room, bo)[i], ErrNotMember)
		require.NoError(t, all(group.Room(), bo)[i], "messages in groups stay: ADR 98")
	}
	b.exec(`DELETE FROM blocks WHERE blocker = $1`, ana)

	for _, x := range []struct {
		room string
		sql  string
		arg  any
	}{
		{group.Room(), `DELETE FROM group_members WHERE user_id = $1`, bo},
		{talk.Room, `UPDATE conversations SET version = version + 1, ended_at = now() WHERE room = $1`, talk.Room},
	} {
		answer := make(chan error, 1)
		require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, x.sql, x.arg); err != nil {
				return err
			}
			go func() { answer <- edit(x.room, bo) }() // begins before the commit, and waits for it
			select {
			case err := <-answer:
				t.Error("it didn't wait", err)
			case <-time.After(100 * time.Millisecond):
			}
			return nil
		}))
		require.ErrorIs(t, <-answer, ErrNotMember)
		_, err := c.Delete(ctx, Actor{User: bo}, x.room, 1)
		require.NoError(t, err, "what one said is deleted after that, too: who may is the caller's business")
	}
}
