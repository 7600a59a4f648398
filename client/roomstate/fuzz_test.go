package roomstate_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

// origin is one region's owner of the room: the truth that a client follows.
type origin struct {
	region string
	epoch  uint64
	log    []*wire.Event // from seq 1, of the present slot epoch and those that it goes on from
	people map[string]*wire.Device
	fixes  map[string]*wire.MemberFix
}

func (o *origin) at() *wire.Position { return pos(o.region, o.epoch, uint64(len(o.log))) }

// holds reports whether the log goes on from a position.
func (o *origin) holds(p *wire.Position) bool {
	switch {
	case p.Seq > uint64(len(o.log)):
		return false
	case p.Seq == uint64(len(o.log)) && p.Epoch == o.epoch:
		return true
	case p.Seq > 0 && o.log[p.Seq-1].At.Epoch == p.Epoch:
		return true
	}
	// The last position of an epoch that another one goes on from.
	return p.Seq < uint64(len(o.log)) && o.log[p.Seq].PriorEpoch == p.Epoch
}

func (o *origin) part() *wire.Part {
	p := part(o.at())
	for user, d := range o.people {
		p.People = append(p.People, person(user, d))
	}
	p.Counts = o.counts()
	for _, f := range o.fixes {
		p.Fixes = append(p.Fixes, f)
	}
	return p
}

func (o *origin) counts() *wire.Counts {
	c := &wire.Counts{}
	for _, d := range o.people {
		if d.State == wire.State_LIVE {
			c.Live++
		} else {
			c.Suspended++
		}
	}
	return c
}

func (o *origin) say(e *wire.Event) {
	o.log = append(o.log, e)
	e.At = o.at()
}

// goOn hands the room over to another owner, which loses nothing.
func (o *origin) goOn() {
	prior := o.epoch
	o.epoch++
	o.say(&wire.Event{PriorEpoch: prior, Body: &wire.Event_Continued{Continued: &wire.Continued{}}})
}

