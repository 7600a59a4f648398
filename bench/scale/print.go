package scale

import (
	"fmt"
	"io"
	"strings"
)

// Print writes results side by side, as docs/scale.md has them.
func Print(w io.Writer, results []*Result) error {
	var err error
	line := func(name string, f func(*Result) string) {
		cells := make([]string, len(results))
		for i, r := range results {
			cells[i] = f(r)
		}
		if _, e := fmt.Fprintf(w, "| %s | %s |\n", name, strings.Join(cells, " | ")); err == nil && e != nil {
			err = fmt.Errorf("scale: %w", e)
		}
	}
	bytes := func(v float64) string { return Human(v) + "B" }
	rate := func(v float64) string { return Human(v) + "B/s" }
	line("", func(r *Result) string { return fmt.Sprintf("%d regions", r.Regions) })
	line("---", func(*Result) string { return "---:" })
	line("nodes (sessions each, on average)", func(r *Result) string { return fmt.Sprintf("%d (%d)", r.Nodes, r.PerNode) })
	line("sessions' memory, per node", func(r *Result) string { return bytes(r.SessionsMem) })
	line("sessions in the biggest region", func(r *Result) string { return fmt.Sprintf("%.0f %%", 100*r.Biggest) })
	line("rooms (in more than one region)", func(r *Result) string {
		return fmt.Sprintf("%s (%.0f %%)", strings.TrimSpace(Human(float64(r.Rooms))), 100*float64(r.Wide)/float64(r.Rooms))
	})
	line("regions that a room has members in", func(r *Result) string { return fmt.Sprintf("%.2f", r.Spread) })
	line("**updates of rooms** (fixes, messages, comings and goings)", func(r *Result) string { return Human(r.Updates) + "/s" })
	line("copies to other regions, one per region", func(r *Result) string { return Human(r.Copies) + "/s" })
	line("copies if each receiver had one", func(r *Result) string { return Human(r.Naive) + "/s" })
	line("bytes of the copies, all links", func(r *Result) string { return rate(r.Payload) })
	line("of those into the region that gets most", func(r *Result) string { return rate(r.Receive) })
	line("on the busiest link, one way", func(r *Result) string { return rate(r.Busiest) })
	for _, i := range []struct {
		name string
		of   func(*Result) Interest
	}{
		{"**interest as built**: all regions are asked", func(r *Result) Interest { return r.Built }},
		{"**interest by home region**", func(r *Result) Interest { return r.Home }},
		{"**interest at the least**", func(r *Result) Interest { return r.Needed }},
	} {
		line(i.name+": entries", func(r *Result) string { return Human(i.of(r).Entries) })
		line("rooms that a region holds", func(r *Result) string { return Human(i.of(r).Rooms) })
		line("memory of rooms, per node", func(r *Result) string { return bytes(i.of(r).Memory) })
		line("frames as people come and go, all", func(r *Result) string { return Human(i.of(r).Churn) + "/s" })
		line("bytes of those, all links", func(r *Result) string { return rate(i.of(r).Bytes) })
	}
	line("**links**: other nodes per node", func(r *Result) string { return fmt.Sprint(r.LinksOfNode) })
	line("memory of links, per node", func(r *Result) string { return bytes(r.LinkMemory) })
	line("idle links, per node, both ways", func(r *Result) string { return rate(r.IdleOfNode) })
	line("idle links, all", func(r *Result) string { return rate(r.Idle) })
	line("**gossip** (standings, slots): out of a leader", func(r *Result) string { return rate(r.GossipLead) })
	line("into a node", func(r *Result) string { return rate(r.GossipNode) })
	line("all links", func(r *Result) string { return rate(r.Gossip) })
	line("**digests** of a region pair after a quiet cut", func(r *Result) string { return bytes(r.Digest) })
	return err
}
