package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/steering"
	"github.com/mustermesh/muster/web"
)

// DevConfig says what `muster dev` runs.
type DevConfig struct {
	Regions, Nodes int
	Net            simnet.Config // distance, jitter and loss between the regions
	// DatabaseRegion is where the database is: the other regions reach it over
	// the emulated network. Empty: it is at no distance from any.
	DatabaseRegion   regions.RegionID
	DatabaseSurvives bool   // the loss of a region: see MeshConfig
	Data             string // directory that outlives the run
	Front, Admin     net.Listener
	Log              *slog.Logger
	Progress         func(step string) // hears what is being done
	// Demo plays something in a group of its own until ctx ends, and tells the
	// group as soon as it exists. Nil: no demo.
	Demo      func(ctx context.Context, d DemoEnv) error
	Committed func(room string, number uint64) // see Config
	Traces    *obs.Traces                      // optional; the caller's to stop
	Google    GoogleConfig                     // optional: nobody signs in with it
	Stripe    StripeConfig                     // optional: a gateway of its own, by which no money moves
	Hashing   HashingConfig                    // optional: how passwords are hashed
	Version   string
}

// DemoEnv is what a demo needs to know of the Dev it runs in.
type DemoEnv struct {
	API     string // base URL
	State   string // file in which it may keep its accounts
	Regions []string
	Tell    func(httpapi.Demo)
	Log     *slog.Logger
}

// Dev is a Mesh with everything around it that makes one command enough: a
// database of its own, keys, a front address with the web app, an admin
// address, and a demo. It is a run.Service.
type Dev struct {
	cfg      DevConfig
	database *devdb.Server
	db       *db.DB
	pools    *Pools // nil: all share db
	mesh     *Mesh
	dns      *steering.Server
	registry *prometheus.Registry
	mails    mailbox
	group    run.Group
	life     run.Lifecycle
	failed   chan error

	mu   sync.Mutex // guards demo
	demo httpapi.Demo
	told chan struct{} // closed when there is one, or there will be none
}

// demoWait bounds how long a start waits for the demo's group.
const demoWait = 3 * time.Second

// NewDev checks the configuration; nothing runs yet.
func NewDev(cfg DevConfig) (*Dev, error) {
	if cfg.Regions < 1 || cfg.Regions > MaxRegions() {
		return nil, fmt.Errorf("--regions %d: choose 1 to %d", cfg.Regions, MaxRegions())
	}
	if cfg.Nodes < 1 || cfg.Nodes > 100 {
		return nil, fmt.Errorf("--nodes %d: choose 1 to 100", cfg.Nodes)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	return &Dev{cfg: cfg, registry: obs.ProcessRegistry(), failed: make(chan error, 1), told: make(chan struct{})}, nil
}

// Start brings everything up; a first start makes keys and a database.
func (d *Dev) Start(ctx context.Context) error {
	return d.life.Start(ctx, func(ctx context.Context) error {
		if err := d.start(ctx); err != nil {
			d.stop()
			return err
		}
		return nil
	})
}

func (d *Dev) start(ctx context.Context) error {
	if err := os.MkdirAll(d.cfg.Data, 0o755); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	d.cfg.Progress("starting the database")
	d.database = devdb.New(devdb.Options{Dir: filepath.Join(d.cfg.Data, "db"), Log: d.cfg.Log})
	if err := d.database.Start(ctx); err != nil {
		return err
	}
	if err := db.Migrate(ctx, d.database.URL()); err != nil {
		return err
	}
	var err error
	// All nodes share one pool: they are one process.
	if d.db, err = db.Open(ctx, d.database.URL(), db.Config{MaxConns: 24}); err != nil {
		return err
	}
	if err := d.db.Register(d.registry); err != nil {
		return err
	}
	secret, err := secretFile(filepath.Join(d.cfg.Data, "secret"))
	if err != nil {
		return err
	}

	network := simnet.New(d.cfg.Net)
	if d.cfg.DatabaseRegion != "" {
		if d.pools, err = OpenPools(ctx, d.database.URL(), network, d.cfg.Regions, d.cfg.DatabaseRegion); err != nil {
			return err
		}
	}
	d.cfg.Progress(fmt.Sprintf("starting %d regions with %d nodes each", d.cfg.Regions, d.cfg.Nodes))
	front := url(d.cfg.Front)
	hashing, hash := d.cfg.Hashing.pool(d.cfg.Log)
	if hashing != nil {
		d.group.Add("hashing", hashing)
	}
	stored, end, err := openObjects(ctx, filepath.Join(d.cfg.Data, "objects"))
	if err != nil {
		return err
	}
	d.group.Add("objects", stopper(end)) // after the mesh
	if err := d.openGateway(front); err != nil {
		return err
	}
	d.mesh, err = NewMesh(MeshConfig{
		Regions: d.cfg.Regions, Nodes: d.cfg.Nodes, Calls: true, DB: d.db, Pools: d.pools, DatabaseRegion: d.cfg.DatabaseRegion, DatabaseSurvives: d.cfg.DatabaseSurvives, Secret: secret, Objects: stored,
		CADir: filepath.Join(d.cfg.Data, "ca"), Raft: filepath.Join(d.cfg.Data, "raft"), Origins: origins(front), InviteBase: front + "/join/",
		Notify: NotifyConfig{Mail: &d.mails, From: "Muster <no-reply@muster.test>", Private: true}, // this machine is all that there is
		Google: d.cfg.Google, Stripe: d.cfg.Stripe, Hash: hash,
		Demo: d.demoGroup, Committed: d.cfg.Committed, Network: network, Traces: d.cfg.Traces, Version: d.cfg.Version, Log: d.cfg.Log,
	})
	if err != nil {
		return err
	}
	d.group.Add("mesh", d.mesh)
	// One name server for all: it is told how the regions stand by a node that
	// runs, whichever that is.
	watch := steering.NewWatch(steering.WatchConfig{
		Topology: d.mesh.topology, Standings: d.mesh.standings,
	})
	d.dns, err = newDNS(DNSConfig{Listen: "127.0.0.1:0", NameServers: []string{"ns." + devDNSName + "=127.0.0.1"}},
		"dev", d.mesh.Topology.Regions[0].Name, watch, d.mesh.locator, d.cfg.Log, d.registry)
	if err != nil {
		return err
	}
	d.group.Add("watch", watch)
	d.group.Add("dns", d.dns)
	metrics := prometheus.Gatherers{d.registry, d.mesh}
	ctl := d.mesh.control()
	admin := d.mesh.Admin(metrics, ctl)
	admin.Handle("/console/", web.Console())
	admin.Handle("/assets/", web.Console())
	d.group.Add("front", newHTTPServer(d.cfg.Front, nil, d.front(ctl), d.cfg.Log))
	d.group.Add("admin", newHTTPServer(d.cfg.Admin, nil, admin, d.cfg.Log))
	if err := d.group.Start(ctx); err != nil {
		return err
	}
	d.life.Go(func() { d.watch(ctx) })
	if d.cfg.Demo == nil {
		return nil
	}
	d.cfg.Progress("making the demo group")
	d.life.Go(func() { d.play(ctx) })
	// Whoever opens the first page is to find the group there.
	select {
	case <-d.told:
	case <-time.After(demoWait):
	case <-ctx.Done():
	}
	return nil
}

// front is what the first page talks to: whichever node runs, and, where nobody
// but this machine can reach it, the console.
func (d *Dev) front(ctl http.Handler) http.Handler {
	mux := http.NewServeMux()
	if a, ok := d.cfg.Front.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
		mux.Handle("/ctl/", ctl)
		mux.Handle("/console/", web.Console())
		mux.Handle("/dev/", d.mails.handler())
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for _, n := range d.mesh.nodes() {
			if n.running() {
				n.Handler().ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, "no node runs", http.StatusServiceUnavailable)
	})
	return mux
}

