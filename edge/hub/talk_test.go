package hub

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// talked is what a phone got of the conversation, in order.
func (p *phone) talked() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		m, err := wire.DecodeServer(f.Body())
		if err != nil {
			panic(err)
		}
		switch e := m.GetEvent(); {
		case m.GetTyping() != nil:
			out = append(out, fmt.Sprintf("%s types %v", m.GetTyping().User, m.GetTyping().On))
		case e.GetMessage() != nil:
			out = append(out, fmt.Sprint("message ", e.GetMessage().Number))
		case e.GetRevised() != nil:
			out = append(out, fmt.Sprint("revised ", e.GetRevised().Change))
		case e.GetReceipts() != nil:
			out = append(out, fmt.Sprint("receipts ", e.GetReceipts().Seen[0].Read))
		}
	}
	return out
}

func (p *phone) lastChange() (n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.frames {
		m, _ := wire.DecodeServer(f.Body())
		n = max(n, m.GetSnapshot().GetLastChange(), m.GetEvent().GetRevised().GetChange())
	}
	return n
}

func revision(number, change uint64) *wire.Revised {
	return &wire.Revised{Change: change, Message: &wire.Message{Number: number, Change: change, Body: "edited"}}
}

func readUpTo(user string, n uint64) *wire.Receipts {
	return &wire.Receipts{Seen: []*wire.Seen{{User: user, Delivered: n, Read: n}}}
}

// Revisions and receipts go the way of messages, to all regions and in order; who
// comes back is given those they missed.
func TestRevisionsAndReceipts(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem := m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "b1")
		m.hubs["a2"].Publish(testRoom, &wire.Message{Number: 1})
		m.hubs["a2"].Revise(testRoom, revision(1, 1))
		m.hubs["a2"].Receive(testRoom, readUpTo("ann", 1))
		settle(time.Second)
		all := []string{"message 1", "revised 1", "receipts 1"}
		for _, p := range []*phone{ann, bob, cem} {
			require.Equal(t, all, p.talked(), p.member.User)
		}
		m.suspend(bob)
		m.hubs["a1"].Revise(testRoom, revision(1, 2))
		m.hubs["b1"].Receive(testRoom, readUpTo("cem", 1))
		settle(time.Second)
		bob = m.resume(bob, "a1")
		require.ElementsMatch(t, []string{"revised 2", "receipts 1"}, bob.talked())
		require.EqualValues(t, 2, m.join("dan", "b1").lastChange())

		// The room's next owner reads the last numbers, and who joins brings them.
		m.core.mu.Lock()
		m.core.last, m.core.change = 1, 3
		m.core.lately = readUpTo("dan", 1).Seen
		m.core.mu.Unlock()
		m.hubs["a1"].NodeDown()
		settle(time.Second)
		require.EqualValues(t, 3, ann.lastChange(), "revised, and who did it died before it was told")
		require.EqualValues(t, 3, cem.lastChange())
		require.Contains(t, ann.talked()[3:], "receipts 1", "read, and who stored it died before it was told")
		require.Contains(t, cem.talked()[5:], "receipts 1")
	})
}

// Typing goes to the others who are in the room now, and is kept for nobody.
func TestTyping(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem := m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "b1")
		hid := m.session("hid", "a2")
		m.enter(hid, edge.Join{Room: testRoom, Hidden: true, Membership: edge.Membership{Version: 1}})
		away := m.join("eve", "a2")
		m.suspend(away)
		settle(time.Second)
		m.hubs["a2"].Typing(bob, testRoom, true)
		m.hubs["a2"].Typing(hid, testRoom, true) // seen by nobody
		m.hubs["a2"].Typing(away, testRoom, true)
		m.hubs["b1"].Typing(m.session("zoe", "b1"), testRoom, true)
		settle(time.Second)
		m.hubs["b1"].Typing(cem, testRoom, false)
		settle(time.Second)
		require.Equal(t, []string{"bob types true", "cem types false"}, ann.talked())
		require.Equal(t, []string{"bob types true", "cem types false"}, hid.talked())
		require.Equal(t, []string{"cem types false"}, bob.talked())
		require.Equal(t, []string{"bob types true"}, cem.talked())
		require.Empty(t, m.resume(away, "a1").talked())
		for range 100 {
			m.hubs["a1"].Typing(ann, testRoom, true)
		}
		settle(time.Second)
		require.Less(t, len(bob.talked()), 40)
		require.Zero(t, ann.gaps+bob.gaps+cem.gaps)

		version := m.core.kick("bob")
		require.NoError(t, m.hubs["a1"].MembershipChanged(t.Context(), testRoom, version))
		before := len(ann.talked())
		m.hubs["a2"].Typing(bob, testRoom, true)
		settle(time.Second)
		require.Len(t, ann.talked(), before)
	})
}

