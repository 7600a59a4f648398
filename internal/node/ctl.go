package node

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/roster"
)

// The admin address answers what operators ask of a running process: `muster
// ctl` and the console page speak JSON to it.
//
//	GET  /ctl/roster            RosterView
//	GET  /ctl/sessions?user=ID  SessionsView
//	GET  /ctl/room?id=ROOM      RoomView
//	GET  /ctl/jobs?state=&kind= JobsView
//	POST /ctl/jobs/retry?id=    dead jobs get all their attempts again: one by id, all of a kind by kind=, all by kind=*
//	POST /ctl/jobs/drop?id=     dead jobs are deleted, likewise
//	GET  /ctl/reports?state=    ReportsView
//	POST /ctl/reports/close?id= a report is done with: ?outcome= says how
//	GET  /ctl/ratings/verify    RatingsView
//	GET  /ctl/ledger/verify     LedgerView: of ?book=, or of a page of all, after ?after=
//	GET  /ctl/calls             CallsView: those that go on
//	POST /ctl/calls/end?id=     a call ends for everybody
//	POST /ctl/announce?title=   ?text= is told to all users, or to the members of ?group=
//	POST /ctl/drain?node=ID     the node takes nothing new, hands over what it has and sends its clients away
//	POST /ctl/remove?node=ID    a dead node is taken out of its region for good
//	POST /ctl/transfer?region=R another voter leads the region; without region: that of this process
//	POST /ctl/reload            the topology file is read again; 400 says why it is not taken
//	POST /ctl/kill?node=ID      muster dev only: as the end of its process would
//	POST /ctl/restart?node=ID   muster dev only
//	POST /ctl/cut?region=R      muster dev only: R neither hears the other regions nor is heard; with other=S only that one
//	POST /ctl/heal?region=R     muster dev only: ends that
//
// What is posted must come from a page of the same origin, or from no page. And
// the address must be called by its number, as localhost, or by a name without
// a dot: a page on the web that has a name of its own point here (DNS rebinding)
// would be of the same origin.

// RosterView is what a process knows of the regions it is part of.
type RosterView struct {
	Regions []RegionView `json:"regions"`
	Dev     bool         `json:"dev"`
}

// RegionView is one region.
type RegionView struct {
	Name      string     `json:"name"`
	Leader    string     `json:"leader"`          // empty: none, as far as is known here
	ContactMS int64      `json:"term_contact_ms"` // since the leader was last heard of; -1: never
	Index     uint64     `json:"index"`           // of the log, as applied here
	Nodes     []NodeView `json:"nodes"`
	Slots     SlotsView  `json:"slots"`
	Sessions  struct {
		Live      int `json:"live"`
		Suspended int `json:"suspended"`
		Gone      int `json:"gone"` // devices without a session that are remembered
	} `json:"sessions"`
	Rates map[string]float64 `json:"rates"`
	// Unreached are the regions that it does not hear, and since when; Cut those
	// that it was cut off from on purpose.
	Unreached []UnreachedView `json:"unreached"`
	Cut       []string        `json:"cut"`
}

// UnreachedView is a region that another one does not hear.
type UnreachedView struct {
	Region string `json:"region"`
	Since  string `json:"since,omitempty"` // absent: it was never heard
}

// NodeView is one node of a region.
type NodeView struct {
	ID          string `json:"id"`
	State       string `json:"state"` // up, draining, down; absent: the region has never seen it
	Voter       bool   `json:"voter"`
	Incarnation uint64 `json:"incarnation"`
	Since       string `json:"since,omitempty"` // of the state
	Slots       int    `json:"slots"`
	Sessions    struct {
		Live      int `json:"live"`
		Suspended int `json:"suspended"`
	} `json:"sessions"`
	RoomsOwned int  `json:"rooms_owned"` // with sessions of this region in them
	Self       bool `json:"self"`
}

// SlotsView says who owns the region's slots.
type SlotsView struct {
	Owners          []int `json:"owners"` // per slot: 1 + the place in nodes; 0: nobody
	MovedLastMinute int   `json:"moved_last_minute"`
}

