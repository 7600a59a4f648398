package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	neturl "net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox/kafka"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/steering/locate"
	"github.com/mustermesh/muster/web"
)

// ServeConfig is the file that `muster serve --config` reads, YAML. Paths are
// relative to the file.
type ServeConfig struct {
	Node     regions.NodeID `yaml:"node"`
	Topology string         `yaml:"topology"` // file, see regions.Topology
	// Database is the URL; MUSTER_DATABASE_URL if empty, so that it need not
	// stand in a file.
	Database string `yaml:"database"`
	// DatabaseRegion is the region in which the database is, if it is in one: all
	// messages are written there. Without it, each group's are written in the
	// region where it was made, near to the rows of a database that keeps them so.
	DatabaseRegion regions.RegionID `yaml:"database_region"`
	// DatabaseSurvivesRegion: the database goes on without any one of the regions,
	// so where a group's home region can't be reached its messages are written
	// from here.
	DatabaseSurvivesRegion bool `yaml:"database_survives_region"`
	// SecretFile holds 64 or more hexadecimal digits, the same on all nodes.
	SecretFile string `yaml:"secret_file"`

	HTTP         string `yaml:"http"`         // TCP address of the API, the WebSocket and the web app
	WebTransport string `yaml:"webtransport"` // UDP address; empty: none
	Peer         string `yaml:"peer"`         // UDP address of the peer links
	Admin        string `yaml:"admin"`        // TCP address of health, metrics, profiles, muster ctl and the console: private
	// Data is where the node keeps the log of its region. A node that lost it
	// comes back as if it had been away for long.
	Data string `yaml:"data"`

	// TLS is the public certificate, for HTTP and WebTransport. Without it HTTP
	// is plain, for a proxy in front, and there can be no WebTransport.
	TLS *struct {
		Cert string `yaml:"cert"`
		Key  string `yaml:"key"`
	} `yaml:"tls"`
	// PeerTLS is the directory that `muster ca` wrote: ca.pem, <node>.pem,
	// <node>.key.
	PeerTLS string `yaml:"peer_tls"`

	Origins    []string `yaml:"origins"`     // pages that may use the API and open sessions
	InviteBase string   `yaml:"invite_base"` // such as https://app.example.org/join/
	// ProxyHeader names the header in which a trusted proxy tells the client's
	// address, such as X-Forwarded-For (its last entry counts). Set it only
	// behind such a proxy: limits per address would be anybody's to evade.
	ProxyHeader string       `yaml:"proxy_header"`
	DBConns     int32        `yaml:"database_connections"` // most at a time; default 16
	Limits      LimitsConfig `yaml:"limits"`

	// DatabaseReplica is the URL of a PostgreSQL that follows the other one, for
	// lists and profiles that may be some seconds old; MUSTER_DATABASE_REPLICA_URL if
	// empty; optional. CockroachDB needs none.
	DatabaseReplica string `yaml:"database_replica"`
	// Traces says where spans go: an OTLP endpoint over HTTP, such as
	// http://127.0.0.1:4318, and of which share of what is asked, 0 to 1 (default
	// 0.05). Without an endpoint there are none.
	Traces struct {
		Endpoint string   `yaml:"endpoint"`
		Share    *float64 `yaml:"share"`
	} `yaml:"traces"`

	Capacity uint32 `yaml:"capacity"` // the node's share of its region's rooms, beside the others'; default 100
	// Roles are what the process does: edge and core, which go together, and dns, media
	// and turn. Default: edge and core.
	Roles []string `yaml:"roles"`
	// Media is for the role media: to forward packets of calls. TURN is for the role
	// turn: to relay those of clients that can't be reached otherwise.
	Media MediaServeConfig `yaml:"media"`
	TURN  TURNServeConfig  `yaml:"turn"`
	// DNS is for the role dns.
	DNS DNSConfig `yaml:"dns"`
	// Objects is where pictures and exports are kept: a directory, which all nodes
	// must share, or s3://bucket/prefix?endpoint=https://host&region=name. Default:
	// objects in Data, for a deployment of one node.
	Objects string `yaml:"objects"`
	// Locations is a file in MaxMind's format that tells where networks are, by
	// city or country; empty: the built-in table of countries.
	Locations string `yaml:"locations"`
	// FullSessions is at how many sessions a node of capacity 100 is full: from
	// 85 % of it on, new clients are sent to other regions. Default 50,000.
	FullSessions int `yaml:"full_sessions"`

	// Mail is the server that takes mails; without it none are sent.
	Mail MailConfig `yaml:"mail"`
	// Google is for those who sign in with it; without it nobody does.
	Google GoogleConfig `yaml:"google"`
	// Stripe is for those who pay by card; without it nobody does.
	Stripe StripeConfig `yaml:"stripe"`
	// Hashing says how passwords are hashed.
	Hashing HashingConfig `yaml:"hashing"`
	// WebhooksPrivate: webhooks may be at addresses that are not on the internet,
	// for a deployment whose users may reach all that its nodes can.
	WebhooksPrivate bool `yaml:"webhooks_private"`

	// Kafka gets all events of groups and users; without brokers none does.
	Kafka kafka.Config `yaml:"kafka"`

	// Drain says how clients are sent away: how many a second (default 100), and
	// how long each may take (default 10s).
	Drain struct {
		Rate     float64       `yaml:"rate"`
		Deadline time.Duration `yaml:"deadline"`
	} `yaml:"drain"`
}

