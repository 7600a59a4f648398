package names

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/steering"
	"github.com/mustermesh/muster/regions/steering/locate"
)

const zone = "edge.example.org"

var places = []regions.Region{
	{Name: "eu-west", Location: regions.Location{Lat: 53.35, Lng: -6.26}},
	{Name: "us-east", Location: regions.Location{Lat: 38.9, Lng: -77.45}},
	{Name: "ap-south", Location: regions.Location{Lat: 18.52, Lng: 73.86}},
	{Name: "us-west", Location: regions.Location{Lat: 37.34, Lng: -121.89}},
	{Name: "ap-northeast", Location: regions.Location{Lat: 35.68, Lng: 139.69}},
}

const nodes = 3

func address(region, node int) string { return fmt.Sprintf("192.0.2.%d", 10*(region+1)+node+1) }

// Serve answers for the zone, as a node with the role dns would, until ctx ends.
func Serve(ctx context.Context, addr string) error {
	top := &regions.Topology{DNSName: zone}
	var all []regions.Standing
	for i, r := range places {
		s := regions.Standing{Region: r.Name}
		for n := range nodes {
			host := "https://" + address(i, n)
			node := regions.Node{ID: regions.NodeID(fmt.Sprintf("%s-%d", r.Name, n+1)), HTTP: host, WS: "wss://" + address(i, n) + "/ws", WT: host + "/wt"}
			r.Nodes = append(r.Nodes, node)
			s.Nodes = append(s.Nodes, regions.NodeStanding{Node: node, State: regions.NodeUp, Capacity: 100})
		}
		top.Regions, all = append(top.Regions, r), append(all, s)
	}
	watch := steering.NewWatch(steering.WatchConfig{
		Topology: func() *regions.Topology { return top },
		Standings: func() (list []regions.Standing) {
			for _, s := range all {
				s.Heard = time.Now()
				list = append(list, s)
			}
			return list
		},
	})
	locator, err := locate.Open("")
	if err != nil {
		return err
	}
	s, err := steering.New(steering.Config{
		Addr: addr, Zone: zone, ID: "bench", Home: "eu-west", Watch: watch, Locator: locator, Rate: -1,
		NameServers: []steering.NameServer{{Name: "ns." + zone, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}},
	})
	if err != nil {
		return err
	}
	defer s.Stop()
	if err := watch.Start(ctx); err != nil {
		return err
	}
	defer watch.Stop()
	if err := s.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func muster(binary string) *process {
	addr := free()
	return &process{name: "muster", binary: binary, addr: addr, args: []string{"bench", "dns-server", addr}, ask: []string{"version"}}
}

// zoneFile is the zone as the peers have it. gdnsd knows no HTTPS records.
func zoneFile(w io.Writer, apex string, https bool) {
	fmt.Fprintf(w, "$ORIGIN %s.\n$TTL 20\n@ SOA ns hostmaster 1 3600 600 86400 20\n@ NS ns\nns A 192.0.2.1\n%s", zone, apex)
	for i, r := range places {
		hints := []string{}
		for n := range nodes {
			fmt.Fprintf(w, "%s A %s\n", r.Name, address(i, n))
			hints = append(hints, address(i, n))
		}
		fmt.Fprintf(w, "%s TXT \"region=%s\"\n", r.Name, r.Name)
		if https {
			fmt.Fprintf(w, "%s HTTPS 1 . alpn=h3 ipv4hint=%s\n", r.Name, strings.Join(hints, ","))
			if i == 0 {
				fmt.Fprintf(w, "@ HTTPS 1 %s alpn=h3 ipv4hint=%s\n", r.Name, strings.Join(hints, ","))
			}
		}
	}
}

func nsd(dir string) (*process, error) {
	p := &process{name: "nsd", binary: "nsd", addr: free(), ask: []string{"-v"}}
	_, port, _ := net.SplitHostPort(p.addr)
	conf := filepath.Join(dir, "nsd.conf")
	text := fmt.Sprintf(`server:
  server-count: %d
  reuseport: yes
  ip-address: 127.0.0.1@%s
  rrl-ratelimit: 0
  username: ""
  chroot: ""
  zonesdir: %q
  database: ""
  pidfile: ""
  xfrdfile: ""
  xfrdir: %q
  zonelistfile: %q
  verbosity: 0
remote-control:
  control-enable: no
zone:
  name: %s
  zonefile: nsd.zone
`, processors(), port, dir, dir, filepath.Join(dir, "nsd.list"), zone)
	var zf strings.Builder
	var apex strings.Builder
	for n := range nodes {
		fmt.Fprintf(&apex, "@ A %s\n", address(0, n))
	}
	apex.WriteString("@ TXT \"region=eu-west\"\n")
	zoneFile(&zf, apex.String(), true)
	p.args = []string{"-d", "-c", conf}
	return p, write(map[string]string{conf: text, filepath.Join(dir, "nsd.zone"): zf.String()})
}

func gdnsd(dir string) (*process, error) {
	p := &process{name: "gdnsd", binary: "gdnsd", addr: free(), ask: []string{"-V"}}
	dir = filepath.Join(dir, "gdnsd")
	for _, sub := range []string{"zones", "run", "state", "geoip"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	var dcs, res, nets strings.Builder
	for i, r := range places {
		fmt.Fprintf(&dcs, "%s,", r.Name)
		fmt.Fprintf(&res, "        %s => { ", r.Name)
		for n := range nodes {
			fmt.Fprintf(&res, "n%d => %s, ", n, address(i, n))
		}
		res.WriteString("}\n")
	}
	for i := range 8 {
		fmt.Fprintf(&nets, "%d.0.0.0/3 => [ %s ],\n", i*32, places[i%len(places)].Name)
	}
	conf := fmt.Sprintf(`options => {
  listen => { %q => { udp_threads => %d, tcp_threads => 1 } }
  run_dir => %q
  state_dir => %q
  zones_default_ttl => 20
}
plugins => {
  geoip => {
    maps => { m => { datacenters => [ %s ], nets => {
%s } } }
    resources => { r => { map => m, plugin => multifo, service_types => up, dcmap => {
%s } } }
  }
}
`, p.addr, processors(), filepath.Join(dir, "run"), filepath.Join(dir, "state"), strings.TrimSuffix(dcs.String(), ","), nets.String(), res.String())
	var zf strings.Builder
	zoneFile(&zf, "@ DYNA geoip!r\n@ TXT \"region=eu-west\"\n", false)
	p.args = []string{"-c", dir, "start"}
	return p, write(map[string]string{filepath.Join(dir, "config"): conf, filepath.Join(dir, "zones", zone): zf.String()})
}

func write(files map[string]string) error {
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
	return nil
}

// free is an address that nobody listens on just now.
func free() string {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:5399"
	}
	defer func() { _ = c.Close() }()
	return c.LocalAddr().String()
}
