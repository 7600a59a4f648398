package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
)

const (
	homeGroup = "0b9e8a4e-0000-4000-8000-000000000001"
	homeRoom  = "group:" + homeGroup
	homeUser  = "0b9e8a4e-0000-4000-8000-00000000000a"
)

// farAway is a node of ap-south that asks eu-west, where the rooms are at home.
type farAway struct {
	*home
	mu        sync.Mutex
	asked     []regions.NodeID
	answers   map[regions.NodeID]func(ctx context.Context) (*peer.Answer, error)
	lookups   int
	written   []edge.Draft // here
	published []string
	nodes     []regions.NodeStanding
	block     chan struct{} // writing here waits for it
}

func newFarAway(c homeConfig) *farAway {
	f := &farAway{answers: map[regions.NodeID]func(context.Context) (*peer.Answer, error){}}
	for _, id := range []regions.NodeID{"eu-west-1", "eu-west-2", "eu-west-3"} {
		f.nodes = append(f.nodes, regions.NodeStanding{Node: regions.Node{ID: id}, State: regions.NodeUp})
	}
	c.region = "ap-south"
	c.lookup = func(context.Context, string) (string, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lookups++
		return "eu-west", nil
	}
	c.known = func(r regions.RegionID) bool { return r == "eu-west" || r == "ap-south" }
	c.standing = func(r regions.RegionID) regions.Standing { return regions.Standing{Region: r, Nodes: f.nodes} }
	c.owner = func(regions.RegionID, string) regions.NodeID { return "eu-west-2" }
	c.publish = func(room string, m *wire.Message) { f.published = append(f.published, fmt.Sprint(room, " ", m.Number)) }
	c.call = func(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
		f.mu.Lock()
		f.asked = append(f.asked, to)
		answer := f.answers[to]
		f.mu.Unlock()
		if answer == nil {
			return f.stored(c.GetStoreMessage().GetBody())
		}
		return answer(ctx)
	}
	f.home = newHome(f, c)
	return f
}

func (f *farAway) stored(body string) (*peer.Answer, error) {
	m := &wire.Message{Number: 7, Id: homeGroup, Sender: homeUser, ClientId: "c", Body: body, SentAt: timestamppb.Now()}
	return &peer.Answer{Body: &peer.Answer_Stored{Stored: &peer.Stored{Message: m, Spread: true}}}, nil
}

// edge.Messages, as this node has it of its own.

func (f *farAway) Store(ctx context.Context, d edge.Draft) (*wire.Message, bool, error) {
	if f.block != nil {
		<-f.block
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written = append(f.written, d)
	return &wire.Message{Number: uint64(len(f.written)), Body: d.Body}, true, ctx.Err()
}

func (f *farAway) History(context.Context, string, string, edge.Page) ([]*wire.Message, bool, error) {
	return nil, false, nil
}
func (f *farAway) Last(context.Context, string) (edge.Last, error) { return edge.Last{}, nil }

func (f *farAway) send() (*wire.Message, bool, error) {
	return f.home.Store(context.Background(), edge.Draft{Room: homeRoom, Sender: homeUser, SenderName: "Ana", ClientID: "c", Body: "hi"})
}

func (f *farAway) took() []regions.NodeID {
	asked := f.asked
	f.asked = nil
	return asked
}

func down(unsent bool) func(context.Context) (*peer.Answer, error) {
	return func(context.Context) (*peer.Answer, error) {
		if unsent {
			return nil, fmt.Errorf("%w: %w", peerlink.ErrDown, regions.ErrUnsent)
		}
		return nil, peerlink.ErrDown
	}
}

func TestAMessageIsWrittenAtHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarAway(homeConfig{})
		m, spread, err := f.send()
		require.NoError(t, err)
		require.EqualValues(t, 7, m.Number)
		require.False(t, spread, "the home node has published it")
		require.Equal(t, []regions.NodeID{"eu-west-2"}, f.took(), "the owner")
		_, _, err = f.send()
		require.NoError(t, err)
		require.Equal(t, 1, f.lookups, "a home is asked for once")
		require.Empty(t, f.written)

		// What can't have arrived, or was not answered, goes to the next: the
		// client's id makes that harmless.
		f.took()
		f.answers["eu-west-2"] = down(true)
		_, _, err = f.send()
		require.NoError(t, err)
		require.Len(t, f.took(), 2)
		f.answers["eu-west-2"] = down(false)
		_, _, err = f.send()
		require.NoError(t, err)
		f.took()
		f.answers["eu-west-2"] = func(context.Context) (*peer.Answer, error) { return nil, chat.ErrStopped }
		_, _, err = f.send()
		require.NoError(t, err)
		f.took()
		f.answers["eu-west-2"] = func(ctx context.Context) (*peer.Answer, error) { <-ctx.Done(); return nil, ctx.Err() }
		began := time.Now()
		_, _, err = f.send()
		require.NoError(t, err)
		require.Equal(t, homeAsk, time.Since(began))

		// What the home says is what counts.
		f.took()
		f.answers["eu-west-2"] = func(context.Context) (*peer.Answer, error) { return nil, chat.ErrBusy }
		_, _, err = f.send()
		require.ErrorIs(t, err, chat.ErrBusy)
		f.answers["eu-west-2"] = func(context.Context) (*peer.Answer, error) { return nil, &peerlink.RemoteError{Text: "burns"} }
		_, _, err = f.send()
		_, shown := errs.From(err)
		require.Error(t, err)
		require.False(t, shown)
		require.Equal(t, []regions.NodeID{"eu-west-2", "eu-west-2"}, f.took())
		// A version that does not know the call writes where it gets it.
		f.answers["eu-west-2"] = func(context.Context) (*peer.Answer, error) { return nil, errUnknownCall }
		_, spread, err = f.send()
		require.NoError(t, err)
		require.True(t, spread)
		require.Len(t, f.written, 1)
	})
}