// SessionsView is what the regions of this process know of a user's devices.
type SessionsView struct {
	Sessions []SessionView `json:"sessions"`
}

// SessionView is one device.
type SessionView struct {
	Region    string   `json:"region"`
	Device    string   `json:"device"`
	State     string   `json:"state"` // live, suspended, gone
	Epoch     uint64   `json:"epoch"`
	Node      string   `json:"node"`
	Transport string   `json:"transport"`
	Since     string   `json:"since"`
	IdleMS    int64    `json:"idle_ms,omitempty"` // since it was suspended, or ended
	Rooms     []string `json:"rooms"`
}

// RoomView says who owns a room, per region, and how many are in it there.
type RoomView struct {
	Room   string      `json:"room"`
	Slot   int         `json:"slot"`
	Owners []RoomOwner `json:"owners"`
}

// RoomOwner is a room in one region. Sessions is 0 for regions that this
// process is no part of.
type RoomOwner struct {
	Region   string `json:"region"`
	Node     string `json:"node"`
	Epoch    uint64 `json:"epoch,omitempty"`
	Sessions int    `json:"sessions"`
}

// control answers them for the nodes of one process.
type control struct {
	nodes   func() []*Node
	gather  prometheus.Gatherer
	reload  func() error                  // nil: there is no topology file
	kill    func(id regions.NodeID) error // nil: not in dev
	restart func(ctx context.Context, id regions.NodeID) error
	links   *severance // nil: not in dev

	mu    sync.Mutex // guards rates
	rates map[string]*rate
}

// ctlWait is how long a command of an operator may take.
const ctlWait = 10 * time.Second

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc("GET /ctl/"+path, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			reply(w, v, err)
		})
	}
	post := func(path string, f func(ctx context.Context, r *http.Request) error) {
		mux.HandleFunc("POST /ctl/"+path, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), ctlWait)
			defer cancel()
			reply(w, struct{}{}, f(ctx, r))
		})
	}
	get("roster", func(*http.Request) (any, error) { return c.roster() })
	get("sessions", func(r *http.Request) (any, error) { return c.sessions(r.FormValue("user")) })
	get("room", func(r *http.Request) (any, error) { return c.room(r.FormValue("id")) })
	mux.HandleFunc("POST /ctl/announce", func(w http.ResponseWriter, r *http.Request) {
		v, err := c.announce(r)
		reply(w, v, err)
	})
	get("jobs", func(r *http.Request) (any, error) { return c.jobs(r) })
	for what, change := range map[string]func(context.Context, *db.DB, jobs.Filter) (int64, error){"retry": jobs.Retry, "drop": jobs.Drop} {
		mux.HandleFunc("POST /ctl/jobs/"+what, func(w http.ResponseWriter, r *http.Request) {
			v, err := c.changeJobs(r, change)
			reply(w, v, err)
		})
	}
	get("reports", func(r *http.Request) (any, error) { return c.reports(r) })
	post("reports/close", c.closeReport)
	get("ratings/verify", func(r *http.Request) (any, error) { return c.verifyRatings(r) })
	get("ledger/verify", func(r *http.Request) (any, error) { return c.verifyLedger(r) })
	get("calls", func(r *http.Request) (any, error) { return c.calls(r) })
	post("calls/end", c.endCall)
	post("drain", func(ctx context.Context, r *http.Request) error {
		n, id, err := c.beside(r.FormValue("node"))
		if err != nil {
			return err
		}
		return c.drain(ctx, n, id)
	})
	post("remove", func(ctx context.Context, r *http.Request) error {
		n, id, err := c.beside(r.FormValue("node"))
		if err != nil {
			return err
		}
		return c.remove(ctx, n, id)
	})
	post("transfer", func(ctx context.Context, r *http.Request) error {
		return c.transfer(ctx, regions.RegionID(r.FormValue("region")))
	})
	if c.reload != nil {
		post("reload", func(context.Context, *http.Request) error { return c.reload() })
	}
	if c.kill != nil {
		post("kill", func(_ context.Context, r *http.Request) error { return c.kill(regions.NodeID(r.FormValue("node"))) })
		post("restart", func(ctx context.Context, r *http.Request) error {
			return c.restart(ctx, regions.NodeID(r.FormValue("node")))
		})
	}
	if c.links != nil {
		among := func(f func(region, other regions.RegionID) error) func(context.Context, *http.Request) error {
			return func(_ context.Context, r *http.Request) error {
				return f(regions.RegionID(r.FormValue("region")), regions.RegionID(r.FormValue("other")))
			}
		}
		post("cut", among(c.links.cut))
		post("heal", among(c.links.heal))
	}
	safe := http.NewCrossOriginProtection().Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !numbered(r.Host) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusMisdirectedRequest)
			_ = json.NewEncoder(w).Encode(map[string]string{"code": "unknown_host", "error": "call this address by its IP address, as localhost, or by a name without a dot, so that no page on the web can"})
			return
		}
		safe.ServeHTTP(w, r)
	})
}

