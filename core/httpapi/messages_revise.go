package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
)

// Edition is what a message said before it was edited.
type Edition struct {
	Body string    `json:"body"`
	At   time.Time `json:"at" doc:"When it was written"`
}

// FoundMessage is a message that a search found.
type FoundMessage struct {
	Room string `json:"room"`
	Message
}

// revisionOperations are what becomes of messages after they were sent.
func (a *api) revisionOperations() {
	const (
		tag  = "messages"
		path = "/conversations/{room}/messages/{number}"
		same = "done again it changes nothing; rooms count their revisions under a lock that a stored answer would hold for too long"
	)
	conflict := []int{http.StatusConflict}

	type revisedOutput struct{ Body Message }
	answer := func(m chat.Message, err error) (*revisedOutput, error) {
		if err != nil {
			return nil, err
		}
		return &revisedOutput{messageOf(m)}, nil
	}
	// Exported: of what is embedded, huma sees no other.
	type OneMessage struct {
		Room   string `path:"room" doc:"Such as group:UUID"`
		Number uint64 `path:"number" minimum:"1" maximum:"9007199254740991"`
	}
	register(a, operation{id: "get-message", method: http.MethodGet, path: path, tag: tag, summary: "A message as it is now"},
		func(ctx context.Context, in *OneMessage) (*revisedOutput, error) {
			as, err := a.conversation(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			return answer(a.Messages.Get(ctx, as.User, in.Room, in.Number))
		})
	type editInput struct {
		OneMessage
		Body struct {
			Body     string   `json:"body" doc:"1 to 4,000 characters"`
			Mentions []string `json:"mentions,omitempty" maxItems:"20" doc:"User ids; they replace those of before"`
			Change   *uint64  `json:"change,omitempty" maximum:"9007199254740991" doc:"Only if this is still the message's change; else 409"`
		}
	}
	register(a, operation{id: "edit-message", method: http.MethodPatch, path: path, tag: tag, refuses: conflict, apart: same,
		summary: "Edit a message of yours, within 24 hours. What it said before stays readable"},
		func(ctx context.Context, in *editInput) (*revisedOutput, error) {
			as, err := a.writer(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			mentions, err := userIDs(in.Body.Mentions, "body.mentions")
			if err != nil {
				return nil, err
			}
			return answer(a.Messages.Edit(ctx, as.actor(), in.Room, in.Number, in.Body.Body, mentions, in.Body.Change))
		})
	type deleteInput struct {
		OneMessage
		For string `query:"for" default:"everyone" enum:"everyone,me"`
	}
	register(a, operation{id: "delete-message", method: http.MethodDelete, path: path, tag: tag, apart: same,
		summary: "Delete a message for everyone (yours; as an admin anybody's) with all that it said and brought, or any for yourself alone"},
		func(ctx context.Context, in *deleteInput) (*Success, error) {
			as, err := a.conversation(ctx, in.Room) // also in a conversation that is over
			if err != nil {
				return nil, err
			}
			if in.For == "me" {
				return success(a.Messages.Hide(ctx, as.User, in.Room, in.Number))
			}
			_, err = a.Messages.Delete(ctx, as.actor(), in.Room, in.Number)
			return success(err)
		})

	type reactInput struct {
		OneMessage
		Emoji string `path:"emoji" maxLength:"64" doc:"One emoji"`
	}
	for _, on := range []bool{true, false} {
		react := operation{id: "react", method: http.MethodPut, path: path + "/reactions/{emoji}", tag: tag, refuses: conflict, apart: same, summary: "React to a message with an emoji"}
		pin := operation{id: "pin-message", method: http.MethodPut, path: path + "/pin", tag: tag, refuses: conflict, apart: same, summary: "Pin a message: at most 50 of a conversation"}
		if !on {
			react.id, react.method, react.summary = "unreact", http.MethodDelete, "Take a reaction back"
			pin.id, pin.method, pin.summary = "unpin-message", http.MethodDelete, "Take a pinned message off"
		}
		register(a, react, func(ctx context.Context, in *reactInput) (*revisedOutput, error) {
			as, err := a.writer(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			return answer(a.Messages.React(ctx, as.actor(), in.Room, in.Number, in.Emoji, on))
		})
		register(a, pin, func(ctx context.Context, in *OneMessage) (*revisedOutput, error) {
			as, err := a.writer(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			return answer(a.Messages.Pin(ctx, as.actor(), in.Room, in.Number, on))
		})
	}

	type editsOutput struct {
		Body struct {
			Edits []Edition `json:"edits" nullable:"false" doc:"The first first, without what it says now"`
		}
	}
	register(a, operation{id: "list-edits", method: http.MethodGet, path: path + "/edits", tag: tag, summary: "What a message said before it was edited"},
		func(ctx context.Context, in *OneMessage) (*editsOutput, error) {
			as, err := a.conversation(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			if m, err := a.Messages.Get(ctx, as.User, in.Room, in.Number); err != nil {
				return nil, err
			} else if m.Hidden {
				return nil, chat.ErrGone
			}
			list, err := a.Messages.Edits(ctx, in.Room, in.Number)
			if err != nil {
				return nil, err
			}
			out := &editsOutput{}
			out.Body.Edits = make([]Edition, len(list))
			for i, e := range list {
				out.Body.Edits[i] = Edition(e)
			}
			return out, nil
		})

	type pinsInput struct {
		Room string `path:"room" doc:"Such as group:UUID"`
	}
	type pinsOutput struct {
		Body struct {
			Messages []Message `json:"messages" nullable:"false" doc:"The one that was pinned last first"`
		}
	}
	register(a, operation{id: "list-pins", method: http.MethodGet, path: "/conversations/{room}/pins", tag: tag, summary: "Pinned messages of a conversation"},
		func(ctx context.Context, in *pinsInput) (*pinsOutput, error) {
			as, err := a.conversation(ctx, in.Room)
			if err != nil {
				return nil, err
			}
			list, err := a.Messages.Pinned(ctx, as.User, in.Room)
			out := &pinsOutput{}
			out.Body.Messages = messagesOf(list)
			return out, err
		})

	type messageSearchInput struct {
		Query  string `query:"q" required:"true" maxLength:"256" doc:"Words that a message has, 8 at most; the last one may be the beginning of one"`
		Room   string `query:"room" doc:"Only in this conversation"`
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type messageSearchOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Messages []FoundMessage `json:"messages" nullable:"false" doc:"The latest first"`
		}
	}
	register(a, operation{id: "search-messages", method: http.MethodGet, path: "/messages/search", tag: tag, summary: "Search the messages of the conversations that you are in"},
		func(ctx context.Context, in *messageSearchInput) (*messageSearchOutput, error) {
			if in.Room != "" {
				if _, err := a.conversation(ctx, in.Room); err != nil {
					return nil, err
				}
			}
			list, next, err := a.Messages.Search(ctx, caller(ctx).User, in.Room, in.Query, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &messageSearchOutput{Link: nextPage("/messages/search", in.Limit, next, "q", in.Query, "room", in.Room)}
			out.Body.Messages = make([]FoundMessage, len(list))
			for i, m := range list {
				out.Body.Messages[i] = FoundMessage{m.Room, messageOf(m)}
			}
			return out, nil
		})
}

// writer lets only those pass who may write in a conversation.
func (a *api) writer(ctx context.Context, room string) (inRoom, error) {
	as, err := a.conversation(ctx, room)
	if err == nil {
		err = as.writes()
	}
	return as, err
}

func (in inRoom) actor() chat.Actor { return chat.Actor{User: in.User, Moderates: in.Moderates} }

func userIDs(list []string, field string) (ids []core.UserID, err error) {
	for _, s := range list {
		id, err := userID(s, field)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
