package call

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// alone is a call at one node.
type alone struct {
	*Machine
	t   *testing.T
	now time.Time
}

func newAlone(t *testing.T, f func(r *media.Record)) *alone {
	w := newWorld(t, 1)
	r := w.record()
	if f != nil {
		f(&r)
	}
	return &alone{t: t, now: w.now, Machine: New(w.now, Config{
		Self: "eu-1", Region: "eu", Place: 5, Record: r, Version: 1000, Max: 3, Silence: 30 * time.Second, Number: func() uint32 { w.number++; return w.number },
	})}
}

func (a *alone) who(user string, epoch regions.Epoch) media.Session {
	return media.Session{User: user, Device: "d", Epoch: epoch, Name: user, Role: "member"}
}

func (a *alone) join(user string, epoch regions.Epoch, j *wire.CallJoin) (bool, error) {
	return a.Join(a.now, a.who(user, epoch), j, false)
}

func (a *alone) told() (list []Tell) { return a.Take(a.now).Tell }

func TestWhoMayJoin(t *testing.T) {
	a := newAlone(t, nil)
	fresh, err := a.join("ann", 10, &wire.CallJoin{})
	require.NoError(t, err)
	require.True(t, fresh)
	fresh, err = a.join("ann", 11, &wire.CallJoin{})
	require.NoError(t, err)
	require.False(t, fresh, "its connections go on")
	_, err = a.join("ann", 10, &wire.CallJoin{})
	require.ErrorIs(t, err, media.ErrSuperseded)
	fresh, err = a.join("ann", 12, &wire.CallJoin{Fresh: true})
	require.NoError(t, err)
	require.True(t, fresh)
	require.Equal(t, 1, a.Len())
	for _, e := range a.told() {
		require.Empty(t, e.Event.GetChanged().GetGone(), "nobody goes who comes back")
	}
	for _, u := range []string{"bob", "cyd"} {
		_, err = a.join(u, 1, &wire.CallJoin{})
		require.NoError(t, err)
	}
	_, err = a.join("dee", 1, &wire.CallJoin{})
	require.ErrorIs(t, err, media.ErrCallFull)
	require.ErrorIs(t, a.Set(a.who("dee", 1).ID(), &wire.CallSet{}), media.ErrNotInCall)
	require.ErrorIs(t, a.Set(a.who("ann", 11).ID(), &wire.CallSet{}), media.ErrSuperseded)
	a.Leave(a.now, a.who("ann", 11).ID(), "left")
	require.Equal(t, 3, a.Len(), "what a lower epoch says is ignored")

	r := a.Record()
	r.Locked, r.Version = true, 2
	a.Changed(a.now, r)
	a.Leave(a.now, a.who("cyd", 1).ID(), "left")
	a.Take(a.now)
	_, err = a.join("cyd", 1, &wire.CallJoin{})
	require.ErrorIs(t, err, media.ErrCallLocked)
	r.Locked, r.Version = false, 1
	a.Changed(a.now, r)
	require.True(t, a.Record().Locked, "an older record changes nothing")
	a.Supersede(a.now.Add(time.Minute))
	_, err = a.join("bob", 1, &wire.CallJoin{})
	require.ErrorIs(t, err, media.ErrRetry)
}

func TestADeviceWithANewerSessionThatDoesNotCome(t *testing.T) {
	a := newAlone(t, nil)
	_, err := a.join("ann", 10, &wire.CallJoin{})
	require.NoError(t, err)
	a.Fenced(a.now, a.who("ann", 10).ID(), 20)
	a.now = a.now.Add(29 * time.Second)
	a.Tick(a.now)
	require.Equal(t, 1, a.Len())
	require.True(t, a.Resume(a.now, a.who("ann", 20)))
	a.now = a.now.Add(time.Minute)
	a.Tick(a.now)
	require.Equal(t, 1, a.Len(), "it came")
	a.Fenced(a.now, a.who("ann", 20).ID(), 30)
	a.now = a.now.Add(30 * time.Second)
	a.Tick(a.now)
	require.Zero(t, a.Len())
}

