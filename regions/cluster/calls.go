package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/consensus"
	"github.com/mustermesh/muster/regions/roster"
)

// What a client is told of a call.
var (
	// ErrNoMedia: no node of the region that hosts media is up.
	ErrNoMedia = errs.New(errs.Unavailable, wire.CodeNoMedia, "the region has no media server that is up; try again").After(time.Second)
	// ErrTooManyCalls: the region has as many calls as it takes. To the client it
	// is what ErrNoMedia is.
	ErrTooManyCalls = errs.New(errs.Unavailable, wire.CodeNoMedia, "the region has too many calls; try again later").After(time.Minute)
	// ErrNoFloor: the call's home region can't agree on who has the floor, so
	// nobody new can have it.
	ErrNoFloor = errs.New(errs.Unavailable, wire.CodeFloorUnavailable, "the call's home region can't be asked for the floor; try again").After(500 * time.Millisecond)
	// ErrFloorQueue: too many wait for the floor.
	ErrFloorQueue = errs.New(errs.RateLimited, wire.CodeRateLimited, "too many wait for the floor; try again later").After(5 * time.Second)
)

// ErrStaleCall: the call has another place, or none.
var ErrStaleCall = errors.New("cluster: the call has another place now")

// PlaceCall returns which node is this region's SFU of a call, after one was
// chosen if there was none. Its errors are for the client: ErrNoMedia,
// ErrTooManyCalls, or that the region can't be asked now.
func (c *Cluster) PlaceCall(ctx context.Context, call regions.CallID, room string) (regions.CallPlace, error) {
	a, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_CallPlace{CallPlace: &peer.CallPlace{Call: string(call), Room: room}}})
	switch a.GetCode() {
	case peer.RosterCode_ROSTER_NO_MEDIA:
		return regions.CallPlace{}, ErrNoMedia
	case peer.RosterCode_ROSTER_TOO_MANY:
		return regions.CallPlace{}, ErrTooManyCalls
	case peer.RosterCode_ROSTER_INVALID:
		return regions.CallPlace{}, errs.New(errs.Invalid, wire.CodeBadRequest, "the name of a call or room is empty or too long, or the call is in another room")
	}
	if err := forClient(a, err); err != nil {
		return regions.CallPlace{}, err
	}
	return placeOf(a.Call), nil
}

func placeOf(c *peer.RosterCall) regions.CallPlace {
	return regions.CallPlace{
		Call: regions.CallID(c.GetCall()), Room: c.GetRoom(), Node: regions.NodeID(c.GetNode()), Epoch: regions.Epoch(c.GetEpoch()),
		Former: regions.NodeID(c.GetFormer()), FormerEpoch: regions.Epoch(c.GetFormerEpoch()),
	}
}

// KeepCalls has the region know that this node is still the SFU of these calls,
// present or former: every 30 s is often enough. It returns those of which it
// is not, in the epoch that is named.
func (c *Cluster) KeepCalls(ctx context.Context, calls []regions.CallPlace) (lost []regions.CallID, err error) {
	for part := range slices.Chunk(calls, roster.MaxKept) {
		keep := &peer.CallKeep{Node: string(c.cfg.Self), Incarnation: c.cfg.Incarnation}
		for _, p := range part {
			epoch := p.Epoch
			if p.Node != c.cfg.Self && p.Former == c.cfg.Self {
				epoch = p.FormerEpoch
			}
			keep.Calls = append(keep.Calls, &peer.CallKept{Call: string(p.Call), Epoch: uint64(epoch)})
		}
		a, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_CallKeep{CallKeep: keep}})
		switch {
		case err != nil:
			return lost, fmt.Errorf("keep calls: %w", err)
		case a.Code != peer.RosterCode_ROSTER_OK: // given up, perhaps by mistake: see Hooks.NodeLost
			return lost, fmt.Errorf("keep calls: refused: %v", a.Code)
		}
		for _, call := range a.Lost {
			lost = append(lost, regions.CallID(call))
		}
	}
	return lost, nil
}

// CallGone notes that nobody is left in a call at this node, its SFU since
// epoch. False if the call stays: those who are at its former SFU still are on
// their way. ErrStaleCall if its place is another one.
func (c *Cluster) CallGone(ctx context.Context, call regions.CallID, epoch regions.Epoch) (gone bool, err error) {
	a, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_CallGone{CallGone: &peer.CallGone{
		Call: string(call), Node: string(c.cfg.Self), Epoch: uint64(epoch),
	}}})
	return !a.GetMore(), calledOff(call, a, err)
}

// CallLeft notes that nobody is left in a call at this node, which was its SFU
// from epoch until the call was moved.
func (c *Cluster) CallLeft(ctx context.Context, call regions.CallID, epoch regions.Epoch) error {
	a, err := c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_CallLeft{CallLeft: &peer.CallLeft{
		Call: string(call), Node: string(c.cfg.Self), Epoch: uint64(epoch),
	}}})
	return calledOff(call, a, err)
}

func calledOff(call regions.CallID, a *peer.RosterAnswer, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("leave call %s: %w", call, err)
	case a.Code != peer.RosterCode_ROSTER_OK:
		return fmt.Errorf("%w: %s: %v", ErrStaleCall, call, a.Code)
	}
	return nil
}

// CallOf returns which node is this region's SFU of a call, as this node's copy
// of the roster has it; false if none is.
func (c *Cluster) CallOf(call regions.CallID) (p regions.CallPlace, ok bool) {
	c.View(func(s *roster.State, _ uint64) {
		var x *roster.Call
		if x, ok = s.Call(call); ok {
			p = placed(x)
		}
	})
	return p, ok
}

