package db_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

var three = db.Regions{Pairs: []db.RegionPair{{"eu-west", "aws-eu-west-1"}, {"us-east", "aws-us-east-1"}, {"ap-south", "aws-ap-south-1"}}}

// Every table of the schema says where its rows are kept, once, and so that it fits
// to whom they belong.
func TestOverlayHasEveryTable(t *testing.T) {
	d := devdb.Test(t)
	tables, own, refs := references(t, d)
	at := placed(tables, own, refs)
	kept := map[string]string{}
	for _, name := range []string{"homes", "localities"} {
		text, err := os.ReadFile("overlay/" + name + ".sql")
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^ALTER TABLE (\w+) SET LOCALITY (.*);$`).FindAllStringSubmatch(string(text), -1) {
			require.NotContains(t, kept, m[1], "twice")
			kept[m[1]] = m[2]
		}
	}
	for _, table := range tables {
		switch how := kept[table]; {
		case how == "":
			t.Errorf("core/db/overlay/localities.sql doesn't say where rows of %s are kept: add ALTER TABLE %s SET LOCALITY …", table, table)
		case own[table]:
			require.Equal(t, "REGIONAL BY ROW AS kept_in_SUM", how, table)
		case at[table] != everywhere:
			require.Equal(t, "REGIONAL BY ROW", how, "%s is a user's or a group's", table)
		default:
			require.Contains(t, []string{"GLOBAL", "REGIONAL BY ROW", "REGIONAL BY TABLE IN PRIMARY REGION"}, how, table)
		}
	}
	for table := range kept {
		require.Contains(t, tables, table)
	}
}

func TestOverlayOfRegions(t *testing.T) {
	list, err := db.Statements(three, "muster")
	require.NoError(t, err)
	require.Equal(t, []string{
		`ALTER DATABASE "muster" SET PRIMARY REGION "aws-eu-west-1"`,
		`ALTER DATABASE "muster" ADD REGION IF NOT EXISTS "aws-us-east-1"`,
		`ALTER DATABASE "muster" ADD REGION IF NOT EXISTS "aws-ap-south-1"`,
		`ALTER DATABASE "muster" SURVIVE ZONE FAILURE`,
	}, list[:4])
	column := regexp.MustCompile(`kept_in_[0-9a-f]{8}`).FindString(list[4])
	require.Equal(t, `ALTER TABLE users ADD COLUMN IF NOT EXISTS `+column+` crdb_internal_region NOT NULL AS (CASE home_region `+
		`WHEN 'eu-west' THEN 'aws-eu-west-1' WHEN 'us-east' THEN 'aws-us-east-1' WHEN 'ap-south' THEN 'aws-ap-south-1' ELSE 'aws-eu-west-1' END) STORED`, list[4])
	require.Equal(t, `ALTER TABLE users SET LOCALITY REGIONAL BY ROW AS `+column, list[5])
	require.Contains(t, list, `ALTER TABLE plans SET LOCALITY GLOBAL`)
	for _, s := range list {
		require.NotRegexp(t, `HOME|REGION"|PRIMARY"|SUM|DATABASE"|;|--`, s)
	}

	// Two of Muster's regions in one of the database's; another set is another column.
	two := db.Regions{Pairs: append(slices.Clone(three.Pairs), db.RegionPair{"eu-north", "aws-eu-west-1"}), SurviveRegion: true}
	list, err = db.Statements(two, `mus"ter`)
	require.NoError(t, err)
	require.Equal(t, `ALTER DATABASE "mus""ter" SURVIVE REGION FAILURE`, list[3])
	require.NotContains(t, strings.Join(list, "\n"), column)

	for _, bad := range []db.Regions{
		{}, {Pairs: []db.RegionPair{{"eu", "x' OR"}}}, {Pairs: []db.RegionPair{{"", "x"}}}, {Pairs: []db.RegionPair{{"eu", "x"}, {"eu", "y"}}},
		{Pairs: []db.RegionPair{{"eu", "x"}, {"us", "y"}}, SurviveRegion: true},
	} {
		_, err := db.Statements(bad, "muster")
		require.Error(t, err)
	}
}

// On CockroachDB the overlay is applied, and can be again; PostgreSQL keeps its rows in
// one place, and whoever asks is told.
func TestLocalise(t *testing.T) {
	url := devdb.TestURL(t)
	d := devdb.Connect(t, url, db.Config{})
	if !d.Cockroach() {
		require.ErrorContains(t, db.Localise(t.Context(), url, three), "only CockroachDB")
		return
	}
	var region string
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT region FROM [SHOW REGIONS FROM CLUSTER] ORDER BY region LIMIT 1`).Scan(&region)
	}), "start the nodes with --locality=region=…")
	one := db.Regions{Pairs: []db.RegionPair{{"eu-west", region}}}
	for range 2 {
		require.NoError(t, db.Localise(t.Context(), url, one))
	}
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES (gen_random_uuid(), 'ana', 'ana', true, 'eu-west')`)
		return err
	}))
}