// LoadServeConfig reads and checks the file. Unknown keys are errors.
func LoadServeConfig(path string) (*ServeConfig, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	var c ServeConfig
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if c.Database == "" {
		c.Database = os.Getenv("MUSTER_DATABASE_URL")
	}
	c.DatabaseReplica = cmp.Or(c.DatabaseReplica, os.Getenv("MUSTER_DATABASE_REPLICA_URL"))
	var missing []string
	for key, value := range map[string]string{
		"node": string(c.Node), "topology": c.Topology, "secret_file": c.SecretFile, "http": c.HTTP,
		"peer": c.Peer, "admin": c.Admin, "data": c.Data, "peer_tls": c.PeerTLS, "database (or MUSTER_DATABASE_URL)": c.Database,
	} {
		if value == "" {
			missing = append(missing, key)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return nil, fmt.Errorf("%s: missing %s; see docs/operations.md", path, strings.Join(missing, ", "))
	}
	if c.WebTransport != "" && c.TLS == nil {
		return nil, fmt.Errorf("%s: webtransport needs tls: browsers speak it to a trusted certificate only", path)
	}
	for _, o := range c.Origins {
		// A browser sends exactly this; a slash at the end would match nothing.
		u, err := neturl.Parse(o)
		if o != "*" && (err != nil || u.Host == "" || o != strings.ToLower(u.Scheme+"://"+u.Host)) {
			return nil, fmt.Errorf("%s: origins: %q is none: write it as https://app.example.org, in lower case and without a path", path, o)
		}
	}
	dir := filepath.Dir(path)
	paths := []*string{&c.Topology, &c.SecretFile, &c.PeerTLS, &c.Data}
	if c.Locations != "" {
		paths = append(paths, &c.Locations)
	}
	if c.TLS != nil {
		paths = append(paths, &c.TLS.Cert, &c.TLS.Key)
	}
	for _, p := range []*string{&c.Mail.PasswordFile, &c.Mail.CAFile, &c.Google.SecretFile, &c.Stripe.KeyFile, &c.Stripe.SecretFile, &c.Kafka.CAFile, &c.TURN.SecretFile} {
		if *p != "" {
			paths = append(paths, p)
		}
	}
	if c.Objects != "" && !strings.Contains(c.Objects, "://") {
		paths = append(paths, &c.Objects)
	}
	for _, p := range paths {
		if !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return &c, nil
}

// Server is one node of a deployment, with its database pool and admin
// address. It is a run.Service.
type Server struct {
	node   *Node
	db     *db.DB
	where  locate.Locator
	traces *obs.Traces // nil: off
	group  run.Group
	admin  net.Listener

	registry *prometheus.Registry
}

// NewServer opens the database and the sockets and assembles the node.
func NewServer(ctx context.Context, c *ServeConfig, version string, log *slog.Logger) (_ *Server, err error) {
	if err := checkRoles(c.Roles); err != nil {
		return nil, err
	}
	var region regions.RegionID
	topology, err := openTopology(c.Topology, func(t *regions.Topology) error {
		_, in, ok := t.Node(c.Node)
		switch {
		case !ok:
			return fmt.Errorf("this node, %q, is not in it", c.Node)
		case region != "" && in != region:
			return fmt.Errorf("this node, %q, is of region %s, not %s", c.Node, region, in)
		}
		region = in
		if _, ok := t.Region(c.DatabaseRegion); !ok && c.DatabaseRegion != "" {
			return fmt.Errorf("database_region %q is not in it", c.DatabaseRegion)
		}
		return nil
	}, log)
	if err != nil {
		return nil, err
	}
	secret, err := readSecret(c.SecretFile)
	if err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(c.PeerTLS, name) }
	identity, ca, err := peerlink.LoadIdentity(file(string(c.Node)+".pem"), file(string(c.Node)+".key"), file("ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("peer_tls: %w; `muster ca` makes identities", err)
	}
	cfg := Config{
		ID: c.Node, Directory: topology.directory, Secret: secret, Identity: identity, CA: ca,
		DatabaseRegion: c.DatabaseRegion, DatabaseSurvives: c.DatabaseSurvivesRegion,
		Origins: c.Origins, InviteBase: c.InviteBase, Version: version, Log: log,
		Raft: filepath.Join(c.Data, "raft"), Capacity: c.Capacity,
		Drain: DrainConfig{Rate: c.Drain.Rate, Deadline: c.Drain.Deadline}, Google: c.Google, Stripe: c.Stripe,
	}
	hashing, hash := c.Hashing.pool(log)
	cfg.Hash = hash
	cfg.Notify = NotifyConfig{From: c.Mail.From, Private: c.WebhooksPrivate}
	if cfg.Notify.Mail, err = c.Mail.sender(); err != nil {
		return nil, err
	}
	if cfg.Notify.Mail == nil {
		log.WarnContext(ctx, "no mail server is named: this node sends no mails")
	}
	if c.ProxyHeader != "" {
		cfg.ClientAddr = forwardedAddr(c.ProxyHeader)
	}
	if err = c.Limits.apply(&cfg); err != nil {
		return nil, err
	}
	if cfg.HTTPTLS, cfg.WebTransportTLS, err = c.certificates(); err != nil {
		return nil, err
	}
	if err = c.calls(&cfg); err != nil {
		return nil, err
	}
	registry := obs.ProcessRegistry()
	cfg.Metrics = obs.Labelled(registry, string(region), string(c.Node))
	topology.register(cfg.Metrics)

	// What is open is closed again if a later step fails.
	var open []func()
	defer func() {
		if err != nil {
			for _, f := range open {
				f()
			}
		}
	}()
	s := &Server{registry: registry}
	if s.db, err = db.Open(ctx, c.Database, db.Config{MaxConns: max(c.DBConns, 0), Name: "muster " + string(c.Node), Replica: c.DatabaseReplica}); err != nil {
		return nil, err
	}
	open = append(open, s.db.Close)
	if err = s.db.CheckSchema(ctx); err != nil {
		return nil, err
	}
	cfg.DB = s.db
	stored, end, err := openObjects(ctx, cmp.Or(c.Objects, filepath.Join(c.Data, "objects")))
	if err != nil {
		return nil, err
	}
	open = append(open, end)
	cfg.Objects = stored
	s.group.Add("objects", stopper(end)) // after the node
	if err = s.db.Register(cfg.Metrics); err != nil {
		return nil, err
	}
	if s.traces, err = c.traces(ctx, version); err != nil {
		return nil, err
	}
	open = append(open, s.traces.Stop)
	cfg.Tracer = s.traces.Tracer(string(region), string(c.Node))
	if cfg.HTTP, err = listen("http", c.HTTP, &open); err != nil {
		return nil, err
	}
	if s.admin, err = listen("admin", c.Admin, &open); err != nil {
		return nil, err
	}
	if cfg.Peer, err = listenUDP("peer", c.Peer, &open); err != nil {
		return nil, err
	}
	if c.WebTransport != "" {
		if cfg.WebTransport, err = listenUDP("webtransport", c.WebTransport, &open); err != nil {
			return nil, err
		}
	}
	if s.where, err = locate.Open(c.Locations); err != nil {
		return nil, err
	}
	open = append(open, func() { _ = s.where.Close() })
	cfg.Steering = SteeringConfig{Locator: s.where, FullSessions: c.FullSessions}
	if slices.Contains(c.Roles, "dns") {
		cfg.DNS = &c.DNS
	}
	if len(c.Kafka.Brokers) > 0 {
		events, err := kafka.New(c.Kafka)
		if err != nil {
			return nil, err
		}
		open = append(open, events.Close)
		cfg.Sinks = append(cfg.Sinks, events)
		s.group.Add("kafka", stopper(events.Close)) // after the node
	}
	if s.node, err = New(cfg); err != nil {
		return nil, err
	}
	if hashing != nil {
		s.group.Add("hashing", hashing)
	}
	s.group.Add("node", s.node)
	s.group.Add("topology", newLoop(topology.watch))
	admin := obs.Admin(registry, s.node.Ready)
	admin.Handle("/ctl/", (&control{nodes: func() []*Node { return []*Node{s.node} }, gather: registry, reload: topology.ctlReload}).handler())
	admin.Handle("/console/", web.Console())
	admin.Handle("/assets/", web.Console())
	s.group.Add("admin", newHTTPServer(s.admin, nil, admin, log))
	return s, nil
}

// Start starts the node.
func (s *Server) Start(ctx context.Context) error { return s.group.Start(ctx) }

// Drain sends the node's clients and rooms to other nodes. It returns when none
// is left, or ctx ends.
func (s *Server) Drain(ctx context.Context) error { return s.node.Drain(ctx) }

// Stop stops the node and closes everything.
func (s *Server) Stop() {
	s.group.Stop()
	_ = s.admin.Close()
	_ = s.where.Close()
	s.db.Close()
	s.traces.Stop()
}

// defaultShare is of what is asked, where the configuration says nothing.
const defaultShare = 0.05

func (c *ServeConfig) traces(ctx context.Context, version string) (*obs.Traces, error) {
	if c.Traces.Endpoint == "" {
		return nil, nil
	}
	share := defaultShare
	if c.Traces.Share != nil {
		share = *c.Traces.Share
	}
	return obs.NewTraces(ctx, c.Traces.Endpoint, share, version)
}

func listen(key, addr string, open *[]func()) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	*open = append(*open, func() { _ = l.Close() })
	return l, nil
}

func listenUDP(key, addr string, open *[]func()) (*net.UDPConn, error) {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	*open = append(*open, func() { _ = c.Close() })
	return c, nil
}

// forwardedAddr reads the client's address from a header that a proxy sets.
func forwardedAddr(header string) func(*http.Request) netip.Addr {
	return func(r *http.Request) netip.Addr {
		values := r.Header.Values(header)
		if len(values) > 0 {
			list := strings.Split(values[len(values)-1], ",")
			last := strings.TrimSpace(list[len(list)-1])
			if a, err := netip.ParseAddr(last); err == nil {
				return a.Unmap()
			}
			if a, err := netip.ParseAddrPort(last); err == nil { // some proxies add the port
				return a.Addr().Unmap()
			}
		}
		at, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return netip.Addr{}
		}
		return at.Addr().Unmap()
	}
}

// certificates loads the public certificate for both listeners.
func (c *ServeConfig) certificates() (web, wt *tls.Config, err error) {
	if c.TLS == nil {
		return nil, nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("tls: %w", err)
	}
	certs := []tls.Certificate{cert}
	return &tls.Config{Certificates: certs, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
		&tls.Config{Certificates: certs, MinVersion: tls.VersionTLS13}, nil
}

func readSecret(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("node secret: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(secret) < 32 {
		return nil, fmt.Errorf("node secret: %s must hold at least 64 hexadecimal digits", path)
	}
	return secret, nil
}
