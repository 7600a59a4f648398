package peerlink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
)

// recorder is a Handler that keeps what happened, as lines per peer.
type recorder struct {
	mu    sync.Mutex
	lines []string

	onUp    func(Peer)
	onFrame func(Peer, []byte)
	onCall  func(context.Context, Peer, []byte) ([]byte, error)
}

// handler keeps the callbacks' names away from the Links' in node.
type handler struct{ *recorder }

func (r *recorder) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r handler) Up(to Peer) {
	r.add("up %s/%d", to.Node, to.Incarnation)
	if r.onUp != nil {
		r.onUp(to)
	}
}
func (r handler) Down(to regions.NodeID, reason error) { r.add("down %s: %v", to, reason) }
func (r handler) Joined(from Peer)                     { r.add("joined %s/%d", from.Node, from.Incarnation) }
func (r handler) Left(from Peer)                       { r.add("left %s/%d", from.Node, from.Incarnation) }
func (r handler) Frame(from Peer, frame []byte) {
	if r.onFrame != nil {
		r.onFrame(from, frame)
		return
	}
	r.add("frame %s/%d %s", from.Node, from.Incarnation, frame)
}
func (r handler) Datagram(from Peer, frame []byte) { r.add("datagram %s %s", from.Node, frame) }
func (r handler) Call(ctx context.Context, from Peer, frame []byte) ([]byte, error) {
	return r.onCall(ctx, from, frame)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.lines...)
}

func (r *recorder) count(prefix string) (n int) {
	for _, line := range r.all() {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

func (r *recorder) await(t testing.TB, prefix string) {
	t.Helper()
	eventually(t, func() bool { return r.count(prefix) > 0 }, "no %q in %q", prefix, r)
}

func (r *recorder) String() string { return strings.Join(r.all(), " | ") }

func eventually(t testing.TB, ok func() bool, format string, args ...any) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, fmt.Sprintf(format, args...))
		}
	}
}

// mesh is some nodes that know each other, on loopback.
type mesh struct {
	t     testing.TB
	ca    *Authority
	net   *simnet.Network // nil: plain sockets
	mu    sync.Mutex
	addrs map[regions.NodeID]string
}

func newMesh(t testing.TB, net *simnet.Network) *mesh {
	ca, err := NewAuthority()
	require.NoError(t, err)
	return &mesh{t: t, ca: ca, net: net, addrs: map[regions.NodeID]string{}}
}

// regionOf: node "b-1" is in region "b".
func regionOf(n regions.NodeID) regions.RegionID {
	region, _, _ := strings.Cut(string(n), "-")
	return regions.RegionID(region)
}

func (m *mesh) peers(n regions.NodeID) (string, regions.RegionID, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	addr, ok := m.addrs[n]
	return addr, regionOf(n), ok
}

type node struct {
	*Links
	*recorder
	conn net.PacketConn
}

// open makes a node without starting it, on the address it had before if any.
func (m *mesh) open(id regions.NodeID, incarnation uint64, change ...func(*Config)) *node {
	m.t.Helper()
	addr := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	if old, _, ok := m.peers(id); ok {
		addr, _ = net.ResolveUDPAddr("udp4", old)
	}
	socket, err := net.ListenUDP("udp4", addr)
	require.NoError(m.t, err)
	var conn net.PacketConn = socket
	if m.net != nil {
		conn = m.net.Wrap(socket, string(regionOf(id)))
	}
	m.mu.Lock()
	m.addrs[id] = socket.LocalAddr().String()
	m.mu.Unlock()
	identity, err := m.ca.Issue(regionOf(id), id)
	require.NoError(m.t, err)
	r := &recorder{}
	cfg := Config{
		Self: id, Region: regionOf(id), Incarnation: incarnation,
		Conn: conn, Identity: identity, CA: m.ca.Pool(), Peers: m.peers, Handler: handler{r},
		Metrics: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&cfg)
	}
	l, err := New(cfg)
	require.NoError(m.t, err)
	n := &node{Links: l, recorder: r, conn: conn}
	m.t.Cleanup(n.stop)
	return n
}

func (m *mesh) start(id regions.NodeID, incarnation uint64, change ...func(*Config)) *node {
	m.t.Helper()
	n := m.open(id, incarnation, change...)
	require.NoError(m.t, n.Start(context.Background()))
	return n
}

func (n *node) stop() {
	n.Stop()
	_ = n.conn.Close()
}

// kill ends the node as a power cut would: nobody is told.
func (n *node) kill() {
	_ = n.conn.(interface{ SetWriteDeadline(time.Time) error }).SetWriteDeadline(time.Unix(1, 0))
	n.stop()
}

func withIdentity(cert tls.Certificate) func(*Config) {
	return func(c *Config) { c.Identity = cert }
}

func echoCall(_ context.Context, _ Peer, frame []byte) ([]byte, error) { return frame, nil }

// datagram sends a datagram as soon as the link is up.
func (n *node) datagram(t *testing.T, to regions.NodeID, frame []byte) {
	t.Helper()
	eventually(t, func() bool { return n.SendDatagram(to, frame) == nil }, "no datagrams to %s", to)
}
