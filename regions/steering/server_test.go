package steering

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func exchange(t testing.TB, s *Server, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	a, _, err := c.Exchange(m, s.Addr())
	require.NoError(t, err)
	return a
}

func TestOverSockets(t *testing.T) {
	s := newWorld().serve(t)
	for _, network := range []string{"udp", "tcp"} {
		a := exchange(t, s, network, withSubnet(question(zone, dns.TypeA), "130.56.0.0/16"))
		require.EqualValues(t, "oc-east", where(a), network)
	}
	require.NotZero(t, s.Addr())
	require.InDelta(t, 2, testutil.ToFloat64(s.metrics.queries[0][0]), 0)
	require.InDelta(t, 2, testutil.ToFloat64(s.metrics.subnets), 0)
	require.InDelta(t, 2, testutil.ToFloat64(s.metrics.answers.WithLabelValues("oc-east")), 0)
	problems, err := testutil.GatherAndLint(s.cfg.Metrics.(*prometheus.Registry))
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestManyQueriesOnOneConnection(t *testing.T) {
	s := newWorld().serve(t)
	c, err := dns.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer c.Close()
	var ids []uint16
	for range 50 { // all before the first answer is read
		m := question(zone, dns.TypeTXT)
		ids = append(ids, m.Id)
		require.NoError(t, c.WriteMsg(m))
	}
	for _, id := range ids {
		a, err := c.ReadMsg()
		require.NoError(t, err)
		require.Equal(t, id, a.Id)
		require.EqualValues(t, "us-east", where(a))
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := newWorld().serve(t, func(c *Config) { c.MaxTCP = 2 })
	var conns []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", s.Addr())
		require.NoError(t, err)
		defer c.Close()
		conns = append(conns, c)
	}
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.conns) == 2
	}, 5*time.Second, time.Millisecond)
	c, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	// A connection that asks for too much is closed, and makes room.
	_, err = conns[0].Write([]byte{0xff, 0xff})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.conns) == 1
	}, 5*time.Second, time.Millisecond)
	require.EqualValues(t, "us-east", where(exchange(t, s, "tcp", question(zone, dns.TypeA))))
}

// One network can't have all connections.
func TestConnectionsOfOneNetwork(t *testing.T) {
	s := newWorld().serve(t, func(c *Config) { c.MaxTCP = 20 })
	open := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Equal(t, len(s.conns), s.networks[networkHash(netip.MustParseAddr("127.0.0.1"), 24, 56)])
		return len(s.conns)
	}
	var conns []net.Conn
	for range 6 {
		c, err := net.Dial("tcp", s.Addr())
		require.NoError(t, err)
		defer c.Close()
		conns = append(conns, c)
	}
	_ = conns[5].SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err := conns[5].Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, 5, open())
	for _, c := range conns {
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool { return open() == 0 }, 5*time.Second, time.Millisecond)
	require.Empty(t, s.networks)
}

// A region that is not heard of any more is out of the answers after its silence
// and three looks, and back after two.
func TestARegionDiesAndComesBack(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	w := newWorld()
	s := w.serve(t)
	at := func() string {
		return string(where(exchange(t, s, "udp", withSubnet(question(zone, dns.TypeA), "137.158.0.0/16"))))
	}
	require.Equal(t, "af-south", at())
	w.change(func() { w.dead["af-south"] = true })
	began := time.Now()
	require.Eventually(t, func() bool { return at() != "af-south" }, 15*time.Second, 20*time.Millisecond)
	took := time.Since(began)
	t.Log("out after", took)
	require.Greater(t, took, silence)
	require.Less(t, took, silence+(badLooks+1)*lookEvery+2*time.Second)
	require.Equal(t, "sa-east", at())
	w.change(func() { delete(w.dead, "af-south") })
	require.Eventually(t, func() bool { return at() == "af-south" }, 10*time.Second, 20*time.Millisecond)
}

func TestHostsThatMove(t *testing.T) {
	w := newWorld()
	var mu sync.Mutex
	fail, cfg := false, w.config(t)
	s, err := New(func() Config {
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			mu.Lock()
			defer mu.Unlock()
			if fail {
				return nil, errors.New("no resolver")
			}
			return w.resolve(ctx, host)
		}
		return cfg
	}())
	require.NoError(t, err)
	defer s.Stop()
	require.True(t, s.resolve(t.Context()))
	require.False(t, s.resolve(t.Context()), "nothing new")
	before := s.addrs["eu-west-1.example.net"]
	require.Len(t, before, 2)
	mu.Lock()
	fail = true
	mu.Unlock()
	require.False(t, s.resolve(t.Context()))
	require.Equal(t, before, s.addrs["eu-west-1.example.net"], "what can't be found stays")
}

func TestHostsWithManyAddresses(t *testing.T) {
	w := newWorld()
	s := w.serve(t, func(c *Config) {
		c.Resolve = func(context.Context, string) (all []netip.Addr, _ error) {
			for i := range 60 {
				all = append(all, netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1)), netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)))
			}
			return all, nil
		}
	})
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS} {
		a, err := dns.Exchange(question(zone, qtype), s.Addr())
		require.NoError(t, err)
		require.False(t, a.Truncated, dns.TypeToString[qtype])
		require.NotEmpty(t, a.Answer)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no zone":         func(c *Config) { c.Zone = "" },
		"bad zone":        func(c *Config) { c.Zone = "a..b" },
		"no name server":  func(c *Config) { c.NameServers = nil },
		"glue is missing": func(c *Config) { c.NameServers[0].Addrs = nil },
		"zone as its own": func(c *Config) { c.NameServers[0].Name = zone },
		"address":         func(c *Config) { c.Addr = "nowhere" },
	} {
		cfg := newWorld().config(t)
		change(&cfg)
		_, err := New(cfg)
		require.Error(t, err, name)
	}
	cfg := newWorld().config(t)
	s, err := New(cfg)
	require.NoError(t, err)
	cfg.Addr = s.Addr()
	_, err = New(cfg)
	require.Error(t, err, "in use")
	s.Stop() // never started
	s, err = New(cfg)
	require.NoError(t, err, "and free again")
	s.Stop()
}