// FuzzConverges plays a random life of two regions against a client to which
// events come late, twice, out of order or not at all, snapshots late too, and
// which does what the SDK does: it joins again after a gap. In the end both
// agree, no message was given out twice or out of order, no device's fix and no
// region's position ever went back, and the counts and the merged states of
// people are those of their devices.
func FuzzConverges(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte("the quick brown fox jumps over the lazy dog, twice, and back again"))
	f.Add([]byte{16, 0, 17, 4, 33, 8, 0, 1, 255, 254, 128, 64, 32, 200, 201, 202, 203})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		script := make([]byte, 20+rng.IntN(300))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		origins := []*origin{{region: eu, epoch: 1}, {region: us, epoch: 1}}
		for _, o := range origins {
			o.people, o.fixes = map[string]*wire.Device{}, map[string]*wire.MemberFix{}
		}
		var session, n, number uint64
		s := roomstate.New()
		var late []*wire.Event
		var stale *wire.Snapshot
		fixed := map[string][2]uint64{}
		left := map[string]bool{}
		newest := map[string]uint64{} // the last session of each user
		var given uint64
		see := func(events []roomstate.Event) {
			for _, e := range events {
				switch e := e.(type) {
				case roomstate.MessageArrived:
					require.Equal(t, given+1, e.Message.Number)
					given++
				case roomstate.FixChanged:
					now := [2]uint64{e.Fix.Epoch, e.Fix.N}
					cmp := slices.Compare(now[:], lastOf(fixed, e.Fix.User))
					require.True(t, cmp > 0 || cmp == 0 && left[e.Fix.User], "a fix went back or came twice")
					fixed[e.Fix.User], left[e.Fix.User] = now, false
				case roomstate.PresenceChanged:
					// Who comes back is seen again where they were.
					left[e.User] = left[e.User] || e.Device.State == wire.State_LEFT
				}
			}
		}
		deliver := func(e *wire.Event) {
			out, _ := s.Event(e)
			see(out)
		}
		// join continues from the client's positions where it can.
		join := func() {
			snapshot := snap(number)
			var missed []*wire.Event
			positions := s.Positions()
			for _, o := range origins {
				i := slices.IndexFunc(positions, func(p *wire.Position) bool { return p.Region == o.region })
				if i < 0 || !o.holds(positions[i]) {
					snapshot.Parts = append(snapshot.Parts, o.part())
					snapshot.Recovered = snapshot.Recovered && i < 0
					continue
				}
				missed = append(missed, o.log[positions[i].Seq:]...)
			}
			see(s.Snapshot(snapshot))
			s.Rejoined()
			for _, e := range missed {
				deliver(e)
			}
			for _, o := range origins {
				for _, f := range o.fixes {
					see(s.Fixes([]*wire.MemberFix{f}))
				}
			}
		}
		join()
		for _, b := range script {
			o := origins[b>>4&1]
			user := fmt.Sprint("u", b>>5&3)
			before := len(o.log)
			was := s.Positions()
			switch b & 15 {
			case 0, 1: // comes, resumes or moves here
				session++
				newest[user] = session
				o.people[user] = device("p", session, wire.State_LIVE, o.region)
				o.say(presence(nil, person(user, o.people[user])))
			case 2, 3:
				if d := o.people[user]; d != nil && d.State == wire.State_LIVE {
					o.people[user] = device("p", d.Epoch, wire.State_SUSPENDED, o.region)
					o.say(presence(nil, person(user, o.people[user])))
				}
			case 4, 5:
				if d := o.people[user]; d != nil {
					delete(o.people, user)
					delete(o.fixes, user)
					o.say(presence(nil, person(user, device("p", d.Epoch, wire.State_LEFT, o.region))))
				}
			case 6, 7:
				number++
				o.say(message(nil, number))
			case 8: // a new owner, which rebuilt the members
				o.epoch++
				o.log = nil
				before = 0
			case 14: // a new owner, which was handed the room
				o.goOn()
			case 15: // what a slower connection says of a time before
				if stale != nil {
					see(s.Snapshot(stale))
				}
				stale = snap(number, o.part())
			case 9, 10:
				if d := o.people[user]; d != nil {
					n++
					o.fixes[user] = fix(user, "p", d.Epoch, n)
					if b&64 == 0 {
						see(s.Fixes([]*wire.MemberFix{o.fixes[user]}))
					}
				}
			case 11: // what was late comes, and once more
				for _, e := range slices.Concat(late, late) {
					deliver(e)
				}
				late = nil
			case 12:
				join()
			case 13:
				if b&128 != 0 {
					see(s.Reach(unreached(away(o.region, b&64 != 0))))
				} else {
					see(s.Snapshot(snap(number, o.part())))
				}
			}
			for i, p := range s.Positions() {
				require.False(t, i < len(was) && p.Region == was[i].Region && (p.Epoch < was[i].Epoch || p.Epoch == was[i].Epoch && p.Seq < was[i].Seq), "a position went back")
			}
			checkPeople(t, s)
			if len(o.log) > before {
				if e := o.log[before]; b&128 == 0 {
					deliver(e)
				} else {
					late = append(late, e)
				}
			}
		}
		join()
		if after, hole := s.Hole(); hole {
			page := &wire.Page{}
			for i := after + 1; i <= number; i++ {
				page.Messages = append(page.Messages, msg(i))
			}
			see(s.Page(after, page))
		}
		require.Equal(t, number, given, "every message, once")

		// Per user the highest session epoch of all regions is the truth.
		truth := map[string]*wire.Device{}
		for _, o := range origins {
			for user, d := range o.people {
				if d.Epoch >= truth[user].GetEpoch() {
					truth[user] = d
				}
			}
		}
		var want []string
		for user, d := range truth {
			// A region that has not heard that the device left elsewhere at a
			// higher epoch still lists it; the client knows better if it heard.
			want = append(want, fmt.Sprintf("%s/p@%d %s", user, d.Epoch, d.State))
		}
		slices.Sort(want)
		for _, got := range states(s) {
			require.Contains(t, want, got)
		}
		for user, d := range truth {
			if d.Epoch == newest[user] {
				require.Contains(t, states(s), fmt.Sprintf("%s/p@%d %s", user, d.Epoch, d.State), "nobody newer: must be seen")
			}
		}
		for _, o := range origins {
			for user, f := range o.fixes {
				if truth[user].GetEpoch() != f.Epoch || !slices.Contains(states(s), fmt.Sprintf("%s/p@%d %s", user, f.Epoch, truth[user].State)) {
					continue
				}
				i := slices.IndexFunc(s.Fixed(), func(have roomstate.Fix) bool { return have.User == user })
				require.GreaterOrEqual(t, i, 0)
				require.Equal(t, f.Fix.N, s.Fixed()[i].N, "the final position arrives")
			}
		}
	})
}

