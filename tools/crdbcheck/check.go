package main

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/cockroachdb-parser/pkg/sql/parser"
)

// check says what is wrong with a piece of SQL, which may be several
// statements.
func check(sql string) (problems []string) {
	defer func() { // the parser panics on some input, such as DO $$…$$
		if r := recover(); r != nil {
			problems = append(problems, fmt.Sprintf("CockroachDB's parser panics: %v", r))
		}
	}()
	if _, err := parser.Parse(sql); err != nil {
		return []string{"CockroachDB doesn't parse it: " + strings.ReplaceAll(err.Error(), "\n", " ")}
	}
	return denied(sql)
}

// names are words that the grammar takes for ordinary names. A trailing *
// stands for any ending.
var names = map[string]string{
	"pg_notify": "CockroachDB has no NOTIFY: poll, or wake up in process",
	"listen":    "CockroachDB has no LISTEN: poll, or wake up in process",
	"notify":    "CockroachDB has no NOTIFY: poll, or wake up in process",

	"pg_advisory*":     "advisory locks do nothing on CockroachDB: use a row with a lease",
	"pg_try_advisory*": "advisory locks do nothing on CockroachDB: use a row with a lease",

	"xmin":     systemColumn,
	"xmax":     systemColumn,
	"cmin":     systemColumn,
	"cmax":     systemColumn,
	"ctid":     systemColumn,
	"tableoid": systemColumn,

	"tstzrange":      ranges,
	"tsrange":        ranges,
	"daterange":      ranges,
	"int4range":      ranges,
	"int8range":      ranges,
	"numrange":       ranges,
	"tstzmultirange": ranges,
	"datemultirange": ranges,

	"serial*":      sequences,
	"bigserial":    sequences,
	"smallserial":  sequences,
	"nextval":      sequences,
	"currval":      sequences,
	"setval":       sequences,
	"lastval":      sequences,
	"sequence":     sequences,
	"identity":     sequences,
	"unique_rowid": "PostgreSQL has no unique_rowid",

	"trigger":       "triggers are a preview on CockroachDB: do it in the application",
	"upsert":        "PostgreSQL has no UPSERT: use INSERT … ON CONFLICT",
	"string":        "PostgreSQL has no STRING: write TEXT",
	"bytes":         "PostgreSQL has no BYTES: write BYTEA",
	"enum":          "a value added to an ENUM can't be used in the same transaction: use TEXT and CHECK",
	"make_interval": "CockroachDB has no named arguments: write $1 * INTERVAL '1 second'",
	"jsonb_path_*":  "CockroachDB has jsonpath only since 25.2: use -> and ->>",
	"pg_sleep":      "a transaction that sleeps keeps its locks",
	"system":        "AS OF SYSTEM TIME is CockroachDB's own: core/db issues it where it is meant",
}

const (
	systemColumn = "a system column of PostgreSQL, which CockroachDB doesn't have"
	ranges       = "CockroachDB has no range types: use two columns"
	sequences    = "sequences make one hot range on CockroachDB and leave gaps: use random UUIDs"
)

// denied looks for what parses and yet differs.
func denied(sql string) (problems []string) {
	tokens, _ := parser.Tokens(sql) // it was parsed before
	previous := ""
	for _, t := range tokens {
		word := strings.ToLower(t.Str)
		if t.TokenID == parser.SCONST {
			previous = ""
			continue
		}
		if why, ok := lookUp(word); ok {
			problems = append(problems, fmt.Sprintf("%q: %s", word, why))
		}
		switch {
		case t.TokenID == '/':
			problems = append(problems, "division of integers gives an integer on PostgreSQL and a decimal on CockroachDB: divide in Go")
		case t.TokenID == parser.FLOORDIV:
			problems = append(problems, "PostgreSQL has no //: divide in Go")
		case t.TokenID == '*' && (previous == "select" || previous == "." || previous == "returning"):
			problems = append(problems, "name the columns instead of *: a migration changes what * means")
		}
		previous = word
	}
	return problems
}

func lookUp(word string) (why string, ok bool) {
	if why, ok = names[word]; ok {
		return why, ok
	}
	for name, why := range names {
		if start, any := strings.CutSuffix(name, "*"); any && strings.HasPrefix(word, start) {
			return why, true
		}
	}
	return "", false
}
