package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
)

func events(key string, numbers ...int64) (list []outbox.Sent) {
	for _, n := range numbers {
		list = append(list, outbox.Sent{ID: uuid.New(), Key: key, N: n, Kind: "x", Data: []byte(`{}`), At: time.Now()})
	}
	return list
}

// audience is the nodes a1 and a2 of region a, b1 and b2 of region b, and who hears
// what there. a1 relays.
type audience struct {
	*notices
	mu    sync.Mutex
	cut   map[regions.NodeID]error
	live  map[regions.NodeID]bool // there is a session of ann's
	heard map[regions.NodeID][]uint64
	asked map[regions.NodeID]int
	alone bool
	onAsk func(regions.NodeID)
}

func newAudience() *audience {
	a := &audience{
		cut: map[regions.NodeID]error{}, live: map[regions.NodeID]bool{}, heard: map[regions.NodeID][]uint64{}, asked: map[regions.NodeID]int{},
	}
	a.notices = a.at("a1")
	return a
}

// at is a node as the others reach it.
func (a *audience) at(self regions.NodeID) *notices {
	region := func(n regions.NodeID) regions.RegionID { return regions.RegionID(n[:1]) }
	return &notices{
		self: self, region: region(self), log: slog.New(slog.DiscardHandler),
		told:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x"}, []string{"outcome"}),
		current: func() bool { return !a.alone },
		read:    func(context.Context) error { return nil },
		others: func() []regions.RegionID {
			return map[regions.RegionID][]regions.RegionID{"a": {"b"}, "b": {"a"}}[region(self)]
		},
		standing: func(r regions.RegionID) (s regions.Standing) {
			for _, i := range []string{"1", "2"} {
				s.Nodes = append(s.Nodes, regions.NodeStanding{Node: regions.Node{ID: regions.NodeID(r) + regions.NodeID(i)}, State: regions.NodeUp})
			}
			return s
		},
		live: func(user string) (list []regions.Stay) {
			a.mu.Lock()
			defer a.mu.Unlock()
			for n, is := range a.live {
				if is && region(n) == region(self) {
					list = append(list, regions.Stay{SessionID: regions.SessionID{User: user, Device: string(n), Epoch: 1}, Node: n})
				}
			}
			return list
		},
		local: func(_ string, list []*wire.Notice) int {
			a.mu.Lock()
			defer a.mu.Unlock()
			if !a.live[self] {
				return 0
			}
			for _, n := range list {
				a.heard[self] = append(a.heard[self], n.N)
			}
			return 1
		},
		call: func(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
			a.mu.Lock()
			a.asked[to]++
			err, onAsk := a.cut[to], a.onAsk
			a.mu.Unlock()
			if err != nil {
				return nil, err
			}
			if onAsk != nil {
				onAsk(to)
			}
			got, err := a.at(to).heard(ctx, c.GetNotify())
			if err != nil && !errors.Is(err, errAlone) {
				err = &peerlink.RemoteError{Node: to, Text: err.Error()}
			}
			return &peer.Answer{Body: &peer.Answer_Notified{Notified: got}}, err
		},
	}
}

func (a *audience) given() int {
	return int(testutil.ToFloat64(a.told.WithLabelValues("given_up")))
}

// All nodes that have the user are told, each once, and no other.
func TestNoticesReachAllSessions(t *testing.T) {
	a := newAudience()
	a.live["a1"], a.live["a2"], a.live["b2"] = true, true, true
	require.NoError(t, a.Send(t.Context(), events("user:ann", 1, 2)))
	require.NoError(t, a.Send(t.Context(), events("user:ann", 3)))
	all := []uint64{1, 2, 3}
	require.Equal(t, map[regions.NodeID][]uint64{"a1": all, "a2": all, "b2": all}, a.heard)
	require.NoError(t, a.Send(t.Context(), events("group:x", 3)), "there is nobody to tell, ever")
	require.Equal(t, 3.0, testutil.ToFloat64(a.told.WithLabelValues("told")))
}

