package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

func media(c *Config) { c.Media = 100 }

func (n *node) place(t *testing.T, call regions.CallID) regions.CallPlace {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	p, err := n.PlaceCall(ctx, call, "group:"+string(call))
	require.NoError(t, err)
	return p
}

// Whichever node asks, the answer is one; a node that is lost loses its calls to
// the others, which hear of it; one that drains keeps those who are there.
func TestCallsMove(t *testing.T) {
	bubble(t, 1, 3, media, func(t *testing.T, m *mesh) {
		lead := m.leader()
		on := map[regions.NodeID][]regions.CallPlace{}
		for i := range 30 {
			call := regions.CallID(fmt.Sprint("c", i))
			p := m.all()[i%3].place(t, call)
			require.Equal(t, p, lead.place(t, call))
			on[p.Node] = append(on[p.Node], p)
		}
		for _, n := range m.all() {
			require.Len(t, on[n.id], 10)
		}
		dead := m.follower()
		m.kill(dead.id)
		rest := m.others(dead.id)
		for _, n := range rest {
			m.eventually(func() bool { return len(n.tales("call")) == 10 }, "calls did not move")
			for _, p := range on[dead.id] {
				now, ok := n.CallOf(p.Call)
				require.True(t, ok)
				require.NotEqual(t, dead.id, now.Node)
				require.Greater(t, now.Epoch, p.Epoch)
				require.Empty(t, now.Former)
				require.Contains(t, n.tales("call"), fmt.Sprintf("call %s %s -> %s false", p.Call, dead.id, now.Node))
			}
			require.Len(t, n.CallsHere(), 15)
		}

		drains, stays := rest[0], rest[1]
		require.NoError(t, stays.Drain(t.Context(), drains.id))
		m.eventually(func() bool { return len(drains.tales("call")) == 25 }, "calls did not move off")
		mine := drains.CallsHere()
		require.Len(t, mine, 15)
		for _, p := range mine {
			require.Equal(t, stays.id, p.Node)
			require.Equal(t, drains.id, p.Former)
		}
		lost, err := drains.KeepCalls(t.Context(), append(mine, regions.CallPlace{Call: "x", Node: drains.id, Epoch: 1}))
		require.NoError(t, err)
		require.Equal(t, []regions.CallID{"x"}, lost)
		first := mine[0]
		gone, err := stays.CallGone(t.Context(), first.Call, first.Epoch)
		require.NoError(t, err)
		require.False(t, gone, "those who are at the former one are on their way")
		require.NoError(t, drains.CallLeft(t.Context(), first.Call, first.FormerEpoch))
		require.NoError(t, drains.CallLeft(t.Context(), first.Call, first.FormerEpoch), "said again")
		_, err = stays.CallGone(t.Context(), first.Call, first.Epoch-1)
		require.ErrorIs(t, err, ErrStaleCall)
		for range 2 {
			gone, err = stays.CallGone(t.Context(), first.Call, first.Epoch)
			require.NoError(t, err)
			require.True(t, gone)
		}
		m.eventually(func() bool { _, ok := drains.CallOf(first.Call); return !ok }, "never gone")
		require.Greater(t, stays.place(t, first.Call).Epoch, first.Epoch)
	})
}

// Calls of which nobody says anything end; those that are kept don't, nor does
// an idle region write.
func TestCallsLapse(t *testing.T) {
	bubble(t, 1, 1, media, func(t *testing.T, m *mesh) {
		n := m.leader()
		kept, forgotten := n.place(t, "kept"), n.place(t, "forgotten")
		for range 6 {
			time.Sleep(30 * time.Second)
			lost, err := n.KeepCalls(t.Context(), []regions.CallPlace{kept})
			require.NoError(t, err)
			require.Empty(t, lost)
		}
		require.Equal(t, []string{fmt.Sprintf("call forgotten %s ->  false", n.id)}, n.tales("call"))
		lost, err := n.KeepCalls(t.Context(), []regions.CallPlace{kept, forgotten})
		require.NoError(t, err)
		require.Equal(t, []regions.CallID{"forgotten"}, lost)
		_, err = n.CallGone(t.Context(), "kept", kept.Epoch)
		require.NoError(t, err)
		index := func() (at uint64) {
			n.View(func(_ *roster.State, index uint64) { at = index })
			return at
		}
		time.Sleep(10 * time.Second)
		before := index()
		time.Sleep(5 * time.Minute)
		require.Equal(t, before, index(), "an idle region writes")
	})
}

