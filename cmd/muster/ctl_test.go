package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
)

// What an operator sees and does, with somebody connected all the while: drain
// the node that this one is on, kill the leader, start it again.
func TestCtl(t *testing.T) {
	bin := build(t)
	dev := start(t, bin, t.TempDir(), "--regions", "1", "--nodes", "3")
	ctl := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), bin, append([]string{"ctl", "--admin", dev.ready.Admin}, args...)...)
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		err := cmd.Run()
		return out.String() + stderr.String(), err
	}
	roster := func() (v node.RosterView) {
		out, err := ctl("roster", "--json")
		require.NoError(t, err, out)
		require.NoError(t, json.Unmarshal([]byte(out), &v))
		return v
	}
	named := func(id string) node.NodeView {
		for _, n := range roster().Regions[0].Nodes {
			if n.ID == id {
				return n
			}
		}
		return node.NodeView{}
	}
	eventually := func(what string, f func() bool) {
		t.Helper()
		require.Eventually(t, f, patience, 50*time.Millisecond, what)
	}

	api := client.NewAPI(dev.ready.HTTP, client.APIConfig{})
	who, err := api.Guest(t.Context(), "Operated on", "test")
	require.NoError(t, err)
	g, err := api.CreateGroup(t.Context(), client.GroupDraft{Name: "Under the knife"})
	require.NoError(t, err)
	s, room := join(t, dev.ready, api, g.GroupID)
	defer s.Close()

	out, err := ctl("sessions", who.UserID)
	require.NoError(t, err, out)
	require.Contains(t, out, "live")
	require.Contains(t, out, room.ID())
	out, err = ctl("room", room.ID())
	require.NoError(t, err, out)
	require.Contains(t, out, "eu-west-")
	out, err = ctl("roster")
	require.NoError(t, err, out)
	require.Contains(t, out, "eu-west: led by")

	call, err := api.StartCall(t.Context(), client.CallDraft{GroupID: g.GroupID, Type: "audio", PushToTalk: true})
	require.NoError(t, err)
	var calls node.CallsView
	out, err = ctl("calls", "list", "--json")
	require.NoError(t, err, out)
	require.NoError(t, json.Unmarshal([]byte(out), &calls))
	require.Len(t, calls.Calls, 1)
	require.Equal(t, call.ID, calls.Calls[0].ID)
	require.True(t, calls.Calls[0].PushToTalk)
	out, err = ctl("calls", "end", call.ID)
	require.NoError(t, err, out)
	out, err = ctl("calls", "list")
	require.NoError(t, err, out)
	require.NotContains(t, out, call.ID)
	out, err = ctl("calls", "end", "mine")
	require.Error(t, err)
	require.Contains(t, out, "muster ctl calls list")

	var sessions node.SessionsView
	out, err = ctl("sessions", who.UserID, "--json")
	require.NoError(t, err, out)
	require.NoError(t, json.Unmarshal([]byte(out), &sessions))
	on := sessions.Sessions[0].Node
	out, err = ctl("drain", on)
	require.NoError(t, err, out)
	require.Contains(t, out, on+" is drained")
	n := named(on)
	require.Equal(t, "draining", n.State)
	require.Zero(t, n.Slots)
	require.Zero(t, n.Sessions.Live)
	require.True(t, n.Voter, "a drained node still votes")
	_, err = room.Send(t.Context(), "from the next node")
	require.NoError(t, err)

	leader := roster().Regions[0].Leader
	out, err = ctl("transfer", "--json")
	require.NoError(t, err, out)
	require.JSONEq(t, "{}", out)
	eventually("another one leads", func() bool { l := roster().Regions[0].Leader; return l != "" && l != leader })

	// What a page of the console can do in dev.
	leader = roster().Regions[0].Leader
	post := func(what, origin string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, dev.ready.HTTP+"/ctl/"+what+"?node="+leader, nil)
		require.NoError(t, err)
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	require.Equal(t, http.StatusForbidden, post("kill", "https://elsewhere.example"), "other pages have no say")
	require.Equal(t, http.StatusOK, post("kill", ""))
	eventually("the leader's place is taken", func() bool {
		r := roster().Regions[0]
		return r.Leader != "" && r.Leader != leader && named(leader).State == "down"
	})
	eventually("all goes on", func() bool {
		_, err := room.Send(t.Context(), "without the leader")
		return err == nil
	})
	require.Equal(t, http.StatusOK, post("restart", ""))
	eventually("it is back", func() bool { return named(leader).State == "up" })

	out, err = ctl("remove", leader)
	require.Error(t, err)
	require.Contains(t, out, "drain and stop it first")
	for _, bad := range [][]string{{"drain", "nobody"}, {"remove", "nobody"}, {"transfer", "nowhere"}} {
		out, err := ctl(bad...)
		require.Error(t, err, bad)
		require.Contains(t, out, "muster", bad)
	}
	out, err = ctl("roster", "--admin", "127.0.0.1:1")
	require.Error(t, err)
	require.Contains(t, out, "admin address")
}

// Who waits for a drain and is interrupted, or sees the node die, must not
// report success.
func TestCtlDrainThatDidNotEnd(t *testing.T) {
	state := "draining"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := node.RosterView{Regions: []node.RegionView{{Nodes: []node.NodeView{{ID: "n1", State: state, Slots: 7}}}}}
		if state == "down" {
			v.Regions[0].Nodes[0].Slots = 0
		}
		_ = json.NewEncoder(w).Encode(v)
	}))
	defer srv.Close()
	drain, c := &CtlDrainCmd{Node: "n1", Wait: true}, &CtlCmd{Admin: srv.URL}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := drain.Run(ctx, c)
	require.ErrorContains(t, err, "interrupted")
	require.NotErrorIs(t, err, context.Canceled, "which would exit with 0")
	state = "down"
	require.ErrorContains(t, drain.Run(t.Context(), c), "went down")
}
