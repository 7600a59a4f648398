package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// updates tells rooms what was changed about their groups: the outbox's events of a
// group become events of its room.
//
//	outbox ─▶ updates ══ Update ══▶ the room's owner in its home region: numbers them
//	                                └─▶ its nodes, and the other regions' owners
//
// The owner answers once they are numbered, and who does not own the room refuses, so
// what is told here is in a ring and is heard, or found missing, by whoever follows
// the room. All of a room's updates are numbered in its home region, whichever node
// relays them: numbered in one region and the next time in another, the second could
// overtake the first. While the home region can't be reached the relay's own does it.
//
// It is an outbox.Sink.
type updates struct {
	region regions.RegionID
	self   regions.NodeID
	home   func(ctx context.Context, room string) (regions.RegionID, error)
	owner  func(region regions.RegionID, room string) (regions.NodeID, regions.Epoch)
	here   func(room string, list []*wire.Update, epoch regions.Epoch) error
	call   func(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error)
	log    *slog.Logger

	ways ways
}

const (
	updateCall  = 2 * time.Second        // a node has so long to answer
	updateLimit = 4 * time.Second        // in which a room's owner is looked for again and again; then the outbox waits
	updatePause = 100 * time.Millisecond // until the next look
	updateBatch = 64                     // in one call
)

func newUpdates(r *Realtime, home func(ctx context.Context, room string) (regions.RegionID, error)) *updates {
	return &updates{
		region: r.region, self: r.cfg.ID, home: home, call: r.call, log: r.log,
		owner: func(in regions.RegionID, room string) (regions.NodeID, regions.Epoch) {
			if in == r.region {
				return r.Cluster.Owner(room)
			}
			return r.Cluster.SlotIn(in, regions.SlotOf(room))
		},
		here: r.Hub.Update,
	}
}

// Name satisfies outbox.Sink.
func (u *updates) Name() string { return "rooms" }

// AtOnce satisfies outbox.Wide: a room may be numbered far away.
func (*updates) AtOnce() int { return 64 }

// Send satisfies outbox.Sink.
func (u *updates) Send(ctx context.Context, events []outbox.Sent) error {
	room := events[0].Key
	if p := wire.CheckRoom(room); p != nil {
		u.log.ErrorContext(ctx, "an event of no room", "key", room)
		return nil // there is nobody to tell, ever
	}
	for len(events) > 0 {
		n := min(len(events), updateBatch)
		list := make([]*wire.Update, n)
		for i, e := range events[:n] {
			list[i] = &wire.Update{
				Id: e.ID.String(), Kind: e.Kind, Data: liveData(e, u.log), At: timestamppb.New(e.At), N: uint64(e.N),
			}
		}
		if err := u.tell(ctx, room, list); err != nil {
			return fmt.Errorf("tell %s: %w", room, err)
		}
		events = events[n:]
	}
	return nil
}

// liveData is what a client is told of an event. What is too much for a frame is
// left out: it is read over HTTP.
func liveData(e outbox.Sent, log *slog.Logger) string {
	if len(e.Data) > wire.MaxData {
		log.Warn("the data of an event are too much to be told", "kind", e.Kind, "bytes", len(e.Data))
		return "{}"
	}
	return string(e.Data)
}

// tell has updates numbered.
func (u *updates) tell(ctx context.Context, room string, list []*wire.Update) error {
	at, err := u.home(ctx, room)
	switch {
	case errors.Is(err, groups.ErrNotMember): // the group is gone
		at = u.region
	case err != nil: // not known just now: no other region must number it meanwhile
		return fmt.Errorf("home region: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, updateLimit)
	defer cancel()
	for {
		if at != u.region && !u.ways.open(at) {
			at = u.region
		}
		err := u.ask(ctx, at, room, list)
		if err == nil {
			return nil
		}
		if _, refused := errs.From(err); at != u.region && !refused && ctx.Err() == nil {
			u.ways.reached(at, false)
			at = u.region
			continue
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(updatePause): // another owner is about to be found
		}
	}
}

// ask asks the room's owner in a region, as far as this node knows who that is.
func (u *updates) ask(ctx context.Context, region regions.RegionID, room string, list []*wire.Update) error {
	owner, epoch := u.owner(region, room)
	switch owner {
	case "":
		if region != u.region {
			return errors.New("nothing was heard of that region yet")
		}
		return errNoOwner
	case u.self:
		return u.here(room, list, epoch)
	}
	ctx, cancel := context.WithTimeout(ctx, updateCall)
	defer cancel()
	_, err := u.call(ctx, owner, &peer.Call{Body: &peer.Call_Update{Update: &peer.Update{
		Room: room, Updates: list, Epoch: uint64(epoch),
	}}})
	if err == nil && region != u.region {
		u.ways.reached(region, true)
	}
	return err
}
