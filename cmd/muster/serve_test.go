package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/internal/node"
)

// free returns an address of this machine that nobody listens on.
func free(t *testing.T, network string) string {
	t.Helper()
	for {
		address := unused(t, network)
		if _, twice := given.LoadOrStore(network+address, true); !twice {
			return address
		}
	}
}

// given are the addresses that tests of this process got: the kernel may offer one
// again before it is used.
var given sync.Map

func unused(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		defer c.Close()
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// A node with a public certificate: API and app over HTTPS, sessions over wss
// and WebTransport, set up by the commands that docs/operations.md shows.
func TestServeTLS(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	database := devdb.EmptyURL(t)
	web, admin, wt, peer := free(t, "tcp"), free(t, "tcp"), free(t, "udp"), free(t, "udp")
	trusted, err := node.WriteSelfSigned(in("fullchain.pem"), in("privkey.pem"), time.Hour, "127.0.0.1")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(in("secret"), []byte(strings.Repeat("5e", 32)+"\n"), 0o600))
	require.NoError(t, os.WriteFile(in("topology.yaml"), fmt.Appendf(nil,
		`regions: [{name: north, location: {lat: 60, lng: 0}, nodes: [{id: north-1, peer: %q, http: "https://%s", ws: "wss://%s/ws", wt: "https://%s/wt"}]}]`,
		peer, web, web, wt), 0o600))
	require.NoError(t, os.WriteFile(in("north-1.yaml"), fmt.Appendf(nil, `
node: north-1
topology: topology.yaml
database: %q
secret_file: secret
http: %s
webtransport: %s
peer: %s
admin: %s
tls: {cert: fullchain.pem, key: privkey.pem}
peer_tls: identities/north-1
data: data
`, database, web, wt, peer, admin), 0o600))
	serve := &ServeCmd{Config: in("north-1.yaml"), Roles: []string{"sfu"}}
	err = serve.Run(t.Context(), log)
	require.ErrorContains(t, err, `role "sfu"`)
	serve.Roles = []string{"edge", "core", "dns"}
	serve.DNS, serve.DNSZone, serve.DNSNS = free(t, "tcp"), "edge.example.org", []string{"ns.edge.example.org=127.0.0.1"}

	err = serve.Run(t.Context(), log)
	require.ErrorContains(t, err, "muster ca", "what is missing is told with what makes it")
	require.NoError(t, (&CACmd{Dir: in("ca"), Out: in("identities"), Topology: in("topology.yaml")}).Run(log))
	require.ErrorContains(t, serve.Run(t.Context(), log), "muster migrate")
	require.NoError(t, (&MigrateCmd{Database: database}).Run(t.Context(), log))

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, log) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("the node did not drain")
		}
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + admin + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, patience, 20*time.Millisecond)

	https := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	t.Cleanup(https.CloseIdleConnections)
	for path, want := range map[string]int{"/docs": 200, "/api/v1/openapi.json": 200, "/api/v1/nothing": 404, "/docs/nothing": 404} {
		resp, err := https.Get("https://" + web + path)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		require.Equal(t, want, resp.StatusCode, path)
	}

	// What the HTTPS record says is so: the same site is on HTTP/3.
	resolver := dns.Client{}
	question := new(dns.Msg)
	question.SetQuestion("edge.example.org.", dns.TypeHTTPS)
	answer, _, err := resolver.Exchange(question, serve.DNS)
	require.NoError(t, err)
	require.Len(t, answer.Answer, 2)
	record := answer.Answer[0].(*dns.HTTPS)
	require.Equal(t, "north.edge.example.org.", record.Target)
	at := netip.AddrPort{}
	for _, v := range record.Value {
		switch v := v.(type) {
		case *dns.SVCBAlpn:
			require.Equal(t, []string{"h3"}, v.Alpn)
		case *dns.SVCBIPv4Hint:
			addr, _ := netip.AddrFromSlice(v.Hint[0].To4())
			at = netip.AddrPortFrom(addr, at.Port())
		case *dns.SVCBPort:
			at = netip.AddrPortFrom(at.Addr(), v.Port)
		}
	}
	require.Equal(t, wt, at.String())
	h3 := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	t.Cleanup(func() { _ = h3.Close() })
	resp, err := (&http.Client{Transport: h3, Timeout: patience}).Get("https://" + at.String() + "/api/v1/edge")
	require.NoError(t, err)
	_ = resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, 3, resp.ProtoMajor)

	guest := func(name string) *client.API {
		api := client.NewAPI("https://"+web, client.APIConfig{HTTP: https})
		_, err := api.Guest(t.Context(), name, "test")
		require.NoError(t, err)
		return api
	}
	ana, bo := guest("Ana"), guest("Bo")
	g, err := ana.CreateGroup(t.Context(), client.GroupDraft{Name: "Encrypted"})
	require.NoError(t, err)
	_, err = bo.Join(t.Context(), g.InviteCode)
	require.NoError(t, err)
	rooms := []*client.Room{
		enter(t, ana, trusted, client.WebSocketOnly, g.GroupID), enter(t, bo, trusted, client.WebTransportOnly, g.GroupID),
	}
	require.Eventually(t, func() bool { return len(rooms[0].Members()) == 2 && len(rooms[1].Members()) == 2 }, patience, 10*time.Millisecond)
}

func enter(t *testing.T, api *client.API, trusted *x509.CertPool, how client.Transport, group string) *client.Room {
	t.Helper()
	edge, err := api.Edge(t.Context())
	require.NoError(t, err)
	s, err := client.Connect(t.Context(), client.Config{
		Endpoints: edge.Endpoints("north"), Tokens: api, Dialer: &client.Dialer{Transport: how, TLS: &tls.Config{RootCAs: trusted}},
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	room, err := s.Join(t.Context(), client.GroupRoom(group))
	require.NoError(t, err)
	return room
}
