package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/internal/errs"
)

// Messages is what the operations on messages need. Who may read and write is
// checked before it is called.
type Messages interface {
	// History returns up to limit messages of a room in ascending order: the
	// newest below before, the oldest above after, or with neither the newest.
	History(ctx context.Context, room string, before, after uint64, limit int) (messages []chat.Message, more bool, err error)
	// Send stores a message and spreads it to the room. A repeated one, by
	// room, sender and client id, is answered with the first.
	Send(ctx context.Context, d chat.Draft, senderName string) (chat.Message, error)
}

// Message is a stored message, with the field names of the realtime protocol.
type Message struct {
	Number     uint64    `json:"number" doc:"Dense per group from 1: the only order of messages"`
	ID         string    `json:"id" doc:"UUID"`
	Sender     string    `json:"sender" doc:"User id"`
	SenderName string    `json:"sender_name"`
	ClientID   string    `json:"client_id" doc:"Chosen by the sender's client"`
	Body       string    `json:"body"`
	SentAt     time.Time `json:"sent_at"`
}

func messageOf(m chat.Message) Message {
	return Message{
		Number: m.Number, ID: m.ID.String(), Sender: m.Sender.String(), SenderName: m.SenderName,
		ClientID: m.ClientID, Body: m.Body, SentAt: m.SentAt.UTC(),
	}
}

func (a *api) messageOperations() {
	const tag = "messages"

	type messagesInput struct {
		GroupID string `path:"group_id"`
		Before  uint64 `query:"before" maximum:"9007199254740991" doc:"Only messages below this number, the newest of them"`
		After   uint64 `query:"after" maximum:"9007199254740991" doc:"Only messages above this number, the oldest of them"`
		Limit   int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
	}
	type messagesOutput struct {
		Link string `header:"Link" doc:"The next page in the same direction, if there is one"`
		Body struct {
			Messages []Message `json:"messages" nullable:"false" doc:"In ascending order"`
			More     bool      `json:"more" doc:"There are others in that direction"`
		}
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
			list, more, err := a.Messages.History(ctx, id.Room(), in.Before, in.After, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &messagesOutput{}
			out.Body.Messages, out.Body.More = make([]Message, len(list)), more
			for i, m := range list {
				out.Body.Messages[i] = messageOf(m)
			}
			if more {
				next := "before=" + strconv.FormatUint(list[0].Number, 10)
				if in.After > 0 {
					next = "after=" + strconv.FormatUint(list[len(list)-1].Number, 10)
				}
				out.Link = "<" + prefix + "/groups/" + in.GroupID + "/messages?" + next + "&limit=" + strconv.Itoa(in.Limit) + `>; rel="next"`
			}
			return out, nil
		})

	type messageInput struct {
		GroupID string `path:"group_id"`
		Key     string `header:"Idempotency-Key" hidden:"true"`
		Body    struct {
			ClientID string `json:"client_id,omitempty" doc:"1 to 64 characters, unique per sender and group: makes a repeated request harmless"`
			Body     string `json:"body" doc:"1 to 4,000 characters"`
		}
	}
	type messageOutput struct{ Body Message }
	register(a, operation{id: "send-message", method: http.MethodPost, path: "/groups/{group_id}/messages", tag: tag, summary: "Send a message: stored when this is answered, and spread to the room", status: http.StatusCreated,
		apart: "a room's messages are stored in batches, and one of a client_id once; the key stands for client_id where that is absent, with at most 64 characters"},
		func(ctx context.Context, in *messageInput) (*messageOutput, error) {
			id, standing, err := a.standing(ctx, in.GroupID)
			if err != nil {
				return nil, err
			}
			clientID := in.Body.ClientID
			if clientID == "" {
				clientID = in.Key
			}
			m, err := a.Messages.Send(ctx, chat.Draft{Room: id.Room(), Sender: caller(ctx).User, ClientID: clientID, Body: in.Body.Body}, standing.Username)
			if err != nil {
				return nil, err
			}
			if m.Body != in.Body.Body {
				return nil, errKeyReused.At("body.client_id")
			}
			m.SenderName = standing.Username
			return &messageOutput{messageOf(m)}, nil
		})
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
