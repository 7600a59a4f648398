package steering

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/placement"
)

// clients are networks of universities and registries on six continents.
var clients = []struct {
	prefix string
	want   regions.RegionID
}{
	{"141.20.0.0/16", "eu-west"},        // Humboldt-Universität, Berlin
	{"18.9.22.0/24", "us-east"},         // MIT
	{"137.132.0.0/16", "ap-southeast"},  // National University of Singapore
	{"143.107.0.0/16", "sa-east"},       // Universidade de São Paulo
	{"137.158.0.0/16", "af-south"},      // University of Cape Town
	{"130.56.0.0/16", "oc-east"},        // Australian National University
	{"2001:638::/48", "eu-west"},        // DFN, Germany
	{"2001:4200::/48", "af-south"},      // TENET, South Africa
	{"2001:12ff::/48", "sa-east"},       // NIC.br
	{"2001:388::/48", "oc-east"},        // AARNet
	{"2600:1700:1000::/56", "us-east"},  // AT&T
	{"2001:d98::/48", "ap-southeast"},   // Singapore
	{"::ffff:18.9.22.0/120", "us-east"}, // IPv4 in IPv6
}

func TestNearestByClientSubnet(t *testing.T) {
	b := newWorld().book(t)
	for _, c := range clients {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT} {
			a := b.ask(t, withSubnet(question(zone, qtype), c.prefix))
			require.Equal(t, dns.RcodeSuccess, a.Rcode)
			require.True(t, a.Authoritative)
			require.Equal(t, c.want, where(a), "%s %s", c.prefix, dns.TypeToString[qtype])
			require.LessOrEqual(t, a.Answer[0].Header().Ttl, uint32(30))
			require.GreaterOrEqual(t, a.Answer[0].Header().Ttl, uint32(20))
			s, p := subnetOf(a), netip.MustParsePrefix(c.prefix)
			require.NotNil(t, s)
			require.EqualValues(t, p.Bits(), s.SourceNetmask)
			require.NotZero(t, s.SourceScope)
			require.True(t, s.Address.Equal(p.Addr().AsSlice()), "%v", s.Address)
		}
		a := b.ask(t, withSubnet(question(zone, dns.TypeHTTPS), c.prefix))
		require.Equal(t, string(c.want)+"."+zone+".", a.Answer[0].(*dns.HTTPS).Target)
	}
}

func TestWithoutASubnetWhoAsksCounts(t *testing.T) {
	b := newWorld().book(t)
	for from, want := range map[string]regions.RegionID{"137.158.1.1": "af-south", "2001:638::1": "eu-west", "10.0.0.1": "us-east", "127.0.0.1": "us-east"} {
		require.Equal(t, want, where(b.askFrom(t, question(zone, dns.TypeA), from, byUDP)), from)
	}
	// Source 0: the client does not want to be located (RFC 7871 section 7.1.2).
	a := b.askFrom(t, withSubnet(question(zone, dns.TypeA), "0.0.0.0/0"), "137.158.1.1", byUDP)
	require.EqualValues(t, "af-south", where(a))
	require.Zero(t, subnetOf(a).SourceScope)
	require.Zero(t, subnetOf(a).SourceNetmask)
	// A private subnet is in no place: who asks counts, and the scope is the
	// private network, not everybody.
	a = b.askFrom(t, withSubnet(question(zone, dns.TypeA), "10.1.2.0/24"), "137.158.1.1", byUDP)
	require.EqualValues(t, "af-south", where(a))
	require.EqualValues(t, 8, subnetOf(a).SourceScope)
}

