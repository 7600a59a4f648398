package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/steering"
	"github.com/mustermesh/muster/regions/steering/locate"
)

func TestRoles(t *testing.T) {
	for _, good := range [][]string{nil, {"edge", "core"}, {"dns", "core", "edge"}} {
		require.NoError(t, checkRoles(good))
	}
	require.ErrorContains(t, checkRoles([]string{"edge", "core", "sfu"}), `"sfu"`)
	require.ErrorContains(t, checkRoles([]string{"dns"}), "go together")
	require.ErrorContains(t, checkRoles([]string{"edge"}), "go together")
}

func twoRegions() *regions.Topology {
	return &regions.Topology{Regions: []regions.Region{
		{Name: "eu", Location: regions.Location{Lat: 53.35, Lng: -6.26}, Nodes: []regions.Node{{ID: "eu-1", WS: "wss://eu-1/ws"}, {ID: "eu-2", WS: "wss://eu-2/ws"}, {ID: "eu-3"}}},
		{Name: "af", Location: regions.Location{Lat: -26.2, Lng: 28.05}, Nodes: []regions.Node{{ID: "af-1", WS: "wss://af-1/ws"}}},
	}}
}

func testWatch(t *testing.T, standings func() []regions.Standing) *steering.Watch {
	topology := twoRegions()
	w := steering.NewWatch(steering.WatchConfig{Topology: func() *regions.Topology { return topology }, Standings: standings})
	require.NoError(t, w.Start(t.Context()))
	t.Cleanup(w.Stop)
	return w
}

func TestTheBestEdgeFirst(t *testing.T) {
	locator, err := locate.Open("")
	require.NoError(t, err)
	top := twoRegions()
	heard := func() (list []regions.Standing) {
		for _, r := range top.Regions {
			s := regions.Standing{Region: r.Name, Heard: time.Now()}
			for i, n := range r.Nodes {
				state := regions.NodeUp
				if i == 0 && r.Name == "eu" {
					state = regions.NodeDraining
				}
				s.Nodes = append(s.Nodes, regions.NodeStanding{Node: n, State: state, Capacity: 100, Sessions: 5000})
			}
			list = append(list, s)
		}
		return list
	}
	d := directory{home: &geo.Point{Lat: 53, Lng: -6}, watch: testWatch(t, heard), locator: locator, cert: "AAAA"}
	first := func(c httpapi.EdgeCaller) string { return d.Edges(c).Regions[0].Name }
	require.Equal(t, "eu", first(httpapi.EdgeCaller{Addr: netip.MustParseAddr("127.0.0.1")}), "near to the node that was asked")
	require.Equal(t, "af", first(httpapi.EdgeCaller{Addr: netip.MustParseAddr("137.158.1.1")}))
	require.Equal(t, "eu", first(httpapi.EdgeCaller{Addr: netip.MustParseAddr("137.158.1.1"), At: &geo.Point{Lat: 52, Lng: 13}}))
	require.Equal(t, "af", first(httpapi.EdgeCaller{At: &geo.Point{Lat: 52, Lng: 13}, RTT: map[string]time.Duration{"af": 9 * time.Millisecond}}))
	require.Equal(t, "af", first(httpapi.EdgeCaller{Region: "af", RTT: map[string]time.Duration{"af": 90 * time.Millisecond, "eu": 75 * time.Millisecond}}))
	require.Equal(t, "eu", first(httpapi.EdgeCaller{Region: "af", RTT: map[string]time.Duration{"af": 90 * time.Millisecond, "eu": 45 * time.Millisecond}}))

	e := d.Edges(httpapi.EdgeCaller{})
	require.Equal(t, "AAAA", e.CertSHA256)
	require.Equal(t, 300, e.TTL)
	require.Equal(t, "up", e.Regions[0].State)
	require.InDelta(t, 0.1, e.Regions[0].Load, 0.001)
	require.Equal(t, []httpapi.EdgeNode{{ID: "eu-2", WS: "wss://eu-2/ws", State: "up"}, {ID: "eu-1", WS: "wss://eu-1/ws", State: "draining"}}, e.Regions[0].Nodes)
}

func TestNobodyIsHeardOfYet(t *testing.T) {
	d := directory{watch: testWatch(t, func() []regions.Standing { return nil })}
	e := d.Edges(httpapi.EdgeCaller{})
	require.Len(t, e.Regions, 2)
	require.Equal(t, "unknown", e.Regions[0].State)
	require.Len(t, e.Regions[0].Nodes, 2)
	require.Equal(t, "unknown", e.Regions[0].Nodes[0].State)
}

func TestDNSConfigIsChecked(t *testing.T) {
	w := testWatch(t, func() []regions.Standing { return nil })
	try := func(c DNSConfig) error {
		c.Listen = "127.0.0.1:0"
		s, err := newDNS(c, "eu-1", "eu", w, nil, slog.New(slog.DiscardHandler), nil)
		if err == nil {
			s.Stop()
		}
		return err
	}
	require.ErrorContains(t, try(DNSConfig{NameServers: []string{"ns.example.net"}}), "which zone")
	require.ErrorContains(t, try(DNSConfig{Zone: "edge.example.org"}), "at least one name server")
	require.ErrorContains(t, try(DNSConfig{Zone: "edge.example.org", NameServers: []string{"ns.edge.example.org"}}), "is in the zone")
	require.ErrorContains(t, try(DNSConfig{Zone: "edge.example.org", NameServers: []string{"ns.edge.example.org=here"}}), "ns.edge.example.org=here")
	require.NoError(t, try(DNSConfig{Zone: "edge.example.org", NameServers: []string{"ns.edge.example.org=192.0.2.1,2001:db8::1", "ns.example.net"}}))
}

func TestHTTP3HasNoProxy(t *testing.T) {
	require.Nil(t, withoutProxy(nil))
	addr := withoutProxy(forwardedAddr("X-Forwarded-For"))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = "192.0.2.1:1"
	r.Header.Set("X-Forwarded-For", "198.51.100.1")
	require.Equal(t, "198.51.100.1", addr(r).String())
	r.ProtoMajor = 3
	require.Equal(t, "192.0.2.1", addr(r).String())
}
