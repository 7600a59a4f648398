package host

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// Tell gives a session of this node something about a call. It doesn't block, and may
// lose it if the session has no connection: when it has one again, Resume comes.
type Tell func(to media.Session, e *wire.CallEvent)

// Links carry frames to other nodes. Neither blocks.
type Links interface {
	// Send queues a frame on the ordered link. If it breaks, what was queued is lost and
	// LinkDown comes.
	Send(to regions.NodeID, f *peer.CallFrame)
	// SendMedia sends a datagram: it may be lost. It keeps nothing of b.
	SendMedia(to regions.NodeID, b []byte)
	// Call asks another node, and waits for the answer.
	Call(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error)
}

// World is what there is of other regions.
type World interface {
	// Others are the other regions.
	Others() []regions.RegionID
	// Nodes are those of a region that may answer, the likeliest first.
	Nodes(r regions.RegionID) []regions.NodeID
}

// Config is what a Host is made of. Fields without "optional" are needed.
type Config struct {
	Self   regions.NodeID
	Region regions.RegionID
	// SFU of this node; nil: it takes no calls, and only passes on what its sessions ask.
	SFU       media.SFU
	Places    media.Places
	Book      media.Book
	Floor     media.Floor
	Positions media.Positions // optional: nobody is heard by where they are
	Links     Links
	World     World
	Tell      Tell
	ICE       media.ICE // optional: no servers

	MaxParticipants int           // optional: of a call; 100
	Silence         time.Duration // optional: how long an SFU may be silent before its participants are gone; 30 s
	Idle            time.Duration // optional: how long a call without participants goes on; 30 s
	DrainDeadline   time.Duration // optional: how long a participant may stay at an SFU that drains; 10 s

	Log     *slog.Logger          // optional
	Metrics prometheus.Registerer // optional
}

// Host is a node's part in calls. It is a run.Service.
type Host struct {
	cfg Config
}

// New returns one that is not started.
func New(cfg Config) (*Host, error) { return &Host{cfg: cfg}, nil }

// Start begins to take calls.
func (h *Host) Start(context.Context) error { return nil }

// Stop leaves all calls at once. Others find out by themselves.
func (h *Host) Stop() {}

// ---------------------------------------------------------------- sessions of this node

// Ask does what a session of this node asks, here or at the SFU of its region. The answer
// is CallJoined, CallFloor or Done; errors are for the client. room is the room of the
// call in which the session is. Requests of one session come one after the other.
func (h *Host) Ask(ctx context.Context, who media.Session, room string, r *wire.CallRequest) (*wire.ServerFrame, error) {
	return nil, media.ErrNoMedia
}

// Suspend tells that a session lost its connection: it stays in its calls.
func (h *Host) Suspend(who regions.SessionID) {}

// Resume tells that a session has a connection again, here, perhaps under a higher
// epoch and with another node before. It is told all of the calls that it is in.
func (h *Host) Resume(who media.Session) {}

// Gone takes a session out of its calls: it ended, for a reason as in wire.CallGone.
// One that the device replaced by a newer one is not gone: reason "moved".
func (h *Host) Gone(who regions.SessionID, reason string) {}

// Left takes a session out of the call in a room that it left or was put out of.
func (h *Host) Left(who regions.SessionID, room, reason string) {}

// ---------------------------------------------------------------- what others say

// HandleFrame takes a frame of another node, which the link has identified.
func (h *Host) HandleFrame(from regions.NodeID, region regions.RegionID, f *peer.CallFrame) {}

// HandleMedia takes a datagram of another node.
func (h *Host) HandleMedia(from regions.NodeID, b []byte) {}

// HandleAsk answers another node of the region for one of its sessions.
func (h *Host) HandleAsk(ctx context.Context, from regions.NodeID, a *peer.CallAsk) (*wire.ServerFrame, error) {
	return nil, media.ErrNoMedia
}

// HandleMeet answers the SFU of another region.
func (h *Host) HandleMeet(ctx context.Context, from regions.NodeID, m *peer.CallMeet) (*peer.CallMet, error) {
	return &peer.CallMet{}, nil
}

// LinkUp: the ordered link to a node works, nothing of before arrives any more.
func (h *Host) LinkUp(to regions.NodeID) {}

// LinkDown: what was queued for the node is lost.
func (h *Host) LinkDown(to regions.NodeID) {}

// Moved tells that a call of this region has another SFU.
func (h *Host) Moved(m regions.CallMove) {}

// Changed tells that a call's record is another now: locked, ended, heard otherwise.
func (h *Host) Changed(r media.Record) {}

// ---------------------------------------------------------------- the node's end

// Drain has all calls of this node go on at other nodes of the region. It returns when
// nobody is here any more, or ctx ends.
func (h *Host) Drain(ctx context.Context) error { return ctx.Err() }

// Calls is how many this node is the SFU of.
func (h *Host) Calls() int { return 0 }
