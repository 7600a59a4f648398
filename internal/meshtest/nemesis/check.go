package nemesis

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
)

const (
	// contact is how long an owner may go on after its successor began: 2 s
	// after it heard of its region's leader last, which gave its slots away not
	// before 1 s of silence.
	contact = 1500 * time.Millisecond
	// unaware is how much longer a device may be gone, to the region, than to
	// itself: its node was cut off and kept it.
	unaware = 6 * time.Second
	// underWay is how long a hello may still be that nobody waits for any more.
	underWay = 3 * time.Second
)

// What fences are for.
const (
	ownersStop  = "an owner stops that was replaced"
	edgesRefuse = "edges refuse what comes under an older slot epoch"
)

// Violation is a promise that was not kept.
type Violation struct {
	Promise string
	What    string
	History []string // what led there
}

func (v Violation) String() string {
	return v.Promise + ": " + v.What + "\n    " + strings.Join(v.History, "\n    ")
}

// checks are the promises; see the package comment.
var checks = []struct {
	promise string
	check   func(*History) []Violation
}{
	{"session epochs are linearizable in a region", epochs},
	{"a number means one event", numbers},
	{ownersStop, owners},
	{"what owners accept of a device never goes back", accepted},
	{"observers never go back", observers},
	{edgesRefuse, edges},
	{"what is missed is told", missed},
	{"messages come once and without holes", messages},
	{"an acknowledged message is stored", stored},
	{"nobody leaves who came back in time", leavers},
	{"everybody agrees in the end", settled},
	{"the nodes of a region have one roster, of those who are connected", rosters},
}

// Check holds a history against all promises.
func Check(h *History) (out []Violation) {
	for _, c := range checks {
		for _, v := range c.check(h) {
			v.Promise = c.promise
			out = append(out, v)
		}
	}
	return out
}

// ------------------------------------------------------------------ sessions

// opening is a connection that was welcomed, or asked to be.
type opening struct {
	run          *Run
	key          Key
	conn         int
	node, region string
	epoch        uint64 // 0: never welcomed, as far as the client knows
	said, heard  time.Duration
	end          time.Duration // of the connection; forever if it is still there
	follows      map[string]bool
	joined       map[string]time.Duration // when it was first in a room
	wantsOut     map[string]bool          // it left the room
	bye          bool
}

// regionOf goes by the name, since who was not welcomed was not told.
func regionOf(node string) string { return node[:max(0, strings.LastIndex(node, "-"))] }

const forever = time.Duration(1<<63 - 1)

// openings are the connections of all runs, by device in order of epochs.
func openings(h *History) map[Key][]*opening {
	out := map[Key][]*opening{}
	for _, r := range h.Runs {
		byConn := map[int]*opening{}
		asked := map[[2]uint64]string{} // (connection, request) -> room that is left
		for _, s := range r.Sights {
			o := byConn[s.Conn]
			if o == nil {
				o = &opening{
					run: r, key: r.Key, conn: s.Conn, node: s.Node, end: forever,
					follows: map[string]bool{}, joined: map[string]time.Duration{}, wantsOut: map[string]bool{},
				}
				byConn[s.Conn] = o
				out[r.Key] = append(out[r.Key], o)
			}
			switch {
			case s.End != nil:
				o.end = s.At
			case s.Out != nil:
				switch b := s.Out.Body.(type) {
				case *wire.ClientFrame_Hello:
					o.said = s.At
					for _, f := range b.Hello.GetFollows() {
						o.follows[f.GetRoom()] = true
					}
				case *wire.ClientFrame_Leave:
					o.wantsOut[b.Leave.GetRoom()] = true
					asked[[2]uint64{uint64(s.Conn), s.Out.GetId()}] = b.Leave.GetRoom()
				case *wire.ClientFrame_Bye:
					o.bye = true
				}
			case s.In != nil:
				switch b := s.In.Body.(type) {
				case *wire.ServerFrame_Welcome:
					o.epoch, o.region, o.heard = b.Welcome.GetEpoch(), b.Welcome.GetRegion(), s.At
				case *wire.ServerFrame_Snapshot:
					if _, known := o.joined[b.Snapshot.GetRoom()]; !known {
						o.joined[b.Snapshot.GetRoom()] = s.At
					}
				}
			}
		}
	}
	for _, os := range out {
		slices.SortStableFunc(os, func(a, b *opening) int { return cmp.Compare(a.epoch, b.epoch) })
	}
	return out
}

