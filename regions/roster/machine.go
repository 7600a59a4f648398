package roster

import (
	"fmt"
	"io"
	"sync"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// Machine is a State behind a lock, fed by the region's log of RosterCommands:
// what regions/consensus asks of its machine. Apply, Snapshot and Restore are
// called by one goroutine; View by any.
type Machine struct {
	// OnEffects is told, in order and without a lock held, what each command
	// caused, and of a restored snapshot. It is set before the first Apply and
	// must not block: the log waits.
	OnEffects func(index uint64, effects []Effect)

	mu    sync.RWMutex // guards the following
	state *State
	index uint64 // of the last entry that was applied
}

// NewMachine returns a machine with an empty roster.
func NewMachine(region regions.RegionID) *Machine { return &Machine{state: New(region)} }

// Apply does one RosterCommand and returns its RosterAnswer. What can't be read
// changes nothing and is answered as invalid.
func (m *Machine) Apply(index uint64, stamp regions.Stamp, command []byte) (result []byte) {
	var c peer.RosterCommand
	if err := c.UnmarshalVT(command); err != nil {
		c = peer.RosterCommand{}
	}
	m.mu.Lock()
	answer, effects := m.state.Apply(stamp, &c)
	m.index = index
	m.mu.Unlock()
	result, err := answer.MarshalVT()
	if err != nil {
		panic(fmt.Sprintf("roster: encode answer: %v", err)) // of our own making
	}
	if len(effects) > 0 && m.OnEffects != nil {
		m.OnEffects(index, effects)
	}
	return result
}

// Snapshot takes the state at this moment and returns what writes it, in any
// goroutine, while commands go on.
func (m *Machine) Snapshot() func(io.Writer) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.snapshot(m.index)
}

// Restore replaces the state with that of a snapshot, or leaves it as it is if
// that one can't be read.
func (m *Machine) Restore(r io.Reader) error {
	m.mu.RLock()
	region := m.state.region
	m.mu.RUnlock()
	s, index, err := restore(r, region)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.state, m.index = s, index
	m.mu.Unlock()
	if m.OnEffects != nil {
		m.OnEffects(index, []Effect{Restored{}})
	}
	return nil
}

// View calls f with the state and the index of the last entry in it. f must
// not keep the state, only what its methods return.
func (m *Machine) View(f func(s *State, index uint64)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.state, m.index)
}
