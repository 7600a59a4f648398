package roster

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

func TestMachine(t *testing.T) {
	m := NewMachine("eu")
	var seen []Effect
	m.OnEffects = func(index uint64, e []Effect) {
		// No lock is held: a listener may look.
		m.View(func(_ *State, at uint64) { require.Equal(t, index, at) })
		seen = append(seen, e...)
	}
	e := seal(t, regions.Stamp{Term: 1, ClockMs: 1000}, command(&peer.NodeUp{Node: "n1", Incarnation: 1, Capacity: 1}), nil,
		command(&peer.SessionOpen{User: "u", Device: "d", Node: "n1", Incarnation: 1, Connection: 1}))
	// One command that can't be read spoils only itself.
	e.commands[1] = []byte{0xff}
	as := apply(t, m, 5, e)
	require.Equal(t, peer.RosterCode_ROSTER_INVALID, as[1].Code)
	require.Equal(t, uint64(1001), as[2].Epoch)
	require.Len(t, seen, 2+1024)
	require.Equal(t, peer.RosterCode_ROSTER_INVALID, apply(t, m, 7, entry{commands: [][]byte{nil}})[0].Code)

	var b bytes.Buffer
	require.NoError(t, m.Snapshot()(&b))
	other := NewMachine("eu")
	other.OnEffects = func(index uint64, e []Effect) {
		require.Equal(t, uint64(7), index)
		require.Equal(t, []Effect{Restored{}}, e)
	}
	require.NoError(t, other.Restore(bytes.NewReader(b.Bytes())))
	other.View(func(s *State, index uint64) {
		require.Equal(t, uint64(7), index)
		x, ok := s.Session("u", "d")
		require.True(t, ok)
		require.Equal(t, "u", x.User)
	})

	// What is not whole is not taken, and changes nothing.
	for cut := range b.Len() {
		require.ErrorIs(t, other.Restore(bytes.NewReader(b.Bytes()[:cut])), ErrCorrupt)
	}
	for i := range b.Len() {
		bad := bytes.Clone(b.Bytes())
		bad[i] ^= 1
		require.Error(t, other.Restore(bytes.NewReader(bad)))
	}
	require.Equal(t, image(t, m.state), image(t, other.state))
	require.ErrorContains(t, NewMachine("us").Restore(&b), `of region "eu", not "us"`)
	require.ErrorIs(t, m.Snapshot()(full{}), errFull)
}

var errFull = errors.New("disk full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// Views and snapshots go on beside commands: for the race detector.
func TestReadersBesideApply(t *testing.T) {
	m := crowd(t, 500)
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				var of []*Session
				m.View(func(s *State, _ uint64) { of = s.RoomMembers(roomOf(1)) })
				for _, x := range of { // outside the lock
					_ = len(x.Rooms()) + len(x.Elsewhere()) + len(x.User)
				}
				if err := m.Snapshot()(io.Discard); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 3000 {
		apply(t, m, uint64(10_000+i), seal(t, regions.Stamp{Term: 1, ClockMs: 2_000_000}, opening(i%500, uint64(1000+i)),
			command(&peer.RoomLeave{User: userOf(i * 7 % 500), Device: "device", Epoch: 0})))
	}
	close(done)
	readers.Wait()
	check(t, m.state)
}
