// Package roomstate is what a client knows of one room: a pure state machine
// without clock, lock or I/O. Server frames go in, the changes that the
// application should see come out. The TypeScript SDK holds the same machine;
// change both together.
//
// # The rules
//
//   - A client follows every origin region of the room for itself. Its position
//     is one (slot epoch, seq) per region. An event at seq+1 applies if it is of
//     the same slot epoch, or says that its own goes on where that one ended
//     (prior_epoch); one at or below the position (or of a lower slot epoch) is
//     a duplicate and dropped; anything else is a gap: something was missed, so
//     the room has to be joined again with Positions.
//   - A snapshot replaces everything known of the regions it lists, and sets
//     their positions. Other regions stay as they are. A device that it lists
//     keeps the fix known of it unless the snapshot has a newer one. While a
//     session moves, two connections feed one state: a part below the position
//     is what the slower of the two had to say, and is dropped; unless it says
//     that the position could not be continued from.
//   - A part that is truncated lists only some people. Of a region like that the
//     members are those it lists and those heard of since; Counts has them all.
//   - A user is live while any device is, else suspended while any device is,
//     else gone.
//   - Sessions are told apart by (user, device). The highest session epoch is
//     the truth, a tie goes to the region whose name sorts last; what a lower
//     epoch says later ("left") is ignored. So two regions that both speak of
//     one device, while it moves between them, end in one state whatever the
//     order of arrival. A device that has left is remembered, lest an older
//     word of it bring it back.
//   - Fixes have no position in the stream and may arrive twice, late or before
//     the presence event: one applies only if its (session epoch, n) is newer
//     than that of the device's last fix. One without a point says that the
//     position was withdrawn. Those of PostDevice are of no session: they are
//     shown whether or not their user is there.
//   - A Reach, and every snapshot, names the regions that the server's region
//     can't hear: all of them, each time, so what is not named can be heard.
//     What is known of their people stays as it was. When a region is lost its
//     people are dropped as REGION_LOST, and its position is forgotten with
//     them: it comes back with a whole part, or not at all.
//   - A crossing or an update is told again when the server can't know whether it
//     was: its id says whether it is news.
//   - Messages have a dense number. They are given out in its order without
//     holes: one that comes early waits until Page or another message fills the
//     hole below it. Of one that did not fit no older state is taken than it had.
//   - Revisions of messages have a dense number of their own, the change. Of two
//     states of a message that of the higher change is the truth, so a lower one
//     that comes later is dropped. Where changes are missing, Changes has how the
//     messages that they were about are now. A revision may come before its
//     message, and then is the message.
//   - What the user deleted for themself alone is no revision, and later ones have
//     the message as it is for the others. So what was hidden stays so.
//   - How far members have got only grows: of what is told and what is known the
//     maximum counts.
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
	// maxCrossings bounds Crossings, and so for how long one is known again.
	maxCrossings = 256
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

func (p position) below(q position) bool {
	return p.epoch < q.epoch || p.epoch == q.epoch && p.seq < q.seq
}

// tally counts the devices of one user that are in the room.
type tally struct{ live, suspended int }

func (t tally) state() wire.State {
	switch {
	case t.live > 0:
		return wire.State_LIVE
	case t.suspended > 0:
		return wire.State_SUSPENDED
	}
	return wire.State_LEFT
}

// origin is what is known of one region's part of the room.
type origin struct {
	known     bool // there was a part; else only events that came too early
	at        position
	gapped    bool // it missed something
	counts    Counts
	truncated bool
}

// State is the state of one room. Its methods are not safe for concurrent use.
type State struct {
	entries map[key]*entry
	gone    int // entries in state LEFT
	people  map[string]tally
	origins map[string]*origin
	reach   map[string]Reach // regions that can't be heard

	joined   bool // there was a snapshot
	given    uint64
	heard    uint64 // the highest number known to exist
	waiting  map[uint64]Message
	dropped  map[uint64]uint64 // the changes of those that waited, were revised and did not fit
	recent   []Message
	revised  revisions
	hidden   map[uint64]bool // for the user alone
	seen     map[string]Seen
	crossed  []Crossing
	updated  Heard
	counters Counters
	out      []Event
}

