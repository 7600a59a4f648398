package hub

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

func updates(ids ...string) (list []*wire.Update) {
	for _, id := range ids {
		list = append(list, &wire.Update{Id: id})
	}
	return list
}

// epochIn is the epoch of the room's slot in a region.
func (m *mesh) epochIn(region regions.RegionID) regions.Epoch {
	_, epoch := m.regions[region].owner(testRoom)
	return epoch
}

// The owner alone takes updates, in their order, and tells everybody; who was away
// hears them when they resume.
func TestUpdates(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann, bob, cem := m.join("ann", "a1"), m.join("bob", "a2"), m.join("cem", "b2")
		settle(time.Second)
		epoch := m.epochIn("a")
		require.ErrorIs(t, m.hubs["a2"].Update(testRoom, updates("x"), epoch), errRetry, "not the owner")
		require.NoError(t, m.hubs["a1"].Update(testRoom, updates("1", "2"), epoch))
		settle(time.Second)
		for _, p := range []*phone{ann, bob, cem} {
			require.Equal(t, []string{"1", "2"}, p.updates, p.member.User)
		}
		m.suspend(cem)
		require.NoError(t, m.hubs["a1"].Update(testRoom, updates("3"), epoch-1), "said to an earlier owner, and true for this one")
		settle(time.Second)
		again := m.resume(cem, "b1")
		require.Equal(t, []string{"3"}, again.updates)
		require.Zero(t, again.unrecovers)
	})
}

// A room in which nobody of the owner's region is: others follow it there.
func TestUpdatesFromARegionWithoutMembers(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		cem := m.join("cem", "b2")
		settle(time.Second)
		require.NoError(t, m.hubs["a1"].Update(testRoom, updates("1"), m.epochIn("a")))
		settle(time.Second)
		require.Equal(t, []string{"1"}, cem.updates)
	})
}

// An owner that hears of a higher epoch is none any more, before its roster says so.
func TestUpdatesOfALaterOwner(t *testing.T) {
	inMesh(t, func(t *testing.T, m *mesh) {
		ann := m.join("ann", "a2")
		require.ErrorIs(t, m.hubs["a1"].Update(testRoom, updates("1"), m.epochIn("a")+1), errRetry)
		settle(time.Second)
		require.Empty(t, ann.updates)
		require.ErrorIs(t, m.hubs["a1"].Update(testRoom, updates("1"), m.epochIn("a")), errRetry, "it has heard")
		m.regions["a"].move(testSlot, "a1") // under the higher one
		settle(time.Second)
		require.NoError(t, m.hubs["a1"].Update(testRoom, updates("1"), m.epochIn("a")))
		settle(time.Second)
		require.Equal(t, []string{"1"}, ann.updates)
	})
}

// While a slot changes its owner, again and again, each update is asked for until
// it is numbered: nobody misses one, and all hear them in their order.
func TestUpdatesWhileASlotMoves(t *testing.T) {
	for _, gives := range []bool{true, false} {
		t.Run(fmt.Sprint("handed over:", gives), func(t *testing.T) {
			inMesh(t, func(t *testing.T, m *mesh) {
				ann, bob := m.join("ann", "a3"), m.join("bob", "b1")
				settle(time.Second)
				const many = 60
				done := make(chan struct{})
				go func() {
					defer close(done)
					for n := range many {
						for tries := 0; ; tries++ {
							owner, epoch := m.regions["a"].owner(testRoom)
							if m.hub(owner).Update(testRoom, updates(fmt.Sprint(n)), epoch) == nil {
								break
							}
							require.Less(t, tries, 1000)
							time.Sleep(5 * time.Millisecond)
						}
						time.Sleep(20 * time.Millisecond)
					}
				}()
				owners := []regions.NodeID{"a1", "a2"}
				for i := range 8 {
					time.Sleep(100 * time.Millisecond)
					if gives {
						require.NoError(t, m.handOver(owners[i%2], owners[(i+1)%2], nil))
					} else {
						m.regions["a"].move(testSlot, owners[(i+1)%2])
					}
				}
				<-done
				settle(10 * time.Second)
				for _, p := range []*phone{ann, bob} {
					// A slot that was not handed over begins anew: what was numbered just
					// before is said by a snapshot that is not recovered.
					last := -1
					for _, id := range p.updates {
						var n int
						_, err := fmt.Sscan(id, &n)
						require.NoError(t, err)
						require.Greater(t, n, last, "the order")
						last = n
					}
					require.Equal(t, many-1, last)
					if gives {
						require.Len(t, p.updates, many)
						require.Zero(t, p.unrecovers)
					} else if len(p.updates) < many {
						require.NotZero(t, p.unrecovers)
					}
				}
			})
		})
	}
}
