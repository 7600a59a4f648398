package db

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed overlay/*.sql
var overlay embed.FS

// Regions are those of a CockroachDB that is in several places.
type Regions struct {
	// Pairs are Muster's regions and the database's, which are in the localities that
	// its nodes were started with. The first is the primary one.
	Pairs []RegionPair
	// SurviveRegion keeps the database up without one of three or more regions, and
	// makes each write wait for another region.
	SurviveRegion bool
}

// RegionPair is one region by its two names.
type RegionPair struct{ Home, Database string }

// regionName is what a name may be made of: these names stand in SQL.
var regionName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func (r Regions) check() error {
	if len(r.Pairs) == 0 {
		return errors.New("name at least one region")
	}
	seen := map[string]bool{}
	for _, p := range r.Pairs {
		if !regionName.MatchString(p.Home) || !regionName.MatchString(p.Database) || seen[p.Home] {
			return fmt.Errorf("region %q=%q: names are of a-z, 0-9 and -, and each region comes once", p.Home, p.Database)
		}
		seen[p.Home] = true
	}
	if r.SurviveRegion && len(r.databases()) < 3 {
		return errors.New("a database survives the loss of a region if it has three or more")
	}
	return nil
}

// databases are the database's regions, each once.
func (r Regions) databases() (list []string) {
	seen := map[string]bool{}
	for _, p := range r.Pairs {
		if !seen[p.Database] {
			list, seen[p.Database] = append(list, p.Database), true
		}
	}
	return list
}

// statements are the overlay's, in order, for a database and its regions.
func (r Regions) statements(database string) (list []string, err error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	primary, arm := r.databases()[0], "WHEN 'HOME' THEN 'REGION'"
	var arms []string
	for _, p := range r.Pairs {
		arms = append(arms, strings.NewReplacer("HOME", p.Home, "REGION", p.Database).Replace(arm))
	}
	all := strings.Join(arms, " ")
	sum := sha256.Sum256([]byte(all + primary))
	survive := "SURVIVE ZONE FAILURE"
	if r.SurviveRegion {
		survive = "SURVIVE REGION FAILURE"
	}
	fill := strings.NewReplacer(`"DATABASE"`, pgx.Identifier{database}.Sanitize(), `"PRIMARY"`, pgx.Identifier{primary}.Sanitize(),
		"'PRIMARY'", "'"+primary+"'", arm, all, "kept_in_SUM", "kept_in_"+hex.EncodeToString(sum[:4]), "SURVIVE REGION FAILURE", survive)
	for _, name := range []string{"regions", "homes", "localities"} {
		text, err := overlay.ReadFile("overlay/" + name + ".sql")
		if err != nil {
			return nil, fmt.Errorf("overlay: %w", err)
		}
		for statement := range strings.SplitSeq(comments.ReplaceAllString(string(text), ""), ";") {
			switch statement = fill.Replace(strings.TrimSpace(statement)); {
			case statement == "":
			case strings.Contains(statement, `"REGION"`):
				for _, region := range r.databases()[1:] {
					list = append(list, strings.ReplaceAll(statement, `"REGION"`, pgx.Identifier{region}.Sanitize()))
				}
			default:
				list = append(list, statement)
			}
		}
	}
	return list, nil
}

var comments = regexp.MustCompile(`(?m)^--.*$`)

// Localise has a CockroachDB keep rows in the regions that they belong to. The schema
// is up to date; each statement may be repeated, and is its own transaction, so what
// was cut off is begun again. Call it after each Migrate: new tables are in no region.
func Localise(ctx context.Context, url string, r Regions) error {
	d, err := Open(ctx, url, Config{MaxConns: 1})
	if err != nil {
		return fmt.Errorf("localise: %w", err)
	}
	defer d.Close()
	if !d.Cockroach() {
		return errors.New("localise: only CockroachDB keeps rows by region")
	}
	list, err := r.statements(d.pool.Config().ConnConfig.Database)
	if err != nil {
		return fmt.Errorf("localise: %w", err)
	}
	for _, statement := range list {
		if _, err := d.pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("localise: %s: %w", statement, asUnavailable(err))
		}
	}
	return nil
}
