package roomstate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

const (
	eu = "eu-west"
	us = "us-east"
)

func device(id string, epoch uint64, state wire.State, region string) *wire.Device {
	return &wire.Device{Device: id, Epoch: epoch, State: state, Region: region, Since: timestamppb.New(time.Unix(0, 0))}
}

func person(user string, devices ...*wire.Device) *wire.Person {
	return &wire.Person{User: user, Name: user, Devices: devices}
}

func pos(region string, epoch, seq uint64) *wire.Position {
	return &wire.Position{Region: region, Epoch: epoch, Seq: seq}
}

func part(at *wire.Position, people ...*wire.Person) *wire.Part {
	return &wire.Part{At: at, People: people}
}

func snap(last uint64, parts ...*wire.Part) *wire.Snapshot {
	return &wire.Snapshot{Recovered: true, LastNumber: last, Parts: parts}
}

func presence(at *wire.Position, people ...*wire.Person) *wire.Event {
	return &wire.Event{At: at, Body: &wire.Event_Presence{Presence: &wire.Presence{People: people}}}
}

func message(at *wire.Position, n uint64) *wire.Event {
	return &wire.Event{At: at, Body: &wire.Event_Message{Message: msg(n)}}
}

func msg(n uint64) *wire.Message { return &wire.Message{Number: n, Body: fmt.Sprint(n)} }

func fix(user, dev string, epoch, n uint64) *wire.MemberFix {
	return &wire.MemberFix{User: user, Device: dev, Epoch: epoch, Fix: &wire.Fix{
		Point: &wire.Point{Lat: 1, Lng: float64(n)}, N: n, Captured: timestamppb.New(time.Unix(int64(n), 0)),
	}}
}

// only returns the events of one type.
func only[E roomstate.Event](events []roomstate.Event) (out []E) {
	for _, e := range events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// apply gives an event that must apply.
func apply(t *testing.T, s *roomstate.State, e *wire.Event) []roomstate.Event {
	t.Helper()
	out, verdict := s.Event(e)
	require.Equal(t, roomstate.Applied, verdict)
	return out
}

// states renders the members as "user/device@epoch state".
func states(s *roomstate.State) (out []string) {
	for _, m := range s.Members() {
		for _, d := range m.Devices {
			out = append(out, fmt.Sprintf("%s/%s@%d %s", m.User, d.ID, d.Epoch, d.State))
		}
	}
	return out
}

func TestPositions(t *testing.T) {
	s := roomstate.New()
	_, verdict := s.Event(presence(pos(eu, 5, 1), person("ada", device("p", 1, wire.State_LIVE, eu))))
	require.Equal(t, roomstate.Gap, verdict, "a region of which nothing is known needs a snapshot")

	s.Snapshot(snap(0, part(pos(eu, 5, 10)), part(pos(us, 2, 3))))
	require.False(t, s.Gapped())
	apply(t, s, presence(pos(eu, 5, 11), person("ada", device("p", 1, wire.State_LIVE, eu))))
	for _, dup := range []*wire.Position{pos(eu, 5, 11), pos(eu, 5, 4), pos(eu, 4, 99), pos(us, 2, 3)} {
		_, verdict = s.Event(presence(dup))
		require.Equal(t, roomstate.Duplicate, verdict, "%v", dup)
	}
	for _, gap := range []*wire.Position{pos(eu, 5, 13), pos(eu, 6, 12), pos(us, 3, 1)} {
		_, verdict = s.Event(presence(gap))
		require.Equal(t, roomstate.Gap, verdict, "%v", gap)
	}
	require.True(t, s.Gapped())
	require.EqualValues(t, 3, s.Counters().Gaps, "one per region while it lasts, and the first one")

	// A join that recovered: what was missed follows.
	s.Rejoined()
	require.False(t, s.Gapped())
	apply(t, s, presence(pos(eu, 5, 12)))
	apply(t, s, presence(pos(eu, 5, 13)))
	require.Len(t, s.Positions(), 2)
	require.EqualValues(t, 13, s.Positions()[0].Seq)
}

// A new owner that was handed the room goes on where the other one ended.
func TestContinued(t *testing.T) {
	continued := func(at *wire.Position, prior uint64) *wire.Event {
		return &wire.Event{At: at, PriorEpoch: prior, Body: &wire.Event_Continued{Continued: &wire.Continued{}}}
	}
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 5, 10), person("ada", device("p", 1, wire.State_LIVE, eu)))))
	for _, gap := range []*wire.Event{
		continued(pos(eu, 6, 12), 5), // an event of the old owner is missing
		continued(pos(eu, 7, 11), 6), // a whole owner is
		presence(pos(eu, 6, 11)),     // it does not say so
		continued(pos(us, 2, 1), 0),  // nothing is known of that region
	} {
		require.Equal(t, roomstate.Gap, s.Judge(gap), "%v", gap)
	}
	require.Empty(t, apply(t, s, continued(pos(eu, 6, 11), 5)), "nothing to see")
	require.Equal(t, []string{"ada/p@1 LIVE"}, states(s))
	require.Equal(t, roomstate.Duplicate, s.Judge(presence(pos(eu, 5, 11))), "the old owner is out")
	apply(t, s, presence(pos(eu, 6, 12), person("ada", device("p", 1, wire.State_SUSPENDED, eu))))
	apply(t, s, continued(pos(eu, 9, 13), 6))
	require.False(t, s.Gapped())
	require.EqualValues(t, 9, s.Positions()[0].Epoch)
	require.Zero(t, s.Counters().Gaps)
}

