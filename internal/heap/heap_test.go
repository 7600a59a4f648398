package heap

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoom(t *testing.T) {
	require.EqualValues(t, 32<<20, Room(128<<20), "little memory")
	require.EqualValues(t, 256<<20, Room(2<<30))
	require.EqualValues(t, 1<<30, Room(24<<30), "much memory")
}

func TestPercent(t *testing.T) {
	require.Equal(t, 800, Percent(128<<20, 1<<30))
	require.Equal(t, MinPercent, Percent(8<<30, 1<<30), "a heap that is larger than the room")
	require.Equal(t, MinPercent, Percent(128<<20, 0), "a process that rests")
	require.Equal(t, 102400, Percent(0, 1<<30), "nothing lives yet")
}

func TestAvailable(t *testing.T) {
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	require.EqualValues(t, 2048<<10, total(file("MemFree: 7 kB\nMemTotal:       2048 kB\n")))
	require.EqualValues(t, unknown, total("missing"))
	require.EqualValues(t, unknown, total(file("MemTotal: much kB\n")))
	require.EqualValues(t, 5<<20, limit(file("5242880\n")))
	require.EqualValues(t, math.MaxInt64, limit(file("max\n")))
	require.EqualValues(t, math.MaxInt64, limit("missing"))
	require.Positive(t, available())
}

// A process that allocates gets room within seconds, and loses it again.
func TestPace(t *testing.T) {
	before := debug.SetGCPercent(MinPercent)
	defer debug.SetGCPercent(before)
	p := &Pacer{room: 1 << 30, percent: MinPercent}
	for range 5 {
		p.step(100<<20, p.allocs+20<<20)
	}
	require.Greater(t, p.percent, 4*MinPercent)
	for range 60 {
		p.step(100<<20, p.allocs)
	}
	require.Equal(t, MinPercent, p.percent)
}

func TestPacer(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	p := NewPacer()
	require.NoError(t, p.Start(t.Context()))
	require.Equal(t, MinPercent, debug.SetGCPercent(MinPercent))
	p.Stop()
	require.Equal(t, 100, debug.SetGCPercent(100))

	t.Setenv("GOGC", "50")
	p = NewPacer()
	require.NoError(t, p.Start(t.Context()))
	p.Stop()
	require.Equal(t, 100, debug.SetGCPercent(100), "who sets GOGC knows better")
}
