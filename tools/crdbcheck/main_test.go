package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommonLanguage(t *testing.T) {
	for _, sql := range []string{
		`SELECT a, count(*) FILTER (WHERE b > 1) FROM t GROUP BY a`,
		`INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b RETURNING a`,
		`SELECT j.id FROM jobs AS j WHERE j.run_at < now() ORDER BY j.run_at LIMIT $1 FOR UPDATE SKIP LOCKED`,
		`WITH gone AS (DELETE FROM t WHERE a = $1 RETURNING b) SELECT b FROM gone`,
		`UPDATE t SET at = now() + $2 * INTERVAL '1 second' WHERE id = ANY($1::UUID[])`,
		`SELECT d.a FROM unnest($1::UUID[], $2::TEXT[]) AS d (a, b) JOIN t AS t ON t.a = d.a AND t.b = d.b`,
		`SELECT s.settings ->> 'xmax/ctid' FROM s WHERE s.settings @> '{"listen": true}'`,
		`CREATE TABLE IF NOT EXISTS t (id UUID PRIMARY KEY, j JSONB NOT NULL DEFAULT '{}', CONSTRAINT c CHECK (id IS NOT NULL))`,
		`CREATE UNIQUE INDEX IF NOT EXISTS i ON t (a) WHERE b IS NOT NULL; -- a/b is a comment`,
	} {
		if problems := check(sql); len(problems) > 0 {
			t.Errorf("%s\n\t%s", sql, strings.Join(problems, "\n\t"))
		}
	}
}

func TestRefused(t *testing.T) {
	for sql, want := range map[string]string{
		`SELEC 1`:      "doesn't parse",
		`LISTEN jobs`:  "",
		`NOTIFY jobs`:  "",
		`LOCK TABLE t`: "doesn't parse",
		`CREATE TABLE t (a INT UNIQUE DEFERRABLE)`:                   "doesn't parse",
		`SELECT make_interval(secs => 5)`:                            "doesn't parse",
		`MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE`: "doesn't parse",
		`CREATE TABLE t (r INT, EXCLUDE USING gist (r WITH =))`:      "doesn't parse",
		`DO $$ BEGIN END $$`:                                         "",
		`SELECT pg_notify('jobs', '')`:                               "NOTIFY",
		`SELECT pg_advisory_xact_lock(1)`:                            "advisory",
		`SELECT pg_try_advisory_lock($1)`:                            "advisory",
		`SELECT xmax = 0 FROM t`:                                     "system column",
		`SELECT t."ctid" FROM t`:                                     "system column",
		`SELECT tstzrange(a, b) FROM t`:                              "range types",
		`SELECT a / 2 FROM t`:                                        "division",
		`SELECT a // 2 FROM t`:                                       "//",
		`SELECT * FROM t`:                                            "name the columns",
		`SELECT t.* FROM t`:                                          "name the columns",
		`DELETE FROM t WHERE a = 1 RETURNING *`:                      "name the columns",
		`CREATE TABLE t (id BIGSERIAL PRIMARY KEY)`:                  "sequences",
		`CREATE TABLE t (id SERIAL8 PRIMARY KEY)`:                    "sequences",
		`SELECT nextval('s')`:                                        "sequences",
		`UPSERT INTO t (a) VALUES (1)`:                               "ON CONFLICT",
		`CREATE TABLE t (s STRING)`:                                  "TEXT",
		`CREATE TYPE e AS ENUM ('a')`:                                "ENUM",
		`SELECT a FROM t AS OF SYSTEM TIME '-5s'`:                    "SYSTEM TIME",
		"SELECT 1; SELECT 2 / 1":                                     "division",
	} {
		problems := strings.Join(check(sql), "\n")
		if problems == "" || !strings.Contains(problems, want) {
			t.Errorf("%s: want %q, got %q", sql, want, problems)
		}
	}
}

func TestFindsSQL(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("core/db/migrations/0001_a.sql", "-- +goose NO TRANSACTION\n-- +goose Up\nCREATE TABLE a (id SERIAL PRIMARY KEY);\n")
	write("core/a/const.go", "package a\n\nconst columns = `id, name`\n\nconst broken = `SELECT FROM WHERE`\n")
	write("core/a/a.go", "package a\n\n"+
		"import \"x\"\n\n"+ // 3
		"func f() {\n"+ // 5
		"\ttx.Exec(ctx, `select 1 / 2`)\n"+ // 6
		"\ttx.Query(ctx, `SELECT `+columns+` FROM t`)\n"+ // fine
		"\tconst local = `SELECT a.* FROM a`\n"+ // 8
		"\ttx.QueryRow(ctx, local)\n"+
		"\tb.Queue(`nonsense`)\n"+ // 10
		"\ttx.Exec(ctx, `CREATE DATABASE `+name)\n"+ // 11
		"\tsql := fmt.Sprintf(`UPDATE t SET %s = $1`, column)\n"+ // 12
		"\tlog.Info(\"UPDATE\", \"update the app / phone\", \"DELETE /v1/phones/{id}\")\n"+ // fine
		"}\n")
	write("core/a/a_test.go", "package a\n\nconst inTests = `SELECT * FROM t`\n")
	write("core/db/devdb/x.go", "package devdb\n\nconst own = `SELECT pg_notify('a', 'b')`\n")
	write("edge/x.go", "package edge\n\nconst outside = `SELECT FROM`\n")

	found, problems, err := checkTree(root)
	if err != nil {
		t.Fatal(err)
	}
	var at []string
	for _, p := range problems {
		file, rest, _ := strings.Cut(p, ":")
		if line, _, _ := strings.Cut(rest, ":"); strings.HasSuffix(file, ".go") {
			file += ":" + line
		}
		if len(at) == 0 || at[len(at)-1] != file {
			at = append(at, file)
		}
	}
	want := []string{"core/a/a.go:10", "core/a/a.go:11", "core/a/a.go:12", "core/a/a.go:6", "core/a/a.go:8", "core/a/a.go:9",
		"core/a/const.go:5", "core/db/migrations/0001_a.sql"}
	if strings.Join(at, " ") != strings.Join(want, " ") {
		t.Errorf("want %v\ngot  %v\n%s", want, at, strings.Join(problems, "\n"))
	}
	if found != 9 {
		t.Errorf("found %d pieces of SQL, want 9", found)
	}
}

func TestThisRepository(t *testing.T) {
	found, problems, err := checkTree("../..")
	if err != nil {
		t.Fatal(err)
	}
	if found == 0 {
		t.Error("no SQL found")
	}
	for _, p := range problems {
		t.Error(p)
	}
}
