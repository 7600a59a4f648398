package chat

import (
	"context"
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

// overtaken is a shelf that gives each upload to one message, as core/attachments does,
// and before it does so for the first time lets something else happen.
type overtaken struct {
	shelf
	once sync.Once
	by   func()
}

func (s *overtaken) Attach(ctx context.Context, tx pgx.Tx, by core.UserID, room string, ids []uuid.UUID) ([]Attachment, error) {
	s.once.Do(func() { s.by() })
	tag, err := tx.Exec(ctx, `INSERT INTO shelf (id) SELECT u FROM unnest($1::UUID[]) AS u ON CONFLICT DO NOTHING`, ids)
	if err == nil && tag.RowsAffected() != int64(len(ids)) {
		err = errNoUpload
	}
	if err != nil {
		return nil, err
	}
	return s.shelf.Attach(ctx, tx, by, room, ids)
}

// A message with files that is sent again, while the first attempt is under way, gets
// the answer of that, and takes no other files.
func TestRichOvertaken(t *testing.T) {
	d := devdb.Test(t)
	ada := accounts(t, d, 1)[0]
	ctx := t.Context()
	require.NoError(t, d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE shelf (id UUID PRIMARY KEY)`)
		return err
	}))
	for name, same := range map[string]bool{"the same file": true, "another file": false} {
		t.Run(name, func(t *testing.T) {
			one, other := uuid.New(), uuid.New()
			if same {
				other = one
			}
			draft := Draft{Room: "group:" + uuid.NewString(), Sender: ada, ClientID: "c", Attachments: []uuid.UUID{one}}
			files := &overtaken{}
			c := New(d, Config{Attachments: files})
			t.Cleanup(c.Stop)
			var first Message
			files.by = func() {
				inner := New(d, Config{Attachments: &overtaken{by: func() {}}}) // another node
				defer inner.Stop()
				m, stored, err := inner.Store(ctx, draft)
				require.NoError(t, err)
				require.True(t, stored)
				first = m
			}
			again := draft
			again.Attachments = []uuid.UUID{other}
			m, stored, err := c.Store(ctx, again)
			require.NoError(t, err)
			require.False(t, stored)
			require.Equal(t, first.ID, m.ID)
			require.Equal(t, first.Attachments, m.Attachments)
			var given int
			require.NoError(t, d.Read(ctx, func(ctx context.Context, q db.Querier) error {
				return q.QueryRow(ctx, `SELECT count(*) FROM shelf WHERE id = ANY($1)`, []uuid.UUID{one, other}).Scan(&given)
			}))
			require.Equal(t, 1, given, "files of the one message, and no others")
		})
	}
}

// What a sender deleted for themself is still there for the others, to whom a message
// that is sent again is told again.
func TestHiddenSentAgain(t *testing.T) {
	d := devdb.Test(t)
	ada := accounts(t, d, 1)[0]
	c := New(d, Config{Attachments: &shelf{}})
	t.Cleanup(c.Stop)
	ctx, room := t.Context(), "group:"+uuid.NewString()
	rich := Draft{Room: room, Sender: ada, ClientID: "rich", Body: "look", Attachments: []uuid.UUID{uuid.New()}}
	plain := Draft{Room: room, Sender: ada, ClientID: "plain", Body: "hear"}
	for _, draft := range []Draft{rich, plain} {
		m, _, err := c.Store(ctx, draft)
		require.NoError(t, err)
		_, err = c.React(ctx, Actor{User: ada}, room, m.Number, "👍", true)
		require.NoError(t, err)
		require.NoError(t, c.Hide(ctx, ada, room, m.Number))
		again, stored, err := c.Store(ctx, draft)
		require.NoError(t, err)
		require.False(t, stored)
		require.False(t, again.Wire().Deleted, draft.ClientID)
		require.Equal(t, draft.Body, again.Body)
	}
}

// Of two between whom there is a block, neither is told that the other one mentions
// them, in a group that both are in.
func TestNoMentionOverABlock(t *testing.T) {
	d := devdb.Test(t)
	people := accounts(t, d, 3)
	ada, bob, eve := people[0], people[1], people[2]
	notices := &told{}
	c := New(d, Config{Notify: notices, Audience: everybody()})
	t.Cleanup(c.Stop)
	ctx, room := t.Context(), "group:"+uuid.NewString()
	require.NoError(t, d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO blocks (blocker, blocked, created_at) VALUES ($1, $2, $3)`, bob, ada, time.Now())
		return err
	}))
	for _, by := range []core.UserID{ada, bob} {
		var others []uuid.UUID
		var mentions []core.UserID
		for _, u := range people {
			if u != by {
				others, mentions = append(others, uuid.UUID(u)), append(mentions, u)
			}
		}
		m, _, err := c.Store(ctx, Draft{Room: room, Sender: by, ClientID: by.String(), Body: "you", Mentions: mentions})
		require.NoError(t, err)
		require.NoError(t, c.tellMissed(ctx, missed{Room: room, Number: m.Number, Users: others}))
	}
	require.Equal(t, []string{eve.String() + " mention", eve.String() + " mention"}, notices.list)
}