// A session that moves to another node while its old one is told is told there.
func TestNoticesFollowASessionThatMoves(t *testing.T) {
	a := newAudience()
	a.live["a2"] = true
	a.onAsk = func(n regions.NodeID) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if n == "a2" && a.live["a2"] {
			a.live["a2"], a.live["a1"] = false, true
		}
	}
	require.NoError(t, a.Send(t.Context(), events("user:ann", 1)))
	require.Equal(t, map[regions.NodeID][]uint64{"a1": {1}}, a.heard)
}

// A region that can't be reached is tried again until the notice is ten seconds old;
// once it has been away for that long nobody waits for it, or asks all the time.
func TestNoticesAndARegionThatIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAudience()
		a.live["a1"], a.live["b2"] = true, true
		down := errors.New("down")
		a.cut["b1"] = down
		require.NoError(t, a.Send(t.Context(), events("user:ann", 1)), "the other node does it")
		require.Equal(t, []uint64{1}, a.heard["b2"])

		a.cut["b2"] = down
		late := events("user:ann", 2)
		began := time.Now()
		for a.Send(t.Context(), late) != nil {
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, noticeWait.Seconds(), time.Since(began).Seconds(), 0.2)
		require.Less(t, a.asked["b1"], 15, "one that is known to be lost is tried once a second")
		require.Equal(t, 1, a.given())
		time.Sleep(500 * time.Millisecond)
		require.NoError(t, a.Send(t.Context(), events("user:ann", 3)), "nobody waits any more")
		require.Equal(t, 2, a.given())

		delete(a.cut, "b2")
		time.Sleep(wayAgain)
		require.NoError(t, a.Send(t.Context(), events("user:ann", 4)))
		require.Equal(t, []uint64{1, 4}, a.heard["b2"])
		require.Equal(t, 2, a.given())
	})
}

// A node that died while the user was there holds up the user's notices until its
// region has noticed, and nobody else's.
func TestNoticesAndANodeThatDied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAudience()
		a.live["b2"] = true
		a.cut["b2"] = errors.New("down")
		require.Error(t, a.Send(t.Context(), events("user:ann", 1)))
		a.live["b2"], a.live["b1"] = false, true
		require.NoError(t, a.Send(t.Context(), events("user:ann", 1)), "at once")
		require.Equal(t, []uint64{1}, a.heard["b1"])
	})
}

// A node without contact to its region is not fit to tell, and gives nothing up.
func TestNoticesOfANodeThatIsAlone(t *testing.T) {
	a := newAudience()
	a.live["b1"] = true
	a.alone = true
	old := events("user:ann", 1)
	old[0].At = time.Now().Add(-time.Hour)
	require.ErrorIs(t, a.Send(t.Context(), old), errAlone)
	require.Zero(t, a.given())
}

// owners are those of a room in regions a (where it is relayed) and b (its home).
type owners struct {
	*updates
	who    map[regions.RegionID]regions.NodeID
	refuse map[regions.NodeID]error
	told   []string // node and update
	asked  int
	onAsk  func()
}

const liveRoom = "group:8c0e3e3e-7d2c-4a0a-9a53-0a7c1b1a5f10"

func newOwners() *owners {
	o := &owners{who: map[regions.RegionID]regions.NodeID{"a": "a1", "b": "b1"}, refuse: map[regions.NodeID]error{}}
	take := func(n regions.NodeID, list []*wire.Update) error {
		o.asked++
		if o.onAsk != nil {
			o.onAsk()
		}
		if err := o.refuse[n]; err != nil {
			return err
		}
		for _, u := range list {
			o.told = append(o.told, fmt.Sprint(n, " ", u.N))
		}
		return nil
	}
	o.updates = &updates{
		region: "a", self: "a1", log: slog.New(slog.DiscardHandler),
		home:  func(context.Context, string) (regions.RegionID, error) { return "b", nil },
		owner: func(r regions.RegionID, _ string) (regions.NodeID, regions.Epoch) { return o.who[r], 7 },
		here:  func(_ string, list []*wire.Update, _ regions.Epoch) error { return take("a1", list) },
		call: func(_ context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
			return &peer.Answer{}, take(to, c.GetUpdate().GetUpdates())
		},
	}
	return o
}