// Two connections feed one state while a session moves: what the slower one has
// to say does not turn it back.
func TestStaleSnapshot(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 5, 10))))
	apply(t, s, presence(pos(eu, 5, 11), person("ada", device("p", 1, wire.State_LIVE, eu))))
	for _, old := range []*wire.Position{pos(eu, 5, 10), pos(eu, 4, 90)} {
		require.Empty(t, s.Snapshot(snap(0, part(old))))
	}
	require.Equal(t, []string{"ada/p@1 LIVE"}, states(s))
	require.EqualValues(t, 2, s.Counters().StaleParts)
	require.EqualValues(t, 11, s.Positions()[0].Seq)

	// A region that was started anew counts from the beginning and says so.
	anew := snap(0, part(pos(eu, 1, 2)))
	anew.Recovered = false
	s.Snapshot(anew)
	require.Empty(t, states(s))
	apply(t, s, presence(pos(eu, 1, 3)))
}

// A user is live while any device is.
func TestMergedState(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0)), part(pos(us, 1, 0))))
	seq := map[string]uint64{}
	for _, step := range []struct {
		dev, region string
		state, want wire.State
		counts      roomstate.Counts
	}{
		{"phone", eu, wire.State_LIVE, wire.State_LIVE, roomstate.Counts{Live: 1}},
		{"tab", us, wire.State_LIVE, wire.State_LIVE, roomstate.Counts{Live: 1}},
		{"phone", eu, wire.State_SUSPENDED, wire.State_LIVE, roomstate.Counts{Live: 1}},
		{"tab", us, wire.State_SUSPENDED, wire.State_SUSPENDED, roomstate.Counts{Suspended: 1}},
		{"phone", eu, wire.State_LEFT, wire.State_SUSPENDED, roomstate.Counts{Suspended: 1}},
		{"tab", us, wire.State_LIVE, wire.State_LIVE, roomstate.Counts{Live: 1}},
		{"tab", us, wire.State_LEFT, wire.State_LEFT, roomstate.Counts{}},
	} {
		seq[step.region]++
		out := apply(t, s, presence(pos(step.region, 1, seq[step.region]), person("ada", device(step.dev, 1, step.state, step.region))))
		require.Equal(t, step.want, only[roomstate.PresenceChanged](out)[0].State, "%+v", step)
		require.Equal(t, step.counts, s.Counts(), "%+v", step)
	}
}

// A big room shows its first page; the others are neither here nor gone.
func TestTruncated(t *testing.T) {
	s := roomstate.New()
	live := func(user string) *wire.Person { return person(user, device("p", 1, wire.State_LIVE, eu)) }
	s.Snapshot(snap(0, part(pos(eu, 1, 0), live("ada"), live("bob"), live("zoe"))))
	s.Fixes([]*wire.MemberFix{fix("ada", "p", 1, 1), fix("zoe", "p", 1, 1)})
	page := part(pos(eu, 2, 0), live("ada"), live("cyd"))
	page.Truncated, page.Counts = true, &wire.Counts{Live: 300, Suspended: 4}
	out := s.Snapshot(snap(0, page))
	require.Equal(t, []string{"ada/p@1 LIVE", "cyd/p@1 LIVE"}, states(s))
	require.Equal(t, roomstate.Counts{Live: 300, Suspended: 4, Truncated: true}, s.Counts())
	changed := only[roomstate.PresenceChanged](out)
	require.Len(t, changed, 2)
	require.Equal(t, "bob", changed[1].User, "who would be on the page has left")
	require.Equal(t, wire.State_LEFT, changed[1].State)
	require.True(t, only[roomstate.RegionReplaced](out)[0].Truncated)
	require.Len(t, s.Fixed(), 1, "who stays keeps the fix that is known")

	e := presence(pos(eu, 2, 1), live("zoe"))
	e.GetPresence().Counts = &wire.Counts{Live: 301, Suspended: 3}
	require.Len(t, only[roomstate.PresenceChanged](apply(t, s, e)), 1)
	require.Equal(t, roomstate.Counts{Live: 301, Suspended: 3, Truncated: true}, s.Counts())
	require.Len(t, s.Members(), 3)
}

