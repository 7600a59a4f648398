package room

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into testdata/*.txt; read the diff")

// TestStories runs testdata/*.txt: a line is a command, what the room sends
// because of it stands below "----". The style is etcd raft's.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(file)
			require.NoError(t, err)
			out := tell(t, string(in))
			if *rewrite {
				require.NoError(t, os.WriteFile(file, []byte(out), 0o644))
				return
			}
			require.Equal(t, string(in), out)
		})
	}
}

// tell runs a story and returns it with what really happened.
func tell(t *testing.T, in string) string {
	var out strings.Builder
	s := &story{t: t, now: time.Unix(1_000_000, 0)}
	skipping := false
	for line := range strings.SplitSeq(strings.TrimRight(in, "\n"), "\n") {
		switch {
		case line == "----":
			skipping = true
		case line == "":
			skipping = false
			out.WriteByte('\n')
		case skipping:
		case strings.HasPrefix(line, "#"):
			out.WriteString(line + "\n")
		default:
			out.WriteString(line + "\n----\n")
			for _, e := range s.do(line) {
				out.WriteString(e + "\n")
			}
		}
	}
	return out.String()
}

type story struct {
	t     *testing.T
	now   time.Time
	cfg   Config
	r     *Room
	calls uint64
	first *peer.HandOver // exported
}

// do runs one command: a verb, plain words, and key=value words.
func (s *story) do(line string) []string {
	var args []string
	kv := map[string]string{}
	for _, w := range strings.Fields(line) {
		if k, v, ok := strings.Cut(w, "="); ok {
			kv[k] = v
		} else {
			args = append(args, w)
		}
	}
	num := func(k string) uint64 {
		n, err := strconv.ParseUint(kv[k], 10, 64)
		require.True(s.t, kv[k] == "" || err == nil, line)
		return n
	}
	node := func() regions.NodeID { return regions.NodeID(args[1]) }
	region := func() regions.RegionID { return regions.RegionID(args[1]) }
	ps := positions(kv["at"])
	var out []Effect
	switch args[0] {
	case "new":
		s.cfg = Config{Region: regions.RegionID(args[1]), RingEvents: int(num("ring")), Merge: -1, Page: int(num("page"))}
		if kv["merge"] != "" {
			d, err := time.ParseDuration(kv["merge"])
			require.NoError(s.t, err)
			s.cfg.Merge = d
		}
		s.cfg.Unknown, _ = time.ParseDuration(kv["unknown"])
		s.cfg = s.cfg.WithDefaults()
		for _, o := range args[2:] {
			s.cfg.Others = append(s.cfg.Others, regions.RegionID(o))
		}
		s.r = New(&s.cfg, "r", regions.Epoch(num("epoch")), 0, s.now)
		return nil
	case "wait":
		d, err := time.ParseDuration(args[1])
		require.NoError(s.t, err)
		return s.wait(d)
	case "join":
		s.calls++
		out = s.r.Join(s.now, node(), &peer.Join{
			Room: "r", Request: s.calls, Member: session(args[2], kv["by"]), Positions: ps,
			Version: num("version"), LastNumber: num("last"),
		})
	case "hidden": // joins so
		s.calls++
		m := session(args[2], kv["by"])
		m.Hidden = true
		out = s.r.Join(s.now, node(), &peer.Join{Room: "r", Request: s.calls, Member: m, Positions: ps})
	case "hide", "show":
		m := session(args[2], kv["by"])
		out = s.r.Change(s.now, node(), &peer.Change{Room: "r", User: m.User, Device: m.Device, Hidden: args[0] == "hide"})
	case "adopt":
		s.r = New(&s.cfg, "r", regions.Epoch(num("epoch")), 0, s.now)
		out = s.r.Adopt(s.now, stays(args[1:]))
	case "end":
		m := stays(args[1:2])[0]
		out = s.r.End(s.now, m.SessionID, wire.Reason(wire.Reason_value[args[2]]))
	case "roster-suspends":
		out = s.r.Suspend(s.now, stays(args[1:2])[0].SessionID)
	case "complete":
		out = s.r.Complete(s.now, stays(args[1:]))
	case "reconcile":
		out = s.r.Reconcile(s.now, stays(args[1:]))
	case "export":
		s.first = copied(s.t, s.r.Export(nil))
		return nil
	case "import":
		tail := copied(s.t, s.r.Export(s.first))
		r, effects, err := Import(&s.cfg, s.first, tail, regions.Epoch(num("epoch")), stays(args[1:]), s.now)
		if err != nil {
			return []string{err.Error()}
		}
		s.r, out = r, effects
	case "people":
		limit, _ := strconv.Atoi(kv["limit"])
		p := s.r.People(kv["after"], limit)
		return []string{fmt.Sprintf("%d live, %d suspended, more=%v", p.Counts.Live, p.Counts.Suspended, p.More) + showPeople(p.People)}
	case "attach":
		a := &peer.Attach{Room: "r", Positions: ps}
		for w := range strings.SplitSeq(kv["unreached"], ",") { // region:seconds
			if g, at, ok := strings.Cut(w, ":"); ok {
				sec, _ := strconv.Atoi(at)
				a.Unreached = append(a.Unreached, &wire.RegionReach{Region: g, UnknownSince: stamp(time.Unix(1_000_000+int64(sec), 0))})
			}
		}
		for _, w := range args[2:] {
			w, hidden := strings.CutSuffix(w, ":hidden")
			m := session(w, kv["by"])
			m.Hidden = hidden
			a.Members = append(a.Members, m)
		}
		out = s.r.Attach(s.now, node(), a, stays(strings.Split(kv["stays"], ",")))
	case "suspend", "leave":
		m := session(args[2], "")
		m.Device.State = wire.State_SUSPENDED
		if args[0] == "leave" {
			m.Device.State = wire.State_LEFT
			m.Device.Reason = wire.Reason(wire.Reason_value[args[3]])
		}
		out = s.r.Change(s.now, node(), &peer.Change{Room: "r", User: m.User, Device: m.Device})
	case "report":
		m := session(args[2], "")
		out = s.r.Report(s.now, node(), memberFix(m, num("n"), s.now))
	case "withdraw": // what a session reported
		m := session(args[2], "")
		f := memberFix(m, num("n"), s.now)
		f.Fix.Point = nil
		out = s.r.Report(s.now, node(), f)
	case "post": // user n=, for= seconds, withdrawn
		f := memberFix(session(args[2]+"/"+edge.PostDevice+"@0", ""), num("n"), s.now)
		life := edge.FixLife
		if kv["for"] != "" {
			life = time.Duration(num("for")) * time.Second
		}
		if len(args) > 3 {
			f.Fix.Point = nil
		}
		out = s.r.Post(s.now, node(), &peer.Post{Room: "r", Fix: f, Until: stamp(s.now.Add(life))})
	case "located":
		fixes, _, heard := s.r.Located(s.now)
		return []string{"fixes" + showFixes(fixes) + " of " + fmt.Sprint(heard)}
	case "cross":
		out = s.r.Cross(s.now, &wire.Crossing{Id: kv["id"], User: args[1]})
	case "update":
		out = s.r.Update(s.now, &wire.Update{Id: kv["id"], Kind: args[1]})
	case "publish":
		out = s.r.Publish(s.now, &wire.Message{Number: num("number"), Body: "hi"})
	case "lost":
		out = s.r.NodeLost(s.now, node())
	case "changed":
		out = s.r.MembershipChanged(s.now, node(), num("version"))
	case "applied":
		out = s.r.Applied(s.now, node(), num("version"))
	case "subscribe":
		q := &peer.Subscribe{Room: "r", Whole: kv["whole"] != ""}
		if len(ps) > 0 {
			q.Position = ps[0]
		}
		out = s.r.Subscribe(s.now, region(), q)
	case "unsubscribe":
		out = s.r.Unsubscribe(s.now, region())
	case "refollow":
		out = s.r.Refollow(s.now, region())
	case "cut":
		out = s.r.Cut(s.now, region())
	case "ask":
		_, in, effects := s.r.Ask(s.now, region(), num("round"))
		if out = effects; in {
			return append(show(out), args[1]+" <- digest")
		}
	case "answered":
		out = s.r.Answered(s.now, region(), num("round"), args[2] == "same")
	case "digest": // of a region that follows us, as it has us there
		hash, in := s.r.Followed(region())
		if in && len(ps) > 0 && hash == digest("r", &feedOf{epoch: ps[0].Epoch, seq: ps[0].Seq}) {
			return append(show(s.r.Resume(s.now, region())), "the same")
		}
		s.r.Differed(region())
		return []string{"differs"}
	case "others":
		cfg := s.cfg
		cfg.Others = nil
		for _, o := range args[1:] {
			cfg.Others = append(cfg.Others, regions.RegionID(o))
		}
		out = s.r.SetOthers(s.now, &cfg)
	case "parts":
		p := &peer.Parts{Room: "r", Version: num("version")}
		if present := positions(kv["present"]); len(present) > 0 {
			p.Present = present[0]
		}
		if len(ps) > 0 {
			part := &wire.Part{At: ps[0]}
			for _, w := range args[2:] {
				m := session(w, "")
				part.People = append(part.People, &wire.Person{User: m.User, Name: m.Name, Devices: []*wire.Device{m.Device}})
			}
			p.Parts = []*wire.Part{part}
		}
		out = s.r.Parts(s.now, region(), &peer.Frame{Body: &peer.Frame_Parts{Parts: p}})
	case "event":
		m := session(args[2], "")
		if len(args) > 3 {
			m.Device.State = wire.State_LEFT
			m.Device.Reason = wire.Reason(wire.Reason_value[args[3]])
		}
		e := &wire.Event{Room: "r", At: ps[0], PriorEpoch: num("prior"), Body: &wire.Event_Presence{Presence: &wire.Presence{
			People: []*wire.Person{{User: m.User, Name: m.Name, Devices: []*wire.Device{m.Device}}},
		}}}
		out = s.r.Event(s.now, region(), &peer.Frame{Body: &peer.Frame_Event{Event: &peer.Event{
			Room: "r", At: ps[0], Version: num("version"), PriorEpoch: num("prior"),
			Frame: encode(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: e}}),
		}}})
	case "fixes":
		m := session(args[2], "")
		f := &wire.Fixes{Room: "r", Fixes: []*wire.MemberFix{memberFix(m, num("n"), s.now)}}
		if len(args) > 3 {
			f.Fixes[0].Fix.Point = nil
		}
		out = s.r.Fixes(s.now, region(), &peer.Fixes{Room: "r", Region: args[1], Epoch: num("epoch"),
			Frame: encode(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: f}})})
	case "idle":
		return []string{fmt.Sprint(s.r.Idle(s.now))}
	default:
		s.t.Fatalf("unknown command %q", line)
	}
	return show(out)
}

// wait ticks whenever the room asks for it.
func (s *story) wait(d time.Duration) []string {
	var out []string
	start, end := s.now, s.now.Add(d)
	for {
		next := s.r.Next()
		if next.IsZero() || next.After(end) || s.r.Idle(next) {
			break
		}
		if next.After(s.now) {
			s.now = next
		}
		for _, e := range show(s.r.Tick(s.now)) {
			out = append(out, fmt.Sprintf("+%v %s", s.now.Sub(start), e))
		}
	}
	s.now = end
	return out
}

// feedOf is a region as somebody has it; in do, region is something else.
type feedOf = region

// session reads user/device@epoch.
func session(w, transport string) *peer.Member {
	w, epoch, _ := strings.Cut(w, "@")
	user, device, _ := strings.Cut(w, "/")
	e, _ := strconv.ParseUint(epoch, 10, 64)
	tr := wire.Transport_WEBTRANSPORT
	if transport == "ws" {
		tr = wire.Transport_WEBSOCKET
	}
	return &peer.Member{User: user, Name: strings.ToUpper(user), Device: &wire.Device{
		Device: device, Epoch: e, State: wire.State_LIVE, Transport: tr,
	}}
}

// stays reads user/device@epoch:node and :suspended.
func stays(words []string) []regions.Stay {
	var out []regions.Stay
	for _, w := range words {
		if f := strings.Split(w, ":"); f[0] != "" {
			m := session(f[0], "")
			out = append(out, regions.Stay{
				SessionID: regions.SessionID{User: m.User, Device: m.Device.Device, Epoch: regions.Epoch(m.Device.Epoch)},
				Name:      m.Name, Node: regions.NodeID(append(f, "")[1]), Transport: m.Device.Transport,
				Suspended: len(f) > 2, Since: time.Unix(999_000, 0),
			})
		}
	}
	return out
}

// copied sends a hand-over to another node.
func copied(t *testing.T, h *peer.HandOver) *peer.HandOver {
	b, err := h.MarshalVT()
	require.NoError(t, err)
	var c peer.HandOver
	require.NoError(t, c.UnmarshalVT(b))
	return &c
}

func memberFix(m *peer.Member, n uint64, at time.Time) *wire.MemberFix {
	return &wire.MemberFix{User: m.User, Device: m.Device.Device, Epoch: m.Device.Epoch, Fix: &wire.Fix{
		Point: &wire.Point{Lat: 48, Lng: 11}, N: n, Captured: stamp(at),
	}}
}

// positions reads region:epoch:seq,...
func positions(w string) []*wire.Position {
	var ps []*wire.Position
	for p := range strings.SplitSeq(w, ",") {
		if f := strings.Split(p, ":"); len(f) == 3 {
			epoch, _ := strconv.ParseUint(f[1], 10, 64)
			seq, _ := strconv.ParseUint(f[2], 10, 64)
			ps = append(ps, &wire.Position{Region: f[0], Epoch: epoch, Seq: seq})
		}
	}
	return ps
}

// show writes effects as people read them, one line each.
func show(effects []Effect) []string {
	var out []string
	for _, e := range effects {
		to := string(e.Node)
		if e.Region != "" {
			to = string(e.Region)
		}
		if e.Fixes != nil {
			out = append(out, to+" <~ "+showFrame(e.Fixes.Frame))
			continue
		}
		out = append(out, to+" <- "+showPeer(e.Frame))
	}
	return out
}

func showPeer(f *peer.Frame) string {
	switch b := f.Body.(type) {
	case *peer.Frame_Event:
		return fmt.Sprintf("%s v%d", showFrame(b.Event.Frame), b.Event.Version)
	case *peer.Frame_Fixes:
		return showFrame(b.Fixes.Frame)
	case *peer.Frame_Joined:
		if b.Joined.Error != "" {
			return fmt.Sprintf("joined %d: %s by %d", b.Joined.Request, b.Joined.Error, b.Joined.Epoch)
		}
		s := fmt.Sprintf("joined %d at %s v%d", b.Joined.Request, showAts(b.Joined.Positions), b.Joined.Version)
		for _, frame := range b.Joined.Frames {
			s += "\n     " + showFrame(frame)
		}
		return s
	case *peer.Frame_Parts:
		s := fmt.Sprintf("parts v%d last %d", b.Parts.Version, b.Parts.LastNumber)
		for _, p := range b.Parts.Parts {
			s += "\n     " + showPart(p)
		}
		if n := len(b.Parts.Events); n > 0 {
			s += fmt.Sprintf("\n     and %d events before", n)
		}
		return s
	case *peer.Frame_Reach:
		return showFrame(b.Reach.Frame)
	case *peer.Frame_Fence:
		return fmt.Sprintf("fence %s/%s by %d", b.Fence.User, b.Fence.Device, b.Fence.Epoch)
	case *peer.Frame_Subscribe:
		if b.Subscribe.Position == nil {
			return "subscribe"
		}
		if b.Subscribe.Whole {
			return "subscribe whole, from " + showAts([]*wire.Position{b.Subscribe.Position})
		}
		return "subscribe from " + showAts([]*wire.Position{b.Subscribe.Position})
	case *peer.Frame_Unsubscribe:
		return "unsubscribe"
	case *peer.Frame_Applied:
		return fmt.Sprintf("applied v%d", b.Applied.Version)
	}
	return fmt.Sprintf("%T", f.Body)
}

func showFrame(body []byte) string {
	var f wire.ServerFrame
	if err := f.UnmarshalVT(body); err != nil {
		return err.Error()
	}
	switch b := f.Body.(type) {
	case *wire.ServerFrame_Snapshot:
		s := fmt.Sprintf("snapshot recovered=%v last=%d", b.Snapshot.Recovered, b.Snapshot.LastNumber)
		if len(b.Snapshot.Unreached) > 0 {
			s += " unreached" + showReach(b.Snapshot.Unreached)
		}
		for _, p := range b.Snapshot.Parts {
			s += "\n     " + showPart(p)
		}
		return s
	case *wire.ServerFrame_Event:
		s := "event " + showAts([]*wire.Position{b.Event.At})
		switch e := b.Event.Body.(type) {
		case *wire.Event_Presence:
			s += showPeople(e.Presence.People)
		case *wire.Event_Message:
			s += fmt.Sprintf(" message %d", e.Message.Number)
		case *wire.Event_Changed:
			s += fmt.Sprintf(" changed %d", e.Changed.Version)
		case *wire.Event_Crossing:
			s += " crossing " + e.Crossing.Id
		case *wire.Event_Update:
			s += " update " + e.Update.Kind + " " + e.Update.Id
		case *wire.Event_Continued:
			s += fmt.Sprintf(" continued from %d", b.Event.PriorEpoch)
		}
		return s
	case *wire.ServerFrame_Fixes:
		return "fixes" + showFixes(b.Fixes.Fixes)
	case *wire.ServerFrame_Reach:
		return "unreached" + showReach(b.Reach.Unreached)
	}
	return fmt.Sprintf("%T", f.Body)
}

func showPart(p *wire.Part) string {
	s := "part " + showAts([]*wire.Position{p.At}) + showPeople(p.People)
	if p.Truncated {
		s += fmt.Sprintf(" and more: %d live, %d suspended", p.Counts.GetLive(), p.Counts.GetSuspended())
	}
	if len(p.Fixes) > 0 {
		s += " fixes" + showFixes(p.Fixes)
	}
	return s
}

func showPeople(people []*wire.Person) string {
	var s string
	for _, p := range people {
		for _, d := range p.Devices {
			s += fmt.Sprintf(" %s/%s@%d:%s", p.User, d.Device, d.Epoch, d.State)
			if d.Reason != 0 {
				s += ":" + d.Reason.String()
			}
			if d.Node != "" {
				s += ":" + d.Node
			}
		}
	}
	return s
}

// showReach shows since when, in seconds of the story.
func showReach(us []*wire.RegionReach) string {
	if len(us) == 0 {
		return " none"
	}
	var s string
	for _, u := range us {
		s += " " + u.Region
		if u.UnknownSince != nil {
			s += fmt.Sprintf(" since %v", u.UnknownSince.AsTime().Sub(time.Unix(1_000_000, 0)))
		}
		if u.Lost {
			s += " lost"
		}
	}
	return s
}

func showFixes(fixes []*wire.MemberFix) string {
	var s string
	for _, f := range fixes {
		s += fmt.Sprintf(" %s/%s@%d#%d", f.User, f.Device, f.Epoch, f.Fix.N)
		if f.Fix.Point == nil {
			s += ":withdrawn"
		}
	}
	return s
}

func showAts(ps []*wire.Position) string {
	var s []string
	for _, p := range ps {
		s = append(s, fmt.Sprintf("%s:%d:%d", p.Region, p.Epoch, p.Seq))
	}
	slices.Sort(s)
	return strings.Join(s, ",")
}
