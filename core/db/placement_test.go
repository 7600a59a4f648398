package db_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// What says where a row is at home, for tables in which no foreign key does:
// of a row called t.
const (
	ofUser  = `(SELECT u.home_region FROM users u WHERE u.id = t.%s)`
	ofGroup = `(SELECT g.home_region FROM groups g WHERE g.id = t.%s)`
	// Rooms are named by what they are of.
	ofRoom = `(SELECT g.home_region FROM groups g WHERE 'group:' || CAST(g.id AS TEXT) = t.%s)`
	// Events of the outbox are of a user's or a group's.
	ofKey = `COALESCE((SELECT g.home_region FROM groups g WHERE 'group:' || CAST(g.id AS TEXT) = t.%[1]s),
		(SELECT u.home_region FROM users u WHERE 'user:' || CAST(u.id AS TEXT) = t.%[1]s))`
	everywhere = "" // the deployment's: no user or group owns it
)

// homes are those tables. A new one that neither has a column home_region, nor
// refers by a NOT NULL column to a table with an answer, needs a row here.
var homes = map[string]string{
	"rooms":    fmt.Sprintf(ofRoom, "room"),
	"messages": fmt.Sprintf(ofRoom, "room"),

	"message_edits":       fmt.Sprintf(ofRoom, "room"),
	"message_attachments": fmt.Sprintf(ofRoom, "room"),
	"message_mentions":    fmt.Sprintf(ofRoom, "room"), // not of who is mentioned
	"message_reactions":   fmt.Sprintf(ofRoom, "room"),

	"location_followed":  fmt.Sprintf(ofUser, "viewer"),
	"idempotency_keys":   fmt.Sprintf(ofUser, "user_id"),
	"idempotent_answers": fmt.Sprintf(ofUser, "user_id"), // none: of somebody who has no account yet
	"jobs":               fmt.Sprintf(ofUser, "user_id"), // none: about nobody
	"objects":            fmt.Sprintf(ofUser, "user_id"), // none: they are gone, and it goes, too
	"webhooks":           "COALESCE(" + fmt.Sprintf(ofUser, "user_id") + ", " + fmt.Sprintf(ofGroup, "group_id") + ")",
	"reports":            fmt.Sprintf(ofUser, "subject"), // none: about a room of many
	"outbox_keys":        fmt.Sprintf(ofKey, "key"),
	"outbox":             fmt.Sprintf(ofKey, "key"),
	"outbox_claims":      fmt.Sprintf(ofKey, "key"),

	"expenses":            fmt.Sprintf(ofGroup, "group_id"),
	"expense_wallets":     fmt.Sprintf(ofGroup, "group_id"),
	"payments":            fmt.Sprintf(ofUser, "user_id"), // who pays; what is of a payment follows it
	"payment_customers":   fmt.Sprintf(ofUser, "user_id"), // none: they are gone, and it goes, too
	"ledger_books":        fmt.Sprintf(ofKey, "book"),
	"ledger_transactions": fmt.Sprintf(ofKey, "book"),
	"ledger_postings":     fmt.Sprintf(ofKey, "book"),
	"ledger_debts":        fmt.Sprintf(ofKey, "book"),

	"encounters":    everywhere, // its people are beside it
	"google_states": everywhere, // minutes old, of somebody who is not known yet
	"mails":         everywhere, // to addresses that may be nobody's
	"notify_bulks":  everywhere, // to many
	"notify_keys":   everywhere,
	"signing_keys":  everywhere,
	"job_periods":   everywhere,
	"outbox_sinks":  everywhere,

	"plans":       everywhere, // read by all, changed by hand
	"plan_prices": everywhere,

	"goose_db_version": everywhere,
	"goose_lock":       everywhere,
}

// reference is a NOT NULL column that refers to a row of another table.
type reference struct{ table, column, other, key string }

