package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

var testSlot = regions.SlotOf(testRoom)

func require0(t *testing.T, phones ...*phone) {
	t.Helper()
	for _, p := range phones {
		require.Zero(t, p.gaps, p.member.User)
		require.Zero(t, p.backs, p.member.User)
		require.Empty(t, p.twice(), p.member.User)
	}
}

// The owner's node dies. Whoever hears of the new owner first and whoever last:
// all end up with it, and those who were on the dead node stay, suspended.
func TestTheOwnerDies(t *testing.T) {
	for name, delays := range map[string]map[regions.NodeID]time.Duration{
		"everybody hears at once":      {},
		"the new owner hears last":     {"a2": 400 * time.Millisecond},
		"the new owner hears first":    {"a3": 400 * time.Millisecond, "b1": time.Second, "b2": time.Second},
		"the other region hears first": {"a2": 600 * time.Millisecond, "a3": 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inMesh(t, func(t *testing.T, m *mesh) {
				ann := m.join("ann", "a1")
				here := []*phone{m.join("bob", "a2"), m.join("cem", "a3"), m.join("dee", "b1"), m.join("eve", "b2")}
				m.hubs["a3"].Publish(testRoom, &wire.Message{Number: 1})
				require.Empty(t, everywhere(m.hubs["a3"], here[1], fixN(5)))
				settle(5 * time.Second)
				for n, d := range delays {
					m.rosters[n].setDelay(d)
				}
				m.kill("a1")
				m.core.last = 2 // stored, and lost with the owner
				m.hubs["a3"].Publish(testRoom, &wire.Message{Number: 2})
				settle(300 * time.Millisecond)
				m.regions["a"].suspend(ann.member)
				m.regions["a"].move(testSlot, "a2")
				// A join meanwhile is answered by the new owner.
				fay := m.session("fay", "a3")
				m.enter(fay, edge.Join{Room: testRoom, Re: 9, Membership: edge.Membership{Version: 1}})
				settle(1800 * time.Millisecond)
				require.Empty(t, fay.refused)
				m.core.last = 3
				m.hubs["a3"].Publish(testRoom, &wire.Message{Number: 3})
				settle(10 * time.Second)
				for _, p := range append(here, fay) {
					require.Equal(t, "ann:a1:SUSPENDED bob:a2:LIVE cem:a3:LIVE dee:b1:LIVE eve:b2:LIVE fay:a3:LIVE", p.who(), p.member.User)
					require.LessOrEqual(t, p.unrecovers, 1, p.member.User)
					require.EqualValues(t, 3, p.heard, p.member.User)
					require.EqualValues(t, 5, p.lastFix("cem"), p.member.User)
					require.Empty(t, p.left, p.member.User)
					require.EqualValues(t, 2, p.at["a"].Epoch)
				}
				require0(t, here...)
				m.regions["a"].end(ann.member, wire.Reason_TIMED_OUT)
				settle(time.Second)
				require.Equal(t, []string{"ann/phone:TIMED_OUT"}, here[3].left)
			})
		})
	}
}

func TestNoOwnerMeansRetrySoon(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		m.regions["a"].move(testSlot, "")
		settle(10 * time.Millisecond)
		bob := m.session("bob", "a2")
		m.enter(bob, edge.Join{Room: testRoom, Re: 3})
		settle(1300 * time.Millisecond)
		require.Len(t, bob.refused, 1)
		require.ErrorIs(t, bob.refused[0], errRetry)
	})
}

