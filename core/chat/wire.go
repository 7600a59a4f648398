package chat

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
)

// Wire returns the message as clients get it.
func (m Message) Wire() *wire.Message {
	return &wire.Message{
		Number:     m.Number,
		Id:         m.ID.String(),
		Sender:     m.Sender.String(),
		SenderName: m.SenderName,
		ClientId:   m.ClientID,
		Body:       m.Body,
		SentAt:     timestamppb.New(m.SentAt),
	}
}
