package client

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

const (
	// receiptEvery is how often at most a room's receipts are told, and
	// receiptShare how much longer per person in it: so all of a room's devices
	// together tell some hundred a second, however many they are.
	receiptEvery = 200 * time.Millisecond
	receiptShare = 10 * time.Millisecond
	// typingEvery is how often a device says that its user still types, and
	// typingFor how long that is believed.
	typingEvery = 4 * time.Second
	typingFor   = 6 * time.Second
	maxTypers   = 64 // that are remembered
)

// SendOption says more about a message.
type SendOption func(*wire.Send)

// ReplyTo says which message of the room this one answers.
func ReplyTo(number uint64) SendOption { return func(m *wire.Send) { m.ReplyTo = number } }

// Mention names members of the room, by user id, who are told of the message.
func Mention(users ...string) SendOption {
	return func(m *wire.Send) { m.Mentions = append(m.Mentions, users...) }
}

// Attach sends finished uploads of the user's along, by their ids. The text may be
// empty then.
func Attach(ids ...string) SendOption {
	return func(m *wire.Send) { m.Attachments = append(m.Attachments, ids...) }
}

// talk is what a session says of itself in a room's conversation, and hears of who
// types. The session's lock guards it.
type talk struct {
	want, told roomstate.Seen // of this device; User is empty
	on         *connection    // over which it was told; another one is told again
	due        time.Time      // when it may be told next; planned: when it will be
	planned    bool
	telling    bool
	mute       bool // the server does not want to know: not over this connection, until it gives a message

	typing bool // as said last
	saidAt time.Time
	typers map[string]time.Time // until when others are believed to type
}

// Delivered says that this device has all messages up to a number. The session says
// so by itself of those that came while in the room, unless Config.Quiet is set.
func (r *Room) Delivered(number uint64) { r.advance(number, 0) }

// Read says that the user has seen all messages up to a number. It is told soon, and
// again after a reconnect; a lower number than before changes nothing.
func (r *Room) Read(number uint64) { r.advance(number, number) }

func (r *Room) advance(delivered, read uint64) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	w := &r.talk.want
	w.Delivered, w.Read = max(w.Delivered, delivered), max(w.Read, read)
	r.s.notify()
}

// Receipts returns how far people have got, as far as it was told while in the room
// or put in with Learn.
func (r *Room) Receipts() []Seen {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Seen()
}

// Learn puts in receipts from elsewhere, such as API.Receipts for those of before the
// stay. Of what is known and what is put in the maximum counts.
func (r *Room) Learn(seen ...Seen) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.push(r.state.Receipts(seen))
}

// Hide has nothing of messages shown any more, whatever comes of them: the user has
// deleted them for themself alone. Of what API.Hide does, and of what History shows as
// deleted, the room knows by itself.
func (r *Room) Hide(numbers ...uint64) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.push(r.state.Hide(numbers...))
}

// Reached returns how many others have a message, and how many have seen it, as far
// as Receipts go. In a conversation of two: none and none is sent, one and none
// delivered, one and one read.
func (r *Room) Reached(number uint64) (delivered, read int) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return r.state.Reached(number, r.s.status.User)
}

// Typing says that the user is writing, or not any more. Call it with every key: it
// is said when it is news, and every four seconds.
func (r *Room) Typing(on bool) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	now, c := time.Now(), r.s.conn
	if c == nil || r.err != nil || !on && !r.talk.typing || on && r.talk.typing && now.Sub(r.talk.saidAt) < typingEvery {
		return
	}
	r.talk.typing, r.talk.saidAt = on, now
	c.queue = append(c.queue, &wire.ClientFrame{Body: &wire.ClientFrame_Typing{Typing: &wire.Typing{Room: r.id, On: on}}})
	r.s.notify()
}

// Typers returns the ids of those who type now.
func (r *Room) Typers() []string {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	return slices.Sorted(maps.Keys(r.talk.typers))
}

// The following are called under the session's lock.

