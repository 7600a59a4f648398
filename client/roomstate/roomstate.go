// Package roomstate is what a client knows of one room: a pure state machine
// without clock, lock or I/O. Server frames go in, the changes that the
// application should see come out. The TypeScript SDK holds the same machine;
// change both together.
//
// # The rules
//
//   - A client follows every origin region of the room for itself. Its position
//     is one (slot epoch, seq) per region. An event at seq+1 of the same slot
//     epoch applies; one at or below the position (or of a lower slot epoch) is
//     a duplicate and dropped; anything else is a gap: something was missed, so
//     the room has to be joined again with Positions.
//   - A snapshot replaces everything known of the regions it lists, and sets
//     their positions. Other regions stay as they are.
//   - Sessions are told apart by (user, device). The highest session epoch is
//     the truth, a tie goes to the region whose name sorts last; what a lower
//     epoch says later ("left") is ignored. So two regions that both speak of
//     one device, while it moves between them, end in one state whatever the
//     order of arrival. A device that has left is remembered, lest an older
//     word of it bring it back.
//   - Fixes have no position in the stream and may arrive twice, late or before
//     the presence event: one applies only if its (session epoch, n) is newer
//     than that of the device's last fix.
//   - Messages have a dense number. They are given out in its order without
//     holes: one that comes early waits until Page or another message fills the
//     hole below it.
package roomstate

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/mustermesh/muster/api/wire"
)

const (
	// maxGone bounds the devices that are remembered after they left.
	maxGone = 1024
	// maxWaiting bounds the messages that wait above a hole. Beyond it the
	// highest are dropped: they are part of the hole then and fetched with it.
	maxWaiting = 512
	// maxRecent bounds Messages.
	maxRecent = 200
)

type key struct{ user, device string }

// entry is what is known of one (user, device).
type entry struct {
	name   string
	device Device // State 0: only a fix is known so far

	fix      *Fix // nil when none is known or the device has left
	fixEpoch uint64
	fixN     uint64
}

type position struct{ epoch, seq uint64 }

// State is the state of one room. Its methods are not safe for concurrent use.
type State struct {
	entries   map[key]*entry
	gone      int // entries in state LEFT
	positions map[string]position
	gapped    map[string]bool // regions that missed something

	joined   bool // there was a snapshot
	given    uint64
	heard    uint64 // the highest number known to exist
	waiting  map[uint64]Message
	recent   []Message
	counters Counters
	out      []Event
}

// New returns the state of a room of which nothing is known.
func New() *State {
	return &State{
		entries:   map[key]*entry{},
		positions: map[string]position{},
		gapped:    map[string]bool{},
		waiting:   map[uint64]Message{},
	}
}

// take returns the events collected by the current call.
func (s *State) take() []Event {
	out := s.out
	s.out = nil
	return out
}

// Snapshot applies a snapshot frame.
func (s *State) Snapshot(f *wire.Snapshot) []Event {
	s.counters.Snapshots++
	if !s.joined {
		// A fresh room starts with what is said from now on; the past is
		// asked for through history.
		s.joined = true
		s.given = f.GetLastNumber()
	}
	s.heard = max(s.heard, f.GetLastNumber())
	for _, p := range f.GetParts() {
		s.part(p, f.GetRecovered())
	}
	s.release()
	return s.take()
}

func (s *State) part(p *wire.Part, recovered bool) {
	region := p.GetAt().GetRegion()
	s.positions[region] = position{p.GetAt().GetEpoch(), p.GetAt().GetSeq()}
	delete(s.gapped, region)

	listed := map[key]bool{}
	for _, person := range p.GetPeople() {
		for _, d := range person.GetDevices() {
			listed[key{person.GetUser(), d.GetDevice()}] = true
			s.presence(person, d, region)
		}
	}
	for k, e := range s.sorted() {
		if e.device.Region == region && present(e.device.State) && !listed[k] {
			e.device.State, e.device.Reason = wire.State_LEFT, wire.Reason_REASON_UNSPECIFIED
			s.left(k, e)
			s.out = append(s.out, PresenceChanged{k.user, e.name, e.device})
		}
	}
	for _, f := range p.GetFixes() {
		s.fix(f)
	}
	s.out = append(s.out, RegionReplaced{region, recovered})
}

