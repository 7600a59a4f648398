package peerlink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// sendFirst has a node send a frame for which the link is dialled first. Where that is
// refused it may be so before the frame is queued.
func sendFirst(t *testing.T, n *node, to regions.NodeID, frame string) {
	t.Helper()
	if err := n.Send(to, []byte(frame)); err != nil {
		require.ErrorIs(t, err, ErrDown)
	}
}

func TestAnotherAuthorityIsRefused(t *testing.T) {
	ours, theirs := newMesh(t, nil), newMesh(t, nil)
	b := ours.start("b-1", 1)
	theirs.addrs["b-1"] = ours.addrs["b-1"]
	a := theirs.start("a-1", 1)
	sendFirst(t, a, "b-1", "x")
	a.await(t, "down b-1")
	require.Contains(t, a.String(), "unknown authority")

	// The other way round: the dialler trusts b's authority, b not the dialler's.
	foreign, err := theirs.ca.Issue("c", "c-1")
	require.NoError(t, err)
	c := ours.start("c-1", 1, withIdentity(foreign))
	sendFirst(t, c, "b-1", "x")
	c.await(t, "down b-1")
	_, err = c.Call(t.Context(), "b-1", []byte("x"))
	require.ErrorIs(t, err, ErrDown)
	require.Empty(t, b.all())
}

func TestAnotherNodeThanTheOneDialledIsRefused(t *testing.T) {
	m := newMesh(t, nil)
	b := m.start("b-1", 1)
	a := m.start("a-1", 1)
	m.mu.Lock()
	m.addrs["b-2"] = m.addrs["b-1"] // b-1 answers there
	m.mu.Unlock()
	sendFirst(t, a, "b-2", "for b-2 only")
	a.await(t, "down b-2")
	require.Contains(t, a.String(), "dialled b/b-2, met b/b-1")
	require.Empty(t, b.all())
}

func TestAnotherVersionIsRefused(t *testing.T) {
	m := newMesh(t, nil)
	b := m.start("b-1", 1)
	a := m.open("a-1", 1)
	a.version = version + 1
	require.NoError(t, a.Start(t.Context()))
	sendFirst(t, a, "b-1", "x")
	a.await(t, "down b-1")
	_, err := a.Call(t.Context(), "b-1", nil)
	require.ErrorIs(t, err, ErrVersion, "the dialler learns why")
	require.Empty(t, b.all())
	// And the other direction: b dials a.
	_, err = b.Call(t.Context(), "a-1", nil)
	require.ErrorIs(t, err, ErrVersion)
}

func TestCertificateMustBeTheNodesOwn(t *testing.T) {
	m := newMesh(t, nil)
	n := m.open("a-1", 1)
	cfg := n.cfg
	other, err := m.ca.Issue("b", "b-1")
	require.NoError(t, err)
	cfg.Identity = other
	_, err = New(cfg)
	require.ErrorContains(t, err, "its certificate is for b/b-1")
}

// stranger is a peer with a valid certificate and no manners.
type stranger struct {
	*quic.Conn
	hello *quic.SendStream
}

func (m *mesh) stranger(id, to regions.NodeID, class class) *stranger {
	m.t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(m.t, err)
	tr := &quic.Transport{Conn: socket}
	m.t.Cleanup(func() { _ = tr.Close(); _ = socket.Close() })
	identity, err := m.ca.Issue(regionOf(id), id)
	require.NoError(m.t, err)
	addr, _, _ := m.peers(to)
	udp, err := net.ResolveUDPAddr("udp4", addr)
	require.NoError(m.t, err)
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
	defer cancel()
	cfg := quicConfig(true)
	cfg.KeepAlivePeriod = keepAlive // as a peer's: only what it says is strange
	conn, err := tr.Dial(ctx, udp, clientTLS(identity, m.ca.Pool(), class, regionOf(to), to), cfg)
	require.NoError(m.t, err)
	s, err := conn.OpenUniStream()
	require.NoError(m.t, err)
	return &stranger{conn, s}
}

func (s *stranger) say(t *testing.T, b []byte) {
	_, err := s.hello.Write(b)
	require.NoError(t, err)
}

func (s *stranger) closedWith(t *testing.T, code quic.ApplicationErrorCode) {
	t.Helper()
	select {
	case <-s.Context().Done():
	case <-time.After(10 * time.Second):
		require.FailNow(t, "still open")
	}
	var app *quic.ApplicationError
	require.ErrorAs(t, context.Cause(s.Context()), &app)
	require.Equal(t, code, app.ErrorCode, app.ErrorMessage)
}