func TestWhoIsAsked(t *testing.T) {
	f := newFarAway(homeConfig{})
	f.nodes[1].State = regions.NodeDown // the owner, it is said
	f.nodes[2].State = regions.NodeDraining
	for _, n := range f.nodes {
		f.answers[n.Node.ID] = down(true)
	}
	_, _, err := f.send()
	require.ErrorIs(t, err, errHome)
	require.Equal(t, []regions.NodeID{"eu-west-1", "eu-west-3", "eu-west-2"}, f.took())
}

func TestAHomeThatCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarAway(homeConfig{})
		for _, n := range f.nodes {
			f.answers[n.Node.ID] = down(n.Node.ID != "eu-west-2")
		}
		_, _, err := f.send()
		require.ErrorIs(t, err, errHome)
		require.Len(t, f.took(), 3)
		e, shown := errs.From(err)
		require.True(t, shown)
		require.Equal(t, errs.Unavailable, e.Kind)
		require.EqualValues(t, "home_unreachable", e.Code)
		require.Positive(t, e.RetryAfter)

		// The next ones hear that at once, until one tries again.
		_, _, err = f.send()
		require.ErrorIs(t, err, errHome)
		require.Empty(t, f.took())
		time.Sleep(homeAgain)
		slow := make(chan struct{})
		for _, n := range f.nodes {
			f.answers[n.Node.ID] = func(context.Context) (*peer.Answer, error) { <-slow; return f.stored("hi") }
		}
		done := make(chan error)
		go func() { _, _, err := f.send(); done <- err }()
		synctest.Wait()
		_, _, err = f.send()
		require.ErrorIs(t, err, errHome)
		require.Len(t, f.took(), 1, "one is enough")
		close(slow)
		require.NoError(t, <-done)
		_, _, err = f.send()
		require.NoError(t, err)
		require.Len(t, f.took(), 1)
		require.Empty(t, f.written)
	})
}

// Somebody is there who does not answer: that is another failure, and does not
// take longer than clients wait.
func TestAHomeThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarAway(homeConfig{survives: true})
		for _, n := range f.nodes {
			f.answers[n.Node.ID] = func(ctx context.Context) (*peer.Answer, error) { <-ctx.Done(); return nil, ctx.Err() }
		}
		began := time.Now()
		_, _, err := f.send()
		require.ErrorIs(t, err, db.ErrAmbiguous)
		require.Equal(t, homeLimit, time.Since(began))
		require.Empty(t, f.written)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err = f.home.Store(ctx, edge.Draft{Room: homeRoom})
		require.ErrorIs(t, err, context.DeadlineExceeded, "the caller has gone: nothing is known of the region")
	})
}