// Whatever two answers say, their scopes hold it: no address is in two scopes
// with different answers.
func TestScopesDoNotOverlap(t *testing.T) {
	w := newWorld()
	for _, shed := range []bool{false, true} {
		b := w.book(t)
		if shed {
			b.shed, b.view[0].Full, b.view[0].Load = true, true, 0.85
		}
		r := rand.New(rand.NewPCG(1, 2))
		seen := map[netip.Prefix]regions.RegionID{}
		by := map[int][]netip.Prefix{}
		for range 1500 {
			var four [4]byte
			binary.BigEndian.PutUint32(four[:], r.Uint32())
			// Near others, so that scopes meet.
			if len(by) > 0 && r.IntN(2) == 0 {
				for p := range seen {
					four = p.Addr().As4()
					four[3-r.IntN(2)] = byte(r.IntN(256))
					break
				}
			}
			source := 8 + r.IntN(25)
			p := netip.PrefixFrom(netip.AddrFrom4(four), source).Masked()
			a := b.ask(t, withSubnet(question(zone, dns.TypeA), p.String()))
			scope := netip.PrefixFrom(p.Addr(), int(subnetOf(a).SourceScope)).Masked()
			if was, ok := seen[scope]; ok {
				require.Equal(t, was, where(a), "%v: two answers for %v", p, scope)
				continue
			}
			for other, region := range seen {
				if region != where(a) && other.Overlaps(scope) {
					t.Fatalf("%v %v", other, scope)
				}
			}
			seen[scope] = where(a)
			by[scope.Bits()] = append(by[scope.Bits()], scope)
		}
		if !shed {
			require.Greater(t, len(by), 3, "scopes differ in length")
		}
	}
}

func TestMalformedSubnets(t *testing.T) {
	b := newWorld().book(t)
	for name, option := range map[string][]byte{
		"short":             {0, 1, 24},
		"too few bytes":     {0, 1, 24, 0, 192, 0},
		"too many bytes":    {0, 1, 24, 0, 192, 0, 2, 0},
		"bits beyond":       {0, 1, 20, 0, 192, 0, 0x2f},
		"source too long":   {0, 1, 33, 0, 192, 0, 2, 1, 0},
		"v6 too long":       append([]byte{0, 2, 129, 0}, make([]byte, 17)...),
		"scope in a query":  {0, 1, 24, 24, 192, 0, 2},
		"unknown family":    {0, 3, 24, 0, 192, 0, 2},
		"family 0, address": {0, 0, 8, 0, 1},
		"empty":             {},
	} {
		m := question(zone, dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0SUBNET, Data: option})
		a := b.ask(t, m)
		require.Equal(t, dns.RcodeFormatError, a.Rcode, name)
		require.NotNil(t, a.IsEdns0(), name)
		require.Nil(t, subnetOf(a), name)
		require.Empty(t, a.Answer, name)
	}
	for name, option := range map[string][]byte{"family 0": {0, 0, 0, 0}, "source 0": {0, 2, 0, 0}} {
		m := question(zone, dns.TypeA)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0SUBNET, Data: option})
		packet, err := m.Pack()
		require.NoError(t, err)
		out, _ := b.answer(packet, netip.MustParseAddr("127.0.0.1"), byUDP, 0, nil)
		require.Equal(t, option, out[len(out)-4:], name) // echoed, scope 0
	}
}

