package db

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // goose wants database/sql
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the schema of the database at url up to date. Any number of
// nodes may call it at once: one works, the others wait for it.
//
// Migrations only add: every commit of Muster runs before, during and after
// its own migration. Each statement can be repeated (IF NOT EXISTS), since on
// CockroachDB schema changes aren't part of a transaction and a migration
// that was cut off starts again.
func Migrate(ctx context.Context, url string) error {
	for n := 0; ; n++ {
		err := migrate(ctx, url)
		// IF NOT EXISTS doesn't look at what is being created at this moment:
		// nodes that start together collide on the table of the lock itself.
		if n < 10 && (conflict(err) || Violates(err, "") || code(err) == duplicateTable) {
			select {
			case <-time.After(backoff(n)):
				continue
			case <-ctx.Done():
			}
		}
		return err
	}
}

func migrate(ctx context.Context, url string) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	conn, err := sql.Open("pgx", url)
	if err != nil {
		return fmt.Errorf("migrate: database url: %w", err)
	}
	defer conn.Close()
	// A row with a lease instead of an advisory lock, which CockroachDB
	// doesn't have.
	quiet := slog.New(slog.DiscardHandler) // what matters is returned
	locker, err := lock.NewPostgresTableLocker(
		// A node killed while it migrates delays the next one by this much.
		lock.WithTableLeaseDuration(10*time.Second), lock.WithTableHeartbeatInterval(2*time.Second),
		lock.WithTableLockTimeout(100*time.Millisecond, 600), lock.WithTableLogger(quiet))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, files,
		goose.WithLocker(locker), goose.WithSlog(quiet))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", asUnavailable(err))
	}
	return nil
}

// CheckSchema returns an error that says what to do if the database lacks
// migrations that this version of Muster needs. One that has more is fine:
// migrations only add.
func (d *DB) CheckSchema(ctx context.Context) error {
	files, err := fs.ReadDir(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	need, err := goose.NumericComponent(files[len(files)-1].Name()) // they are sorted
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	var have int64
	err = d.Read(ctx, func(ctx context.Context, q Querier) error {
		return q.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&have)
	})
	if err != nil && code(err) != undefinedTable {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	if have < need {
		return fmt.Errorf("the database's schema is at %d and this version needs %d: run `muster migrate`", have, need)
	}
	return nil
}
