package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// Nobody waits for nodes that are far, but at the end, when nobody else would.
func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := make(chan regions.NodeID, 10)
		others := &tell{
			self: "a1", region: "a",
			directory: regions.NewDirectory(&regions.Topology{Regions: []regions.Region{
				{Name: "a", Nodes: []regions.Node{{ID: "a1"}, {ID: "a2"}}}, {Name: "b", Nodes: []regions.Node{{ID: "b1"}}},
			}}),
			call: func(_ context.Context, to regions.NodeID, _ []byte) ([]byte, error) {
				if to == "b1" {
					time.Sleep(100 * time.Millisecond)
				}
				calls <- to
				return nil, nil
			},
		}
		say := func() { others.all(t.Context(), "something", &peer.Call{}) }
		say()
		require.Len(t, calls, 1, "the one that is near")
		others.Stop()
		require.Len(t, calls, 2)
		say()
		require.Len(t, calls, 4)
	})
}
