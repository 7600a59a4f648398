package node

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/placement"
	"github.com/mustermesh/muster/regions/steering"
	"github.com/mustermesh/muster/regions/steering/locate"
)

// edgeTTL is how long clients may use an answer of /api/v1/edge. What is down
// they find out by themselves; this is for what is new.
const edgeTTL = 5 * time.Minute

// SteeringConfig says how clients are sent to regions.
type SteeringConfig struct {
	Locator      locate.Locator // optional: without it nobody's place is known
	FullSessions int            // at which a node of capacity 100 is full; default 50,000
}

// directory is where clients can go, in the order that is best for one of them.
type directory struct {
	home    *geo.Point // where this node is: a client that is in no place that is known is taken to be near
	watch   *steering.Watch
	locator locate.Locator // nil: nobody's place is known
	cert    string
	demo    func() (httpapi.Demo, bool)
}

func newDirectory(cfg *Config, region regions.RegionID, watch *steering.Watch) directory {
	r, _ := cfg.Directory.Region(region)
	return directory{&geo.Point{Lat: r.Location.Lat, Lng: r.Location.Lng}, watch, cfg.Steering.Locator, cfg.CertSHA256, cfg.Demo}
}

func (d directory) Edges(c httpapi.EdgeCaller) httpapi.EdgeDirectory {
	view, _ := d.watch.View()
	all := slices.Clone(view.Regions)
	for i := range all {
		all[i].RTT = c.RTT[all[i].Name]
	}
	client := placement.Client{At: c.At, Key: steering.Key(c.Addr), Current: c.Region}
	if client.At == nil && d.locator != nil {
		client.At = d.locator.Locate(c.Addr).At
	}
	if client.At == nil {
		client.At = d.home
	}
	out := httpapi.EdgeDirectory{CertSHA256: d.cert, TTL: int(edgeTTL / time.Second)}
	r := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	for _, i := range d.watch.Policy().Order(client, all, nil) {
		region := httpapi.EdgeRegion{
			Name: all[i].Name, Lat: all[i].At.Lat, Lng: all[i].At.Lng, State: all[i].State.String(), Load: all[i].Load, Nodes: []httpapi.EdgeNode{},
		}
		nodes := view.Nodes[i]
		states, weights := make([]placement.State, len(nodes)), make([]int, len(nodes))
		for k, n := range nodes {
			states[k], weights[k] = n.State, n.Capacity
		}
		for _, k := range placement.Spread(states, weights, r) {
			n := nodes[k]
			if n.HTTP == "" && n.WS == "" && n.WT == "" {
				continue // nobody can reach it
			}
			region.Nodes = append(region.Nodes, httpapi.EdgeNode{ID: string(n.ID), HTTP: n.HTTP, WS: n.WS, WT: n.WT, State: n.State.String()})
		}
		out.Regions = append(out.Regions, region)
	}
	return out
}

func (d directory) Demo() (httpapi.Demo, bool) {
	if d.demo == nil {
		return httpapi.Demo{}, false
	}
	return d.demo()
}

// DNSConfig is what a node needs to answer for the edge's zone.
type DNSConfig struct {
	Listen string `yaml:"listen"` // UDP and TCP address, such as 203.0.113.7:53
	Zone   string `yaml:"zone"`   // the topology's dns_name if empty
	// NameServers are those of the zone, as NAME or, in the zone, NAME=IP,IP.
	NameServers []string `yaml:"name_servers"`
	Rate        float64  `yaml:"rate"` // answers a second by UDP per client network: default 2,000; negative: any number
}

// checkRoles says what is wrong with the roles that a process is to have. A node
// without edge and core would be a member of its region that owns no rooms; that
// there is none yet.
func checkRoles(roles []string) error {
	if len(roles) == 0 {
		return nil
	}
	for _, r := range roles {
		switch r {
		case "edge", "core", "dns", "media", "turn":
		default:
			return fmt.Errorf("role %q: there are edge, core, dns, media and turn", r)
		}
	}
	if !slices.Contains(roles, "edge") || !slices.Contains(roles, "core") {
		return fmt.Errorf("roles %s: edge and core go together and can't be left out; dns, media and turn go beside them", strings.Join(roles, ","))
	}
	return nil
}

// newDNS makes the server.
func newDNS(c DNSConfig, id string, home regions.RegionID, watch *steering.Watch, locator locate.Locator, log *slog.Logger, metrics prometheus.Registerer) (*steering.Server, error) {
	view, _ := watch.View()
	if c.Zone == "" {
		c.Zone = view.Topology.DNSName
	}
	if c.Zone == "" {
		return nil, errors.New("dns: which zone? Give the topology a dns_name, or the node a zone")
	}
	cfg := steering.Config{
		Addr: c.Listen, Zone: c.Zone, ID: id, Home: home, Watch: watch, Locator: locator, Rate: c.Rate,
		Log: log, Metrics: metrics,
	}
	for _, s := range c.NameServers {
		name, list, glue := strings.Cut(s, "=")
		ns := steering.NameServer{Name: name}
		if glue {
			for _, a := range strings.Split(list, ",") {
				addr, err := netip.ParseAddr(a)
				if err != nil {
					return nil, fmt.Errorf("dns: name server %s: %w", s, err)
				}
				ns.Addrs = append(ns.Addrs, addr.Unmap())
			}
		}
		cfg.NameServers = append(cfg.NameServers, ns)
	}
	return steering.New(cfg)
}

// withoutProxy takes the word of a proxy for a client's address only where there
// can be one: HTTP/3 comes to this node directly.
func withoutProxy(told func(*http.Request) netip.Addr) func(*http.Request) netip.Addr {
	if told == nil {
		return nil
	}
	return func(r *http.Request) netip.Addr {
		if r.ProtoMajor >= 3 {
			at, _ := netip.ParseAddrPort(r.RemoteAddr)
			return at.Addr().Unmap()
		}
		return told(r)
	}
}