// Verdict says what became of an event frame.
type Verdict int

// What becomes of an event frame.
const (
	Applied Verdict = iota
	Duplicate
	Gap // join again with Positions
)

// Event applies an event frame.
func (s *State) Event(f *wire.Event) ([]Event, Verdict) {
	region := f.GetAt().GetRegion()
	at := position{f.GetAt().GetEpoch(), f.GetAt().GetSeq()}
	known, ok := s.positions[region]
	switch {
	case ok && (at.epoch < known.epoch || at.epoch == known.epoch && at.seq <= known.seq):
		s.counters.DuplicateEvents++
		return nil, Duplicate
	case !ok || at.epoch != known.epoch || at.seq != known.seq+1:
		if !s.gapped[region] {
			s.gapped[region] = true
			s.counters.Gaps++
		}
		return nil, Gap
	}
	s.positions[region] = at
	delete(s.gapped, region)
	s.counters.Events++
	switch body := f.GetBody().(type) {
	case *wire.Event_Presence:
		for _, person := range body.Presence.GetPeople() {
			for _, d := range person.GetDevices() {
				s.presence(person, d, region)
			}
		}
	case *wire.Event_Message:
		s.message(body.Message)
	case *wire.Event_Changed:
		s.out = append(s.out, GroupChanged{body.Changed.GetVersion()})
	}
	s.release()
	return s.take(), Applied
}

// presence applies what a region says about one device.
func (s *State) presence(p *wire.Person, d *wire.Device, origin string) {
	region := cmp.Or(d.GetRegion(), origin)
	k := key{p.GetUser(), d.GetDevice()}
	e := s.entries[k]
	if e == nil {
		e = &entry{}
		s.entries[k] = e
	}
	old := e.device
	if old.State != 0 && (d.GetEpoch() < old.Epoch || d.GetEpoch() == old.Epoch && region < old.Region) {
		s.counters.StalePresence++
		return
	}
	if old.State == wire.State_LEFT {
		s.gone--
	}
	e.device = deviceOf(d, region)
	e.name = cmp.Or(p.GetName(), e.name)
	if e.device.State == wire.State_LEFT {
		s.left(k, e)
		if !present(old.State) {
			return // nobody had seen it
		}
	} else if old == e.device {
		return // a snapshot said again what was known
	}
	s.out = append(s.out, PresenceChanged{k.user, e.name, e.device})
}

// left keeps a departed device as a mark against what older epochs say.
func (s *State) left(k key, e *entry) {
	e.fix = nil
	s.gone++
	if s.gone <= maxGone {
		return
	}
	oldest, epoch := k, uint64(math.MaxUint64)
	for k, e := range s.entries {
		if e.device.State == wire.State_LEFT && e.device.Epoch < epoch {
			oldest, epoch = k, e.device.Epoch
		}
	}
	delete(s.entries, oldest)
	s.gone--
}

// Fixes applies a fixes frame.
func (s *State) Fixes(fixes []*wire.MemberFix) []Event {
	for _, f := range fixes {
		s.fix(f)
	}
	return s.take()
}

func (s *State) fix(f *wire.MemberFix) {
	k := key{f.GetUser(), f.GetDevice()}
	e := s.entries[k]
	if e == nil {
		e = &entry{}
		s.entries[k] = e
	}
	epoch, n := f.GetEpoch(), f.GetFix().GetN()
	newer := cmp.Or(cmp.Compare(epoch, e.fixEpoch), cmp.Compare(n, e.fixN))
	departed := e.device.State == wire.State_LEFT && epoch <= e.device.Epoch
	if departed || newer < 0 || newer == 0 && e.fix != nil {
		s.counters.StaleFixes++
		return
	}
	fix := fixOf(f)
	e.fix, e.fixEpoch, e.fixN = &fix, epoch, n
	s.counters.Fixes++
	s.out = append(s.out, FixChanged{fix})
}

