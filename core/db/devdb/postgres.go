//go:build unix

package devdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// settings of both modes. What they leave out is PostgreSQL's default, so
// durable means durable: fsync, full_page_writes and synchronous_commit are on.
var settings = []string{
	"listen_addresses=",
	"default_transaction_isolation=serializable",
	"max_connections=300", // each node of a mesh in one process has its pool
	"shared_buffers=64MB",
	// Predicate locks on whole tables are false conflicts: keep them on rows.
	"max_pred_locks_per_transaction=256",
	"max_pred_locks_per_page=16",
	// No replication, no parallel queries, no planner statistics beyond need.
	"wal_level=minimal",
	"min_wal_size=64MB", // their defaults count segments, and ours are small:
	"max_wal_size=1GB",  // the first is filled with zeros by initdb
	"max_wal_senders=0",
	"max_logical_replication_workers=0",
	"max_parallel_workers_per_gather=0",
	"jit=off",
}

// throwAway is added for data that nobody wants after a crash.
var throwAway = []string{
	"fsync=off",
	"synchronous_commit=off",
	"full_page_writes=off",
	"autovacuum=off",
}

// startPostgres runs PostgreSQL on dataDir, or without fsync on a temporary
// directory if dataDir is empty.
func (s *Server) startPostgres(ctx context.Context, bin binaries, dataDir string) error {
	as, err := unprivileged()
	if err != nil {
		return err
	}
	scratch, err := scratchDir(as, dataDir == "")
	if err != nil {
		return err
	}
	params, end := settings, syscall.SIGINT
	if dataDir == "" {
		dataDir = filepath.Join(scratch, "data")
		params = append(params[:len(params):len(params)], throwAway...)
		end = syscall.SIGQUIT
	}
	p := &postgres{bin: bin, as: as, data: dataDir, scratch: scratch, end: end}
	if err := p.prepare(ctx, s.log.Info); err != nil {
		_ = os.RemoveAll(scratch)
		return err
	}
	if s.child, err = p.start(ctx, params); err != nil {
		_ = os.RemoveAll(scratch)
		return err
	}
	if err := p.nameDatabase(ctx); err != nil {
		return err
	}
	s.url, s.about = p.url(database), "PostgreSQL "+bin.version
	return nil
}

// superuser and database are the names inside of the server.
const (
	superuser   = "muster"
	database    = "muster"
	anyDatabase = "template1" // one that is always there
)

// postgres is one PostgreSQL server.
type postgres struct {
	bin     binaries
	as      *account
	data    string
	scratch string // holds the socket
	end     syscall.Signal
}

func (p *postgres) url(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database,
		RawQuery: url.Values{"host": {p.scratch}}.Encode()}
	return u.String()
}

func (p *postgres) logFile() string { return p.data + ".log" }

// prepare makes the data directory on the first start, and stops what an
// earlier one left running.
func (p *postgres) prepare(ctx context.Context, progress func(string, ...any)) error {
	if _, err := os.Stat(filepath.Join(p.data, "PG_VERSION")); err == nil {
		return p.stopOrphan(progress)
	}
	// Made beside and renamed when complete: an initdb that was interrupted
	// leaves nothing that looks like data.
	progress("creating the database", "server", "PostgreSQL "+p.bin.version)
	unfinished := p.data + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	if err := chown(unfinished, p.as); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	// Trust: whoever can reach the socket is us, see scratchDir. No sync: the
	// rename isn't awaited by anybody who was promised something.
	cmd := exec.CommandContext(ctx, p.bin.path("initdb"), "--username="+superuser, "--auth=trust",
		"--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions", "--wal-segsize=4")
	done, err := p.inside(cmd, unfinished)
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	defer done()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create database: %s: %w\n%s", cmd.Path, err, bytes.TrimSpace(out))
	}
	if err := os.Rename(unfinished, p.data); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// start starts the server and waits until it answers.
