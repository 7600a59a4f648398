package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNextStartIsLaterWhateverTheClockSays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	at := time.UnixMilli(1_800_000_000_000)
	next := func(now time.Time) int64 {
		s, err := nextStart(dir, now)
		require.NoError(t, err)
		return s.UnixMilli()
	}
	require.EqualValues(t, 1_800_000_000_000, next(at))
	require.EqualValues(t, 1_800_000_000_001, next(at), "within a millisecond")
	require.EqualValues(t, 1_800_000_000_002, next(at.Add(-time.Hour)), "a clock that was set back")
	require.EqualValues(t, 1_800_000_003_000, next(at.Add(3*time.Second)))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "incarnation"), []byte("half"), 0o600))
	_, err := nextStart(dir, at)
	require.ErrorContains(t, err, "delete it")
}