// typedLocked takes what the server says of who types.
func (r *Room) typedLocked(m *wire.Typing, now time.Time) {
	t := &r.talk
	_, known := t.typers[m.GetUser()]
	switch {
	case m.GetUser() == r.s.status.User:
		return
	case !m.GetOn():
		r.untypedLocked(m.GetUser())
		return
	case !known && len(t.typers) >= maxTypers:
		return
	}
	if t.typers == nil {
		t.typers = map[string]time.Time{}
	}
	t.typers[m.GetUser()] = now.Add(typingFor)
	if !known {
		r.queue.push(TypingChanged{m.GetUser(), true})
	}
	r.s.notify()
}

// hushLocked forgets who types, where nobody would say that they stopped.
func (r *Room) hushLocked() {
	for _, user := range slices.Sorted(maps.Keys(r.talk.typers)) {
		r.untypedLocked(user)
	}
}

func (r *Room) untypedLocked(user string) {
	if _, known := r.talk.typers[user]; known {
		delete(r.talk.typers, user)
		r.queue.push(TypingChanged{user, false})
	}
}

// heardLocked looks at what a frame brought.
func (r *Room) heardLocked(events []roomstate.Event) {
	for _, e := range events {
		if m, ok := e.(roomstate.MessageArrived); ok {
			r.untypedLocked(m.Message.Sender)
			r.talk.mute = false // who is given messages may say so
		}
	}
	if !r.s.cfg.Quiet && r.state.Joined() {
		r.talk.want.Delivered = max(r.talk.want.Delivered, r.state.Given())
	}
}

// talkLocked tells how far this device has got, forgets who has stopped typing
// without a word, and says when to look again.
func (s *Session) talkLocked(c *connection, r *Room, now time.Time) time.Time {
	t := &r.talk
	wait := now.Add(idle)
	for _, user := range slices.Sorted(maps.Keys(t.typers)) {
		if until := t.typers[user]; !now.Before(until) {
			r.untypedLocked(user)
		} else {
			wait = earlier(wait, until)
		}
	}
	if t.on != c {
		t.on, t.told, t.mute = c, roomstate.Seen{}, false
	}
	if t.want == t.told || t.telling || t.mute || r.synced != c {
		return wait
	}
	every := max(receiptEvery, time.Duration(r.state.Counts().Live)*receiptShare)
	if !t.planned { // what everybody has got at once is not told by everybody at once
		t.due, t.planned = latest(t.due, now.Add(anyOf(every))), true
	}
	if now.Before(t.due) {
		return earlier(wait, t.due)
	}
	t.due, t.planned, t.telling = now.Add(every), false, true
	want := t.want
	frame := &wire.ClientFrame{Body: &wire.ClientFrame_Receipt{Receipt: &wire.Receipt{Room: r.id, Delivered: want.Delivered, Read: want.Read}}}
	s.requestLocked(frame, false, func(_ *wire.ServerFrame, err error) {
		t.telling = false
		switch refused, ok := errorsAs(err); {
		case err == nil && t.on == c:
			t.told = want
		case ok && refused.passing():
			t.due = time.Now().Add(refused.RetryAfter + jitter(0, requestRetry))
		case ok && refused.Code == wire.CodeInternal: // it may be over soon
			t.due = time.Now().Add(requestRetry.high + jitter(0, requestRetry))
		case ok && refused.Code == wire.CodeNotJoined:
			r.missedLocked() // it is joined again, and told then
		case ok && t.on == c:
			t.mute = true
		}
		s.notify()
	})
	return wait
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Changes reads the messages that were revised after a change, as they are now, in
// ascending order of change. more: there are others. It is for programs that keep
// messages of their own; while in the room, Events has every revision.
func (r *Room) Changes(ctx context.Context, after uint64, limit int) (messages []Message, more bool, err error) {
	return r.page(ctx, changes(r.id, after, limit))
}

func changes(room string, after uint64, limit int) *wire.ClientFrame {
	f := history(room, 0, 0, limit)
	f.GetHistory().ChangedAfter = &after
	return f
}
