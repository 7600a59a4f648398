package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
)

// ask has the region carry a command out. If the answer was lost it asks again
// until ctx ends.
func (c *Cluster) ask(ctx context.Context, command *peer.RosterCommand) (*peer.RosterAnswer, error) {
	b, err := command.MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("cluster: encode command: %w", err)
	}
	for {
		result, err := c.node.Propose(ctx, b)
		switch {
		case err == nil:
			a := &peer.RosterAnswer{}
			if err := a.UnmarshalVT(result); err != nil {
				return nil, fmt.Errorf("cluster: decode answer: %w", err)
			}
			return a, nil
		case !errors.Is(err, consensus.ErrUnknown) || !pause(ctx, retryPause/5):
			return nil, err
		}
	}
}

// Open has the region open a session. Its errors are for the client.
func (c *Cluster) Open(ctx context.Context, o regions.Opening) (regions.Opened, error) {
	a, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_SessionOpen{SessionOpen: &peer.SessionOpen{
		User: o.User, Device: o.Device, Login: o.Login, Name: o.Name, Transport: o.Transport, Floor: uint64(o.Floor),
		Node: string(c.cfg.Self), Incarnation: c.cfg.Incarnation, Connection: o.Connection,
	}}})
	if a.GetCode() == peer.RosterCode_ROSTER_NO_SESSION {
		// It was opened, the answer lost, and ended for its silence since: it
		// takes a new connection.
		err = errors.New("the session of this connection is over")
	}
	if err := forClient(a, err); err != nil {
		return regions.Opened{}, err
	}
	opened := regions.Opened{
		Epoch: regions.Epoch(a.Epoch), Rooms: a.Rooms,
		PreviousNode: regions.NodeID(a.PreviousNode), PreviousEpoch: regions.Epoch(a.PreviousEpoch),
	}
	if a.Suspended {
		// The first answer was lost, then this node was given up for a moment.
		a, err = c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_SessionResume{SessionResume: &peer.SessionResume{
			User: o.User, Device: o.Device, Epoch: a.Epoch,
			Node: string(c.cfg.Self), Incarnation: c.cfg.Incarnation, Connection: o.Connection,
		}}})
		if err := forClient(a, err); err != nil {
			return regions.Opened{}, err
		}
		opened.Epoch = regions.Epoch(a.Epoch)
	}
	return opened, nil
}

// Enter has the region note that a session is in rooms. What was noted of the
// session before has gone first, and what is noted from now on goes after.
func (c *Cluster) Enter(ctx context.Context, id regions.SessionID, rooms ...string) error {
	w, back, err := c.wishes.enter(ctx, id, rooms)
	if err != nil {
		return forClient(nil, err)
	}
	a, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_RoomJoin{RoomJoin: &peer.RoomJoin{
		User: id.User, Device: id.Device, Epoch: uint64(id.Epoch), Rooms: rooms,
	}}})
	if a.GetCode() == peer.RosterCode_ROSTER_TOO_MANY {
		err = errs.New(errs.Conflict, wire.CodeTooManyRooms, "the session is in too many rooms: leave one first")
	} else {
		err = forClient(a, err)
	}
	c.wishes.entered(w, back, err != nil)
	return err
}

var errNotNow = errs.New(errs.Unavailable, wire.CodeRetry, "the region is busy with itself; try again").After(500 * time.Millisecond)

// forClient is what a client is told of a command that failed or was refused.
func forClient(a *peer.RosterAnswer, err error) error {
	switch {
	case errors.Is(err, consensus.ErrBusy):
		e, _ := errs.From(err)
		return errs.New(errs.RateLimited, wire.CodeRateLimited, "too much at once; try again").After(e.RetryAfter)
	case err != nil:
		return fmt.Errorf("%w: %w", errNotNow, err)
	}
	switch a.Code {
	case peer.RosterCode_ROSTER_OK:
		return nil
	case peer.RosterCode_ROSTER_SUPERSEDED, peer.RosterCode_ROSTER_NO_SESSION:
		return errs.New(errs.Conflict, wire.CodeSuperseded, "the device's session is another one now, or over")
	case peer.RosterCode_ROSTER_DRAINING:
		return errs.New(errs.Unavailable, wire.CodeDraining, "the node shuts down; connect elsewhere").After(100 * time.Millisecond)
	case peer.RosterCode_ROSTER_TOO_MANY:
		return errs.New(errs.RateLimited, wire.CodeRateLimited, "too many devices of the user, or rooms of the session").After(time.Minute)
	case peer.RosterCode_ROSTER_INVALID:
		return errs.New(errs.Invalid, wire.CodeBadRequest, "a name of the session or a room is empty or too long")
	default: // this node is not up, for now
		return fmt.Errorf("%w: refused: %v", errNotNow, a.Code)
	}
}
