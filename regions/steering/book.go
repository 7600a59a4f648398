package steering

import (
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions/placement"
	"github.com/mustermesh/muster/regions/steering/locate"
)

const (
	variants = 8 // of each answer, so that not everybody tries the same node first
	perReply = 6 // nodes in one answer: it stays below 512 bytes
	perNode  = 2 // addresses of each family of a node, for the same reason
	nsTTL    = 3600

	noRegion = -1 // a name without records of a region
	nearest  = -2 // a name with those of the nearest one
)

// book is what answers are made of. It is not changed, but for cells that are
// filled in.
type book struct {
	zone  []byte // in wire form, in lower case
	nsid  []byte
	soa   []byte // one record, whose name is a pointer yet to be written
	any   rrset
	names map[string]*name // by what stands before the zone, in wire form

	regions []records
	view    []placement.Candidate
	policy  placement.Policy
	shed    bool // a region turns clients away

	locator locate.Locator
	home    *geo.Point
	// The best region for a place, by degrees: 1 + its number; 0: not asked yet.
	// Only while nobody is turned away.
	cells []atomic.Uint32
}

// name is one that exists.
type name struct {
	region int // noRegion, nearest, or the number of one
	types  []uint16
	port   bool // such as _8443._https.edge.example.org
	fixed  map[uint16]rrset
}

func (n *name) has(t uint16) bool { return slices.Contains(n.types, t) }

// records are those of a region.
type records struct {
	a, aaaa, https, port [variants]rrset
	txt                  rrset
	given                prometheus.Counter
}

// set returns the records of a type that n has.
func (r *records) set(n *name, t uint16, turn uint32) rrset {
	switch i := turn % variants; {
	case n.port:
		return r.port[i]
	case t == dns.TypeA:
		return r.a[i]
	case t == dns.TypeAAAA:
		return r.aaaa[i]
	case t == dns.TypeHTTPS:
		return r.https[i]
	default:
		return r.txt
	}
}

var recordTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT}

// newBook makes a book of a view. addrs are the addresses of the nodes' hosts.
func newBook(c *Config, zone string, v *View, addrs map[string][]netip.Addr, now time.Time, given *prometheus.CounterVec) *book {
	b := &book{
		zone: wireName(zone), nsid: []byte(c.ID), names: map[string]*name{}, locator: c.Locator, policy: c.Watch.Policy(),
		view: slices.Clone(v.Regions), regions: make([]records, len(v.Regions)), cells: make([]atomic.Uint32, 180*360),
	}
	ttl := uint32(c.TTL / time.Second)
	b.any = pack(&dns.HINFO{Hdr: header(dns.TypeHINFO, nsTTL), Cpu: "RFC8482"})
	soa := pack(&dns.SOA{
		Hdr: header(dns.TypeSOA, ttl), Ns: dns.Fqdn(c.NameServers[0].Name), Mbox: "hostmaster." + zone, Serial: uint32(now.Unix()),
		Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	})
	b.soa = soa.wire
	apex := b.add("", nearest, recordTypes)
	var ns []dns.RR
	for _, s := range c.NameServers {
		ns = append(ns, &dns.NS{Hdr: header(dns.TypeNS, nsTTL), Ns: dns.Fqdn(s.Name)})
		if in, ok := strings.CutSuffix(dns.Fqdn(s.Name), "."+zone); ok {
			a, aaaa := packAddrs(s.Addrs, nsTTL)
			b.add(in, noRegion, nil).fixed = map[uint16]rrset{dns.TypeA: a, dns.TypeAAAA: aaaa}
		}
	}
	apex.fixed = map[uint16]rrset{dns.TypeSOA: soa, dns.TypeNS: pack(ns...)}

	for i, r := range v.Topology.Regions {
		target := string(r.Name) + "." + zone
		ports := b.regions[i].fill(v.Nodes[i], target, addrs, ttl)
		b.regions[i].txt = pack(&dns.TXT{Hdr: header(dns.TypeTXT, ttl), Txt: []string{"region=" + string(r.Name)}})
		if b.regions[i].a[0].count+b.regions[i].aaaa[0].count == 0 {
			b.view[i].State = placement.Down // whoever is up there, nobody can be sent to
		}
		b.regions[i].given = given.WithLabelValues(string(r.Name))
		labels := []string{string(r.Name)}
		if own, ok := strings.CutSuffix(r.DNSName+".", "."+zone); ok && own != string(r.Name) {
			labels = append(labels, own)
		}
		for _, label := range labels {
			b.add(label, i, recordTypes)
			for _, port := range ports {
				b.add("_"+strconv.Itoa(int(port))+"._https."+label, i, []uint16{dns.TypeHTTPS}).port = true
			}
		}
		for _, port := range ports {
			b.add("_"+strconv.Itoa(int(port))+"._https", nearest, []uint16{dns.TypeHTTPS}).port = true
		}
		if r.Name == c.Home {
			b.home = b.view[i].At
		}
		b.shed = b.shed || b.view[i].Full && b.view[i].State == placement.Up
	}
	return b
}