// Stop ends the demo, drains the nodes, and stops the database last.
func (d *Dev) Stop() { d.life.Stop(d.stop) }

func (d *Dev) stop() {
	d.group.Stop()
	if d.dns != nil {
		d.dns.Stop() // its sockets, if it was not started
	}
	if d.pools != nil {
		d.pools.Close()
	}
	if d.db != nil {
		d.db.Close()
	}
	if d.database != nil {
		d.database.Stop()
	}
}

// watch notices when the database ends by itself.
func (d *Dev) watch(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-d.database.Exited():
		select {
		case <-ctx.Done(): // we stopped it
		default:
			d.failed <- errors.New("the database ended; its log is in the data directory")
		}
	}
}

// Failed tells when the Dev can't go on.
func (d *Dev) Failed() <-chan error { return d.failed }

func (d *Dev) play(ctx context.Context) {
	told := sync.OnceFunc(func() { close(d.told) })
	defer told()
	env := DemoEnv{API: url(d.cfg.Front), State: filepath.Join(d.cfg.Data, "demo.json"), Log: d.cfg.Log,
		Tell: func(g httpapi.Demo) {
			d.mu.Lock()
			d.demo = g
			d.mu.Unlock()
			told()
		}}
	for _, r := range d.mesh.Topology.Regions {
		env.Regions = append(env.Regions, string(r.Name))
	}
	if err := d.cfg.Demo(ctx, env); err != nil && ctx.Err() == nil {
		d.cfg.Log.ErrorContext(ctx, "the demo ended", "err", err)
	}
}

func (d *Dev) demoGroup() (httpapi.Demo, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.demo, d.demo.InviteCode != ""
}

// About describes the database.
func (d *Dev) About() string { return d.database.About() }

// Mesh is what runs, for tests and benchmarks.
func (d *Dev) Mesh() *Mesh { return d.mesh }

// Ready says where everything is.
func (d *Dev) Ready() Ready {
	return Ready{
		HTTP: url(d.cfg.Front), Admin: url(d.cfg.Admin), Regions: ready(d.mesh.Topology),
		CertSHA256: d.mesh.CertSHA256, DNS: d.dns.Addr(), DNSName: devDNSName, Database: d.database.URL(), TURN: readyTURN(d.mesh.Topology),
	}
}

// url is where a browser on this machine finds a listener. A loopback address
// is called localhost, which browsers treat as secure.
func url(l net.Listener) string {
	a := l.Addr().(*net.TCPAddr)
	host := a.IP.String()
	if a.IP.IsUnspecified() || a.IP.Equal(net.IPv4(127, 0, 0, 1)) || a.IP.IsLoopback() && a.IP.To4() == nil {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(a.Port))
}

// origins are the pages that may use the mesh: the front under both of its
// names.
func origins(front string) []string {
	if rest, ok := strings.CutPrefix(front, "http://localhost:"); ok {
		return []string{front, "http://127.0.0.1:" + rest}
	}
	return []string{front}
}

// secretFile reads the node secret, and makes one the first time.
func secretFile(path string) ([]byte, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		if err := os.WriteFile(path, []byte(hex.EncodeToString(key)+"\n"), 0o600); err != nil {
			return nil, fmt.Errorf("node secret: %w", err)
		}
	}
	return readSecret(path)
}
