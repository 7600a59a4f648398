package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mustermesh/muster/internal/node"
)

// CtlCmd asks and tells a running process through its admin address.
type CtlCmd struct {
	Admin string `help:"The admin address of a process: host:port or URL." env:"MUSTER_ADMIN" default:"127.0.0.1:9090" placeholder:"ADDR"`
	JSON  bool   `help:"Print the answer as JSON." name:"json"`

	Roster   CtlRosterCmd   `cmd:"" help:"Show regions, nodes, the leader, slots and sessions."`
	Sessions CtlSessionsCmd `cmd:"" help:"Show the sessions of a user."`
	Room     CtlRoomCmd     `cmd:"" help:"Show who owns a room."`
	Jobs     CtlJobsCmd     `cmd:"" help:"List the jobs of a deployment, and retry or drop the dead ones."`
	Reports  CtlReportsCmd  `cmd:"" help:"List what people reported, and say what became of it."`
	Ratings  CtlRatingsCmd  `cmd:"" help:"Verify what is kept of what people gave each other."`
	Ledger   CtlLedgerCmd   `cmd:"" help:"Verify who owes whom."`
	Calls    CtlCallsCmd    `cmd:"" help:"List the calls that go on, and end one for everybody."`
	Announce CtlAnnounceCmd `cmd:"" help:"Tell all users, or the members of a group, something."`
	Drain    CtlDrainCmd    `cmd:"" help:"Have a node hand over all it has and send its clients to others. It stays a voter until it is removed or stopped."`
	Transfer CtlTransferCmd `cmd:"" help:"Have another voter lead a region."`
	Reload   CtlReloadCmd   `cmd:"" help:"Have a process read its topology file again, now."`
	Remove   CtlRemoveCmd   `cmd:"" help:"Take a dead node out of its region for good; a learner takes its vote."`
}

type (
	// CtlRosterCmd shows a process's view of its region.
	CtlRosterCmd struct{}
	// CtlSessionsCmd shows a user's sessions.
	CtlSessionsCmd struct {
		User string `arg:"" help:"The user's id."`
	}
	// CtlRoomCmd shows a room's owners.
	CtlRoomCmd struct {
		Room string `arg:"" help:"Such as group:<uuid>."`
	}
	// CtlDrainCmd drains a node.
	CtlDrainCmd struct {
		Node string `arg:"" help:"The node's name."`
		Wait bool   `help:"Wait until it owns nothing and nobody is connected to it." default:"true" negatable:""`
	}
	// CtlTransferCmd moves leadership.
	CtlTransferCmd struct {
		Region string `arg:"" optional:"" help:"The region; default: the process's."`
	}
	// CtlReloadCmd has the topology file read.
	CtlReloadCmd struct{}
	// CtlRemoveCmd removes a node.
	CtlRemoveCmd struct {
		Node string `arg:"" help:"The node's name."`
	}
)

// call asks the admin address; out is filled from the JSON answer.
func (c *CtlCmd) call(ctx context.Context, method, path string, query neturl.Values, out any) error {
	base := c.Admin
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	asked, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(asked, method, strings.TrimSuffix(base, "/")+"/ctl/"+path+"?"+query.Encode(), nil)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return fmt.Errorf("%w (is --admin the admin address of a running process?)", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Error string }
		if json.Unmarshal(body, &problem) != nil || problem.Error == "" {
			return fmt.Errorf("%s answered %s", c.Admin, resp.Status)
		}
		return fmt.Errorf("%s", problem.Error)
	}
	return json.Unmarshal(body, out)
}

// errInterrupted is no success: whoever waited must not take it for the end of
// what they waited for.
var errInterrupted = errors.New("interrupted; what was asked for goes on")

// done says that something was done.
func (c *CtlCmd) done(format string, args ...any) error {
	return c.show(struct{}{}, func(w io.Writer) { fmt.Fprintf(w, format+"\n", args...) })
}

