// Package cluster is one node's part in its region: consensus and the roster
// that it replicates, what the leader has to do, and commands as Go calls.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/roster"
)

// Config describes a node. Fields without "optional" are needed.
type Config struct {
	Self   regions.NodeID
	Region regions.RegionID
	// Incarnation is higher with every start of the node.
	Incarnation uint64
	// Capacity is the node's share of the slots, in proportion; optional, 100.
	Capacity uint32
	// Topology names all regions and nodes. The region's nodes must be in the
	// same order everywhere: the first ones found its group.
	Topology *regions.Topology
	// Dir is where the node keeps its log and snapshots. If it is empty they
	// are in Memory, for tests.
	Dir    string
	Memory *consensus.Memory
	// Links carry the streams of consensus; Serve serves them.
	Links consensus.Links
	// Send sends a frame to a node of another region. It must not block, and
	// may lose frames. Optional in a world of one region.
	Send func(to regions.NodeID, f *peer.Frame)
	// Hooks are told what changed.
	Hooks Hooks

	Grace         time.Duration // optional: how long a session may be suspended, 30 s
	Keep          time.Duration // optional: how long a device that has gone is remembered, 10 min
	Voters        int           // optional: as in consensus.Config, like the following
	Heartbeat     time.Duration
	CommitTimeout time.Duration
	PeerTimeout   time.Duration
	LeaderWait    time.Duration
	SnapshotEvery uint64

	Log     *slog.Logger          // optional
	Metrics prometheus.Registerer // optional
}

// Hooks are told, all by one goroutine and in the order of the region's log,
// what changed. Owner and View show it already. They may take their time: the
// log goes on meanwhile. Each is optional.
type Hooks struct {
	// SlotsMoved tells slots of this region that got another owner or epoch.
	SlotsMoved func(moves []regions.SlotMove)
	// NodeChanged tells a node's new state.
	NodeChanged func(n roster.NodeChanged)
	// SessionFenced: what node has of the session is over without a word to
	// the rooms, since the device is live under the winning epoch.
	SessionFenced func(node regions.NodeID, id regions.SessionID, winning regions.Epoch)
	// SessionSuspended: the session's connection is gone; the rooms it is in.
	SessionSuspended func(node regions.NodeID, id regions.SessionID, rooms []string)
	// SessionEnded: the session left its rooms, for this reason.
	SessionEnded func(node regions.NodeID, id regions.SessionID, rooms []string, reason wire.Reason)
	// Resync: changes were skipped, so everything that follows from the roster
	// must be read again. It also comes once at the start, before all others.
	Resync func()
	// RegionMoved tells slots of another region that have another owner.
	RegionMoved func(region regions.RegionID, slots []int)
	// NodeLost: the region gave this node up. Its sessions are suspended, what
	// it had is others' now, whether it comes back (Err is nil) or not.
	NodeLost func()
}

// PlannedMove is one of this node's slots that should go elsewhere.
type PlannedMove struct {
	Slot  int
	Epoch regions.Epoch // that the slot has
	To    regions.NodeID
}

// ErrStaleSlot: the slot moved meanwhile, or can't go there.
var ErrStaleSlot = errors.New("cluster: the slot is not as named, or can't go there")

// Cluster is one node's part in its region. It is a run.Service, and satisfies
// what the edge wants to know of its region.
type Cluster struct {
	cfg Config
}

// New checks the configuration.
func New(cfg Config) (*Cluster, error) {
	if _, ok := cfg.Topology.Region(cfg.Region); !ok {
		return nil, fmt.Errorf("cluster: region %q is not in the topology", cfg.Region)
	}
	return &Cluster{cfg: cfg}, nil
}

// Start joins the region. It doesn't wait until the node is in: see Ready.
func (c *Cluster) Start(ctx context.Context) error { return nil }

// Stop leaves the region without telling it.
func (c *Cluster) Stop() {}

// Serve answers the requests on a stream that a peer opened: for the links'
// handler of streams.
func (c *Cluster) Serve(ctx context.Context, from regions.NodeID, s io.ReadWriter) error { return nil }

