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
//	chat           messages
//	progress       how far people have read
//	activity       last_active of groups
//	settings       how users want to be seen
//	sfu, turn      packets of calls, if this node does that
//	realtime       rooms, links to other nodes, the region's roster, sessions
//	watch          how the regions stand, for whoever asks where to go
//	revocations    ended logins, and keys of gateways
//	jobs           work for later, and work by the calendar
//	outbox         events on their way to rooms, users and others
//	transport      WebTransport; from here on clients arrive
//	HTTP           API, WebSocket, web app
//	DNS            answers for the edge's zone, if this node does
//
// Drain comes before a stop that clients shall not notice: the node hands its
// rooms over and sends them to other nodes. On the stop itself the HTTP server
// takes no more requests, the sessions that are left are told `draining` and
// when to come back, what is being stored is stored, and then the links close.
// The database is the caller's: many nodes may share it.
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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/core/presence"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/core/reports"
	"github.com/mustermesh/muster/core/subscriptions"
	"github.com/mustermesh/muster/core/users"
	"github.com/mustermesh/muster/edge/comm"
	"github.com/mustermesh/muster/edge/hub"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/cluster"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/steering"
	"github.com/mustermesh/muster/turn"
	"github.com/mustermesh/muster/turn/cred"
	"github.com/mustermesh/muster/web"
)

// Config is what a node is made of. Fields without "optional" are needed. The
// sockets belong to the node from Start on.
type Config struct {
	ID        regions.NodeID
	Directory *regions.Directory

	DB     *db.DB
	Secret []byte // at least 32 bytes, the same on all nodes
	// Objects is where pictures and exports are; optional: without it nobody uploads
	// or exports anything, nor deletes their profile.
	Objects objects.Store
	// DatabaseRegion is where all of the database is; optional, for one that is
	// in several regions. DatabaseSurvives: it goes on without any of them.
	DatabaseRegion   regions.RegionID
	DatabaseSurvives bool

	HTTP    net.Listener
	HTTPTLS *tls.Config // optional: without it, HTTP is plain

	// WebTransport is the UDP socket for it; optional. Its certificate is
	// shown to browsers, so it is another one than Identity.
	WebTransport    net.PacketConn
	WebTransportTLS *tls.Config
	CertSHA256      string // optional: base64, for clients that pin the certificate

	// Raft is the directory of the region's log; without it the log is in
	// Memory, for tests.
	Raft   string
	Memory *consensus.Memory

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
	Tracer     obs.Tracer                         // optional
	Session    session.Config                     // optional: limits and times
	Capacity   uint32                             // optional: the node's share of its region
	Drain      DrainConfig                        // optional
	Limits     struct{ Address, User auth.Limit } // optional: of the HTTP API
	DNS        *DNSConfig                         // optional: to answer for the edge's zone
	Media      *MediaConfig                       // optional: to be an SFU
	TURN       *turn.Options                      // optional: to be a relay; without realm, secrets, log and metrics
	// TURNSecrets make the credentials of relays; optional: derived from Secret.
	TURNSecrets cred.Secrets
	Committed   func(room string, number uint64) // optional: told of each message as soon as it is stored, for benchmarks
	Steering    SteeringConfig                   // optional: how clients are sent to regions
	Sinks       []outbox.Sink                    // optional: who else gets the outbox's events
	Notify      NotifyConfig                     // optional: how people are told
	Google      GoogleConfig                     // optional: nobody signs in with it
	Stripe      StripeConfig                     // optional: nobody pays by card
	Hash        auth.HashConfig                  // optional: how passwords are hashed
}

// Node is one node. It is a run.Service.
type Node struct {
	cfg     Config
	region  regions.RegionID
	log     *slog.Logger
	group   run.Group
	handler http.Handler
	rt      *Realtime
	told    *notifications
	ratings *ratings.Store
	reports *reports.Store
	talks   *conversing
	dns     *steering.Server // nil: not here
	state   atomic.Int32     // see running
}

