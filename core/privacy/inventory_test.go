package privacy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// column is one of the migrated schema.
type column struct {
	table, name, kind string
	person            bool // it refers to users
}

// schema reads the tables that migrations made, beside those of the migrations
// themselves.
func schema(t *testing.T, d *db.DB) (columns []column) {
	t.Helper()
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT c.table_name, c.column_name, c.data_type, EXISTS (
			   SELECT 1 FROM information_schema.key_column_usage k
			   JOIN information_schema.referential_constraints r ON r.constraint_schema = k.constraint_schema AND r.constraint_name = k.constraint_name
			   JOIN information_schema.table_constraints u ON u.constraint_schema = r.unique_constraint_schema AND u.constraint_name = r.unique_constraint_name
			   WHERE k.table_schema = c.table_schema AND k.table_name = c.table_name AND k.column_name = c.column_name AND u.table_name = 'users')
			 FROM information_schema.columns c
			 JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name AND t.table_type = 'BASE TABLE'
			 WHERE c.table_schema = 'public' AND c.table_name NOT LIKE 'goose%' ORDER BY c.table_name, c.ordinal_position`)
		if err != nil {
			return err
		}
		columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
			err = row.Scan(&c.table, &c.name, &c.kind, &c.person)
			return c, err
		})
		return err
	}))
	require.NotEmpty(t, columns)
	return columns
}

// tells is whether a column can hold an id or a text: the types that can't are
// named, so that a new type is looked at.
func (c column) tells() bool {
	return !slices.Contains([]string{"boolean", "smallint", "integer", "bigint", "double precision", "numeric", "real", "timestamp with time zone", "date"}, c.kind)
}

// unruled returns what the inventory lacks, or has too much of.
func unruled(columns []column, inventory []table) (problems []string) {
	rules := map[string]string{} // of "table.column"
	tables := map[string]bool{}
	for _, t := range inventory {
		if tables[t.name] {
			problems = append(problems, t.name+" is in the inventory twice")
		}
		tables[t.name] = true
		if (t.export == "") == (t.hidden == "") {
			problems = append(problems, t.name+": say what of it is exported, or why nothing is")
		}
		rule := func(what string, names []string) {
			for _, n := range names {
				key := t.name + "." + n
				if rules[key] != "" {
					problems = append(problems, key+" has two rules")
				}
				rules[key] = what
			}
		}
		for _, s := range t.steps {
			if (s.sql == "") == (s.by == "") || s.do != erase && s.do != anonymise {
				problems = append(problems, t.name+": a step has a statement, or says what does it")
			}
			rule("person", s.columns)
		}
		rule("row", t.rows)
		for why, names := range t.keep {
			if why == "" {
				problems = append(problems, t.name+": what is kept has a reason")
			}
			rule("keep", names)
		}
		if len(t.rows) > 0 && !slices.ContainsFunc(t.steps, func(s step) bool { return s.do == erase }) {
			problems = append(problems, t.name+": nothing erases its rows")
		}
	}
	for _, c := range columns {
		key := c.table + "." + c.name
		switch rule := rules[key]; {
		case !tables[c.table]:
			problems = append(problems, c.table+" is not in the inventory: what becomes of it when somebody deletes their profile?")
			tables[c.table] = true
		case c.tells() && rule == "":
			problems = append(problems, key+" ("+c.kind+") has no rule")
		case c.person && rule != "person":
			problems = append(problems, key+" refers to users, and no step takes care of it")
		}
		delete(rules, key)
	}
	for key := range rules {
		// A table may come with a later migration than this schema has, and go.
		problems = append(problems, key+" has a rule, and is not in the schema")
	}
	slices.Sort(problems)
	return problems
}

// Every table has a rule, and every column that could name a person. If this
// fails for a table of yours: add it to the inventory, and its traces to the test
// of the erasure.
func TestEveryColumnHasARule(t *testing.T) {
	require.Empty(t, unruled(schema(t, devdb.Test(t)), inventory))
}

// The test above would notice.
func TestMissingRulesAreNoticed(t *testing.T) {
	d := devdb.Test(t)
	for sql, want := range map[string]string{
		`CREATE TABLE pets (owner UUID REFERENCES users (id))`:                "pets is not in the inventory",
		`ALTER TABLE groups ADD COLUMN founder UUID REFERENCES users (id)`:    "groups.founder (uuid) has no rule",
		`ALTER TABLE groups ADD COLUMN motto TEXT`:                            "groups.motto (text) has no rule",
		`ALTER TABLE groups ADD COLUMN tags TEXT[]`:                           "groups.tags (ARRAY) has no rule",
		`ALTER TABLE fences ADD FOREIGN KEY (group_id) REFERENCES users (id)`: "fences.group_id refers to users",
		`ALTER TABLE location_zones DROP COLUMN name`:                         "location_zones.name has a rule, and is not in the schema",
	} {
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql)
			return err
		}))
		problems := unruled(schema(t, d), inventory)
		require.True(t, slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, want) }), "%s: %v", want, problems)
	}
}

// traces looks for texts in every column of every table, also inside of JSON and
// bytes, and returns where they are.
func traces(t *testing.T, d *db.DB, texts ...string) (found []string) {
	t.Helper()
	for _, c := range schema(t, d) {
		if !c.tells() {
			continue
		}
		require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
			value := pgx.Identifier{c.name}.Sanitize()
			as := "lower(" + value + "::TEXT)"
			if c.kind == "bytea" {
				as = "encode(" + value + ", 'hex')"
			}
			for _, text := range texts {
				needles := []string{strings.ToLower(text)}
				if c.kind == "bytea" { // as text, and as the bytes of an id
					needles = []string{fmt.Sprintf("%x", strings.ToLower(text)), fmt.Sprintf("%x", text), strings.ReplaceAll(strings.ToLower(text), "-", "")}
				} else if bare := strings.ReplaceAll(text, "-", ""); bare != text {
					needles = append(needles, strings.ToLower(bare))
				}
				for _, needle := range needles {
					var n int
					if err := q.QueryRow(ctx, `SELECT count(*) FROM `+pgx.Identifier{c.table}.Sanitize()+` WHERE strpos(`+as+`, $1) > 0`, needle).Scan(&n); err != nil {
						return fmt.Errorf("%s.%s: %w", c.table, c.name, err)
					}
					if n > 0 {
						found = append(found, c.table+"."+c.name)
					}
				}
			}
			return nil
		}))
	}
	slices.Sort(found)
	return slices.Compact(found)
}
