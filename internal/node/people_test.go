package node

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
)

// Who asks for the people of a room whose owner just died is told to try again,
// not that something went wrong.
func TestPeopleOfALostOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		a, b := w.start("n1"), w.start("n2")
		for _, rt := range []*Realtime{a, b} {
			require.NoError(t, rt.Ready(t.Context()))
		}
		eventually(t, "both own something", func() bool { return len(a.Cluster.Moves(1)) == 0 && owns(a, "n2") > 0 })
		room := ""
		for i := 0; ; i++ {
			room = fmt.Sprintf("group:%d", i)
			if owner, _ := a.Cluster.Owner(room); owner == "n2" {
				break
			}
		}
		page, err := a.People(t.Context(), "", room, "", 10)
		require.NoError(t, err)
		require.Empty(t, page.People)
		w.fabric.Cut("n1", "n2")
		w.fabric.Cut("n2", "n1")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err = a.People(ctx, "", room, "", 10)
		e, known := errs.From(err)
		require.True(t, known, "%v", err)
		require.EqualValues(t, edge.CodeRetry, e.Code)
		require.Positive(t, e.RetryAfter)
	})
}