func TestNames(t *testing.T) {
	b := newWorld().book(t)
	for _, c := range []struct {
		name    string
		qtype   uint16
		rcode   int
		answers int
	}{
		{zone, dns.TypeA, dns.RcodeSuccess, 2},
		{"eDgE.ExAmPlE.oRg", dns.TypeA, dns.RcodeSuccess, 2},
		{zone, dns.TypeSOA, dns.RcodeSuccess, 1},
		{zone, dns.TypeNS, dns.RcodeSuccess, 2},
		{zone, dns.TypeMX, dns.RcodeSuccess, 0},
		{zone, dns.TypeDNSKEY, dns.RcodeSuccess, 0},
		{zone, dns.TypeANY, dns.RcodeSuccess, 1},
		{zone, dns.TypeAXFR, dns.RcodeRefused, 0},
		{"sa-east." + zone, dns.TypeA, dns.RcodeSuccess, 2},
		{"SA-East." + zone, dns.TypeAAAA, dns.RcodeSuccess, 2},
		{"sa-east." + zone, dns.TypeNS, dns.RcodeSuccess, 0},
		{"sa-east." + zone, dns.TypeHTTPS, dns.RcodeSuccess, 2},
		{"_8443._https." + zone, dns.TypeHTTPS, dns.RcodeSuccess, 1},
		{"_8443._https." + zone, dns.TypeA, dns.RcodeSuccess, 0},
		{"_https." + zone, dns.TypeHTTPS, dns.RcodeSuccess, 0},
		{"_8443._https.sa-east." + zone, dns.TypeHTTPS, dns.RcodeSuccess, 1},
		{"_https.sa-east." + zone, dns.TypeHTTPS, dns.RcodeSuccess, 0},
		{"_9443._https." + zone, dns.TypeHTTPS, dns.RcodeNameError, 0},
		{"ns1." + zone, dns.TypeA, dns.RcodeSuccess, 1},
		{"ns1." + zone, dns.TypeAAAA, dns.RcodeSuccess, 0},
		{"nobody." + zone, dns.TypeA, dns.RcodeNameError, 0},
		{"a.sa-east." + zone, dns.TypeA, dns.RcodeNameError, 0},
		{"example.org", dns.TypeA, dns.RcodeRefused, 0},
		{"notedge.example.org", dns.TypeA, dns.RcodeRefused, 0},
		{"xedge.example.org", dns.TypeA, dns.RcodeRefused, 0},
		{".", dns.TypeNS, dns.RcodeRefused, 0},
		{"version.bind", dns.TypeTXT, dns.RcodeRefused, 0},
	} {
		a := b.ask(t, question(c.name, c.qtype))
		require.Equal(t, c.rcode, a.Rcode, "%v", c)
		require.Len(t, a.Answer, c.answers, "%v", c)
		require.Equal(t, c.rcode != dns.RcodeRefused, a.Authoritative, "%v", c)
		require.Equal(t, c.name, strings.TrimSuffix(a.Question[0].Name, ".")+map[bool]string{true: "."}[c.name == "."], "as it was asked")
		if a.Authoritative && c.answers == 0 { // RFC 2308
			require.Len(t, a.Ns, 1, "%v", c)
			soa := a.Ns[0].(*dns.SOA)
			require.True(t, strings.EqualFold(zone+".", soa.Hdr.Name))
			require.Equal(t, soa.Minttl, soa.Hdr.Ttl)
			require.EqualValues(t, 20, soa.Minttl)
			require.Equal(t, "ns1.edge.example.org.", soa.Ns)
		} else {
			require.Empty(t, a.Ns, "%v", c)
		}
		for _, rr := range a.Answer {
			require.Equal(t, a.Question[0].Name, rr.Header().Name)
		}
	}
	chaos := question("version.bind", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	require.Equal(t, dns.RcodeRefused, b.ask(t, chaos).Rcode)
	chaos.Question[0].Name = zone + "."
	require.Equal(t, dns.RcodeRefused, b.ask(t, chaos).Rcode)
	require.Equal(t, "RFC8482", b.ask(t, question(zone, dns.TypeANY)).Answer[0].(*dns.HINFO).Cpu)
}

// A negative answer that is tailored says for whom; one that is not is for all.
func TestScopesOfOtherAnswers(t *testing.T) {
	b := newWorld().book(t)
	for name, scope := range map[string]uint8{"eu-west." + zone: 0, "nobody." + zone: 0, "example.org": 0} {
		s := subnetOf(b.ask(t, withSubnet(question(name, dns.TypeA), "18.9.22.0/24")))
		require.NotNil(t, s, name)
		require.Equal(t, scope, s.SourceScope, name)
	}
}

// Who is turned away depends on the network, also where no table says more.
func TestScopesWhileClientsAreTurnedAway(t *testing.T) {
	w := newWorld()
	w.standings[0].Nodes[0].Sessions = 1_000_000
	s := w.serve(t, func(c *Config) { c.Locator = nil })
	for subnet, scope := range map[string]uint8{"18.9.22.0/24": 24, "2001:db8:7::/48": 48, "::ffff:18.9.22.0/120": 120} {
		o := subnetOf(s.book.Load().ask(t, withSubnet(question(zone, dns.TypeA), subnet)))
		require.NotNil(t, o, subnet)
		require.Equal(t, scope, o.SourceScope, subnet)
	}
}

func TestHTTPSRecords(t *testing.T) {
	b := newWorld().book(t)
	a := b.ask(t, withSubnet(question(zone, dns.TypeHTTPS), "137.158.0.0/16"))
	require.Len(t, a.Answer, 2)
	h3, tcp := a.Answer[0].(*dns.HTTPS), a.Answer[1].(*dns.HTTPS)
	require.Contains(t, h3.String(), `1 af-south.edge.example.org. alpn="h3" no-default-alpn="" port="8443" ipv4hint="192.0.2.5`)
	require.Contains(t, h3.String(), `ipv6hint="2001:db8::5`)
	require.Contains(t, tcp.String(), `2 af-south.edge.example.org. ipv4hint="192.0.2.5`)
	a = b.ask(t, question("_8443._https.eu-west."+zone, dns.TypeHTTPS))
	require.Contains(t, a.Answer[0].String(), `1 eu-west.edge.example.org. alpn="h3" no-default-alpn="" port="8443"`)

	for _, c := range []struct {
		e    endpoint
		want []string
	}{
		{endpoint{h3: 443, tls: 443}, []string{`1 x. alpn="h3"`}},
		{endpoint{h3: 8443, tls: 8443}, []string{`1 x. alpn="h3" port="8443"`}},
		{endpoint{tls: 443}, []string{`2 x.`}},
		{endpoint{h3: 443}, []string{`1 x. alpn="h3" no-default-alpn=""`}},
		{endpoint{}, nil},
	} {
		set, _ := packHTTPS([]endpoint{c.e}, "x.", 20)
		var got []string
		for rest := set.wire; len(rest) > 0; {
			// The pointer stands for the root here.
			rr, n, err := dns.UnpackRR(append([]byte{0}, rest[2:]...), 0)
			require.NoError(t, err)
			got = append(got, strings.SplitN(rr.String(), "HTTPS\t", 2)[1])
			rest = rest[n+1:]
		}
		require.Equal(t, c.want, got)
	}
}

func TestEDNS(t *testing.T) {
	b := newWorld().book(t)
	require.Nil(t, b.ask(t, question(zone, dns.TypeA)).IsEdns0(), "none asked, none answered")

	m := question(zone, dns.TypeA)
	m.SetEdns0(4096, true)
	opt := b.ask(t, m).IsEdns0()
	require.EqualValues(t, maxUDP, opt.UDPSize())
	require.True(t, opt.Do())
	require.Empty(t, opt.Option)

	m.IsEdns0().SetVersion(1)
	a := b.ask(t, m)
	require.Equal(t, dns.RcodeBadVers, a.Rcode)
	require.Zero(t, a.IsEdns0().Version())
	require.Empty(t, a.Answer)

	m = question("nobody."+zone, dns.TypeA)
	m.SetEdns0(512, false)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
	opt = b.ask(t, m).IsEdns0()
	require.Len(t, opt.Option, 1)
	require.Equal(t, "6e732d74657374", opt.Option[0].(*dns.EDNS0_NSID).Nsid)
	require.False(t, opt.Do())

	m = question(zone, dns.TypeA)
	m.SetEdns0(1232, false)
	m.Extra = append(m.Extra, m.Extra[0])
	require.Equal(t, dns.RcodeFormatError, b.ask(t, m).Rcode, "two of them")
}

func TestTruncation(t *testing.T) {
	w := newWorld()
	// Each node with ports of its own, as in development: a long answer.
	for i := range w.standings {
		s := &w.standings[i]
		for n := range 6 {
			node := s.Nodes[n%2]
			node.Node.ID += regions.NodeID(rune('a' + n))
			node.Node.WT = strings.Replace(node.Node.WT, "8443", "1000"+string(rune('0'+n)), 1)
			s.Nodes = append(s.Nodes, node)
		}
		s.Nodes = s.Nodes[2:]
	}
	cfg := w.config(t)
	s := w.serve(t, func(c *Config) { c.Watch = cfg.Watch })
	b := s.book.Load()
	m := question("eu-west."+zone, dns.TypeHTTPS)
	a := b.ask(t, m)
	require.True(t, a.Truncated)
	require.Empty(t, a.Answer)
	require.Len(t, b.askFrom(t, m, "127.0.0.1", byTCP).Answer, 12)
	m.SetEdns0(1232, false)
	require.Len(t, b.ask(t, m).Answer, 12)
	m.IsEdns0().SetUDPSize(100)
	require.True(t, b.ask(t, m).Truncated, "less than 512 is taken for 512")

	// The same over sockets: a client that follows TC gets it all.
	c := dns.Client{}
	m = question("eu-west."+zone, dns.TypeHTTPS)
	a, _, err := c.Exchange(m, s.Addr())
	require.NoError(t, err)
	require.True(t, a.Truncated)
	c.Net = "tcp"
	a, _, err = c.Exchange(m, s.Addr())
	require.NoError(t, err)
	require.Len(t, a.Answer, 12)
}

func TestMalformedPackets(t *testing.T) {
	b := newWorld().book(t)
	answer := func(p []byte) []byte {
		out, _ := b.answer(p, netip.MustParseAddr("127.0.0.1"), byUDP, 0, nil)
		return out
	}
	good, err := question(zone, dns.TypeA).Pack()
	require.NoError(t, err)
	change := func(f func(p []byte) []byte) []byte { return f(append([]byte{}, good...)) }
	rcode := func(p []byte) int { return int(answer(p)[3] & 0xf) }

	require.Nil(t, answer(nil))
	require.Nil(t, answer(good[:11]))
	require.Nil(t, answer(change(func(p []byte) []byte { p[2] |= 0x80; return p })), "an answer")
	for name, p := range map[string][]byte{
		"header only":     good[:12],
		"half a question": good[:len(good)-3],
		"more behind":     append(change(func(p []byte) []byte { return p }), 0),
		"two questions":   change(func(p []byte) []byte { p[5] = 2; return p }),
		"no question":     change(func(p []byte) []byte { p[5] = 0; return p }),
		"an answer":       change(func(p []byte) []byte { p[7] = 1; return p }),
		"missing extra":   change(func(p []byte) []byte { p[11] = 1; return p }),
		"pointer":         change(func(p []byte) []byte { p[12] = 0xc0; return p }),
		"label type":      change(func(p []byte) []byte { p[12] = 0x41; return p }),
	} {
		require.Equal(t, dns.RcodeFormatError, rcode(p), name)
	}
	for _, opcode := range []int{dns.OpcodeIQuery, dns.OpcodeStatus, dns.OpcodeNotify, dns.OpcodeUpdate, 6, 15} {
		p := change(func(p []byte) []byte { p[2] = byte(opcode << 3); return p })
		require.Equal(t, dns.RcodeNotImplemented, rcode(p), opcode)
		require.Equal(t, byte(opcode), answer(p)[2]>>3&0xf)
	}
	// A TSIG behind the question is not ours to check, and not in the way.
	m := question(zone, dns.TypeA)
	m.SetTsig("key.", dns.HmacSHA256, 300, 0)
	m.Extra[0].(*dns.TSIG).MAC, m.Extra[0].(*dns.TSIG).MACSize = "00112233", 4
	require.Equal(t, dns.RcodeSuccess, b.ask(t, m).Rcode)
}

func TestAllUnhealthyAnswersAnyway(t *testing.T) {
	w := newWorld()
	for i := range w.standings {
		for n := range w.standings[i].Nodes {
			w.standings[i].Nodes[n].State = regions.NodeDown
		}
	}
	b := w.book(t)
	for i := range b.view {
		b.view[i].State = placement.Down
	}
	a := b.ask(t, withSubnet(question(zone, dns.TypeA), "137.158.0.0/16"))
	require.EqualValues(t, "af-south", where(a))
	require.Len(t, a.Answer, 2)
}

func TestDrainingNodesAreNotGiven(t *testing.T) {
	w := newWorld()
	w.standings[0].Nodes[0].State = regions.NodeDraining
	for _, turn := range []uint32{0, 1, 2, 3} {
		b := w.book(t)
		packet, _ := question("eu-west."+zone, dns.TypeA).Pack()
		out, _ := b.answer(packet, netip.MustParseAddr("127.0.0.1"), byUDP, turn, nil)
		var a dns.Msg
		require.NoError(t, a.Unpack(out))
		require.Len(t, a.Answer, 1)
		require.Equal(t, "192.0.2.12", a.Answer[0].(*dns.A).A.String())
	}
}

func TestAnswersDoNotAllocate(t *testing.T) {
	b := newWorld().book(t)
	from, out := netip.MustParseAddr("137.158.1.1"), make([]byte, 0, maxUDP)
	for name, m := range map[string]*dns.Msg{
		"A":        question(zone, dns.TypeA),
		"subnet":   withSubnet(question(zone, dns.TypeHTTPS), "18.9.22.0/24"),
		"region":   question("eu-west."+zone, dns.TypeAAAA),
		"NXDOMAIN": question("nobody."+zone, dns.TypeA),
		"refused":  question("example.com", dns.TypeA),
	} {
		packet, err := m.Pack()
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(200, func() { b.answer(packet, from, byUDP, 1, out) }), name)
	}
}

