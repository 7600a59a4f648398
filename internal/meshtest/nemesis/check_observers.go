package nemesis

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
)

func observers(h *History) (out []Violation) {
	for _, r := range h.Runs {
		type in struct {
			room string
			Key
		}
		presence, fix := map[in]Heard{}, map[in]Heard{}
		for _, e := range r.Heard {
			switch ev := e.Event.(type) {
			case client.PresenceChanged:
				k := in{e.Room, Key{ev.User, ev.Device.ID}}
				if p, ok := presence[k]; ok && p.Event.(client.PresenceChanged).Device.Epoch > ev.Device.Epoch {
					out = append(out, Violation{What: fmt.Sprintf("%s saw %s go back", r.Key, k.Key), History: []string{p.String(), e.String()}})
				}
				presence[k] = e
			case client.FixChanged:
				k := in{e.Room, Key{ev.Fix.User, ev.Fix.Device}}
				if p, ok := fix[k]; ok && p.Event.(client.FixChanged).Fix.Epoch > ev.Fix.Epoch {
					out = append(out, Violation{What: fmt.Sprintf("%s saw a fix of %s go back", r.Key, k.Key), History: []string{p.String(), e.String()}})
				}
				fix[k] = e
			case client.Ended:
				clearRoom(presence, func(k in) bool { return k.room == e.Room })
				clearRoom(fix, func(k in) bool { return k.room == e.Room })
			}
		}
	}
	return out
}

func clearRoom[K comparable](m map[K]Heard, which func(K) bool) {
	maps.DeleteFunc(m, func(k K, _ Heard) bool { return which(k) })
}

func (e Heard) String() string {
	return fmt.Sprintf("%s %s: %T%+v", seconds(e.At), e.Room, e.Event, e.Event)
}

// edges looks at each connection for an owner that speaks, or answers, after its
// successor did.
func edges(h *History) (out []Violation) {
	type feed struct {
		conn         int
		room, region string
	}
	for _, r := range h.Runs {
		highest := map[feed]Sight{}
		epoch := map[feed]uint64{}
		for _, s := range r.Sights {
			if snap := s.In.GetSnapshot(); snap != nil { // what was missed is told again after it
				maps.DeleteFunc(epoch, func(f feed, _ uint64) bool { return f.conn == s.Conn && f.room == snap.GetRoom() })
			}
			e := s.In.GetEvent()
			if e == nil {
				continue
			}
			f := feed{s.Conn, e.GetRoom(), e.GetAt().GetRegion()}
			if e.GetAt().GetEpoch() < epoch[f] {
				out = append(out, Violation{What: fmt.Sprintf("%s got word of an earlier owner of %s in %s", r.Key, f.room, f.region),
					History: []string{highest[f].String(), s.String()}})
			} else {
				epoch[f], highest[f] = e.GetAt().GetEpoch(), s
			}
		}
	}
	return out
}

func (s Sight) String() string {
	what := fmt.Sprint(s.End)
	if s.In != nil {
		what = s.In.String()
	} else if s.Out != nil {
		what = "sent " + s.Out.String()
	}
	return fmt.Sprintf("%s connection %d to %s: %s", seconds(s.At), s.Conn, s.Node, what[:min(len(what), 400)])
}

// position is how far a client has followed a region in a room.
type position struct{ epoch, seq uint64 }

// follower is what a client must know of a room by the frames it got, with no
// help of the SDK.
type follower struct {
	at    map[string]position
	lost  map[string]bool // regions of which it was told that it missed something
	trace map[string][]string
}

func newFollower() *follower {
	return &follower{map[string]position{}, map[string]bool{}, map[string][]string{}}
}

func (f *follower) note(region string, s Sight, what string) {
	f.trace[region] = append(f.trace[region], fmt.Sprintf("%s connection %d to %s: %s", seconds(s.At), s.Conn, s.Node, what))
}

func (f *follower) last(region string) []string {
	t := f.trace[region]
	return slices.Clone(t[max(0, len(t)-8):])
}

