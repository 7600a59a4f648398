package hub

import (
	"context"
	"errors"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// ErrRefused is in the chain of commit's error (see HandOver) if the region
// will not make that move any more: it moved the slot before, or the node can't
// have it. After any other error it may still happen.
var ErrRefused = errors.New("the region refused the move")

// SlotsMoved tells slots of this region that got another owner or epoch, in the
// order of the region's log.
func (h *Hub) SlotsMoved(moves []regions.SlotMove) {}

// Resync tells that changes were skipped: slots and rooms are compared with the
// roster.
func (h *Hub) Resync() {}

// RegionMoved tells slots of another region that have another owner.
func (h *Hub) RegionMoved(region regions.RegionID, slots []int) {}

// SessionSuspended tells that the roster has suspended a session that is in
// these rooms.
func (h *Hub) SessionSuspended(id regions.SessionID, rooms []string) {}

// SessionEnded tells that the roster has ended a session that was in these rooms.
func (h *Hub) SessionEnded(id regions.SessionID, rooms []string, reason wire.Reason) {}

// HandOver gives slots of this node, with all their rooms, to other nodes. The
// epoch of a move is the one that the slot has. give brings a part of a room to
// the other node's Receive; commit has the region make the move. A slot that
// could not be moved stays, and the error says why.
func (h *Hub) HandOver(
	ctx context.Context, moves []regions.SlotMove,
	give func(ctx context.Context, to regions.NodeID, part *peer.HandOver) error,
	commit func(ctx context.Context, m regions.SlotMove) error,
) error {
	return nil
}

// Receive takes a part of a room whose owner hands it over to this node.
func (h *Hub) Receive(from regions.NodeID, part *peer.HandOver) error { return nil }

// People returns a page of a room's people if this node owns the room (here),
// else who is to be asked ("": nobody owns it).
func (h *Hub) People(room, after string, limit int) (page *wire.PeoplePage, owner regions.NodeID, here bool) {
	return nil, "", false
}

// Hide makes a client seen by nobody, or seen again. See edge.Hub.
func (h *Hub) Hide(c edge.Client, hidden bool) {}
