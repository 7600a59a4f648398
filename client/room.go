package client

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

// What a room consists of and what happens in it; client/roomstate documents
// each.
type (
	Member          = roomstate.Member
	MemberDevice    = roomstate.Device
	MemberFix       = roomstate.Fix
	Message         = roomstate.Message
	Attachment      = roomstate.Attachment
	Reaction        = roomstate.Reaction
	Seen            = roomstate.Seen
	PresenceChanged = roomstate.PresenceChanged
	FixChanged      = roomstate.FixChanged
	FixWithdrawn    = roomstate.FixWithdrawn
	MessageArrived  = roomstate.MessageArrived
	Revised         = roomstate.Revised
	ReceiptsChanged = roomstate.ReceiptsChanged
	RegionReplaced  = roomstate.RegionReplaced
	RegionChanged   = roomstate.RegionChanged
	RegionReach     = roomstate.Reach
	GroupChanged    = roomstate.GroupChanged
	Crossing        = roomstate.Crossing
	Crossed         = roomstate.Crossed
	Update          = roomstate.Update
	Updated         = roomstate.Updated
	RoomCounters    = roomstate.Counters
	RoomCounts      = roomstate.Counts
)

// Event is something that happened in a room: one of PresenceChanged,
// FixChanged, FixWithdrawn, MessageArrived, Revised, ReceiptsChanged, TypingChanged,
// RegionReplaced, RegionChanged, GroupChanged, Crossed, Updated, ConnectionChanged,
// Missed, Ended.
type Event any

// TypingChanged says that somebody else began to write, or stopped.
type TypingChanged struct {
	User string
	On   bool
}

// ConnectionChanged says how the session stands now. Until it is live again,
// what the room shows is what was last heard.
type ConnectionChanged struct{ Status Status }

// Missed says that the application was too slow: what waited was thrown away.
// Members, Fixes and Messages have the state.
type Missed struct{}

// Ended is a room's last event. Err is ErrLeft, why the server took the session
// out of the room (code not_member), or why the session closed.
type Ended struct{ Err error }

// holeAfter is how long a hole in the messages may close by itself: messages
// of two regions overtake each other by less.
const holeAfter = 500 * time.Millisecond

// holeSpread is what everybody in a room spreads over who asks for the same at
// once.
const holeSpread = 100 * time.Millisecond

// maxPeople is the longest page of ListPeople.
const maxPeople = 500

// Room is a room the session is in. Its methods are safe for concurrent use.
type Room struct {
	s     *Session
	id    string
	queue *queue

	// Guarded by the session's lock.
	state    *roomstate.State
	synced   *connection // which brought the last snapshot
	joining  bool        // a join is under way because of a gap
	rejoinAt time.Time   // not before
	rejoins  int         // in a row
	messages hole
	changes  hole
	talk     talk
	err      error
}

// hole is in the numbers of messages or of their revisions.
type hole struct {
	at       time.Time // when to fetch what is missing; zero: nothing is
	fetching bool
}

// watch starts or stops its clock.
func (h *hole) watch(now time.Time, open bool) bool {
	switch {
	case !open:
		h.at = time.Time{}
	case h.at.IsZero():
		h.at = now.Add(holeAfter)
	}
	return open
}

// due reports whether to fetch what is missing now; else it says when to look again.
func (h *hole) due(now, wait time.Time) (fetch bool, again time.Time) {
	switch {
	case h.at.IsZero() || h.fetching:
		return false, wait
	case now.Before(h.at):
		return false, earlier(wait, h.at)
	}
	return true, wait
}

func newRoom(s *Session, id string) *Room {
	return &Room{s: s, id: id, queue: newQueue(s.cfg.QueueSize), state: roomstate.New()}
}

// ID returns the room's id.
func (r *Room) ID() string { return r.id }

// Events yields what happens in the room, in order, until the room ends or ctx
// does. The first events are those that make up the state found on joining. Use
// it from one goroutine.
//
// At most Config.QueueSize events wait. When one more comes, all that wait are
// replaced by one Missed: read Members, Fixes and Messages again.
func (r *Room) Events(ctx context.Context) iter.Seq[Event] { return r.queue.all(ctx) }

