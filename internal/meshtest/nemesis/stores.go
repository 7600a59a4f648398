package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
)

// stores are what a node asks of core and SQL, kept in memory: messages with
// dense numbers, to which a repeated client id adds nothing. Everybody is a
// member of every room. They outlive the nodes, as a database does.
type stores struct {
	mu       sync.Mutex // guards the following
	rng      *rand.Rand
	messages map[string][]*wire.Message
	ids      map[string]*wire.Message
	healed   bool
}

func newStores(seed uint64) *stores {
	return &stores{
		rng: rand.New(rand.NewPCG(seed, 0x5701)), messages: map[string][]*wire.Message{},
		ids: map[string]*wire.Message{},
	}
}

var errUnavailable = errs.New(errs.Unavailable, edge.CodeRetry, "the database can't be reached").After(100 * time.Millisecond)

// wait takes the time of a request, and says how it fails: not at all, before
// it did anything, or after.
func (s *stores) wait(ctx context.Context) (before, after error) {
	s.mu.Lock()
	d := time.Millisecond + time.Duration(s.rng.Int64N(int64(4*time.Millisecond)))
	if !s.healed {
		switch s.rng.IntN(50) {
		case 0:
			before = errUnavailable
		case 1:
			after = errUnavailable
		case 2:
			d += 300 * time.Millisecond
		}
	}
	s.mu.Unlock()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return ctx.Err(), nil
	}
	return before, after
}

// Member satisfies edge.Members.
func (s *stores) Member(ctx context.Context, user, room string, min uint64) (edge.Membership, error) {
	if before, after := s.wait(ctx); before != nil || after != nil {
		return edge.Membership{}, errUnavailable
	}
	return edge.Membership{Role: "member", Name: nameOf(user), Version: max(min, 1)}, nil
}

// Store satisfies edge.Messages.
func (s *stores) Store(ctx context.Context, d edge.Draft) (*wire.Message, bool, error) {
	before, after := s.wait(ctx)
	if before != nil {
		return nil, false, before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := strings.Join([]string{d.Room, d.Sender, d.ClientID}, " ")
	m := s.ids[id]
	if m == nil {
		m = &wire.Message{
			Number: uint64(len(s.messages[d.Room]) + 1), Sender: d.Sender, SenderName: d.SenderName,
			ClientId: d.ClientID, Body: d.Body, SentAt: timestamppb.Now(),
		}
		m.Id = fmt.Sprintf("%s-%d", d.Room, m.Number)
		s.messages[d.Room] = append(s.messages[d.Room], m)
		s.ids[id] = m
	}
	if after != nil {
		return nil, false, after
	}
	return proto.Clone(m).(*wire.Message), true, nil
}

// History satisfies edge.Messages.
func (s *stores) History(ctx context.Context, room string, before, after uint64, limit int) ([]*wire.Message, bool, error) {
	if b, a := s.wait(ctx); b != nil || a != nil {
		return nil, false, errUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.messages[room]
	from, to := 0, len(all)
	switch {
	case after > 0:
		from = min(int(after), len(all))
		to = min(from+limit, len(all))
		return slices.Clone(all[from:to]), to < len(all), nil
	case before > 0:
		to = min(int(before)-1, len(all))
	}
	from = max(0, to-limit)
	return slices.Clone(all[from:to]), from > 0, nil
}

// Last satisfies edge.Messages.
func (s *stores) Last(ctx context.Context, room string) (uint64, error) {
	if b, a := s.wait(ctx); b != nil || a != nil {
		return 0, errUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.messages[room])), nil
}

func (s *stores) last(room string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.messages[room]))
}

// heal ends the failures.
func (s *stores) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.healed = true
}

// Touch satisfies edge.Activity.
func (s *stores) Touch(string, time.Time) {}

// Invisible and Seen satisfy edge.Settings.
func (s *stores) Invisible(context.Context, string) (bool, error) { return false, nil }

// Seen notes nothing.
func (s *stores) Seen(string, time.Time) {}

// Verify satisfies edge.Verifier: a token is the user's id.
func (s *stores) Verify(token string) (edge.Identity, error) {
	return edge.Identity{User: token, Name: nameOf(token), Login: "login of " + token, Expires: time.Now().Add(time.Hour)}, nil
}

func nameOf(user string) string { return "Name of " + user }
