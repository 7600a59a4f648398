package quota

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.Unix(1_800_000_000, 0)

func TestAllocations(t *testing.T) {
	u := New(Limits{Allocations: 2})
	a, ok := u.Acquire(start, "anna")
	require.True(t, ok)
	b, ok := u.Acquire(start, "anna")
	require.True(t, ok)
	require.Same(t, a, b)
	_, ok = u.Acquire(start, "anna")
	require.False(t, ok, "the third")
	_, ok = u.Acquire(start, "otto")
	require.True(t, ok, "somebody else's first")
	u.Release(start, b)
	_, ok = u.Acquire(start, "anna")
	require.True(t, ok)
}

func TestBytesAreTheUsersNotTheAllocations(t *testing.T) {
	u := New(Limits{Bytes: 1000, Burst: 2000})
	a, _ := u.Acquire(start, "anna")
	b, _ := u.Acquire(start, "anna")
	require.True(t, a.Take(start, 1500))
	require.False(t, b.Take(start, 600))
	require.True(t, b.Take(start, 500))
	now := start.Add(time.Second)
	require.False(t, a.Take(now, 1001))
	require.True(t, a.Take(now, 1000))
	require.False(t, a.Take(start, 1), "a clock that goes back gains nothing")

	u.Release(now, a)
	u.Release(now, b)
	c, _ := u.Acquire(now, "anna")
	require.False(t, c.Take(now, 1), "asking anew gains nothing")
	u.Release(now, c)
	require.Equal(t, 1, u.Len())
	_, _ = u.Acquire(now.Add(time.Minute), "otto")
	require.Equal(t, 1, u.Len(), "anna owes nothing and is forgotten")
}

func TestNoLimits(t *testing.T) {
	u := New(Limits{Allocations: -1, Bytes: -1})
	for range 1000 {
		a, ok := u.Acquire(start, "anna")
		require.True(t, ok)
		require.True(t, a.Take(start, 1<<40))
	}
}

// Random users against a recount.
func TestAgainstACount(t *testing.T) {
	const most = 3
	u := New(Limits{Allocations: most, Bytes: 1e6, Burst: 1e6})
	held := map[string][]*User{}
	r := rand.New(rand.NewPCG(1, 2))
	now := start
	for range 20_000 {
		now = now.Add(time.Duration(r.IntN(100)) * time.Millisecond)
		id := fmt.Sprint(r.IntN(500))
		if n := len(held[id]); n > 0 && r.IntN(2) == 0 {
			u.Release(now, held[id][n-1])
			held[id] = held[id][:n-1]
			continue
		}
		user, ok := u.Acquire(now, id)
		require.Equal(t, len(held[id]) < most, ok)
		if ok {
			held[id] = append(held[id], user)
			user.Take(now, r.IntN(10_000))
		}
	}
	for _, all := range held {
		for _, user := range all {
			u.Release(now, user)
		}
	}
	_, _ = u.Acquire(now.Add(time.Minute), "last")
	require.Equal(t, 1, u.Len())
}

// 0 allocations for each packet.
func TestTakeDoesNotAllocate(t *testing.T) {
	u := New(Limits{})
	user, _ := u.Acquire(start, "anna")
	require.Zero(t, testing.AllocsPerRun(1000, func() { user.Take(start, 1) }))
}
