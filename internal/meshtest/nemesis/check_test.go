package nemesis

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/client/roomstate"
)

// story is a history made by hand: things happen a second apart.
type story struct {
	*History
	at time.Duration
}

const theRoom = "group:one"

var (
	ada = Key{"ada", "phone"}
	bob = Key{"bob", "phone"}
)

func newStory() *story {
	s := &story{History: NewHistory(10 * time.Second)}
	s.Settled = true
	return s
}

func (s *story) later(d time.Duration) { s.at += d }

func (s *story) see(r *Run, x Sight) {
	s.at += time.Second
	x.At = s.at
	r.Sights = append(r.Sights, x)
}

func (s *story) says(r *Run, conn int, node string, f *wire.ClientFrame) {
	s.see(r, Sight{Conn: conn, Node: node, Out: f})
}

func (s *story) gets(r *Run, conn int, node string, f *wire.ServerFrame) {
	s.see(r, Sight{Conn: conn, Node: node, In: f})
}

// connects says hello and is welcomed.
func (s *story) connects(r *Run, conn int, node string, epoch uint64, follows ...string) {
	h := &wire.Hello{}
	for _, room := range follows {
		h.Follows = append(h.Follows, &wire.Follow{Room: room})
	}
	s.says(r, conn, node, &wire.ClientFrame{Body: &wire.ClientFrame_Hello{Hello: h}})
	s.gets(r, conn, node, &wire.ServerFrame{Body: &wire.ServerFrame_Welcome{Welcome: &wire.Welcome{Epoch: epoch, Region: regionOf(node)}}})
}

func (s *story) loses(r *Run, conn int, node string) {
	s.see(r, Sight{Conn: conn, Node: node, End: errors.New("gone")})
}

func snapshot(recovered bool, at ...*wire.Position) *wire.ServerFrame {
	f := &wire.Snapshot{Room: theRoom, Recovered: recovered}
	for _, p := range at {
		f.Parts = append(f.Parts, &wire.Part{At: p})
	}
	return &wire.ServerFrame{Body: &wire.ServerFrame_Snapshot{Snapshot: f}}
}

func at(region string, epoch, seq uint64) *wire.Position {
	return &wire.Position{Region: region, Epoch: epoch, Seq: seq}
}

func event(p *wire.Position, prior uint64, body string) *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{
		Room: theRoom, At: p, PriorEpoch: prior, Body: &wire.Event_Message{Message: &wire.Message{Body: body}},
	}}}
}

func (s *story) hears(r *Run, e client.Event) {
	s.at += time.Second
	r.Heard = append(r.Heard, Heard{s.at, theRoom, e})
}

func presence(k Key, epoch uint64, state wire.State, reason wire.Reason) client.Event {
	return client.PresenceChanged{User: k.User, Device: roomstate.Device{ID: k.Device, Epoch: epoch, State: state, Region: "eu-west", Reason: reason}}
}

func (s *story) speaks(node string, epoch, seq uint64, devices ...Device) {
	s.at += time.Second
	s.Spoken = append(s.Spoken, Spoken{
		At: s.at, Node: node, Region: regionOf(node), Room: theRoom, Epoch: epoch, Seq: seq, Devices: devices,
		Event: event(at(regionOf(node), epoch, seq), 0, "").GetEvent(),
	})
}

