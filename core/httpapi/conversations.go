package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/groups"
)

// Talks are conversations as their people see them: *chat.Conversations and
// *chat.Receipts.
type Talks struct {
	*chat.Conversations
	Receipts *chat.Receipts
}

// inRoom is what the caller may do in a conversation of whatever scope.
type inRoom struct {
	User core.UserID
	Name string // of the caller
	Role string // owner, admin or member
	Home string // region in which its messages are written
	// Writes is false in one that is over: it is still read.
	Writes bool
	// Moderates: they may delete and pin what others wrote.
	Moderates bool
}

// conversation lets only those pass who are in a conversation.
func (a *api) conversation(ctx context.Context, room string) (inRoom, error) {
	me := caller(ctx).User
	if id, ok := core.GroupOf(room); ok {
		st, err := a.Groups.Member(ctx, me, id, 0)
		if errors.Is(err, groups.ErrNotMember) {
			err = chat.ErrNotMember
		}
		return inRoom{me, st.Username, string(st.Role), st.Home, true, st.Role == groups.Owner || st.Role == groups.Admin}, err
	}
	if a.Talks == nil || len(room) > chat.MaxRoom || !utf8.ValidString(room) || strings.IndexByte(room, 0) >= 0 { // SQL's text can't hold it
		return inRoom{}, chat.ErrNotMember
	}
	st, err := a.Talks.Standing(ctx, me, room, 0)
	return inRoom{me, st.Name, st.Role, st.Home, st.Writes, false}, err
}

// Conversation is one that the signed-in user is in.
type Conversation struct {
	Room        string            `json:"room" doc:"group:<group_id>, direct:<user_id>:<user_id>, nearby:<talk_id> or booking:<id>: of the realtime protocol, too"`
	Scope       string            `json:"scope" enum:"group,direct,nearby,booking"`
	Role        string            `json:"role" enum:"owner,admin,member"`
	Writes      bool              `json:"writes" doc:"False: it is over, and still read"`
	Name        string            `json:"name" doc:"Of the group, or of the other one; empty if their account is gone"`
	Picture     string            `json:"picture" doc:"An https URL, or empty"`
	Peer        *ConversationPeer `json:"peer,omitempty" doc:"Of two people the other one"`
	LastMessage *Message          `json:"last_message,omitempty" doc:"Without its reactions and files; empty where it was deleted, for everyone or by you for yourself"`
	LastNumber  uint64            `json:"last_number" doc:"Of its messages"`
	LastChange  uint64            `json:"last_change" doc:"Of their revisions"`
	Delivered   uint64            `json:"delivered" doc:"Up to this message, a device of yours has all"`
	Read        uint64            `json:"read" doc:"Up to this message, you have seen all: the same on all of your devices"`
	Unread      uint64            `json:"unread" doc:"last_number less read"`
	Receipts    []RoomSeen        `json:"receipts" nullable:"false" doc:"Of two people how far the other one has got, if both of you let it be known. Of a group: see its receipts"`
	MutedUntil  *time.Time        `json:"muted_until,omitempty"`
	ActiveAt    time.Time         `json:"active_at" doc:"Its last message, or when you came in"`
}

// ConversationPeer is the other one of two people.
type ConversationPeer struct {
	UserID         string `json:"user_id"`
	Username       string `json:"username"`
	ProfilePicture string `json:"profile_picture" doc:"An https URL, or empty"`
	Rating         Rating `json:"rating"`
}

// RoomSeen is how far somebody has got in a conversation.
type RoomSeen struct {
	User      string `json:"user" doc:"User id"`
	Delivered uint64 `json:"delivered" doc:"Up to this message, a device of theirs has all"`
	Read      uint64 `json:"read" doc:"Up to this message, they have seen all"`
}

// ConversationSettings are what a user chose about all of their conversations.
type ConversationSettings struct {
	Receipts     string `json:"receipts" enum:"everyone,nobody" doc:"Who is told how far you have got; with nobody you are told nobody's. It still counts what is unread on all of your devices"`
	MessagesFrom string `json:"messages_from" enum:"acquaintances,friends,nobody" doc:"Who may open a conversation with you: friends and those who share a group, friends, nobody. It changes nothing about those that there are"`
}