// Members returns who is in the room: one entry per user with their devices. Of
// a big room it may be only some, see Counts; ListPeople has all.
func (r *Room) Members() []Member {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Members()
}

// Counts returns how many people are in the room.
func (r *Room) Counts() RoomCounts {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Counts()
}

// PeoplePage is one page of the people of a room.
type PeoplePage struct {
	People []Member   // by user id
	More   bool       // there are others: ask after the last one's user id
	Counts RoomCounts // of the whole room; who is in two regions counts once
}

// ListPeople reads who is in the room, page by page: those whose user id is
// above after, at most limit (0 means 100; 500 is the most).
func (r *Room) ListPeople(ctx context.Context, after string, limit int) (PeoplePage, error) {
	f, err := r.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_ListPeople{
		ListPeople: &wire.ListPeople{Room: r.id, After: after, Limit: uint32(min(max(limit, 0), maxPeople))},
	}})
	if err != nil {
		return PeoplePage{}, err
	}
	got := f.GetPeoplePage()
	page := PeoplePage{More: got.GetMore(), Counts: RoomCounts{
		Live: int(got.GetCounts().GetLive()), Suspended: int(got.GetCounts().GetSuspended()),
	}}
	for _, p := range got.GetPeople() {
		page.People = append(page.People, roomstate.MemberOf(p))
	}
	return page, nil
}

// Report is Session.Report for this room: its members are granted the exact
// position for a quarter of an hour, unless the user set a grant for them.
func (r *Room) Report(fix Fix) error { return r.s.Report(fix, r.id) }

// Fixes returns the last fix of every device in the room that has one, and of
// those who posted theirs without being here. Where an area of the room is
// watched the server tells it in the View instead, and they stay as they were.
func (r *Room) Fixes() []MemberFix {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Fixed()
}

// Unreached returns the regions that the session's region can't hear now. What
// the room shows of their people is what was last heard of them.
func (r *Room) Unreached() []RegionReach {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Unreached()
}

// Messages returns the last messages that came while in the room, at most 200;
// History has the others.
func (r *Room) Messages() []Message {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Messages()
}

// Crossings returns the last crossings of the group's fences, and meetings of
// its members, that came while in the room, at most 256; the HTTP API has the
// others.
func (r *Room) Crossings() []Crossing {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Crossings()
}

// Counters returns what was counted so far.
func (r *Room) Counters() RoomCounters {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Counters()
}

// Err says why the room ended; nil while it has not.
func (r *Room) Err() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.err
}

// Send stores a message and returns it with its number. It is retried until it
// is answered or ctx ends; its client id makes that harmless.
func (r *Room) Send(ctx context.Context, body string, options ...SendOption) (Message, error) {
	return r.SendAs(ctx, NewDevice(), body, options...)
}

// SendAs is Send with the client id of the caller's choice, unique per room and
// user: for a program that wants to repeat a message after its own restart.
func (r *Room) SendAs(ctx context.Context, clientID, body string, options ...SendOption) (Message, error) {
	send := &wire.Send{Room: r.id, ClientId: clientID, Body: body}
	for _, o := range options {
		o(send)
	}
	if err := problem(wire.CheckSend(send)); err != nil {
		return Message{}, err
	}
	if err := r.Err(); err != nil {
		return Message{}, err
	}
	f, err := r.send(ctx, send)
	if err != nil {
		return Message{}, err
	}
	m := f.GetSent().GetMessage()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.talk.typing = false
	r.push(r.state.Sent(m))
	if r.watchHole(time.Now()) {
		r.s.notify()
	}
	return roomstate.MessageOf(m), nil
}

// send asks for a message to be stored, when it has its turn. What waited for an outage
// to end must not come all at once: it would be more than a session may send, be
// refused, and in the end cost the connection, again and again.
func (r *Room) send(ctx context.Context, m *wire.Send) (*wire.ServerFrame, error) {
	select {
	case r.s.sends <- struct{}{}:
		defer func() { <-r.s.sends }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.s.done:
		return nil, r.s.over()
	}
	return r.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Send{Send: m}})
}