// follow plays a run's frames. told is called when a snapshot claims that
// nothing was missed and that is not so.
func follow(r *Run, told func(room, region string, f *follower)) map[string]*follower {
	rooms := map[string]*follower{}
	for _, s := range r.Sights {
		switch {
		case s.Out.GetLeave() != nil:
			delete(rooms, s.Out.GetLeave().GetRoom())
		case s.Out.GetJoin() != nil && len(s.Out.GetJoin().GetPositions()) == 0:
			delete(rooms, s.Out.GetJoin().GetRoom())
		case s.In.GetSnapshot() != nil:
			snap := s.In.GetSnapshot()
			f := rooms[snap.GetRoom()]
			if f == nil {
				f = newFollower()
				rooms[snap.GetRoom()] = f
			}
			if !snap.GetRecovered() { // parts of some regions may come later
				for region := range f.at {
					f.lost[region] = true
				}
			}
			for _, p := range snap.GetParts() {
				region, at := p.GetAt().GetRegion(), position{p.GetAt().GetEpoch(), p.GetAt().GetSeq()}
				have, known := f.at[region]
				f.note(region, s, fmt.Sprintf("snapshot at %v, recovered %v", at, snap.GetRecovered()))
				if known && have != at && snap.GetRecovered() && !f.lost[region] {
					told(snap.GetRoom(), region, f)
				}
				f.at[region] = at
				delete(f.lost, region)
			}
		case s.In.GetEvent() != nil:
			e := s.In.GetEvent()
			f := rooms[e.GetRoom()]
			if f == nil {
				continue
			}
			region, at := e.GetAt().GetRegion(), position{e.GetAt().GetEpoch(), e.GetAt().GetSeq()}
			have, known := f.at[region]
			verdict := "applies"
			switch {
			case known && (at.epoch < have.epoch || at.epoch == have.epoch && at.seq <= have.seq):
				verdict = "known"
			case known && at.seq == have.seq+1 && (at.epoch == have.epoch || e.GetPriorEpoch() == have.epoch):
				f.at[region] = at
				delete(f.lost, region)
			default:
				verdict = "gap"
			}
			f.note(region, s, fmt.Sprintf("event at %v after %d: %s", at, e.GetPriorEpoch(), verdict))
		}
	}
	return rooms
}

func missed(h *History) (out []Violation) {
	type place struct{ room, region string }
	ends := map[place]position{}
	by := map[place][]string{}
	final := map[*Run]map[string]bool{}
	for _, o := range h.Final {
		if final[o.Run] == nil {
			final[o.Run] = map[string]bool{}
		}
		final[o.Run][o.Room] = true
	}
	inhabited := map[place]bool{}
	for _, os := range openings(h) {
		if last := os[len(os)-1]; last.end == forever {
			for room := range last.joined {
				inhabited[place{room, last.region}] = true
			}
		}
	}
	for _, r := range h.Runs {
		rooms := follow(r, func(room, region string, f *follower) {
			out = append(out, Violation{What: fmt.Sprintf("%s was told that it missed nothing of %s in %s", r.Key, region, room), History: f.last(region)})
		})
		if !h.Settled {
			continue // told elsewhere
		}
		for room, f := range rooms {
			if !final[r][room] {
				continue
			}
			for region, at := range f.at {
				p := place{room, region}
				if !inhabited[p] {
					continue
				}
				if end, ok := ends[p]; ok && end != at {
					out = append(out, Violation{What: fmt.Sprintf("%s of %s ends at %v for %s, which others don't see", room, region, at, r.Key),
						History: append(by[p], append([]string{"and " + r.Key.String()}, f.last(region)...)...)})
				} else if !ok {
					ends[p], by[p] = at, append([]string{r.Key.String()}, f.last(region)...)
				}
			}
		}
	}
	return out
}

func messages(h *History) (out []Violation) {
	for _, r := range h.Runs {
		last := map[string]Heard{}
		for _, e := range r.Heard {
			switch ev := e.Event.(type) {
			case client.MessageArrived:
				if p, ok := last[e.Room]; ok && p.Event.(client.MessageArrived).Message.Number+1 != ev.Message.Number {
					out = append(out, Violation{What: r.Key.String() + " got messages out of order", History: []string{p.String(), e.String()}})
				}
				last[e.Room] = e
				if s := h.Stored[e.Room].Messages; ev.Message.Number == 0 || ev.Message.Number > uint64(len(s)) || s[ev.Message.Number-1].GetId() != ev.Message.ID {
					out = append(out, Violation{What: r.Key.String() + " got a message that is not stored", History: []string{e.String()}})
				}
			case client.Missed:
				out = append(out, Violation{What: r.Key.String() + ": the application was too slow", History: []string{e.String()}})
			case client.Ended:
				delete(last, e.Room)
			}
		}
	}
	return out
}

