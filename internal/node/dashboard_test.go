package node

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/regions/peerlink"
)

// served starts a server as `muster serve` does, with all roles.
func served(t *testing.T) *Server {
	t.Helper()
	dir := t.TempDir()
	address := func(network string) string {
		if network == "udp" {
			c, err := net.ListenPacket("udp", "127.0.0.1:0")
			require.NoError(t, err)
			defer func() { _ = c.Close() }()
			return c.LocalAddr().String()
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	authority, err := peerlink.OpenAuthority(filepath.Join(dir, "ca"))
	require.NoError(t, err)
	cert, err := authority.Issue("here", "here-1")
	require.NoError(t, err)
	require.NoError(t, authority.WriteIdentity(filepath.Join(dir, "identity"), "here-1", cert))
	web, peer := address("tcp"), address("udp")
	write("secret", strings.Repeat("5e", 32))
	write("topology.yaml", fmt.Sprintf(`regions:
  - name: here
    location: {lat: 52.52, lng: 13.4}
    nodes: [{id: here-1, peer: %q, http: "http://%s", ws: "ws://%[2]s/ws"}]
dns_name: edge.muster.test
`, peer, web))
	write("stripe.key", "sk_test")
	write("stripe.webhook", "whsec_old\nwhsec_new\n")
	write("node.yaml", fmt.Sprintf(`{node: here-1, topology: topology.yaml, secret_file: secret, data: data, http: %q, peer: %q, admin: %q, peer_tls: identity,
database: %q, roles: [edge, core, dns, media, turn], dns: {listen: %q, name_servers: ["ns.edge.muster.test=127.0.0.1"]},
media: {addr: %q}, turn: {listen: ["udp://%s"], relay_ips: [127.0.0.1]},
stripe: {key_file: stripe.key, webhook_secret_file: stripe.webhook, url: "http://127.0.0.1:1"}}`,
		web, peer, address("tcp"), devdb.TestURL(t), address("tcp"), address("udp"), address("udp")))
	cfg, err := LoadServeConfig(filepath.Join(dir, "node.yaml"))
	require.NoError(t, err)
	s, err := NewServer(t.Context(), cfg, "test", slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	require.NoError(t, s.Start(t.Context()))
	return s
}

// described is what a Desc says of itself; it has no other way.
var described = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: ".*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// registered returns the names and labels of a registry's metrics, also of those
// that have no values yet.
func registered(t *testing.T, r *prometheus.Registry) map[string][]string {
	all := map[string][]string{}
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); r.Describe(descs) }()
	for d := range descs {
		m := described.FindStringSubmatch(d.String())
		require.NotNil(t, m, d.String())
		labels := strings.Split(m[3], ",")
		for pair := range strings.SplitSeq(m[2], ",") {
			label, _, _ := strings.Cut(pair, "=")
			labels = append(labels, label)
		}
		all[m[1]] = append(all[m[1]], labels...)
	}
	return all
}

var (
	metricName = regexp.MustCompile(`\b(?:muster|process|go)_[a-z0-9_]+`)
	byLabels   = regexp.MustCompile(`by \(([a-z_,]+)\)`)
	matchers   = regexp.MustCompile(`([a-z_]+)=~?"`)
	ofHisto    = regexp.MustCompile(`_(bucket|count|sum)$`)
)

// The dashboard that operators load asks for metrics and labels that a running
// server has, and leaves out none of ours.
func TestDashboardShowsWhatThereIs(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana", "muster.json"))
	require.NoError(t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Definition string }
		}
	}
	require.NoError(t, json.Unmarshal(b, &board))
	there := registered(t, served(t).registry)
	shown := map[string]bool{}
	check := func(where, expr string) {
		for _, name := range metricName.FindAllString(expr, -1) {
			if _, ok := there[name]; !ok {
				name = ofHisto.ReplaceAllString(name, "")
			}
			labels, ok := there[name]
			if !ok {
				t.Errorf("%s asks for %s, which nobody registers", where, name)
				continue
			}
			shown[name] = true
			if !strings.HasPrefix(name, "muster_") {
				continue // the collector of Go's runtime describes no labels
			}
			var asked []string
			for _, m := range byLabels.FindAllStringSubmatch(expr, -1) {
				asked = append(asked, strings.Split(m[1], ",")...)
			}
			for _, m := range matchers.FindAllStringSubmatch(expr, -1) {
				asked = append(asked, m[1])
			}
			for _, label := range asked {
				if label != "le" && !slices.Contains(labels, label) {
					t.Errorf("%s asks for the label %s of %s, which has %v", where, label, name, labels)
				}
			}
		}
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			check(p.Title, target.Expr)
		}
	}
	for _, v := range board.Templating.List {
		check("a variable", strings.ReplaceAll(v.Definition, "label_values", ""))
	}
	for name := range there {
		if strings.HasPrefix(name, "muster_") && !shown[name] {
			t.Errorf("no panel of the dashboard shows %s: give it one in deploy/grafana/panels.go, then go test ./deploy/grafana -rewrite", name)
		}
	}
}