func TestSnapshotReplacesItsRegionsOnly(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0,
		part(pos(eu, 1, 1), person("ada", device("p", 1, wire.State_LIVE, eu)), person("bob", device("p", 1, wire.State_LIVE, eu))),
		part(pos(us, 1, 1), person("cyd", device("p", 1, wire.State_LIVE, us)))))
	out := s.Snapshot(snap(0, part(pos(eu, 2, 0), person("bob", device("p", 1, wire.State_LIVE, eu)))))
	require.Equal(t, []string{"bob/p@1 LIVE", "cyd/p@1 LIVE"}, states(s))
	gone := only[roomstate.PresenceChanged](out)
	require.Len(t, gone, 1, "bob was known already")
	require.Equal(t, "ada", gone[0].User)
	require.Equal(t, wire.State_LEFT, gone[0].Device.State)
	require.Equal(t, eu, only[roomstate.RegionReplaced](out)[0].Region)
}

func TestHighestEpochWins(t *testing.T) {
	// Ada's phone moves from eu (epoch 10) to us (epoch 11). Whatever the order
	// of what the two regions say, she is live in us.
	said := []func(s *roomstate.State){
		func(s *roomstate.State) {
			s.Event(presence(pos(eu, 1, 1), person("ada", device("p", 10, wire.State_LIVE, eu))))
			s.Event(presence(pos(eu, 1, 2), person("ada", device("p", 10, wire.State_LEFT, eu))))
		},
		func(s *roomstate.State) {
			s.Event(presence(pos(us, 1, 1), person("ada", device("p", 11, wire.State_LIVE, us))))
		},
	}
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		s := roomstate.New()
		s.Snapshot(snap(0, part(pos(eu, 1, 0)), part(pos(us, 1, 0))))
		for _, i := range order {
			said[i](s)
		}
		require.Equal(t, []string{"ada/p@11 LIVE"}, states(s))
	}

	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0)), part(pos(us, 1, 0))))
	apply(t, s, presence(pos(us, 1, 1), person("ada", device("p", 11, wire.State_LIVE, us))))
	apply(t, s, presence(pos(us, 1, 2), person("ada", device("p", 11, wire.State_LEFT, us))))
	apply(t, s, presence(pos(eu, 1, 1), person("ada", device("p", 10, wire.State_LIVE, eu))))
	require.Empty(t, states(s), "she has left; an older word does not bring her back")
	s.Snapshot(snap(0, part(pos(eu, 1, 5), person("ada", device("p", 10, wire.State_LIVE, eu)))))
	require.Empty(t, states(s))
	apply(t, s, presence(pos(eu, 1, 6), person("ada", device("p", 12, wire.State_LIVE, eu))))
	require.Equal(t, []string{"ada/p@12 LIVE"}, states(s))

	// A tie goes to the region that sorts last.
	apply(t, s, presence(pos(us, 1, 3), person("ada", device("p", 12, wire.State_SUSPENDED, us))))
	apply(t, s, presence(pos(eu, 1, 7), person("ada", device("p", 12, wire.State_LEFT, eu))))
	require.Equal(t, []string{"ada/p@12 SUSPENDED"}, states(s))
}

func TestLeaveAndComeBackInOneSession(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0), person("ada", device("p", 1, wire.State_LIVE, eu)))))
	s.Fixes([]*wire.MemberFix{fix("ada", "p", 1, 5)})
	apply(t, s, presence(pos(eu, 1, 1), person("ada", device("p", 1, wire.State_LEFT, eu))))
	require.Empty(t, s.Fixed())
	require.Empty(t, s.Fixes([]*wire.MemberFix{fix("ada", "p", 1, 6)}), "a late fix of somebody who has left")
	apply(t, s, presence(pos(eu, 1, 2), person("ada", device("p", 1, wire.State_LIVE, eu))))
	require.Equal(t, []string{"ada/p@1 LIVE"}, states(s))
	require.Empty(t, s.Fixed())
	require.Len(t, s.Fixes([]*wire.MemberFix{fix("ada", "p", 1, 7)}), 1)
}

