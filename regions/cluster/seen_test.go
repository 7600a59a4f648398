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
