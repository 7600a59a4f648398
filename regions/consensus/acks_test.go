package consensus

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

func TestOnlyVotersAnsweringInTheTermCount(t *testing.T) {
	servers := []raft.Server{
		{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "l1", Suffrage: raft.Nonvoter}, {ID: "l2", Suffrage: raft.Nonvoter},
	}
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	a := newAcks()
	quorum := func(term uint64) time.Time { return a.quorum("a", servers, term, at(100)) }
	require.True(t, quorum(5).IsZero(), "alone")
	a.add("l1", 5, 5, at(10))
	a.add("l2", 5, 5, at(10))
	require.True(t, quorum(5).IsZero(), "learners")
	a.add("b", 5, 6, at(10))
	require.True(t, quorum(5).IsZero(), "it has left the term")
	a.add("b", 4, 4, at(10))
	require.True(t, quorum(5).IsZero(), "an older term")
	require.Equal(t, at(10), quorum(0), "but a contact")
	a.add("b", 5, 5, at(11))
	require.Equal(t, at(11), quorum(5))
	a.add("c", 5, 5, at(13))
	require.Equal(t, at(13), quorum(5), "the best majority")
	a.add("c", 5, 5, at(12))
	require.Equal(t, at(13), quorum(5), "answers in another order")
	require.Equal(t, at(100), newAcks().quorum("a", servers[:1], 5, at(100)), "the only voter")
	require.True(t, newAcks().quorum("l1", servers[3:], 0, at(100)).IsZero(), "no voters")
}
