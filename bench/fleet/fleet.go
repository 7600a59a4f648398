// Package fleet runs one region of real `muster serve` processes on this
// machine, as a deployment would: each with its own configuration, certificate,
// log on disk and admin address, over one database. Benchmarks drain, kill and
// pause them.
//
// A process is ended by its own id and no other way. If this one dies without
// Stop, the kernel ends them (Linux).
package fleet

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
)

// Region is the name of the region.
const Region = "bench"

// Config describes a fleet; Binary, Dir and Database are needed.
type Config struct {
	Binary   string   // of muster
	Env      []string // beside this process's own
	Dir      string   // for everything that is written; it has to exist
	Database string   // URL of an empty or migrated database
	Nodes    int      // default 3
	// WebTransport has the nodes speak it, and so TLS, for HTTP too; without it
	// they do as behind a proxy, over WebSocket alone.
	WebTransport bool

	Media bool // the nodes have the role media, too, on the loopback

	// Messages is how many a session may send a second; 0: the default, which a
	// person doesn't come near and a benchmark's one sender is.
	Messages float64

	DrainRate     float64       // clients a second that a draining node sends away; 0: the default
	DrainDeadline time.Duration // how long one may take; 0: the default
}

// Fleet is the processes.
type Fleet struct {
	Nodes []*Process
	cfg   Config
	admin *http.Client    // of the admin addresses
	given map[string]bool // addresses
	tls   *tls.Config     // of clients; nil without TLS
}