func TestCallsRefused(t *testing.T) {
	bubble(t, 1, 1, nil, func(t *testing.T, m *mesh) {
		n := m.leader()
		_, err := n.PlaceCall(t.Context(), "c", "group:a")
		require.ErrorIs(t, err, ErrNoMedia)
		_, err = n.PlaceCall(t.Context(), "", "group:a")
		require.Equal(t, wire.CodeBadRequest, code(err))
		ask := regions.FloorAsk{Call: "c", Session: regions.SessionID{User: "u", Device: "d", Epoch: 5}, Region: "r1", Node: "m1"}
		a, err := n.AskFloor(t.Context(), ask)
		require.NoError(t, err)
		require.Equal(t, regions.FloorAnswer{
			Standing: regions.FloorYours, Lease: regions.FloorLease, Holder: ask.Session, Region: "r1", Grant: a.Grant,
		}, a)
		for i := range roster.MaxWaiting + 1 {
			other := ask
			other.Session.User = fmt.Sprint(i)
			a, err = n.AskFloor(t.Context(), other)
			if i < roster.MaxWaiting {
				require.NoError(t, err)
				require.Equal(t, regions.FloorWaiting, a.Standing)
				require.Equal(t, i+1, a.Position)
				require.Equal(t, ask.Session, a.Holder)
			}
		}
		require.ErrorIs(t, err, ErrFloorQueue)
		old := ask
		old.Session.Epoch = 4
		_, err = n.AskFloor(t.Context(), old)
		require.Equal(t, wire.CodeSuperseded, code(err))
		ask.MaxTalk = 2 * time.Hour
		_, err = n.AskFloor(t.Context(), ask)
		require.Equal(t, wire.CodeBadRequest, code(err))
		a, err = n.TakeFloor(t.Context(), "c", n.FloorOf("c").Grant)
		require.NoError(t, err)
		require.Equal(t, roster.MaxWaiting, a.Waiting)
		a, err = n.ReleaseFloor(t.Context(), regions.FloorRelease{Call: "c", Session: ask.Session, Node: "m1", Grant: a.Grant})
		require.NoError(t, err)
		require.Zero(t, a.Grant)
		// Nobody asks any more: the floor is no more.
		time.Sleep(5 * time.Second)
		n.View(func(s *roster.State, _ uint64) { require.Zero(t, s.Floors()) })
	})
}

// presser is an SFU that holds the button for one session all the time, and
// counts its leases as it should.
type presser struct {
	*node
	session regions.SessionID

	mu    sync.Mutex
	until time.Time
	first time.Time // it has had the floor since
	errs  []error
}

func (p *presser) press(ctx context.Context) {
	for {
		sent := time.Now()
		go func() {
			a, err := p.AskFloor(ctx, regions.FloorAsk{Call: "c", Session: p.session, Region: "r1", Node: p.id})
			p.mu.Lock()
			defer p.mu.Unlock()
			switch {
			case err != nil:
				p.errs = append(p.errs, err)
			case a.Standing == regions.FloorYours:
				if until := sent.Add(a.Lease); until.After(p.until) {
					if !p.until.After(time.Now()) {
						p.first = time.Now()
					}
					p.until = until
				}
			}
		}()
		if !pause(ctx, 500*time.Millisecond) {
			return
		}
	}
}

func (p *presser) forwards() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until.After(time.Now())
}

// The floor through the loss of its holder's SFU, of the leader, and of both in
// one: never two, and the next one has it after the lease and an election.
func TestFloorThroughCuts(t *testing.T) {
	for _, holder := range []string{"leader", "follower"} {
		for _, cut := range []string{"leader", "follower"} {
			for _, how := range []string{"both", "out", "in", "held"} {
				t.Run(fmt.Sprintf("of the %s, %s is cut %s", holder, cut, how), func(t *testing.T) {
					bubble(t, 1, 3, media, func(t *testing.T, m *mesh) { throughACut(t, m, holder, cut, how) })
				})
			}
		}
	}
}

func throughACut(t *testing.T, m *mesh, holder, cut, how string) {
	lead := m.leader()
	others := m.others(lead.id)
	at := map[string]*node{"leader": lead, "follower": others[0]}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	var pressers []*presser
	begin := func(n *node, user string) *presser {
		p := &presser{node: n, session: regions.SessionID{User: user, Device: "d", Epoch: 5}}
		pressers = append(pressers, p)
		work.Go(func() { p.press(ctx) })
		return p
	}
	has := begin(at[holder], "ann")
	m.eventually(has.forwards, "nobody has the floor")
	for i, n := range m.others(at[holder].id) {
		begin(n, fmt.Sprint("u", i))
	}
	time.Sleep(3 * time.Second)
	require.True(t, has.forwards(), "renewed")
	off := at[cut]
	switch how {
	case "both":
		m.cut(off.id, true, true)
	case "out":
		m.cut(off.id, true, false)
	case "in":
		m.cut(off.id, false, true)
	case "held":
		m.net.Hold(string(off.id))
	}
	began := time.Now()
	look := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			have := slices.DeleteFunc(slices.Clone(pressers), func(p *presser) bool { return !p.forwards() })
			require.LessOrEqual(t, len(have), 1, "two have the floor")
		}
	}
	look(8 * time.Second)
	who := slices.IndexFunc(pressers, func(p *presser) bool { return p.forwards() })
	require.GreaterOrEqual(t, who, 0, "nobody has it")
	if has.node != off {
		require.Same(t, has, pressers[who], "it is the holder's still, through an election")
	} else {
		require.NotSame(t, has, pressers[who], "the holder is cut off")
		// The lease, an election, and an ask.
		took := pressers[who].first.Sub(began)
		t.Log("the next one has it after", took)
		require.Less(t, took, regions.FloorLease+2*time.Second)
		has.mu.Lock()
		require.NotEmpty(t, has.errs)
		for _, err := range has.errs {
			require.True(t, errors.Is(err, ErrNoFloor), "%v", err)
		}
		has.mu.Unlock()
	}
	m.net.Heal()
	m.net.Release(string(off.id))
	look(6 * time.Second)
}