func TestRateLimit(t *testing.T) {
	l := newLimiter(10)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.99")
	now := time.Second
	count := map[verdict]int{}
	for range 40 {
		count[l.check(a, now)]++
	}
	require.Equal(t, map[verdict]int{pass: 10, slip: 15, drop: 15}, count)
	require.NotEqual(t, pass, l.check(b, now), "of the same network")
	require.Equal(t, pass, l.check(netip.MustParseAddr("198.51.100.1"), now))
	require.Equal(t, pass, l.check(netip.MustParseAddr("2001:db8::1"), now))
	require.Equal(t, pass, l.check(a, now+time.Second/10))
	require.NotEqual(t, pass, l.check(a, now+time.Second/10))
	require.Equal(t, pass, (*limiter)(nil).check(a, now))

	// Over the limit: nothing, or an empty answer that says to use TCP.
	s := newWorld().serve(t, func(c *Config) { c.Rate = 1; c.Sockets = 1 })
	c, err := dns.Dial("udp", s.Addr())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.WriteMsg(question(zone, dns.TypeA)))
	full, err := c.ReadMsg()
	require.NoError(t, err)
	require.False(t, full.Truncated)
	for range 4 {
		require.NoError(t, c.WriteMsg(question(zone, dns.TypeA)))
	}
	empty, err := c.ReadMsg()
	require.NoError(t, err)
	require.True(t, empty.Truncated)
	require.Empty(t, empty.Answer)
	require.Len(t, exchange(t, s, "tcp", question(zone, dns.TypeA)).Answer, 2)
}

// Real queries, broken in many ways, by UDP and TCP: whatever comes, the server
// goes on, and what it answers is well-formed. MUSTER_DNS_HOSTILE says how many.
func TestHostilePackets(t *testing.T) {
	total := 2500
	if n, err := strconv.Atoi(os.Getenv("MUSTER_DNS_HOSTILE")); err == nil {
		total = n
	}
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	s := newWorld().serve(t)
	real := realQueries(t)
	c, err := net.Dial("udp", s.Addr())
	require.NoError(t, err)
	defer c.Close()
	answered := 0
	read := func(wait time.Duration) bool {
		buf := make([]byte, 4096)
		_ = c.SetReadDeadline(time.Now().Add(wait))
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		var m dns.Msg
		require.NoError(t, m.Unpack(buf[:n]), "%x", buf[:n])
		require.True(t, m.Response)
		answered++
		return true
	}
	alive := func() {
		require.EqualValues(t, "sa-east", where(exchange(t, s, "udp", withSubnet(question(zone, dns.TypeA), "143.107.0.0/16"))))
	}
	for i := range total {
		p := mutate(r, real)
		if i%20 == 0 { // by TCP, in a stream that may be nonsense
			tcp, err := net.Dial("tcp", s.Addr())
			require.NoError(t, err)
			size := len(p)
			if r.IntN(3) == 0 {
				size = r.IntN(1 << 16)
			}
			_, err = tcp.Write(append(binary.BigEndian.AppendUint16(nil, uint16(size)), p...))
			require.NoError(t, err)
			_ = tcp.Close()
		} else {
			_, err := c.Write(p)
			require.NoError(t, err)
			// So that the sockets' buffers never run over: each would then be a packet
			// that was not tried.
			if i%8 == 0 {
				for read(time.Millisecond) {
				}
			}
		}
		if i%1000 == 0 {
			alive()
		}
	}
	for read(100 * time.Millisecond) {
	}
	alive()
	t.Logf("seed %d: %d packets, %d answers", seed, total, answered)
	require.Greater(t, answered, total/4, "most are broken, and most of these are told so")
}

// mutate breaks one of the packets, or makes one up.
func mutate(r *rand.Rand, real [][]byte) []byte {
	p := append([]byte{}, real[r.IntN(len(real))]...)
	switch r.IntN(10) {
	case 0:
		p = make([]byte, r.IntN(600))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		if len(p) > 2 {
			p[2] &^= 0x80
		}
		return p
	case 1:
		return p[:r.IntN(len(p)+1)]
	case 2:
		return append(p, real[r.IntN(len(real))]...)
	case 3: // long
		for range r.IntN(8000) {
			p = append(p, byte(r.Uint32()))
		}
		return p
	}
	for range 1 + r.IntN(6) {
		at := r.IntN(len(p))
		switch r.IntN(5) {
		case 0:
			p[at] ^= 1 << r.IntN(8)
		case 1:
			p[at] = byte(r.Uint32())
		case 2:
			p[at] = []byte{0, 0xff, 0xc0, 0x3f, 0x80, 8, 41}[r.IntN(7)]
		case 3:
			p = append(p[:at], p[min(len(p), at+1+r.IntN(8)):]...)
		case 4:
			more := make([]byte, 1+r.IntN(8))
			for i := range more {
				more[i] = byte(r.Uint32())
			}
			p = append(p[:at], append(more, p[at:]...)...)
		}
		if len(p) == 0 {
			return p
		}
	}
	return p
}