// checkPeople holds the merged states and the counts against the devices.
func checkPeople(t *testing.T, s *roomstate.State) {
	t.Helper()
	var want roomstate.Counts
	for _, m := range s.Members() {
		live := slices.ContainsFunc(m.Devices, func(d roomstate.Device) bool { return d.State == wire.State_LIVE })
		require.Equal(t, live, m.Live())
		require.Equal(t, !live, m.State == wire.State_SUSPENDED)
		if live {
			want.Live++
		} else {
			want.Suspended++
		}
	}
	require.Equal(t, want, s.Counts())
}

func lastOf(m map[string][2]uint64, user string) []uint64 {
	v := m[user]
	return v[:]
}

// FuzzFrames: whatever a server sends, the state machine stays on its feet.
func FuzzFrames(f *testing.F) {
	for _, frame := range []*wire.ServerFrame{
		{Body: &wire.ServerFrame_Snapshot{Snapshot: snap(3, part(pos(eu, 1, 2), person("ada", device("p", 1, wire.State_LIVE, eu))))}},
		{Body: &wire.ServerFrame_Event{Event: message(pos(eu, 1, 3), 4)}},
		{Body: &wire.ServerFrame_Event{Event: &wire.Event{At: pos(eu, 2, 3), PriorEpoch: 1, Body: &wire.Event_Continued{}}}},
		{Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{Parts: []*wire.Part{{At: pos(eu, 1, 2), Truncated: true, Counts: &wire.Counts{Live: 300}}}}}},
		{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Fixes: []*wire.MemberFix{fix("ada", "p", 1, 1), {}}}}},
		{Body: &wire.ServerFrame_Reach{Reach: unreached(away(eu, true))}},
		{Body: &wire.ServerFrame_Page{Page: &wire.Page{Messages: []*wire.Message{msg(4)}}}},
	} {
		b, err := frame.MarshalVT()
		require.NoError(f, err)
		f.Add(b, b)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s := roomstate.New()
		for _, raw := range [][]byte{a, b, a} {
			frame, err := wire.DecodeServer(raw)
			if err != nil {
				continue
			}
			switch body := frame.GetBody().(type) {
			case *wire.ServerFrame_Snapshot:
				s.Snapshot(body.Snapshot)
			case *wire.ServerFrame_Event:
				s.Event(body.Event)
			case *wire.ServerFrame_Fixes:
				s.Fixes(body.Fixes.GetFixes())
			case *wire.ServerFrame_Page:
				s.Page(0, body.Page)
			case *wire.ServerFrame_Reach:
				s.Reach(body.Reach)
			case *wire.ServerFrame_Sent:
				s.Sent(body.Sent.GetMessage())
			}
			s.Members()
			s.Fixed()
			s.Positions()
			s.Hole()
			if !s.Counts().Truncated {
				checkPeople(t, s)
			}
		}
	})
}