func TestBrokenPeersLoseOnlyTheirOwnLink(t *testing.T) {
	m := newMesh(t, nil)
	b, good := m.start("b-1", 1), m.start("g-1", 1)
	require.NoError(t, good.Send("b-1", []byte("before")))
	b.await(t, "frame g-1/1 before")
	fine := func(id regions.NodeID) []byte {
		return appendFrame(nil, hello{version, Peer{Node: id, Region: regionOf(id), Incarnation: 1}, features}.encode())
	}
	for _, c := range []struct {
		name string
		say  []byte
		code quic.ApplicationErrorCode
	}{
		{"hello too long", []byte{0xff, 0xff, 0xff, 0x7f}, codeProtocol},
		{"hello of nothing", []byte{0}, codeProtocol},
		{"hello cut short", appendFrame(nil, []byte{version, 200, 'x'}), codeProtocol},
		{"length without end", []byte{0xff, 0xff, 0xff, 0xff, 0xff}, codeProtocol},
		{"another's name", fine("g-1"), codeProtocol},
		{"another version", appendFrame(nil, []byte{99}), codeVersion},
		{"frame too long", append(fine("x-1"), 0xff, 0xff, 0xff, 0x7f), codeProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := m.stranger("x-1", "b-1", events)
			s.say(t, c.say)
			s.closedWith(t, c.code)
		})
	}
	t.Run("hello never comes", func(t *testing.T) {
		m.stranger("x-1", "b-1", events).closedWith(t, codeProtocol)
	})
	t.Run("call too long", func(t *testing.T) {
		s := m.stranger("x-1", "b-1", control)
		s.say(t, fine("x-1"))
		call, err := s.OpenStream()
		require.NoError(t, err)
		_, err = call.Write([]byte{0xff, 0xff, 0xff, 0x7f})
		require.NoError(t, err)
		s.closedWith(t, codeProtocol)
	})
	t.Run("ends within a frame", func(t *testing.T) {
		s := m.stranger("x-1", "b-1", events)
		s.say(t, append(fine("x-1"), 10, 'x'))
		require.NoError(t, s.hello.Close())
		s.closedWith(t, codeDone)
	})
	t.Run("unknown ALPN", func(t *testing.T) {
		identity, err := m.ca.Issue("x", "x-1")
		require.NoError(t, err)
		addr, _, _ := m.peers("b-1")
		cfg := clientTLS(identity, m.ca.Pool(), events, "b", "b-1")
		cfg.NextProtos = []string{"muster-events/99"}
		_, err = quic.DialAddr(t.Context(), addr, cfg, nil)
		require.ErrorContains(t, err, "no application protocol")
	})
	t.Run("no certificate", func(t *testing.T) {
		addr, _, _ := m.peers("b-1")
		cfg := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{events.alpn()}}
		conn, err := quic.DialAddr(t.Context(), addr, cfg, nil)
		if err == nil { // TLS 1.3 clients learn only later
			<-conn.Context().Done()
			err = context.Cause(conn.Context())
		}
		require.ErrorContains(t, err, "certificate required")
	})
	require.NoError(t, good.Send("b-1", []byte("after")))
	b.await(t, "frame g-1/1 after")
	require.Zero(t, good.count("down"))
	require.Zero(t, b.count("left g-1"))
}

func TestAuthorityFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	_, err := LoadAuthority(dir)
	require.ErrorIs(t, err, fs.ErrNotExist)
	a, err := OpenAuthority(dir)
	require.NoError(t, err)
	again, err := OpenAuthority(dir)
	require.NoError(t, err)
	require.Equal(t, a.cert.Raw, again.cert.Raw)
	cert, err := again.Issue("eu-west", "eu-west-1")
	require.NoError(t, err)
	require.Equal(t, "muster://eu-west/eu-west-1", cert.Leaf.URIs[0].String())
	nodeDir := filepath.Join(t.TempDir(), "node")
	require.NoError(t, again.WriteIdentity(nodeDir, "eu-west-1", cert))
	require.NoError(t, again.WriteIdentity(nodeDir, "eu-west-1", cert), "writing again replaces")
	for _, key := range []string{filepath.Join(dir, "ca.key"), filepath.Join(nodeDir, "eu-west-1.key")} {
		info, err := os.Stat(key)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
	}
	loaded, pool, err := LoadIdentity(filepath.Join(nodeDir, "eu-west-1.pem"), filepath.Join(nodeDir, "eu-west-1.key"), filepath.Join(nodeDir, "ca.pem"))
	require.NoError(t, err)
	require.True(t, pool.Equal(a.Pool()))
	_, err = loaded.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, err)

	_, err = a.Issue("eu-west", "eu/../west")
	require.Error(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "ca.key")))
	_, err = OpenAuthority(dir)
	require.ErrorContains(t, err, "holds only ca.pem", "half an authority is not overwritten")
	left, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	require.NoError(t, err)
	block, _ := pem.Decode(left)
	require.Equal(t, a.cert.Raw, block.Bytes)
}

func TestIdentityOf(t *testing.T) {
	for _, uri := range []string{"", "https://eu-west/eu-west-1", "muster://eu-west", "muster://eu-west/a/b", "muster://EU/a"} {
		cert := &x509.Certificate{}
		if uri != "" {
			cert.URIs = identityURI("x", "y")
			u, err := cert.URIs[0].Parse(uri)
			require.NoError(t, err)
			cert.URIs[0] = u
		}
		_, _, err := identityOf(cert)
		require.Error(t, err, uri)
	}
	_, _, err := identityOf(&x509.Certificate{URIs: append(identityURI("a", "b"), identityURI("a", "c")...)})
	require.ErrorContains(t, err, "no muster:// identity", "two names are none")
}
