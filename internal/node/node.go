// Package node is the one place where Muster's parts meet. A Node is one
// server process's worth of them, the same for `muster serve`, `muster dev`
// and the tests; a Mesh is several regions of nodes in one process; Dev is a
// Mesh with everything a newcomer needs around it.
//
// # From start to stop
//
// Parts start in this order, each leaning on those before it, and stop in
// reverse:
//
//	auth           signing keys, and the public keys that verify
//	housekeeping   answers to repeated requests, forgotten after a while
//	chat           messages
//	activity       last_active of groups
//	hub            rooms
//	peer links     other nodes; from here on frames arrive
//	revocations    ended logins
//	sessions       registry of this node's sessions
//	transport      WebTransport; from here on clients arrive
//	HTTP           API, WebSocket, web app
//
// On a stop the HTTP server takes no more requests, sessions are told
// `draining` and when to come back, what is being stored is stored, and then
// the links close. The database is the caller's: many nodes may share it.
package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/core/users"
	"github.com/mustermesh/muster/edge/hub"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/web"
)

// Config is what a node is made of. Fields without "optional" are needed. The
// sockets belong to the node from Start on.
type Config struct {
	ID       regions.NodeID
	Topology *regions.Topology

	DB     *db.DB
	Secret []byte // at least 32 bytes, the same on all nodes

	HTTP    net.Listener
	HTTPTLS *tls.Config // optional: without it, HTTP is plain

	// WebTransport is the UDP socket for it; optional. Its certificate is
	// shown to browsers, so it is another one than Identity.
	WebTransport    net.PacketConn
	WebTransportTLS *tls.Config
	CertSHA256      string // optional: base64, for clients that pin the certificate

	Peer     net.PacketConn // the UDP socket of the peer links
	Identity tls.Certificate
	CA       *x509.CertPool

	Origins    []string                           // optional: of pages that may use the API and open sessions
	InviteBase string                             // optional: URL prefix of invite links
	Demo       func() (httpapi.Demo, bool)        // optional
	ClientAddr func(*http.Request) netip.Addr     // optional: of clients behind a trusted proxy
	Version    string                             // optional
	Log        *slog.Logger                       // optional
	Metrics    prometheus.Registerer              // optional
	Session    session.Config                     // optional: limits and times
	Limits     struct{ Address, User auth.Limit } // optional: of the HTTP API
}

// Node is one node. It is a run.Service.
type Node struct {
	cfg     Config
	region  regions.RegionID
	log     *slog.Logger
	group   run.Group
	handler http.Handler

	// Hub and Sessions are for tests and tools that look inside.
	Hub      *hub.Hub
	Sessions *session.Registry
}