// New assembles a node; nothing runs or listens yet.
func New(cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	started := time.Now()
	_, region, ok := cfg.Directory.Node(cfg.ID)
	if !ok {
		return nil, fmt.Errorf("node %q is not in the topology", cfg.ID)
	}
	if cfg.Raft != "" {
		var err error
		if started, err = nextStart(cfg.Raft, started); err != nil {
			return nil, err
		}
	}
	n := &Node{cfg: cfg, region: region}
	n.log = slog.New(obs.Handler(cfg.Log.Handler())).With("region", n.region, "node", cfg.ID)

	others := &tell{self: cfg.ID, region: n.region, directory: cfg.Directory, log: n.log}
	revoked := &revocations{tell: others, log: n.log}

	told, err := newNotifications(&cfg, n.log)
	if err != nil {
		return nil, err
	}
	n.told = told
	work := newWork(cfg.DB, n.log, cfg.Metrics, cfg.Tracer)
	told.handle(work.Queue)
	announce := &membershipAnnouncer{log: n.log}
	changes := &sharingChanges{tell: others}
	where, err := location.New(cfg.DB, cfg.Secret, location.Config{Announce: changes, LinkBase: linkBase(cfg.InviteBase)})
	if err != nil {
		return nil, err
	}
	changes.withdrawn = where.SetWithdrawn
	owned, err := fleets.New(cfg.DB, cfg.Secret, fleets.Config{Announce: fleetChanges{changes, revoked}})
	if err != nil {
		return nil, err
	}
	accounts, err := newAccounts(&cfg, accountsConfig{
		region: string(n.region), told: told, announce: revoked, work: work, log: n.log,
		reclaimed: reclaim(where, owned, told.hooks),
	})
	if err != nil {
		return nil, err
	}
	recorder := location.NewRecorder(where, n.log, cfg.Metrics)
	talks, err := newConversations(&cfg, string(n.region), where, announce, func(room string, r *wire.Receipts) { n.rt.Hub.Receive(room, r) }, work, n.log)
	if err != nil {
		return nil, err
	}
	changes.rooms = talks
	var pays *subscriptions.Store // made later
	circles := newPeople(&cfg, string(n.region), where, announce, talks, told, limit(&pays, subscriptions.GroupMembers), work)
	friendships, teams := circles.friends, circles.groups
	changes.blocks = newBlocks(friendships)
	kept, err := newFiles(&cfg, limit(&pays, subscriptions.UploadBytes), work)
	if err != nil {
		return nil, err
	}
	messages := chat.New(cfg.DB, chat.Config{
		Members: true, Attachments: kept.ofMessages(),
		Notify: missing{told}, Audience: talks.Audience,
		Revised: func(_ context.Context, m chat.Message) {
			n.rt.Hub.Revise(m.Room, &wire.Revised{Change: m.Change, Message: m.Wire()})
		},
	})
	work.Handle(chat.MissedJob, jobs.Handler{Do: messages.Missed})
	if cfg.Metrics != nil {
		if err := messages.Register(cfg.Metrics); err != nil {
			return nil, err
		}
	}
	touches := newActivity(teams.Touch, n.log)
	people := users.New(cfg.DB, time.Now)
	people.OnName(friends.Renamed)
	home := newHome(store{messages, talks, cfg.Committed}, homeConfig{
		region: n.region, database: cfg.DatabaseRegion, survives: cfg.DatabaseSurvives, lookup: talks.homes(teams),
		known:    func(r regions.RegionID) bool { _, ok := cfg.Directory.Region(r); return ok },
		standing: func(r regions.RegionID) regions.Standing { return n.rt.standingOf(r) }, registry: cfg.Metrics,
		owner: func(r regions.RegionID, room string) regions.NodeID { return n.rt.Cluster.OwnerIn(r, room) },
		call: func(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
			return n.rt.call(ctx, to, c)
		},
		publish: func(room string, m *wire.Message) { n.rt.Hub.Publish(room, m) },
	})
	standings := members{teams, talks, home}

	appearances := &presenceChanges{tell: others}
	present := presence.New(cfg.DB, appearances)
	seen := newSettings(present, n.log)
	n.talks, err = newConversing(&cfg, callsConfig{region: n.region, groups: teams, talks: talks.Conversations, told: told, others: others, work: work})
	if err != nil {
		return nil, err
	}
	n.rt, err = NewRealtime(RealtimeConfig{
		ID: cfg.ID, Directory: cfg.Directory, Started: started, Secret: cfg.Secret, Raft: cfg.Raft, Memory: cfg.Memory,
		Members: standings, Messages: home, Verifier: verifier{accounts.Verifier()}, Settings: seen, Activity: touches, Progress: talks, Discreet: talks,
		Sharing: sharing{where, recorder, owned.Choices}, Receipts: sharing{where, recorder, owned.Choices}, Blocks: changes.blocks, Withdraw: limited(changes.withdraw), Forget: changes.forget, Fences: fencing{where},
		Calls:   n.talks.config(&cfg, n.region),
		Session: cfg.Session, Capacity: cfg.Capacity, Drain: cfg.Drain, Log: n.log, Metrics: cfg.Metrics, Tracer: cfg.Tracer,
	})
	if err != nil {
		return nil, err
	}
	announce.hub, n.talks.rt = n.rt.Hub, n.rt
	self, _, _ := cfg.Directory.Node(cfg.ID)
	peers, err := peerlink.New(peerlink.Config{
		Self: cfg.ID, Region: n.region, Incarnation: uint64(started.UnixMilli()), Addrs: peerlink.Addrs{Peer: self.Peer, HTTP: self.HTTP, WS: self.WS, WT: self.WT},
		Conn: cfg.Peer, Identity: cfg.Identity, CA: cfg.CA, Handler: n.rt.Handler(), Stream: n.rt.Stream,
		Logger: n.log, Metrics: cfg.Metrics, Tracer: cfg.Tracer,
		Peers: func(id regions.NodeID) (string, regions.RegionID, bool) {
			node, region, ok := cfg.Directory.Node(id)
			return node.Peer, region, ok
		},
		Regions: func(r regions.RegionID) bool {
			_, ok := cfg.Directory.Region(r)
			return ok
		},
	})
	if err != nil {
		return nil, err
	}
	n.rt.Connect(peers)
	others.call = peers.Call
	appearances.settings, appearances.rt = seen, n.rt
	changes.rt = n.rt
	revoked.since, revoked.close = endedSince(accounts.RevokedSince, owned.RevokedSince), n.rt.Sessions.Revoke
	n.rt.links.revoke, n.rt.links.presence = n.rt.Sessions.Revoke, appearances.heard
	n.rt.links.sharing = changes.heard
	n.rt.links.store = home.receive

	work.sweep("answers", func(ctx context.Context) error { return httpapi.SweepIdempotencyKeys(ctx, cfg.DB, time.Now()) })
	work.sweep("locations", where.Sweep)
	work.sweep("fleets", owned.Sweep)
	work.tell(outbox.Only("group", newUpdates(n.rt, home.of)), outbox.Only("user", n.rt.notices))
	work.sweep("notifications", told.Sweep)
	work.tell(told.hooks.Sink())
	work.tell(cfg.Sinks...)
	shown, err := newProfiles(&cfg, profilesConfig{
		people: people, accounts: accounts, friends: friendships, groups: depart{teams.Depart, talks.Depart}, places: where, fleets: owned, notify: told, files: kept,
		withdraw: live{n.rt, changes}.Withdraw, work: work, tell: others,
	})
	if err != nil {
		return nil, err
	}
	n.rt.links.profile = shown.heard
	n.ratings = newRatings(&cfg, people, work)
	matches := newMatching(&cfg, n.rt, friendships, n.ratings, talks, told, work)
	circles.parted.also(matches.Parted)
	talks.ended = matches.Ended
	books := ledger.New(cfg.DB, ledger.Config{})
	money := newExpenses(&cfg, books, told, kept, work)
	paid, err := newPayments(&cfg, books, money, work)
	if err != nil {
		return nil, err
	}
	pays = newSubscriptions(&cfg, books, paid, people, told, work)
	shown.rights = pays.Entitlements()
	n.reports, err = newReports(&cfg, subjects{chat.NewConversations(cfg.DB, chat.ConversationsConfig{}), messages, friendships, shown.cards, n.ratings}, work)
	if err != nil {
		return nil, err
	}

	watch := steering.NewWatch(steering.WatchConfig{
		Topology: cfg.Directory.Topology, Standings: n.rt.Cluster.Standings, Full: cfg.Steering.FullSessions,
	})
	realtime := transport.New(transport.Config{
		Origins: cfg.Origins, UDP: cfg.WebTransport, TLS: cfg.WebTransportTLS, ClientAddr: cfg.ClientAddr, Log: n.log,
		HTTP:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.handler.ServeHTTP(w, r) }),
		Admit: func(from netip.Addr) time.Duration { return n.rt.Sessions.Gate().Connect(time.Now(), from) },
	}, n.rt.Sessions.Accept)

	assets, _ := web.Dist()
	api, err := httpapi.New(httpapi.Config{
		DB: cfg.DB, Secret: cfg.Secret, Auth: accounts, Users: people, Groups: teams,
		Location: &httpapi.Location{Store: where, Recorder: recorder, Blocks: friendships, Live: live{n.rt, changes}}, Fleets: owned,
		Messages: conversation{messages, home, n.rt.Hub}, Talks: talks.operations(), Presence: present, Live: n.rt, Edges: newDirectory(&cfg, n.region, watch), Notifications: told.operations(),
		Calls:       &httpapi.Calls{Store: n.talks.store, Live: liveCalls{n.rt}, ICE: n.talks},
		Attachments: kept.operations(), Pictures: shown.pictures, Cards: shown.cards, Privacy: shown.privacy, Ratings: n.ratings, Reports: n.reports, Matching: matches, Expenses: money, Payments: paymentOperations(cfg.DB, paid, money), Subscriptions: pays,
		Assets: assets, Origins: cfg.Origins, Version: cfg.Version, ClientAddr: withoutProxy(cfg.ClientAddr),
		AddressLimit: cfg.Limits.Address, UserLimit: cfg.Limits.User,
		Log: n.log, Metrics: cfg.Metrics, Tracer: cfg.Tracer,
	})
	if err != nil {
		return nil, err
	}
	calls := realtime.Speaking(func() transport.Dialect { return comm.New() })
	n.handler = routes(api, realtime.WebSocket(), calls, web.Handler(clientSchemes(cfg.Directory.Topology())))

	n.group.Add("auth", accounts)
	n.group.Add("chat", stopper(messages.Stop))
	n.group.Add("progress", talks.receipts)
	n.group.Add("activity", touches)
	n.group.Add("settings", seen)
	n.group.Add("receipts", recorder)
	n.talks.add(&n.group)
	n.group.Add("realtime", n.rt)
	n.group.Add("topology", newLoop(func(ctx context.Context) {
		for {
			_, changed := cfg.Directory.Watch()
			peers.Prune()
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}))
	n.group.Add("watch", watch)
	n.group.Add("others", others)
	n.group.Add("revocations", revoked)
	n.group.Add("jobs", work)
	n.group.Add("outbox", work.relay(cfg.DB, n.log, cfg.Metrics))
	n.group.Add("transport", realtime)
	n.group.Add("farewell", stopper(n.rt.Sessions.Close)) // before the transport stops
	n.group.Add("http", newHTTPServer(cfg.HTTP, cfg.HTTPTLS, n.handler, n.log))
	if cfg.DNS != nil {
		if n.dns, err = newDNS(*cfg.DNS, string(cfg.ID), n.region, watch, cfg.Steering.Locator, n.log, cfg.Metrics); err != nil {
			return nil, err
		}
		n.group.Add("dns", n.dns)
	}
	return n, nil
}