func references(t *testing.T, d *db.DB) (tables []string, own map[string]bool, refs []reference) {
	own = map[string]bool{}
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT t.table_name, EXISTS (SELECT 1 FROM information_schema.columns c
				WHERE c.table_schema = t.table_schema AND c.table_name = t.table_name AND c.column_name = 'home_region' AND c.is_nullable = 'NO')
			FROM information_schema.tables t WHERE t.table_schema = 'public' AND t.table_type = 'BASE TABLE' ORDER BY t.table_name`)
		if err != nil {
			return err
		}
		var name string
		var has bool
		if _, err = pgx.ForEachRow(rows, []any{&name, &has}, func() error {
			tables, own[name] = append(tables, name), has
			return nil
		}); err != nil {
			return err
		}
		rows, err = q.Query(ctx, `SELECT mine.relname, a.attname, theirs.relname, b.attname
			FROM pg_catalog.pg_constraint c
			JOIN pg_catalog.pg_class mine ON mine.oid = c.conrelid
			JOIN pg_catalog.pg_class theirs ON theirs.oid = c.confrelid
			JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
			JOIN pg_catalog.pg_attribute b ON b.attrelid = c.confrelid AND b.attnum = c.confkey[1]
			WHERE c.contype = 'f' AND array_length(c.conkey, 1) = 1 AND a.attnotnull
			ORDER BY mine.relname, a.attname, theirs.relname`)
		if err != nil {
			return err
		}
		refs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r reference, err error) {
			return r, row.Scan(&r.table, &r.column, &r.other, &r.key)
		})
		return err
	}))
	return tables, own, refs
}

// placed returns, per table, SQL for the home region of its row t. What is a
// group's follows the group, also where a member made it.
func placed(tables []string, own map[string]bool, refs []reference) map[string]string {
	at := map[string]string{}
	for _, table := range tables {
		if own[table] {
			at[table] = "t.home_region"
		} else if sql, ok := homes[table]; ok {
			at[table] = sql
		}
	}
	for grew := true; grew; {
		grew = false
		for _, last := range []bool{false, true} { // to groups first
			for _, r := range refs {
				above, known := at[r.other]
				if _, done := at[r.table]; done || !known || above == everywhere || r.other == r.table || !last && r.other != "groups" {
					continue
				}
				at[r.table] = fmt.Sprintf(`(SELECT x.home FROM (SELECT t.%s AS id, %s AS home FROM %s AS t) AS x WHERE x.id = t.%s)`, r.key, above, r.other, r.column)
				grew = true
			}
		}
	}
	return at
}

// Every row of a user's or a group's knows in which region it is at home: by a
// column, or through its owner.
func TestEveryTableKnowsItsHome(t *testing.T) {
	d := devdb.Test(t)
	tables, own, refs := references(t, d)
	at := placed(tables, own, refs)
	for _, table := range tables {
		sql, ok := at[table]
		if !ok {
			t.Errorf("nothing says where rows of %s are at home: give it a NOT NULL reference to its owner, or a row in homes", table)
			continue
		}
		if sql == everywhere {
			continue
		}
		require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
			_, err := q.Exec(ctx, `SELECT `+sql+` FROM `+table+` AS t`)
			return err
		}), "%s: %s", table, sql)
	}
	for table := range homes {
		if !slices.Contains(tables, table) {
			t.Errorf("homes has %s, which is no table", table)
		}
	}
}

// Rows of different owners, looked up by those answers.
func TestHomesOfRows(t *testing.T) {
	d := devdb.Test(t)
	tables, own, refs := references(t, d)
	at := placed(tables, own, refs)
	ana, ben, group, login := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	write := func(sql string, args ...any) {
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql, args...)
			return err
		}))
	}
	for id, region := range map[uuid.UUID]string{ana: "eu-west", ben: "ap-south"} {
		write(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, $3)`, id, id.String(), region)
	}
	write(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'walkers', 'us-east')`, group)
	write(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'owner')`, group, ana)
	write(`INSERT INTO logins (id, user_id) VALUES ($1, $2)`, login, ben)
	write(`INSERT INTO refresh_tokens (hash, login_id, expires_at) VALUES ('x', $1, now())`, login)
	write(`INSERT INTO rooms (room, last_number) VALUES ($1, 1)`, "group:"+group.String())
	write(`INSERT INTO messages (room, number, id, sender, client_id, body, sent_at) VALUES ($1, 1, $2, $3, 'c', 'hi', now())`, "group:"+group.String(), uuid.New(), ben)
	write(`INSERT INTO friends (user_id, friend_id) VALUES ($1, $2)`, ben, ana)
	write(`INSERT INTO fences (id, group_id, name, shape) VALUES ($1, $2, 'park', '{}')`, uuid.New(), group)
	for table, want := range map[string]string{
		"groups": "us-east", "group_members": "us-east", "fences": "us-east", "rooms": "us-east", "messages": "us-east",
		"logins": "ap-south", "refresh_tokens": "ap-south",
	} {
		var home string
		require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
			return q.QueryRow(ctx, `SELECT `+at[table]+` FROM `+table+` AS t`).Scan(&home)
		}), table)
		require.Equal(t, want, home, table)
	}
}
