package auth

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/errs"
)

func TestLimiter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := NewLimiter(Limit{Burst: 2, Every: 10 * time.Second}, func() time.Time { return now })
	require.NoError(t, l.Allow("a"))
	require.NoError(t, l.Allow("a"))
	err := l.Allow("a")
	require.ErrorIs(t, err, ErrRateLimited)
	e, ok := errors.AsType[*errs.Error](err)
	require.True(t, ok)
	require.Equal(t, 10*time.Second, e.RetryAfter)
	require.NoError(t, l.Allow("b"), "keys have buckets of their own")

	now = now.Add(9 * time.Second)
	require.ErrorIs(t, l.Allow("a"), ErrRateLimited, "being refused costs nothing, but gains nothing")
	now = now.Add(time.Second)
	require.NoError(t, l.Allow("a"))
	require.ErrorIs(t, l.Allow("a"), ErrRateLimited)
}
