package consensus

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Machine is what is replicated. Its methods are called one at a time, but for
// the function that Snapshot returns, which runs beside later Applies. It must
// depend on nothing but its commands: no clock, no chance, no map order.
type Machine interface {
	// Apply carries a command out and returns its result. Commands that were
	// committed together have the same index; it never goes back.
	Apply(index uint64, command []byte) (result []byte)
	// Snapshot returns at once a function that writes the state as it is now.
	Snapshot() func(io.Writer) error
	// Restore replaces the state by what a Snapshot wrote. After an error the
	// node's consensus is over.
	Restore(io.Reader) error
}

// Versions of what we write, each the first thing in it.
const (
	entryVersion    = 1
	snapshotVersion = 1
)

// fsm is the Machine as raft sees it. All but applied belongs to raft's
// goroutine for it.
type fsm struct {
	machine Machine
	applied atomic.Uint64 // index of the last command that the machine has carried out
	moved   signal
	fail    func(error)
}

// entry encodes commands as the one log entry that carries them.
func entry(commands [][]byte) []byte {
	return encodeBatch([]byte{entryVersion}, commands)
}

// results is what Apply answers to the entry's proposer.
type results [][]byte

func (f *fsm) Apply(l *raft.Log) any {
	d := &decoder{b: l.Data}
	version := d.byte()
	commands, err := d.batch()
	if err != nil || version != entryVersion {
		// To skip it would be a fork. Other nodes may know what it means.
		f.fail(fmt.Errorf("consensus: entry %d can't be read (version %d): %w", l.Index, version, err))
		runtime.Goexit()
	}
	out := make(results, len(commands))
	for i, c := range commands {
		out[i] = f.machine.Apply(l.Index, c)
	}
	f.applied.Store(l.Index)
	f.moved.fire()
	return out
}

func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	return &snapshot{applied: f.applied.Load(), write: f.machine.Snapshot()}, nil
}

func (f *fsm) Restore(r io.ReadCloser) error {
	defer r.Close()
	err := f.restore(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		// The machine may hold half of it.
		err = fmt.Errorf("consensus: restore snapshot: %w", err)
		f.fail(err)
	}
	return err
}

func (f *fsm) restore(r *bufio.Reader) error {
	var head [9]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	if head[0] != snapshotVersion {
		return fmt.Errorf("version %d, we know %d", head[0], snapshotVersion)
	}
	if err := f.machine.Restore(r); err != nil {
		return err
	}
	f.applied.Store(binary.BigEndian.Uint64(head[1:]))
	f.moved.fire()
	return nil
}

// snapshot is: version, index of the last command (8 bytes), what the machine
// writes. The snapshot store adds a checksum.
type snapshot struct {
	applied uint64
	write   func(io.Writer) error
}

func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	w := bufio.NewWriterSize(sink, 64<<10)
	_, err := w.Write(binary.BigEndian.AppendUint64([]byte{snapshotVersion}, s.applied))
	if err == nil {
		err = s.write(w)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		_ = sink.Cancel()
		return fmt.Errorf("consensus: write snapshot: %w", err)
	}
	return sink.Close()
}

func (s *snapshot) Release() {}
