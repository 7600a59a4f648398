package peer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// Whatever another node sends decodes or is refused, and what decodes has one
// encoding that decodes to the same.
func FuzzDecode(f *testing.F) {
	at := &wire.Position{Region: "eu-west", Epoch: 7, Seq: 9}
	for _, frame := range []*Frame{
		{Body: &Frame_Event{Event: &Event{Room: "group:a", At: at, Version: 3, Frame: []byte{1, 2}}}},
		{Body: &Frame_Attach{Attach: &Attach{Room: "group:a", Members: []*Member{{User: "u", Device: &wire.Device{Device: "d", Epoch: 5}}}, Positions: []*wire.Position{at}}}},
		{Body: &Frame_Parts{Parts: &Parts{Room: "group:a", Parts: []*wire.Part{{At: at, People: []*wire.Person{{User: "u"}}}}}}},
		{Body: &Frame_Revise{Revise: &Revise{Room: "group:a", Revised: &wire.Revised{Change: 2, Message: &wire.Message{
			Number: 1, Change: 2, Mentions: []string{"u"}, Attachments: []*wire.Attachment{{Id: "f", Width: 4}}, Reactions: []*wire.Reaction{{Emoji: "👍", Count: 1, Users: []string{"u"}}},
		}}}}},
		{Body: &Frame_Receive{Receive: &Receive{Room: "group:a", Receipts: &wire.Receipts{Seen: []*wire.Seen{{User: "u", Delivered: 4, Read: 3}}}}}},
		{Body: &Frame_Typing{Typing: &Typing{Typing: &wire.Typing{Room: "group:a", On: true, User: "u"}, Region: "eu-west"}}},
		{Body: &Frame_Subscribe{Subscribe: &Subscribe{Room: "group:a", Position: at}}},
	} {
		b, err := frame.MarshalVT()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, b, new(Frame), new(Frame))
		roundTrip(t, b, new(Datagram), new(Datagram))
		roundTrip(t, b, new(Call), new(Call))
		roundTrip(t, b, new(RosterAnswer), new(RosterAnswer))
		roundTrip(t, b, new(RosterCommand), new(RosterCommand))
	})
}

type message interface {
	UnmarshalVT([]byte) error
	MarshalVT() ([]byte, error)
	SizeVT() int
}

func roundTrip(t *testing.T, b []byte, m, again message) {
	t.Helper()
	if m.UnmarshalVT(b) != nil {
		return
	}
	once, err := m.MarshalVT()
	require.NoError(t, err)
	require.Len(t, once, m.SizeVT())
	require.NoError(t, again.UnmarshalVT(once))
	twice, err := again.MarshalVT()
	require.NoError(t, err)
	require.Equal(t, once, twice)
}
