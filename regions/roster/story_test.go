package roster

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
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
	"github.com/mustermesh/muster/regions"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into testdata/*.txt; read the diff")

// TestStories runs testdata/*.txt: a line is a command, what it answers and
// causes stands below "----". The style is etcd raft's.
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
	s := &story{t: t, m: NewMachine("eu"), stamp: regions.Stamp{Term: 1, ClockMs: 1000, UptimeMs: 0}}
	s.m.OnEffects = func(_ uint64, effects []Effect) { s.effects = effects }
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
			s.m.View(func(st *State, _ uint64) { check(t, st) })
		}
	}
	return out.String()
}

type story struct {
	t       *testing.T
	m       *Machine
	stamp   regions.Stamp
	index   uint64
	effects []Effect
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
	ms := func(v string) uint64 {
		d, err := time.ParseDuration(v)
		require.NoError(s.t, err, line)
		return uint64(d.Milliseconds())
	}
	arg := func(i int) string {
		require.Greater(s.t, len(args), i, line)
		return args[i]
	}
	switch args[0] {
	case "wait": // both clocks of the leader
		s.stamp.ClockMs += ms(arg(1))
		s.stamp.UptimeMs += ms(arg(1))
		return nil
	case "clock": // only the wall clock, to a time
		s.stamp.ClockMs = num("ms")
		return nil
	case "leader": // a new one, whose monotonic clock has an origin of its own
		s.stamp.Term++
		s.stamp.UptimeMs = num("uptime")
		return nil
	case "show":
		return s.show(arg(1), args[2:])
	case "restart":
		return s.restart()
	}
	c := s.command(args, kv, num, ms, arg)
	return s.apply(c)
}

func (s *story) command(args []string, kv map[string]string, num func(string) uint64, ms func(string) uint64, arg func(int) string) *peer.RosterCommand {
	user, device, epoch := session(s.t, kv["of"])
	switch args[0] {
	case "up":
		capacity := uint64(1)
		if kv["capacity"] != "" {
			capacity = num("capacity")
		}
		return command(&peer.NodeUp{Node: arg(1), Incarnation: num("start"), Capacity: uint32(capacity), Media: uint32(num("media"))})
	case "drain":
		return command(&peer.NodeDrain{Node: arg(1), Incarnation: num("start")})
	case "down":
		return command(&peer.NodeDown{Node: arg(1), Incarnation: num("start")})
	case "remove":
		return command(&peer.NodeRemove{Node: arg(1)})
	case "balance":
		return command(&peer.SlotBalance{Max: uint32(num("max"))})
	case "move":
		return command(&peer.SlotMove{Slot: uint32(num("slot")), Epoch: num("epoch"), To: kv["to"]})
	case "open":
		return command(&peer.SessionOpen{
			User: user, Device: device, Floor: num("floor"), Node: arg(1), Incarnation: num("start"),
			Connection: num("conn"), Login: "l-" + user, Name: user, Transport: wire.Transport_WEBSOCKET,
		})
	case "resume":
		return command(&peer.SessionResume{User: user, Device: device, Epoch: epoch, Node: arg(1), Incarnation: num("start"), Connection: num("conn")})
	case "suspend":
		return command(&peer.SessionSuspend{User: user, Device: device, Epoch: epoch})
	case "close":
		return command(&peer.SessionClose{User: user, Device: device, Epoch: epoch, Reason: wire.Reason(wire.Reason_value[arg(1)])})
	case "expire":
		return command(&peer.SessionExpire{GraceMs: ms(kv["grace"]), KeepMs: ms(kv["keep"]), Max: uint32(num("max"))})
	case "join":
		return command(&peer.RoomJoin{User: user, Device: device, Epoch: epoch, Rooms: args[1:]})
	case "leave":
		return command(&peer.RoomLeave{User: user, Device: device, Epoch: epoch, Rooms: args[1:]})
	case "seen":
		return command(&peer.DeviceSeen{User: user, Device: device, Epoch: epoch, Region: arg(1)})
	case "place":
		return command(&peer.CallPlace{Call: arg(1), Room: "g:" + arg(1)})
	case "keep":
		return command(&peer.CallKeep{Node: arg(1), Incarnation: num("start"), Calls: []*peer.CallKept{{Call: arg(2), Epoch: num("epoch")}}})
	case "gone":
		return command(&peer.CallGone{Call: arg(1), Node: kv["at"], Epoch: num("epoch")})
	case "left":
		return command(&peer.CallLeft{Call: arg(1), Node: kv["at"], Epoch: num("epoch")})
	case "lapse":
		return command(&peer.CallExpire{KeepMs: ms(kv["keep"]), Max: 100})
	case "ask":
		return command(&peer.FloorAsk{
			Call: arg(1), User: user, Device: device, Epoch: epoch, Region: "eu", Node: kv["at"],
			Priority: uint32(num("priority")), MaxTalkMs: num("talk"), Released: num("released"),
		})
	case "release":
		return command(&peer.FloorRelease{Call: arg(1), User: user, Device: device, Epoch: epoch, Node: kv["at"], Grant: num("grant")})
	case "take":
		return command(&peer.FloorTake{Call: arg(1), Grant: num("grant")})
	}
	s.t.Fatalf("unknown command %q", args)
	return nil
}

func (s *story) apply(c *peer.RosterCommand) []string {
	s.effects = nil
	s.index++
	a := apply(s.t, s.m, s.index, seal(s.t, s.stamp, c))[0]
	out := []string{answer(a)}
	return append(out, showEffects(s.effects)...)
}

// restart writes a snapshot and goes on from it.
func (s *story) restart() []string {
	var b bytes.Buffer
	require.NoError(s.t, s.m.Snapshot()(&b))
	m := NewMachine("eu")
	m.OnEffects = s.m.OnEffects
	require.NoError(s.t, m.Restore(&b))
	s.m = m
	return showEffects(s.effects)
}

func (s *story) show(what string, args []string) (out []string) {
	s.m.View(func(st *State, index uint64) {
		switch what {
		case "nodes":
			for _, n := range st.Nodes() {
				out = append(out, fmt.Sprintf("%s start=%d %v capacity=%d slots=%d sessions=%d since=%d", n.ID, n.Incarnation, n.State,
					n.Capacity, len(st.SlotsOf(n.ID)), len(st.SessionsOn(n.ID)), n.Since))
			}
		case "slot":
			i, err := strconv.Atoi(args[0])
			require.NoError(s.t, err)
			out = append(out, fmt.Sprintf("%q epoch=%d", st.Owner(i).Owner, st.Owner(i).Epoch))
		case "plan":
			for from, n := range tally(st.Plan(regions.Slots), func(m Move) string { return fmt.Sprintf("%s -> %s", m.From, m.To) }) {
				out = append(out, fmt.Sprintf("%s: %d slots", from, n))
			}
			slices.Sort(out)
		case "user":
			for _, x := range st.Sessions(args[0]) {
				out = append(out, showSession(x))
			}
		case "room":
			for _, x := range st.RoomMembers(args[0]) {
				out = append(out, showSession(x))
			}
		case "counts":
			out = append(out, fmt.Sprintf("%+v forgotten=%d", st.Counts(), st.forgotten))
		default:
			s.t.Fatalf("show %q?", what)
		}
	})
	return out
}

func showSession(x *Session) string {
	out := fmt.Sprintf("%s/%s@%d %v on %s", x.User, x.Device, x.Epoch, x.State, x.Node)
	return out + in(x.Rooms())
}

// session reads user/device@epoch.
func session(t *testing.T, w string) (user, device string, epoch uint64) {
	w, e, has := strings.Cut(w, "@")
	user, device, _ = strings.Cut(w, "/")
	if has {
		var err error
		epoch, err = strconv.ParseUint(e, 10, 64)
		require.NoError(t, err)
	}
	return user, device, epoch
}

func answer(a *peer.RosterAnswer) string {
	out := strings.ToLower(strings.TrimPrefix(a.Code.String(), "ROSTER_"))
	if a.Epoch > 0 {
		out += fmt.Sprintf(" epoch=%d", a.Epoch)
	}
	if a.PreviousNode != "" {
		out += fmt.Sprintf(" before=%s@%d", a.PreviousNode, a.PreviousEpoch)
	}
	if a.Suspended {
		out += " suspended"
	}
	if a.Changed > 0 {
		out += fmt.Sprintf(" changed=%d", a.Changed)
	}
	if a.More {
		out += " more"
	}
	if c := a.Call; c != nil {
		out += " on " + c.Node
		if c.Former != "" {
			out += fmt.Sprintf(" from %s@%d", c.Former, c.FormerEpoch)
		}
	}
	if len(a.Lost) > 0 {
		out += " lost " + strings.Join(a.Lost, " ")
	}
	if f := a.Floor; f != nil {
		out += " " + strings.ToLower(strings.TrimPrefix(f.Standing.String(), "FLOOR_"))
		if f.Position > 0 {
			out += fmt.Sprintf(" as %d", f.Position)
		}
		out += fmt.Sprintf(", %d wait", f.Waiting)
		if f.Grant > 0 {
			out += fmt.Sprintf(", %s/%s@%d has grant %d for %d ms", f.User, f.Device, f.Epoch, f.Grant, f.LeaseMs)
		}
	}
	return out + in(a.Rooms)
}

// showEffects tells slots by their sum: there are too many for a story.
func showEffects(effects []Effect) (out []string) {
	var moved []SlotMoved
	for _, e := range effects {
		switch e := e.(type) {
		case NodeChanged:
			out = append(out, fmt.Sprintf("-> node %s start=%d %v%s", e.Node, e.Incarnation, e.State, map[bool]string{true: ", removed"}[e.Removed]))
		case SlotMoved:
			moved = append(moved, e)
		case SessionOpened:
			out = append(out, fmt.Sprintf("-> opened %s/%s@%d on %s%s", e.User, e.Device, e.Epoch, e.Node, map[bool]string{true: ", resumed"}[e.Resumed]))
		case SessionFenced:
			by := ""
			if e.Region != "" {
				by = " in " + string(e.Region)
			}
			out = append(out, fmt.Sprintf("-> fenced %s/%s@%d on %s by %d%s", e.User, e.Device, e.Epoch, e.Node, e.Winning, by))
		case SessionSuspended:
			out = append(out, fmt.Sprintf("-> suspended %s/%s@%d on %s%s", e.User, e.Device, e.Epoch, e.Node, map[bool]string{true: ", node lost"}[e.NodeLost])+in(e.Rooms))
		case SessionEnded:
			out = append(out, fmt.Sprintf("-> ended %s/%s@%d on %s %v", e.User, e.Device, e.Epoch, e.Node, e.Reason)+in(e.Rooms))
		case CallMoved:
			out = append(out, fmt.Sprintf("-> call %s in %s: %q -> %q epoch %d%s", e.Call, e.Room, e.From, e.To, e.Epoch, map[bool]string{true: ", draining"}[e.Draining]))
		case Restored:
			out = append(out, "-> restored")
		}
	}
	sums := tally(moved, func(m SlotMoved) string {
		return fmt.Sprintf("slots %q -> %q epoch %d", m.From, m.To, m.Epoch)
	})
	for _, k := range slices.Sorted(maps.Keys(sums)) {
		out = append(out, fmt.Sprintf("-> %d %s", sums[k], k))
	}
	return out
}

func in(rooms []string) string {
	if len(rooms) == 0 {
		return ""
	}
	return " in " + strings.Join(rooms, " ")
}

func tally[T any](all []T, key func(T) string) map[string]int {
	out := map[string]int{}
	for _, x := range all {
		out[key(x)]++
	}
	return out
}
