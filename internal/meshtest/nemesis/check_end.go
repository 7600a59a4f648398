package nemesis

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
)

// Disagreement is where an observer and the truth differ.
type Disagreement struct {
	Room    string
	About   Key  // the device in question, or the observer
	Receipt bool // it is about how far somebody has got in the messages, and nothing else
	Text    string
}

// Disagreements compares what observers see with the truth.
func Disagreements(truth map[string]map[Key]Present, seen []Observer, kept map[string]Kept) (out []Disagreement) {
	for _, o := range seen {
		who := o.Run.Key
		say := func(about Key, format string, args ...any) {
			out = append(out, Disagreement{Room: o.Room, About: about, Text: fmt.Sprintf("%s in %s ", who, o.Room) + fmt.Sprintf(format, args...)})
		}
		sayReceipt := func(format string, args ...any) {
			say(who, format, args...)
			out[len(out)-1].Receipt = true
		}
		if o.Offline != "" {
			say(who, "is not connected: %s", o.Offline)
			continue
		}
		for k, p := range truth[o.Room] {
			s, ok := o.Members[k]
			switch {
			case !ok:
				say(k, "does not see %s, live under %d", k, p.Epoch)
			case s.Epoch > p.Epoch || s.State != wire.State_LIVE: // a resume that made no noise leaves a lower one
				say(k, "sees %s as %s under %d, and it is live under %d", k, s.State, s.Epoch, p.Epoch)
			case k != who && p.Fix != 0 && o.Fixes[k] != p.Fix:
				say(k, "sees %s at %.4f, and it is at %.4f", k, o.Fixes[k], p.Fix)
			}
		}
		for k, s := range o.Members {
			if _, ok := truth[o.Room][k]; !ok {
				say(k, "sees a ghost: %s, %s under %d", k, s.State, s.Epoch)
			}
		}
		is := kept[o.Room]
		if l := uint64(len(is.Messages)); o.Last != l {
			say(who, "has the messages up to %d of %d", o.Last, l)
		}
		for _, m := range o.Messages {
			if m.Number > uint64(len(is.Messages)) {
				say(who, "has message %d, which is not stored", m.Number)
			} else if is, was := wireState(is.Messages[m.Number-1]), stateOf(m); is != was {
				say(who, "has %s, and it is %s", was, is)
			}
		}
		receipts := map[string]client.Seen{}
		for _, s := range o.Receipts {
			receipts[s.User] = s
		}
		for user, s := range is.Receipts {
			if receipts[user] != s {
				sayReceipt("has the receipt %+v, and it is %+v", receipts[user], s)
			}
		}
		if own, l := is.Receipts[who.User], uint64(len(is.Messages)); own.Delivered != l {
			sayReceipt("has told of %d messages, of %d", own.Delivered, l)
		}
	}
	slices.SortFunc(out, func(a, b Disagreement) int { return cmp.Compare(a.Text, b.Text) })
	return out
}

func settled(h *History) []Violation {
	if h.Settled {
		return nil
	}
	list := Disagreements(h.Truth, h.Final, h.Stored)
	v := Violation{What: fmt.Sprintf("%d disagreements", len(list))}
	for _, d := range list[:min(len(list), 20)] {
		v.History = append(v.History, d.Text)
	}
	if len(list) == 0 {
		return []Violation{{What: "not for long enough, though they do now"}}
	}
	about, room := list[0].About, list[0].Room
	v.History = append(v.History, fmt.Sprintf("what is known of %s in %s:", about, room))
	for _, o := range openings(h)[about] {
		v.History = append(v.History, o.String())
	}
	for _, r := range h.Runs {
		if r.Key != about {
			continue
		}
		for _, s := range r.Sights {
			if s.In.GetClose() != nil || s.In.GetGoaway() != nil || s.End != nil || s.In.GetSnapshot().GetRoom() == room || s.In.GetError().GetRoom() == room || s.Out.GetJoin().GetRoom() == room ||
				s.Out.GetLeave().GetRoom() == room || slices.ContainsFunc(s.Out.GetHello().GetFollows(), func(f *wire.Follow) bool { return f.GetRoom() == room }) {
				v.History = append(v.History, fmt.Sprintf("run %d: %s", r.ID, s))
			}
		}
	}
	var spoken []string
	told := map[position]bool{}
	for _, s := range h.Spoken {
		if at := (position{s.Epoch, s.Seq}); s.Room == room && s.Seq > 0 && !told[at] {
			for _, d := range s.Devices {
				if d.Key == about {
					told[at] = true
					spoken = append(spoken, fmt.Sprintf("%s %s numbers (%d, %d): %s under %d", seconds(s.At), s.Node, s.Epoch, s.Seq, d.State, d.Epoch))
				}
			}
		}
	}
	v.History = append(v.History, spoken[max(0, len(spoken)-12):]...)
	return []Violation{v}
}

func (s Session) String() string {
	state := "live"
	if s.Suspended {
		state = "suspended"
	}
	return fmt.Sprintf("%s %s at %s under %d in %s", s.Key, state, s.Node, s.Epoch, s.Rooms)
}

// rosters compares the nodes' rosters with each other and with who is
// connected. One who is gone may be suspended for a while.
func rosters(h *History) (out []Violation) {
	if !h.Settled {
		return nil
	}
	for _, region := range slices.Sorted(maps.Keys(h.Rosters)) {
		nodes := slices.Sorted(maps.Keys(h.Rosters[region]))
		first := h.Rosters[region][nodes[0]]
		for _, n := range nodes[1:] {
			if other := h.Rosters[region][n]; !slices.Equal(first, other) {
				out = append(out, Violation{What: fmt.Sprintf("%s and %s differ", nodes[0], n), History: append(texts(first), texts(other)...)})
			}
		}
		known := map[Key]Session{}
		for _, s := range first {
			known[s.Key] = s
			c, connected := h.Connected[s.Key]
			if !s.Suspended && (!connected || c.Epoch != s.Epoch || c.Node != s.Node) {
				out = append(out, Violation{What: "a ghost in the roster of " + region, History: []string{s.String(), "connected: " + c.String()}})
			}
		}
		for _, c := range h.Connected {
			if s := known[c.Key]; regionOf(c.Node) == region && (s.Suspended || s.Epoch != c.Epoch) {
				out = append(out, Violation{What: "the roster of " + region + " lacks a session", History: []string{"connected: " + c.String(), s.String()}})
			}
		}
	}
	return out
}

func texts(all []Session) (out []string) {
	for _, s := range all {
		out = append(out, s.String())
	}
	return out
}
