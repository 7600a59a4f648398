//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
)

// build compiles the binary as `make build` does, but for the web app, which
// these tests don't need.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "muster")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(t, err, string(out))
	return bin
}

// process is a `muster dev` of its own.
type process struct {
	*exec.Cmd
	ready  node.Ready
	stderr *bytes.Buffer
	exited chan error
}

const patience = 60 * time.Second

// start runs `muster dev` and returns when it is ready.
func start(t *testing.T, bin, data string, args ...string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ready.json")
	args = append([]string{"dev", "--data", data, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--no-demo",
		"--regions", "2", "--nodes", "2", "--ready-file", file}, args...)
	p := &process{Cmd: exec.Command(bin, args...), stderr: &bytes.Buffer{}, exited: make(chan error, 1)}
	p.Stderr = p.stderr
	require.NoError(t, p.Start())
	go func() { p.exited <- p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill() })
	deadline := time.After(patience)
	for {
		if b, err := os.ReadFile(file); err == nil {
			require.NoError(t, json.Unmarshal(b, &p.ready))
			return p
		}
		select {
		case err := <-p.exited:
			t.Fatalf("ended before it was ready: %v\n%s", err, p.stderr)
		case <-deadline:
			t.Fatalf("not ready in time\n%s", p.stderr)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.exited:
		return err
	case <-time.After(patience):
		t.Fatal("did not end in time")
		return nil
	}
}

