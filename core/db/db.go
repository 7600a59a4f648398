package db

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Config holds what is optional about a DB; its zero value works.
type Config struct {
	// MaxConns bounds the pool; callers beyond it wait for a connection.
	// Default 10: a busy PostgreSQL serves few connections best.
	MaxConns int32
	// MaxAttempts bounds how often a transaction is tried. Default 30, about
	// four seconds of back-off.
	MaxAttempts int
	// Name is shown by the server as application_name. Default "muster".
	Name string
	// Dial replaces the dialer, for example to emulate distance.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Replica is the URL of a PostgreSQL that follows the one at url, for ReadStale;
	// optional. It has a pool of its own with as many connections. CockroachDB needs
	// none.
	Replica string
}

// DB is a bounded pool of connections to one database. It is safe for
// concurrent use.
type DB struct {
	pool        *pgxpool.Pool
	cockroach   bool
	maxAttempts int
	replica     *replica // nil: none
	waits       *prometheus.HistogramVec
	wakes       wakes
}

// commitTimeout bounds a COMMIT, which isn't cut short by its caller: see InTx.
const commitTimeout = 10 * time.Second

// Open connects to the database at url (a libpq URL or key=value string) and
// asks what it is. It doesn't migrate: see Migrate.
func Open(ctx context.Context, url string, cfg Config) (*DB, error) {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database url: %w", err)
	}
	waits := newWaits()
	cfg.pool(pc, watcher{waits.WithLabelValues("primary")})
	pc.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	var version string
	if err := pool.QueryRow(ctx, `SELECT version()`).Scan(&version); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", asUnavailable(err))
	}
	d := &DB{
		pool:        pool,
		cockroach:   strings.Contains(version, "CockroachDB"),
		maxAttempts: cmp.Or(cfg.MaxAttempts, 30),
		waits:       waits,
	}
	if cfg.Replica != "" && !d.cockroach {
		if d.replica, err = openReplica(cfg.Replica, func(pc *pgxpool.Config) {
			cfg.pool(pc, watcher{waits.WithLabelValues("replica")})
		}); err != nil {
			pool.Close()
			return nil, err
		}
	}
	return d, nil
}

// pool is what the pools have in common.
func (cfg Config) pool(pc *pgxpool.Config, w watcher) {
	pc.MaxConns = cmp.Or(cfg.MaxConns, 10)
	params := pc.ConnConfig.RuntimeParams
	// A node that is paused inside a transaction holds its locks for so long, and
	// nobody writes to that room meanwhile. A transaction that is cut off is made
	// again.
	params["idle_in_transaction_session_timeout"] = "3s"
	params["application_name"] = cmp.Or(cfg.Name, params["application_name"], "muster")
	// pgxpool would ping what was idle for a second, which takes as long as the
	// statement itself; a connection that turns out to be gone is no failure, see
	// InTx and Read.
	pc.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	pc.ConnConfig.Tracer = w
	if cfg.Dial != nil {
		pc.ConnConfig.DialFunc = pgconn.DialFunc(cfg.Dial)
	}
}

// Close waits until every connection is back and closes the pools.
func (d *DB) Close() {
	d.pool.Close()
	if d.replica != nil {
		d.replica.pool.Close()
	}
}

// Cockroach reports whether the server is CockroachDB.
func (d *DB) Cockroach() bool { return d.cockroach }

// Ping asks the database for an answer.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.pool.Ping(ctx); err != nil {
		return asUnavailable(err)
	}
	return nil
}

// Stat returns the pool's figures, for metrics.
func (d *DB) Stat() *pgxpool.Stat { return d.pool.Stat() }

// Querier is what single statements and transactions have in common.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

var (
	_ Querier = (*pgxpool.Pool)(nil)
	_ Querier = (pgx.Tx)(nil)
)
