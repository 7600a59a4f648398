package nemesis

import (
	"fmt"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/client/roomstate"
)

// revisions holds what is stored, told and answered of them against each other.
func revisions(h *History) (out []Violation) {
	type change struct {
		room   string
		change uint64
	}
	made := map[change]string{} // the state that it made
	by := map[change]string{}
	tell := func(room string, m client.Message, who string) {
		if m.Change == 0 {
			return
		}
		c := change{room, m.Change}
		state := stateOf(m)
		if was, ok := made[c]; !ok {
			made[c], by[c] = state, who
		} else if was != state {
			out = append(out, Violation{What: fmt.Sprintf("change %d of %s is two", m.Change, room), History: []string{by[c] + ": " + was, who + ": " + state}})
		}
		if last := h.Stored[room].Change; m.Change > last {
			out = append(out, Violation{What: fmt.Sprintf("change %d of %s, of %d", m.Change, room, last), History: []string{who + ": " + state}})
		}
	}
	for room, kept := range h.Stored {
		highest := uint64(0)
		for _, m := range kept.Messages {
			highest = max(highest, m.GetChange())
			tell(room, roomstate.MessageOf(m), "stored")
		}
		if highest != kept.Change {
			out = append(out, Violation{What: fmt.Sprintf("%s has revisions up to %d, and no message is of one above %d", room, kept.Change, highest)})
		}
	}
	for _, r := range h.Runs {
		for _, s := range r.Sights {
			if e := s.In.GetEvent(); e.GetRevised() != nil {
				tell(e.GetRoom(), roomstate.MessageOf(e.GetRevised().GetMessage()), fmt.Sprintf("%s %s got it from %s", seconds(s.At), r.Key, s.Node))
				if e.GetRevised().GetChange() != e.GetRevised().GetMessage().GetChange() {
					out = append(out, Violation{What: "a revision under another number", History: []string{s.String()}})
				}
			}
		}
		for _, a := range r.Revised {
			tell(a.Room, a.Message, fmt.Sprintf("%s %s was answered", seconds(a.At), r.Key))
			n := a.Message.Number
			if all := h.Stored[a.Room].Messages; n == 0 || n > uint64(len(all)) || all[n-1].GetChange() < a.Message.Change {
				out = append(out, Violation{What: fmt.Sprintf("a revision of message %d of %s is lost", n, a.Room), History: []string{
					fmt.Sprintf("%s %s was answered: %s", seconds(a.At), r.Key, stateOf(a.Message)),
				}})
			}
		}
	}
	return out
}

// states looks for messages that go back at an application.
func states(h *History) (out []Violation) {
	type place struct {
		room   string
		number uint64
	}
	for _, r := range h.Runs {
		known := map[place]Heard{}
		changes := map[place]uint64{}
		for _, e := range r.Heard {
			var m client.Message
			above := uint64(0) // a revision is of a later change, and not of the same
			switch ev := e.Event.(type) {
			case client.MessageArrived:
				m = ev.Message
			case client.Revised:
				m, above = ev.Message, 1
			case client.Ended:
				clearRoom(known, func(p place) bool { return p.room == e.Room })
				continue
			default:
				continue
			}
			p := place{e.Room, m.Number}
			if was, ok := known[p]; ok && m.Change < changes[p]+above {
				out = append(out, Violation{What: fmt.Sprintf("message %d of %s went back at %s", m.Number, e.Room, r.Key), History: []string{was.String(), e.String()}})
			}
			known[p], changes[p] = e, m.Change
		}
	}
	return out
}

// receipts looks for those that go back at an application.
func receipts(h *History) (out []Violation) {
	type whose struct{ room, user string }
	for _, r := range h.Runs {
		known := map[whose]Heard{}
		seen := map[whose]client.Seen{}
		for _, e := range r.Heard {
			switch ev := e.Event.(type) {
			case client.ReceiptsChanged:
				for _, s := range ev.Seen {
					w := whose{e.Room, s.User}
					if was, ok := known[w]; ok && (s.Read < seen[w].Read || s.Delivered < seen[w].Delivered) || s.Read > s.Delivered {
						out = append(out, Violation{What: fmt.Sprintf("the receipt of %s in %s went back at %s", s.User, e.Room, r.Key), History: []string{was.String(), e.String()}})
					}
					known[w], seen[w] = e, s
				}
			case client.Ended:
				clearRoom(known, func(w whose) bool { return w.room == e.Room })
			}
		}
	}
	return out
}