// Who is in a room to see positions alone gets nothing of the conversation, until
// that changes.
func TestWhoOnlyLooks(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		m.core.talk("bob", edge.Looks)
		ann := m.join("ann", "a1")
		bob := m.session("bob", "a2")
		m.enter(bob, edge.Join{Room: testRoom, Re: 7, Membership: edge.Membership{Version: 1, Talk: edge.Looks}, Last: edge.Last{Number: 5}})
		eve := m.join("eve", "a2")
		settle(time.Second)
		as, _ := m.hubs["a2"].Membership(bob, testRoom)
		require.Equal(t, edge.Looks, as.Talk)
		say := func(n uint64) {
			m.hubs["a1"].Publish(testRoom, &wire.Message{Number: n})
			m.hubs["a1"].Revise(testRoom, revision(n, n))
			m.hubs["a1"].Receive(testRoom, readUpTo("ann", n))
			m.hubs["a1"].Typing(ann, testRoom, true)
			m.hubs["a2"].Typing(bob, testRoom, true)
			everywhere(m.hubs["a1"], ann, fixN(n))
			settle(time.Second)
		}
		say(6)
		require.Len(t, eve.talked(), 4)
		require.Empty(t, bob.talked())
		require.Zero(t, bob.heard, "not even how many there are")
		require.EqualValues(t, 6, bob.lastFix("ann"))
		require.Zero(t, bob.gaps, "events keep their numbers")

		m.suspend(bob)
		say(7)
		bob = func() *phone { // comes back as who they were
			p := m.session("bob", "a2")
			p.at, p.people, p.fixes = bob.at, bob.people, bob.fixes
			var at []*wire.Position
			for _, x := range p.at {
				at = append(at, x)
			}
			m.enter(p, edge.Join{Room: testRoom, Re: 7, Membership: edge.Membership{Version: 1, Talk: edge.Looks}, Positions: at})
			settle(time.Second)
			return p
		}()
		require.Empty(t, bob.talked())
		require.Zero(t, bob.gaps+int(bob.lastChange()))

		version := m.core.talk("bob", edge.Talks)
		require.NoError(t, m.hubs["a1"].MembershipChanged(t.Context(), testRoom, version))
		say(8)
		require.Equal(t, []string{"message 8", "revised 8", "receipts 8", "ann types true"}, bob.talked())
		version = m.core.talk("bob", edge.Looks)
		require.NoError(t, m.hubs["a1"].MembershipChanged(t.Context(), testRoom, version))
		say(9)
		require.Len(t, bob.talked(), 4)
		require.EqualValues(t, 9, bob.lastFix("ann"))
	})
}

// Receipts are told to a node that is the room's owner no more, by one that has nobody in
// the room and hears of the new owner late: nobody lacks them for that.
func TestReceiptsToAnOwnerThatIsGone(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		bob, cem := m.join("bob", "a2"), m.join("cem", "b1")
		settle(time.Second)
		m.rosters["a3"].setDelay(2 * time.Second)
		m.kill("a1")
		m.regions["a"].move(testSlot, "a2")
		settle(time.Second) // the new owner has read what there was
		m.core.mu.Lock()
		m.core.lately = readUpTo("ann", 3).Seen
		m.core.mu.Unlock()
		m.hubs["a3"].Receive(testRoom, readUpTo("ann", 3)) // over HTTP
		settle(5 * time.Second)
		require.Contains(t, bob.talked(), "receipts 3")
		require.Contains(t, cem.talked(), "receipts 3")
	})
}

// The room's slot moves while messages are revised and read: nobody lacks a revision or a
// receipt for that, or has one twice.
func TestAHandOverUnderRevisionsAndReceipts(t *testing.T) {
	for name, delays := range map[string]map[regions.NodeID]time.Duration{
		"everybody hears at once":  {},
		"the old owner hears last": {"a1": 500 * time.Millisecond},
		"the new owner hears last": {"a2": 500 * time.Millisecond, "b1": 200 * time.Millisecond},
		"the third hears first":    {"a1": 300 * time.Millisecond, "a2": 200 * time.Millisecond, "b1": 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inMesh(t, func(t *testing.T, m *mesh) {
				phones := []*phone{m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "a3"), m.join("dee", "b1"), m.join("eve", "b2")}
				for n, d := range delays {
					m.rosters[n].setDelay(d)
				}
				nodes := []regions.NodeID{"a1", "a2", "a3", "b1", "b2"}
				m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 1})
				settle(time.Second)
				n := uint64(0)
				say := func() {
					n++
					m.core.mu.Lock()
					m.core.last, m.core.change = 1, n
					m.core.mu.Unlock()
					m.hubs[nodes[n%5]].Revise(testRoom, revision(1, n))
					m.hubs[nodes[n%3]].Receive(testRoom, readUpTo("ann", n))
					settle(4 * time.Millisecond)
				}
				done := make(chan error, 1)
				go func() { done <- m.handOver("a1", "a2", nil) }()
				for range 200 {
					say()
				}
				require.NoError(t, <-done)
				settle(5 * time.Second)
				for _, p := range phones {
					times := map[string]int{}
					for _, what := range p.talked() {
						times[what]++
					}
					for i := range n {
						require.Equal(t, 1, times[fmt.Sprint("revised ", i+1)], "%s, revision %d", p.member.User, i+1)
						require.Equal(t, 1, times[fmt.Sprint("receipts ", i+1)], "%s, receipts %d", p.member.User, i+1)
					}
					require.Zero(t, p.unrecovers, p.member.User)
				}
				require0(t, phones...)
			})
		})
	}
}