func (o *opening) String() string {
	end := "still there"
	if o.end != forever {
		end = "ended " + seconds(o.end)
	}
	return fmt.Sprintf("%s run %d connection %d: hello %s to %s, welcomed %s under epoch %d, %s",
		o.key, o.run.ID, o.conn, seconds(o.said), o.node, seconds(o.heard), o.epoch, end)
}

func (k Key) String() string { return k.Device }

func seconds(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

func epochs(h *History) (out []Violation) {
	for _, os := range openings(h) {
		for i, b := range os {
			for _, a := range os[:i] {
				if a.epoch == 0 || a.region != b.region {
					continue
				}
				switch {
				case a.epoch == b.epoch:
					out = append(out, Violation{What: "one epoch twice", History: []string{a.String(), b.String()}})
				case b.heard < a.said:
					out = append(out, Violation{What: "a later session has a lower epoch", History: []string{a.String(), b.String()}})
				}
			}
		}
	}
	return out
}

// ------------------------------------------------------------------ owners

type number struct {
	room, region string
	epoch, seq   uint64
}

func (n number) String() string {
	return fmt.Sprintf("%s %s (%d, %d)", n.room, n.region, n.epoch, n.seq)
}

func numbers(h *History) (out []Violation) {
	type told struct {
		event *wire.Event
		who   string
	}
	known := map[number]told{}
	tell := func(e *wire.Event, who func() string) {
		n := number{e.GetRoom(), e.GetAt().GetRegion(), e.GetAt().GetEpoch(), e.GetAt().GetSeq()}
		if k, ok := known[n]; !ok {
			known[n] = told{e, who()}
		} else if !proto.Equal(k.event, e) {
			out = append(out, Violation{What: n.String(), History: []string{k.who + ": " + k.event.String(), who() + ": " + e.String()}})
		}
	}
	for _, s := range h.Spoken {
		if s.Event != nil {
			tell(s.Event, s.String)
		}
	}
	for _, r := range h.Runs {
		for _, s := range r.Sights {
			if e := s.In.GetEvent(); e != nil {
				tell(e, func() string { return fmt.Sprintf("%s %s got it from %s", seconds(s.At), r.Key, s.Node) })
			}
		}
	}
	return out
}

// slotted groups what owners said by region and room.
func slotted(h *History) map[[2]string][]Spoken {
	out := map[[2]string][]Spoken{}
	for _, s := range h.Spoken {
		k := [2]string{s.Region, s.Room}
		out[k] = append(out[k], s)
	}
	return out
}

func (s Spoken) String() string {
	return fmt.Sprintf("%s %s under (%d, %d) in %s: %v", seconds(s.At), s.Node, s.Epoch, s.Seq, s.Room, s.Devices)
}

// owners looks for those that speak though they were replaced. What a
// successor repeats of its predecessors' events is no such thing.
func owners(h *History) (out []Violation) {
	for _, all := range slotted(h) {
		first := map[uint64]Spoken{} // by epoch
		successor := map[string]uint64{}
		last := map[uint64]uint64{} // number, by epoch
		for _, s := range all {
			if _, ok := first[s.Epoch]; !ok && (s.Seq == 0 || s.Event.GetPriorEpoch() != 0 || successor[s.Node] < s.Epoch) {
				first[s.Epoch] = s
				successor[s.Node] = max(successor[s.Node], s.Epoch)
			}
			fresh := s.Seq == 0 || s.Seq > last[s.Epoch]
			last[s.Epoch] = max(last[s.Epoch], s.Seq)
			if !fresh || successor[s.Node] > s.Epoch {
				continue
			}
			for epoch, f := range first {
				if epoch > s.Epoch && s.At > f.At+contact {
					out = append(out, Violation{What: "an owner speaks that was replaced long ago", History: []string{f.String(), s.String()}})
					break
				}
			}
		}
	}
	return out
}

// accepted goes by the owners' numbers for presence, and for fixes by when they
// were taken: one that is taken later than a newer session was accepted must
// have been accepted later, too.
func accepted(h *History) (out []Violation) {
	type word struct {
		Spoken
		epoch uint64 // of the device
	}
	for _, all := range slotted(h) {
		once := map[position]bool{}
		presence := map[Key][]word{}
		for _, s := range all {
			if at := (position{s.Epoch, s.Seq}); s.Seq > 0 && !once[at] {
				once[at] = true
				for _, d := range s.Devices {
					if d.State != wire.State_LEFT { // an end may come late
						presence[d.Key] = append(presence[d.Key], word{s, d.Epoch})
					}
				}
			}
		}
		for k, words := range presence {
			slices.SortFunc(words, func(a, b word) int {
				return cmp.Or(cmp.Compare(a.Spoken.Epoch, b.Spoken.Epoch), cmp.Compare(a.Seq, b.Seq))
			})
			for i, w := range words[min(1, len(words)):] {
				if was := words[i]; w.epoch < was.epoch {
					out = append(out, Violation{What: fmt.Sprintf("%s accepted under %d, then under %d", k, was.epoch, w.epoch),
						History: []string{was.String(), w.String()}})
				}
			}
		}
		for _, s := range all {
			for _, d := range s.Devices {
				if s.Seq > 0 {
					continue
				}
				for _, was := range presence[d.Key] {
					if was.epoch > d.Epoch && was.Spoken.Epoch <= s.Epoch && was.At < d.Captured {
						out = append(out, Violation{What: fmt.Sprintf("%s accepted under %d, then a fix under %d", d.Key, was.epoch, d.Epoch),
							History: []string{was.String(), s.String()}})
						break
					}
				}
			}
		}
	}
	return out
}

// ------------------------------------------------------------------ observers

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
				if s := h.Stored[e.Room]; ev.Message.Number == 0 || ev.Message.Number > uint64(len(s)) || s[ev.Message.Number-1].GetBody() != ev.Message.Body {
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
			all := h.Stored[a.Room]
			if n := a.Message.Number; n == 0 || n > uint64(len(all)) || all[n-1].GetBody() != a.Message.Body {
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
				out = append(out, v)
			}
		}
	}
	return out
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
		case x.epoch == 0 && o.said-x.end < underWay && (elsewhere || !x.follows[room]), elsewhere && x.epoch > epoch:
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

