//go:build unix

package devdb

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/db"
)

// TB is what Test needs of *testing.T and *testing.B; declared here so that
// the muster binary doesn't contain the testing package.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Test returns a pool on a fresh, migrated database of the test's own. It is
// dropped when the test ends. Tests of one process share a server, which is
// started by the first of them and ended by its watcher when the process ends.
func Test(t TB) *db.DB {
	t.Helper()
	return Connect(t, TestURL(t), db.Config{})
}

// Connect opens a pool that is closed when the test ends, for tests with
// several nodes on one database or with a Config.
func Connect(t TB, url string, cfg db.Config) *db.DB {
	t.Helper()
	pool, err := db.Open(t.Context(), url, cfg)
	if err != nil {
		t.Fatalf("open test database: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// TestURL is Test for those who open the database themselves.
func TestURL(t TB) string {
	t.Helper()
	return fresh(t, (*testServer).create)
}

// EmptyURL is TestURL without the schema, for tests of migrations.
func EmptyURL(t TB) string {
	t.Helper()
	return fresh(t, (*testServer).createEmpty)
}

func fresh(t TB, create func(*testServer, context.Context) (string, error)) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatalf("start test database: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url, err := create(s, ctx)
	if err != nil {
		t.Fatalf("create test database: %v", err)
	}
	t.Cleanup(func() { // t.Context is over by now
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.drop(ctx, url); err != nil {
			t.Errorf("drop test database: %v", err)
		}
	})
	return url
}

// shared is the test server of this process: the one variable of this package,
// because tests have no other place for what outlives them.
var shared = sync.OnceValues(func() (*testServer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server := New(Options{})
	if err := server.Start(ctx); err != nil {
		return nil, err
	}
	s := &testServer{admin: server.URL()}
	if err := s.prepare(ctx); err != nil {
		server.Stop()
		return nil, err
	}
	return s, nil
})

// testServer makes databases. On PostgreSQL they are copies of a migrated
// template, which takes 10 ms; CockroachDB has no templates.
type testServer struct {
	admin    string // URL of a database that is left alone
	template string // empty on CockroachDB

	mu sync.Mutex // one copy at a time: each forces a checkpoint
}

// prepare makes the template. It has a name of its own, since with
// MUSTER_DATABASE_URL several processes share a server; there it stays behind
// if the process is killed, and is dropped by nobody: use a throw-away server.
func (s *testServer) prepare(ctx context.Context) error {
	return s.asAdmin(ctx, func(conn *pgx.Conn) error {
		var version string
		if err := conn.QueryRow(ctx, `SELECT version()`).Scan(&version); err != nil {
			return err
		}
		if strings.Contains(version, "CockroachDB") {
			return nil
		}
		name := freshName()
		if _, err := conn.Exec(ctx, `CREATE DATABASE `+name+` STRATEGY FILE_COPY`); err != nil {
			return err
		}
		if err := db.Migrate(ctx, s.url(name)); err != nil {
			return err
		}
		s.template = name
		return nil
	})
}

func (s *testServer) create(ctx context.Context) (string, error) {
	if s.template == "" {
		url, err := s.createEmpty(ctx)
		if err != nil {
			return "", err
		}
		return url, db.Migrate(ctx, url)
	}
	return s.copyOf(ctx, s.template)
}

func (s *testServer) createEmpty(ctx context.Context) (string, error) {
	return s.copyOf(ctx, "")
}

func (s *testServer) copyOf(ctx context.Context, template string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := freshName()
	statement := `CREATE DATABASE ` + name
	if template != "" {
		statement += ` TEMPLATE ` + template + ` STRATEGY FILE_COPY`
	}
	return s.url(name), s.asAdmin(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement)
		return err
	})
}

func (s *testServer) drop(ctx context.Context, of string) error {
	u, err := url.Parse(of)
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(u.Path, "/")
	return s.asAdmin(ctx, func(conn *pgx.Conn) error {
		if s.template == "" {
			_, err := conn.Exec(ctx, `DROP DATABASE `+name+` CASCADE`)
			return err
		}
		_, err := conn.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`)
		return err
	})
}

func (s *testServer) asAdmin(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return f(conn)
}

// url is the admin URL with another database.
func (s *testServer) url(name string) string {
	u, err := url.Parse(s.admin)
	if err != nil { // pgx has parsed it before
		panic(fmt.Sprintf("database url: %v", err))
	}
	u.Path = "/" + name
	return u.String()
}

func freshName() string { return "muster_test_" + strings.ToLower(rand.Text()) }
