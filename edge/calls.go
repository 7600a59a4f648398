package edge

import (
	"context"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/errs"
)

// Codes of what goes wrong about calls.
const (
	CodeNoCall           errs.Code = wire.CodeNoCall
	CodeCallFull         errs.Code = wire.CodeCallFull
	CodeCallLocked       errs.Code = wire.CodeCallLocked
	CodeNotInCall        errs.Code = wire.CodeNotInCall
	CodeCallEnded        errs.Code = wire.CodeCallEnded
	CodeNoMedia          errs.Code = wire.CodeNoMedia
	CodeFloorUnavailable errs.Code = wire.CodeFloorUnavailable
	CodeBadDescription   errs.Code = wire.CodeBadDescription
)

// Calls is what sessions use of calls (media/host). What a call says by itself comes
// through session.Registry.Tell.
//
// Only Room and Ask may block. The others are called in order for a session, also
// beside an Ask of it, and for every session, whether it is in a call or not.
type Calls interface {
	// Room returns the room of a call; it never changes, so it is the caller's to
	// remember. CodeNoCall: there is no such call.
	Room(ctx context.Context, call string) (room string, err error)
	// Ask does what a session asks about a call in a room that it has joined, where it
	// has this standing. The answer is CallJoined, CallFloor or Done; errors are for the
	// client. One is under way per session, in the order in which they came.
	Ask(ctx context.Context, c Client, room string, as Membership, r *wire.CallRequest) (*wire.ServerFrame, error)
	// Suspend tells that a session's connection is gone: it stays in its calls.
	Suspend(c Client)
	// Resume tells that a device has a session with a connection here: a new one, or one
	// that goes on under a higher epoch.
	Resume(c Client)
	// Gone takes a session out of its calls. MOVED: its device is live, or was, under a
	// later one, which is in its calls instead.
	Gone(c Client, reason wire.Reason)
	// Left takes a session out of the call of a room that it left, or was put out of.
	Left(c Client, room string, reason wire.Reason)
}
