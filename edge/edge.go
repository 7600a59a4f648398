// Package edge holds the words and the small interfaces of a node's realtime
// side. Its parts:
//
//	transport/  WebTransport and WebSocket connections under one interface
//	admit/      how much a client may send
//	session/    one device's session: hello, requests, grace, close
//	share/      the choke point of positions: who sees which, and how finely
//	room/       one room as its owner sees it: a pure state machine
//	hub/        the rooms this node owns, the rooms its sessions are in, and the
//	            links to other nodes between them
//	nearby/     the map of discoverable people, spread over regions and nodes
//	interest/   what changes in the area that a screen shows
//
// The edge never imports core. What it needs of core it declares here, and
// internal/node passes it in. What sessions need of their region is Roster, what
// rooms need is hub.Roster; what carries frames between nodes is Links.
package edge

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// Identity is who a valid access token speaks for.
type Identity struct {
	User    string // uuid; of a fleet's gateway FleetUser
	Name    string // display name
	Login   string // uuid: ends with a sign-out; of a gateway that of its key
	Expires time.Time
}

// Verifier checks an access token by public key, without I/O.
// Its errors are CodeTokenExpired and CodeUnauthenticated.
type Verifier interface {
	Verify(token string) (Identity, error)
}

// Membership is a user's standing in a room, as of a version of the room's
// group that only grows.
type Membership struct {
	Role    string
	Name    string // the user's display name
	Version uint64
	Talk    Talk
}

// Talk is what a member has of a room's messages, their revisions, receipts and
// who is typing.
type Talk int

const (
	Talks   Talk = iota // reads and writes
	Listens             // reads: the conversation is over
	Looks               // neither: sees positions, in a room of two where nothing else is shared
)

// Members answers whether a user may be in a room. The answer is at least as
// new as version min, and may be cached below that. A user that is no member
// (or a room that does not exist: the two look the same) gets CodeNotMember;
// that error too is as of min or later.
type Members interface {
	Member(ctx context.Context, user, room string, min uint64) (Membership, error)
}

// Draft is a message before it is stored.
type Draft struct {
	Room, Sender, SenderName, ClientID, Body string

	ReplyTo     uint64
	Mentions    []string // user ids
	Attachments []string // ids of finished uploads

	// Queued, if not nil, is called as soon as what is stored in this room from then
	// on comes after this message; where that is not before it is stored, not at all.
	Queued func()
}

// Page says which messages are asked for: the newest below Before, the oldest above
// After, or (Revised) those revised after ChangedAfter; the newest of all if none of
// the three is set. At most one is.
type Page struct {
	Before, After uint64
	Revised       bool
	ChangedAfter  uint64
	Limit         int
}

// Last are the highest numbers of a room's messages and of their revisions; 0: there
// are none.
type Last struct{ Number, Change uint64 }

// Messages stores and reads the messages of rooms. Store returns after commit;
// a repeated (room, sender, client id) returns the first answer. spread says
// that the message is to be published: it is new, or so young that the first
// attempt may have ended before that, and it was not published elsewhere. What
// waits in it is bounded by itself.
type Messages interface {
	Store(ctx context.Context, d Draft) (m *wire.Message, spread bool, err error)
	// History returns messages as a viewer may see them, in ascending order of
	// number; those that were revised, as they are now, in ascending order of
	// change. more: there are others in that direction.
	History(ctx context.Context, viewer, room string, p Page) (ms []*wire.Message, more bool, err error)
	// Last returns the room's last numbers.
	Last(ctx context.Context, room string) (Last, error)
}

// Progress takes how far devices have got in rooms (core/chat).
type Progress interface {
	// Advance notes up to which messages a device has all, and somebody has seen
	// all. Lower numbers than before change nothing, and those above the room's last
	// count as that. It never blocks.
	Advance(room, user, device string, delivered, read uint64)
	// Lately returns how far those have got in a room of whom that was stored within
	// the last minute, who let it be known: it may have been told to nobody.
	Lately(ctx context.Context, room string) ([]*wire.Seen, error)
}

// Discreet says who tells nobody how far they have got, and is told nobody's.
type Discreet interface {
	// Discreet is asked often: the answer may come from a cache.
	Discreet(ctx context.Context, user string) (bool, error)
}

// Activity learns that something happened in a room; it must not block.
type Activity interface {
	Touch(room string, at time.Time)
}

// Roster is where a region keeps its sessions, as they tell it of themselves.
// What rooms ask of it, who owns them and who is in them, edge/hub declares.
type Roster interface {
	// Current reports whether this node heard of its region's leader of late.
	Current() bool
	// Open has the region open a session. Its errors are for the client.
	Open(ctx context.Context, o regions.Opening) (regions.Opened, error)
	// Enter has the region note that a session is in rooms, before it joins
	// them: what the roster doesn't know does not survive the owner. It returns
	// CodeSuperseded if the session is not the device's present one any more.
	// A hidden session stays out, and Leaves when it hides: a new owner shows
	// whoever the roster has, and nobody misses one that is not seen.
	Enter(ctx context.Context, id regions.SessionID, rooms ...string) error
	// The following are noted in the order of the calls for a session, again
	// and again until the region has them or the session is over; none blocks.
	Leave(id regions.SessionID, rooms ...string)
	Suspend(id regions.SessionID)
	Close(id regions.SessionID, reason wire.Reason)
}

// Settings are what users chose about how they are seen.
type Settings interface {
	// Invisible reports whether a user wants to be seen by nobody. It may
	// answer from a cache; a change is told to the sessions (session.Registry).
	Invisible(ctx context.Context, user string) (bool, error)
	// Seen notes that a user was here until now. It must not block.
	Seen(user string, at time.Time)
}