// TestCheck: each promise, kept and broken.
func TestCheck(t *testing.T) {
	live := func(k Key, epoch uint64) Device { return Device{Key: k, Epoch: epoch, State: wire.State_LIVE} }
	for name, c := range map[string]struct {
		broken string // the promise, "" if all are kept
		tell   func(s *story)
	}{
		"epochs that grow": {"", func(s *story) {
			r := s.run(ada)
			s.connects(r, 1, "eu-west-1", 100)
			s.connects(r, 2, "eu-west-2", 101)
			s.connects(r, 3, "us-east-1", 50) // another region, which has not heard
		}},
		"an epoch that goes back": {checks[0].promise, func(s *story) {
			r := s.run(ada)
			s.connects(r, 1, "eu-west-1", 101)
			s.connects(r, 2, "eu-west-2", 100)
		}},
		"an epoch twice": {checks[0].promise, func(s *story) {
			s.connects(s.run(ada), 1, "eu-west-1", 100)
			s.connects(s.run(ada), 2, "eu-west-2", 100)
		}},
		"two events under one number": {checks[1].promise, func(s *story) {
			r := s.run(ada)
			s.gets(r, 1, "eu-west-1", event(at("eu-west", 7, 1), 0, "one"))
			s.gets(r, 2, "eu-west-2", event(at("eu-west", 7, 1), 0, "another"))
		}},
		"a successor repeats": {"", func(s *story) {
			s.speaks("eu-west-1", 7, 1)
			s.speaks("eu-west-1", 7, 2)
			s.speaks("eu-west-2", 8, 3)
			s.later(time.Minute)
			s.speaks("eu-west-2", 7, 2)
		}},
		"an owner goes on": {ownersStop, func(s *story) {
			s.speaks("eu-west-1", 7, 1)
			s.speaks("eu-west-2", 8, 1)
			s.later(2 * time.Second)
			s.speaks("eu-west-1", 7, 2)
		}},
		"a device comes back under its old epoch": {checks[3].promise, func(s *story) {
			s.speaks("eu-west-1", 7, 1, live(ada, 100))
			s.speaks("eu-west-1", 7, 2, live(ada, 101))
			s.speaks("eu-west-1", 7, 3, live(ada, 100))
		}},
		"a fix taken after its session was over": {checks[3].promise, func(s *story) {
			s.speaks("eu-west-1", 7, 1, live(ada, 101))
			s.speaks("eu-west-1", 7, 0, Device{Key: ada, Epoch: 100, Captured: s.at + time.Second/2})
		}},
		"a fix told late": {"", func(s *story) {
			s.speaks("eu-west-1", 7, 1, live(ada, 101))
			s.speaks("eu-west-1", 7, 0, Device{Key: ada, Epoch: 100})
		}},
		"an observer goes back": {checks[4].promise, func(s *story) {
			r := s.run(bob)
			s.hears(r, presence(ada, 101, wire.State_LIVE, 0))
			s.hears(r, presence(ada, 100, wire.State_LIVE, 0))
		}},
		"an earlier owner is believed": {edgesRefuse, func(s *story) {
			r := s.run(bob)
			s.gets(r, 1, "eu-west-1", snapshot(false, at("eu-west", 8, 0)))
			s.gets(r, 1, "eu-west-1", event(at("eu-west", 8, 1), 0, "one"))
			s.gets(r, 1, "eu-west-1", event(at("eu-west", 7, 9), 0, "late"))
		}},
		"missed and told": {"", func(s *story) {
			r := s.run(bob)
			s.gets(r, 1, "eu-west-1", snapshot(false, at("eu-west", 7, 3)))
			s.gets(r, 2, "eu-west-1", snapshot(false, at("eu-west", 7, 5)))
		}},
		"missed and not told": {checks[6].promise, func(s *story) {
			r := s.run(bob)
			s.gets(r, 1, "eu-west-1", snapshot(false, at("eu-west", 7, 3)))
			s.gets(r, 2, "eu-west-1", snapshot(true, at("eu-west", 7, 5)))
		}},
		"the last event is missed": {checks[6].promise, func(s *story) {
			for i, k := range []Key{ada, bob} {
				r := s.run(k)
				s.connects(r, 1, "eu-west-1", 100)
				s.gets(r, 1, "eu-west-1", snapshot(false, at("eu-west", 7, 3)))
				if i == 0 {
					s.gets(r, 1, "eu-west-1", event(at("eu-west", 7, 4), 0, "last"))
				}
				s.Final = append(s.Final, Observer{Run: r, Room: theRoom})
			}
		}},
		"a continuation misses nothing": {"", func(s *story) {
			for i, k := range []Key{ada, bob} {
				r := s.run(k)
				s.connects(r, 1, "eu-west-1", 100)
				s.gets(r, 1, "eu-west-1", snapshot(false, at("eu-west", 7, 3)))
				if i == 0 {
					s.gets(r, 1, "eu-west-1", event(at("eu-west", 8, 4), 7, "on"))
				} else {
					s.gets(r, 1, "eu-west-1", snapshot(false, at("eu-west", 8, 4)))
				}
				s.Final = append(s.Final, Observer{Run: r, Room: theRoom})
			}
		}},
		"a message twice": {checks[7].promise, func(s *story) {
			r := s.run(bob)
			s.Stored[theRoom] = Kept{Messages: []*wire.Message{{Number: 1, Body: "hi"}}}
			s.hears(r, client.MessageArrived{Message: client.Message{Number: 1, Body: "hi"}})
			s.hears(r, client.MessageArrived{Message: client.Message{Number: 1, Body: "hi"}})
		}},
		"an acknowledged message is lost": {checks[8].promise, func(s *story) {
			s.acked(s.run(bob), theRoom, client.Message{Number: 1, Body: "hi"})
		}},
		"a revision overtakes": {"", func(s *story) {
			r := s.run(bob)
			s.Stored[theRoom] = Kept{Messages: []*wire.Message{{Number: 1, Body: "c", Change: 2}}, Change: 2}
			s.hears(r, client.MessageArrived{Message: client.Message{Number: 1, Body: "b", Change: 1}})
			s.hears(r, client.Revised{Message: client.Message{Number: 1, Body: "c", Change: 2}})
		}},
		"an acknowledged revision is lost": {checks[9].promise, func(s *story) {
			r := s.run(ada)
			s.Stored[theRoom] = Kept{Messages: []*wire.Message{{Number: 1}, {Number: 2, Change: 1}}, Change: 1}
			r.Revised = []*Acked{{0, theRoom, client.Message{Number: 1, Change: 1}}}
		}},
		"a revision without a message": {checks[9].promise, func(s *story) {
			s.Stored[theRoom] = Kept{Messages: []*wire.Message{{Number: 1, Change: 1}}, Change: 2}
		}},
		"two revisions under one number": {checks[9].promise, func(s *story) {
			s.Stored[theRoom] = Kept{Messages: []*wire.Message{{Number: 1, Body: "b", Change: 1}}, Change: 1}
			s.gets(s.run(ada), 1, "eu-west-1", &wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{
				Room: theRoom, At: at("eu-west", 7, 1),
				Body: &wire.Event_Revised{Revised: &wire.Revised{Change: 1, Message: &wire.Message{Number: 1, Body: "c", Change: 1}}},
			}}})
		}},
		"a message goes back": {checks[10].promise, func(s *story) {
			r := s.run(bob)
			s.hears(r, client.Revised{Message: client.Message{Number: 1, Body: "c", Change: 2}})
			s.hears(r, client.Revised{Message: client.Message{Number: 1, Body: "b", Change: 1}})
		}},
		"a receipt goes back": {checks[11].promise, func(s *story) {
			r := s.run(bob)
			s.hears(r, client.ReceiptsChanged{Seen: []client.Seen{{User: "ada", Delivered: 3, Read: 2}}})
			s.hears(r, client.ReceiptsChanged{Seen: []client.Seen{{User: "ada", Delivered: 4, Read: 1}}})
		}},
		"a blip": {checks[12].promise, func(s *story) {
			r := s.run(ada)
			s.connects(r, 1, "eu-west-1", 100)
			s.gets(r, 1, "eu-west-1", snapshot(false))
			s.loses(r, 1, "eu-west-1")
			s.connects(r, 2, "eu-west-2", 101, theRoom)
			s.hears(s.run(bob), presence(ada, 100, wire.State_LEFT, wire.Reason_TIMED_OUT))
		}},
		"away for long": {"", func(s *story) {
			r := s.run(ada)
			s.connects(r, 1, "eu-west-1", 100)
			s.gets(r, 1, "eu-west-1", snapshot(false))
			s.loses(r, 1, "eu-west-1")
			s.later(10 * time.Second)
			s.hears(s.run(bob), presence(ada, 100, wire.State_LEFT, wire.Reason_TIMED_OUT))
			s.connects(r, 2, "eu-west-2", 101, theRoom)
		}},
		"left by itself": {"", func(s *story) {
			r := s.run(ada)
			s.connects(r, 1, "eu-west-1", 100)
			s.gets(r, 1, "eu-west-1", snapshot(false))
			s.says(r, 1, "eu-west-1", &wire.ClientFrame{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: theRoom}}})
			s.hears(s.run(bob), presence(ada, 100, wire.State_LEFT, wire.Reason_BYE))
		}},
		"connected all the time": {checks[12].promise, func(s *story) {
			r := s.run(ada)
			s.connects(r, 1, "eu-west-1", 100)
			s.gets(r, 1, "eu-west-1", snapshot(false))
			s.hears(s.run(bob), presence(ada, 100, wire.State_LEFT, wire.Reason_TIMED_OUT))
		}},
		"moved within a region": {checks[12].promise, func(s *story) {
			r := s.run(ada)
			s.connects(r, 1, "eu-west-1", 100)
			s.gets(r, 1, "eu-west-1", snapshot(false))
			s.connects(r, 2, "eu-west-2", 101, theRoom)
			s.hears(s.run(bob), presence(ada, 100, wire.State_LEFT, wire.Reason_MOVED))
		}},
		"a ghost": {checks[13].promise, func(s *story) {
			s.Settled = false
			s.Final = []Observer{{Run: s.run(bob), Room: theRoom, Members: map[Key]Seen{ada: {100, wire.State_SUSPENDED}}}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			c.tell(s)
			found := map[string]bool{}
			for _, v := range Check(s.History) {
				found[v.Promise] = true
			}
			if c.broken == "" {
				require.Empty(t, found)
			} else {
				require.Equal(t, map[string]bool{c.broken: true}, found)
			}
		})
	}
}

func TestScheduleIsTheSeeds(t *testing.T) {
	s := Shape{Regions: 3, Nodes: 3}
	a, b := Schedule(7, s, time.Minute), Schedule(7, s, time.Minute)
	require.NotEmpty(t, a)
	require.Equal(t, a, b)
	require.NotEqual(t, a, Schedule(8, s, time.Minute))
	for i, f := range a {
		require.LessOrEqual(t, f.At+f.For, time.Minute, f)
		for _, g := range a[:i] {
			ends := f.Kind == Kill || f.Kind == Drain || f.Kind == DiskFull
			if ends && g.On == f.On && (g.Kind == Kill || g.Kind == Drain || g.Kind == DiskFull) {
				require.Greater(t, f.At, g.At+g.For, "a node ends once at a time")
			}
		}
	}
}