// A hand-over under traffic: nobody misses anything, nothing comes twice, and
// the only event it makes says that it happened.
func TestAHandOverIsNotNoticed(t *testing.T) {
	for name, delays := range map[string]map[regions.NodeID]time.Duration{
		"everybody hears at once":  {},
		"the old owner hears last": {"a1": 500 * time.Millisecond},
		"the new owner hears last": {"a2": 500 * time.Millisecond},
		"the third hears last":     {"a3": 500 * time.Millisecond, "b2": 300 * time.Millisecond},
		"the third hears first":    {"a1": 300 * time.Millisecond, "a2": 200 * time.Millisecond, "b1": 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inMesh(t, func(t *testing.T, m *mesh) {
				phones := []*phone{m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "a3"), m.join("dee", "b1"), m.join("eve", "b2")}
				for n, d := range delays {
					m.rosters[n].setDelay(d)
				}
				nodes := []regions.NodeID{"a1", "a2", "a3", "b1", "b2"}
				n := uint64(0)
				say := func() {
					n++
					m.core.mu.Lock()
					m.core.last = n
					m.core.mu.Unlock()
					m.hubs[nodes[n%5]].Publish(testRoom, &wire.Message{Number: n})
					require.Empty(t, everywhere(m.hubs[nodes[n%5]], phones[n%5], fixN(n)))
					settle(4 * time.Millisecond)
				}
				for range 20 {
					say()
				}
				done := make(chan error, 1)
				go func() { done <- m.handOver("a1", "a2", nil) }()
				for range 250 {
					say()
				}
				require.NoError(t, <-done)
				settle(10 * time.Second)
				for _, p := range phones {
					require.Equal(t, int(n), len(p.messages), p.member.User)
					require.Zero(t, p.unrecovers, p.member.User)
					require.Empty(t, p.left, p.member.User)
					require.EqualValues(t, 2, p.at["a"].Epoch)
					require.Equal(t, phones[0].who(), p.who())
					require.Equal(t, phones[0].at["a"].Seq, p.at["a"].Seq)
					require.Equal(t, n, max(p.lastFix("ann"), p.lastFix("bob"), p.lastFix("cem"), p.lastFix("dee"), p.lastFix("eve")))
				}
				require0(t, phones...)
				require.Empty(t, m.ledger.faults())
				require.EqualValues(t, 1, testutil.ToFloat64(m.hubs["a2"].metrics.continued))

				// And back, with a session that resumes from before.
				old := phones[4]
				m.suspend(old)
				require.NoError(t, m.handOver("a2", "a1", nil))
				again := m.resume(old, "a3")
				settle(2 * time.Second)
				require.Zero(t, again.unrecovers)
				require.Equal(t, phones[0].at["a"].Seq, again.at["a"].Seq)
			})
		})
	}
}

// Whatever step of a hand-over fails, on either side of it, the slot has one
// owner that goes on, and what can't be continued is said.
func TestAHandOverFails(t *testing.T) {
	for _, step := range []string{"give", "commit"} {
		for _, after := range []bool{false, true} {
			for nth := range 3 {
				t.Run(fmt.Sprint(step, nth, "after:", after), func(t *testing.T) {
					inMesh(t, func(t *testing.T, m *mesh) {
						phones := []*phone{m.join("ann", "a1"), m.join("bob", "a2"), m.join("dee", "b1")}
						count := 0
						err := m.handOver("a1", "a2", func(s string) (bool, bool) {
							if s == step {
								count++
							}
							return s == step && count == nth+1 && !after, s == step && count == nth+1 && after
						})
						owner, _ := m.regions["a"].owner(testRoom)
						require.Equal(t, err != nil, owner == "a1", "%v", err)
						m.hubs["b1"].Publish(testRoom, &wire.Message{Number: 1})
						m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 2})
						settle(5 * time.Second)
						for _, p := range phones {
							require.ElementsMatch(t, []uint64{1, 2}, p.messages, p.member.User)
							require.Zero(t, p.unrecovers)
						}
						require0(t, phones...)
						if err != nil {
							require.NoError(t, m.handOver("a1", "a2", nil), "it can be tried again")
							settle(time.Second)
						}
						for _, p := range phones {
							require.Zero(t, p.unrecovers)
							require.EqualValues(t, 2, p.at["a"].Epoch)
						}
						require0(t, phones...)
						require.Empty(t, m.ledger.faults())
					})
				})
			}
		}
	}
}

// What was given for a move that the region did not make in time is not used.
func TestWhatWasGivenGrowsOld(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		phones := []*phone{m.join("ann", "a1"), m.join("bob", "a2")}
		done := make(chan error)
		go func() {
			done <- m.handOver("a1", "a2", func(step string) (bool, bool) { return step == "commit", false })
		}()
		settle(stageLife + stageLife/4)
		require.Empty(t, done)
		m.regions["a"].move(testSlot, "a2")
		require.NoError(t, <-done, "it was made after all")
		settle(time.Second)
		for _, p := range phones {
			require.Equal(t, 1, p.unrecovers)
			require.Equal(t, "ann:a1:LIVE bob:a2:LIVE", p.who())
		}
	})
}

