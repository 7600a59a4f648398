//go:build unix

package devdb

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// startCockroach runs a single node of CockroachDB on dataDir, or in memory
// if dataDir is empty. It chooses free ports of the loopback address and
// writes its URL to a file when it is ready.
func (s *Server) startCockroach(ctx context.Context, bin, dataDir string) error {
	scratch, err := os.MkdirTemp("", scratchPrefix)
	if err != nil {
		return fmt.Errorf("start CockroachDB: %w", err)
	}
	store := "type=mem,size=1GiB"
	if dataDir != "" {
		store = "path=" + dataDir
	}
	urlFile := filepath.Join(scratch, "url")
	cmd := exec.Command(bin, "start-single-node", "--insecure", "--store="+store,
		"--listen-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--listening-url-file="+urlFile,
		"--locality=region=local", // for the overlay
		"--log=sinks: {stderr: {filter: NONE}}")
	cmd.Dir = scratch
	if s.child, err = startChild(cmd, nil, scratch, syscall.SIGINT); err != nil {
		_ = os.RemoveAll(scratch)
		return err
	}
	s.log.InfoContext(ctx, "starting the database", "server", "CockroachDB")
	for {
		if url, err := os.ReadFile(urlFile); err == nil && strings.HasSuffix(string(url), "\n") {
			s.url, s.about = strings.TrimSpace(string(url)), "CockroachDB"
			return nil
		}
		select {
		case <-s.child.exited:
			return fmt.Errorf("start CockroachDB: it ended: %v", s.child.err)
		case <-ctx.Done():
			return fmt.Errorf("start CockroachDB: %w", context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