// children lists the processes whose command line names the directory.
func children(t *testing.T, dir string) (found []string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, f := range procs {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(f), "cwd"))
		if strings.Contains(string(b), dir) || strings.HasPrefix(cwd, dir) {
			found = append(found, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

func join(t *testing.T, r node.Ready, api *client.API, group string) (*client.Session, *client.Room) {
	t.Helper()
	edge, err := api.Edge(t.Context())
	require.NoError(t, err)
	pins, err := edge.Pins()
	require.NoError(t, err)
	s, err := client.Connect(t.Context(), client.Config{
		Endpoints: edge.Endpoints(string(r.Regions[0].Name)), Tokens: api, Dialer: &client.Dialer{CertSHA256: pins},
	})
	require.NoError(t, err)
	room, err := s.Join(t.Context(), client.GroupRoom(group))
	require.NoError(t, err)
	return s, room
}

// A message that was acknowledged is in history after kill -9 of the whole
// process, and the next start on the same data goes on: accounts, groups,
// numbers. SIGTERM then leaves no process behind.
func TestKilledAndStartedAgain(t *testing.T) {
	bin, data := build(t), t.TempDir()
	p := start(t, bin, data)
	require.Contains(t, p.ready.HTTP, "http://localhost:")
	require.Len(t, p.ready.Regions, 2)
	require.Len(t, p.ready.Regions[0].Nodes, 2)
	question := new(dns.Msg)
	question.SetQuestion("us-east."+p.ready.DNSName+".", dns.TypeTXT)
	for _, network := range []string{"udp", "tcp"} {
		answer, _, err := (&dns.Client{Net: network}).Exchange(question, p.ready.DNS)
		require.NoError(t, err)
		require.Equal(t, []string{"region=us-east"}, answer.Answer[0].(*dns.TXT).Txt)
	}

	api := client.NewAPI(p.ready.HTTP, client.APIConfig{})
	_, err := api.Register(t.Context(), "Ana", "ana@example.org", "correct horse battery", "test")
	require.NoError(t, err)
	g, err := api.CreateGroup(t.Context(), client.GroupDraft{Name: "Survivors"})
	require.NoError(t, err)
	s, room := join(t, p.ready, api, g.GroupID)
	defer s.Close()
	for i := range 20 {
		_, err := room.Send(t.Context(), fmt.Sprintf("message %d", i+1))
		require.NoError(t, err)
	}
	require.NoError(t, p.Process.Kill())
	require.Error(t, p.wait(t))

	p = start(t, bin, data)
	api = client.NewAPI(p.ready.HTTP, client.APIConfig{})
	_, err = api.Login(t.Context(), "ana@example.org", "correct horse battery", "test")
	require.NoError(t, err)
	ms, err := api.Messages(t.Context(), g.GroupID, 0, 0, 100)
	require.NoError(t, err)
	require.Len(t, ms, 20)
	for i, m := range ms {
		require.EqualValues(t, i+1, m.Number)
		require.Equal(t, fmt.Sprintf("message %d", i+1), m.Body)
	}
	s2, room := join(t, p.ready, api, g.GroupID)
	defer s2.Close()
	m, err := room.Send(t.Context(), "still here")
	require.NoError(t, err)
	require.EqualValues(t, 21, m.Number)

	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.wait(t), p.stderr)
	require.Empty(t, children(t, data), "no process is left behind")
}

// The commonest mistakes are told in a sentence that says what to do.
func TestMistakesAreExplained(t *testing.T) {
	bin := build(t)
	run := func(args ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := exec.CommandContext(ctx, bin, args...).CombinedOutput()
		require.Error(t, err)
		return string(out)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()

	require.Contains(t, run("dev", "--http", busy.Addr().String(), "--data", t.TempDir()), "in use by another program")
	require.Contains(t, run("dev", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--regions", "99", "--data", t.TempDir()), "--regions 99: choose 1 to 10")
	require.Contains(t, run("serve", "--config", writeFile(t, "node: a\nnonsense: 1\n")), "nonsense")
	require.Contains(t, run("serve", "--config", writeFile(t, "node: a\n")), "missing")
	require.Contains(t, run("ca", "eu-1"), "say for whom")

	// No PostgreSQL: neither on PATH nor in the places of packages.
	if hidden := withoutPostgres(t, bin); hidden != "" {
		require.Contains(t, hidden, "apt-get install postgresql")
	}
}

// withoutPostgres runs the binary in a mount namespace in which no package's
// PostgreSQL can be seen; "" where the system does not allow that.
func withoutPostgres(t *testing.T, bin string) string {
	t.Helper()
	if _, err := os.Stat("/usr/lib/postgresql"); err != nil || os.Getuid() != 0 {
		return ""
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c",
		`mount -t tmpfs none /usr/lib/postgresql && exec "$0" dev --http 127.0.0.1:0 --admin 127.0.0.1:0 --data "$1"`, bin, t.TempDir())
	cmd.Env = append(os.Environ(), "PATH=/bin:/usr/sbin:/sbin", "MUSTER_DATABASE_URL=")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	if strings.Contains(string(out), "unshare") || strings.Contains(string(out), "mount:") {
		return ""
	}
	return string(out)
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// Nodes of a real deployment: certificates by `muster ca`, schema by `muster
// migrate`, two processes that find each other, and a third one, of a region that
// is added to the topology while they run.
func TestServeTwoNodes(t *testing.T) {
	bin, dir := build(t), t.TempDir()
	dev := start(t, bin, filepath.Join(dir, "dev")) // lends its database
	names := []string{"north-1", "south-1", "east-1"}
	var https, peers, admins []string
	for range names {
		https, peers, admins = append(https, free(t, "tcp")), append(peers, free(t, "udp")), append(admins, free(t, "tcp"))
	}
	topology := func(file string, count int) {
		var s strings.Builder
		s.WriteString("regions:\n")
		for i, n := range names[:count] {
			fmt.Fprintf(&s, "  - name: %s\n    location: {lat: %d, lng: 0}\n    nodes:\n      - {id: %s, peer: %q, http: \"http://%s\", ws: \"ws://%s/ws\"}\n",
				strings.TrimSuffix(n, "-1"), 40-40*i, n, peers[i], https[i], https[i])
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(s.String()), 0o600))
	}
	topology("topology.yaml", 2)
	topology("grown.yaml", 3)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte(strings.Repeat("5e", 32)), 0o600))
	do := func(args ...string) {
		cmd := exec.CommandContext(t.Context(), bin, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	// Another database on the same server, so that `muster migrate` has work.
	do("migrate", "--database", dev.ready.Database)
	do("ca", "--topology", "grown.yaml")

	serve := func(i int, topology string) {
		n, admin := names[i], admins[i]
		config := filepath.Join(dir, n+".yaml")
		require.NoError(t, os.WriteFile(config, fmt.Appendf(nil,
			"node: %s\ntopology: %s\nsecret_file: secret\nhttp: %s\npeer: %s\nadmin: %s\npeer_tls: identities/%s\ndata: data-%s\n",
			n, topology, https[i], peers[i], admin, n, n), 0o600))
		cmd := exec.Command(bin, "serve", "--config", config)
		cmd.Env = append(os.Environ(), "MUSTER_DATABASE_URL="+dev.ready.Database)
		var log bytes.Buffer
		cmd.Stderr = &log
		require.NoError(t, cmd.Start())
		exited := make(chan error, 1)
		go func() { exited <- cmd.Wait() }()
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case err := <-exited:
				if err != nil {
					t.Errorf("%s: %v\n%s", n, err, log.String())
				}
			case <-time.After(patience):
				_ = cmd.Process.Kill()
				t.Errorf("%s did not drain\n%s", n, log.String())
			}
		})
		require.Eventually(t, func() bool {
			c, err := net.Dial("tcp", admin)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		}, patience, 20*time.Millisecond, "the node answers: %s", &log)
	}
	serve(0, "topology.yaml")
	serve(1, "topology.yaml")

	var apis []*client.API
	guest := func(i int) {
		apis = append(apis, client.NewAPI("http://"+https[i], client.APIConfig{}))
		_, err := apis[i].Guest(t.Context(), fmt.Sprintf("Serve %d", i), "test")
		require.NoError(t, err)
	}
	guest(0)
	guest(1)
	g, err := apis[0].CreateGroup(t.Context(), client.GroupDraft{Name: "Two processes"})
	require.NoError(t, err)
	_, err = apis[1].Join(t.Context(), g.InviteCode)
	require.NoError(t, err)
	var rooms []*client.Room
	connect := func(i int) {
		s, err := client.Connect(t.Context(), client.Config{
			Endpoints: []client.Endpoint{{WS: "ws://" + https[i] + "/ws"}}, Tokens: apis[i],
		})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		r, err := s.Join(t.Context(), client.GroupRoom(g.GroupID))
		require.NoError(t, err)
		rooms = append(rooms, r)
	}
	everybody := func() bool {
		return !slices.ContainsFunc(rooms, func(r *client.Room) bool { return len(r.Members()) != len(rooms) })
	}
	connect(0)
	connect(1)
	require.Eventually(t, everybody, patience, 10*time.Millisecond)
	_, err = rooms[0].Send(t.Context(), "across processes")
	require.NoError(t, err)
	require.Eventually(t, func() bool { ms := rooms[1].Messages(); return len(ms) == 1 && ms[0].Body == "across processes" }, patience, 10*time.Millisecond)

	// The third one knocks until the others have the file, too: one finds it by
	// itself, the other is told to look.
	serve(2, "grown.yaml")
	topology("topology.yaml", 3)
	do("ctl", "reload", "--admin", admins[1])
	guest(2)
	_, err = apis[2].Join(t.Context(), g.InviteCode)
	require.NoError(t, err)
	connect(2)
	require.Eventually(t, everybody, patience, 10*time.Millisecond)
}