// New writes what the processes need; nothing runs yet.
func New(cfg Config) (*Fleet, error) {
	cfg.Nodes = cmp.Or(cfg.Nodes, 3)
	f := &Fleet{cfg: cfg, given: map[string]bool{}, admin: &http.Client{Timeout: 5 * time.Second}}
	if err := f.write(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return f, nil
}

func (f *Fleet) write() error {
	authority, err := peerlink.OpenAuthority(filepath.Join(f.cfg.Dir, "ca"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.cfg.Dir, "secret"), []byte(strings.Repeat("5e", 32)), 0o600); err != nil {
		return err
	}
	scheme, public := "", "" // what TLS adds to URLs and to configurations
	if f.cfg.WebTransport {
		if err := f.certificate(); err != nil {
			return err
		}
		scheme, public = "s", "tls: {cert: public.pem, key: public-key.pem}\n"
	}
	topology := "regions:\n  - name: " + Region + "\n    location: {lat: 52.52, lng: 13.4}\n    nodes:\n"
	for i := range f.cfg.Nodes {
		p := &Process{ID: regions.NodeID(fmt.Sprintf("%s-%d", Region, i+1)), fleet: f}
		var web, peer string
		if web, err = f.free("tcp"); err != nil {
			return err
		}
		if peer, err = f.free("udp"); err != nil {
			return err
		}
		if p.Admin, err = f.free("tcp"); err != nil {
			return err
		}
		p.HTTP, p.WS = "http"+scheme+"://"+web, "ws"+scheme+"://"+web+"/ws"
		extra := public
		if f.cfg.WebTransport {
			listen, err := f.free("udp")
			if err != nil {
				return err
			}
			p.WT = "https://" + listen + "/wt"
			extra += "webtransport: " + listen + "\n"
		}
		if f.cfg.Media {
			listen, err := f.free("udp")
			if err != nil {
				return err
			}
			extra += "roles: [edge, core, media]\nmedia: {addr: " + listen + "}\n"
		}
		p.log = filepath.Join(f.cfg.Dir, string(p.ID)+".log")
		topology += fmt.Sprintf("      - {id: %s, peer: %q, http: %q, ws: %q, wt: %q}\n", p.ID, peer, p.HTTP, p.WS, p.WT)
		cert, err := authority.Issue(Region, p.ID)
		if err != nil {
			return err
		}
		if err := authority.WriteIdentity(filepath.Join(f.cfg.Dir, "identities", string(p.ID)), p.ID, cert); err != nil {
			return err
		}
		messages := ""
		if f.cfg.Messages > 0 {
			messages = fmt.Sprintf("  messages: {burst: %[1]g, per_second: %[1]g}\n", f.cfg.Messages)
		}
		// All clients of a benchmark share one address.
		config := fmt.Sprintf(`node: %[1]s
topology: topology.yaml
secret_file: secret
data: data/%[1]s
http: %[2]s
peer: %[3]s
admin: %[4]s
peer_tls: identities/%[1]s
limits:
  address: {burst: 20000, per_second: 20000}
  connections: {burst: 20000, per_second: 20000}
%[8]sdrain: {rate: %[5]g, deadline: %[6]s}
%[7]s`, p.ID, web, peer, p.Admin, f.cfg.DrainRate, f.cfg.DrainDeadline, extra, messages)
		if err := os.WriteFile(f.config(p), []byte(config), 0o600); err != nil {
			return err
		}
		f.Nodes = append(f.Nodes, p)
	}
	return os.WriteFile(filepath.Join(f.cfg.Dir, "topology.yaml"), []byte(topology), 0o600)
}

func (f *Fleet) config(p *Process) string { return filepath.Join(f.cfg.Dir, string(p.ID)+".yaml") }

// certificate makes one for all nodes, which clients trust.
func (f *Fleet) certificate() error {
	in := func(name string) string { return filepath.Join(f.cfg.Dir, name) }
	trusted, err := node.WriteSelfSigned(in("public.pem"), in("public-key.pem"), 24*time.Hour, "127.0.0.1")
	if err != nil {
		return err
	}
	f.tls = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	return nil
}

// TLS is what clients trust; nil if the nodes don't speak it.
func (f *Fleet) TLS() *tls.Config { return f.tls.Clone() }

// free returns an address of this machine that nobody listens on, and that no other
// node got: the kernel may offer one again before it is used.
func (f *Fleet) free(network string) (string, error) {
	for {
		address, err := unused(network)
		if err != nil || !f.given[network+address] {
			f.given[network+address] = true
			return address, err
		}
	}
}

func unused(network string) (string, error) {
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		defer func() { _ = c.Close() }()
		return c.LocalAddr().String(), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String(), nil
}

// Start brings the schema up to date, starts all processes and waits until
// they take traffic. On an error, Stop still has to be called.
func (f *Fleet) Start(ctx context.Context) error {
	migrate := exec.CommandContext(ctx, f.cfg.Binary, "migrate")
	migrate.Env = f.env()
	if out, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("fleet: migrate: %w: %s", err, bytes.TrimSpace(out))
	}
	for _, p := range f.Nodes {
		if err := p.Start(); err != nil {
			return err
		}
	}
	for _, p := range f.Nodes {
		if err := p.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) env() []string {
	return append(append(os.Environ(), "MUSTER_DATABASE_URL="+f.cfg.Database), f.cfg.Env...)
}

// Stop ends all processes: politely, then not.
func (f *Fleet) Stop() {
	var wg sync.WaitGroup
	for _, p := range f.Nodes {
		wg.Go(p.end)
	}
	wg.Wait()
	f.admin.CloseIdleConnections()
}

// Endpoints are the nodes for clients, the one at place first before the others.
func (f *Fleet) Endpoints(first int) []client.Endpoint {
	var list []client.Endpoint
	for i := range f.Nodes {
		p := f.Nodes[(first+i)%len(f.Nodes)]
		list = append(list, client.Endpoint{Region: Region, Node: string(p.ID), WS: p.WS, WT: p.WT})
	}
	return list
}

// Node returns the process of a node; nil if there is none.
func (f *Fleet) Node(id string) *Process {
	for _, p := range f.Nodes {
		if string(p.ID) == id {
			return p
		}
	}
	return nil
}

// Database is the URL of the fleet's database.
func (f *Fleet) Database() string { return f.cfg.Database }

// API is where the first node's HTTP API is; Client finds it elsewhere when
// that one is down.
func (f *Fleet) API() string { return f.Nodes[0].HTTP }

// Client is for the HTTP API of whichever node answers: what can't connect to the
// one that it is for asks the next one. Close its idle connections at the end.
func (f *Fleet) Client() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &anyNode{f, &http.Transport{MaxIdleConnsPerHost: 64, TLSClientConfig: f.TLS()}}}
}

type anyNode struct {
	fleet *Fleet
	*http.Transport
}

func (a *anyNode) RoundTrip(r *http.Request) (*http.Response, error) {
	var last error
	nodes := a.fleet.Nodes
	first := max(0, slices.IndexFunc(nodes, func(p *Process) bool { return strings.HasSuffix(p.HTTP, "://"+r.URL.Host) }))
	for i := range nodes {
		p := nodes[(first+i)%len(nodes)]
		try := r.Clone(r.Context())
		_, try.URL.Host, _ = strings.Cut(p.HTTP, "://")
		try.Host = ""
		if r.GetBody != nil {
			body, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			try.Body = body
		}
		resp, err := a.Transport.RoundTrip(try)
		var op *net.OpError
		if err == nil || !errors.As(err, &op) || op.Op != "dial" {
			return resp, err
		}
		last = err
	}
	return nil, last
}
