//go:build unix

// Package devdb gives `muster dev` and the tests a real database server
// without anybody installing, configuring or starting one.
//
// # Which
//
// The first that there is: the server that MUSTER_DATABASE_URL names, a
// `cockroach` on PATH (a single node), PostgreSQL 15 or later from PATH or the
// places where packages put it. A data directory stays with the kind of server
// that it was begun with, whatever is installed later.
//
// # How
//
// The server is a private child: it listens on a Unix socket in a directory
// of its own that nobody else may enter, so it needs neither port nor
// password. PostgreSQL refuses to run as root; then it runs as the user
// postgres or nobody. That user need not be able to reach the data directory
// by its path (think of /root): the child inherits the directory as an open file
// and knows it as /proc/self/fd/3.
//
// # How it ends
//
// Stop asks politely, then less so. When this process dies without Stop
// (kill -9, a panicking test), a watcher ends the server: a shell that waits
// for the end of a pipe whose other end dies with us. If the watcher is killed
// too, the next Start on that data directory finds the orphan by
// postmaster.pid and stops it. A lock on the data directory tells an orphan
// from the server of a living process. (The kernel's parent-death signal won't
// do: it fires when the starting thread ends, and Go's threads come and go.)
package devdb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/mustermesh/muster/internal/run"
)

// EnvURL names the environment variable that overrides the search.
const EnvURL = "MUSTER_DATABASE_URL"

// ErrNoServer means that there is nothing to run; its text says what to install.
var ErrNoServer = errors.New("no database server found: install PostgreSQL 15 or later " +
	"(Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; " +
	"macOS: brew install postgresql@17) or CockroachDB, or name a running one in " + EnvURL)

// ErrInUse means that another living process has the data directory.
var ErrInUse = errors.New("data directory is in use by another muster")

// Options says which server is wanted; the zero value is a throw-away one.
type Options struct {
	// Dir holds the data and survives: a later Start continues where this one
	// ended, however it ended. Empty means: a temporary directory and no
	// fsync, for tests.
	Dir string
	// Log hears what takes time. Default: nothing.
	Log *slog.Logger
}

// Server is a database server for one process. It is a run.Service.
type Server struct {
	opts  Options
	log   *slog.Logger
	life  run.Lifecycle
	url   string
	about string
	child *child // nil for a server that isn't ours
	lock  *os.File
}

var _ run.Service = (*Server)(nil)

// New returns a server that isn't running yet.
func New(opts Options) *Server {
	return &Server{opts: opts, log: cmp.Or(opts.Log, slog.New(slog.DiscardHandler))}
}

// Start finds and starts the server and returns when it answers. Unlike other
// services it outlives ctx, until Stop: whoever writes to it goes first.
func (s *Server) Start(ctx context.Context) error {
	return s.life.Start(ctx, s.start)
}

// Stop ends the server and returns when it is gone.
func (s *Server) Stop() { s.life.Stop(s.stop) }

// URL returns the address of an existing database, empty on the first start.
func (s *Server) URL() string { return s.url }

// About describes the server in a few words.
func (s *Server) About() string { return s.about }

// PID is the server's process id; 0 for a server that isn't ours.
func (s *Server) PID() int {
	if s.child == nil {
		return 0
	}
	return s.child.cmd.Process.Pid
}

// Exited is closed when the server has ended, by itself or by Stop. It is nil
// for a server that isn't ours.
func (s *Server) Exited() <-chan struct{} {
	if s.child == nil {
		return nil
	}
	return s.child.exited
}

func (s *Server) start(ctx context.Context) (err error) {
	if url := os.Getenv(EnvURL); url != "" {
		s.url, s.about = url, "the database that "+EnvURL+" names"
		return nil
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.opts.Dir == "" {
		if bin := findCockroach(); bin != "" {
			return s.startCockroach(ctx, bin, "")
		}
		bin, err := findPostgres("")
		if err != nil {
			return err
		}
		return s.startPostgres(ctx, bin, "")
	}

	dir, err := filepath.Abs(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if s.lock, err = lockDir(dir); err != nil {
		return err
	}
	postgresData, cockroachData := filepath.Join(dir, "postgres"), filepath.Join(dir, "cockroach")
	version, _ := os.ReadFile(filepath.Join(postgresData, "PG_VERSION"))
	if bin := findCockroach(); bin != "" && version == nil {
		return s.startCockroach(ctx, bin, cockroachData)
	}
	if _, err := os.Stat(cockroachData); err == nil {
		return fmt.Errorf("%s was made by CockroachDB, but there is no cockroach on PATH", cockroachData)
	}
	bin, err := findPostgres(string(version))
	if err != nil {
		return err
	}
	return s.startPostgres(ctx, bin, postgresData)
}

func (s *Server) stop() {
	if s.child != nil {
		s.child.stop()
	}
	if s.lock != nil {
		_ = s.lock.Close() // and with it the lock
	}
}
