package client

import (
	"context"
	"encoding/json"
	"iter"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/roomstate"
)

// Notice is something that was changed about the user. N counts the user's notices.
type Notice = roomstate.Update

// noticeHidden is the kind of a notice that a message was deleted for the user alone.
const noticeHidden = "message.hidden"

// Noticed carries a notice, each once: what its kind says is to be read again.
type Noticed struct{ Notice Notice }

// Notices yields what is changed about the user, wherever that is done, until the
// session ends (Ended) or ctx does: Noticed, and Missed where some may not have come,
// since the session was without a connection, or the application too slow. Then what
// notices are about is to be read again, as at the start: read it once this has been
// called. Use it from one goroutine.
func (s *Session) Notices(ctx context.Context) iter.Seq[Event] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notices == nil {
		s.notices = newQueue(s.cfg.QueueSize)
		if s.status.Phase == Closed {
			s.notices.end(Ended{s.status.Err})
		}
	}
	return s.notices.all(ctx)
}

func (s *Session) noticeLocked(f *wire.Notice) {
	n := roomstate.UpdateOf(f)
	s.hiddenLocked(n)
	news, missed := s.noticed.News(n)
	if !news || s.notices == nil {
		return
	}
	if missed {
		s.notices.push(Missed{})
	}
	s.notices.push(Noticed{n})
}

// hiddenLocked takes what the user deleted for themself, on whatever device.
func (s *Session) hiddenLocked(n Notice) {
	var data struct {
		Room   string `json:"room"`
		Number uint64 `json:"number"`
	}
	if n.Kind != noticeHidden || json.Unmarshal(n.Data, &data) != nil {
		return
	}
	if r := s.rooms[data.Room]; r != nil {
		r.push(r.state.Hide(data.Number))
	}
}

// unnoticedLocked says that notices may have been missed.
func (s *Session) unnoticedLocked() {
	if s.notices != nil {
		s.notices.push(Missed{})
	}
}