// linkBase is the prefix of the URLs of shared positions, beside that of
// invitations.
func linkBase(invites string) string {
	base, ok := strings.CutSuffix(invites, "join/")
	if !ok {
		return ""
	}
	return base + "l/"
}

// routes is what a node answers over HTTP: the API, the WebSocket endpoints, and the
// web app for everything else.
func routes(api, ws, calls, app http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/", api)
	mux.Handle("/docs", api)
	mux.Handle("/docs/", api)
	mux.Handle(wire.PathWebSocket, ws)
	mux.Handle(wire.PathCommunication, calls)
	mux.Handle("/", app)
	return mux
}

// Start starts the node's parts in order; see the package comment.
func (n *Node) Start(ctx context.Context) error {
	if err := n.group.Start(ctx); err != nil {
		return fmt.Errorf("node %s: %w", n.cfg.ID, err)
	}
	n.state.CompareAndSwap(0, 1)
	return nil
}

// running reports whether the node was started and not stopped.
func (n *Node) running() bool { return n.state.Load() == 1 }

// Drain hands over what the node has and sends its clients to other nodes of
// the region; it returns when none is left, or ctx ends. Stop comes next.
//
// Calls go to other nodes of the region meanwhile, as soon as it knows.
func (n *Node) Drain(ctx context.Context) error {
	away, cancel := context.WithCancel(ctx)
	var calls sync.WaitGroup
	calls.Go(func() { n.talks.drain(away) })
	err := n.rt.Drain(ctx)
	timer := time.AfterFunc(drainCalls, cancel) // they have had as long as the clients, and this
	calls.Wait()
	timer.Stop()
	cancel()
	return err
}

