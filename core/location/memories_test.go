package location

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/geo/grant"
)

// Two nodes write, each what it makes of what it read. Nobody overwrites what they
// have not read.
func TestMemories(t *testing.T) {
	b := setup(t)
	ana, gone := b.user(), core.UserID(uuid.New())
	one, other := b.recorder(), b.recorder()
	stored := func(user core.UserID) (string, uint64) {
		s, err := b.Sharing(t.Context(), user, 0)
		require.NoError(t, err)
		return string(s.Memory), s.Memories
	}
	is := func(memory string, version uint64) {
		t.Helper()
		m, v := stored(ana)
		require.Equal(t, memory, m)
		require.Equal(t, version, v)
	}
	write := func(r *Recorder) {
		t.Helper()
		r.write(t.Context())
		require.Empty(t, r.memories)
	}
	is("", 0)
	one.Remember(ana, []byte("a"), 0)
	one.Remember(ana, []byte("b"), 0) // in its place
	one.Remember(gone, []byte("x"), 0)
	other.Remember(ana, []byte("late"), 0)
	write(one)
	is("b", 1)
	write(other)
	is("b", 1)
	other.Remember(ana, []byte("b and late"), 1)
	write(other)
	is("b and late", 2)
	one.Remember(ana, []byte("old"), 1)
	write(one)
	is("b and late", 2)
	_, v := stored(gone)
	require.Zero(t, v)
	require.Equal(t, 1, b.number(`SELECT count(*) FROM location_memories`))
	s, err := b.Sharing(t.Context(), ana, 0)
	require.NoError(t, err)
	require.Zero(t, s.Version, "it is no change of what is shared")

	// A database that doesn't answer: it waits; what came meanwhile is newer.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	one.Remember(ana, []byte("c"), 2)
	one.write(ctx)
	require.Len(t, one.memories, 1)
	full := bytes.Repeat([]byte{7}, grant.MaxMemory)
	one.Remember(ana, full, 2)
	one.Stop()
	is(string(full), 3)
}

func TestMemoriesAreBounded(t *testing.T) {
	b := setup(t)
	r := b.recorder()
	for range recordMost/memorySize + 10 {
		r.Remember(core.UserID(uuid.New()), []byte("x"), 0)
	}
	require.Len(t, r.memories, recordMost/memorySize)
	r.write(t.Context()) // none of them is a user
	require.Empty(t, r.memories)
	require.Zero(t, b.number(`SELECT count(*) FROM location_memories`))
}
