package turn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v3"
	pion "github.com/pion/turn/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/turn/allocation"
	"github.com/mustermesh/muster/turn/cred"
	"github.com/mustermesh/muster/turn/quota"
)

const secret = "a secret of at least sixteen bytes"

var local = netip.MustParseAddr("127.0.0.1")

// carriers are what the server runs on: that of this system, and that of any.
var carriers = map[string]func(*shard) (carrier, error){"system": newCarrier, "plain": newPlain}

// serve starts a server on loopback with all transports.
func serve(t testing.TB, set func(*Server)) *Server {
	t.Helper()
	cert := certificate(t)
	s, err := New(Options{
		Realm: "example.org", Secrets: cred.Secrets{secret}, RelayIP: []netip.Addr{local}, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Listen: []Listen{{UDP, netip.AddrPortFrom(local, 0)}, {TCP, netip.AddrPortFrom(local, 0)}, {TLS, netip.AddrPortFrom(local, 0)}},
		TLS:    &tls.Config{Certificates: []tls.Certificate{cert}}, Shards: 1, Log: slog.New(slog.DiscardHandler),
		Metrics: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	if set != nil {
		set(s)
	}
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(s.Stop)
	return s
}

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{local.AsSlice()}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (s *Server) addr(transport Transport) string {
	for _, l := range s.listening {
		if l.Transport == transport {
			return l.Addr.String()
		}
	}
	return ""
}

// dial opens a client's socket to the server.
func dial(t testing.TB, s *Server, transport Transport) net.PacketConn {
	t.Helper()
	var conn net.Conn
	var err error
	switch transport {
	case UDP:
		c, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	case TCP:
		conn, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr(TCP))
	case TLS:
		conn, err = (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", s.addr(TLS))
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return pion.NewSTUNConn(conn)
}

// clientOf is pion's client on a socket.
func clientOf(t testing.TB, s *Server, transport Transport, conn net.PacketConn, username, password string) *pion.Client {
	t.Helper()
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	c, err := pion.NewClient(&pion.ClientConfig{
		STUNServerAddr: s.addr(transport), TURNServerAddr: s.addr(transport), Conn: conn, LoggerFactory: quiet,
		Username: username, Password: password, Realm: "example.org", RTO: 500 * time.Millisecond,
	})
	require.NoError(t, err)
	require.NoError(t, c.Listen())
	t.Cleanup(c.Close)
	return c
}

func client(t testing.TB, s *Server, transport Transport, user string) *pion.Client {
	t.Helper()
	username, password := cred.Mint(secret, user, time.Now(), time.Hour)
	return clientOf(t, s, transport, dial(t, s, transport), username, password)
}

func peerSocket(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func receive(t testing.TB, c net.PacketConn) (string, net.Addr) {
	t.Helper()
	buf := make([]byte, 10_000)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, from, err := c.ReadFrom(buf)
	require.NoError(t, err)
	return string(buf[:n]), from
}

func TestRelaysBothWays(t *testing.T) {
	for name, carrier := range carriers {
		for _, transport := range []Transport{UDP, TCP, TLS} {
			t.Run(fmt.Sprint(name, "/", transport), func(t *testing.T) {
				t.Parallel()
				s := serve(t, func(s *Server) { s.carrier = carrier })
				c := client(t, s, transport, "anna")
				mapped, err := c.SendBindingRequest()
				require.NoError(t, err)
				require.NotEmpty(t, mapped.String())

				relayed, err := c.Allocate()
				require.NoError(t, err)
				peer := peerSocket(t)
				// The first go as indications, while the channel is bound; then on the channel.
				for i := range 300 {
					text := strings.Repeat("x", i*7%1300) + fmt.Sprint(i) // with "again", at least what pion waits for on streams
					_, err = relayed.WriteTo([]byte(text), peer.LocalAddr())
					require.NoError(t, err)
					got, from := receive(t, peer)
					require.Equal(t, text, got)
					require.Equal(t, relayed.LocalAddr().String(), from.String())
					_, err = peer.WriteTo([]byte("again "+text), from)
					require.NoError(t, err)
					got, from = receive(t, relayed)
					require.Equal(t, "again "+text, got)
					require.Equal(t, peer.LocalAddr().String(), from.String())
				}
				require.Positive(t, s.counts().ChannelsSet)
				require.Equal(t, uint64(300), s.counts().PacketsOut)
				require.Equal(t, uint64(300), s.counts().PacketsIn)
				text := scrape(t, s)
				require.Contains(t, text, `muster_turn_allocations{transport="`+string(transport)+`"} 1`)
				require.NotContains(t, text, "anna")
				require.NoError(t, relayed.Close())
				require.Eventually(t, func() bool { return s.Allocations() == 0 }, 5*time.Second, time.Millisecond)
			})
		}
	}
}

func scrape(t testing.TB, s *Server) string {
	t.Helper()
	r := httptest.NewRecorder()
	promhttp.HandlerFor(s.o.Metrics.(*prometheus.Registry), promhttp.HandlerOpts{}).ServeHTTP(r, httptest.NewRequest("GET", "/", nil))
	return r.Body.String()
}

// Bursts of packets of changing sizes arrive whole and in order.
func TestBurstsKeepTheirOrder(t *testing.T) {
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(s *Server) { s.carrier, s.o.Quota = carrier, quota.Limits{} })
			c := client(t, s, UDP, "anna")
			relayed, err := c.Allocate()
			require.NoError(t, err)
			peer := peerSocket(t)
			exchange := func(text string) {
				_, err := relayed.WriteTo([]byte(text), peer.LocalAddr())
				require.NoError(t, err)
				_, from := receive(t, peer)
				_, err = peer.WriteTo([]byte(text), from)
				require.NoError(t, err)
				receive(t, relayed)
			}
			for s.counts().ChannelsSet == 0 {
				exchange("hello")
			}
			from := relayed.LocalAddr()
			for range 20 {
				var sent []string
				for i := range 48 { // what the peer's socket holds
					sent = append(sent, fmt.Sprintf("%02d%s", i, strings.Repeat("y", []int{1200, 1200, 1200, 300, 0, 1300}[i%6])))
				}
				for _, text := range sent {
					_, err := relayed.WriteTo([]byte(text), peer.LocalAddr())
					require.NoError(t, err)
				}
				for _, text := range sent {
					got, _ := receive(t, peer)
					require.Equal(t, text, got)
				}
				for _, text := range sent {
					_, err := peer.WriteTo([]byte(text), from)
					require.NoError(t, err)
				}
				for _, text := range sent {
					got, _ := receive(t, relayed)
					require.Equal(t, text, got)
				}
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	s := serve(t, nil)
	now := time.Now()
	allocate := func(username, password string) error {
		c := clientOf(t, s, UDP, dial(t, s, UDP), username, password)
		relayed, err := c.Allocate()
		if err == nil {
			_ = relayed.Close()
		}
		return err
	}
	good, password := cred.Mint(secret, "anna", now, time.Hour)
	require.NoError(t, allocate(good, password))
	require.Error(t, allocate(cred.Mint(secret, "anna", now.Add(-2*time.Hour), time.Hour)), "ended")
	require.Error(t, allocate(cred.Mint("another secret of sixteen bytes", "anna", now, time.Hour)))
	require.Error(t, allocate(strings.Replace(good, "anna", "otto", 1), password), "somebody else's name")
	require.Error(t, allocate("anna", password))
	require.Zero(t, s.Allocations())
	counts := s.counts()
	require.Positive(t, counts.Refused[allocation.Expired], "expired")
}

func TestSecretsChange(t *testing.T) {
	s := serve(t, nil)
	relayed, err := client(t, s, UDP, "anna").Allocate()
	require.NoError(t, err)
	const next = "the secret that comes after it"
	require.Error(t, s.SetSecrets(nil))
	require.NoError(t, s.SetSecrets(cred.Secrets{next, secret}))
	_, err = client(t, s, UDP, "anna").Allocate()
	require.NoError(t, err, "both")
	require.NoError(t, s.SetSecrets(cred.Secrets{next}))
	_, err = client(t, s, UDP, "anna").Allocate()
	require.Error(t, err, "the old one no more")
	username, password := cred.Mint(next, "anna", time.Now(), time.Hour)
	_, err = clientOf(t, s, UDP, dial(t, s, UDP), username, password).Allocate()
	require.NoError(t, err)
	peer := peerSocket(t)
	_, err = relayed.WriteTo([]byte("goes on"), peer.LocalAddr())
	require.NoError(t, err)
	receive(t, peer)
}

func TestQuotaIsTheUsers(t *testing.T) {
	s := serve(t, func(s *Server) { s.common.Users = quota.New(quota.Limits{Allocations: 3}) })
	var kept []net.PacketConn
	for i := range 3 { // credentials of different ends: one user
		username, password := cred.Mint(secret, "anna", time.Now().Add(time.Duration(i)*time.Minute), time.Hour)
		relayed, err := clientOf(t, s, UDP, dial(t, s, UDP), username, password).Allocate()
		require.NoError(t, err)
		kept = append(kept, relayed)
	}
	username, password := cred.Mint(secret, "anna", time.Now().Add(time.Hour), time.Hour)
	_, err := clientOf(t, s, UDP, dial(t, s, UDP), username, password).Allocate()
	require.ErrorContains(t, err, "486")
	_, err = client(t, s, UDP, "otto").Allocate()
	require.NoError(t, err)
	require.NoError(t, kept[0].Close())
	require.Eventually(t, func() bool { return s.Allocations() == 3 }, 5*time.Second, time.Millisecond)
	_, err = clientOf(t, s, UDP, dial(t, s, UDP), username, password).Allocate()
	require.NoError(t, err)
}

// Two clients of one server meet at their relayed addresses, which is refused to all
// other ports of the host.
func TestScanningThroughTheRelayIsRefused(t *testing.T) {
	s := serve(t, func(s *Server) {
		s.o.MinPort = 61_000 // above those that sockets get
		s.common.Peers.Allow, s.common.Peers.From = nil, s.o.MinPort
	})
	a, err := client(t, s, UDP, "anna").Allocate()
	require.NoError(t, err)
	b, err := client(t, s, TCP, "otto").Allocate()
	require.NoError(t, err)
	exchange(t, a, b)

	victim := peerSocket(t)
	require.Less(t, victim.LocalAddr().(*net.UDPAddr).Port, int(s.o.MinPort))
	for range 20 {
		_, _ = a.WriteTo([]byte("x"), victim.LocalAddr())
	}
	exchange(t, a, b)
	require.Positive(t, s.counts().Refused[allocation.ForbiddenPeer], "forbidden")
	require.NoError(t, victim.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, _, err = victim.ReadFrom(make([]byte, 10))
	require.Error(t, err)
	for _, ip := range []string{"10.0.0.1:80", "192.168.1.1:53", "169.254.169.254:80", "0.0.0.0:80", "224.0.0.1:5353", "255.255.255.255:9", "100.64.0.1:1", "127.0.0.2:3478"} {
		addr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(ip))
		_, err := a.WriteTo([]byte("x"), addr)
		require.ErrorContains(t, err, "403", ip)
	}
}

// exchange sends from one relayed address to another and back, until permissions are
// there.
func exchange(t *testing.T, a, b net.PacketConn) {
	t.Helper()
	_, err := b.WriteTo([]byte("opens"), a.LocalAddr())
	require.NoError(t, err)
	_, err = a.WriteTo([]byte("to otto"), b.LocalAddr())
	require.NoError(t, err)
	text, _ := receive(t, b)
	require.Equal(t, "to otto", text)
	_, err = b.WriteTo([]byte("to anna"), a.LocalAddr())
	require.NoError(t, err)
	for text != "to anna" {
		text, _ = receive(t, a)
	}
}

func TestDrain(t *testing.T) {
	s := serve(t, nil)
	c := client(t, s, UDP, "anna")
	relayed, err := c.Allocate()
	require.NoError(t, err)
	require.NoError(t, s.Ready(t.Context()))

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Drain(ctx), context.DeadlineExceeded)
	require.ErrorContains(t, s.Ready(t.Context()), "draining")
	_, err = client(t, s, UDP, "otto").Allocate()
	require.ErrorContains(t, err, "508")
	peer := peerSocket(t)
	_, err = relayed.WriteTo([]byte("goes on"), peer.LocalAddr())
	require.NoError(t, err)
	text, _ := receive(t, peer)
	require.Equal(t, "goes on", text)
	done := make(chan error, 1)
	go func() { done <- s.Drain(t.Context()) }()
	require.NoError(t, relayed.Close())
	require.NoError(t, <-done)
}

// 10,000 requests with wrong credentials, half of them with no regard to what is
// answered, leave nothing behind.
func TestWrongCredentialsLeaveNothing(t *testing.T) {
	s := serve(t, nil)
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(s.addr(UDP))))
	require.NoError(t, err)
	defer conn.Close()
	ask := func(nonce string, n int) *stun.Message {
		m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
			stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}},
			stun.NewUsername(fmt.Sprintf("%d:user-%d", time.Now().Add(time.Hour).Unix(), n)), stun.NewRealm("example.org"), stun.NewNonce(nonce),
			stun.NewLongTermIntegrity("a", "b", "wrong"))
		require.NoError(t, err)
		return m
	}
	_, err = conn.Write(ask("none", 0).Raw)
	require.NoError(t, err)
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	require.NoError(t, err)
	m := &stun.Message{Raw: buf[:n]}
	require.NoError(t, m.Decode())
	nonce, err := m.Get(stun.AttrNonce)
	require.NoError(t, err)

	goroutines, before := runtime.NumGoroutine(), heap()
	for i := range 10_000 {
		with := string(nonce)
		if i%2 == 0 {
			with = "0123456789abcdef"
		}
		_, err = conn.Write(ask(with, i).Raw)
		require.NoError(t, err)
		if i%100 == 99 { // the socket's buffer is finite
			require.Eventually(t, func() bool {
				c := s.counts()
				return c.Refused[allocation.StaleNonce]+c.Refused[allocation.WrongPassword]+c.Refused[allocation.Throttled] >= uint64(i)
			}, 20*time.Second, time.Millisecond)
		}
	}
	require.Positive(t, s.counts().Refused[allocation.Throttled], "throttled")
	require.Zero(t, s.Allocations())
	require.Zero(t, s.common.Users.Len())
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	require.Less(t, heap(), before+1<<20)
	// Others on the same address that know the password are not kept out for long.
	require.Eventually(t, func() bool {
		_, err := client(t, s, UDP, "anna").Allocate()
		return err == nil
	}, 20*time.Second, 100*time.Millisecond)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAllocationsLeaveNothing(t *testing.T) {
	s := serve(t, func(s *Server) { s.common.Users = quota.New(quota.Limits{Allocations: -1}) })
	round := func(n int) {
		var all []*pion.Client
		var relays, conns []net.PacketConn
		peer := peerSocket(t)
		username, password := cred.Mint(secret, "anna", time.Now(), time.Hour)
		for i := range n {
			transport := []Transport{UDP, TCP, TLS}[i%3]
			conn := dial(t, s, transport)
			c := clientOf(t, s, transport, conn, username, password)
			relayed, err := c.Allocate()
			require.NoError(t, err)
			_, err = relayed.WriteTo([]byte("x"), peer.LocalAddr())
			require.NoError(t, err)
			all, relays, conns = append(all, c), append(relays, relayed), append(conns, conn)
		}
		require.Equal(t, n, s.Allocations())
		for i := range relays {
			if i%2 == 1 { // goes away without a word
				_ = conns[i].Close()
			}
			_ = relays[i].Close()
			all[i].Close()
			_ = conns[i].Close()
		}
		for _, sh := range s.shards { // UDP clients that went without a word
			sh.mu.Lock()
			sh.machine.Close(time.Now())
			for _, st := range sh.streams {
				_ = st.conn.Close()
			}
			sh.mu.Unlock()
		}
		require.Eventually(t, func() bool { return s.Allocations() == 0 && s.connections.count() == 0 }, 20*time.Second, 10*time.Millisecond)
	}
	round(10)
	time.Sleep(100 * time.Millisecond)
	goroutines, before := runtime.NumGoroutine(), heap()
	round(200)
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= goroutines+2 && heap() < before+8<<20 }, 20*time.Second, 100*time.Millisecond,
		"%d goroutines before", goroutines)
}

