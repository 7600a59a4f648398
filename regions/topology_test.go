package regions_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

const good = `
dns_name: edge.example.org
regions:
  - name: eu-west
    location: {lat: 53.35, lng: -6.26}
    nodes:
      - {id: eu-west-1, peer: "127.0.1.1:7000", http: "http://127.0.1.1:8080", ws: "ws://127.0.1.1:8080/ws", wt: "https://127.0.1.1:8443/wt"}
      - {id: eu-west-2, peer: "127.0.1.2:7000"}
      - {id: eu-west-3, peer: "127.0.1.3:7000"}
  - name: us-east
    location: {lat: 38.9, lng: -77.4}
    nodes:
      - {id: us-east-1, peer: "peer.us.example:7000"}
`

func TestParseTopology(t *testing.T) {
	top, err := regions.ParseTopology([]byte(good))
	require.NoError(t, err)
	n, region, ok := top.Node("eu-west-1")
	require.True(t, ok)
	require.Equal(t, regions.RegionID("eu-west"), region)
	require.Equal(t, "https://127.0.1.1:8443/wt", n.WT)
	_, _, ok = top.Node("nobody")
	require.False(t, ok)
	r, ok := top.Region("us-east")
	require.True(t, ok)
	require.Equal(t, 38.9, r.Location.Lat)

	fromJSON, err := regions.ParseTopology([]byte("{\n\t\"regions\":[{\"name\":\"a\",\"location\":{\"lat\":1,\"lng\":2},\"nodes\":[{\"id\":\"a-1\",\"peer\":\"h:1\"}]}]}"))
	require.NoError(t, err)
	require.Equal(t, regions.NodeID("a-1"), fromJSON.Regions[0].Nodes[0].ID)

	path := filepath.Join(t.TempDir(), "topology.yaml")
	require.NoError(t, os.WriteFile(path, []byte(good), 0o600))
	_, err = regions.LoadTopology(path)
	require.NoError(t, err)
	_, err = regions.LoadTopology(path + ".missing")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestTopologyErrorsSayWhere(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"unknown key", "location: {lat: 53.35", "locaton: {lat: 53.35", "locaton"},
		{"latitude", "lat: 53.35", "lat: 153.35", "region eu-west: location (153.35, -6.26) is not on Earth"},
		{"region name", "name: us-east", "name: US East", `regions[1]: name "US East"`},
		{"region twice", "name: us-east", "name: eu-west", "region eu-west: is listed twice"},
		{"node twice", "id: us-east-1", "id: eu-west-1", "node eu-west-1: is listed twice"},
		{"node id", "id: eu-west-2", "id: eu/2", `nodes[1]: id "eu/2"`},
		{"no port", "127.0.1.2:7000", "127.0.1.2", `node eu-west-2: peer "127.0.1.2": must be host:port`},
		{"port", "127.0.1.2:7000", "127.0.1.2:70000", "port must be"},
		{"peer twice", "127.0.1.2:7000", "127.0.1.1:7000", "peer 127.0.1.1:7000 is also that of eu-west-1"},
		{"dns name", "edge.example.org", "Edge.", `the nearest region: dns_name "Edge."`},
		{"dns name of a region", "lng: -77.4}", "lng: -77.4}\n    dns_name: us_east.example.org", `region us-east: dns_name "us_east.example.org"`},
		{"dns name twice", "  - name: us-east\n", "    dns_name: a.example\n  - name: us-east\n    dns_name: a.example\n", "region us-east: dns_name a.example is also that of region eu-west"},
		{"wt", "https://127.0.1.1:8443/wt", "http://127.0.1.1:8443/wt", "node eu-west-1: wt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := strings.Replace(good, c.from, c.to, 1)
			require.NotEqual(t, good, bad)
			_, err := regions.ParseTopology([]byte(bad))
			require.ErrorContains(t, err, c.want)
		})
	}
	for _, empty := range []string{"", "{}", "regions: []", "regions: [{name: a}]", "["} {
		_, err := regions.ParseTopology([]byte(empty))
		require.Error(t, err)
	}
	nan := regions.Topology{Regions: []regions.Region{{Name: "a", Location: regions.Location{Lat: math.NaN()}}}}
	require.ErrorContains(t, nan.Validate(), "not on Earth")
}

func TestStaticSpreadsEvenly(t *testing.T) {
	for _, nodes := range []int{1, 3, 5, 9} {
		top := topology(nodes)
		s := regions.NewStatic(top)
		slots := map[regions.NodeID]int{}
		rooms := map[regions.NodeID]int{}
		seen := map[int]bool{}
		for i := 0; len(seen) < regions.Slots; i++ {
			room := fmt.Sprintf("group:%08d-0000-4000-8000-000000000000", i)
			rooms[s.Owner("r", room)]++
			if slot := regions.SlotOf(room); !seen[slot] {
				seen[slot] = true
				slots[s.Owner("r", room)]++
			}
		}
		for _, n := range top.Regions[0].Nodes {
			require.InEpsilon(t, regions.Slots/nodes, slots[n.ID], 0.3, "%d nodes: slots of %s", nodes, n.ID)
			require.NotZero(t, rooms[n.ID])
		}
		require.Empty(t, s.Owner("nowhere", "group:x"))
	}
}

func TestStaticMovesOnlyTheLostShare(t *testing.T) {
	before, after := regions.NewStatic(topology(5)), regions.NewStatic(topology(4))
	for i := range 5000 {
		room := fmt.Sprintf("group:%d", i)
		if was := before.Owner("r", room); was != "r-5" {
			require.Equal(t, was, after.Owner("r", room))
		}
	}
}

func topology(nodes int) *regions.Topology {
	r := regions.Region{Name: "r"}
	for i := range nodes {
		r.Nodes = append(r.Nodes, regions.Node{ID: regions.NodeID(fmt.Sprintf("r-%d", i+1)), Peer: fmt.Sprintf("h:%d", i+1)})
	}
	return &regions.Topology{Regions: []regions.Region{r}}
}
