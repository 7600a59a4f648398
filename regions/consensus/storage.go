package consensus

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
)

const (
	// Segments are allocated whole, so a node's disk use starts here.
	segmentSize = 16 << 20
	// Entries kept in memory: what a healthy follower still needs is never read
	// from the disk.
	cachedEntries = 512
	// Snapshots kept on the disk.
	snapshotsKept = 2
)

// Memory is a disk for tests: it keeps a node's data across restarts within a
// process, and fails on request.
type Memory struct {
	logs      *raft.InmemStore
	snapshots *raft.InmemSnapshotStore

	mu  sync.Mutex
	err error
}

// NewMemory returns an empty disk.
func NewMemory() *Memory {
	return &Memory{logs: raft.NewInmemStore(), snapshots: raft.NewInmemSnapshotStore()}
}

// Fail lets all writes fail from now on, as a full disk does; nil ends that.
func (m *Memory) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *Memory) failing() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// storage is where a node keeps its log, its term and vote, and its snapshots.
type storage struct {
	log       *guarded // of the log and of term and vote
	logs      raft.LogStore
	snapshots raft.SnapshotStore
	close     io.Closer
}

func openStorage(cfg Config, logger hclog.Logger, fail func(error)) (*storage, error) {
	if cfg.Dir == "" {
		g := &guarded{LogStore: cfg.Memory.logs, stable: cfg.Memory.logs, failing: cfg.Memory.failing, fail: fail}
		return &storage{log: g, logs: g, snapshots: cfg.Memory.snapshots, close: io.NopCloser(nil)}, nil
	}
	dir := filepath.Join(cfg.Dir, "wal")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, snapshotsKept, logger)
	if err != nil {
		return nil, fmt.Errorf("consensus: open snapshots: %w", err)
	}
	files := cfg.files
	if files == nil {
		files = fs.New()
	}
	w, err := wal.Open(dir, wal.WithSegmentSize(cmp.Or(cfg.segment, segmentSize)), wal.WithLogger(logger), wal.WithSegmentFiler(segment.NewFiler(dir, files)))
	if err != nil {
		return nil, fmt.Errorf("consensus: open log %s: %w", dir, err)
	}
	g := &guarded{LogStore: w, stable: w, monotonic: true, failing: func() error { return nil }, fail: fail}
	cache, err := raft.NewLogCache(cachedEntries, g)
	if err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("consensus: %w", err)
	}
	return &storage{log: g, logs: cache, snapshots: snapshots, close: w}, nil
}

// guarded stands between raft and its store, because of what raft does when a
// store fails: it panics where it can't save its term, and where it can't read
// an entry, and goes on trying elsewhere. A node that can't write must not
// take part any more, and must not take the process down with it.
//
// So the first failure is told to fail, and it and everything after it ends
// the goroutine that called. Raft's goroutines clean up in deferred calls:
// requests are answered without success, what a leader had under way fails as
// lost. Nothing is acknowledged that isn't on the disk.
type guarded struct {
	raft.LogStore
	stable    raft.StableStore
	monotonic bool
	failing   func() error
	fail      func(error)

	mu  sync.Mutex
	err error
}

// check passes err on, unless the store is broken. While begun is false raft
// isn't running yet, and an error has somebody to go to.
func (g *guarded) check(doing string, err error) {
	g.mu.Lock()
	if g.err == nil && err == nil {
		g.mu.Unlock()
		return
	}
	first := g.err == nil
	if first {
		g.err = fmt.Errorf("consensus: %s: %w", doing, err)
	}
	g.mu.Unlock()
	if first {
		g.fail(g.err)
	}
	runtime.Goexit()
}

// write does one write.
func (g *guarded) write(doing string, f func() error) error {
	g.check(doing, g.failing())
	g.check(doing, f())
	return nil
}

func (g *guarded) GetLog(index uint64, l *raft.Log) error {
	err := g.LogStore.GetLog(index, l)
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		g.check("read the log", err)
	}
	return err
}

func (g *guarded) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g *guarded) StoreLogs(logs []*raft.Log) error {
	return g.write("write the log", func() error { return g.LogStore.StoreLogs(logs) })
}

func (g *guarded) DeleteRange(from, to uint64) error {
	return g.write("truncate the log", func() error { return g.LogStore.DeleteRange(from, to) })
}

// IsMonotonic tells raft that the log must not have holes.
func (g *guarded) IsMonotonic() bool { return g.monotonic }

func (g *guarded) Set(key, value []byte) error {
	return g.write("save the vote", func() error { return g.stable.Set(key, value) })
}

func (g *guarded) SetUint64(key []byte, value uint64) error {
	return g.write("save the term", func() error { return g.stable.SetUint64(key, value) })
}

func (g *guarded) Get(key []byte) ([]byte, error) { return g.stable.Get(key) }

func (g *guarded) GetUint64(key []byte) (uint64, error) { return g.stable.GetUint64(key) }
