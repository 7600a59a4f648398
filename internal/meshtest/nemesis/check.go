package nemesis

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mustermesh/muster/client"
)

const (
	// contact is how long an owner may go on after its successor began: 2 s
	// after it last asked its region's leader and was answered, which gave its
	// slots away not before half a second of silence (of the leader before; of
	// others 1 s). Nothing is added for news that are on their way within the
	// node: it acts only when its edge was told what the answer covers.
	contact = 1500 * time.Millisecond
	// unaware is how much longer a device may be gone, to the region, than to
	// itself: its node was cut off and kept it.
	unaware = 6 * time.Second
	// underWay is how long a hello may still be that nobody waits for any more.
	underWay = 3 * time.Second
)

// What fences are for.
const (
	ownersStop  = "an owner stops that was replaced"
	edgesRefuse = "edges refuse what comes under an older slot epoch"
)

// Violation is a promise that was not kept.
type Violation struct {
	Promise string
	What    string
	History []string // what led there
}

func (v Violation) String() string {
	return v.Promise + ": " + v.What + "\n    " + strings.Join(v.History, "\n    ")
}

// checks are the promises; see the package comment.
var checks = []struct {
	promise string
	check   func(*History) []Violation
}{
	{"session epochs are linearizable in a region", epochs},
	{"a number means one event", numbers},
	{ownersStop, owners},
	{"what owners accept of a device never goes back", accepted},
	{"observers never go back", observers},
	{edgesRefuse, edges},
	{"what is missed is told", missed},
	{"messages come once and without holes", messages},
	{"an acknowledged message is stored", stored},
	{"revisions are numbered without holes, and none is lost", revisions},
	{"of two states the higher change wins", states},
	{"receipts only grow", receipts},
	{"nobody leaves who came back in time", leavers},
	{"everybody agrees in the end", settled},
	{"the nodes of a region have one roster, of those who are connected", rosters},
}

// Check holds a history against all promises.
func Check(h *History) (out []Violation) {
	for _, c := range checks {
		for _, v := range c.check(h) {
			v.Promise = c.promise
			out = append(out, v)
		}
	}
	return out
}

// Report prints the outcome of a run.
func Report(w io.Writer, seed uint64, faults []Fault, h *History, violations []Violation) {
	frames, events := 0, 0
	stored, revised, receipts := 0, uint64(0), 0
	for _, r := range h.Runs {
		frames += len(r.Sights)
		events += len(r.Heard)
		for _, e := range r.Heard {
			if _, ok := e.Event.(client.ReceiptsChanged); ok {
				receipts++
			}
		}
	}
	for _, ms := range h.Stored {
		stored += len(ms.Messages)
		revised += ms.Change
	}
	fmt.Fprintf(w, "seed %d: %d faults, %d runs of the SDK, %d frames, %d events, %d messages, %d revisions, %d changes of receipts, %d violations\n",
		seed, len(faults), len(h.Runs), frames, events, stored, revised, receipts, len(violations))
	if len(violations) == 0 {
		return
	}
	broken := map[string]int{}
	for _, v := range violations {
		broken[v.Promise]++
	}
	for _, promise := range slices.Sorted(maps.Keys(broken)) {
		fmt.Fprintf(w, "%5d × %s\n", broken[promise], promise)
	}
	fmt.Fprintf(w, "the schedule:\n%s", Print(faults))
	fmt.Fprintf(w, "the first violation:\n%s\n", violations[0])
	for _, v := range violations[1:min(len(violations), 6)] {
		fmt.Fprintf(w, "then: %s: %s\n", v.Promise, v.What)
	}
}