// Ready waits until the node is up in its region's roster and its copy current
// for the first time.
func (c *Cluster) Ready(ctx context.Context) error { return nil }

// Err is why this start of the node can't take part in its region any more.
func (c *Cluster) Err() error { return nil }

// Owner returns the owner of a room in this region ("": nobody) and the slot's
// epoch.
func (c *Cluster) Owner(room string) (regions.NodeID, regions.Epoch) { return "", 0 }

// Slot returns the owner of a slot in this region ("": nobody) and its epoch.
func (c *Cluster) Slot(slot int) (regions.NodeID, regions.Epoch) { return "", 0 }

// OwnerIn returns the owner of a room in another region, as last heard.
func (c *Cluster) OwnerIn(region regions.RegionID, room string) regions.NodeID { return "" }

// Others returns the other regions.
func (c *Cluster) Others() []regions.RegionID { return nil }

// RegionOf returns the region of a node; "" if there is no such node.
func (c *Cluster) RegionOf(node regions.NodeID) regions.RegionID { return "" }

// Stays returns the region's sessions in a room, suspended ones included.
func (c *Cluster) Stays(room string) []regions.Stay { return nil }

// RoomsIn returns the rooms of a slot that sessions of this region are in.
func (c *Cluster) RoomsIn(slot int) []string { return nil }

// Current reports whether this node's copy of the roster was the region's
// latest less than 2 s ago.
func (c *Cluster) Current() bool { return false }

// Contact is the latest time at which this node's copy of the roster is known
// to have been the region's latest; zero: never.
func (c *Cluster) Contact() time.Time { return time.Time{} }

// Open has the region open a session.
func (c *Cluster) Open(ctx context.Context, o regions.Opening) (regions.Opened, error) {
	return regions.Opened{}, nil
}

// Enter has the region note that a session is in rooms.
func (c *Cluster) Enter(ctx context.Context, id regions.SessionID, rooms ...string) error { return nil }

// Leave notes that a session left rooms.
func (c *Cluster) Leave(id regions.SessionID, rooms ...string) {}

// Suspend notes that a session's connection is gone.
func (c *Cluster) Suspend(id regions.SessionID) {}

// Close notes that a session ended.
func (c *Cluster) Close(id regions.SessionID, reason wire.Reason) {}

// Settle waits until the region has all that Leave, Suspend and Close noted.
func (c *Cluster) Settle(ctx context.Context) error { return nil }

// LinkUp tells that a link to a node is up.
func (c *Cluster) LinkUp(node regions.NodeID) {}

// HeardSlots takes what another region says of its slots.
func (c *Cluster) HeardSlots(s *peer.Slots) {}

// HeardOwner takes what another region says of one room's owner.
func (c *Cluster) HeardOwner(region regions.RegionID, room string, owner regions.NodeID, epoch regions.Epoch) {
}

// Moves returns up to most of this node's slots that should go elsewhere.
func (c *Cluster) Moves(most int) []PlannedMove { return nil }

// Planned is signalled when Moves or Calm may have changed.
func (c *Cluster) Planned() <-chan struct{} { return nil }

// Calm reports whether no node changed in the last second.
func (c *Cluster) Calm() bool { return false }

// Move gives one of the slots to another node and returns its new epoch.
func (c *Cluster) Move(ctx context.Context, slot int, epoch regions.Epoch, to regions.NodeID) (regions.Epoch, error) {
	return 0, nil
}

// Drain has a node of the region take nothing new.
func (c *Cluster) Drain(ctx context.Context, node regions.NodeID) error { return nil }

// RemoveNode takes a node, dead or alive, out of the region.
func (c *Cluster) RemoveNode(ctx context.Context, node regions.NodeID) error { return nil }

// TransferLeadership has another node lead, if this one does.
func (c *Cluster) TransferLeadership(ctx context.Context) error { return nil }

// View calls f with the roster; f must keep only what its methods return.
func (c *Cluster) View(f func(s *roster.State, index uint64)) {}

// Leader is the region's leader as far as this node knows; "" for none.
func (c *Cluster) Leader() regions.NodeID { return "" }

// Members are the members of the region's consensus, as far as this node knows.
func (c *Cluster) Members() []consensus.Member { return nil }