// New returns the state of a room of which nothing is known.
func New() *State {
	return &State{
		entries: map[key]*entry{},
		people:  map[string]tally{},
		origins: map[string]*origin{},
		waiting: map[uint64]Message{},
		dropped: map[uint64]uint64{},
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
	first := !s.joined
	if first {
		// A fresh room starts with what is said from now on; the past is
		// asked for through history.
		s.joined = true
		s.given = f.GetLastNumber()
		s.revised.close(f.GetLastChange())
	}
	s.heard = max(s.heard, f.GetLastNumber())
	s.revised.heard = max(s.revised.heard, f.GetLastChange())
	for _, p := range f.GetParts() {
		s.part(p, f.GetRecovered(), first)
	}
	s.unreached(f.GetUnreached())
	s.release()
	return s.take()
}

func (s *State) part(p *wire.Part, recovered, first bool) {
	region := p.GetAt().GetRegion()
	at := position{p.GetAt().GetEpoch(), p.GetAt().GetSeq()}
	o := s.origins[region]
	late := !first && (o == nil || !o.known)
	switch {
	case o == nil:
		o = &origin{}
		s.origins[region] = o
	case recovered && o.known && at.below(o.at):
		s.counters.StaleParts++
		return
	}
	*o = origin{known: true, at: at, counts: countsOf(p.GetCounts()), truncated: p.GetTruncated()}

	listed, last := map[key]bool{}, ""
	for _, person := range p.GetPeople() {
		last = max(last, person.GetUser())
		for _, d := range person.GetDevices() {
			listed[key{person.GetUser(), d.GetDevice()}] = true
			s.presence(person, d, region)
		}
	}
	for k, e := range s.sorted() {
		if e.device.Region != region || !present(e.device.State) || listed[k] {
			continue
		}
		if o.truncated && k.user > last { // beyond the page: nobody knows
			s.become(k, e, Device{})
			delete(s.entries, k)
			continue
		}
		d := e.device
		d.State, d.Reason = wire.State_LEFT, wire.Reason_REASON_UNSPECIFIED
		s.become(k, e, d)
		s.say(k, e)
	}
	for _, f := range p.GetFixes() {
		s.fix(f)
	}
	s.out = append(s.out, RegionReplaced{Region: region, Recovered: recovered, Late: late, Truncated: o.truncated})
}

// Verdict says what became of an event frame.
type Verdict int

// What becomes of an event frame.
const (
	Applied Verdict = iota
	Duplicate
	Gap // join again with Positions
)

// Judge says what would become of an event frame.
func (s *State) Judge(f *wire.Event) Verdict {
	at := position{f.GetAt().GetEpoch(), f.GetAt().GetSeq()}
	o := s.origins[f.GetAt().GetRegion()]
	switch {
	case o == nil || !o.known:
		return Gap
	case at == o.at || at.below(o.at):
		return Duplicate
	case at.seq != o.at.seq+1:
		return Gap
	case at.epoch == o.at.epoch, f.GetPriorEpoch() != 0 && f.GetPriorEpoch() == o.at.epoch:
		return Applied
	}
	return Gap
}

// Event applies an event frame.
func (s *State) Event(f *wire.Event) ([]Event, Verdict) {
	region := f.GetAt().GetRegion()
	o := s.origins[region]
	switch s.Judge(f) {
	case Duplicate:
		s.counters.DuplicateEvents++
		return nil, Duplicate
	case Gap:
		if o == nil {
			o = &origin{}
			s.origins[region] = o
		}
		if !o.gapped {
			o.gapped = true
			s.counters.Gaps++
		}
		return nil, Gap
	}
	o.at, o.gapped = position{f.GetAt().GetEpoch(), f.GetAt().GetSeq()}, false
	s.counters.Events++
	switch body := f.GetBody().(type) {
	case *wire.Event_Presence:
		for _, person := range body.Presence.GetPeople() {
			for _, d := range person.GetDevices() {
				s.presence(person, d, region)
			}
		}
		if c := body.Presence.GetCounts(); c != nil {
			o.counts = countsOf(c)
		}
	case *wire.Event_Message:
		s.message(body.Message)
	case *wire.Event_Revised:
		s.message(body.Revised.GetMessage())
	case *wire.Event_Receipts:
		s.receipts(SeenOf(body.Receipts.GetSeen()))
	case *wire.Event_Changed:
		s.out = append(s.out, GroupChanged{body.Changed.GetVersion()})
	case *wire.Event_Crossing:
		s.crossing(crossingOf(body.Crossing))
	case *wire.Event_Update:
		u := UpdateOf(body.Update)
		switch news, missed := s.updated.News(u); {
		case news:
			s.out = append(s.out, Updated{u, missed})
		default:
			s.counters.DuplicateUpdates++
		}
	}
	s.release()
	return s.take(), Applied
}

// crossing takes one that may have been told before.
func (s *State) crossing(c Crossing) {
	if slices.ContainsFunc(s.crossed, func(o Crossing) bool { return o.ID == c.ID }) {
		s.counters.DuplicateCrossings++
		return
	}
	if len(s.crossed) == maxCrossings {
		s.crossed = slices.Delete(s.crossed, 0, 1)
	}
	s.crossed = append(s.crossed, c)
	s.out = append(s.out, Crossed{c})
}

// Crossings returns the last crossings that were told, in the order in which
// they came.
func (s *State) Crossings() []Crossing { return slices.Clone(s.crossed) }

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
	e.name = cmp.Or(p.GetName(), e.name)
	s.become(k, e, deviceOf(d, region))
	switch {
	case e.device.State == wire.State_LEFT && !present(old.State): // nobody had seen it
	case e.device == old: // a snapshot said again what was known
	default:
		s.say(k, e)
	}
}