// CallsHere returns the calls that this node is, or while they move was, the
// SFU of: what it begins with after Hooks.Resync.
func (c *Cluster) CallsHere() (calls []regions.CallPlace) {
	var here []*roster.Call
	c.View(func(s *roster.State, _ uint64) { here = s.CallsOn(c.cfg.Self) })
	for _, x := range here {
		calls = append(calls, placed(x))
	}
	return calls
}

func placed(x *roster.Call) regions.CallPlace {
	return regions.CallPlace{
		Call: x.ID, Room: x.Room, Node: x.Place.Node, Epoch: x.Place.Epoch, Former: x.Former.Node, FormerEpoch: x.Former.Epoch,
	}
}

// AskFloor asks for the floor of a call that is at home in this region, or has
// a session's claim to it go on. Only an answer that says that it is yours gives
// it, for its lease from before AskFloor was called. ErrNoFloor if the region
// can't agree now; it may have, and the answer is lost: ask again.
func (c *Cluster) AskFloor(ctx context.Context, f regions.FloorAsk) (regions.FloorAnswer, error) {
	return c.floor(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_FloorAsk{FloorAsk: &peer.FloorAsk{
		Call: string(f.Call), User: f.Session.User, Device: f.Session.Device, Epoch: uint64(f.Session.Epoch),
		Region: string(f.Region), Node: string(f.Node), Priority: uint32(f.Priority), MaxTalkMs: uint64(max(f.MaxTalk, 0).Milliseconds()),
		Released: f.Released,
	}}})
}

// ReleaseFloor gives a floor, or a place in its queue, back. The lease ends at
// once if the session has that grant through that SFU, else in its time.
func (c *Cluster) ReleaseFloor(ctx context.Context, f regions.FloorRelease) (regions.FloorAnswer, error) {
	return c.floor(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_FloorRelease{FloorRelease: &peer.FloorRelease{
		Call: string(f.Call), User: f.Session.User, Device: f.Session.Device, Epoch: uint64(f.Session.Epoch),
		Node: string(f.Node), Grant: f.Grant,
	}}})
}

// TakeFloor has whoever has that grant not get it renewed. The next one gets the
// floor when the lease has ended: an SFU that can't be reached may still forward.
func (c *Cluster) TakeFloor(ctx context.Context, call regions.CallID, grant uint64) (regions.FloorAnswer, error) {
	return c.floor(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_FloorTake{FloorTake: &peer.FloorTake{Call: string(call), Grant: grant}}})
}

// FloorOf returns a call's floor as this node's copy of the roster has it: for
// show, since a lease may have ended or been renewed meanwhile.
func (c *Cluster) FloorOf(call regions.CallID) (a regions.FloorAnswer) {
	c.View(func(s *roster.State, _ uint64) { a = s.FloorOf(call) })
	return a
}

// floor asks for no longer than an answer could be of use.
func (c *Cluster) floor(ctx context.Context, command *peer.RosterCommand) (regions.FloorAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, regions.FloorLease)
	defer cancel()
	a, err := c.ask(ctx, command)
	switch {
	case errors.Is(err, consensus.ErrBusy):
		return regions.FloorAnswer{}, forClient(nil, err)
	case err != nil:
		return regions.FloorAnswer{}, fmt.Errorf("%w: %w", ErrNoFloor, err)
	case a.Code == peer.RosterCode_ROSTER_TOO_MANY:
		return regions.FloorAnswer{}, ErrFloorQueue
	case a.Code == peer.RosterCode_ROSTER_INVALID:
		return regions.FloorAnswer{}, errs.New(errs.Invalid, wire.CodeBadRequest, "a name of the call, session or SFU is empty or too long, or a number too high")
	case a.Code != peer.RosterCode_ROSTER_OK:
		return regions.FloorAnswer{}, forClient(a, nil)
	}
	f := a.Floor
	answer := regions.FloorAnswer{
		Lease:    time.Duration(f.GetLeaseMs()) * time.Millisecond,
		Position: int(f.GetPosition()), Waiting: int(f.GetWaiting()),
		Holder: regions.SessionID{User: f.GetUser(), Device: f.GetDevice(), Epoch: regions.Epoch(f.GetEpoch())},
		Region: regions.RegionID(f.GetRegion()), Grant: f.GetGrant(),
	}
	switch f.GetStanding() {
	case peer.FloorStanding_FLOOR_YOURS:
		answer.Standing = regions.FloorYours
	case peer.FloorStanding_FLOOR_WAITING:
		answer.Standing = regions.FloorWaiting
	case peer.FloorStanding_FLOOR_OVER:
		answer.Standing = regions.FloorOver
	}
	return answer, nil
}

// expireCalls has calls whose SFU says nothing end, and floors that nobody has
// or wants, as the leader. While there are none, nothing is written.
func (c *Cluster) expireCalls(ctx context.Context) {
	command := &peer.RosterCommand{Body: &peer.RosterCommand_CallExpire{CallExpire: &peer.CallExpire{
		KeepMs: uint64(c.cfg.CallKeep.Milliseconds()), Max: expireMost,
	}}}
	looked := time.Now()
	for pause(ctx, floorsEvery) {
		calls, floors := 0, 0
		c.View(func(s *roster.State, _ uint64) { calls, floors = s.Calls(), s.Floors() })
		if floors == 0 && (calls == 0 || time.Since(looked) < min(callsEvery, c.cfg.CallKeep/4)) {
			continue
		}
		looked = time.Now()
		for more := true; more; {
			a, err := c.ask(ctx, command)
			more = err == nil && a.More
		}
	}
}
