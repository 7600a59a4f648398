package db_test

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// All nodes of a new mesh start at once.
func TestMigrateAtOnce(t *testing.T) {
	for range 3 {
		url := devdb.EmptyURL(t)
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() { require.NoError(t, db.Migrate(t.Context(), url)) })
		}
		wg.Wait()
		d := devdb.Connect(t, url, db.Config{})
		require.Equal(t, 0, number(t, d, `SELECT count(*) FROM users`))
	}
}

// A migration that was cut off anywhere is run again from its beginning.
func TestMigrationsRepeat(t *testing.T) {
	url := devdb.TestURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `DELETE FROM goose_db_version WHERE version_id > 0`)
	require.NoError(t, err)
	require.NoError(t, db.Migrate(t.Context(), url))
}

func TestCheckSchema(t *testing.T) {
	url := devdb.EmptyURL(t)
	d := devdb.Connect(t, url, db.Config{})
	require.ErrorContains(t, d.CheckSchema(t.Context()), "run `muster migrate`")
	require.NoError(t, db.Migrate(t.Context(), url))
	require.NoError(t, d.CheckSchema(t.Context()))
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), `DELETE FROM goose_db_version WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
	require.NoError(t, err)
	require.ErrorContains(t, d.CheckSchema(t.Context()), "run `muster migrate`", "a version behind")
	_, err = conn.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`)
	require.NoError(t, err)
	require.NoError(t, d.CheckSchema(t.Context()), "a version ahead")
}

func TestMigrationsSayNoTransaction(t *testing.T) {
	files, err := fs.Glob(os.DirFS("migrations"), "*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile("migrations/" + file)
		require.NoError(t, err)
		require.Contains(t, string(text), "-- +goose NO TRANSACTION", file)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "CREATE") {
				require.Contains(t, line, "IF NOT EXISTS", file)
			}
		}
	}
}

func TestSchemaHolds(t *testing.T) {
	d := devdb.Test(t)
	const (
		ada   = "00000000-0000-4000-8000-00000000000a"
		bob   = "00000000-0000-4000-8000-00000000000b"
		group = "00000000-0000-4000-8000-0000000000f0"
		user  = `INSERT INTO users (id, username, username_key, email, email_key, home_region) VALUES ($1, $2, $2, $3, $3, 'eu-west')`
	)
	require.NoError(t, exec(t.Context(), d, user, ada, "ada", nil))
	require.True(t, db.Violates(exec(t.Context(), d, user, bob, "ada", nil), "users_username_unique"))
	require.NoError(t, exec(t.Context(), d, user, bob, "bob", nil), "two accounts without mail")
	require.NoError(t, exec(t.Context(), d, `UPDATE users SET email_key = 'x@example.org' WHERE id = $1`, ada))
	require.True(t, db.Violates(exec(t.Context(), d, `UPDATE users SET email_key = 'x@example.org' WHERE id = $1`, bob), "users_email_unique"))

	require.NoError(t, exec(t.Context(), d, `INSERT INTO groups (id, name, home_region) VALUES ($1, 'g', 'eu-west')`, group))
	member := `INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, $3)`
	require.NoError(t, exec(t.Context(), d, member, group, ada, "owner"))
	require.ErrorContains(t, exec(t.Context(), d, member, group, bob, "god"), "group_members_role")
	require.True(t, db.Violates(exec(t.Context(), d, member, group, ada, "member"), "group_members_pkey"))

	message := `INSERT INTO messages (room, number, id, sender, client_id, body, sent_at) VALUES ('group:x', $1, gen_random_uuid(), $2, $3, 'hi', now())`
	require.NoError(t, exec(t.Context(), d, message, 1, ada, "a"))
	require.True(t, db.Violates(exec(t.Context(), d, message, 1, ada, "b"), "messages_pkey"))
	require.True(t, db.Violates(exec(t.Context(), d, message, 2, ada, "a"), "messages_client_id_unique"))
	require.NoError(t, exec(t.Context(), d, message, 2, bob, "a"))

	var version int64
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT version FROM groups WHERE id = $1`, group).Scan(&version)
	}))
	require.Equal(t, int64(1), version)
}