// An owner that has lost its region's leader stops, and those who know better
// refuse what it said before it did.
func TestAnOwnerThatIsCutOffStops(t *testing.T) {
	if !edge.Fencing {
		t.Skip("it does not, without fencing")
	}
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, dee := m.join("ann", "a1"), m.join("bob", "a2"), m.join("dee", "b1")
		m.rosters["a1"].setCut(true)
		settle(time.Second)
		m.regions["a"].move(testSlot, "a3")
		settle(100 * time.Millisecond)
		m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 1}) // it still thinks that it may
		settle(200 * time.Millisecond)
		require.Equal(t, []uint64{1}, ann.messages)
		require.Empty(t, bob.messages)
		require.Empty(t, dee.messages)
		require.NotZero(t, testutil.ToFloat64(m.hubs["a2"].metrics.fenced)+testutil.ToFloat64(m.hubs["b1"].metrics.fenced))
		m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 2}) // it was told
		settle(5 * time.Second)
		require.Equal(t, []uint64{1}, ann.messages)
		m.core.last = 2
		m.rosters["a1"].setCut(false)
		settle(2 * time.Second)
		require.Equal(t, 1, ann.unrecovers)
		for _, p := range []*phone{ann, bob, dee} {
			require.Equal(t, "ann:a1:LIVE bob:a2:LIVE dee:b1:LIVE", p.who())
			require.EqualValues(t, 2, p.heard)
		}
		require0(t, ann, bob, dee)
	})
}

// An owner that could not act for a while, and kept its slots, makes up for it.
func TestAStalledOwnerCatchesUp(t *testing.T) {
	if !edge.Fencing {
		t.Skip("it does not stall, without fencing")
	}
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, dee := m.join("ann", "a1"), m.join("bob", "a2"), m.join("dee", "b1")
		m.rosters["a1"].setCut(true)
		settle(3 * time.Second)
		m.core.last = 2
		m.hubs["a2"].Publish(testRoom, &wire.Message{Number: 1})
		m.hubs["b1"].Publish(testRoom, &wire.Message{Number: 2})
		require.Empty(t, everywhere(m.hubs["a2"], bob, fixN(3)))
		m.hubs["b1"].Gone(dee, wire.Reason_BYE)
		m.regions["b"].end(dee.member, wire.Reason_BYE)
		fay := m.session("fay", "a2")
		m.enter(fay, edge.Join{Room: testRoom, Re: 3, Membership: edge.Membership{Version: 1}})
		settle(500 * time.Millisecond)
		require.Empty(t, ann.messages)
		m.rosters["a1"].setCut(false)
		settle(3 * time.Second)
		for _, p := range []*phone{ann, bob, fay} {
			require.Equal(t, "ann:a1:LIVE bob:a2:LIVE fay:a2:LIVE", p.who())
			require.EqualValues(t, 2, p.heard)
			require.EqualValues(t, 3, p.lastFix("bob"), p.member.User)
			require.Zero(t, p.unrecovers)
			require.Empty(t, p.refused)
		}
		require0(t, ann, bob, fay)
	})
}

func TestTheRosterEndsWhatTheOwnerMissed(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem := m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "b1")
		m.hubs["a2"].Suspend(bob)
		m.regions["a"].suspend(bob.member)
		settle(time.Second)
		require.Empty(t, ann.left)
		m.regions["a"].end(bob.member, wire.Reason_SIGNED_OUT)
		settle(time.Second)
		require.Equal(t, []string{"bob/phone:SIGNED_OUT"}, ann.left)
		require.Equal(t, []string{"bob/phone:SIGNED_OUT"}, cem.left)

		// Changes are skipped: everything is compared.
		dan := m.join("dan", "a2")
		m.cut("a1", "a2")
		r := m.rosters["a1"]
		r.mu.Lock()
		for _, in := range r.copy.stays {
			delete(in, device{"dan", "phone"})
		}
		r.copy.owners[testSlot] = regions.SlotMove{Slot: testSlot, To: "a1", Epoch: 7}
		r.mu.Unlock()
		_ = dan
		m.hubs["a1"].Resync()
		settle(time.Second)
		require.EqualValues(t, 7, ann.at["a"].Epoch)
		require.Equal(t, 1, ann.unrecovers)
		require.Equal(t, "ann:a1:LIVE cem:b1:LIVE", ann.who())
	})
}

