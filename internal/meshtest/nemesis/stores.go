package nemesis

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
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
	ids      map[string]int // the place of a message by its client id
	changes  map[string]uint64
	seen     map[string]map[string]client.Seen
	seenAt   map[mark]time.Time
	healed   bool
}

func newStores(seed uint64) *stores {
	return &stores{
		rng: rand.New(rand.NewPCG(seed, 0x5701)), messages: map[string][]*wire.Message{},
		ids: map[string]int{}, changes: map[string]uint64{}, seen: map[string]map[string]client.Seen{}, seenAt: map[mark]time.Time{},
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
	i, known := s.ids[id]
	if !known {
		m := &wire.Message{
			Number: uint64(len(s.messages[d.Room]) + 1), Sender: d.Sender, SenderName: d.SenderName,
			ClientId: d.ClientID, Body: d.Body, SentAt: timestamppb.Now(),
		}
		m.Id = fmt.Sprintf("%s-%d", d.Room, m.Number)
		i = len(s.messages[d.Room])
		s.messages[d.Room] = append(s.messages[d.Room], m)
		s.ids[id] = i
	}
	if after != nil {
		return nil, false, after
	}
	return s.messages[d.Room][i], true, nil
}

// History satisfies edge.Messages.
func (s *stores) History(ctx context.Context, _, room string, p edge.Page) ([]*wire.Message, bool, error) {
	if b, a := s.wait(ctx); b != nil || a != nil {
		return nil, false, errUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.messages[room]
	from, to := 0, len(all)
	switch {
	case p.Revised:
		all = slices.DeleteFunc(slices.Clone(all), func(m *wire.Message) bool { return m.Change <= p.ChangedAfter })
		slices.SortFunc(all, func(a, b *wire.Message) int { return cmp.Compare(a.Change, b.Change) })
		return all[:min(p.Limit, len(all))], len(all) > p.Limit, nil
	case p.After > 0:
		from = min(int(p.After), len(all))
		to = min(from+p.Limit, len(all))
		return slices.Clone(all[from:to]), to < len(all), nil
	case p.Before > 0:
		to = min(int(p.Before)-1, len(all))
	}
	from = max(0, to-p.Limit)
	return slices.Clone(all[from:to]), from > 0, nil
}

// Last satisfies edge.Messages.
func (s *stores) Last(ctx context.Context, room string) (edge.Last, error) {
	if b, a := s.wait(ctx); b != nil || a != nil {
		return edge.Last{}, errUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return edge.Last{Number: uint64(len(s.messages[room])), Change: s.changes[room]}, nil
}

// revise makes a revision, unless the message is so already.
func (s *stores) revise(ctx context.Context, user, room string, v Revision) (*wire.Message, error) {
	before, after := s.wait(ctx)
	if before != nil {
		return nil, before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.Number == 0 || v.Number > uint64(len(s.messages[room])) {
		return nil, fmt.Errorf("there is no message %d", v.Number)
	}
	m := s.messages[room][v.Number-1]
	if now := v.of(m, user); now != nil {
		s.changes[room]++
		now.Change = s.changes[room]
		s.messages[room][v.Number-1] = now // those that were given out stay as they were
		m = now
	}
	return m, after
}

// advance merges receipts, and returns those that are news or to be told again.
func (s *stores) advance(batch map[mark]client.Seen, again map[mark]bool) (map[string][]*wire.Seen, error) {
	before, after := s.wait(context.Background())
	if before != nil {
		return nil, before
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	news := map[string][]*wire.Seen{}
	for k, said := range batch {
		last := uint64(len(s.messages[k.room]))
		said.Delivered, said.Read = min(said.Delivered, last), min(said.Read, last)
		if s.seen[k.room] == nil {
			s.seen[k.room] = map[string]client.Seen{}
		}
		if now := further(s.seen[k.room][k.user], said); now != s.seen[k.room][k.user] || again[k] {
			s.seen[k.room][k.user], s.seenAt[k] = now, time.Now()
			news[k.room] = append(news[k.room], &wire.Seen{User: k.user, Delivered: now.Delivered, Read: now.Read})
		}
	}
	return news, after
}

// lately returns the receipts that were stored within the last minute.
func (s *stores) lately(ctx context.Context, room string) (list []*wire.Seen, err error) {
	if before, after := s.wait(ctx); before != nil || after != nil {
		return nil, errUnavailable
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for user, now := range s.seen[room] {
		if time.Since(s.seenAt[mark{room, user}]) < time.Minute {
			list = append(list, &wire.Seen{User: user, Delivered: now.Delivered, Read: now.Read})
		}
	}
	return list, nil
}

// kept is what there is of a room.
func (s *stores) kept(room string) Kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Kept{slices.Clone(s.messages[room]), s.changes[room], maps.Clone(s.seen[room])}
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