// add makes a name exist, and those between it and the zone (RFC 8020). Who comes
// first has it.
func (b *book) add(label string, region int, types []uint16) *name {
	key := ""
	if label != "" {
		key = string(wireName(label + "."))
		key = key[:len(key)-1]
	}
	n := b.names[key]
	if n == nil {
		n = &name{region: noRegion}
		b.names[key] = n
		if _, parent, ok := strings.Cut(label, "."); ok {
			b.add(parent, noRegion, nil)
		}
	}
	if n.region == noRegion && n.fixed == nil {
		n.region, n.types = region, types
	}
	return n
}

// fill packs the answers with a region's nodes, and returns the ports of their
// WebTransport endpoints that are not that of HTTPS.
func (r *records) fill(nodes []Node, target string, addrs map[string][]netip.Addr, ttl uint32) (ports []uint16) {
	var eps []endpoint
	var states []placement.State
	var weights []int
	for _, n := range nodes {
		e := endpointOf(n, addrs)
		if len(e.addrs) == 0 {
			continue
		}
		eps, states, weights = append(eps, e), append(states, n.State), append(weights, n.Capacity)
		if e.h3 != 0 && e.h3 != 443 && !slices.Contains(ports, e.h3) {
			ports = append(ports, e.h3)
		}
	}
	for i := range variants {
		var some []endpoint
		order := placement.Spread(states, weights, rand.New(rand.NewPCG(rand.Uint64(), 0)))
		for _, at := range order[:min(len(order), perReply)] {
			if states[at] != states[order[0]] {
				break // the best there are, and none of those that are worse
			}
			some = append(some, eps[at])
		}
		var all []netip.Addr
		for _, e := range some {
			all = append(all, e.addrs...)
		}
		r.a[i], r.aaaa[i] = packAddrs(all, ttl)
		r.https[i], r.port[i] = packHTTPS(some, target, ttl)
	}
	return ports
}

// endpoint is how clients reach a node.
type endpoint struct {
	addrs   []netip.Addr
	h3, tls uint16 // ports; 0: none
}

func endpointOf(n Node, addrs map[string][]netip.Addr) (e endpoint) {
	for _, s := range []string{n.HTTP, n.WS, n.WT} {
		u, err := url.Parse(s)
		if s == "" || err != nil {
			continue
		}
		if len(e.addrs) == 0 {
			e.addrs = some(addrs[u.Hostname()])
		}
		port := uint16(443)
		if p, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
			port = uint16(p)
		}
		switch {
		case s == n.WT:
			e.h3 = port
		case u.Scheme == "https" || u.Scheme == "wss":
			e.tls = port
		}
	}
	return e
}

// some are the first few addresses of each family: a host may have any number.
func some(all []netip.Addr) (few []netip.Addr) {
	four, six := 0, 0
	for _, a := range all {
		n := &six
		if a.Is4() {
			n = &four
		}
		if *n < perNode {
			*n++
			few = append(few, a)
		}
	}
	return few
}

// packAddrs packs addresses, each once.
func packAddrs(addrs []netip.Addr, ttl uint32) (a, aaaa rrset) {
	var four, six []dns.RR
	for i, addr := range addrs {
		switch {
		case slices.Contains(addrs[:i], addr):
		case addr.Is4():
			four = append(four, &dns.A{Hdr: header(dns.TypeA, ttl), A: addr.AsSlice()})
		default:
			six = append(six, &dns.AAAA{Hdr: header(dns.TypeAAAA, ttl), AAAA: addr.AsSlice()})
		}
	}
	return pack(four...), pack(six...)
}

