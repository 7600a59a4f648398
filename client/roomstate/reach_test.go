package roomstate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

var since = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func away(region string, lost bool) *wire.RegionReach {
	return &wire.RegionReach{Region: region, UnknownSince: timestamppb.New(since), Lost: lost}
}

func unreached(list ...*wire.RegionReach) *wire.Reach { return &wire.Reach{Unreached: list} }

func TestARegionThatCantBeHeard(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0,
		part(pos(eu, 5, 10), person("ada", device("p", 1, wire.State_LIVE, eu), device("l", 1, wire.State_LIVE, eu))),
		part(pos(us, 2, 3), person("ada", device("t", 1, wire.State_LIVE, us)), person("bo", device("p", 1, wire.State_LIVE, us)))))
	s.Fixes([]*wire.MemberFix{fix("bo", "p", 1, 4)})

	out := s.Reach(unreached(away(us, false)))
	require.Equal(t, []roomstate.Event{roomstate.RegionChanged{Reach: roomstate.Reach{Region: us, UnknownSince: since}}}, out, "nobody leaves")
	require.Len(t, s.Members(), 2)
	require.False(t, s.Members()[0].Unknown(), "two of Ada's devices are heard of")
	require.Equal(t, since, s.Members()[0].Devices[2].UnknownSince)
	require.True(t, s.Members()[1].Unknown())
	require.True(t, s.Members()[1].Live(), "as was last heard")
	require.Len(t, s.Fixed(), 1, "and where")
	require.Equal(t, []roomstate.Reach{{Region: us, UnknownSince: since}}, s.Unreached())
	require.Len(t, s.Positions(), 2, "it goes on from there")

	require.Empty(t, s.Reach(unreached(away(us, false))), "nothing new")
	out = s.Reach(unreached(away("ap-south", false)))
	require.Equal(t, []roomstate.Event{
		roomstate.RegionChanged{Reach: roomstate.Reach{Region: "ap-south", UnknownSince: since}},
		roomstate.RegionChanged{Reach: roomstate.Reach{Region: us}},
	}, out, "the list is the whole of it")
	require.False(t, s.Members()[1].Unknown())

	out = s.Snapshot(snap(0))
	require.Equal(t, []roomstate.Event{roomstate.RegionChanged{Reach: roomstate.Reach{Region: "ap-south"}}}, out, "a snapshot's too")
	require.Empty(t, s.Unreached())
}

func TestARegionThatIsLost(t *testing.T) {
	s := roomstate.New()
	part2 := part(pos(us, 2, 3), person("bo", device("p", 7, wire.State_LIVE, us)))
	s.Snapshot(snap(0, part(pos(eu, 5, 10), person("ada", device("p", 1, wire.State_LIVE, eu))), part2))
	s.Fixes([]*wire.MemberFix{fix("bo", "p", 7, 4)})
	s.Reach(unreached(away(us, false)))

	out := s.Reach(unreached(away(us, true)))
	gone := only[roomstate.PresenceChanged](out)
	require.Len(t, gone, 1)
	require.Equal(t, wire.Reason_REGION_LOST, gone[0].Device.Reason)
	require.Equal(t, wire.State_LEFT, gone[0].State)
	require.True(t, only[roomstate.RegionChanged](out)[0].Reach.Lost)
	require.Equal(t, []string{"ada/p@1 LIVE"}, states(s))
	require.Empty(t, s.Fixed())
	require.Equal(t, roomstate.Counts{Live: 1}, s.Counts())
	require.Len(t, s.Positions(), 1, "it has to come back whole")
	require.Empty(t, s.Reach(unreached(away(us, true))))

	_, verdict := s.Event(presence(pos(us, 2, 4), person("bo", device("p", 7, wire.State_SUSPENDED, us))))
	require.Equal(t, roomstate.Gap, verdict, "an event alone does not bring it back")

	// It returns: the same session, with its fix.
	part2.Fixes = []*wire.MemberFix{fix("bo", "p", 7, 4)}
	out = s.Snapshot(snap(0, part2))
	require.Len(t, only[roomstate.PresenceChanged](out), 1)
	require.Equal(t, roomstate.Reach{Region: us}, only[roomstate.RegionChanged](out)[0].Reach)
	require.Equal(t, []string{"ada/p@1 LIVE", "bo/p@7 LIVE"}, states(s))
	require.Len(t, s.Fixed(), 1)
}

// What comes of a region that was lost stays, though the same snapshot, or one
// after it, still says that it is lost.
func TestALostRegionThatIsThereAgain(t *testing.T) {
	s := roomstate.New()
	bo := person("bo", device("p", 7, wire.State_LIVE, us))
	s.Snapshot(snap(0, part(pos(eu, 5, 10)), part(pos(us, 2, 3), bo)))
	s.Reach(unreached(away(us, true)))
	require.Empty(t, states(s))
	again := snap(0, part(pos(us, 2, 9), bo))
	again.Unreached = unreached(away(us, true)).Unreached
	s.Snapshot(again)
	s.Reach(unreached(away(us, true)))
	s.Reach(unreached())
	require.Equal(t, []string{"bo/p@7 LIVE"}, states(s))
	require.Len(t, s.Positions(), 2)
}

// Who has moved away before their region is lost stays.
func TestWhoMovedIsNotLost(t *testing.T) {
	s := roomstate.New()
	s.Snapshot(snap(0, part(pos(eu, 5, 10)), part(pos(us, 2, 3), person("bo", device("p", 7, wire.State_LIVE, us)))))
	s.Reach(unreached(away(us, false)))
	apply(t, s, presence(pos(eu, 5, 11), person("bo", device("p", 8, wire.State_LIVE, eu))))
	require.False(t, s.Members()[0].Unknown())
	require.Empty(t, only[roomstate.PresenceChanged](s.Reach(unreached(away(us, true)))))
	require.Equal(t, []string{"bo/p@8 LIVE"}, states(s))
}
