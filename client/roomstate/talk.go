package roomstate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/mustermesh/muster/api/wire"
)

const (
	// maxAhead bounds the revisions that are known above a hole. Beyond it the
	// highest are forgotten: they are part of the hole then and fetched with it.
	maxAhead = 1024
	// maxSeen bounds the people whose receipts are known.
	maxSeen = 10_000
	// maxHidden bounds the messages that are known to be hidden. Beyond it those of the
	// lowest numbers are forgotten, of which least is heard.
	maxHidden = 4096
)

// revisions is what is known of a room's revisions: all up to done, and ahead of
// that single ones, each with the number of the message that it made.
type revisions struct {
	done  uint64
	heard uint64 // the highest known to exist
	ahead map[uint64]uint64
}

// take notes that a state of a message is known. It reports whether that is news,
// and the newest of that message.
func (r *revisions) take(number, change uint64) (news bool) {
	r.heard = max(r.heard, change)
	if _, known := r.ahead[change]; known || change <= r.done {
		return false
	}
	news = true
	for other, n := range r.ahead {
		news = news && (n != number || other < change)
	}
	if r.ahead == nil {
		r.ahead = map[uint64]uint64{}
	}
	r.ahead[change] = number
	r.close(r.done)
	if len(r.ahead) > maxAhead {
		delete(r.ahead, slices.Max(slices.Collect(maps.Keys(r.ahead))))
	}
	return news
}

// close notes that all up to a change are known.
func (r *revisions) close(upTo uint64) {
	if upTo > r.done {
		r.done = upTo
		maps.DeleteFunc(r.ahead, func(change, _ uint64) bool { return change <= upTo })
	}
	r.heard = max(r.heard, r.done)
	for {
		if _, next := r.ahead[r.done+1]; !next {
			return
		}
		r.done++
		delete(r.ahead, r.done)
	}
}

// revise takes a later state of a message that was given out.
func (s *State) revise(m *wire.Message) {
	change := m.GetChange()
	i, kept := slices.BinarySearchFunc(s.recent, m.GetNumber(), func(r Message, n uint64) int { return cmp.Compare(r.Number, n) })
	if change == 0 || !s.revised.take(m.GetNumber(), change) || kept && s.recent[i].Change >= change {
		s.counters.DuplicateMessages++
		return
	}
	now := s.shown(m)
	if kept {
		s.recent[i] = now
	}
	s.out = append(s.out, Revised{now})
}

// Hide notes that the user deleted messages for themself alone. That is no revision: a
// later one has the message as it is for the others, and is shown without what was in it.
func (s *State) Hide(numbers ...uint64) []Event {
	for _, n := range numbers {
		if s.hidden == nil {
			s.hidden = map[uint64]bool{}
		}
		if s.hidden[n] = true; len(s.hidden) > maxHidden {
			delete(s.hidden, slices.Min(slices.Collect(maps.Keys(s.hidden))))
		}
		if w, here := s.waiting[n]; here {
			s.waiting[n] = hollow(w)
		}
		i, kept := slices.BinarySearchFunc(s.recent, n, func(r Message, n uint64) int { return cmp.Compare(r.Number, n) })
		if kept && !s.recent[i].Deleted {
			s.recent[i] = hollow(s.recent[i])
			s.out = append(s.out, Revised{s.recent[i]})
		}
	}
	return s.take()
}

// shown is a message as the user may see it.
func (s *State) shown(m *wire.Message) Message {
	if s.hidden[m.GetNumber()] {
		return hollow(messageOf(m))
	}
	return messageOf(m)
}

// hollow is what is left of a message that was deleted.
func hollow(m Message) Message {
	return Message{
		Number: m.Number, ID: m.ID, Sender: m.Sender, SenderName: m.SenderName, ClientID: m.ClientID, SentAt: m.SentAt,
		Deleted: true, Change: m.Change,
	}
}

// Unrevised reports whether revisions are missing, and after which one. What is
// known to exist is to be named to Changes with the answer.
func (s *State) Unrevised() (after, known uint64, ok bool) {
	return s.revised.done, s.revised.heard, s.joined && s.revised.heard > s.revised.done
}

// Changes applies the answer to a request for the revisions that were missing when
// known were known to exist: what is not in it was revised again since, which is.
func (s *State) Changes(known uint64, p *wire.Page) []Event {
	all := uint64(0)
	if !p.GetMore() {
		all = known
	}
	for _, m := range p.GetMessages() {
		s.message(m)
		all = max(all, m.GetChange())
	}
	s.revised.close(all)
	s.release()
	return s.take()
}

// Receipts applies how far members have got, from whatever source.
func (s *State) Receipts(seen []Seen) []Event {
	s.receipts(seen)
	return s.take()
}

func (s *State) receipts(list []Seen) {
	var news []Seen
	for _, n := range list {
		old, known := s.seen[n.User]
		n.Read = max(n.Read, old.Read)
		n.Delivered = max(n.Delivered, n.Read, old.Delivered)
		if n == old || !known && len(s.seen) >= maxSeen {
			continue
		}
		if s.seen == nil {
			s.seen = map[string]Seen{}
		}
		s.seen[n.User] = n
		news = append(news, n)
	}
	if news != nil {
		s.out = append(s.out, ReceiptsChanged{news})
	}
}

// Seen returns how far members have got, as far as it was told, by user.
func (s *State) Seen() []Seen {
	return slices.SortedFunc(maps.Values(s.seen), func(a, b Seen) int { return cmp.Compare(a.User, b.User) })
}

// Reached returns how many people, but for one, have a message and have seen it.
func (s *State) Reached(number uint64, but string) (delivered, read int) {
	for user, n := range s.seen {
		if user == but {
			continue
		}
		if n.Delivered >= number {
			delivered++
		}
		if n.Read >= number {
			read++
		}
	}
	return delivered, read
}

// Given returns up to which number messages were given out, or were there before
// the room was joined.
func (s *State) Given() uint64 { return s.given }

// SeenOf turns the frame's form into ours.
func SeenOf(list []*wire.Seen) []Seen {
	out := make([]Seen, len(list))
	for i, n := range list {
		out[i] = Seen{n.GetUser(), n.GetDelivered(), n.GetRead()}
	}
	return out
}
