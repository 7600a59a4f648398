package roomstate_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

func revised(m *wire.Message) *wire.Event {
	return &wire.Event{Body: &wire.Event_Revised{Revised: &wire.Revised{Change: m.Change, Message: m}}}
}

func receipts(seen ...*wire.Seen) *wire.Event {
	return &wire.Event{Body: &wire.Event_Receipts{Receipts: &wire.Receipts{Seen: seen}}}
}

func edited(n, change uint64) *wire.Message {
	return &wire.Message{Number: n, Body: fmt.Sprint(n, " v", change), Change: change}
}

func TestRevisions(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0))))
	seq := uint64(0)
	say := func(e *wire.Event) []roomstate.Event {
		seq++
		e.At = pos(eu, 1, seq)
		return apply(t, s, e)
	}
	say(message(nil, 1))
	require.Equal(t, uint64(1), only[roomstate.Revised](say(revised(edited(1, 1))))[0].Message.Change)
	require.Empty(t, say(revised(edited(1, 1))), "told twice")
	_, _, hole := s.Unrevised()
	require.False(t, hole)

	require.Len(t, only[roomstate.Revised](say(revised(edited(1, 3)))), 1)
	require.Empty(t, say(revised(edited(1, 2))), "an older state is no news")
	_, _, hole = s.Unrevised()
	require.False(t, hole, "but it closes the hole")

	// A revision that overtakes its message is the message.
	require.Equal(t, "2 v4", only[roomstate.MessageArrived](say(revised(edited(2, 4))))[0].Message.Body)
	require.Empty(t, say(message(nil, 2)))
	require.Equal(t, "2 v4", s.Messages()[1].Body)

	s.Snapshot(&wire.Snapshot{Recovered: true, LastNumber: 2, LastChange: 9})
	after, known, hole := s.Unrevised()
	require.True(t, hole)
	require.Equal(t, [2]uint64{4, 9}, [2]uint64{after, known})
	got := only[roomstate.Revised](s.Changes(known, &wire.Page{Messages: []*wire.Message{edited(1, 6)}, More: true}))
	require.Len(t, got, 1)
	after, _, _ = s.Unrevised()
	require.EqualValues(t, 6, after)
	s.Changes(known, &wire.Page{Messages: []*wire.Message{edited(2, 8)}})
	_, _, hole = s.Unrevised()
	require.False(t, hole, "what is not in the answer does not exist any more")
}

func TestReceiptsOnlyGrow(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(9, part(pos(eu, 1, 0))))
	apply(t, s, &wire.Event{At: pos(eu, 1, 1), Body: receipts(&wire.Seen{User: "ann", Delivered: 4, Read: 2}, &wire.Seen{User: "bo", Read: 7}).Body})
	require.Empty(t, s.Receipts([]roomstate.Seen{{User: "ann", Delivered: 3, Read: 1}}))
	require.Equal(t, []roomstate.ReceiptsChanged{{Seen: []roomstate.Seen{{User: "ann", Delivered: 5, Read: 5}}}},
		only[roomstate.ReceiptsChanged](s.Receipts([]roomstate.Seen{{User: "ann", Delivered: 3, Read: 5}})))
	require.Equal(t, []roomstate.Seen{{"ann", 5, 5}, {"bo", 7, 7}}, s.Seen(), "what is read is delivered")
	delivered, read := s.Reached(6, "ann")
	require.Equal(t, [2]int{1, 1}, [2]int{delivered, read})
}

// A message that was revised, and did not fit among those that wait, is not given out as
// it was before: the revision counts as known, and is not told again.
func TestARevisionThatDidNotFit(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0))))
	seq := uint64(0)
	say := func(e *wire.Event) {
		seq++
		e.At = pos(eu, 1, seq)
		require.Empty(t, apply(t, s, e))
	}
	const full, last = 512, 514 // 1 is missing
	for n := uint64(2); n < full+2; n++ {
		say(message(nil, n))
	}
	say(revised(edited(last, 1))) // overtakes its message
	var given []roomstate.Message
	take := func(events []roomstate.Event) {
		for _, m := range only[roomstate.MessageArrived](events) {
			given = append(given, m.Message)
		}
	}
	take(s.Page(0, &wire.Page{Messages: []*wire.Message{msg(1)}}))
	require.Len(t, given, full+1)
	say(message(nil, last)) // as it was
	after, hole := s.Hole()
	require.True(t, hole, "it is fetched as it is")
	take(s.Page(after, &wire.Page{Messages: []*wire.Message{edited(last, 1)}}))
	require.Len(t, given, last)
	require.EqualValues(t, 1, given[last-1].Change)
	_, hole = s.Hole()
	_, _, unrevised := s.Unrevised()
	require.False(t, hole || unrevised)
}