// counts are those of all shards.
func (s *Server) counts() (sum allocation.Counts) {
	for _, sh := range s.shards {
		sh.mu.Lock()
		sum.Add(&sh.machine.Counts)
		sh.mu.Unlock()
	}
	return sum
}

// Clients over several sockets of one port meet behind a NAT.
func TestClientsOfOneServerMeet(t *testing.T) {
	public := netip.MustParseAddr("127.0.0.9") // nobody listens there: it is the NAT's
	s := serve(t, func(s *Server) {
		if sharePorts {
			s.o.Shards = 3
		}
		s.o.PublicIP = []netip.Addr{public}
		s.common.Peers.Allow, s.common.Peers.Own = nil, []netip.Addr{local, public}
	})
	var all []net.PacketConn
	for i := range 12 {
		c := client(t, s, []Transport{UDP, TCP, TLS}[i%3], "anna")
		relayed, err := c.Allocate()
		require.NoError(t, err)
		require.Equal(t, public.String(), relayed.LocalAddr().(*net.UDPAddr).IP.String())
		all = append(all, relayed)
	}
	for i := range all[1:] {
		exchange(t, all[i], all[i+1])
	}
}

// Clients over IPv6 have relayed addresses of IPv4.
func TestIPv6(t *testing.T) {
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(s *Server) {
				s.carrier, s.o.Listen = carrier, []Listen{{UDP, netip.MustParseAddrPort("[::1]:0")}}
			})
			c, peer := dialBare(t, s.Listening()[0].Addr), peerSocket(t)
			back := c.open(peer)
			_, err := c.conn.Write([]byte("\x40\x00\x00\x05there"))
			require.NoError(t, err)
			text, _ := receive(t, peer)
			require.Equal(t, "there", text)
			_, err = peer.WriteToUDPAddrPort([]byte("here"), back)
			require.NoError(t, err)
			buf := make([]byte, 100)
			n, err := c.conn.Read(buf)
			require.NoError(t, err)
			require.Equal(t, "\x40\x00\x00\x04here", string(buf[:n]))
		})
	}
}