// Sent applies the answer to the client's own message: it may be faster than
// the event.
func (s *State) Sent(m *wire.Message) []Event {
	s.message(m)
	s.release()
	return s.take()
}

// Page applies the answer to a history request for what is above after. It is
// the authority on that range: a number that it leaves out does not exist.
func (s *State) Page(after uint64, p *wire.Page) []Event {
	ms := p.GetMessages()
	if len(ms) > 0 && after <= s.given {
		skip := ms[0].GetNumber() - 1
		for n := range s.waiting {
			skip = min(skip, n-1)
		}
		s.given = max(s.given, skip)
	}
	for _, m := range ms {
		s.message(m)
	}
	s.release()
	return s.take()
}

func (s *State) message(m *wire.Message) {
	n := m.GetNumber()
	_, here := s.waiting[n]
	if n <= s.given || here {
		s.counters.DuplicateMessages++
		return
	}
	s.heard = max(s.heard, n)
	s.waiting[n] = messageOf(m)
	if n == s.given+1 {
		s.release() // at once: a page may be longer than what may wait
	}
	if len(s.waiting) > maxWaiting {
		delete(s.waiting, slices.Max(slices.Collect(maps.Keys(s.waiting))))
	}
}

// release gives out the messages that have become next.
func (s *State) release() {
	for s.joined {
		m, ok := s.waiting[s.given+1]
		if !ok {
			return
		}
		delete(s.waiting, m.Number)
		s.given = m.Number
		if len(s.recent) == maxRecent {
			s.recent = slices.Delete(s.recent, 0, 1)
		}
		s.recent = append(s.recent, m)
		s.out = append(s.out, MessageArrived{m})
	}
}

// Hole reports whether messages are missing, and after which number.
func (s *State) Hole() (after uint64, ok bool) { return s.given, s.joined && s.heard > s.given }

// Gapped reports whether events were missed: join again with Positions.
func (s *State) Gapped() bool { return len(s.gapped) > 0 }

// Rejoined says that the server answered a join with the positions as they
// are: what was missed follows now, so the next gap is a new one.
func (s *State) Rejoined() { clear(s.gapped) }

// Joined reports whether there was a snapshot.
func (s *State) Joined() bool { return s.joined }

// Positions returns how far each region has been followed, sorted by region.
func (s *State) Positions() []*wire.Position {
	out := make([]*wire.Position, 0, len(s.positions))
	for _, region := range slices.Sorted(maps.Keys(s.positions)) {
		p := s.positions[region]
		out = append(out, &wire.Position{Region: region, Epoch: p.epoch, Seq: p.seq})
	}
	return out
}

// Members returns who is in the room, sorted by user and device.
func (s *State) Members() []Member {
	var out []Member
	for k, e := range s.sorted() {
		if !present(e.device.State) {
			continue
		}
		if len(out) == 0 || out[len(out)-1].User != k.user {
			out = append(out, Member{User: k.user})
		}
		m := &out[len(out)-1]
		m.Name = cmp.Or(e.name, m.Name)
		m.Devices = append(m.Devices, e.device)
	}
	return out
}

// Fixed returns the last fix of every device in the room that has one, sorted
// by user and device.
func (s *State) Fixed() []Fix {
	var out []Fix
	for _, e := range s.sorted() {
		if e.fix != nil && present(e.device.State) {
			out = append(out, *e.fix)
		}
	}
	return out
}

// Messages returns the last messages that were given out, oldest first.
func (s *State) Messages() []Message { return slices.Clone(s.recent) }

// Counters returns what was counted so far.
func (s *State) Counters() Counters { return s.counters }

func (s *State) sorted() func(yield func(key, *entry) bool) {
	keys := slices.SortedFunc(maps.Keys(s.entries), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.device, b.device))
	})
	return func(yield func(key, *entry) bool) {
		for _, k := range keys {
			if !yield(k, s.entries[k]) {
				return
			}
		}
	}
}

func present(s wire.State) bool { return s == wire.State_LIVE || s == wire.State_SUSPENDED }
