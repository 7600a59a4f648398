package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

const (
	topologyLook    = 2 * time.Second        // how often the topology file is looked at
	topologyWritten = 200 * time.Millisecond // how long a new version stays as it is
)

// topologyFile keeps a directory as a file says: the file may be replaced while
// the node runs, by whatever writes it. A version that is not valid, or in which
// this node is not where it is, is told and ignored.
type topologyFile struct {
	path      string
	directory *regions.Directory
	check     func(*regions.Topology) error
	log       *slog.Logger
	reloads   *prometheus.CounterVec
	good      prometheus.Gauge

	mu   sync.Mutex // guards seen, and who loads
	seen [sha256.Size]byte
	bad  error // why the version that was seen last is not taken
}

// openTopology reads the file for the first time.
func openTopology(path string, check func(*regions.Topology) error, log *slog.Logger) (*topologyFile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("topology: %w", err)
	}
	f := &topologyFile{path: path, check: check, log: log, seen: sha256.Sum256(b)}
	t, err := f.parse(b)
	if err != nil {
		return nil, err
	}
	f.directory = regions.NewDirectory(t)
	return f, nil
}

func (f *topologyFile) register(r prometheus.Registerer) {
	f.reloads = promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "muster_topology_reloads_total", Help: "New versions of the topology file, by whether they were taken.",
	}, []string{"outcome"})
	f.good = promauto.With(r).NewGauge(prometheus.GaugeOpts{
		Name: "muster_topology_valid", Help: "1 if the topology file as it is now is the one in use.",
	})
	f.good.Set(1)
}

func (f *topologyFile) parse(b []byte) (*regions.Topology, error) {
	t, err := regions.ParseTopology(b)
	if err == nil {
		err = f.check(t)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	return t, nil
}

// reload takes the file as it is now. It returns why it can't, also if that was
// told before.
func (f *topologyFile) reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, err := os.ReadFile(f.path)
	seen := sha256.Sum256(b)
	if err == nil {
		if seen == f.seen {
			return f.bad
		}
		var t *regions.Topology
		if t, err = f.parse(b); err == nil {
			err = f.directory.Replace(t)
		}
	}
	if err != nil {
		if f.bad == nil || seen != f.seen { // not every 2 s
			f.log.Error("the topology file is not taken; what was before goes on", "err", err)
			f.reloads.WithLabelValues("refused").Inc()
		}
		f.seen, f.bad = seen, err
		f.good.Set(0)
		return err
	}
	f.seen, f.bad = seen, nil
	f.good.Set(1)
	f.reloads.WithLabelValues("taken").Inc()
	nodes := 0
	for _, r := range f.directory.Topology().Regions {
		nodes += len(r.Nodes)
	}
	f.log.Info("the topology file is another one now, and is taken", "regions", len(f.directory.Topology().Regions), "nodes", nodes)
	return nil
}

// watch looks at the file until ctx ends. A file that is being written may be
// valid before it is complete, and have regions lost: so it is taken when it is
// the same a moment later.
func (f *topologyFile) watch(ctx context.Context) {
	sum := func() [sha256.Size]byte {
		b, _ := os.ReadFile(f.path)
		return sha256.Sum256(b)
	}
	tick := time.NewTicker(topologyLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		f.mu.Lock()
		seen := f.seen
		f.mu.Unlock()
		for now := sum(); now != seen; {
			select {
			case <-time.After(topologyWritten):
			case <-ctx.Done():
				return
			}
			if next := sum(); next != now {
				now = next
				continue
			}
			_ = f.reload() // it is in the log
			break
		}
	}
}

// ctlReload is reload for an operator.
func (f *topologyFile) ctlReload() error {
	if err := f.reload(); err != nil {
		return fmt.Errorf("%w: %w", errs.New(errs.Invalid, "invalid_topology", "the topology file is not taken; what was before goes on"), err)
	}
	return nil
}