func BenchmarkAnswer(b *testing.B) {
	book := newWorld().book(b)
	packet, _ := withSubnet(question(zone, dns.TypeA), "18.9.22.0/24").Pack()
	from, out := netip.MustParseAddr("137.158.1.1"), make([]byte, 0, maxUDP)
	b.ReportAllocs()
	for b.Loop() {
		book.answer(packet, from, byUDP, 1, out)
	}
}

func FuzzAnswer(f *testing.F) {
	b := newWorld().book(f)
	for _, p := range realQueries(f) {
		f.Add(p, "137.158.1.1", uint8(0))
	}
	f.Fuzz(func(t *testing.T, packet []byte, from string, by uint8) {
		addr, _ := netip.ParseAddr(from)
		way := way(by % 3)
		out, r := b.answer(packet, addr, way, uint32(by), nil)
		checkAnswer(t, packet, out, way)
		if out != nil && (r.rcode < 0 || r.rcode > 16) {
			t.Fatalf("rcode %d", r.rcode)
		}
	})
}

// checkAnswer is what holds of every answer, whatever was asked.
func checkAnswer(t *testing.T, packet, out []byte, by way) {
	t.Helper()
	if out == nil {
		require.True(t, len(packet) < headerLen || packet[2]&0x80 != 0)
		return
	}
	require.Equal(t, packet[:2], out[:2])
	require.NotZero(t, out[2]&0x80)
	if by != byTCP {
		require.LessOrEqual(t, len(out), maxUDP)
		require.LessOrEqual(t, len(out), max(512, len(packet)+700), "hardly more than was sent")
	}
	var m dns.Msg
	require.NoError(t, m.Unpack(out), "%x\n%x", packet, out)
}

// realQueries are packets as resolvers send them.
func realQueries(t testing.TB) (list [][]byte) {
	for _, name := range []string{zone, "eu-west." + zone, "_8443._https." + zone, "nobody." + zone, "example.com"} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT, dns.TypeSOA, dns.TypeANY} {
			m := question(name, qtype)
			for i := range 4 {
				switch i {
				case 1:
					m.SetEdns0(1232, true)
				case 2:
					withSubnet(m, "137.158.0.0/16")
					m.Extra = m.Extra[len(m.Extra)-1:]
				case 3:
					m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"})
				}
				p, err := m.Pack()
				require.NoError(t, err)
				list = append(list, p)
			}
		}
	}
	return list
}
