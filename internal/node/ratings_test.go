package node

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/core/reports"
	"github.com/mustermesh/muster/core/users"
)

// One reports what one can see, whom one has blocked, and a talk that is over.
func TestWhatCanBeReported(t *testing.T) {
	d, ctx := devdb.Test(t), t.Context()
	in := func(fn func(ctx context.Context, tx pgx.Tx) error) {
		t.Helper()
		require.NoError(t, d.InTx(ctx, pgx.TxOptions{}, fn))
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		in(func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql, args...)
			return err
		})
	}
	user := func(name string) core.UserID {
		id := core.UserID(uuid.New())
		exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, name)
		return id
	}
	ana, bob, eve := user("ana"), user("bob"), user("eve")
	people := users.New(d, time.Now)
	blocks := friends.New(d, friends.Config{})
	cards, err := users.NewCards(people, users.CardsConfig{Hidden: blocks.Parted})
	require.NoError(t, err)
	talks := chat.NewConversations(d, chat.ConversationsConfig{Region: "eu-west"})
	messages := chat.New(d, chat.Config{})
	t.Cleanup(messages.Stop)
	rated := ratings.New(d, people, ratings.Config{})
	s := subjects{talks, messages, blocks, cards, rated}
	sees := func(viewer core.UserID, about reports.Subject, want core.UserID) map[string]any {
		t.Helper()
		seen, err := s.See(ctx, viewer, about)
		require.NoError(t, err)
		require.Equal(t, want, seen.User)
		return seen.Evidence
	}
	misses := func(viewer core.UserID, about reports.Subject) {
		t.Helper()
		_, err := s.See(ctx, viewer, about)
		require.ErrorIs(t, err, reports.ErrNoSubject)
	}

	group := core.GroupID(uuid.New())
	exec(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'crew', 'eu-west')`, group)
	exec(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'owner'), ($1, $3, 'member')`, group, ana, bob)
	m, _, err := messages.Store(ctx, chat.Draft{Room: group.Room(), Sender: bob, ClientID: "1", Body: "an insult"})
	require.NoError(t, err)
	one := reports.Subject{Room: group.Room(), Number: m.Number}
	require.Equal(t, "an insult", sees(ana, one, bob)["body"])
	require.Equal(t, "crew", sees(ana, reports.Subject{Room: group.Room()}, core.UserID{})["name"])
	misses(eve, one)
	misses(eve, reports.Subject{Room: group.Room()})
	misses(ana, reports.Subject{Room: group.Room(), Number: m.Number + 1})
	misses(ana, reports.Subject{Room: "nearby:x"})

	talk := uuid.New()
	room := "nearby:" + talk.String()
	in(func(ctx context.Context, tx pgx.Tx) error {
		return talks.Create(ctx, tx, room, []core.UserID{ana, bob}, "eu-west")
	})
	_, _, err = messages.Store(ctx, chat.Draft{Room: room, Sender: bob, ClientID: "2", Body: "another"})
	require.NoError(t, err)
	require.Equal(t, "bob", sees(ana, reports.Subject{Room: room}, bob)["username"])
	misses(eve, reports.Subject{Room: room})
	in(func(ctx context.Context, tx pgx.Tx) error {
		if err := rated.Opened(ctx, tx, ratings.Encounter{ID: talk, Kind: ratings.Nearby, People: []core.UserID{ana, bob}, At: time.Now()}); err != nil {
			return err
		}
		return talks.End(ctx, tx, room, bob)
	})
	require.Equal(t, "bob", sees(ana, reports.Subject{Room: room}, bob)["username"])

	// Whoever of the two blocks.
	require.NoError(t, blocks.Block(ctx, bob, ana))
	require.Equal(t, "another", sees(ana, reports.Subject{Room: room, Number: 1}, bob)["body"])
	require.Equal(t, "bob", sees(ana, reports.Subject{Room: room}, bob)["username"])
	misses(eve, reports.Subject{Room: room})
	misses(ana, reports.Subject{User: bob})
	require.Equal(t, "ana", sees(bob, reports.Subject{User: ana}, ana)["username"])
	require.Equal(t, "bob", sees(eve, reports.Subject{User: bob}, bob)["username"])
	misses(ana, reports.Subject{User: core.UserID(uuid.New())})
}
