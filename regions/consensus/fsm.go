package consensus

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mustermesh/muster/regions"
)

// Machine is what is replicated. Its methods are called one at a time, but for
// the function that Snapshot returns, which runs beside later Applies. It must
// depend on nothing but its commands: no clock, no chance, no map order.
type Machine interface {
	// Apply carries a command out and returns its result. Commands that were
	// committed together have the same index, which never goes back, and the
	// same stamp.
	Apply(index uint64, stamp regions.Stamp, command []byte) (result []byte)
	// Snapshot returns at once a function that writes the state as it is now.
	Snapshot() func(io.Writer) error
	// Restore replaces the state by what a Snapshot wrote. After an error the
	// node's consensus is over.
	Restore(io.Reader) error
}

// Versions of what we write, each the first thing in it.
const (
	entryVersion    = 2 // 1 had no term
	snapshotVersion = 1
)

var (
	errTooNew = errors.New("upgrade this node")
	// errStamp: the entry was stamped in another term than it got into the log.
	errStamp = errors.New("stamped in another term")
)

// fsm is the Machine as raft sees it. All but applied belongs to raft's
// goroutine for it.
type fsm struct {
	machine Machine
	version uint64        // of commands that the machine understands
	applied atomic.Uint64 // index of the last command that the machine has carried out
	moved   signal
	fail    func(error)
	longest atomic.Int64 // ns that one entry, or the beginning of a snapshot, took
}

// busy notes how long raft's goroutine was kept.
func (f *fsm) busy(since time.Time) {
	if d := time.Since(since).Nanoseconds(); d > f.longest.Load() {
		f.longest.Store(d)
	}
}

// entry encodes commands as the one log entry that carries them, stamped with
// this moment. The term is looked up first: if it is that of the entry, then the
// moment is one at which every earlier leader's entries that count were stamped
// already. A node that lost and regained the lead in between, stopped at the
// wrong instruction, could else bring a time from before another one's term.
func (n *Node) entry(commands [][]byte) []byte {
	b := binary.AppendUvarint([]byte{entryVersion}, n.cfg.Version)
	b = binary.AppendUvarint(b, n.raft.CurrentTerm())
	b = binary.AppendUvarint(b, uint64(max(n.cfg.Clock().UnixMilli(), 0)))
	b = binary.AppendUvarint(b, uint64(time.Since(n.origin).Milliseconds()))
	return encodeBatch(b, commands)
}

// results is what Apply answers to the entry's proposer.
type results [][]byte

func (f *fsm) Apply(l *raft.Log) any {
	defer f.busy(time.Now())
	d := &decoder{b: l.Data}
	format, version, term := d.byte(), d.uint(), l.Term
	if format >= 2 {
		term = d.uint()
	}
	stamp := regions.Stamp{Term: l.Term, ClockMs: d.uint(), UptimeMs: d.uint()}
	commands, err := d.batch()
	if err != nil || format < 1 || format > entryVersion || version > f.version {
		// To skip it would be a fork. Other nodes may know what it means.
		f.fail(fmt.Errorf("consensus: entry %d can't be read (format %d, we know %d; commands of version %d, we know %d): %w",
			l.Index, format, entryVersion, version, f.version, cmp.Or(err, errTooNew)))
		runtime.Goexit()
	}
	if term != l.Term { // every node sees that, and does nothing
		f.applied.Store(l.Index)
		f.moved.fire()
		return errStamp
	}
	out := make(results, len(commands))
	for i, c := range commands {
		out[i] = f.machine.Apply(l.Index, stamp, c)
	}
	f.applied.Store(l.Index)
	f.moved.fire()
	return out
}

func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	defer f.busy(time.Now())
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
