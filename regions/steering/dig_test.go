package steering

import (
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// run asks with a tool of others, and returns what it prints.
func tool(t *testing.T, s *Server, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require.NoError(t, err, "tools/setup.sh test installs it")
	host, port, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), path, append([]string{"@" + host, "-p", port}, args...)...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// The answers as BIND's dig and Knot's kdig understand them.
func TestDigAndKdig(t *testing.T) {
	w := newWorld()
	s := w.serve(t)
	for _, c := range clients {
		if strings.HasPrefix(c.prefix, "::ffff:") {
			continue // dig makes an IPv4 subnet of it
		}
		a := strings.TrimSpace(tool(t, s, "dig", "+short", "+subnet="+c.prefix, zone, "TXT"))
		require.Equal(t, `"region=`+string(c.want)+`"`, a, c.prefix)
		a = strings.TrimSpace(tool(t, s, "kdig", "+short", "+subnet="+c.prefix, zone, "TXT"))
		require.Equal(t, `"region=`+string(c.want)+`"`, a, c.prefix)
	}

	out := tool(t, s, "dig", "+subnet=137.158.0.0/16", "+nsid", zone, "A")
	p := netip.MustParsePrefix("137.158.0.0/16")
	require.Regexp(t, `CLIENT-SUBNET: `+p.String()+`/\d+`, out)
	require.Contains(t, out, `("ns-test")`)
	require.Regexp(t, `flags: qr aa rd;`, out)
	require.Regexp(t, `edge.example.org.\s+20\s+IN\s+A\s+192.0.2.5\d`, out)
	require.NotContains(t, out, "WARNING: M") // "Message parser reports malformed message packet"

	out = tool(t, s, "dig", "+norec", zone, "HTTPS")
	require.Regexp(t, `HTTPS\s+1 us-east.edge.example.org. alpn="h3" no-default-alpn port=8443 ipv4hint=192.0.2.2\d,192.0.2.2\d ipv6hint=2001:db8::2\d,2001:db8::2\d`, out)
	out = tool(t, s, "kdig", "+nsid", "+bufsize=1232", zone, "HTTPS")
	require.Regexp(t, `HTTPS\s+1 us-east.edge.example.org. alpn=h3 no-default-alpn port=8443 ipv4hint=192.0.2.2\d,192.0.2.2\d`, out)
	require.Contains(t, out, `"ns-test"`)
	require.Contains(t, tool(t, s, "kdig", "+tcp", zone, "AAAA"), "2001:db8::2")
	require.Contains(t, tool(t, s, "dig", "+tcp", "+keepopen", zone, "AAAA", zone, "A"), "2001:db8::2")
	require.Contains(t, tool(t, s, "dig", "+edns=1", "+noednsneg", zone, "A"), "status: BADVERS")
	require.Contains(t, tool(t, s, "dig", "version.bind", "CH", "TXT"), "status: REFUSED")
	require.Contains(t, tool(t, s, "dig", "example.com", "A"), "status: REFUSED")
	out = tool(t, s, "dig", "nobody."+zone, "A")
	require.Contains(t, out, "status: NXDOMAIN")
	require.Regexp(t, `AUTHORITY SECTION:\nedge.example.org.\s+20\s+IN\s+SOA\s+ns1.edge.example.org. hostmaster.edge.example.org.`, out)
	out = tool(t, s, "kdig", zone, "MX")
	require.Contains(t, out, "status: NOERROR")
	require.Contains(t, out, "SOA")
	require.Contains(t, tool(t, s, "dig", zone, "ANY"), `HINFO	"RFC8482"`)
	require.Contains(t, tool(t, s, "dig", "+opcode=NOTIFY", zone, "SOA"), "status: NOTIMP")
	require.Contains(t, tool(t, s, "dig", "+noall", "+comments", "-t", "AXFR", zone), "Transfer failed")

	// A region dies: the next nearest takes over, as these tools see it.
	if testing.Short() {
		return
	}
	short := func() string {
		return strings.TrimSpace(tool(t, s, "dig", "+short", "+subnet=141.20.0.0/16", zone, "TXT"))
	}
	require.Equal(t, `"region=eu-west"`, short())
	w.change(func() { w.dead["eu-west"] = true })
	require.Eventually(t, func() bool { return short() == `"region=us-east"` }, silence+(badLooks+3)*lookEvery, 200*time.Millisecond)
	require.Equal(t, `"region=us-east"`, strings.TrimSpace(tool(t, s, "kdig", "+short", "+subnet=141.20.0.0/16", zone, "TXT")))
}
