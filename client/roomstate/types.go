package roomstate

import (
	"encoding/json"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

// Member is one user in the room with their devices: one entry per user,
// however many devices.
type Member struct {
	User    string
	Name    string
	State   wire.State // LIVE if any device is, else SUSPENDED
	Devices []Device
}

// Live reports whether any of the user's devices is connected now.
func (m Member) Live() bool { return m.State == wire.State_LIVE }

// Unknown reports whether nobody can say how the user stands now: none of their
// devices is in a region that can be reached.
func (m Member) Unknown() bool {
	return !slices.ContainsFunc(m.Devices, func(d Device) bool { return d.UnknownSince.IsZero() })
}

// MemberOf turns the frame's form into ours, with the devices that are present.
func MemberOf(p *wire.Person) Member {
	m := Member{User: p.GetUser(), Name: p.GetName()}
	var t tally
	for _, d := range p.GetDevices() {
		switch d.GetState() {
		case wire.State_LIVE:
			t.live++
		case wire.State_SUSPENDED:
			t.suspended++
		default:
			continue
		}
		m.Devices = append(m.Devices, deviceOf(d, d.GetRegion()))
	}
	m.State = t.state()
	return m
}

// Counts say how many people (not devices) are in a room: one whose devices are
// all suspended counts as suspended.
type Counts struct {
	Live      int
	Suspended int
	// Truncated: Members and Fixed have only some of them, the frames' pages
	// of people have all.
	Truncated bool
}

// Device is what is known of one device of a member.
type Device struct {
	ID        string
	Epoch     uint64 // of its session
	State     wire.State
	Region    string
	Node      string
	Transport wire.Transport
	Since     time.Time
	Reason    wire.Reason // when left
	// UnknownSince is when the device's region was last heard of, while it can't
	// be reached: the state is that of then. Zero: it is heard of. Only Members
	// fills it in.
	UnknownSince time.Time
}

// PostDevice stands for the device in fixes that came otherwise than through a
// session in the room, and in all that are told coarsely: a user has at most one.
const PostDevice = "http"

// Fix is one location report of a member's device.
type Fix struct {
	User     string
	Device   string
	Epoch    uint64 // of the session that reported it
	N        uint64 // (Epoch, N) orders the fixes of a device
	Point    geo.Point
	Accuracy float64  // metres, 68 %; 0 = unknown
	Speed    *float64 // m/s
	Heading  *float64 // degrees from true north
	Battery  *float64 // 0 to 1
	// Cell is where the position is told coarsely: its centre is Point and its
	// radius Accuracy. 0: Point is exact.
	Cell     geo.Cell
	Captured time.Time
}

// Age returns how old the fix is. When it is too old to be shown is for the
// application to say; the server's snapshots leave it out after 15 minutes, one
// that is told coarsely after 30.
func (f Fix) Age(now time.Time) time.Duration { return max(0, now.Sub(f.Captured)) }

// Message is a stored message of the room.
type Message struct {
	Number     uint64 // dense from 1: the only order of messages
	ID         string
	Sender     string
	SenderName string
	ClientID   string
	Body       string
	SentAt     time.Time

	ReplyTo     uint64   // number of the message that it answers; 0: none
	Mentions    []string // user ids
	Attachments []Attachment
	EditedAt    time.Time // zero: never
	Deleted     bool      // for everyone, or by the user for themself: number, id, sender and times are left
	Reactions   []Reaction
	Pinned      bool
	// Change is which of the room's revisions made it so; 0: it is as it was sent.
	// Of two states of a message the one with the higher change is the truth.
	Change uint64
}

// Attachment is a file that came with a message. The HTTP API has it.
type Attachment struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Type      string `json:"type"` // media type, by its content
	Size      uint64 `json:"size"`
	Width     int    `json:"width"` // of an image, else 0
	Height    int    `json:"height"`
	Thumbnail bool   `json:"thumbnail"` // there is a small picture of it
}

