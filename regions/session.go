package regions

import (
	"fmt"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// SessionID names a session: a device of a user, under the epoch that its
// region issued when it went live.
type SessionID struct {
	User, Device string
	Epoch        Epoch
}

// String is the session's name in logs.
func (id SessionID) String() string { return fmt.Sprintf("%s/%s@%d", id.User, id.Device, id.Epoch) }

// Opening is what a session's node tells the region to have it opened. The same
// Connection again, of the same node and incarnation, gets the same answer.
type Opening struct {
	User, Device, Login, Name string
	Transport                 wire.Transport
	Floor                     Epoch  // the epoch is to be higher: what client, ticket or node know of
	Connection                uint64 // unique in this start of the node, not 0
}

// Opened is a session that went live.
type Opened struct {
	Epoch Epoch
	// Where the device's session was before, if it had one that had not ended,
	// and the rooms of it, which it is in from the start.
	PreviousNode  NodeID
	PreviousEpoch Epoch
	Rooms         []string
}

// Stay is a session in a room, as the region's roster tells it.
type Stay struct {
	SessionID
	Login, Name string
	Node        NodeID // where it is live, or was last
	Transport   wire.Transport
	Suspended   bool
	Since       time.Time // of that state
}

// SlotMove is a slot that got another owner or a new epoch. Nobody may be "".
type SlotMove struct {
	Slot     int
	From, To NodeID
	Epoch    Epoch
}
