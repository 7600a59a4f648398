package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// storedMessage is one as the HTTP API has it.
type storedMessage struct {
	Number      uint64       `json:"number"`
	ID          string       `json:"id"`
	Sender      string       `json:"sender"`
	SenderName  string       `json:"sender_name"`
	ClientID    string       `json:"client_id"`
	Body        string       `json:"body"`
	SentAt      time.Time    `json:"sent_at"`
	ReplyTo     uint64       `json:"reply_to"`
	Mentions    []string     `json:"mentions"`
	Attachments []Attachment `json:"attachments"`
	EditedAt    *time.Time   `json:"edited_at"`
	Deleted     bool         `json:"deleted"`
	Reactions   []Reaction   `json:"reactions"`
	Pinned      bool         `json:"pinned"`
	Change      uint64       `json:"change"`
}

func (m storedMessage) message() Message {
	out := Message{
		Number: m.Number, ID: m.ID, Sender: m.Sender, SenderName: m.SenderName, ClientID: m.ClientID, Body: m.Body, SentAt: m.SentAt,
		ReplyTo: m.ReplyTo, Mentions: m.Mentions, Attachments: m.Attachments, Deleted: m.Deleted, Reactions: m.Reactions,
		Pinned: m.Pinned, Change: m.Change,
	}
	if m.EditedAt != nil {
		out.EditedAt = *m.EditedAt
	}
	return out
}

func messagesOf(list []storedMessage) []Message {
	out := make([]Message, len(list))
	for i, m := range list {
		out[i] = m.message()
	}
	return out
}

// Around reads the messages around one of a conversation, in ascending order: those
// before it, itself, and those after.
func (a *API) Around(ctx context.Context, room string, number uint64, limit int) ([]Message, error) {
	q := url.Values{"around": {strconv.FormatUint(number, 10)}}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return a.list(ctx, talkPath(room, "messages")+"?"+q.Encode())
}

func (a *API) list(ctx context.Context, path string) ([]Message, error) {
	var out struct {
		Messages []storedMessage `json:"messages"`
	}
	if err := a.call(ctx, http.MethodGet, path, nil, &out); err != nil {
		return nil, err
	}
	return messagesOf(out.Messages), nil
}

// Message reads a message as it is now.
func (a *API) Message(ctx context.Context, room string, number uint64) (Message, error) {
	return a.revise(ctx, http.MethodGet, messagePath(room, number), nil)
}

// Edit changes the text of the user's own message, and whom it mentions. With a change
// that is not 0 it does so only if that is still the message's; else the code is
// message_changed.
func (a *API) Edit(ctx context.Context, room string, number uint64, body string, mentions []string, change uint64) (Message, error) {
	in := struct {
		Body     string   `json:"body"`
		Mentions []string `json:"mentions,omitempty"`
		Change   uint64   `json:"change,omitempty"`
	}{body, mentions, change}
	return a.revise(ctx, http.MethodPatch, messagePath(room, number), in)
}

// Delete deletes a message for everyone: one's own, or as an admin of the group
// anybody's.
func (a *API) Delete(ctx context.Context, room string, number uint64) error {
	return a.call(ctx, http.MethodDelete, messagePath(room, number), nil, nil)
}

// Hide deletes a message for the user alone.
func (a *API) Hide(ctx context.Context, room string, number uint64) error {
	return a.call(ctx, http.MethodDelete, messagePath(room, number)+"?for=me", nil, nil)
}

// React puts an emoji under a message, or takes it back.
func (a *API) React(ctx context.Context, room string, number uint64, emoji string, on bool) (Message, error) {
	return a.revise(ctx, put(on), messagePath(room, number, "reactions", emoji), nil)
}

// Pin pins a message, or takes it off.
func (a *API) Pin(ctx context.Context, room string, number uint64, on bool) (Message, error) {
	return a.revise(ctx, put(on), messagePath(room, number, "pin"), nil)
}

// Pins lists the pinned messages of a conversation, the one that was pinned last first.
func (a *API) Pins(ctx context.Context, room string) ([]Message, error) {
	return a.list(ctx, talkPath(room, "pins"))
}

// Edition is what a message said before it was edited.
type Edition struct {
	Body string    `json:"body"`
	At   time.Time `json:"at"`
}

// Edits lists what a message said before, the first first.
func (a *API) Edits(ctx context.Context, room string, number uint64) ([]Edition, error) {
	var out struct {
		Edits []Edition `json:"edits"`
	}
	return out.Edits, a.call(ctx, http.MethodGet, messagePath(room, number, "edits"), nil, &out)
}

// FoundMessage is a message that a search found.
type FoundMessage struct {
	Room string
	Message
}

// SearchMessages finds messages that have all words of a query, the last of which may
// be the beginning of one, in one conversation, or in all that the user is in: the
// latest first, and of those the first 200.
func (a *API) SearchMessages(ctx context.Context, query, room string) ([]FoundMessage, error) {
	q := url.Values{"q": {query}, "limit": {"200"}}
	if room != "" {
		q.Set("room", room)
	}
	var out struct {
		Messages []struct {
			Room string `json:"room"`
			storedMessage
		} `json:"messages"`
	}
	if err := a.call(ctx, http.MethodGet, "/api/v1/messages/search?"+q.Encode(), nil, &out); err != nil {
		return nil, err
	}
	found := make([]FoundMessage, len(out.Messages))
	for i, m := range out.Messages {
		found[i] = FoundMessage{m.Room, m.message()}
	}
	return found, nil
}

func (a *API) revise(ctx context.Context, method, path string, in any) (Message, error) {
	var out storedMessage
	if err := a.call(ctx, method, path, in, &out); err != nil {
		return Message{}, err
	}
	return out.message(), nil
}

func put(on bool) string {
	if on {
		return http.MethodPut
	}
	return http.MethodDelete
}

func messagePath(room string, number uint64, parts ...string) string {
	return talkPath(room, append([]string{"messages", fmt.Sprint(number)}, parts...)...)
}
