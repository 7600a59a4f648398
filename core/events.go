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
	RatingRevealed = "rating.revealed" // somebody rated the user, and it is revealed; with a RatingEvent
)

// FriendEvent is what an event about a friendship says.
type FriendEvent struct {
	User string `json:"user_id"` // the other one
	By   string `json:"by"`      // which of the two did it
}

// RatingEvent is what an event about a rating says.
type RatingEvent struct {
	Encounter string `json:"encounter_id"`
	User      string `json:"user_id,omitempty"` // who rated; absent: their account is gone
}

// Events of a group's money, under the key of GroupID.Room. Their data is a MoneyEvent.
const (
	ExpenseCreated    = "expense.created"
	ExpenseUpdated    = "expense.updated"
	ExpenseDeleted    = "expense.deleted"
	SettlementCreated = "settlement.created" // or a conversion
	SettlementUpdated = "settlement.updated" // undone, paid, failed
	BalanceChanged    = "balance.changed"    // who owes whom is to be read again
)

// MoneyEvent is what an event of a group's money says.
type MoneyEvent struct {
	Group      string `json:"group_id"`
	Expense    string `json:"expense_id,omitempty"`
	Settlement string `json:"settlement_id,omitempty"`
	Version    int64  `json:"version"` // of the expense or settlement; of balances, the number of the group's newest transaction
}

// Key is what the user's own events are ordered by: "user:<uuid>".
func (id UserID) Key() string { return "user:" + id.String() }

// Events of requests to talk to people nearby, under the key of UserID.Key: each
// goes to both, with a TalkEvent.
const (
	TalkRequested = "talk.requested" // one asks the other
	TalkAccepted  = "talk.accepted"  // there is a conversation now
	TalkDeclined  = "talk.declined"  // who was asked does not want to
	TalkCanceled  = "talk.canceled"  // who asked took it back, or nobody answered in time
	TalkEnded     = "talk.ended"     // the conversation is over
)

// TalkEvent is what an event about a talk says.
type TalkEvent struct {
	Request string `json:"request_id"`     // the talk's id, too
	User    string `json:"user_id"`        // the other one
	By      string `json:"by,omitempty"`   // which of the two did it; absent: it was time
	Room    string `json:"room,omitempty"` // of the talk, once there is one
}

// Events of conversations outside of groups, under the key of UserID.Key: each goes
// to those whom it concerns, with a ConversationEvent.
const (
	ConversationOpened  = "conversation.opened"  // there is one now, or again
	ConversationEnded   = "conversation.ended"   // nobody writes there any more
	ConversationLeft    = "conversation.left"    // by oneself
	ConversationUpdated = "conversation.updated" // muted or not, or what one chose about all of them
)

// ConversationEvent is what an event about a conversation says.
type ConversationEvent struct {
	Room string `json:"room,omitempty"`    // absent: all
	User string `json:"user_id,omitempty"` // of two people the other one
	By   string `json:"by,omitempty"`      // who did it; absent: nobody in it
}

// MessageHidden goes to a user, under the key of UserID.Key, with a MessageEvent: they
// deleted a message for themself alone, on one of their devices.
const MessageHidden = "message.hidden"

// MessageEvent is what an event about a message says.
type MessageEvent struct {
	Room   string `json:"room"`
	Number uint64 `json:"number"`
}

// PaymentUpdated goes to who pays, and to who gets it once it is paid, under the key of
// UserID.Key, with a PaymentEvent.
const PaymentUpdated = "payment.updated"

// PaymentEvent is what an event about a payment says.
type PaymentEvent struct {
	Payment string `json:"payment_id"`
	Status  string `json:"status"`
}

// Events of calls, with a CallEvent: under the key of GroupID.Room, or, for rooms that
// are no group's, under UserID.Key of each who is in them.
const (
	CallStarted = "call.started"
	CallChanged = "call.changed" // locked, or how one talks and hears in it
	CallEnded   = "call.ended"
)

// CallEvent is what an event about a call says.
type CallEvent struct {
	Call    string `json:"session_id"`
	Room    string `json:"room"`
	Type    string `json:"type"`         // "audio" or "video"
	By      string `json:"by,omitempty"` // who did it; absent: nobody was left in it
	Version int64  `json:"version"`
}