// ------------------------------------------------------------------ the end

// Disagreement is where an observer and the truth differ.
type Disagreement struct {
	Room  string
	About Key // the device in question, or the observer
	Text  string
}

// Disagreements compares what observers see with the truth.
func Disagreements(truth map[string]map[Key]Present, seen []Observer, last func(room string) uint64) (out []Disagreement) {
	for _, o := range seen {
		who := o.Run.Key
		say := func(about Key, format string, args ...any) {
			out = append(out, Disagreement{o.Room, about, fmt.Sprintf("%s in %s ", who, o.Room) + fmt.Sprintf(format, args...)})
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
		if l := last(o.Room); o.Last != l {
			say(who, "has the messages up to %d of %d", o.Last, l)
		}
	}
	slices.SortFunc(out, func(a, b Disagreement) int { return cmp.Compare(a.Text, b.Text) })
	return out
}

func settled(h *History) []Violation {
	if h.Settled {
		return nil
	}
	list := Disagreements(h.Truth, h.Final, func(room string) uint64 { return uint64(len(h.Stored[room])) })
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
			if s.In.GetSnapshot().GetRoom() == room || s.In.GetError().GetRoom() == room || s.Out.GetJoin().GetRoom() == room ||
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

// Report prints the outcome of a run.
func Report(w io.Writer, seed uint64, faults []Fault, h *History, violations []Violation) {
	frames, events := 0, 0
	for _, r := range h.Runs {
		frames += len(r.Sights)
		events += len(r.Heard)
	}
	stored := 0
	for _, ms := range h.Stored {
		stored += len(ms)
	}
	fmt.Fprintf(w, "seed %d: %d faults, %d runs of the SDK, %d frames, %d events, %d messages, %d violations\n",
		seed, len(faults), len(h.Runs), frames, events, stored, len(violations))
	if len(violations) == 0 {
		return
	}
	broken := map[string]int{}
	for _, v := range violations {
		broken[v.Promise]++
	}
	for _, promise := range slices.Sorted(maps.Keys(broken)) {
		fmt.Fprintf(w, "%5d × %s\n", broken[promise], promise)
	}
	fmt.Fprintf(w, "the schedule:\n%s", Print(faults))
	fmt.Fprintf(w, "the first violation:\n%s\n", violations[0])
	for _, v := range violations[1:min(len(violations), 6)] {
		fmt.Fprintf(w, "then: %s: %s\n", v.Promise, v.What)
	}
}