func TestFixes(t *testing.T) {
	s := roomstate.New()
	require.Len(t, s.Fixes([]*wire.MemberFix{fix("ada", "p", 1, 2)}), 1, "faster than the presence event")
	require.Empty(t, s.Fixed(), "shown once she is there")
	p := part(pos(eu, 1, 0), person("ada", device("p", 1, wire.State_LIVE, eu)))
	p.Fixes = []*wire.MemberFix{fix("ada", "p", 1, 1)}
	s.Snapshot(snap(0, p))
	require.EqualValues(t, 2, s.Fixed()[0].N, "a snapshot's older fix does not replace it")
	for _, old := range []*wire.MemberFix{fix("ada", "p", 1, 2), fix("ada", "p", 1, 1), fix("ada", "p", 0, 9)} {
		require.Empty(t, s.Fixes([]*wire.MemberFix{old}))
	}
	require.Len(t, s.Fixes([]*wire.MemberFix{fix("ada", "p", 2, 1), fix("ada", "tablet", 1, 1)}), 2, "a new session counts anew")
	require.EqualValues(t, 4, s.Counters().StaleFixes)
	require.EqualValues(t, 3, s.Counters().Fixes)
}

func TestWithdrawnFixes(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 1), person("ann", device("phone", 5, wire.State_LIVE, eu)))))
	s.Fixes([]*wire.MemberFix{fix("ann", "phone", 5, 1)})
	gone := &wire.MemberFix{User: "ann", Device: "phone", Epoch: 5, Fix: &wire.Fix{N: 3}}
	events := s.Fixes([]*wire.MemberFix{gone, gone, fix("ann", "phone", 5, 2)})
	require.Equal(t, []roomstate.Event{roomstate.FixWithdrawn{User: "ann", Device: "phone"}}, events)
	require.Empty(t, s.Fixed())
	require.Len(t, only[roomstate.FixChanged](s.Fixes([]*wire.MemberFix{fix("ann", "phone", 5, 4)})), 1)
}

// Who posts is shown without being there, coarsely too.
func TestPosts(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 1))))
	post := fix("bob", roomstate.PostDevice, 0, 9)
	post.Fix.Cell, post.Fix.Battery = 0x881f1d4a3dfffff, new(float32(0.5))
	require.Len(t, only[roomstate.FixChanged](s.Fixes([]*wire.MemberFix{post, fix("cid", "phone", 3, 1)})), 2)
	require.Empty(t, s.Members())
	fixed := s.Fixed()
	require.Len(t, fixed, 1, "of a device that is not there nobody is told")
	require.Equal(t, "881f1d4a3dfffff", fixed[0].Cell.String())
	require.Equal(t, 0.5, *fixed[0].Battery)
	require.Equal(t, time.Minute, fixed[0].Age(fixed[0].Captured.Add(time.Minute)))
	require.Zero(t, fixed[0].Age(fixed[0].Captured.Add(-time.Minute)))
	s.Fixes([]*wire.MemberFix{{User: "bob", Device: roomstate.PostDevice, Fix: &wire.Fix{N: 10}}})
	require.Empty(t, s.Fixed())
}

func TestMessagesHaveNoHoles(t *testing.T) {
	numbers := func(events []roomstate.Event) (out []uint64) {
		for _, m := range only[roomstate.MessageArrived](events) {
			out = append(out, m.Message.Number)
		}
		return out
	}
	s := roomstate.New()
	s.Snapshot(snap(7, part(pos(eu, 1, 0)), part(pos(us, 1, 0))))
	_, hole := s.Hole()
	require.False(t, hole, "the past is history's")

	require.Empty(t, numbers(apply(t, s, message(pos(us, 1, 1), 9))))
	after, hole := s.Hole()
	require.True(t, hole)
	require.EqualValues(t, 7, after)
	require.Equal(t, []uint64{8, 9}, numbers(apply(t, s, message(pos(eu, 1, 1), 8))))
	_, hole = s.Hole()
	require.False(t, hole)

	require.Equal(t, []uint64{10}, numbers(s.Sent(msg(10))), "one's own, before its event")
	require.Empty(t, numbers(apply(t, s, message(pos(eu, 1, 2), 10))))

	s.Snapshot(snap(14))
	after, hole = s.Hole()
	require.True(t, hole, "a snapshot's last number is news too")
	require.Equal(t, []uint64{11, 12}, numbers(s.Page(after, &wire.Page{Messages: []*wire.Message{msg(11), msg(12)}, More: true})))
	after, _ = s.Hole()
	require.EqualValues(t, 12, after)
	require.Equal(t, []uint64{14}, numbers(s.Page(after, &wire.Page{Messages: []*wire.Message{msg(14)}})), "13 does not exist")
	_, hole = s.Hole()
	require.False(t, hole)
	require.Len(t, s.Messages(), 6)
}