// That a session has moved may be heard before the one it moved to, whose connections are
// the same: they go on.
func TestWhatASessionThatMovedHasGoesOn(t *testing.T) {
	a := newAlone(t, nil)
	k := Key{"ann", "d"}
	_, err := a.join("ann", 10, &wire.CallJoin{})
	require.NoError(t, err)
	a.Published(k, media.Track{ID: "t", Source: wire.CallSource_MIC, Layers: 1})
	a.Leave(a.now, a.who("ann", 10).ID(), "moved")
	require.Empty(t, a.Take(a.now).Gone)
	fresh, err := a.join("ann", 11, &wire.CallJoin{})
	require.NoError(t, err)
	require.False(t, fresh)
	a.now = a.now.Add(time.Minute)
	a.Tick(a.now)
	require.Len(t, a.State(k).Participants[0].Tracks, 1)
	a.Leave(a.now, a.who("ann", 11).ID(), "moved")
	a.now = a.now.Add(fencedFor)
	a.Tick(a.now)
	require.Equal(t, []Key{k}, a.Take(a.now).Gone, "it did not come")

	_, err = a.join("ann", 20, &wire.CallJoin{})
	require.NoError(t, err)
	a.Leave(a.now, a.who("ann", 20).ID(), "moved")
	a.Part(a.now, "us1", "us", &peer.CallPart{Version: 1})
	gone := &peer.CallKey{User: "ann", Device: "d", Epoch: 20, Reason: "left"}
	a.Part(a.now, "us1", "us", &peer.CallPart{Version: 2, From: 1, Gone: []*peer.CallKey{gone}})
	require.Equal(t, 1, a.Len(), "that was this one, of before")
	gone.Epoch = 21
	a.Part(a.now, "us1", "us", &peer.CallPart{Version: 3, From: 2, Gone: []*peer.CallKey{gone}})
	require.Equal(t, []Key{k}, a.Take(a.now).Gone, "it came elsewhere, and left")
}

func TestTwoTalkDirectlyUntilAThirdOneComes(t *testing.T) {
	a := newAlone(t, nil)
	able := &wire.CallJoin{PeerToPeer: true}
	for _, u := range []string{"ann", "bob"} {
		_, err := a.join(u, 1, able)
		require.NoError(t, err)
	}
	require.True(t, a.State(Key{"bob", "d"}).Direct)
	a.Published(Key{"ann", "d"}, media.Track{ID: "t", Source: wire.CallSource_MIC, Layers: 1})
	a.Take(a.now)
	require.Empty(t, a.Subscriptions(Key{"bob", "d"}))
	_, err := a.join("cyd", 1, able)
	require.NoError(t, err)
	require.False(t, a.State(Key{"bob", "d"}).Direct)
	require.Len(t, a.Subscriptions(Key{"bob", "d"}), 1)
	a.Leave(a.now, a.who("cyd", 1).ID(), "left")
	a.Take(a.now)
	require.False(t, a.State(Key{"bob", "d"}).Direct, "no flapping")
}