func (s *State) say(k key, e *entry) {
	s.out = append(s.out, PresenceChanged{User: k.user, Name: e.name, Device: e.device, State: s.people[k.user].state()})
}

// become replaces what is known of a device, and keeps the counts. A departed
// device is kept as a mark against what older epochs say.
func (s *State) become(k key, e *entry, d Device) {
	t := s.people[k.user]
	for _, c := range []struct {
		state wire.State
		by    int
	}{{e.device.State, -1}, {d.State, 1}} {
		switch c.state {
		case wire.State_LIVE:
			t.live += c.by
		case wire.State_SUSPENDED:
			t.suspended += c.by
		case wire.State_LEFT:
			s.gone += c.by
		}
	}
	e.device = d
	if t == (tally{}) {
		delete(s.people, k.user)
	} else {
		s.people[k.user] = t
	}
	if d.State == wire.State_LEFT {
		e.fix = nil
		s.forget()
	}
}

// forget bounds the marks: the oldest goes.
func (s *State) forget() {
	if s.gone <= maxGone {
		return
	}
	var oldest key
	epoch := uint64(math.MaxUint64)
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
	if f.GetFix().GetPoint() == nil {
		known := e.fix != nil
		e.fix, e.fixEpoch, e.fixN = nil, epoch, n
		if known {
			s.out = append(s.out, FixWithdrawn{k.user, k.device})
		}
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
	w, here := s.waiting[n]
	switch {
	case n <= s.given:
		s.revise(m)
		return
	case m.GetChange() < s.dropped[n]: // that revision counts as known, and nobody tells it again
		s.counters.DuplicateMessages++
		return
	case m.GetChange() != 0:
		s.revised.take(n, m.GetChange())
	}
	if here && m.GetChange() <= w.Change {
		s.counters.DuplicateMessages++
		return
	}
	s.heard = max(s.heard, n)
	s.waiting[n] = s.shown(m)
	if n == s.given+1 {
		s.release() // at once: a page may be longer than what may wait
	}
	if len(s.waiting) > maxWaiting {
		highest := slices.Max(slices.Collect(maps.Keys(s.waiting)))
		if change := s.waiting[highest].Change; change != 0 {
			s.dropped[highest] = change
		}
		delete(s.waiting, highest)
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
		delete(s.dropped, m.Number)
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
func (s *State) Gapped() bool {
	for _, o := range s.origins {
		if o.gapped {
			return true
		}
	}
	return false
}

// Rejoined says that the server answered a join with the positions as they
// are: what was missed follows now, so the next gap is a new one.
func (s *State) Rejoined() {
	for _, o := range s.origins {
		o.gapped = false
	}
}

// Joined reports whether there was a snapshot.
func (s *State) Joined() bool { return s.joined }

// Positions returns how far each region has been followed, sorted by region.
func (s *State) Positions() []*wire.Position {
	out := make([]*wire.Position, 0, len(s.origins))
	for _, region := range slices.Sorted(maps.Keys(s.origins)) {
		if o := s.origins[region]; o.known {
			out = append(out, &wire.Position{Region: region, Epoch: o.at.epoch, Seq: o.at.seq})
		}
	}
	return out
}

// Counts returns how many people are in the room. Where parts are truncated it
// is the sum of what the regions say, so somebody who is in two counts twice.
func (s *State) Counts() Counts {
	var c Counts
	for _, o := range s.origins {
		if o.truncated {
			c.Truncated = true
		}
		c.Live += o.counts.Live
		c.Suspended += o.counts.Suspended
	}
	if c.Truncated {
		return c
	}
	c = Counts{}
	for _, t := range s.people {
		if t.state() == wire.State_LIVE {
			c.Live++
		} else {
			c.Suspended++
		}
	}
	return c
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
		m.State = s.people[k.user].state()
		m.Name = cmp.Or(e.name, m.Name)
		d := e.device
		d.UnknownSince = s.reach[d.Region].UnknownSince
		m.Devices = append(m.Devices, d)
	}
	return out
}

// Fixed returns the last fix of every device in the room that has one, and of
// those who posted, sorted by user and device.
func (s *State) Fixed() []Fix {
	var out []Fix
	for k, e := range s.sorted() {
		if e.fix != nil && (present(e.device.State) || k.device == PostDevice) {
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
			// One may have been forgotten meanwhile.
			if e := s.entries[k]; e != nil && !yield(k, e) {
				return
			}
		}
	}
}

func present(s wire.State) bool { return s == wire.State_LIVE || s == wire.State_SUSPENDED }