// Links carries frames to other nodes (regions/peerlink satisfies it through
// an adapter that encodes). None of its methods blocks.
type Links interface {
	// Send queues a frame on the ordered link to a node. If the link breaks or
	// overflows, everything queued is lost and the hub is told (LinkDown).
	Send(to regions.NodeID, f *peer.Frame)
	// SendFixes sends by datagram: it may be lost.
	SendFixes(to regions.NodeID, f *peer.Fixes)
}

// Client is a session as rooms see it.
type Client interface {
	// Member describes the session: user, name, login, device with epoch,
	// region, node, transport. The result is not changed after the session began.
	Member() *peer.Member
	// Deliver queues a frame. It never blocks and never calls back into the hub.
	Deliver(f *Frame)
	// Refused answers a request re (0: none) about a room with an error.
	Refused(re uint64, room string, err error)
	// Removed tells that the session is no longer in the room.
	Removed(room string, reason wire.Reason)
	// Superseded closes the session: its device is live under a higher epoch.
	Superseded(epoch uint64)
}

// Choosy is a Client that must not see some people where it is. What all of a room
// are sent it leaves out by itself; what is made for it alone asks first.
type Choosy interface {
	// Hidden returns those people, nil as long as they are not known. The map is
	// not changed; news comes as another one.
	Hidden() *map[string]bool
}

// Hub is what sessions use of rooms (edge/hub). Its methods don't block; what
// they cause comes through the Client. Calls for one client are made by one
// goroutine at a time and take effect in order.
type Hub interface {
	// Join puts the client into the room. The answer is one Snapshot frame with
	// the given re, and if it says recovered, the missed events after it; or
	// Refused. The same device at a lower epoch is replaced.
	Join(c Client, j Join)
	// Leave takes the client out of the room, with a reason others see.
	Leave(c Client, room string, reason wire.Reason)
	// Suspend marks the client's stays as suspended (its connection is gone):
	// nothing is delivered to it until the same device joins again.
	Suspend(c Client)
	// Gone takes the client out of all rooms: its grace time ran out, it said
	// bye, or it was fenced (reason MOVED: no leave event).
	Gone(c Client, reason wire.Reason)
	// Hide makes a client, in all its rooms, seen by nobody (others see it leave)
	// or seen again.
	Hide(c Client, hidden bool)
	// Membership returns a client's standing in a room that it is in, but for the
	// role, without asking core: who is in a room is checked again and again, and
	// put out where that fails. false: core is to be asked.
	Membership(c Client, room string) (Membership, bool)
	// Report spreads a fix to rooms that the client is in, and is silent where a
	// newer one is known. One without a point withdraws what the client reported
	// there. It returns the rooms that the client is not in.
	Report(c Client, fix *wire.Fix, rooms []string) (missing []string)
	// Post spreads a fix that is not of a session in its room (its device is
	// PostDevice), and keeps it for the room's owners until it lapses.
	Post(p *peer.Post)
	// Rooms returns those that the client is in, or about to be. The result is
	// not changed.
	Rooms(c Client) []string
	// Publish spreads a stored message.
	Publish(room string, m *wire.Message)
	// Typing tells the others in a room that the client's user is typing, or not any
	// more. Nobody keeps it. It is for clients that Membership lets write.
	Typing(c Client, room string, on bool)
}

// Join is a request to enter a room.
type Join struct {
	Room       string
	Re         uint64
	Hidden     bool             // to be seen by nobody
	Membership Membership       // as just checked
	Positions  []*wire.Position // from an earlier stay
	Last       Last             // as just read
}

// Codes of the failures that a realtime client can meet, as api/wire names and
// explains them.
const (
	CodeBadFrame        errs.Code = wire.CodeBadFrame
	CodeTooLarge        errs.Code = wire.CodeTooLarge
	CodeBadVersion      errs.Code = wire.CodeBadVersion
	CodeUnauthenticated errs.Code = wire.CodeUnauthenticated
	CodeTokenExpired    errs.Code = wire.CodeTokenExpired
	CodeSignedOut       errs.Code = wire.CodeSignedOut
	CodeBadDevice       errs.Code = wire.CodeBadDevice
	CodeBadRoom         errs.Code = wire.CodeBadRoom
	CodeForbidden       errs.Code = wire.CodeForbidden
	CodeNotMember       errs.Code = wire.CodeNotMember
	CodeNotJoined       errs.Code = wire.CodeNotJoined
	CodeTooManyRooms    errs.Code = wire.CodeTooManyRooms
	CodeBadCoordinates  errs.Code = wire.CodeBadCoordinates
	CodeBadFix          errs.Code = wire.CodeBadFix
	CodeFixInFuture     errs.Code = wire.CodeFixInFuture
	CodeFixTooOld       errs.Code = wire.CodeFixTooOld
	CodeBadMessage      errs.Code = wire.CodeBadMessage
	CodeBadRequest      errs.Code = wire.CodeBadRequest
	CodeRateLimited     errs.Code = wire.CodeRateLimited
	CodeRetry           errs.Code = wire.CodeRetry
	CodeHomeUnreachable errs.Code = wire.CodeHomeUnreachable
	CodeEnded           errs.Code = wire.CodeEnded
	CodeSuperseded      errs.Code = wire.CodeSuperseded
	CodeBadTicket       errs.Code = wire.CodeBadTicket
	CodeDraining        errs.Code = wire.CodeDraining
	CodeSlow            errs.Code = wire.CodeSlow
	CodeTimeout         errs.Code = wire.CodeTimeout
	CodeInternal        errs.Code = wire.CodeInternal
)
