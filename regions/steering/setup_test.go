package steering

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/steering/locate"
)

const zone = "edge.example.org"

// world is a region on each of six continents, two nodes each: 192.0.2.R1 and
// 192.0.2.R2, 2001:db8::R1 and 2001:db8::R2.
type world struct {
	mu        sync.Mutex
	topology  *regions.Topology
	standings []regions.Standing
	dead      map[regions.RegionID]bool // not heard of any more
}

var sixContinents = []struct {
	name     regions.RegionID
	lat, lng float64
}{
	{"eu-west", 53.35, -6.26}, {"us-east", 38.9, -77.45}, {"ap-southeast", 1.35, 103.82},
	{"sa-east", -23.55, -46.63}, {"af-south", -26.2, 28.05}, {"oc-east", -33.87, 151.21},
}

func newWorld() *world {
	w := &world{topology: &regions.Topology{DNSName: zone}, dead: map[regions.RegionID]bool{}}
	for i, c := range sixContinents {
		r := regions.Region{Name: c.name, Location: regions.Location{Lat: c.lat, Lng: c.lng}}
		s := regions.Standing{Region: c.name}
		for n := 1; n <= 2; n++ {
			host := fmt.Sprintf("%s-%d.example.net", c.name, n)
			node := regions.Node{
				ID: regions.NodeID(fmt.Sprintf("%s-%d", c.name, n)), Peer: fmt.Sprintf("192.0.2.%d%d:7443", i+1, n),
				HTTP: "https://" + host, WS: "wss://" + host + "/ws", WT: "https://" + host + ":8443/wt",
			}
			r.Nodes = append(r.Nodes, node)
			s.Nodes = append(s.Nodes, regions.NodeStanding{Node: node, State: regions.NodeUp, Capacity: 100})
		}
		w.topology.Regions = append(w.topology.Regions, r)
		w.standings = append(w.standings, s)
	}
	return w
}

func (w *world) Topology() *regions.Topology {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.topology
}

func (w *world) Standings() (out []regions.Standing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.standings {
		s := &w.standings[i]
		if !w.dead[s.Region] {
			s.Heard = time.Now()
		}
		out = append(out, *s)
	}
	return out
}

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// resolve knows the nodes' names.
func (w *world) resolve(_ context.Context, host string) ([]netip.Addr, error) {
	for i, c := range sixContinents {
		for n := 1; n <= 2; n++ {
			if host == fmt.Sprintf("%s-%d.example.net", c.name, n) {
				return []netip.Addr{netip.MustParseAddr(fmt.Sprintf("2001:db8::%d%d", i+1, n)), netip.MustParseAddr(fmt.Sprintf("192.0.2.%d%d", i+1, n))}, nil
			}
		}
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func (w *world) config(t testing.TB) Config {
	l, err := locate.Open("")
	require.NoError(t, err)
	return Config{
		Addr: "127.0.0.1:0", Zone: zone, ID: "ns-test", Home: "us-east", Locator: l, Resolve: w.resolve, Rate: -1,
		NameServers: []NameServer{{Name: "ns1.edge.example.org", Addrs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}, {Name: "ns.example.net"}},
		Watch:       NewWatch(WatchConfig{Topology: w.Topology, Standings: w.Standings}),
	}
}

// serve runs a server for the world.
func (w *world) serve(t testing.TB, change ...func(*Config)) *Server {
	cfg := w.config(t)
	cfg.Metrics = prometheus.NewRegistry()
	for _, f := range change {
		f(&cfg)
	}
	require.NoError(t, cfg.Watch.Start(t.Context()))
	t.Cleanup(cfg.Watch.Stop)
	s, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	require.NoError(t, s.Start(t.Context()))
	return s
}

// newTestBook is the book of a world in which all is well, without a server.
func (w *world) book(t testing.TB) *book {
	cfg := w.config(t)
	cfg.TTL = 20 * time.Second
	cfg.Watch.look(time.Now())
	v, _ := cfg.Watch.View()
	addrs := map[string][]netip.Addr{}
	for _, nodes := range v.Nodes {
		for _, n := range nodes {
			host := string(n.ID) + ".example.net"
			addrs[host], _ = w.resolve(t.Context(), host)
		}
	}
	m, err := newMetrics(&Server{cfg: cfg}, nil)
	require.NoError(t, err)
	return newBook(&cfg, zone+".", v, addrs, time.Now(), m.answers)
}

func question(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	return m
}

func withSubnet(m *dns.Msg, prefix string) *dns.Msg {
	p := netip.MustParsePrefix(prefix)
	m.SetEdns0(1232, false)
	family := uint16(1)
	if p.Addr().Is6() {
		family = 2
	}
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_SUBNET{
		Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: p.Addr().AsSlice(),
	})
	return m
}

// ask is the book's answer to a question from somewhere in no place.
func (b *book) ask(t testing.TB, m *dns.Msg) *dns.Msg {
	return b.askFrom(t, m, "127.0.0.1", byUDP)
}

func (b *book) askFrom(t testing.TB, m *dns.Msg, from string, by way) *dns.Msg {
	t.Helper()
	packet, err := m.Pack()
	require.NoError(t, err)
	out, _ := b.answer(packet, netip.MustParseAddr(from), by, 0, nil)
	require.NotNil(t, out)
	a := new(dns.Msg)
	require.NoError(t, a.Unpack(out), "%x", out)
	require.Equal(t, m.Id, a.Id)
	require.True(t, a.Response)
	require.Equal(t, m.RecursionDesired, a.RecursionDesired)
	require.False(t, a.RecursionAvailable)
	return a
}

func subnetOf(m *dns.Msg) *dns.EDNS0_SUBNET {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if s, ok := o.(*dns.EDNS0_SUBNET); ok {
				return s
			}
		}
	}
	return nil
}

// where is the region that an answer names, by its addresses or its text.
func where(m *dns.Msg) regions.RegionID {
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			return sixContinents[rr.A.To4()[3]/10-1].name
		case *dns.AAAA:
			return sixContinents[rr.AAAA[15]>>4-1].name
		case *dns.TXT:
			return regions.RegionID(rr.Txt[0][len("region="):])
		}
	}
	return ""
}