// FuzzTalk: messages, revisions and receipts come late, twice, in any order or not
// at all. No message, state of a message or receipt ever goes back, and in the end
// all is as it is at the server.
func FuzzTalk(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		script := make([]byte, 20+rng.IntN(300))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		s := roomstate.New()
		var truth []*wire.Message // by number
		var change, seq, given uint64
		seen := map[string]*wire.Seen{}
		app := map[uint64]roomstate.Message{} // what an application shows
		receipt := map[string]roomstate.Seen{}
		see := func(events []roomstate.Event) {
			for _, e := range events {
				switch e := e.(type) {
				case roomstate.MessageArrived:
					given++
					require.Equal(t, given, e.Message.Number)
					app[given] = e.Message
				case roomstate.Revised:
					require.Greater(t, e.Message.Change, app[e.Message.Number].Change, "a message went back")
					require.LessOrEqual(t, e.Message.Number, given)
					app[e.Message.Number] = e.Message
				case roomstate.ReceiptsChanged:
					for _, n := range e.Seen {
						old := receipt[n.User]
						require.True(t, n.Read >= old.Read && n.Delivered >= old.Delivered && n != old, "a receipt went back")
						receipt[n.User] = n
					}
				}
			}
		}
		deliver := func(e *wire.Event) {
			seq++
			e.At = pos(eu, 1, seq)
			out, v := s.Event(e)
			require.Equal(t, roomstate.Applied, v)
			see(out)
		}
		page := func(more bool, all []*wire.Message) *wire.Page {
			p := &wire.Page{Messages: all}
			if more && len(all) > 1 {
				p.Messages, p.More = all[:1], true
			}
			return p
		}
		changedAfter := func(after uint64) (out []*wire.Message) {
			for _, m := range truth {
				if m.Change > after {
					out = append(out, m)
				}
			}
			slices.SortFunc(out, func(a, b *wire.Message) int { return int(a.Change) - int(b.Change) })
			return out
		}
		fetch := func(more bool) {
			if after, hole := s.Hole(); hole {
				see(s.Page(after, page(more, truth[after:])))
			}
			if after, known, hole := s.Unrevised(); hole {
				see(s.Changes(known, page(more, changedAfter(after))))
			}
		}
		see(s.Snapshot(snap(0, part(pos(eu, 1, 0)))))
		var late []*wire.Event
		for _, b := range script {
			var e *wire.Event
			switch b & 7 {
			case 0, 1:
				m := msg(uint64(len(truth)) + 1)
				truth = append(truth, m)
				e = &wire.Event{Body: &wire.Event_Message{Message: m}}
			case 2, 3:
				if len(truth) > 0 {
					i := int(b>>4) % len(truth)
					change++
					truth[i] = edited(truth[i].Number, change) // the one before is still under way
					e = revised(truth[i])
				}
			case 4:
				user := fmt.Sprint("u", b>>6)
				n := &wire.Seen{User: user, Delivered: uint64(b>>4) * 3, Read: uint64(b >> 4)}
				if old := seen[user]; old != nil {
					n.Delivered, n.Read = max(n.Delivered, old.Delivered), max(n.Read, old.Read)
				}
				seen[user] = n
				e = receipts(n)
			case 5: // what was late, the last first
				slices.Reverse(late)
				for _, e := range late {
					deliver(e)
				}
				if b&128 != 0 {
					late = nil
				}
			case 6:
				fetch(b&128 != 0)
			case 7:
				if b&128 != 0 {
					see(s.Snapshot(&wire.Snapshot{Recovered: true, LastNumber: uint64(len(truth)), LastChange: change}))
				} else if len(truth) > 0 {
					see(s.Sent(truth[int(b>>4)%len(truth)]))
				}
			}
			if e != nil {
				switch e = proto.CloneOf(e); b >> 3 & 3 {
				case 0:
					late = append(late, e)
				case 1: // lost
				default:
					deliver(e)
				}
			}
		}
		see(s.Snapshot(&wire.Snapshot{Recovered: true, LastNumber: uint64(len(truth)), LastChange: change}))
		for range 2 * (len(truth) + 1) {
			fetch(true)
		}
		_, hole := s.Hole()
		_, _, unrevised := s.Unrevised()
		require.False(t, hole || unrevised)
		require.EqualValues(t, len(truth), given)
		for _, m := range truth {
			require.Equal(t, roomstate.MessageOf(m), app[m.Number])
		}
		var all []roomstate.Seen
		for _, n := range seen {
			all = append(all, roomstate.Seen{User: n.User, Delivered: n.Delivered, Read: n.Read})
		}
		see(s.Receipts(all))
		for _, n := range all {
			n.Delivered = max(n.Delivered, n.Read)
			require.Equal(t, n, receipt[n.User])
		}
	})
}

// What the user deleted for themself is told by nobody's revision, and stays so whatever
// becomes of the message for others.
func TestHidden(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 1, 0))))
	seq := uint64(0)
	say := func(e *wire.Event) []roomstate.Event {
		seq++
		e.At = pos(eu, 1, seq)
		return apply(t, s, e)
	}
	say(message(nil, 1))
	say(message(nil, 2))
	got := only[roomstate.Revised](s.Hide(1, 3))
	require.Equal(t, []roomstate.Revised{{Message: roomstate.Message{Number: 1, SentAt: got[0].Message.SentAt, Deleted: true}}}, got)
	require.Empty(t, s.Hide(1), "no news")
	require.Equal(t, s.Messages()[0], got[0].Message)

	late := only[roomstate.Revised](say(revised(edited(1, 1))))[0].Message
	require.True(t, late.Deleted)
	require.Empty(t, late.Body)
	require.EqualValues(t, 1, late.Change)
	require.Equal(t, late, s.Messages()[0])
	three := only[roomstate.MessageArrived](say(message(nil, 3)))[0].Message
	require.True(t, three.Deleted, "hidden before it came here")
	require.Empty(t, three.Body)

	say(message(nil, 5)) // waits for 4
	s.Hide(5)
	page := only[roomstate.MessageArrived](s.Page(3, &wire.Page{Messages: []*wire.Message{msg(4), msg(5)}}))
	require.False(t, page[0].Message.Deleted)
	require.True(t, page[1].Message.Deleted)
	require.Empty(t, page[1].Message.Body)
	for n := range uint64(10_000) { // bounded: the lowest are forgotten
		s.Hide(100 + n)
	}
	require.Equal(t, "1 v2", only[roomstate.Revised](say(revised(edited(1, 2))))[0].Message.Body)
}