func TestBounds(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0))))
	for n := uint64(5000); n > 1; n-- {
		s.Sent(msg(n))
	}
	var got int
	for after, hole := s.Hole(); hole; after, hole = s.Hole() {
		page := &wire.Page{More: true}
		for n := after + 1; n <= 5000 && len(page.Messages) < wire.MaxHistory; n++ {
			page.Messages = append(page.Messages, msg(n))
		}
		got += len(only[roomstate.MessageArrived](s.Page(after, page)))
	}
	require.Equal(t, 5000, got, "what did not fit was fetched")
	require.Len(t, s.Messages(), 200)

	seq := uint64(0)
	for i := range 3000 {
		user := fmt.Sprint("u", i)
		for _, state := range []wire.State{wire.State_LIVE, wire.State_LEFT} {
			seq++
			apply(t, s, presence(pos(eu, 1, seq), person(user, device("p", uint64(i+1), state, eu))))
		}
	}
	require.Empty(t, s.Members())
}

// A crossing that is told again, because its teller died, is news once.
func TestCrossingsAreToldOnce(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0))))
	say := func(seq uint64, id string, kind wire.Crossing_Kind) []roomstate.Crossed {
		return only[roomstate.Crossed](apply(t, s, &wire.Event{At: pos(eu, 1, seq), Body: &wire.Event_Crossing{Crossing: &wire.Crossing{
			Id: id, Kind: kind, Fence: "f", Name: "Home", User: "ana", At: timestamppb.New(time.Unix(5, 0)),
		}}}))
	}
	in := roomstate.Crossing{ID: "1", Kind: wire.Crossing_ENTER, Fence: "f", Name: "Home", User: "ana", At: time.Unix(5, 0).UTC()}
	require.Equal(t, []roomstate.Crossed{{Crossing: in}}, say(1, "1", wire.Crossing_ENTER))
	require.Empty(t, say(2, "1", wire.Crossing_ENTER))
	require.Len(t, say(3, "2", wire.Crossing_EXIT), 1)
	require.Len(t, s.Crossings(), 2)
	require.Equal(t, uint64(1), s.Counters().DuplicateCrossings)
}

// An update is news once, however often it is told; a hole in their numbers says
// that others were missed.
func TestUpdatesAreToldOnce(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0))))
	seq := uint64(0)
	say := func(id string, n uint64) []roomstate.Updated {
		seq++
		return only[roomstate.Updated](apply(t, s, &wire.Event{At: pos(eu, 1, seq), Body: &wire.Event_Update{Update: &wire.Update{
			Id: id, Kind: "group.joined", Data: `{"user_id":"bo"}`, At: timestamppb.New(time.Unix(5, 0)), N: n,
		}}}))
	}
	joined := roomstate.Update{ID: "a", Kind: "group.joined", Data: []byte(`{"user_id":"bo"}`), At: time.Unix(5, 0).UTC(), N: 3}
	require.Equal(t, []roomstate.Updated{{Update: joined}}, say("a", 3), "what was before the stay is nobody's loss")
	require.Empty(t, say("a", 3))
	require.False(t, say("b", 4)[0].Missed)
	require.True(t, say("d", 6)[0].Missed)
	require.False(t, say("c", 5)[0].Missed, "late")
	require.False(t, say("e", 7)[0].Missed)
	for i := range 300 {
		require.Len(t, say(fmt.Sprint(i), uint64(8+i)), 1)
	}
	require.Len(t, say("a", 3), 1, "that is too long ago to be known")
	require.Equal(t, uint64(1), s.Counters().DuplicateUpdates)
}

// What a region told before it was known here, after the join, was not heard.
func TestALatePartSaysSo(t *testing.T) {
	s := roomstate.New()
	for _, e := range only[roomstate.RegionReplaced](s.Snapshot(snap(0, part(pos(eu, 1, 0))))) {
		require.False(t, e.Late)
	}
	require.True(t, only[roomstate.RegionReplaced](s.Snapshot(snap(0, part(pos(us, 1, 7)))))[0].Late)
	require.False(t, only[roomstate.RegionReplaced](s.Snapshot(snap(0, part(pos(us, 1, 9)))))[0].Late)
}