// The floor is open for no longer than its lease, from before it was asked for, and
// closed before it is given back.
func TestTheFloorIsOpenInsideItsLease(t *testing.T) {
	a := newAlone(t, func(r *media.Record) { r.PushToTalk = true })
	ann, k := a.who("ann", 1).ID(), Key{"ann", "d"}
	_, err := a.join("ann", 1, &wire.CallJoin{})
	require.NoError(t, err)
	_, open := a.Open(k, media.Track{Source: wire.CallSource_MIC})
	require.False(t, open)
	require.ErrorIs(t, a.AskFloor(a.now, ann, &wire.CallFloorAsk{Hold: true, Priority: 1}), media.ErrForbidden)
	require.NoError(t, a.AskFloor(a.now, ann, &wire.CallFloorAsk{Hold: true}))
	wishes := func() []FloorWish { a.Tick(a.now); return a.Take(a.now).Floor }
	w := wishes()
	require.Len(t, w, 1)
	require.Empty(t, wishes(), "one question at a time")
	asked := a.now
	a.now = a.now.Add(300 * time.Millisecond)
	yours := regions.FloorAnswer{Standing: regions.FloorYours, Lease: regions.FloorLease, Holder: ann, Grant: 7}
	a.FloorAnswered(a.now, asked, w[0], yours, nil)
	until, open := a.Open(k, media.Track{Source: wire.CallSource_MIC})
	require.True(t, open)
	require.Equal(t, asked.Add(regions.FloorLease), until)
	require.True(t, a.State(k).Floor.Mine)
	_, open = a.Open(k, media.Track{Source: wire.CallSource_CAMERA, Video: true})
	require.True(t, open, "the floor is for speech")

	a.now = asked.Add(500 * time.Millisecond)
	w = wishes()
	require.Len(t, w, 1, "it is renewed")
	a.FloorAnswered(a.now, a.now, w[0], regions.FloorAnswer{}, media.ErrFloorUnavailable)
	require.True(t, a.State(k).Floor.Unavailable)
	until, open = a.Open(k, media.Track{Source: wire.CallSource_MIC})
	require.True(t, open)
	require.Equal(t, asked.Add(regions.FloorLease), until, "no answer is no longer lease")
	a.now = until
	a.Tick(a.now)
	_, open = a.Open(k, media.Track{Source: wire.CallSource_MIC})
	require.False(t, open)

	// Given back: an answer that was under way does not open it again.
	require.NoError(t, a.AskFloor(a.now, ann, &wire.CallFloorAsk{Hold: false}))
	a.FloorAnswered(a.now, a.now, w[0], yours, nil)
	_, open = a.Open(k, media.Track{Source: wire.CallSource_MIC})
	require.False(t, open)
	require.NoError(t, a.AskFloor(a.now, ann, &wire.CallFloorAsk{Hold: true}))
	again := wishes()
	require.NotEmpty(t, again)
}

// Whatever another node says: nothing breaks, nothing grows without bounds, and the node's
// own participants stay.
func FuzzPart(f *testing.F) {
	f.Add(uint64(1), []byte{})
	for seed := range uint64(8) {
		w := newWorld(&testing.T{}, seed)
		n := w.start("eu")
		_, _ = n.Join(w.now, media.Session{User: "u", Device: "d", Epoch: 3}, &wire.CallJoin{}, false)
		n.Published(Key{"u", "d"}, media.Track{ID: "t", Layers: 1})
		n.Take(w.now)
		b, _ := n.whole().MarshalVT()
		f.Add(seed, b)
	}
	f.Fuzz(func(t *testing.T, seed uint64, b []byte) {
		c := new(peer.CallPart)
		if c.UnmarshalVT(b) != nil {
			return
		}
		a := newAlone(t, nil)
		_, err := a.join("ann", 10, &wire.CallJoin{})
		require.NoError(t, err)
		a.Published(Key{"ann", "d"}, media.Track{ID: "t", Source: wire.CallSource_MIC, Layers: 1})
		r := rand.New(rand.NewPCG(seed, 2))
		own := false
		for _, x := range c.GetMembers() {
			own = own || x.GetParticipant().GetUser() == "ann"
		}
		for range 6 {
			a.now = a.now.Add(time.Duration(r.IntN(2000)) * time.Millisecond)
			a.Part(a.now, regions.NodeID([]string{"us-1", "ap-1", "eu-2", "eu-1"}[r.IntN(4)]), "us", c)
			a.Wanted(a.now, "us-1", &peer.CallWanted{Version: r.Uint64(), Tracks: []*peer.CallWantedTrack{{Number: uint32(r.IntN(4)), Layers: r.Uint32()}}})
			a.Tick(a.now)
			a.Take(a.now)
			a.Subscriptions(Key{"ann", "d"})
			a.Remotes()
			a.Taps()
			a.Sounds()
			c.Version++
		}
		require.True(t, own || a.Len() == 1, "a node speaks for its own participants")
		require.LessOrEqual(t, a.All(), 1+4*2*3)
	})
}
