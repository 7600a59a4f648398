//go:build unix

package devdb

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
)

// replicated starts a PostgreSQL and one that follows it.
func replicated(t *testing.T) (primary, standby *postgres, stop func()) {
	bin, err := findPostgres("")
	if err != nil || os.Getenv(EnvURL) != "" {
		t.Skip("only with PostgreSQL of this machine: the server given has no replica")
	}
	as, err := unprivileged()
	require.NoError(t, err)
	params := slices.DeleteFunc(slices.Concat(settings, throwAway), func(s string) bool {
		return strings.HasPrefix(s, "wal_level=") || strings.HasPrefix(s, "max_wal_senders=")
	})
	params = append(params, "wal_level=replica", "max_wal_senders=4", "hot_standby=on")
	at := func() *postgres {
		scratch, err := scratchDir(as, true)
		require.NoError(t, err)
		return &postgres{bin: bin, as: as, data: filepath.Join(scratch, "data"), scratch: scratch, end: syscall.SIGQUIT}
	}
	start := func(p *postgres) *child {
		c, err := p.start(t.Context(), params)
		require.NoError(t, err)
		t.Cleanup(c.stop)
		return c
	}
	primary, standby = at(), at()
	require.NoError(t, primary.prepare(t.Context(), func(string, ...any) {}))
	start(primary)
	require.NoError(t, primary.nameDatabase(t.Context()))
	require.NoError(t, db.Migrate(t.Context(), primary.url(database)))

	backup := exec.CommandContext(t.Context(), bin.path("pg_basebackup"), "--pgdata="+standby.data, "--dbname="+primary.url("postgres"),
		"--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
	backup.Dir, backup.SysProcAttr = "/", &syscall.SysProcAttr{Credential: as}
	out, err := backup.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return primary, standby, start(standby).stop
}

// Reads that may be stale are the replica's, with an honest age, for as long as it
// answers; then they are the primary's. All others are the primary's.
func TestReadStaleIsServedByAReplica(t *testing.T) {
	primary, standby, stop := replicated(t)
	d := Connect(t, primary.url(database), db.Config{Replica: standby.url(database)})
	write := func(room string) {
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO rooms (room, last_number) VALUES ($1, 0)`, room)
			return err
		}))
	}
	var follows bool
	var rooms int
	look := func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT pg_is_in_recovery(), count(*) FROM rooms`).Scan(&follows, &rooms)
	}
	stale := func() time.Duration {
		ctx, age := db.NoteAge(t.Context())
		require.NoError(t, d.ReadStale(ctx, look))
		return age.Most()
	}

	write("group:a")
	require.Eventually(t, func() bool { stale(); return follows && rooms == 1 }, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, d.Read(t.Context(), look))
	require.False(t, follows)
	require.NoError(t, d.ReadStale(db.Current(t.Context()), look))
	require.False(t, follows, "its answers are promised to be current")
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return d.ReadStale(db.Within(ctx, tx), look)
	}))
	require.False(t, follows, "in a transaction it sees what that wrote")
	require.Error(t, d.ReadStale(t.Context(), func(ctx context.Context, q db.Querier) error {
		_, err := q.Exec(ctx, `INSERT INTO rooms (room, last_number) VALUES ('group:x', 0)`)
		return err
	}), "it only reads")

	// What it does not know yet it does not show, and says since when.
	cfg, err := pgx.ParseConfig(standby.url(database))
	require.NoError(t, err)
	cfg.RuntimeParams["default_transaction_isolation"] = "repeatable read" // it knows no other
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `SELECT pg_wal_replay_pause()`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	write("group:b")
	began := time.Now()
	require.Eventually(t, func() bool { return stale() > time.Second }, 10*time.Second, 20*time.Millisecond)
	require.True(t, follows)
	require.Equal(t, 1, rooms)
	require.GreaterOrEqual(t, stale(), time.Since(began))
	require.Eventually(t, func() bool { return stale() == 0 }, 20*time.Second, 50*time.Millisecond, "too old to be read")
	require.False(t, follows)
	require.Equal(t, 2, rooms)

	stop()
	require.Zero(t, stale())
	require.False(t, follows)
}
