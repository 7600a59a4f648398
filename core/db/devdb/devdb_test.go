//go:build unix

package devdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
)

// TestMain lets a test start this binary again as a process of its own that
// can be killed: it starts a server, acknowledges lines by writing them to
// SQL, and waits.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DEVDB_TEST_DIR"); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func victim(dir string) error {
	ctx := context.Background()
	s := New(Options{Dir: dir})
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Stop()
	d, err := db.Open(ctx, s.URL(), db.Config{})
	if err != nil {
		return err
	}
	defer d.Close()
	fmt.Println("ready", s.child.cmd.Process.Pid, s.child.watcher.Process.Pid, s.child.scratch)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		err := d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, lines.Text())
			return err
		})
		if err != nil {
			return err
		}
		fmt.Println("committed")
	}
	return nil
}

// process is a running victim.
type process struct {
	*exec.Cmd
	stdin             io.WriteCloser
	out               *bufio.Scanner
	postgres, watcher int
	scratch           string
}

func start(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(os.Args[0])}
	p.Env = append(os.Environ(), "DEVDB_TEST_DIR="+dir)
	p.Stderr = t.Output()
	var err error
	p.stdin, err = p.StdinPipe()
	require.NoError(t, err)
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewScanner(out)
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	_, err = fmt.Sscanf(p.line(t), "ready %d %d %s", &p.postgres, &p.watcher, &p.scratch)
	require.NoError(t, err)
	return p
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	require.True(t, p.out.Scan(), "the process ended")
	return p.out.Text()
}

func (p *process) commit(t *testing.T, sql string) {
	t.Helper()
	_, err := fmt.Fprintln(p.stdin, sql)
	require.NoError(t, err)
	require.Equal(t, "committed", p.line(t))
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Process.Kill())
	_ = p.Wait()
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, 5*time.Millisecond, what)
}

func count(t *testing.T, url, query string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&n))
	return n
}

// onlyPostgres skips what is about PostgreSQL's files and processes when the
// search finds another server.
func onlyPostgres(t *testing.T) {
	t.Helper()
	t.Setenv(EnvURL, "")
	path := os.Getenv("PATH")
	if bin := findCockroach(); bin != "" {
		var rest []string
		for _, dir := range filepath.SplitList(path) {
			if dir != filepath.Dir(bin) {
				rest = append(rest, dir)
			}
		}
		t.Setenv("PATH", strings.Join(rest, string(filepath.ListSeparator)))
	}
}

