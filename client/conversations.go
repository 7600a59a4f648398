package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Conversation is a room with messages that the user is in, as the HTTP API lists it.
type Conversation struct {
	Room        string // group:…, direct:…, nearby:… or booking:…: to be joined by a session
	Scope       string // how the room begins
	Role        string
	Writes      bool // false: it is over, and still read
	Name        string
	Picture     string
	Peer        *ConversationPeer // of two people the other one
	LastMessage *Message          // without its reactions and files
	LastNumber  uint64            // of its messages
	LastChange  uint64            // of their revisions
	Delivered   uint64            // up to this message, a device of the user's has all
	Read        uint64            // up to this message, the user has seen all
	Unread      uint64
	Receipts    []Seen    // of two people how far the other one has got
	MutedUntil  time.Time // zero: it is not
	ActiveAt    time.Time
}

// ConversationPeer is the other one of two people.
type ConversationPeer struct {
	UserID         string `json:"user_id"`
	Username       string `json:"username"`
	ProfilePicture string `json:"profile_picture"`
}

type listedConversation struct {
	Room        string            `json:"room"`
	Scope       string            `json:"scope"`
	Role        string            `json:"role"`
	Writes      bool              `json:"writes"`
	Name        string            `json:"name"`
	Picture     string            `json:"picture"`
	Peer        *ConversationPeer `json:"peer"`
	LastMessage *storedMessage    `json:"last_message"`
	LastNumber  uint64            `json:"last_number"`
	LastChange  uint64            `json:"last_change"`
	Delivered   uint64            `json:"delivered"`
	Read        uint64            `json:"read"`
	Unread      uint64            `json:"unread"`
	Receipts    []Seen            `json:"receipts"`
	MutedUntil  *time.Time        `json:"muted_until"`
	ActiveAt    time.Time         `json:"active_at"`
}

func (c listedConversation) conversation() Conversation {
	out := Conversation{
		Room: c.Room, Scope: c.Scope, Role: c.Role, Writes: c.Writes, Name: c.Name, Picture: c.Picture, Peer: c.Peer,
		LastNumber: c.LastNumber, LastChange: c.LastChange, Delivered: c.Delivered, Read: c.Read, Unread: c.Unread,
		Receipts: c.Receipts, ActiveAt: c.ActiveAt,
	}
	if c.LastMessage != nil {
		out.LastMessage = new(c.LastMessage.message())
	}
	if c.MutedUntil != nil {
		out.MutedUntil = *c.MutedUntil
	}
	return out
}

// Conversations lists those of the user, groups' too: the one in which something was
// said last first.
func (a *API) Conversations(ctx context.Context) ([]Conversation, error) {
	all, err := pages[listedConversation](ctx, a, "/api/v1/conversations?limit=100", "conversations")
	out := make([]Conversation, len(all))
	for i, c := range all {
		out[i] = c.conversation()
	}
	return out, err
}

// Conversation is one that the user is in.
func (a *API) Conversation(ctx context.Context, room string) (Conversation, error) {
	var c listedConversation
	err := a.call(ctx, http.MethodGet, talkPath(room), nil, &c)
	return c.conversation(), err
}

// OpenConversation is the conversation with a friend, or with somebody who shares a
// group; it is made if there is none.
func (a *API) OpenConversation(ctx context.Context, userID string) (Conversation, error) {
	var c listedConversation
	err := a.call(ctx, http.MethodPost, "/api/v1/conversations", map[string]string{"user_id": userID}, &c)
	return c.conversation(), err
}

// LeaveConversation ends the user's part in one: of two people, the other one writes
// no more either.
func (a *API) LeaveConversation(ctx context.Context, room string) error {
	return a.call(ctx, http.MethodDelete, talkPath(room), nil, nil)
}

// Mute has nothing of a conversation notified until a time; the zero time ends that.
func (a *API) Mute(ctx context.Context, room string, until time.Time) error {
	in := map[string]time.Time{}
	if !until.IsZero() {
		in["until"] = until
	}
	return a.call(ctx, http.MethodPut, talkPath(room, "mute"), in, nil)
}

// Receipts are how far the people of a conversation have got, those who let it be
// known, and the user: for Room.Learn.
func (a *API) Receipts(ctx context.Context, room string) ([]Seen, error) {
	var out struct {
		Receipts []Seen `json:"receipts"`
	}
	return out.Receipts, a.call(ctx, http.MethodGet, talkPath(room, "receipts"), nil, &out)
}

// SetReceipts says how far a device has got, without a session; "" is the one that is
// signed in. Lower numbers change nothing.
func (a *API) SetReceipts(ctx context.Context, room, device string, delivered, read uint64) error {
	in := struct {
		Device    string `json:"device,omitempty"`
		Delivered uint64 `json:"delivered"`
		Read      uint64 `json:"read"`
	}{device, max(delivered, read), read}
	return a.call(ctx, http.MethodPut, talkPath(room, "receipts"), in, nil)
}

// ConversationSettings are what the user chose about all of their conversations.
type ConversationSettings struct {
	// Receipts is who is told how far the user has got: everyone or nobody, who is
	// told nobody's either. Empty in SetConversationSettings: unchanged.
	Receipts string `json:"receipts,omitempty"`
	// MessagesFrom is who may open a conversation: acquaintances, friends or nobody.
	MessagesFrom string `json:"messages_from,omitempty"`
}

// ConversationSettings reads them.
func (a *API) ConversationSettings(ctx context.Context) (s ConversationSettings, err error) {
	return s, a.call(ctx, http.MethodGet, "/api/v1/conversations/settings", nil, &s)
}

// SetConversationSettings changes them.
func (a *API) SetConversationSettings(ctx context.Context, to ConversationSettings) (s ConversationSettings, err error) {
	return s, a.call(ctx, http.MethodPut, "/api/v1/conversations/settings", to, &s)
}

func talkPath(room string, parts ...string) string {
	path := "/api/v1/conversations/" + url.PathEscape(room)
	for _, p := range parts {
		path += "/" + url.PathEscape(p)
	}
	return path
}