// numbered reports whether a Host header can't be a name that a stranger made.
func numbered(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	_, err := netip.ParseAddr(host)
	return err == nil || !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost")
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		e, _ := errs.From(err)
		w.WriteHeader(int(e.Kind))
		v = map[string]string{"code": string(e.Code), "error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v)
}

var errNoNode = errs.New(errs.NotFound, "no_such_node", "no such node in the topology of this process; `muster ctl roster` lists them")

// beside returns a running node that is in the region of the named one, itself
// only if there is no other. The region may still know a node that the topology
// has no more.
func (c *control) beside(name string) (*Node, regions.NodeID, error) {
	id := regions.NodeID(name)
	var found *Node
	for _, n := range c.nodes() {
		if !n.running() || found != nil && found.ID() != id {
			continue
		}
		_, region, ok := n.cfg.Directory.Node(id)
		if ok = ok && n.Region() == region; !ok {
			n.rt.Cluster.View(func(s *roster.State, _ uint64) { _, ok = s.Node(id) })
		}
		if ok {
			found = n
		}
	}
	if found == nil {
		return nil, id, errNoNode
	}
	return found, id, nil
}

// drain has a node drain, if that can end.
func (c *control) drain(ctx context.Context, n *Node, id regions.NodeID) error {
	others := 0
	n.rt.Cluster.View(func(s *roster.State, _ uint64) {
		for _, node := range s.Nodes() {
			if node.ID != id && node.State == roster.Up {
				others++
			}
		}
	})
	if others == 0 {
		return errs.New(errs.Conflict, "no_other_node", "no other node of region %s is up to take what %s has: start one first, or stop %s", n.Region(), id, id)
	}
	return n.rt.Cluster.Drain(ctx, id)
}

// remove takes a node out of its region that is dead there, too.
func (c *control) remove(ctx context.Context, n *Node, id regions.NodeID) error {
	if !n.rt.Cluster.Current() {
		return consensus.ErrNoLeader
	}
	alive := false
	n.rt.Cluster.View(func(s *roster.State, _ uint64) {
		node, known := s.Node(id)
		alive = known && node.State != roster.Down
	})
	if alive {
		return errs.New(errs.Conflict, "node_is_up", "%s is up: drain and stop it first; a second later it counts as down", id)
	}
	return n.rt.Cluster.RemoveNode(ctx, id)
}

func (c *control) transfer(ctx context.Context, region regions.RegionID) error {
	elsewhere, here := regions.NodeID(""), false
	for _, n := range c.nodes() {
		if !n.running() || region != "" && n.Region() != region {
			continue
		}
		here = true
		switch leader := n.rt.Cluster.Leader(); leader {
		case "":
		case n.ID():
			return n.rt.Cluster.TransferLeadership(ctx)
		default:
			elsewhere = leader
		}
	}
	switch {
	case elsewhere != "":
		return errs.New(errs.Conflict, "not_leader", "%s leads: ask the admin address of its process", elsewhere)
	case here:
		return consensus.ErrNoLeader
	}
	return errs.New(errs.NotFound, "no_such_region", "no node of this process is in that region; `muster ctl roster` lists them")
}

// each calls f with one running node per region, the one that knows most.
func (c *control) each(f func(*Node)) {
	best := map[regions.RegionID]*Node{}
	var order []regions.RegionID
	for _, n := range c.nodes() {
		if !n.running() {
			continue
		}
		was := best[n.Region()]
		if was == nil {
			order = append(order, n.Region())
		}
		if was == nil || n.rt.Cluster.Contact().After(was.rt.Cluster.Contact()) {
			best[n.Region()] = n
		}
	}
	for _, r := range order {
		f(best[r])
	}
}

func (c *control) roster() (*RosterView, error) {
	out := &RosterView{Regions: []RegionView{}, Dev: c.kill != nil}
	here := map[regions.NodeID]bool{}
	for _, n := range c.nodes() {
		here[n.ID()] = n.running()
	}
	rates := c.rate()
	c.each(func(n *Node) {
		v := RegionView{Name: string(n.Region()), Leader: string(n.rt.Cluster.Leader()), Rates: rates[string(n.Region())]}
		if v.Rates == nil {
			v.Rates = map[string]float64{}
		}
		if at := n.rt.Cluster.Contact(); !at.IsZero() {
			v.ContactMS = time.Since(at).Milliseconds()
		} else {
			v.ContactMS = -1
		}
		v.Unreached, v.Cut = unreached(n, time.Now()), []string{}
		if c.links != nil {
			v.Cut = c.links.from(n.Region())
		}
		voters := map[regions.NodeID]bool{}
		for _, m := range n.rt.Cluster.Members() {
			voters[m.Node] = m.Voter
		}
		n.rt.Cluster.View(func(s *roster.State, index uint64) {
			v.Index = index
			at := map[regions.NodeID]int{}
			add := func(id regions.NodeID) *NodeView {
				v.Nodes = append(v.Nodes, NodeView{ID: string(id), Voter: voters[id], Self: here[id]})
				at[id] = len(v.Nodes)
				return &v.Nodes[len(v.Nodes)-1]
			}
			for _, node := range s.Nodes() {
				nv := add(node.ID)
				nv.State, nv.Incarnation = node.State.String(), node.Incarnation
				nv.Since = time.UnixMilli(node.Since).UTC().Format(time.RFC3339)
				for _, x := range s.SessionsOn(node.ID) {
					if x.State == roster.Live {
						nv.Sessions.Live++
					} else {
						nv.Sessions.Suspended++
					}
				}
			}
			region, _ := n.cfg.Directory.Region(n.Region())
			for _, node := range region.Nodes {
				if at[node.ID] == 0 {
					add(node.ID)
				}
			}
			v.Slots.Owners = make([]int, regions.Slots)
			for slot := range v.Slots.Owners {
				owner := s.Owner(slot)
				v.Slots.Owners[slot] = at[owner.Owner]
				if owner.Owner != "" && at[owner.Owner] > 0 {
					v.Nodes[at[owner.Owner]-1].Slots++
				}
				// An epoch is at least the clock of when it was issued.
				if time.Since(time.UnixMilli(int64(owner.Epoch))) < time.Minute {
					v.Slots.MovedLastMinute++
				}
			}
			s.Rooms(func(room string, _ int) {
				if i := at[s.OwnerOf(room).Owner]; i > 0 {
					v.Nodes[i-1].RoomsOwned++
				}
			})
			counts := s.Counts()
			v.Sessions.Live, v.Sessions.Suspended, v.Sessions.Gone = counts.Live, counts.Suspended, counts.Gone
		})
		out.Regions = append(out.Regions, v)
	})
	return out, nil
}

// unheard is after how long a region counts as unreached: it speaks every second.
const unheard = 3 * time.Second

// unreached lists the regions that a node does not hear.
func unreached(n *Node, now time.Time) []UnreachedView {
	out := []UnreachedView{}
	for _, s := range n.rt.Cluster.Standings() {
		if s.Region == n.Region() || now.Sub(s.Heard) < unheard {
			continue
		}
		v := UnreachedView{Region: string(s.Region)}
		if !s.Heard.IsZero() {
			v.Since = s.Heard.UTC().Format(time.RFC3339)
		}
		out = append(out, v)
	}
	return out
}

func (c *control) sessions(user string) (*SessionsView, error) {
	if user == "" {
		return nil, errs.New(errs.Invalid, "invalid_user", "name a user by id: ?user=")
	}
	out := &SessionsView{Sessions: []SessionView{}}
	c.each(func(n *Node) {
		n.rt.Cluster.View(func(s *roster.State, _ uint64) {
			for _, x := range s.Sessions(user) {
				v := SessionView{
					Region: string(n.Region()), Device: x.Device, State: x.State.String(), Epoch: uint64(x.Epoch), Node: string(x.Node),
					Transport: strings.ToLower(x.Transport.String()), Since: time.UnixMilli(x.Since).UTC().Format(time.RFC3339), Rooms: x.Rooms(),
				}
				if v.Rooms == nil {
					v.Rooms = []string{}
				}
				if x.State != roster.Live {
					v.IdleMS = s.IdleFor(x).Milliseconds()
				}
				out.Sessions = append(out.Sessions, v)
			}
		})
	})
	return out, nil
}

func (c *control) room(id string) (*RoomView, error) {
	if id == "" {
		return nil, errs.New(errs.Invalid, "invalid_room", "name a room: ?id=group:<uuid>")
	}
	out := &RoomView{Room: id, Slot: regions.SlotOf(id)}
	known := map[regions.RegionID]bool{}
	var any *Node
	c.each(func(n *Node) {
		any = n
		known[n.Region()] = true
		owner, epoch := n.rt.Cluster.Owner(id)
		out.Owners = append(out.Owners, RoomOwner{
			Region: string(n.Region()), Node: string(owner), Epoch: uint64(epoch), Sessions: len(n.rt.Cluster.Stays(id)),
		})
	})
	if any == nil {
		return nil, errors.New("no node of this process runs")
	}
	for _, r := range any.rt.Cluster.Others() {
		if !known[r] {
			out.Owners = append(out.Owners, RoomOwner{Region: string(r), Node: string(any.rt.Cluster.OwnerIn(r, id))})
		}
	}
	return out, nil
}

// rate is a counter as it was when it was last read.
type rate struct {
	at    time.Time
	value float64
	per   float64
}

// ratesOf are the counters that rates are made of, summed per region; of a
// counter with events only those that are named.
var ratesOf = map[string]struct {
	name   string
	events []string
}{
	"muster_session_transitions_total": {"opens_per_s", []string{"welcomed", "resumed"}},
	"muster_hub_events_total":          {"events_per_s", nil},
	"muster_hub_fixes_total":           {"fixes_per_s", nil},
	"muster_hub_deliveries_total":      {"deliveries_per_s", nil},
}

// rate returns per region how fast the counters grow, since they were last
// asked for but over a second at least.
func (c *control) rate() map[string]map[string]float64 {
	out := map[string]map[string]float64{}
	families, err := c.gather.Gather()
	if err != nil {
		return out
	}
	now := time.Now()
	sums := map[[2]string]float64{}
	for _, f := range families {
		of, ok := ratesOf[f.GetName()]
		if !ok {
			continue
		}
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if of.events == nil || slices.Contains(of.events, labels["event"]) {
				sums[[2]string{labels["region"], of.name}] += m.GetCounter().GetValue()
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rates == nil {
		c.rates = map[string]*rate{}
	}
	for key, value := range sums {
		r := c.rates[key[0]+"/"+key[1]]
		switch {
		case r == nil:
			r = &rate{at: now, value: value}
			c.rates[key[0]+"/"+key[1]] = r
		case now.Sub(r.at) >= time.Second:
			r.per = max(0, value-r.value) / now.Sub(r.at).Seconds()
			r.at, r.value = now, value
		}
		if out[key[0]] == nil {
			out[key[0]] = map[string]float64{}
		}
		out[key[0]][key[1]] = r.per
	}
	return out
}
