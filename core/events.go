package core

// The kinds of events that changes leave in the outbox, in their transactions,
// for whoever watches: rooms and their members, all devices of a user, webhooks.
//
// An event says that something changed and whom it is about, with ids only. It
// may come twice, and never comes instead of the truth: who hears one reads that
// over HTTP, and who was away reads it anyway.

// Events of a group, under the key of GroupID.Room. Their data is a GroupEvent.
const (
	GroupUpdated     = "group.updated"     // what it says of itself, or its settings
	GroupJoined      = "group.joined"      // by a code, or from the directory
	GroupLeft        = "group.left"        // by oneself
	GroupRemoved     = "group.removed"     // by an admin
	GroupBanned      = "group.banned"      // removed, if in, and not to come back
	GroupUnbanned    = "group.unbanned"    //
	GroupRole        = "group.role"        // member or admin
	GroupTransferred = "group.transferred" // user_id is the owner now, by was
	GroupDeleted     = "group.deleted"     //
)

// GroupEvent is what an event of a group says.
type GroupEvent struct {
	Group   string `json:"group_id"`
	User    string `json:"user_id,omitempty"` // whom it is about
	By      string `json:"by,omitempty"`      // who did it, where that is somebody else
	Role    string `json:"role,omitempty"`    // of user_id, now
	Version uint64 `json:"version"`           // of the group, as of the change
}

// Events of a user, under the key of UserID.Key.
const (
	FriendRequested = "friend.requested" // one asks the other; each of these five goes to both, with a FriendEvent
	FriendAccepted  = "friend.accepted"  // they are friends now
	FriendDeclined  = "friend.declined"  // who was asked does not want to
	FriendCanceled  = "friend.canceled"  // who asked took it back
	FriendRemoved   = "friend.removed"   // they are friends no more

	Notified       = "notification"    // there is a notification to read
	ProfileUpdated = "profile.updated" // name, picture or settings
	LoginEnded     = "login.ended"     // one of the user's devices was signed out
)

// FriendEvent is what an event about a friendship says.
type FriendEvent struct {
	User string `json:"user_id"` // the other one
	By   string `json:"by"`      // which of the two did it
}

// Key is what the user's own events are ordered by: "user:<uuid>".
func (id UserID) Key() string { return "user:" + id.String() }
