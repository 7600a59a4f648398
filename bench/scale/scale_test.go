package scale

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCounts(t *testing.T) {
	c := Defaults()
	c.Sessions, c.Regions = 20_000, 10
	r, err := Run(c)
	require.NoError(t, err)
	again, err := Run(c)
	require.NoError(t, err)
	require.Equal(t, r, again, "the same seed, the same population")

	require.InDelta(t, 20_000*3/8.0, r.Rooms, 1500)
	require.Greater(t, r.Spread, 1.0)
	require.Less(t, r.Spread, 8.0)
	require.Equal(t, 30, r.Nodes, "three nodes a region are enough")
	require.Equal(t, 27, r.LinksOfNode)
	require.Greater(t, r.Built.Entries, r.Home.Entries)
	require.Greater(t, r.Home.Entries, r.Needed.Entries)
	require.Equal(t, float64(r.Rooms), r.Built.Rooms, "each region holds each room")
	require.Less(t, r.Home.Rooms, r.Built.Rooms)
	require.GreaterOrEqual(t, r.Naive, r.Copies, "one copy per region is never more than one per receiver")
	require.Greater(t, r.Payload, r.Busiest)
	require.GreaterOrEqual(t, r.Receive, r.Busiest)

	// All in one region: nothing crosses, whoever is asked.
	c.Local = 1
	alone, err := Run(c)
	require.NoError(t, err)
	require.Zero(t, alone.Copies)
	require.Zero(t, alone.Wide)
	require.Zero(t, alone.Needed.Entries)
	require.Equal(t, float64(alone.Rooms*9), alone.Built.Entries)

	_, err = Run(Config{})
	require.Error(t, err)
}

func TestFramesHaveTheSizesOfRealOnes(t *testing.T) {
	s := sizes(Defaults())
	require.Greater(t, s.fix, 200.0)
	require.Less(t, s.fix, 500.0)
	require.Greater(t, s.message, s.fix)
	require.Greater(t, s.slots, 2048)
	require.Greater(t, s.digest, 8*1024)
}