// Stop stops the node's parts in reverse and closes its sockets. Clients that
// are left are told to come back in a while.
func (n *Node) Stop() {
	n.state.Store(2)
	n.group.Stop()
	_ = n.cfg.HTTP.Close()
	_ = n.cfg.Peer.Close()
	if n.cfg.WebTransport != nil {
		_ = n.cfg.WebTransport.Close()
	}
	if n.dns != nil {
		n.dns.Stop()
	}
}

// ID returns the node's name.
func (n *Node) ID() regions.NodeID { return n.cfg.ID }

// Region returns the region that the node is in.
func (n *Node) Region() regions.RegionID { return n.region }

// Handler is what the node serves over HTTP, for a second listener.
func (n *Node) Handler() http.Handler { return n.handler }

// Ready reports why the node should not get new clients.
func (n *Node) Ready(ctx context.Context) error {
	if err := n.cfg.DB.Ping(ctx); err != nil {
		return errors.New("the database does not answer")
	}
	return n.rt.Takes(ctx)
}

// Hub is the node's rooms, for tests and tools that look inside.
func (n *Node) Hub() *hub.Hub { return n.rt.Hub }

// Sessions are the node's, likewise.
func (n *Node) Sessions() *session.Registry { return n.rt.Sessions }

// Cluster is the node's part in its region, likewise.
func (n *Node) Cluster() *cluster.Cluster { return n.rt.Cluster }

// stopper is a service that only has an end.
type stopper func()

func (stopper) Start(context.Context) error { return nil }
func (s stopper) Stop()                     { s() }