func TestPeopleAndHiding(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob := m.join("ann", "a1"), m.join("bob", "a2")
		page, _, here := m.hubs["a1"].People(testRoom, "", 10)
		require.True(t, here)
		require.Len(t, page.People, 2)
		_, owner, here := m.hubs["a2"].People(testRoom, "", 10)
		require.False(t, here)
		require.EqualValues(t, "a1", owner)

		m.hubs["a2"].Hide(bob, true)
		settle(time.Second)
		require.Equal(t, "ann:a1:LIVE", ann.who())
		m.hubs["a1"].Publish(testRoom, &wire.Message{Number: 1})
		settle(time.Second)
		require.Equal(t, []uint64{1}, bob.messages)
		require.NoError(t, m.handOver("a1", "a3", nil))
		settle(10 * time.Second)
		require.Equal(t, "ann:a1:LIVE", ann.who())
		require.Equal(t, []string{"bob/phone:BYE"}, ann.left)
		m.hubs["a2"].Hide(bob, false)
		settle(time.Second)
		require.Equal(t, "ann:a1:LIVE bob:a2:LIVE", ann.who())
		page, _, _ = m.hubs["a3"].People(testRoom, "", 10)
		require.Len(t, page.People, 2)
	})
}

// ledger is what all phones together have seen.
type ledger struct {
	mu        sync.Mutex
	events    map[string]string // number: bytes
	highest   map[string]uint64 // region and epoch: the highest number seen
	continued map[string]uint64 // region and prior epoch: its number
	wrong     []string
}

func newLedger() *ledger {
	return &ledger{events: map[string]string{}, highest: map[string]uint64{}, continued: map[string]uint64{}}
}

func (l *ledger) saw(e *wire.Event, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := fmt.Sprintf("%s@%d", e.At.Region, e.At.Epoch)
	n := fmt.Sprintf("%s:%d", k, e.At.Seq)
	if was, ok := l.events[n]; ok && was != string(body) {
		l.wrong = append(l.wrong, n+" is two events")
	}
	l.events[n] = string(body)
	l.highest[k] = max(l.highest[k], e.At.Seq)
	if e.PriorEpoch != 0 {
		l.continued[fmt.Sprintf("%s@%d", e.At.Region, e.PriorEpoch)] = e.At.Seq
	}
}

// faults returns what must not be: a number for two events, or an epoch that
// went on after another had continued it.
func (l *ledger) faults() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	wrong := slices.Clone(l.wrong)
	for k, seq := range l.continued {
		if l.highest[k] >= seq {
			wrong = append(wrong, fmt.Sprintf("%s went on to %d, continued at %d", k, l.highest[k], seq))
		}
	}
	return wrong
}

// twice returns the messages that came more than once.
func (p *phone) twice() (ns []uint64) {
	all := slices.Sorted(slices.Values(p.messages))
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			ns = append(ns, all[i])
		}
	}
	return ns
}

// guest is somebody whose phone wanders.
type guest struct {
	user  string
	phone *phone // its newest session
	gone  bool   // its node died, or its connection is gone
}

// storm is a mesh in which everything goes wrong at random.
type storm struct {
	*mesh
	rng    *rand.Rand
	guests []*guest
	number uint64
	moves  sync.WaitGroup
	all    []*phone
}

var stormNodes = []regions.NodeID{"a1", "a2", "a3", "b1", "b2"}

func (s *storm) node() regions.NodeID { return stormNodes[s.rng.IntN(len(stormNodes))] }

func (s *storm) join(g *guest, n regions.NodeID) {
	p := s.session(g.user, n)
	if g.phone != nil {
		g.phone.mu.Lock()
		for k, at := range g.phone.at {
			p.at[k] = at
		}
		for k, d := range g.phone.people {
			p.people[k] = d
		}
		for k, f := range g.phone.fixes {
			p.fixes[k] = f
		}
		g.phone.mu.Unlock()
	}
	g.phone, g.gone = p, false
	s.all = append(s.all, p)
	s.ask(p)
}

// ask joins with the phone's present session.
func (s *storm) ask(p *phone) {
	p.mu.Lock()
	var at []*wire.Position
	for _, pos := range p.at {
		at = append(at, pos)
	}
	p.mu.Unlock()
	s.enter(p, edge.Join{Room: testRoom, Re: 7, Membership: edge.Membership{Version: 1}, Positions: at})
}

// retry is what a session does about a refusal.
func (s *storm) retry() {
	for _, g := range s.guests {
		g.phone.mu.Lock()
		refused := len(g.phone.refused) > 0
		g.phone.refused = nil
		g.phone.mu.Unlock()
		if refused && !g.gone {
			s.ask(g.phone)
		}
	}
}

