package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/internal/errs"
)

// Messages is what the operations on messages need: core/chat has most of it. Who may
// read and write is checked before it is called.
type Messages interface {
	History(ctx context.Context, viewer core.UserID, room string, p chat.Page) (chat.Listing, error)
	// Send stores a message and spreads it to the room. A repeated one, by
	// room, sender and client id, is answered with the first.
	Send(ctx context.Context, d chat.Draft, senderName string) (chat.Message, error)

	Edit(ctx context.Context, by chat.Actor, room string, number uint64, body string, mentions []core.UserID, ifChange *uint64) (chat.Message, error)
	Delete(ctx context.Context, by chat.Actor, room string, number uint64) (chat.Message, error)
	Hide(ctx context.Context, user core.UserID, room string, number uint64) error
	React(ctx context.Context, by chat.Actor, room string, number uint64, emoji string, on bool) (chat.Message, error)
	Pin(ctx context.Context, by chat.Actor, room string, number uint64, on bool) (chat.Message, error)
	Get(ctx context.Context, viewer core.UserID, room string, number uint64) (chat.Message, error)
	Pinned(ctx context.Context, viewer core.UserID, room string) ([]chat.Message, error)
	Edits(ctx context.Context, room string, number uint64) ([]chat.Edition, error)
	Search(ctx context.Context, viewer core.UserID, room, query, cursor string, limit int) (list []chat.Message, next string, err error)
}

// Message is a stored message, with the field names of the realtime protocol.
type Message struct {
	Number      uint64              `json:"number" doc:"Dense per room from 1: the only order of messages"`
	ID          string              `json:"id" doc:"UUID"`
	Sender      string              `json:"sender" doc:"User id"`
	SenderName  string              `json:"sender_name"`
	ClientID    string              `json:"client_id" doc:"Chosen by the sender's client"`
	Body        string              `json:"body"`
	SentAt      time.Time           `json:"sent_at"`
	ReplyTo     uint64              `json:"reply_to,omitempty" doc:"Number of the message that this answers"`
	Mentions    []string            `json:"mentions,omitempty" doc:"User ids"`
	Attachments []MessageAttachment `json:"attachments,omitempty"`
	EditedAt    *time.Time          `json:"edited_at,omitempty" doc:"Of the last edit"`
	Deleted     bool                `json:"deleted,omitempty" doc:"For everyone, or by you for yourself: nothing of it is left but its place"`
	Reactions   []MessageReaction   `json:"reactions,omitempty"`
	Pinned      bool                `json:"pinned,omitempty"`
	Change      uint64              `json:"change,omitempty" doc:"Which of the room's revisions made it so. Of two states of a message the one with the higher change is the truth"`
}

// MessageAttachment is a file that came with a message.
type MessageAttachment struct {
	ID        string `json:"id" doc:"UUID"`
	Name      string `json:"name"`
	Type      string `json:"type" doc:"Media type, by its content"`
	Size      int64  `json:"size" doc:"Bytes"`
	Width     int    `json:"width,omitempty" doc:"Pixels of an image"`
	Height    int    `json:"height,omitempty"`
	Thumbnail bool   `json:"thumbnail,omitempty" doc:"There is a small picture of it"`
}

// MessageReaction is an emoji, and who reacted with it.
type MessageReaction struct {
	Emoji string   `json:"emoji"`
	Count int      `json:"count"`
	Users []string `json:"users" nullable:"false" doc:"The first 20"`
}

func messageOf(m chat.Message) Message {
	w := m.Wire() // what is left out there is left out here
	out := Message{
		Number: m.Number, ID: w.Id, Sender: w.Sender, SenderName: m.SenderName, ClientID: m.ClientID, Body: m.Body, SentAt: m.SentAt.UTC(),
		ReplyTo: m.ReplyTo, Mentions: w.Mentions, Deleted: w.Deleted, Pinned: m.Pinned, Change: m.Change,
	}
	if !m.EditedAt.IsZero() {
		out.EditedAt = new(m.EditedAt.UTC())
	}
	for _, a := range m.Attachments {
		out.Attachments = append(out.Attachments, MessageAttachment{a.ID.String(), a.Name, a.Type, a.Size, a.Width, a.Height, a.Thumbnail})
	}
	for _, r := range w.Reactions {
		out.Reactions = append(out.Reactions, MessageReaction{r.Emoji, int(r.Count), r.Users})
	}
	return out
}

