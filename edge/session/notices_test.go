package session

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

func notices(ids ...string) (list []*wire.Notice) {
	for _, id := range ids {
		list = append(list, &wire.Notice{Id: id})
	}
	return list
}

// All of a user's devices hear of it in its order, and nobody else does; who has no
// connection, or no welcome yet, does not.
func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		phone, tablet, bob := w.live(t, "ann l1", "phone"), w.live(t, "ann l2", "tablet"), w.live(t, "bob l3", "phone")
		require.Equal(t, 2, w.Notify("ann", notices("1", "2")))
		for _, p := range []*pipe{phone, tablet} {
			for _, id := range []string{"1", "2"} {
				f := p.next(t)
				require.Zero(t, f.Re)
				require.Equal(t, id, f.GetNotice().GetId())
			}
		}
		phone.cut()
		<-phone.over
		require.Equal(t, 1, w.Notify("ann", notices("3")), "not the one that is suspended")
		require.Equal(t, "3", tablet.next(t).GetNotice().GetId())
		require.Zero(t, w.Notify("cem", notices("4")))

		w.region.opening = func() { require.Equal(t, 1, w.Notify("bob", notices("5")), "the new one has no welcome yet") }
		again := w.connect()
		again.ask(1, hello("bob l3", "tablet"))
		require.NotNil(t, again.next(t).GetWelcome())
		require.Equal(t, "5", bob.next(t).GetNotice().GetId())
		w.region.opening = nil
		require.Equal(t, 2, w.Notify("bob", notices("6")))
		require.Equal(t, "6", again.next(t).GetNotice().GetId(), "what came before is read, not told")
		for _, p := range []*pipe{tablet, bob, again} {
			p.cut()
			<-p.over
		}
		w.Stop()
	})
}
