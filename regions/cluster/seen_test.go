package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// A region whose clock was wrong issued an epoch of tomorrow. A device that has
// forgotten it must not get a lower one here, or nobody would believe it.
func TestEpochsAheadOfTheClock(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		n, other := m.follower(), m.leader()
		tomorrow := regions.ClockEpoch(time.Now().Add(24 * time.Hour))
		told := func(user string) bool {
			x := other.session(user)
			return x == nil || x.Epoch > tomorrow
		}

		before := n.open(t, "early", 1)
		require.Less(t, before.Epoch, tomorrow)
		for range 3 { // as often as it is heard
			n.Seen(regions.SessionID{User: "early", Device: before.Device, Epoch: tomorrow}, "elsewhere")
			n.Seen(regions.SessionID{User: "late", Device: before.Device, Epoch: tomorrow}, "elsewhere")
		}
		m.eventually(func() bool { return told("early") }, "the session here is fenced")
		time.Sleep(time.Second)
		require.Greater(t, other.open(t, "late", 1).Epoch, tomorrow)
		require.Greater(t, other.open(t, "early", 2).Epoch, tomorrow)
	})
}

// What another region said is not given up, however long this one has no
// leader, and ends the session here.
func TestSeenIsKept(t *testing.T) {
	bubble(t, 1, 3, nil, func(t *testing.T, m *mesh) {
		n := m.follower()
		mine := n.open(t, "ann", 1)
		id := regions.SessionID{User: mine.User, Device: mine.Device, Epoch: mine.Epoch}
		m.eventually(func() bool { return n.session("ann") != nil }, "its copy is behind")
		for _, a := range m.all() {
			for _, b := range m.all() {
				if a != b {
					m.net.Cut(string(a.id), string(b.id))
				}
			}
		}
		time.Sleep(3 * time.Second)
		for i := range 3 {
			n.Seen(regions.SessionID{User: id.User, Device: id.Device, Epoch: id.Epoch + regions.Epoch(1+i)}, "elsewhere")
		}
		time.Sleep(time.Minute)
		require.NotNil(t, n.session("ann"))
		m.net.Heal()
		m.eventually(func() bool { return m.leader() != nil && m.leader().session("ann") == nil }, "it was given up")
		m.eventually(func() bool { return len(n.tales("fenced "+string(n.id)+" ann true")) == 1 }, "its node is not told")
		require.Len(t, n.tales("ended "+string(n.id)+" ann [] MOVED"), 1)
		n.sightings.mu.Lock()
		require.Empty(t, n.sightings.of)
		n.sightings.mu.Unlock()
		require.Equal(t, regions.RegionID("elsewhere"), n.CameFrom(regions.SessionID{User: id.User, Device: id.Device, Epoch: id.Epoch + 100}))
	})
}

// A device goes back and forth between two regions of which one has a clock that
// is an hour behind: each time the newer session has the higher epoch, and ends
// the older one when its region hears.
func TestMoved(t *testing.T) {
	behind := func(c *Config) {
		if c.Region == "r2" {
			c.Clock = func() time.Time { return time.Now().Add(-time.Hour) }
		}
	}
	bubble(t, 2, 1, behind, func(t *testing.T, m *mesh) {
		at := []*node{m.node("r1-1"), m.node("r2-1")}
		var last regions.Epoch
		for i := range 6 {
			here, there := at[i%2], at[(i+1)%2]
			o, err := here.Open(t.Context(), regions.Opening{User: "ann", Device: "d", Login: "l", Connection: uint64(1 + i), Floor: last})
			require.NoError(t, err)
			require.Greater(t, o.Epoch, last)
			id := regions.SessionID{User: "ann", Device: "d", Epoch: o.Epoch}
			if i > 0 {
				require.Equal(t, there.cfg.Region, here.CameFrom(id))
			} else {
				require.Empty(t, here.CameFrom(id))
			}
			require.Zero(t, o.PreviousEpoch, "its session here is over")
			require.NoError(t, there.Moved(t.Context(), id, here.cfg.Region))
			require.NoError(t, there.Moved(t.Context(), id, here.cfg.Region), "said again")
			require.Nil(t, there.session("ann"))
			require.NotNil(t, here.session("ann"))
			// What is late, or from nowhere, changes nothing.
			require.NoError(t, here.Moved(t.Context(), regions.SessionID{User: "ann", Device: "d", Epoch: o.Epoch - 1}, there.cfg.Region))
			require.Error(t, here.Moved(t.Context(), regions.SessionID{User: "ann", Device: "d"}, there.cfg.Region))
			require.NotNil(t, here.session("ann"))
			last = o.Epoch
		}
	})
}
