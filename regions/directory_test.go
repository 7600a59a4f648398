package regions_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

func TestDirectory(t *testing.T) {
	top, err := regions.ParseTopology([]byte(good))
	require.NoError(t, err)
	d := regions.NewDirectory(top)
	now, changed := d.Watch()
	require.Same(t, top, now)
	told := func() bool {
		select {
		case <-changed:
			_, changed = d.Watch()
			return true
		default:
			return false
		}
	}

	// Met by a link, then named by its region.
	d.Met("us-east", regions.Node{ID: "us-east-2", Peer: "peer2.us.example:7000"})
	require.True(t, told())
	n, region, ok := d.Node("us-east-2")
	require.True(t, ok)
	require.Equal(t, regions.RegionID("us-east"), region)
	require.Equal(t, "peer2.us.example:7000", n.Peer)
	d.Met("us-east", n)
	d.Met("us-east", regions.Node{ID: "us-east-1", Peer: "another:1"})
	d.Met("us-east", regions.Node{ID: "us-east-3"})
	require.False(t, told(), "no news")
	d.Met("us-east", regions.Node{ID: "us-east-2", Peer: "moved:1"})
	require.True(t, told())
	d.Heard("us-east", []regions.Node{{ID: "us-east-1", Peer: "other:1"}, {ID: "us-east-2", Peer: "moved:1", WS: "wss://x/ws"}})
	require.True(t, told())
	n, _, _ = d.Node("us-east-2")
	require.Equal(t, "wss://x/ws", n.WS)
	n, _, _ = d.Node("us-east-1")
	require.Equal(t, "peer.us.example:7000", n.Peer, "the file's word counts")
	require.Len(t, top.Regions[1].Nodes, 1, "the file is not changed")
	require.NoError(t, d.Topology().Validate())

	// What makes no sense is not taken.
	for _, bad := range []regions.Node{
		{ID: "us-east-3", Peer: "127.0.1.1:7000"}, {ID: "eu-west-1", Peer: "x:1"}, {ID: "US", Peer: "x:1"}, {ID: "us-east-3", Peer: "x"},
		{ID: "us-east-3", Peer: "x:1", WS: "http://x"},
	} {
		d.Heard("us-east", []regions.Node{bad})
		r, _ := d.Region("us-east")
		require.Len(t, r.Nodes, 1, "%v", bad)
	}
	told()
	d.Met("ap-south", regions.Node{ID: "ap-south-1", Peer: "ap:1"})
	require.False(t, told(), "of no region of the file")

	// A new file keeps what was learned of its regions.
	d.Heard("us-east", []regions.Node{{ID: "us-east-2", Peer: "two:1"}})
	require.True(t, told())
	bad := *top
	bad.Regions = append(bad.Regions[:1:1], bad.Regions[0])
	require.Error(t, d.Replace(&bad))
	require.False(t, told())
	next := *top
	next.DNSName = "edge.example.org"
	require.NoError(t, d.Replace(&next))
	require.True(t, told())
	_, _, ok = d.Node("us-east-2")
	require.True(t, ok)
	require.Equal(t, "edge.example.org", d.Topology().DNSName)
	require.NoError(t, d.Replace(&regions.Topology{Regions: top.Regions[:1]}))
	require.NoError(t, d.Replace(top))
	_, _, ok = d.Node("us-east-2")
	require.False(t, ok, "its region was away")
}