// Reaction is one emoji under a message.
type Reaction struct {
	Emoji string   `json:"emoji"`
	Count int      `json:"count"`
	Users []string `json:"users"` // the first of them
}

// Seen is how far somebody has got, on whatever device: up to Delivered they have
// all messages, up to Read they have seen them.
type Seen struct {
	User      string `json:"user"`
	Delivered uint64 `json:"delivered"`
	Read      uint64 `json:"read"`
}

// Event is a change that the application should see.
type Event interface{ event() }

// PresenceChanged says that a device came, was suspended, resumed or left.
type PresenceChanged struct {
	User   string
	Name   string
	Device Device
	State  wire.State // of the user, of all devices: LEFT if none is present
}

// FixChanged carries a newer fix of a member's device.
type FixChanged struct{ Fix Fix }

// FixWithdrawn says that a device's position is not told any more.
type FixWithdrawn struct{ User, Device string }

// MessageArrived carries the next message of the room. Numbers come without
// holes and never twice.
type MessageArrived struct{ Message Message }

// Revised carries a message that was edited, deleted, pinned or reacted to, as it is
// now. It may be one of before the stay; then it is as it is for everyone, unless the
// room knows that the user has deleted it for themself: what an application has as
// deleted stays so.
type Revised struct{ Message Message }

// ReceiptsChanged says how far some have got now.
type ReceiptsChanged struct{ Seen []Seen }

// RegionReplaced says that what is known of a region was replaced by a
// snapshot. The changes it brought were sent as events of their own before it.
type RegionReplaced struct {
	Region string
	// Recovered is false when events were lost on the way: the state is right,
	// but what led there was not seen.
	Recovered bool
	// Late: nothing was known of the region since the room was joined, or since it
	// was lost. What was told there meanwhile, such as an update, was not heard.
	Late bool
	// Truncated: the snapshot had only some of the region's people. Those
	// beyond are no longer known, without an event of their own.
	Truncated bool
}

// RegionChanged says that a region can't be heard any more, is given up, or is
// heard again. What was missed of it came before.
type RegionChanged struct{ Reach Reach }

// GroupChanged says that the group behind the room changed: read it again.
type GroupChanged struct{ Version uint64 }

// Crossing is somebody who entered or left a fence of the group, or two members
// who met or parted.
type Crossing struct {
	ID     string // of this crossing alone
	Kind   wire.Crossing_Kind
	Fence  string // its id; empty: two members
	Name   string // of the fence
	User   string
	Other  string    // the second of two members
	At     time.Time // by when the positions were captured that tell it
	Passed bool      // through, between two positions
}

// Crossed carries a crossing, each once. Those that nobody told this client, as
// it was not there, are in the list of the HTTP API.
type Crossed struct{ Crossing Crossing }

// Update is something that was changed about the group behind the room.
type Update struct {
	ID   string          // of this change alone
	Kind string          // such as "group.joined"
	Data json.RawMessage // an object of ids
	At   time.Time
	N    uint64 // counts the room's updates
}

// Updated carries an update, each once: what its kind says is to be read again.
// Missed: there were others before it that did not come, so all of it is.
type Updated struct {
	Update Update
	Missed bool
}

func (PresenceChanged) event() {}
func (FixChanged) event()      {}
func (FixWithdrawn) event()    {}
func (MessageArrived) event()  {}
func (Revised) event()         {}
func (ReceiptsChanged) event() {}
func (RegionReplaced) event()  {}
func (RegionChanged) event()   {}
func (GroupChanged) event()    {}
func (Crossed) event()         {}
func (Updated) event()         {}