func (p *postgres) start(ctx context.Context, params []string) (*child, error) {
	args := []string{"-k", p.scratch}
	for _, param := range params {
		args = append(args, "-c", param)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, out, err := p.startOnce(ctx, args)
		if err == nil {
			return c, nil
		}
		// The last backends of a server that was killed need a moment to see
		// that they are alone.
		if !strings.Contains(out, "shared memory block") || time.Now().After(deadline) {
			return nil, fmt.Errorf("start PostgreSQL: %w\n%s", err, out)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (p *postgres) startOnce(ctx context.Context, args []string) (_ *child, output string, err error) {
	log, err := os.Create(p.logFile())
	if err != nil {
		return nil, "", err
	}
	defer log.Close()
	cmd := exec.Command(p.bin.path("postgres"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	done, err := p.inside(cmd, p.data)
	if err != nil {
		return nil, "", err
	}
	defer done()
	c, err := startChild(cmd, p.as, p.scratch, p.end)
	if err != nil {
		return nil, "", err
	}
	for {
		var conn *pgx.Conn
		if conn, err = pgx.Connect(ctx, p.url(anyDatabase)); err == nil {
			return c, "", conn.Close(ctx)
		}
		select {
		case <-c.exited:
			out, _ := os.ReadFile(p.logFile())
			return nil, string(bytes.TrimSpace(out)), fmt.Errorf("it ended: %w", errors.Join(c.err))
		case <-ctx.Done():
			c.stop()
			return nil, "", fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// nameDatabase gives initdb's database the name of ours. Making another one
// would copy 7 MB and checkpoint, which a slow disk takes half a second for.
func (p *postgres) nameDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.url(anyDatabase))
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	defer conn.Close(ctx)
	var fresh bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = 'postgres')`).Scan(&fresh)
	if err == nil && fresh {
		_, err = conn.Exec(ctx, `ALTER DATABASE postgres RENAME TO `+database)
	}
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// stopOrphan stops the server of an earlier process that died, if its watcher
// died too. The caller holds the lock of the data directory, so the server
// has no living owner.
func (p *postgres) stopOrphan(progress func(string, ...any)) error {
	path := filepath.Join(p.data, "postmaster.pid")
	file, err := os.ReadFile(path)
	if err != nil {
		return nil // ended in order
	}
	lines := strings.Split(string(file), "\n") // 1: process id, 5: socket directory
	if len(lines) > 4 && strings.HasPrefix(filepath.Base(lines[4]), scratchPrefix) {
		defer os.RemoveAll(lines[4])
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil // PostgreSQL clears away the file of a dead server itself
	}
	if !p.serves(pid) {
		// Another program has that number now. PostgreSQL would take it for a
		// server and refuse to start.
		return os.Remove(path)
	}
	progress("stopping the database of an earlier run", "pid", pid)
	return stopOrphan(pid)
}

// serves reports whether process pid is a PostgreSQL server on our data: it
// works inside of its data directory.
func (p *postgres) serves(pid int) bool {
	if runtime.GOOS != "linux" {
		out, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "comm=").Output()
		return err == nil && strings.Contains(string(out), "postgres")
	}
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "postgres" {
		return false
	}
	theirs, err := os.Stat(filepath.Join(proc, "cwd"))
	if err != nil {
		return false
	}
	ours, err := os.Stat(p.data)
	return err == nil && os.SameFile(ours, theirs)
}

// inside tells cmd by PGDATA that dir holds its data. The user it runs as need
// not be able to reach dir by its path: cmd inherits dir as an open file and
// finds it under /proc/self/fd. done is called once cmd has started.
func (p *postgres) inside(cmd *exec.Cmd, dir string) (done func(), err error) {
	cmd.Dir = "/" // PostgreSQL changes away and back, so it must be able to
	if p.as == nil || runtime.GOOS != "linux" {
		cmd.Env = append(os.Environ(), "PGDATA="+dir)
		return func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = []*os.File{f} // the first of them is 3
	cmd.Env = append(os.Environ(), "PGDATA=/proc/self/fd/3")
	return func() { _ = f.Close() }, nil
}

// unprivileged returns whom to run as when we are root, which PostgreSQL
// refuses to be.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &account{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody: " +
		"run muster as another user")
}

func chown(path string, as *account) error {
	if as == nil {
		return nil
	}
	return os.Chown(path, int(as.Uid), int(as.Gid))
}

const scratchPrefix = "muster-db-"

// scratchDir makes a directory for the socket that only the server's user
// (and root) may enter; in memory if it is to hold data that is thrown away
// and there is room. The path of a socket has at most 103 bytes.
func scratchDir(as *account, data bool) (string, error) {
	parents := []string{os.TempDir(), "/tmp", "/var/tmp"}
	const memory = "/dev/shm"
	var room syscall.Statfs_t
	if data && syscall.Statfs(memory, &room) == nil && room.Bavail*uint64(room.Bsize) > 2<<30 {
		parents = slices.Insert(parents, 0, memory)
	}
	for _, parent := range parents {
		if len(parent) > 60 || as != nil && !traversable(parent) {
			continue
		}
		dir, err := os.MkdirTemp(parent, scratchPrefix)
		if err != nil {
			continue
		}
		if err := chown(dir, as); err != nil {
			_ = os.Remove(dir)
			return "", fmt.Errorf("socket directory: %w", err)
		}
		return dir, nil
	}
	return "", errors.New("no usable directory for the database's socket: set TMPDIR to a short path that everybody may enter")
}

// traversable reports whether everybody may pass through dir.
func traversable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
