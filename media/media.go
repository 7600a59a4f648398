// Package media holds the nouns of calls and the small interfaces between those who
// make one work. Its parts:
//
//	rtp/      packets: cache, numbering, layers; pure
//	choice/   who is heard: loudest, nearest; pure
//	cascade/  tracks between SFUs: framing and repair of loss; pure
//	signal/   offers and answers of one connection; a pure state machine
//	sfu/      packets from participants to participants; knows no calls
//	call/     one call as one SFU node sees it; a pure state machine
//	host/     a node's part in calls: runs the machines, joins all of the above
//
// A call is a media session in a room. A participant is a session in a call. Each
// region in which a call has participants has one node as its SFU; its participants
// stay there, and the SFUs of a call exchange what is wanted of each other.
//
// Media knows neither SQL, nor Raft, nor sockets of clients: what it needs of them it
// declares here, and internal/node passes it in.
package media

import (
	"context"
	"strings"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// Session is who asks for something in a call: a device's session, as the node says
// that has its connection. Who is no member of the call's room does not get here.
type Session struct {
	User, Device string
	Epoch        regions.Epoch
	Name         string         // of the user
	Node         regions.NodeID // that has its connection
	Role         string         // of the user in the call's room: "member", "admin" or "owner"
}

// ID names the session.
func (s Session) ID() regions.SessionID {
	return regions.SessionID{User: s.User, Device: s.Device, Epoch: s.Epoch}
}

// Record is a call as it is stored.
type Record struct {
	Call, Room string
	Type       string // "audio" or "video"
	Locked     bool   // nobody else joins
	PushToTalk bool
	Hearing    Hearing
	Home       regions.RegionID // of the room: where its talk floor is
	StartedAt  time.Time
	Ended      bool
	// Version grows with each change of the record: a lower one is older.
	Version uint64
}

// Moderates reports whether a session may mute and put out others, lock and end the
// call: admins and owners of a group; in rooms of two, both.
func (r Record) Moderates(s Session) bool {
	return s.Role == "admin" || s.Role == "owner" || !strings.HasPrefix(r.Room, "group:")
}

// Hearing are the weights by which who is heard is chosen.
type Hearing struct {
	Most     uint32  // streams at a time; 0: all
	Loudness float32 // weight, 0 to 1
	Nearness float32 // weight, 0 to 1
	Radius   float32 // metres, beyond which nobody is heard; 0: no limit
}

// On reports whether anything is chosen at all.
func (h Hearing) On() bool { return h.Most > 0 || h.Nearness > 0 || h.Radius > 0 }

// Wire is its form for clients.
func (h Hearing) Wire() *wire.CallHearing {
	return &wire.CallHearing{Most: h.Most, Loudness: h.Loudness, Nearness: h.Nearness, Radius: h.Radius}
}

// Book has the records of calls (core/calls). Its errors are for the client.
type Book interface {
	// Record reads one. ErrNoCall: there is none.
	Record(ctx context.Context, call string) (Record, error)
	// Lock and End change it, for one who moderates; all nodes hear of it by Changed of
	// their hosts.
	Lock(ctx context.Context, call string, by Session, locked bool) error
	End(ctx context.Context, call string, by Session) error
	// Joined notes that a user takes part.
	Joined(ctx context.Context, call, user string) error
	// Idle tells that nobody has been in the call for a while, as far as this node knows
	// of all regions. It ends it, unless somebody else says that it goes on.
	Idle(ctx context.Context, call string) error
	// Seen tells that the calls go on here, and returns their records as they are now.
	// One that is no more comes as Ended.
	Seen(ctx context.Context, calls []string) ([]Record, error)
}

// Places are where this region's roster has its calls (regions/cluster).
type Places interface {
	// CallOf is the SFU of a call in this region, from this node's copy.
	CallOf(call regions.CallID) (p regions.CallPlace, ok bool)
	// PlaceCall returns it, and makes one if there is none: the node with the fewest
	// calls for its capacity. Its errors are for the client.
	PlaceCall(ctx context.Context, call regions.CallID, room string) (regions.CallPlace, error)
	// KeepCalls has the region know that this node is still the SFU of these, present or
	// former. It returns those of which it is not.
	KeepCalls(ctx context.Context, calls []regions.CallPlace) (lost []regions.CallID, err error)
	// CallGone tells that nobody is in the call any more at this node, which has the
	// place under the epoch. false: somebody is on their way from the former one.
	CallGone(ctx context.Context, call regions.CallID, epoch regions.Epoch) (gone bool, err error)
	// CallLeft tells it of a former place.
	CallLeft(ctx context.Context, call regions.CallID, epoch regions.Epoch) error
	// Hosts are the region's nodes that are, or were, the SFU of a call.
	Hosts() []regions.NodeID
}

// Positions say where people of a room are, as its members may see them.
type Positions interface {
	// Positions returns the last known ones by user. The map is the caller's.
	Positions(ctx context.Context, room string) (map[string]geo.Point, error)
}

// Floor asks the home region of a call, through its Raft (regions/cluster).
// ErrFloorUnavailable: it can't be reached.
type Floor interface {
	Ask(ctx context.Context, home regions.RegionID, a regions.FloorAsk) (regions.FloorAnswer, error)
	Release(ctx context.Context, home regions.RegionID, r regions.FloorRelease) (regions.FloorAnswer, error)
	// Take takes it away from whoever has it under the grant.
	Take(ctx context.Context, home regions.RegionID, call regions.CallID, grant uint64) (regions.FloorAnswer, error)
}

// ICE gives a user's session the servers with which it can reach an SFU, or another
// participant.
type ICE func(user string) []*wire.CallIceServer

// What can go wrong for a client, by the codes of api/wire.
var (
	ErrNoCall           = errs.New(errs.NotFound, "no_call", "there is no such call in this room; it may be over")
	ErrCallFull         = errs.New(errs.Conflict, "call_full", "the call has as many participants as it may have")
	ErrCallLocked       = errs.New(errs.Forbidden, "call_locked", "the call is locked: an admin of the group can open it")
	ErrNotInCall        = errs.New(errs.Conflict, "not_in_call", "join the call first")
	ErrCallEnded        = errs.New(errs.Gone, "call_ended", "the call is over")
	ErrNoMedia          = errs.New(errs.Unavailable, "no_media", "no media server of the region takes calls right now; try again").After(time.Second)
	ErrFloorUnavailable = errs.New(errs.Unavailable, "floor_unavailable", "the region that keeps the call's talk floor can't be reached right now; try again").After(time.Second)
	ErrBadDescription   = errs.New(errs.Invalid, "bad_description", "the session description is not one that can be answered")
	ErrBadRequest       = errs.New(errs.Invalid, wire.CodeBadRequest, "the request about the call is not a valid one")
	ErrForbidden        = errs.New(errs.Forbidden, wire.CodeForbidden, "this is for those who moderate the call")
	ErrSuperseded       = errs.New(errs.Conflict, wire.CodeSuperseded, "the device is in the call under a later session")
	ErrRetry            = errs.New(errs.Unavailable, wire.CodeRetry, "the call changes its media server right now; try again").After(time.Second)
)