func (s *storm) lose(g *guest) {
	if !g.gone {
		g.gone = true
		s.suspend(g.phone)
	}
}

// crash kills a node, which is back soon. Its slot goes to somebody, maybe to
// its next life.
func (s *storm) crash(n regions.NodeID) {
	g := s.regions[s.regionOf(n)]
	owned, _ := g.owner(testRoom)
	s.restart(n)
	for _, guest := range s.guests {
		if guest.phone.member.Device.Node == string(n) && !guest.gone {
			guest.gone = true
			g.suspend(guest.phone.member)
		}
	}
	if to := s.node(); owned == n && s.regionOf(to) == g.id {
		g.move(testSlot, to)
	}
}

// say has a message stored and spread.
func (s *storm) say() {
	s.number++
	s.core.mu.Lock()
	s.core.last = s.number
	s.core.mu.Unlock()
	s.hubs[s.node()].Publish(testRoom, &wire.Message{Number: s.number})
}

// handOverSome begins a hand-over to some node, of which any step may fail.
func (s *storm) handOverSome() {
	to := s.node()
	from, _ := s.regions[s.regionOf(to)].owner(testRoom)
	if from == to {
		return
	}
	flaws := rand.New(rand.NewPCG(s.rng.Uint64(), 1))
	var mu sync.Mutex
	s.moves.Go(func() {
		_ = s.handOver(from, to, func(string) (bool, bool) {
			mu.Lock()
			defer mu.Unlock()
			return flaws.IntN(12) == 0, flaws.IntN(12) == 0
		})
	})
}

func (s *storm) step() {
	rng := s.rng
	switch k := rng.IntN(100); {
	case k < 25:
		s.say()
	case k < 35:
		g := s.guests[rng.IntN(len(s.guests))]
		if !g.gone {
			everywhere(s.hubs[regions.NodeID(g.phone.member.Device.Node)], g.phone, fixN(uint64(time.Now().UnixMilli())))
		}
	case k < 45: // the leader takes the slot from its owner
		n := s.node()
		s.regions[s.regionOf(n)].move(testSlot, n)
	case k < 60:
		s.handOverSome()
	case k < 68:
		s.rosters[s.node()].setDelay(time.Duration(rng.IntN(900)) * time.Millisecond)
	case k < 72:
		s.rosters[s.node()].setCut(true)
	case k < 78:
		s.rosters[s.node()].setCut(false)
	case k < 82:
		if a, b := s.node(), s.node(); a != b {
			s.cut(a, b)
		}
	case k < 85:
		if a, b := s.node(), s.node(); a != b && s.wires[[2]regions.NodeID{a, b}].isDown() {
			s.mend(a, b)
		}
	case k < 87:
		if a, b := s.node(), s.node(); a != b {
			s.wires[[2]regions.NodeID{a, b}].setDelay(time.Duration(rng.IntN(400)) * time.Millisecond)
		}
	case k < 88:
		s.crash(s.node())
	case k < 94:
		s.lose(s.guests[rng.IntN(len(s.guests))])
	default:
		g := s.guests[rng.IntN(len(s.guests))]
		if !g.gone && rng.IntN(2) == 0 {
			s.bye(g.phone)
		} else {
			s.lose(g)
		}
		s.join(g, s.node())
	}
}

func (s *storm) calm() {
	for _, n := range stormNodes {
		s.rosters[n].setDelay(0)
		s.rosters[n].setCut(false)
		for _, o := range stormNodes {
			if n < o && s.wires[[2]regions.NodeID{n, o}].isDown() {
				s.mend(n, o)
			}
		}
	}
	for w, p := range s.wires {
		p.setDelay(time.Millisecond)
		if w[0][0] != w[1][0] {
			p.setDelay(40 * time.Millisecond)
		}
	}
	s.moves.Wait()
	for range 5 {
		settle(3 * time.Second)
		s.retry()
		for _, g := range s.guests {
			if g.gone {
				s.join(g, s.node())
			}
		}
	}
	settle(30 * time.Second)
}