// New assembles a node; nothing runs or listens yet.
func New(cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	started := time.Now()
	owners, err := regions.NewStatic(cfg.Topology).Local(cfg.ID, started)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, region: owners.RegionOf(cfg.ID)}
	n.log = cfg.Log.With("region", n.region, "node", cfg.ID)

	// The links know the hub, and the hub the links.
	wires := &links{log: n.log}
	revoked := &revocations{self: cfg.ID, region: n.region, topology: cfg.Topology, log: n.log}

	accounts, err := auth.New(cfg.DB, cfg.Secret, string(n.region), auth.Config{
		VerifierConfig: auth.VerifierConfig{Log: n.log}, Announce: revoked,
	})
	if err != nil {
		return nil, err
	}
	announce := &membershipAnnouncer{log: n.log}
	teams := groups.New(cfg.DB, string(n.region), groups.Config{Announce: announce, LinkBase: cfg.InviteBase})
	messages := chat.New(cfg.DB)
	touches := newActivity(teams.Touch, n.log)
	standings := members{teams}

	n.Hub = hub.New(hub.Config{
		Self: cfg.ID, Region: n.region, SlotEpoch: regions.ClockEpoch(started),
		Roster: owners, Links: wires, Members: standings, Messages: messages, Activity: touches,
		Grace: cfg.Session.Grace, Tick: cfg.Session.Tick,
		Logger: n.log, Registry: cfg.Metrics,
	})
	wires.hub, announce.hub = n.Hub, n.Hub

	wires.peers, err = peerlink.New(peerlink.Config{
		Self: cfg.ID, Region: n.region, Incarnation: uint64(started.UnixMilli()),
		Conn: cfg.Peer, Identity: cfg.Identity, CA: cfg.CA, Handler: wires, Logger: n.log, Metrics: cfg.Metrics,
		Peers: func(id regions.NodeID) (string, regions.RegionID, bool) {
			node, region, ok := cfg.Topology.Node(id)
			return node.Peer, region, ok
		},
	})
	if err != nil {
		return nil, err
	}

	cfg.Session.Region, cfg.Session.Node = n.region, cfg.ID
	n.Sessions = session.NewRegistry(cfg.Session, session.Deps{
		Hub: n.Hub, Members: standings, Messages: store{messages}, Verifier: verifier{accounts.Verifier()},
		Roster: owners, Log: n.log, Metrics: session.NewMetrics(cfg.Metrics),
	})
	revoked.call, revoked.since, revoked.close = wires.peers.Call, accounts.RevokedSince, n.Sessions.Revoke
	wires.revoke = n.Sessions.Revoke

	realtime := transport.New(transport.Config{
		Origins: cfg.Origins, UDP: cfg.WebTransport, TLS: cfg.WebTransportTLS, ClientAddr: cfg.ClientAddr, Log: n.log,
		Admit: func(from netip.Addr) time.Duration { return n.Sessions.Gate().Connect(time.Now(), from) },
	}, n.Sessions.Accept)

	assets, _ := web.Dist()
	api, err := httpapi.New(httpapi.Config{
		DB: cfg.DB, Auth: accounts, Users: users.New(cfg.DB, time.Now), Groups: teams,
		Messages: conversation{messages, n.Hub}, Edges: directory{cfg.Topology, cfg.CertSHA256, cfg.Demo},
		Assets: assets, Origins: cfg.Origins, Version: cfg.Version, ClientAddr: cfg.ClientAddr,
		AddressLimit: cfg.Limits.Address, UserLimit: cfg.Limits.User,
		Log: n.log, Metrics: cfg.Metrics,
	})
	if err != nil {
		return nil, err
	}
	n.handler = routes(api, realtime.WebSocket(), web.Handler(clientSchemes(cfg.Topology)))

	n.group.Add("auth", accounts)
	n.group.Add("housekeeping", &housekeeping{log: n.log, work: func(ctx context.Context) error {
		return httpapi.SweepIdempotencyKeys(ctx, cfg.DB, time.Now())
	}})
	n.group.Add("chat", stopper(messages.Stop))
	n.group.Add("activity", touches)
	n.group.Add("hub", n.Hub)
	n.group.Add("peer links", wires.peers)
	n.group.Add("revocations", revoked)
	n.group.Add("sessions", n.Sessions)
	n.group.Add("transport", realtime)
	n.group.Add("drain", stopper(n.Sessions.Drain)) // before the transport stops
	n.group.Add("http", newHTTPServer(cfg.HTTP, cfg.HTTPTLS, n.handler, n.log))
	return n, nil
}

// routes is what a node answers over HTTP: the API, the WebSocket endpoint,
// and the web app for everything else.
func routes(api, ws, app http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/", api)
	mux.Handle("/docs", api)
	mux.Handle("/docs/", api)
	mux.Handle("/ws", ws)
	mux.Handle("/", app)
	return mux
}

// Start starts the node's parts in order; see the package comment.
func (n *Node) Start(ctx context.Context) error {
	if err := n.group.Start(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.cfg.ID, err)
	}
	return nil
}

// Stop drains the node, stops its parts in reverse and closes its sockets.
func (n *Node) Stop() {
	n.group.Stop()
	_ = n.cfg.HTTP.Close()
	_ = n.cfg.Peer.Close()
	if n.cfg.WebTransport != nil {
		_ = n.cfg.WebTransport.Close()
	}
}

// ID returns the node's name.
func (n *Node) ID() regions.NodeID { return n.cfg.ID }

// Region returns the region that the node is in.
func (n *Node) Region() regions.RegionID { return n.region }

// Handler is what the node serves over HTTP, for a second listener.
func (n *Node) Handler() http.Handler { return n.handler }

// Ready reports whether the node can do its work.
func (n *Node) Ready(ctx context.Context) error {
	if err := n.cfg.DB.Ping(ctx); err != nil {
		return errors.New("the database does not answer")
	}
	return nil
}

// stopper is a service that only has an end.
type stopper func()

func (stopper) Start(context.Context) error { return nil }
func (s stopper) Stop()                     { s() }