func TestWhereAllRoomsAreAtHome(t *testing.T) {
	f := newFarAway(homeConfig{survives: true})
	for _, n := range f.nodes {
		f.answers[n.Node.ID] = down(true)
	}
	_, spread, err := f.send()
	require.NoError(t, err, "the database survives")
	require.True(t, spread)

	f = newFarAway(homeConfig{database: "eu-west"})
	_, _, err = f.home.Store(t.Context(), edge.Draft{Room: "booking:" + homeGroup})
	require.NoError(t, err)
	require.Len(t, f.took(), 1)
	require.Zero(t, f.lookups)
	f = newFarAway(homeConfig{database: "ap-south"})
	_, _, err = f.send()
	require.NoError(t, err)
	require.Empty(t, f.took())

	f = newFarAway(homeConfig{})
	_, _, err = f.home.Store(t.Context(), edge.Draft{Room: "booking:" + homeGroup})
	require.NoError(t, err)
	require.Len(t, f.took(), 1, "what is no group's has a home, too")
	f = newFarAway(homeConfig{})
	f.learn(homeRoom, "atlantis")
	_, _, err = f.send()
	require.NoError(t, err)
	require.Empty(t, f.took(), "a region that is no more: anywhere will do")
	require.Len(t, f.written, 1)
}

func TestHomesAreForgottenBeforeTheyAreTooMany(t *testing.T) {
	f := newFarAway(homeConfig{})
	for i := range homeRooms + 10 {
		f.learn(fmt.Sprint("group:", i), "eu-west")
	}
	require.Len(t, f.rooms, homeRooms)
	require.Contains(t, f.rooms, fmt.Sprint("group:", homeRooms+9))
}

// The home's side: what it is asked for is checked, stored and published, even
// if whoever asked has gone.
func TestTheHomeStoresAndPublishes(t *testing.T) {
	f := newFarAway(homeConfig{})
	ask := &peer.StoreMessage{Room: homeRoom, Sender: homeUser, SenderName: "Ana", ClientId: "c", Body: "hi"}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	s, err := f.receive(gone, ask)
	require.NoError(t, err)
	require.True(t, s.Spread)
	require.Equal(t, []string{homeRoom + " 1"}, f.published)
	require.Equal(t, "Ana", f.written[0].SenderName)
	for _, bad := range []*peer.StoreMessage{
		{Room: "lobby", Sender: homeUser}, {Room: homeRoom, Sender: "somebody"},
		{Room: homeRoom, Sender: homeUser, SenderName: strings.Repeat("x", homeName+1)},
	} {
		_, err = f.receive(t.Context(), bad)
		e, shown := errs.From(err)
		require.True(t, shown)
		require.Equal(t, errs.Invalid, e.Kind)
	}
	require.Len(t, f.written, 1)
}

// What waits is bounded, here and on the way.
func TestTooManyMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarAway(homeConfig{})
		f.block = make(chan struct{})
		failed := make([]error, homeWaiting+1)
		var wg sync.WaitGroup
		for i := range failed {
			wg.Go(func() { _, _, failed[i] = f.here(context.Background(), edge.Draft{}) })
		}
		synctest.Wait()
		close(f.block)
		wg.Wait()
		require.Len(t, f.written, homeWaiting)
		require.Len(t, slices.DeleteFunc(failed, func(err error) bool { return !errors.Is(err, chat.ErrBusy) }), 1)

		slow := make(chan struct{})
		f.answers["eu-west-2"] = func(context.Context) (*peer.Answer, error) { <-slow; return f.stored("hi") }
		failed = make([]error, homeUnder+1)
		for i := range failed {
			wg.Go(func() { _, _, failed[i] = f.send() })
		}
		synctest.Wait()
		close(slow)
		wg.Wait()
		require.Len(t, slices.DeleteFunc(failed, func(err error) bool { return !errors.Is(err, chat.ErrBusy) }), 1)
	})
}