// show prints v as JSON, or by text as a table.
func (c *CtlCmd) show(v any, text func(w io.Writer)) error {
	if c.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// Run prints the roster.
func (*CtlRosterCmd) Run(ctx context.Context, c *CtlCmd) error {
	var v node.RosterView
	if err := c.call(ctx, http.MethodGet, "roster", nil, &v); err != nil {
		return err
	}
	return c.show(v, func(w io.Writer) {
		for _, r := range v.Regions {
			leader := r.Leader
			if leader == "" {
				leader = "nobody"
			}
			heard := fmt.Sprintf("heard of %d ms ago", r.ContactMS)
			if r.ContactMS < 0 {
				heard = "never heard of"
			}
			fmt.Fprintf(w, "%s: led by %s, %s; %d sessions live, %d suspended\n", r.Name, leader, heard, r.Sessions.Live, r.Sessions.Suspended)
			fmt.Fprintln(w, "NODE\tSTATE\tVOTES\tSLOTS\tROOMS\tLIVE\tSUSPENDED\tSINCE")
			for _, n := range r.Nodes {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", n.ID, or(n.State, "never seen"), yes(n.Voter), n.Slots, n.RoomsOwned, n.Sessions.Live, n.Sessions.Suspended, n.Since)
			}
		}
	})
}

// Run prints a user's sessions.
func (s *CtlSessionsCmd) Run(ctx context.Context, c *CtlCmd) error {
	var v node.SessionsView
	if err := c.call(ctx, http.MethodGet, "sessions", neturl.Values{"user": {s.User}}, &v); err != nil {
		return err
	}
	return c.show(v, func(w io.Writer) {
		fmt.Fprintln(w, "REGION\tDEVICE\tSTATE\tNODE\tTRANSPORT\tEPOCH\tSINCE\tROOMS")
		for _, x := range v.Sessions {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", x.Region, x.Device, x.State, x.Node, x.Transport, x.Epoch, x.Since, strings.Join(x.Rooms, " "))
		}
	})
}

// Run prints a room's owners.
func (r *CtlRoomCmd) Run(ctx context.Context, c *CtlCmd) error {
	var v node.RoomView
	if err := c.call(ctx, http.MethodGet, "room", neturl.Values{"id": {r.Room}}, &v); err != nil {
		return err
	}
	return c.show(v, func(w io.Writer) {
		fmt.Fprintf(w, "%s is in slot %d\n", v.Room, v.Slot)
		fmt.Fprintln(w, "REGION\tOWNER\tEPOCH\tSESSIONS")
		for _, o := range v.Owners {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", o.Region, or(o.Node, "nobody"), o.Epoch, o.Sessions)
		}
	})
}

// Run drains a node, and waits until it is empty.
func (d *CtlDrainCmd) Run(ctx context.Context, c *CtlCmd) error {
	var nothing struct{}
	if err := c.call(ctx, http.MethodPost, "drain", neturl.Values{"node": {d.Node}}, &nothing); err != nil {
		return err
	}
	if !d.Wait {
		return c.done("%s drains", d.Node)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var v node.RosterView
		if err := c.call(ctx, http.MethodGet, "roster", nil, &v); err != nil {
			return err
		}
		for _, r := range v.Regions {
			for _, n := range r.Nodes {
				switch {
				case n.ID != d.Node:
				case n.State == "down":
					return fmt.Errorf("%s went down before it was seen empty: what it still had was taken from it", d.Node)
				case n.Slots == 0 && n.Sessions.Live == 0:
					return c.show(n, func(w io.Writer) { fmt.Fprintf(w, "%s is drained\n", d.Node) })
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errInterrupted
		}
	}
}

// Run moves leadership.
func (t *CtlTransferCmd) Run(ctx context.Context, c *CtlCmd) error {
	var nothing struct{}
	if err := c.call(ctx, http.MethodPost, "transfer", neturl.Values{"region": {t.Region}}, &nothing); err != nil {
		return err
	}
	return c.done("another node leads")
}

// Run has the topology file read.
func (*CtlReloadCmd) Run(ctx context.Context, c *CtlCmd) error {
	var nothing struct{}
	if err := c.call(ctx, http.MethodPost, "reload", nil, &nothing); err != nil {
		return err
	}
	return c.done("the topology is the file's")
}

// Run removes a node.
func (r *CtlRemoveCmd) Run(ctx context.Context, c *CtlCmd) error {
	var nothing struct{}
	if err := c.call(ctx, http.MethodPost, "remove", neturl.Values{"node": {r.Node}}, &nothing); err != nil {
		return err
	}
	return c.done("%s is removed", r.Node)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
