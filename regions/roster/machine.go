package roster

import (
	"fmt"
	"io"
	"sync"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// Machine is a State behind a lock, fed by a log of sealed batches: what a
// consensus library calls its state machine. Apply, Snapshot and Restore are
// called by one goroutine; View by any.
type Machine struct {
	// OnEffects is told, in order and without a lock held, what each entry
	// caused, and of a restored snapshot. It is set before the first Apply and
	// must not block: the log waits.
	OnEffects func(index uint64, effects []Effect)

	mu    sync.RWMutex // guards the following
	state *State
	index uint64 // of the last entry that was applied
}

// NewMachine returns a machine with an empty roster.
func NewMachine(region regions.RegionID) *Machine { return &Machine{state: New(region)} }

// Apply does all commands of a batch, and returns their RosterAnswers. What
// can't be read changes nothing and is answered as invalid.
func (m *Machine) Apply(index uint64, command []byte) (result []byte) {
	var batch peer.RosterBatch
	answers := &peer.RosterAnswers{}
	var effects []Effect
	if err := batch.UnmarshalVT(command); err != nil {
		answers.Answers = append(answers.Answers, refuse(invalid, 0))
		batch = peer.RosterBatch{}
	}
	m.mu.Lock()
	for _, b := range batch.Commands {
		var c peer.RosterCommand
		if err := c.UnmarshalVT(b); err != nil {
			c = peer.RosterCommand{}
		}
		a, e := m.state.Apply(batch.Stamp, &c)
		answers.Answers = append(answers.Answers, a)
		if effects == nil {
			effects = e
		} else {
			effects = append(effects, e...)
		}
	}
	m.index = index
	m.mu.Unlock()
	result, err := answers.MarshalVT()
	if err != nil {
		panic(fmt.Sprintf("roster: encode answers: %v", err)) // of our own making
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

// Seal makes a log entry of encoded RosterCommands: the leader's part. The
// version is set to what this node knows.
func Seal(stamp *peer.RosterStamp, commands ...[]byte) ([]byte, error) {
	b, err := (&peer.RosterBatch{
		Stamp: &peer.RosterStamp{
			Version: Version, Term: stamp.GetTerm(), ClockMs: stamp.GetClockMs(), UptimeMs: stamp.GetUptimeMs(),
		},
		Commands: commands,
	}).MarshalVT()
	if err != nil {
		return nil, fmt.Errorf("roster: seal: %w", err)
	}
	return b, nil
}