// call is a request for which the session has to be in the room: after a
// reconnect the server may not have been able to bring the room back yet.
func (r *Room) call(ctx context.Context, body *wire.ClientFrame) (*wire.ServerFrame, error) {
	for attempt := 0; ; attempt++ {
		f, err := r.s.call(ctx, body)
		if err == nil || !IsCode(err, wire.CodeNotJoined) || !r.missed() || sleep(ctx, jitter(attempt, requestRetry)) != nil {
			return f, err
		}
	}
}

// History reads stored messages in ascending order: the newest below before,
// or the oldest above after; the newest of all if both are 0. A limit of 0
// means 200, which is also the most. more: there are others in that direction.
func (r *Room) History(ctx context.Context, before, after uint64, limit int) (messages []Message, more bool, err error) {
	return r.page(ctx, history(r.id, before, after, limit))
}

func (r *Room) page(ctx context.Context, asked *wire.ClientFrame) (messages []Message, more bool, err error) {
	f, err := r.call(ctx, asked)
	if err != nil {
		return nil, false, err
	}
	var gone []uint64
	for _, m := range f.GetPage().GetMessages() {
		messages = append(messages, roomstate.MessageOf(m))
		if m.GetDeleted() {
			gone = append(gone, m.GetNumber())
		}
	}
	r.Hide(gone...) // for the user alone, perhaps: what comes live doesn't say so
	return messages, f.GetPage().GetMore(), nil
}

func history(room string, before, after uint64, limit int) *wire.ClientFrame {
	if limit <= 0 || limit > wire.MaxHistory {
		limit = wire.MaxHistory
	}
	return &wire.ClientFrame{Body: &wire.ClientFrame_History{History: &wire.History{
		Room: room, Before: before, After: after, Limit: uint32(limit),
	}}}
}

// above asks for the messages after a number. Nothing asks for those after 0 like that:
// it would be for the newest, and all below them would be missed. So the first of all,
// whose number is 1, is asked for alone; the others come after it.
func above(room string, after uint64) *wire.ClientFrame {
	if after == 0 {
		return history(room, 2, 0, 1)
	}
	return history(room, 0, after, 0)
}

// Leave takes the session out of the room. Others see it leave.
func (r *Room) Leave(ctx context.Context) error {
	r.s.mu.Lock()
	if r.err == nil {
		r.s.dropLocked(r, ErrLeft)
	}
	r.s.mu.Unlock()
	_, err := r.s.call(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: r.id}}})
	if IsCode(err, wire.CodeNotJoined) {
		return nil // a reconnect in between has left it already
	}
	return err
}

// The following are called under the session's lock.

func (r *Room) push(events []roomstate.Event) {
	for _, e := range events {
		r.queue.push(e)
	}
	r.heardLocked(events)
}

func (r *Room) end(err error) {
	if r.err == nil {
		r.err = err
		r.hushLocked()
		r.queue.end(Ended{err})
	}
}

// rejoined notes a snapshot that came over c. One that recovered answers a
// join: what was missed follows.
func (r *Room) rejoined(c *connection, recovered bool) {
	if r.synced != c {
		for _, report := range r.s.reports {
			if len(report.rooms) == 0 || slices.Contains(report.rooms, r.id) {
				report.again(r.s, time.Now())
			}
		}
	}
	if r.synced != c {
		for _, v := range r.s.views {
			v.again = v.again || v.room == r.id && v.on == c // the server may have ended it with the stay
		}
	}
	r.synced = c
	if recovered {
		r.state.Rejoined()
	}
	if !r.state.Gapped() {
		r.rejoinAt = time.Time{}
	}
}

// missed takes note that the server does not have the session in the room; it
// reports whether that is news to the application too: joining again is under
// way then.
func (r *Room) missed() bool {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.missedLocked()
}

func (r *Room) missedLocked() bool {
	if r.err == nil && r.synced != nil && r.synced == r.s.conn && !r.joining {
		r.synced = nil
		r.later(time.Now(), 0)
		r.s.notify()
	}
	return r.err == nil
}