// Counters count what came and what was dropped, so that tests and benchmarks
// can assert on it.
type Counters struct {
	Snapshots          uint64
	Events             uint64 // applied
	DuplicateEvents    uint64 // dropped: seq at or below the position
	Gaps               uint64 // times a region had to be asked again
	Fixes              uint64 // applied
	StaleFixes         uint64 // dropped: not newer than what is known
	DuplicateMessages  uint64
	DuplicateCrossings uint64
	DuplicateUpdates   uint64
	StalePresence      uint64 // dropped: from a lower session epoch
	StaleParts         uint64 // of snapshots, dropped: below the position
}

func messageOf(m *wire.Message) Message {
	out := Message{
		Number: m.GetNumber(), ID: m.GetId(), Sender: m.GetSender(), SenderName: m.GetSenderName(),
		ClientID: m.GetClientId(), Body: m.GetBody(), SentAt: m.GetSentAt().AsTime(),
		ReplyTo: m.GetReplyTo(), Mentions: m.GetMentions(), Deleted: m.GetDeleted(), Pinned: m.GetPinned(), Change: m.GetChange(),
	}
	if t := m.GetEditedAt(); t != nil {
		out.EditedAt = t.AsTime()
	}
	for _, a := range m.GetAttachments() {
		out.Attachments = append(out.Attachments, Attachment{
			ID: a.GetId(), Name: a.GetName(), Type: a.GetType(), Size: a.GetSize(),
			Width: int(a.GetWidth()), Height: int(a.GetHeight()), Thumbnail: a.GetThumbnail(),
		})
	}
	for _, r := range m.GetReactions() {
		out.Reactions = append(out.Reactions, Reaction{Emoji: r.GetEmoji(), Count: int(r.GetCount()), Users: r.GetUsers()})
	}
	return out
}

func crossingOf(c *wire.Crossing) Crossing {
	return Crossing{
		ID: c.GetId(), Kind: c.GetKind(), Fence: c.GetFence(), Name: c.GetName(), User: c.GetUser(), Other: c.GetOther(),
		At: c.GetAt().AsTime(), Passed: c.GetPassed(),
	}
}

// UpdateOf turns the frame's form into ours. A Notice has the same fields.
func UpdateOf(u interface {
	GetId() string
	GetKind() string
	GetData() string
	GetAt() *timestamppb.Timestamp
	GetN() uint64
}) Update {
	return Update{ID: u.GetId(), Kind: u.GetKind(), Data: json.RawMessage(u.GetData()), At: u.GetAt().AsTime(), N: u.GetN()}
}

func countsOf(c *wire.Counts) Counts {
	return Counts{Live: int(c.GetLive()), Suspended: int(c.GetSuspended())}
}

// MessageOf turns the frame's form into ours.
func MessageOf(m *wire.Message) Message { return messageOf(m) }

// FixOf turns the frame's form into ours.
func FixOf(m *wire.MemberFix) Fix { return fixOf(m) }

func fixOf(m *wire.MemberFix) Fix {
	w := m.GetFix()
	f := Fix{
		User: m.GetUser(), Device: m.GetDevice(), Epoch: m.GetEpoch(), N: w.GetN(),
		Point:    geo.Point{Lat: w.GetPoint().GetLat(), Lng: w.GetPoint().GetLng()},
		Accuracy: float64(w.GetAccuracy()),
		Captured: w.GetCaptured().AsTime(),
		Cell:     geo.Cell(w.GetCell()),
	}
	if w != nil && w.Battery != nil {
		f.Battery = new(float64(*w.Battery))
	}
	if w != nil && w.Speed != nil {
		f.Speed = new(float64(*w.Speed))
	}
	if w != nil && w.Heading != nil {
		f.Heading = new(float64(*w.Heading))
	}
	return f
}

func deviceOf(d *wire.Device, region string) Device {
	dev := Device{
		ID: d.GetDevice(), Epoch: d.GetEpoch(), State: d.GetState(), Region: region, Node: d.GetNode(),
		Transport: d.GetTransport(), Reason: d.GetReason(),
	}
	if t := d.GetSince(); t != nil {
		dev.Since = t.AsTime()
	}
	return dev
}