// While it isn't known where a room is at home, it is told nowhere: numbered here now
// and there the next time, the second could overtake the first.
func TestUpdatesWaitUntilTheHomeIsKnown(t *testing.T) {
	o := newOwners()
	o.home = func(context.Context, string) (regions.RegionID, error) { return "", errors.New("the database is slow") }
	require.Error(t, o.Send(t.Context(), events(liveRoom, 1)))
	require.Empty(t, o.told)
	o.home = func(context.Context, string) (regions.RegionID, error) { return "", groups.ErrNotMember }
	require.NoError(t, o.Send(t.Context(), events(liveRoom, 1)))
	require.Equal(t, []string{"a1 1"}, o.told, "the group is gone: whoever is left may hear it from here")
}

// Updates are numbered by the owner in the room's home region, whom a refusal has
// looked for again; only where nobody answers there, by that of this region.
func TestUpdatesFindTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOwners()
		require.NoError(t, o.Send(t.Context(), events(liveRoom, 1, 2)))
		require.Equal(t, []string{"b1 1", "b1 2"}, o.told)

		o.refuse["b1"] = errNoOwner
		o.onAsk = func() {
			if o.asked == 5 {
				o.who["b"] = "b2"
			}
		}
		require.NoError(t, o.Send(t.Context(), events(liveRoom, 3)))
		require.Equal(t, "b2 3", o.told[2])

		o.refuse["b2"] = errNoOwner
		require.ErrorIs(t, o.Send(t.Context(), events(liveRoom, 4)), errNoOwner, "the outbox sends it again")
		o.refuse["b2"] = errors.New("down")
		require.NoError(t, o.Send(t.Context(), events(liveRoom, 4)))
		asked := o.asked
		require.NoError(t, o.Send(t.Context(), events(liveRoom, 5)))
		require.Equal(t, asked+1, o.asked, "it is known to be lost")
		require.Equal(t, []string{"a1 4", "a1 5"}, o.told[3:])

		time.Sleep(wayAgain)
		delete(o.refuse, "b2")
		require.NoError(t, o.Send(t.Context(), events(liveRoom, 6)))
		o.who["b"] = ""
		require.NoError(t, o.Send(t.Context(), events(liveRoom, 7)))
		require.Equal(t, []string{"b2 6", "a1 7"}, o.told[5:])
		o.home = func(context.Context, string) (regions.RegionID, error) { return "", groups.ErrNotMember }
		require.NoError(t, o.Send(t.Context(), events(liveRoom, 8)), "the group is gone, and those who are there are told")
		require.Equal(t, "a1 8", o.told[7])
	})
}

func TestUpdatesAreBounded(t *testing.T) {
	o := newOwners()
	var said []*wire.Update
	calls := 0
	o.call = func(_ context.Context, _ regions.NodeID, c *peer.Call) (*peer.Answer, error) {
		calls++
		said = append(said, c.GetUpdate().GetUpdates()...)
		return &peer.Answer{}, nil
	}
	var numbers []int64
	for n := range int64(100) {
		numbers = append(numbers, n+1)
	}
	many := events(liveRoom, numbers...)
	many[7].Data = []byte(`{"x":"` + strings.Repeat("y", wire.MaxData) + `"}`)
	many[8].Data = []byte(`{"x":"y"}`)
	require.NoError(t, o.Send(t.Context(), many))
	require.Len(t, said, 100)
	require.Equal(t, 2, calls)
	require.Equal(t, "{}", said[7].Data)
	require.Equal(t, `{"x":"y"}`, said[8].Data)
	require.Equal(t, many[8].ID.String(), said[8].Id)
	require.NoError(t, o.Send(t.Context(), events("group:nonsense", 1)), "there is nobody to tell, ever")
	require.Equal(t, 2, calls)
}
