package hub

import (
	"slices"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// Some are in a room to see positions alone (edge.Looks). What all are sent is
// encoded once for all, so what is of the conversation is taken out for them here.
// Events keep their numbers, or something would be missed.

// stands takes what a client has of the conversation.
func (l *local) stands(talk edge.Talk) {
	l.talk = talk
	l.looks.Store(talk == edge.Looks)
}

// split delivers to those who get no messages, and leaves the others.
func (d *delivery) split() {
	var bare *edge.Frame
	made := false
	d.to = slices.DeleteFunc(slices.Clone(d.to), func(l *local) bool {
		if !l.looks.Load() {
			return false
		}
		if !made {
			bare, made = withoutTalk(d.frame), true
		}
		if bare != nil && !l.off.Load() {
			l.client.Deliver(bare)
		}
		return true
	})
}

// withoutTalk is a frame without what is of the conversation; nil if nothing is
// left.
func withoutTalk(f *edge.Frame) *edge.Frame {
	if f == nil {
		return nil
	}
	var parts []*edge.Frame
	for _, p := range f.Parts() {
		if p = mute(p); p != nil {
			parts = append(parts, p)
		}
	}
	if parts == nil {
		return nil
	}
	return edge.Bundle(parts)
}

func mute(f *edge.Frame) *edge.Frame {
	if f.Lossy() {
		return f
	}
	m, err := wire.DecodeServer(f.Body())
	if err != nil {
		return f // nor can the client read it
	}
	switch b := m.GetBody().(type) {
	case *wire.ServerFrame_Typing:
		return nil
	case *wire.ServerFrame_Snapshot:
		b.Snapshot.LastNumber, b.Snapshot.LastChange = 0, 0
	case *wire.ServerFrame_Event:
		switch b.Event.GetBody().(type) {
		case *wire.Event_Message, *wire.Event_Revised, *wire.Event_Receipts:
			b.Event.Body = nil
		default:
			return f
		}
	default:
		return f
	}
	return edge.NewFrame(m)
}

// typing tells the others that somebody is typing.
func (t *turn) typing(fd *feed, w *wire.Typing) delivery {
	to := slices.DeleteFunc(slices.Clone(fd.live), func(l *local) bool { return l.member.User == w.GetUser() })
	if !fd.attached || len(to) == 0 {
		return delivery{}
	}
	return delivery{frame: edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Typing{Typing: w}}), to: to, some: true}
}