func conversationOf(c chat.Conversation) Conversation {
	out := Conversation{
		Room: c.Room, Scope: string(c.Scope), Role: c.Role, Writes: c.Writes, Name: c.Name, Picture: c.Picture,
		LastNumber: c.LastNumber, LastChange: c.LastChange, Delivered: c.Own.Delivered, Read: c.Own.Read, Unread: c.Unread,
		Receipts: seenOf(c.Others), ActiveAt: c.Active,
	}
	if p := c.Peer; p != nil {
		out.Peer = &ConversationPeer{p.User.String(), p.Username, p.Picture, ratingOf(p.Rating)}
		out.Name, out.Picture = p.Username, p.Picture
	}
	if c.Last != nil {
		out.LastMessage = new(messageOf(*c.Last))
	}
	if !c.MutedUntil.IsZero() {
		out.MutedUntil = &c.MutedUntil
	}
	return out
}

func seenOf(list []chat.Seen) []RoomSeen {
	out := make([]RoomSeen, len(list))
	for i, s := range list {
		out[i] = RoomSeen{s.User.String(), s.Delivered, s.Read}
	}
	return out
}

const tagConversations = "conversations"

func (a *api) conversationOperations() {
	store := a.Talks
	// Whom one may write to is many in a big group.
	opens := newLimit("conversations", auth.Limit{Burst: 30, Every: time.Minute}, a.Now)

	type conversationsInput struct {
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"100"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type conversationsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Conversations []Conversation `json:"conversations" nullable:"false"`
		}
	}
	register(a, operation{id: "list-conversations", method: http.MethodGet, path: "/conversations", tag: tagConversations,
		summary: "All that you are in, groups, too, the one with the newest message first, with what is unread"},
		func(ctx context.Context, in *conversationsInput) (*conversationsOutput, error) {
			list, next, err := store.Conversations.Conversations(ctx, caller(ctx).User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &conversationsOutput{Link: nextPage("/conversations", in.Limit, next)}
			out.Body.Conversations = make([]Conversation, len(list))
			for i, c := range list {
				out.Body.Conversations[i] = conversationOf(c)
			}
			return out, nil
		})

	type conversationOutput struct{ Body Conversation }
	one := func(c chat.Conversation, err error) (*conversationOutput, error) {
		if err != nil {
			return nil, err
		}
		return &conversationOutput{conversationOf(c)}, nil
	}
	type openInput struct {
		Body struct {
			UserID string `json:"user_id"`
		}
	}
	register(a, operation{id: "open-conversation", method: http.MethodPost, path: "/conversations", tag: tagConversations, spreads: true,
		summary: "The conversation with a friend, or with somebody who shares a group; it is made if there is none. Who takes no messages from you is not there"},
		func(ctx context.Context, in *openInput) (*conversationOutput, error) {
			me := caller(ctx).User
			other, err := userID(in.Body.UserID, "body.user_id")
			if err != nil {
				return nil, err
			}
			if err := opens.take(ctx, me.String()); err != nil {
				return nil, err
			}
			return one(store.Open(ctx, me, other))
		})

	type roomInput struct {
		Room string `path:"room"`
	}
	register(a, operation{id: "get-conversation", method: http.MethodGet, path: "/conversations/{room}", tag: tagConversations, summary: "One that you are in"},
		func(ctx context.Context, in *roomInput) (*conversationOutput, error) {
			if _, err := a.conversation(ctx, in.Room); err != nil {
				return nil, err
			}
			return one(store.Conversation(ctx, caller(ctx).User, in.Room))
		})
	register(a, operation{id: "leave-conversation", refuses: []int{http.StatusConflict}, method: http.MethodDelete, path: "/conversations/{room}", tag: tagConversations, spreads: true,
		summary: "Leave it: you read it no more, and of two people the other one writes no more. A talk ends by it; of a group see there"},
		func(ctx context.Context, in *roomInput) (*Success, error) {
			st, err := a.conversation(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			if id, ok := core.GroupOf(in.Room); ok {
				return success(a.Groups.Leave(ctx, st.User, id))
			}
			if talk, ok := strings.CutPrefix(in.Room, "nearby:"); ok && st.Writes && a.Matching != nil {
				id, err := uuid.Parse(talk)
				if err != nil {
					return nil, chat.ErrNotMember
				}
				if err := a.Matching.End(ctx, st.User, id); err != nil {
					return nil, err
				}
			}
			return success(store.Leave(ctx, st.User, in.Room))
		})

	type muteInput struct {
		Room string `path:"room"`
		Body struct {
			Until *time.Time `json:"until,omitempty" doc:"Absent: everything is notified again"`
		}
	}
	register(a, operation{id: "mute-conversation", method: http.MethodPut, path: "/conversations/{room}/mute", tag: tagConversations,
		summary: "Have nothing of it notified until a time; it is still counted as unread"},
		func(ctx context.Context, in *muteInput) (*Success, error) {
			st, err := a.conversation(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			var until time.Time
			if in.Body.Until != nil {
				until = *in.Body.Until
			}
			return success(store.Mute(ctx, st.User, in.Room, until))
		})
	a.progressOperations()
}

func (a *api) progressOperations() {
	store := a.Talks

	type putReceiptsInput struct {
		Room string `path:"room"`
		Body struct {
			Device    string `json:"device,omitempty" maxLength:"64" doc:"Ignored: it is the one that is signed in, or names could be made up without end"`
			Delivered uint64 `json:"delivered" maximum:"9007199254740991"`
			Read      uint64 `json:"read" maximum:"9007199254740991"`
		}
	}
	register(a, operation{id: "put-receipts", method: http.MethodPut, path: "/conversations/{room}/receipts", tag: tagConversations,
		summary: "How far you have got. It only grows, and never beyond the last message: lower numbers change nothing"},
		func(ctx context.Context, in *putReceiptsInput) (*Success, error) {
			st, err := a.conversation(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			device := caller(ctx).Login.String()
			return success(store.Receipts.Set(ctx, in.Room, st.User, device, in.Body.Delivered, in.Body.Read))
		})

	type getReceiptsInput struct {
		Room string `path:"room"`
	}
	type getReceiptsOutput struct {
		Body struct {
			Receipts []RoomSeen `json:"receipts" nullable:"false" doc:"With your own"`
		}
	}
	register(a, operation{id: "get-receipts", method: http.MethodGet, path: "/conversations/{room}/receipts", tag: tagConversations,
		summary: "How far its people have got, those who let it be known: whether a message was delivered to somebody, or read, follows from that"},
		func(ctx context.Context, in *getReceiptsInput) (*getReceiptsOutput, error) {
			st, err := a.conversation(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			others, own, err := store.ReceiptsOf(ctx, st.User, in.Room)
			if err != nil {
				return nil, err
			}
			out := &getReceiptsOutput{}
			out.Body.Receipts = seenOf(append(others, own))
			return out, nil
		})

	type conversationSettingsOutput struct{ Body ConversationSettings }
	settings := func(s chat.Settings, err error) (*conversationSettingsOutput, error) {
		if err != nil {
			return nil, err
		}
		return &conversationSettingsOutput{ConversationSettings{string(s.Receipts), string(s.MessagesFrom)}}, nil
	}
	register(a, operation{id: "get-conversation-settings", method: http.MethodGet, path: "/conversations/settings", tag: tagConversations, summary: "What you chose about all of your conversations"},
		func(ctx context.Context, _ *struct{}) (*conversationSettingsOutput, error) {
			return settings(store.Settings(ctx, caller(ctx).User))
		})
	type conversationSettingsInput struct {
		Body struct {
			Receipts     string `json:"receipts,omitempty" enum:"everyone,nobody" doc:"Absent: unchanged"`
			MessagesFrom string `json:"messages_from,omitempty" enum:"acquaintances,friends,nobody" doc:"Absent: unchanged"`
		}
	}
	register(a, operation{id: "put-conversation-settings", method: http.MethodPut, path: "/conversations/settings", tag: tagConversations, summary: "Change that"},
		func(ctx context.Context, in *conversationSettingsInput) (*conversationSettingsOutput, error) {
			return settings(store.SetSettings(ctx, caller(ctx).User, chat.Settings{
				Receipts: chat.Audience(in.Body.Receipts), MessagesFrom: chat.Audience(in.Body.MessagesFrom),
			}))
		})
}

// writes is nil where the caller may write.
func (in inRoom) writes() error {
	if !in.Writes {
		return chat.ErrEnded
	}
	return nil
}