func TestStartStopAndAgain(t *testing.T) {
	onlyPostgres(t)
	dir := t.TempDir()
	s := New(Options{Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	begin := time.Now()
	require.NoError(t, s.Start(t.Context()))
	t.Logf("cold start %v", time.Since(begin))
	require.Contains(t, s.About(), "PostgreSQL")
	require.NoError(t, db.Migrate(t.Context(), s.URL()))
	conn, err := pgx.Connect(t.Context(), s.URL())
	require.NoError(t, err)
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
		"default_transaction_isolation": "serializable", "listen_addresses": "",
	} {
		var got string
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT current_setting($1)`, setting).Scan(&got))
		require.Equal(t, want, got, setting)
	}
	require.NoError(t, conn.Close(t.Context()))
	scratch, pid := s.child.scratch, s.child.cmd.Process.Pid
	s.Stop()
	s.Stop()
	<-s.Exited()
	require.True(t, gone(pid))
	require.NoDirExists(t, scratch)
	require.NoFileExists(t, filepath.Join(dir, "postgres", "postmaster.pid"), "stopped in order")

	begin = time.Now()
	again := New(Options{Dir: dir})
	require.NoError(t, again.Start(t.Context()))
	defer again.Stop()
	t.Logf("warm start %v", time.Since(begin))
	require.Zero(t, count(t, again.URL(), `SELECT count(*) FROM users`))
}

// What was committed before kill -9 is there at the next start, whoever is
// left of the server by then.
func TestKilled(t *testing.T) {
	onlyPostgres(t)
	for name, alsoKill := range map[string]func(p *process) []int{
		"parent":                     func(*process) []int { return nil },
		"parent and watcher":         func(p *process) []int { return []int{p.watcher} },
		"parent, watcher and server": func(p *process) []int { return []int{p.watcher, p.postgres} },
		"server, then parent":        func(p *process) []int { return []int{p.postgres} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := start(t, dir)
			p.commit(t, `CREATE TABLE acked (n INT PRIMARY KEY)`)
			for n := range 20 {
				p.commit(t, `INSERT INTO acked (n) VALUES (`+strconv.Itoa(n)+`)`)
			}
			for _, pid := range alsoKill(p) {
				require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			}
			p.kill(t)

			s := New(Options{Dir: dir})
			require.NoError(t, s.Start(t.Context()))
			defer s.Stop()
			require.Equal(t, 20, count(t, s.URL(), `SELECT count(*) FROM acked`))
			eventually(t, "the old server is gone", func() bool { return gone(p.postgres) })
			eventually(t, "its socket is gone", func() bool { _, err := os.Stat(p.scratch); return errors.Is(err, fs.ErrNotExist) })
		})
	}
}

// The watcher leaves nothing behind: no process, no socket directory.
func TestWatcherCleansUp(t *testing.T) {
	onlyPostgres(t)
	p := start(t, t.TempDir())
	require.DirExists(t, p.scratch)
	p.kill(t)
	eventually(t, "the server is gone", func() bool { return gone(p.postgres) })
	eventually(t, "the watcher is gone", func() bool { return gone(p.watcher) })
	require.NoDirExists(t, p.scratch)
}

// ^C in a terminal reaches the whole foreground process group: the server
// isn't in it.
func TestOwnProcessGroup(t *testing.T) {
	onlyPostgres(t)
	s := New(Options{})
	require.NoError(t, s.Start(t.Context()))
	defer s.Stop()
	for _, pid := range []int{s.child.cmd.Process.Pid, s.child.watcher.Process.Pid} {
		group, err := syscall.Getpgid(pid)
		require.NoError(t, err)
		require.Equal(t, pid, group)
	}
}

func TestDataDirInUse(t *testing.T) {
	onlyPostgres(t)
	dir := t.TempDir()
	s := New(Options{Dir: dir})
	require.NoError(t, s.Start(t.Context()))
	defer s.Stop()
	err := New(Options{Dir: dir}).Start(t.Context())
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, strconv.Itoa(os.Getpid()))
	require.Zero(t, count(t, s.URL(), `SELECT 0`), "the first one still runs")
}

// As root the server runs as somebody who can't pass through the parents of
// the data directory.
func TestUntraversableParents(t *testing.T) {
	onlyPostgres(t)
	if os.Geteuid() != 0 {
		t.Skip("only root has a server under another user")
	}
	private := filepath.Join(t.TempDir(), "private")
	require.NoError(t, os.Mkdir(private, 0o700))
	dir := filepath.Join(private, "data")
	for range 2 {
		s := New(Options{Dir: dir})
		require.NoError(t, s.Start(t.Context()))
		require.Zero(t, count(t, s.URL(), `SELECT 0`))
		s.Stop()
	}
}

// An initdb that was interrupted leaves nothing that looks like data.
func TestUnfinishedInit(t *testing.T) {
	onlyPostgres(t)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "postgres.new"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "postgres.new", "PG_VERSION"), []byte("15\n"), 0o600))
	s := New(Options{Dir: dir})
	require.NoError(t, s.Start(t.Context()))
	s.Stop()
}

// A process id is reused after a reboot: the program that has it now is left
// alone.
func TestStalePidFile(t *testing.T) {
	onlyPostgres(t)
	dir := t.TempDir()
	s := New(Options{Dir: dir})
	require.NoError(t, s.Start(t.Context()))
	s.Stop()
	stranger := exec.Command("sleep", "60")
	require.NoError(t, stranger.Start())
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	pidFile := filepath.Join(dir, "postgres", "postmaster.pid")
	require.NoError(t, os.WriteFile(pidFile, []byte(strconv.Itoa(stranger.Process.Pid)+"\n"), 0o644))

	again := New(Options{Dir: dir})
	require.NoError(t, again.Start(t.Context()))
	defer again.Stop()
	require.False(t, gone(stranger.Process.Pid))
}

func TestClearErrors(t *testing.T) {
	t.Setenv(EnvURL, "")
	t.Setenv("PATH", "")
	t.Run("data of another version", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "postgres"), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "postgres", "PG_VERSION"), []byte("9\n"), 0o600))
		err := New(Options{Dir: dir}).Start(t.Context())
		require.ErrorContains(t, err, "PostgreSQL 9, which is not installed")
	})
	t.Run("data of CockroachDB", func(t *testing.T) {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "cockroach"), 0o700))
		require.ErrorContains(t, New(Options{Dir: dir}).Start(t.Context()), "no cockroach on PATH")
	})
	t.Run("a file where the directory should be", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		require.Error(t, New(Options{Dir: file}).Start(t.Context()))
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, New(Options{Dir: t.TempDir()}).Start(ctx), context.Canceled)
	})
}

func TestGivenURL(t *testing.T) {
	t.Setenv(EnvURL, "postgres://example.org/muster")
	s := New(Options{Dir: filepath.Join(t.TempDir(), "never made")})
	require.NoError(t, s.Start(t.Context()))
	require.Equal(t, "postgres://example.org/muster", s.URL())
	require.Nil(t, s.Exited())
	require.NoDirExists(t, s.opts.Dir)
	s.Stop()
}

// A CockroachDB is started by its command line and its URL file: a script
// stands in for it here, since the real one isn't everywhere.
func TestCockroachOnPath(t *testing.T) {
	t.Setenv(EnvURL, "")
	bin := t.TempDir()
	script := `#!/bin/sh
for arg; do case $arg in
  --listening-url-file=*) echo "postgresql://root@127.0.0.1:26257/defaultdb?sslmode=disable" >"${arg#*=}" ;;
  --store=path=*) mkdir -p "${arg#--store=path=}" ;;
esac; done
exec sleep 60
`
	require.NoError(t, os.WriteFile(filepath.Join(bin, "cockroach"), []byte(script), 0o755))
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	dir := t.TempDir()
	s := New(Options{Dir: dir})
	require.NoError(t, s.Start(t.Context()))
	require.Equal(t, "CockroachDB", s.About())
	require.Equal(t, "postgresql://root@127.0.0.1:26257/defaultdb?sslmode=disable", s.URL())
	require.DirExists(t, filepath.Join(dir, "cockroach"))
	s.Stop()
	<-s.Exited()
}

func TestEachTestHasItsOwnDatabase(t *testing.T) {
	a, b := Test(t), Test(t)
	insert := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO rooms (room, last_number) VALUES ('group:x', 1)`)
		return err
	}
	require.NoError(t, a.InTx(t.Context(), pgx.TxOptions{}, insert))
	require.NoError(t, b.InTx(t.Context(), pgx.TxOptions{}, insert))
}
