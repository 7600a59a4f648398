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
	locker, err := lock.NewPostgresTableLocker(lock.WithTableLockTimeout(200*time.Millisecond, 300))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, files,
		goose.WithLocker(locker), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", asUnavailable(err))
	}
	return nil
}