func TestOptionsSayWhatIsWrong(t *testing.T) {
	good := func() Options {
		return Options{
			Realm: "example.org", Secrets: cred.Secrets{secret}, RelayIP: []netip.Addr{local}, Listen: []Listen{{UDP, netip.AddrPortFrom(local, 0)}},
		}
	}
	_, err := New(good())
	require.NoError(t, err)
	for want, set := range map[string]func(*Options){
		"no secret":               func(o *Options) { o.Secrets = nil },
		"realm":                   func(o *Options) { o.Realm = "" },
		"no address to listen":    func(o *Options) { o.Listen = nil },
		"no address to relay":     func(o *Options) { o.RelayIP = nil },
		"name one address":        func(o *Options) { o.RelayIP = []netip.Addr{netip.IPv4Unspecified()} },
		"one address of each":     func(o *Options) { o.RelayIP = []netip.Addr{local, local} },
		"as many public":          func(o *Options) { o.PublicIP = []netip.Addr{local, local} },
		"another family":          func(o *Options) { o.PublicIP = []netip.Addr{netip.IPv6Loopback()} },
		"no certificate":          func(o *Options) { o.Listen[0].Transport = TLS },
		"use udp, tcp or tls":     func(o *Options) { o.Listen[0].Transport = "dtls" },
		"above the last one":      func(o *Options) { o.MinPort, o.MaxPort = 2, 1 },
		"shards, allocations and": func(o *Options) { o.MaxAge = -1 },
	} {
		o := good()
		set(&o)
		_, err := New(o)
		require.ErrorContains(t, err, want)
	}
	l := Listen{TLS, netip.MustParseAddrPort("192.0.2.1:5349")}
	require.Equal(t, "turns:turn.example.org:5349?transport=tcp", l.URL("turn.example.org"))
	require.Equal(t, "turn:[2001:db8::1]:3478?transport=udp", Listen{UDP, netip.MustParseAddrPort("[2001:db8::1]:3478")}.URL(""))
}

// A connection that says nothing of TURN is closed, one address cannot take them all,
// and a frame is never taken for longer than it says.
func TestStrangersOnStreams(t *testing.T) {
	s := serve(t, func(s *Server) { s.connections.most = 32 })
	open := func() net.Conn {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr(TCP))
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	closed := func(c net.Conn) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
	}
	c := open()
	_, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	closed(c)
	require.Eventually(t, func() bool { return s.connections.count() == 0 }, 5*time.Second, time.Millisecond)
	open()
	open()
	closed(open())
	require.Contains(t, scrape(t, s), "muster_turn_connections_refused_total 1")
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0x40, 0, 0, 5, 1, 2, 3, 4, 5})
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42})
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := frame(b)
		if err == nil && (n < 0 || n > maxPacket || n%4 != 0 || n == 0 && len(b) >= 4) {
			t.Fatalf("%x: %d", b, n)
		}
	})
}
