package node

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	corecalls "github.com/mustermesh/muster/core/calls"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/regions"
)

// A call whose group was deleted is over at the media servers that have it, too.
func TestACallThatIsNoMoreHasEnded(t *testing.T) {
	b := callBook{store: corecalls.New(devdb.Test(t), nil, corecalls.Config{Node: "n"}), known: func(regions.RegionID) bool { return true }}
	id := uuid.NewString()
	list, err := b.Seen(t.Context(), []string{id})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, id, list[0].Call)
	require.True(t, list[0].Ended)
	require.Greater(t, list[0].Version, uint64(1)<<62, "newer than what anybody has")
}