// faults returns what is wrong in the end.
func (s *storm) faults() []string {
	wrong := s.ledger.faults()
	want := ""
	for i, g := range s.guests {
		if i > 0 {
			want += " "
		}
		want += fmt.Sprintf("%s:%s:LIVE", g.user, g.phone.member.Device.Node)
	}
	for _, g := range s.guests {
		p := g.phone
		if who := p.who(); who != want {
			wrong = append(wrong, fmt.Sprintf("%s sees %s, not %s", g.user, who, want))
		}
		for _, region := range []string{"a", "b"} {
			if first := s.guests[0].phone.at[region]; p.at[region].GetEpoch() != first.GetEpoch() || p.at[region].GetSeq() != first.GetSeq() {
				wrong = append(wrong, fmt.Sprintf("%s is at %v, another at %v", g.user, p.at[region], first))
			}
		}
		if p.heard != s.number {
			wrong = append(wrong, fmt.Sprintf("%s has heard of message %d, not %d", g.user, p.heard, s.number))
		}
	}
	for _, p := range s.all {
		if p.gaps > 0 || p.backs > 0 || len(p.twice()) > 0 {
			wrong = append(wrong, fmt.Sprintf("%s@%d: %d gaps, %d times back, %v twice", p.member.User, p.member.Device.Epoch, p.gaps, p.backs, p.twice()))
		}
	}
	return wrong
}

// TestHandOversAtRandom hands slots over again and again, with calls that fail,
// while nothing else does: everybody gets everything, once, and hears of nobody
// who left.
func TestHandOversAtRandom(t *testing.T) {
	for seed := range 10 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &storm{mesh: newMesh(t, stormNodes...), rng: rand.New(rand.NewPCG(uint64(seed), 8))}
				for i := range 5 {
					g := &guest{user: fmt.Sprintf("g%d", i)}
					s.guests = append(s.guests, g)
					s.join(g, stormNodes[i])
				}
				settle(time.Second)
				for range 300 {
					s.say()
					switch rng := s.rng; rng.IntN(6) {
					case 0:
						s.handOverSome()
					case 1:
						s.rosters[s.node()].setDelay(time.Duration(rng.IntN(400)) * time.Millisecond)
					case 2:
						if a, b := s.node(), s.node(); a != b {
							s.wires[[2]regions.NodeID{a, b}].setDelay(time.Duration(rng.IntN(50)) * time.Millisecond)
						}
					}
					settle(time.Duration(s.rng.IntN(40)) * time.Millisecond)
				}
				s.calm()
				require.Empty(t, s.faults())
				for _, p := range s.all {
					require.Zero(t, p.unrecovers, p.member.User)
					require.Empty(t, p.left, p.member.User)
					require.Equal(t, int(s.number), len(p.messages), p.member.User)
				}
				require.Greater(t, s.guests[0].phone.at["a"].Epoch+s.guests[0].phone.at["b"].Epoch, uint64(2))
			})
		})
	}
}

// TestSlotsMoveAtRandom moves slots in every way while links, nodes and the
// region's log are late, cut or broken. Everybody ends up with the same, has
// missed nothing without being told, and saw nothing twice. Without fencing the
// same check must find that something is wrong.
func TestSlotsMoveAtRandom(t *testing.T) {
	seeds, steps := 20, 150
	if testing.Short() {
		seeds = 10
	}
	found := 0
	stats := map[string]float64{}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &storm{mesh: newMesh(t, stormNodes...), rng: rand.New(rand.NewPCG(uint64(seed), 7))}
				for i := range 6 {
					g := &guest{user: fmt.Sprintf("g%d", i)}
					s.guests = append(s.guests, g)
					s.join(g, stormNodes[i%5])
				}
				settle(time.Second)
				for range steps {
					s.step()
					settle(time.Duration(s.rng.IntN(150)) * time.Millisecond)
					s.retry()
				}
				s.calm()
				wrong := s.faults()
				if edge.Fencing {
					require.Empty(t, wrong)
				}
				found += len(wrong)
				for _, h := range s.hubs {
					stats["handed over"] += testutil.ToFloat64(h.metrics.handovers)
					stats["continued"] += testutil.ToFloat64(h.metrics.continued)
					stats["fenced"] += testutil.ToFloat64(h.metrics.fenced)
					stats["events"] += testutil.ToFloat64(h.metrics.events)
				}
				for _, p := range s.all {
					stats["not recovered"] += float64(p.unrecovers)
				}
			})
		})
		if !ok {
			return
		}
	}
	t.Log(stats)
	if !edge.Fencing {
		require.NotZero(t, found, "the check does not see what fencing prevents")
	}
}