// later puts off the next attempt to join again.
func (r *Room) later(now time.Time, after time.Duration) {
	if now.Sub(r.rejoinAt) > time.Minute {
		r.rejoins = 0
	}
	r.joining = false
	r.rejoins++
	r.rejoinAt = now.Add(after + jitter(r.rejoins, requestRetry))
}

// watchHole starts or stops the clocks of holes in the messages and revisions; it
// reports whether there is one.
func (r *Room) watchHole(now time.Time) bool {
	_, missing := r.state.Hole()
	_, _, unrevised := r.state.Unrevised()
	missing = r.messages.watch(now, missing)
	return r.changes.watch(now, unrevised) || missing
}

// tendLocked does what a room needs over a live connection, and says when to
// look again: join again after a gap, fetch missing messages.
func (s *Session) tendLocked(c *connection, r *Room, now time.Time) time.Time {
	wait := now.Add(idle)
	if !r.state.Joined() {
		return wait
	}
	// A room that the server has not brought back after the hello, though it
	// said so, is asked for as after a gap.
	due := now.Add(idle)
	switch {
	case r.joining:
	case r.state.Gapped(), r.synced != c && !r.rejoinAt.IsZero():
		due = r.rejoinAt
	case r.synced != c:
		due = c.settled.Add(welcomeTimeout)
	}
	if !due.After(now) {
		s.rejoinLocked(r)
	} else {
		wait = due
	}
	wait = earlier(wait, s.talkLocked(c, r, now))
	fetch, wait := r.messages.due(now, wait)
	if fetch {
		s.fetchLocked(r)
	}
	if fetch, wait = r.changes.due(now, wait); fetch {
		s.fetchChangesLocked(r)
	}
	return wait
}

func (s *Session) rejoinLocked(r *Room) {
	r.joining = true
	frame := &wire.ClientFrame{Body: &wire.ClientFrame_Join{Join: &wire.Join{Room: r.id, Positions: r.state.Positions()}}}
	s.requestLocked(frame, false, func(_ *wire.ServerFrame, err error) {
		refused, ok := errorsAs(err)
		switch {
		case ok && !refused.passing() && refused.Code != wire.CodeInternal:
			s.dropLocked(r, refused)
		case ok:
			r.later(time.Now(), refused.RetryAfter)
		case err != nil: // the connection broke: the next hello asks
			r.joining = false
		default:
			// If what follows has a gap again, don't ask in a tight loop.
			r.later(time.Now(), 0)
		}
		s.notify()
	})
}

func (s *Session) fetchLocked(r *Room) {
	after, hole := r.state.Hole()
	if !hole {
		r.messages.at = time.Time{}
		return
	}
	s.fillLocked(r, &r.messages, above(r.id, after), func(p *wire.Page) (more bool) {
		r.push(r.state.Page(after, p))
		at, hole := r.state.Hole()
		return hole && at > after
	})
}

func (s *Session) fetchChangesLocked(r *Room) {
	after, known, hole := r.state.Unrevised()
	if !hole {
		r.changes.at = time.Time{}
		return
	}
	s.fillLocked(r, &r.changes, changes(r.id, after, 0), func(p *wire.Page) (more bool) {
		r.push(r.state.Changes(known, p))
		at, _, hole := r.state.Unrevised()
		return hole && at > after
	})
}

// fillLocked asks for a page of what is missing.
func (s *Session) fillLocked(r *Room, h *hole, asked *wire.ClientFrame, fill func(*wire.Page) (more bool)) {
	h.fetching = true
	s.requestLocked(asked, false, func(f *wire.ServerFrame, err error) {
		h.fetching = false
		now := time.Now()
		if err != nil {
			h.at = now.Add(time.Second)
			if refused, ok := errorsAs(err); ok {
				h.at = h.at.Add(refused.RetryAfter)
			}
		} else {
			more := fill(f.GetPage())
			h.at = time.Time{}
			r.watchHole(now)
			if more {
				h.at = now // go on at once
			}
		}
		s.notify()
	})
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