func messagesOf(list []chat.Message) []Message {
	out := make([]Message, len(list))
	for i, m := range list {
		out[i] = messageOf(m)
	}
	return out
}

func (a *api) messageOperations() {
	const tag = "messages"

	// Exported: of what is embedded, huma sees no other.
	type MessagesPage struct {
		Before uint64 `query:"before" maximum:"9007199254740991" doc:"Only messages below this number, the newest of them"`
		After  uint64 `query:"after" maximum:"9007199254740991" doc:"Only messages above this number, the oldest of them"`
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
	}
	type messagesOutput struct {
		Link string `header:"Link" doc:"The next page in the same direction, if there is one"`
		Body struct {
			Messages []Message `json:"messages" nullable:"false" doc:"In ascending order"`
			More     bool      `json:"more" doc:"There are others in that direction"`
			MoreNew  bool      `json:"more_new,omitempty" doc:"With around: there are newer ones, too"`
		}
	}
	list := func(ctx context.Context, room, path string, p chat.Page) (*messagesOutput, error) {
		l, err := a.Messages.History(ctx, caller(ctx).User, room, p)
		if err != nil {
			return nil, err
		}
		out := &messagesOutput{}
		out.Body.Messages, out.Body.More, out.Body.MoreNew = messagesOf(l.Messages), l.More, l.MoreNew
		if l.More {
			last := l.Messages[len(l.Messages)-1]
			next := "before=" + strconv.FormatUint(l.Messages[0].Number, 10)
			switch {
			case p.Revised:
				next = "changed_after=" + strconv.FormatUint(last.Change, 10)
			case p.After > 0:
				next = "after=" + strconv.FormatUint(last.Number, 10)
			}
			out.Link = "<" + prefix + path + "/messages?" + next + "&limit=" + strconv.Itoa(p.Limit) + `>; rel="next"`
		}
		return out, nil
	}
	type messagesInput struct {
		GroupID string `path:"group_id"`
		MessagesPage
	}
	register(a, operation{id: "list-messages", method: http.MethodGet, path: "/groups/{group_id}/messages", tag: tag, summary: "History of a group: the newest messages, or those before or after a number"},
		func(ctx context.Context, in *messagesInput) (*messagesOutput, error) {
			if in.Before > 0 && in.After > 0 {
				return nil, errs.New(errs.Invalid, "bad_request", "give before or after, not both").At("query.after")
			}
			id, _, err := a.standing(ctx, in.GroupID)
			if err != nil {
				return nil, err
			}
			return list(ctx, id.Room(), "/groups/"+in.GroupID, chat.Page{Before: in.Before, After: in.After, Limit: in.Limit})
		})
	type talkMessagesInput struct {
		Room string `path:"room" doc:"Such as group:UUID"`
		MessagesPage
		Around       uint64 `query:"around" maximum:"9007199254740991" doc:"Only messages around this number, which is among them"`
		ChangedAfter int64  `query:"changed_after" default:"-1" minimum:"-1" maximum:"9007199254740991" doc:"Only messages that were revised after this change, as they are now, in ascending order of change"`
	}
	register(a, operation{id: "list-conversation-messages", method: http.MethodGet, path: "/conversations/{room}/messages", tag: tag, summary: "History of a conversation: the newest messages, or those before, after or around a number, or those that were revised"},
		func(ctx context.Context, in *talkMessagesInput) (*messagesOutput, error) {
			p := chat.Page{Before: in.Before, After: in.After, Around: in.Around, Revised: in.ChangedAfter >= 0, Limit: in.Limit}
			given := 0
			for _, is := range []bool{p.Before > 0, p.After > 0, p.Around > 0, p.Revised} {
				if is {
					given++
				}
			}
			if given > 1 {
				return nil, errs.New(errs.Invalid, "bad_request", "give one of before, after, around and changed_after").At("query")
			}
			if p.Revised {
				p.ChangedAfter = uint64(in.ChangedAfter)
			}
			if _, err := a.conversation(ctx, in.Room); err != nil {
				return nil, err
			}
			return list(ctx, in.Room, "/conversations/"+in.Room, p)
		})

	type messageBody struct {
		ClientID    string   `json:"client_id,omitempty" doc:"1 to 64 characters, unique per sender and room: makes a repeated request harmless"`
		Body        string   `json:"body" doc:"1 to 4,000 characters; may be empty with attachments"`
		ReplyTo     uint64   `json:"reply_to,omitempty" maximum:"9007199254740991" doc:"Number of the message that this answers"`
		Mentions    []string `json:"mentions,omitempty" maxItems:"20" doc:"User ids; who is not in the conversation is left out"`
		Attachments []string `json:"attachments,omitempty" maxItems:"10" doc:"Ids of your finished uploads"`
	}
	type messageOutput struct{ Body Message }
	send := func(ctx context.Context, room, name, key string, b messageBody) (*messageOutput, error) {
		d := chat.Draft{Room: room, Sender: caller(ctx).User, ClientID: b.ClientID, Body: b.Body, ReplyTo: b.ReplyTo}
		if d.ClientID == "" {
			d.ClientID = key
		}
		var err error
		if d.Mentions, err = userIDs(b.Mentions, "body.mentions"); err != nil {
			return nil, err
		}
		for _, s := range b.Attachments {
			id, err := uuid.Parse(s)
			if err != nil {
				return nil, errs.New(errs.Invalid, "bad_request", "an attachment is the id of an upload").At("body.attachments")
			}
			d.Attachments = append(d.Attachments, id)
		}
		m, err := a.Messages.Send(ctx, d, name)
		if err != nil {
			return nil, err
		}
		if m.Body != b.Body && m.EditedAt.IsZero() && !m.Deleted {
			return nil, errKeyReused.At("body.client_id")
		}
		m.SenderName = name
		return &messageOutput{messageOf(m)}, nil
	}
	const once = "a room's messages are stored in batches, and one of a client_id once; the key stands for client_id where that is absent, with at most 64 characters"
	type messageInput struct {
		GroupID string `path:"group_id"`
		Key     string `header:"Idempotency-Key" hidden:"true"`
		Body    messageBody
	}
	register(a, operation{id: "send-message", method: http.MethodPost, path: "/groups/{group_id}/messages", tag: tag, summary: "Send a message: stored when this is answered, and spread to the room", status: http.StatusCreated, apart: once},
		func(ctx context.Context, in *messageInput) (*messageOutput, error) {
			id, standing, err := a.standing(ctx, in.GroupID)
			if err != nil {
				return nil, err
			}
			return send(ctx, id.Room(), standing.Username, in.Key, in.Body)
		})
	type talkMessageInput struct {
		Room string `path:"room" doc:"Such as group:UUID"`
		Key  string `header:"Idempotency-Key" hidden:"true"`
		Body messageBody
	}
	register(a, operation{id: "send-conversation-message", method: http.MethodPost, path: "/conversations/{room}/messages", tag: tag, summary: "Send a message in a conversation: stored when this is answered, and spread to the room", status: http.StatusCreated, apart: once,
		refuses: []int{http.StatusConflict}},
		func(ctx context.Context, in *talkMessageInput) (*messageOutput, error) {
			as, err := a.writer(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			return send(ctx, in.Room, as.Name, in.Key, in.Body)
		})
	a.revisionOperations()
}

// standing lets only members of the path's group pass.
func (a *api) standing(ctx context.Context, group string) (core.GroupID, groups.Standing, error) {
	id, err := groupID(group)
	if err != nil {
		return id, groups.Standing{}, err
	}
	st, err := a.Groups.Member(ctx, caller(ctx).User, id, 0)
	return id, st, err
}
