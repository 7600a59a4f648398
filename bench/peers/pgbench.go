package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Pgbench is PostgreSQL's own load: TPC-B-like transactions, SERIALIZABLE, in a
// database of its own on the server of a URL.
type Pgbench struct {
	bin, url string
	Scale    int
	Clients  int
}

// NewPgbench fills the database; Close drops it.
func NewPgbench(ctx context.Context, server string, scale, clients int) (*Pgbench, error) {
	bin, err := findPgbench()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("pgbench: %w", err)
	}
	if err := execute(ctx, server, "CREATE DATABASE pgbench"); err != nil {
		return nil, err
	}
	u.Path = "/pgbench"
	p := &Pgbench{bin: bin, url: u.String(), Scale: scale, Clients: clients}
	if _, err := p.run(ctx, "-i", "-q", "-s", strconv.Itoa(scale)); err != nil {
		return nil, err
	}
	return p, nil
}

func execute(ctx context.Context, server, sql string) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return fmt.Errorf("pgbench: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("pgbench: %w", err)
	}
	return nil
}

// findPgbench looks on PATH, then where Debian puts PostgreSQL.
func findPgbench() (string, error) {
	if bin, err := exec.LookPath("pgbench"); err == nil {
		return bin, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench")
	if err != nil || len(found) == 0 {
		return "", errors.Join(errors.New("pgbench is missing: it comes with PostgreSQL's contrib or client package"), err)
	}
	return found[len(found)-1], nil
}

var tps = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)

// Run returns its transactions per second over some time. What SERIALIZABLE refuses is
// tried again, as Muster does it.
func (p *Pgbench) Run(ctx context.Context, d time.Duration) (float64, error) {
	out, err := p.run(ctx, "-n", "-c", strconv.Itoa(p.Clients), "-j", "2", "-T", strconv.Itoa(int(d.Seconds())), "-M", "prepared", "--max-tries=100")
	if err != nil {
		return 0, err
	}
	m := tps.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("pgbench: says no tps: %s", out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func (p *Pgbench) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, p.bin, append(args, p.url)...)
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c default_transaction_isolation=serializable")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("pgbench: %w: %s", err, stderr.Bytes())
	}
	return out, nil
}
