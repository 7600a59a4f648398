package chat

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
)

// shownReactors is how many of those who reacted with an emoji are named.
const shownReactors = 20

// Wire returns the message as clients get it.
func (m Message) Wire() *wire.Message {
	w := &wire.Message{
		Number:     m.Number,
		Id:         m.ID.String(),
		Sender:     m.Sender.String(),
		SenderName: m.SenderName,
		ClientId:   m.ClientID,
		Body:       m.Body,
		SentAt:     timestamppb.New(m.SentAt),
		ReplyTo:    m.ReplyTo,
		Deleted:    m.Deleted || m.Hidden,
		Pinned:     m.Pinned,
		Change:     m.Change,
	}
	if !m.EditedAt.IsZero() {
		w.EditedAt = timestamppb.New(m.EditedAt)
	}
	for _, u := range m.Mentions {
		w.Mentions = append(w.Mentions, u.String())
	}
	for _, a := range m.Attachments {
		w.Attachments = append(w.Attachments, &wire.Attachment{
			Id: a.ID.String(), Name: a.Name, Type: a.Type, Size: uint64(a.Size),
			Width: uint32(a.Width), Height: uint32(a.Height), Thumbnail: a.Thumbnail,
		})
	}
	for _, r := range m.Reactions {
		x := &wire.Reaction{Emoji: r.Emoji, Count: uint32(len(r.Users))}
		for _, u := range r.Users[:min(len(r.Users), shownReactors)] {
			x.Users = append(x.Users, u.String())
		}
		w.Reactions = append(w.Reactions, x)
	}
	return w
}
