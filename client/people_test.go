package client

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

func TestListPeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, _, r, _ := inRoom(t, "a")
		m.nodes["a"].handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
			l := cf.GetListPeople()
			page := &wire.PeoplePage{Room: room, Counts: &wire.Counts{Live: 2, Suspended: 1}}
			if l.GetAfter() == "" {
				page.More, page.People = true, []*wire.Person{{User: "ada", Name: "Ada", Devices: []*wire.Device{
					{Device: "phone", State: wire.State_SUSPENDED}, {Device: "tab", State: wire.State_LIVE},
				}}}
			} else {
				page.People = []*wire.Person{ada(3, wire.State_SUSPENDED)}
			}
			c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_PeoplePage{PeoplePage: page}})
		})
		page, err := r.ListPeople(context.Background(), "", 1)
		require.NoError(t, err)
		require.True(t, page.More)
		require.True(t, page.People[0].Live())
		require.Equal(t, RoomCounts{Live: 2, Suspended: 1}, page.Counts)
		page, err = r.ListPeople(t.Context(), page.People[0].User, 1)
		require.NoError(t, err)
		require.False(t, page.More)
		require.Equal(t, wire.State_SUSPENDED, page.People[0].State)
		require.Equal(t, RoomCounts{Live: 1}, r.Counts())
	})
}