// packHTTPS packs what nodes speak (RFC 9460): HTTP/3 first, which is where
// WebTransport is, and HTTP/1.1, the default, with it or at a port of its own.
// Nodes with the same ports share a record. port is for the name of the HTTP/3
// port.
func packHTTPS(eps []endpoint, target string, ttl uint32) (https, port rrset) {
	type ports struct{ h3, tls uint16 }
	var keys []ports
	hints := map[ports][]netip.Addr{}
	for _, e := range eps {
		k := ports{e.h3, e.tls}
		if k == (ports{}) {
			continue
		}
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
		hints[k] = append(hints[k], e.addrs...)
	}
	var all, h3 []dns.RR
	record := func(priority, port uint16, addrs []netip.Addr, params ...dns.SVCBKeyValue) dns.RR {
		if port != 443 {
			params = append(params, &dns.SVCBPort{Port: port})
		}
		var four dns.SVCBIPv4Hint
		var six dns.SVCBIPv6Hint
		for _, a := range addrs {
			if a.Is4() {
				four.Hint = append(four.Hint, a.AsSlice())
			} else {
				six.Hint = append(six.Hint, a.AsSlice())
			}
		}
		if len(four.Hint) > 0 {
			params = append(params, &four)
		}
		if len(six.Hint) > 0 {
			params = append(params, &six)
		}
		return &dns.HTTPS{SVCB: dns.SVCB{Hdr: header(dns.TypeHTTPS, ttl), Priority: priority, Target: target, Value: params}}
	}
	for _, k := range keys {
		alpn := &dns.SVCBAlpn{Alpn: []string{"h3"}}
		switch {
		case k.h3 == k.tls:
			all = append(all, record(1, k.h3, hints[k], alpn))
		case k.h3 != 0:
			all = append(all, record(1, k.h3, hints[k], alpn, &dns.SVCBNoDefaultAlpn{}))
		}
		if k.h3 != 0 {
			h3 = append(h3, record(1, k.h3, hints[k], alpn, &dns.SVCBNoDefaultAlpn{}))
		}
		if k.tls != 0 && k.tls != k.h3 {
			all = append(all, record(2, k.tls, hints[k]))
		}
	}
	return pack(all...), pack(h3...)
}

func header(t uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: ".", Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// pack writes records whose owner is the name in the question.
func pack(rrs ...dns.RR) (s rrset) {
	var buf [1024]byte
	for _, rr := range rrs {
		n, err := dns.PackRR(rr, buf[:], 0, nil, false)
		if err != nil {
			panic("steering: " + err.Error()) // names and addresses were checked
		}
		s.wire = append(append(s.wire, 0xc0, headerLen), buf[1:n]...) // instead of the root
		s.count++
	}
	return s
}

// wireName is a name with its final dot in wire form.
func wireName(s string) []byte {
	var buf [maxName]byte
	n, err := dns.PackDomainName(strings.ToLower(s), buf[:], 0, nil, false)
	if err != nil {
		panic("steering: name " + s + ": " + err.Error()) // checked by New and by the topology
	}
	return slices.Clone(buf[:n])
}

// nearest is the region to give, and the prefix for which it holds.
func (b *book) nearest(s *subnet, from netip.Addr) (region int, scope uint8) {
	asks := from
	if s.addr.IsValid() && s.source > 0 {
		asks = s.addr
	}
	var place locate.Place
	if b.locator != nil {
		place = b.locator.Locate(asks)
	}
	if asks == s.addr && s.source > 0 {
		bits := place.Prefix.Bits()
		if b.shed {
			bits = max(bits, map[bool]int{true: 24, false: 48}[asks.Unmap().Is4()])
		}
		if asks.Is4In6() && bits >= 0 {
			bits += 96 // as an IPv6 address that holds an IPv4 one
		}
		scope = uint8(max(bits, 0))
		if place.At == nil && b.locator != nil {
			place.At = b.locator.Locate(from).At
		}
	}
	at := place.At
	if at == nil {
		at = b.home
	}
	if b.shed {
		return max(0, b.policy.Best(placement.Client{At: at, Key: Key(asks)}, b.view)), scope
	}
	if at == nil {
		return max(0, b.policy.Best(placement.Client{}, b.view)), scope
	}
	// Within a degree it makes no difference.
	lat, lng := min(int(at.Lat+90), 179), min(int(at.Lng+180), 359)
	cell := &b.cells[lat*360+lng]
	if n := cell.Load(); n != 0 {
		return int(n - 1), scope
	}
	middle := geo.Point{Lat: float64(lat) - 89.5, Lng: float64(lng) - 179.5}
	region = max(0, b.policy.Best(placement.Client{At: &middle}, b.view))
	cell.Store(uint32(region + 1))
	return region, scope
}