func stored(h *History) (out []Violation) {
	for _, r := range h.Runs {
		for _, a := range r.Acked {
			all := h.Stored[a.Room].Messages
			if n := a.Message.Number; n == 0 || n > uint64(len(all)) || all[n-1].GetClientId() != a.Message.ClientID || all[n-1].GetChange() == 0 && all[n-1].GetBody() != a.Message.Body {
				out = append(out, Violation{What: fmt.Sprintf("message %d of %s", n, a.Room), History: []string{
					fmt.Sprintf("%s %s was told: %+v", seconds(a.At), r.Key, a.Message),
				}})
			}
		}
	}
	return out
}

// leavers looks at everybody whom somebody saw leaving.
func leavers(h *History) (out []Violation) {
	sessions := openings(h)
	type departure struct {
		Key
		epoch uint64
		room  string
	}
	seen := map[departure]bool{}
	for _, r := range h.Runs {
		for _, e := range r.Heard {
			p, ok := e.Event.(client.PresenceChanged)
			if !ok || p.Device.State != wire.State_LEFT {
				continue
			}
			d := departure{Key{p.User, p.Device.ID}, p.Device.Epoch, e.Room}
			if seen[d] {
				continue
			}
			seen[d] = true
			if why := wronged(sessions[d.Key], d.epoch, d.room, p.Device.Reason, e.At, h.Grace); why != "" {
				v := Violation{What: fmt.Sprintf("%s was seen leaving %s: %s", d.Key, d.room, why), History: []string{"seen by " + r.Key.String() + " at " + e.String()}}
				for _, o := range sessions[d.Key] {
					v.History = append(v.History, o.String())
				}
				v.History = append(v.History, r.before(e.At, e.Room)...)
				out = append(out, v)
			}
		}
	}
	return out
}

// before is what a run was told of a room just before something happened.
func (r *Run) before(at time.Duration, room string) (out []string) {
	for _, s := range r.Sights {
		if s.At <= at && s.At > at-time.Second && (s.In.GetEvent().GetRoom() == room || s.In.GetSnapshot().GetRoom() == room) {
			out = append(out, s.String())
		}
	}
	return out[max(0, len(out)-8):]
}

// wronged says why a session should not have been seen leaving; "" if it may.
func wronged(all []*opening, epoch uint64, room string, reason wire.Reason, at, grace time.Duration) string {
	i := slices.IndexFunc(all, func(o *opening) bool { return o.epoch == epoch })
	if i < 0 {
		return "" // the device never heard of that session itself
	}
	o := all[i]
	joined, ok := o.joined[room]
	if !ok || joined > at || o.wantsOut[room] || o.bye {
		return ""
	}
	var chain []*opening // from this one on, in the region
	for _, x := range all {
		elsewhere := regionOf(x.node) != o.region
		switch {
		case x.epoch == 0 && o.said-x.end < underWay && (elsewhere || !x.follows[room]), elsewhere && (x.epoch > epoch || x.epoch == epoch && regionOf(x.node) > o.region):
			return "" // it went there, or left the room so, and perhaps was not told
		case x.region == o.region && x.epoch >= epoch && x.said < at:
			chain = append(chain, x)
		}
	}
	switch reason {
	case wire.Reason_MOVED:
		return "as moved, within its region"
	case wire.Reason_REGION_LOST:
		return "with its region, that was never away so long"
	}
	for i, x := range chain {
		back := at
		if i+1 < len(chain) {
			back = chain[i+1].heard
		}
		if x.wantsOut[room] || x.bye || i > 0 && !x.follows[room] || x.end < at && back-x.end >= grace-unaware {
			return ""
		}
	}
	return "it was never away for long"
}
