package node

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/edge"
)

// conversations are who talks with whom, and how far everybody has got: core/chat and
// core/location as the edge sees them.
//
// A room of two people has two sides, what they write to each other and where they
// are, and each of the two packages has a version of its own of who may be in it. The
// edge knows one version of a room: it is made of both (sides.version).
type conversations struct {
	*chat.Conversations
	receipts *chat.Receipts
	places   *location.Store
	rooms    *membershipAnnouncer
	log      *slog.Logger
	// ended is told in its transaction that a conversation ends, if it is set before
	// the node starts.
	ended func(ctx context.Context, tx pgx.Tx, room string, by core.UserID) error

	mu       sync.Mutex // guards the following
	discreet map[core.UserID]discretion
	chosen   uint64 // how often something was dropped: what was read before may be old
}

// discretion is what a user chose, as it was a moment ago.
type discretion struct {
	nobody bool
	until  time.Time
}

const (
	discreetFor  = 10 * time.Second
	discreetMost = 100_000
)

func newConversations(cfg *Config, region string, places *location.Store, rooms *membershipAnnouncer, publish func(room string, r *wire.Receipts), w *work, log *slog.Logger) (*conversations, error) {
	c := &conversations{places: places, rooms: rooms, log: log, discreet: map[core.UserID]discretion{}}
	c.Conversations = chat.NewConversations(cfg.DB, chat.ConversationsConfig{Region: region, Announce: c, Ended: func(ctx context.Context, tx pgx.Tx, room string, by core.UserID) error {
		if c.ended == nil {
			return nil
		}
		return c.ended(ctx, tx, room, by)
	}})
	c.receipts = chat.NewReceipts(cfg.DB, chat.ReceiptsConfig{Log: log, Publish: func(room string, seen []chat.Seen) {
		publish(room, receiptsOf(seen))
	}})
	w.sweep("talk", c.Sweep)
	if cfg.Metrics == nil {
		return c, nil
	}
	return c, c.receipts.Register(cfg.Metrics)
}

func receiptsOf(seen []chat.Seen) *wire.Receipts {
	out := &wire.Receipts{Seen: make([]*wire.Seen, len(seen))}
	for i, s := range seen {
		out.Seen[i] = &wire.Seen{User: s.User.String(), Delivered: s.Delivered, Read: s.Read}
	}
	return out
}

// missing tells people of messages: core/notify for core/chat.
type missing struct{ *notifications }

func (n missing) NotifyOnce(ctx context.Context, tx pgx.Tx, to core.UserID, kind, once string, data map[string]any) error {
	return n.Send(ctx, tx, notify.Notice{To: to, Kind: kind, Data: data, Once: once})
}

// operations are what the API needs.
func (c *conversations) operations() *httpapi.Talks {
	return &httpapi.Talks{Conversations: c.Conversations, Receipts: c.receipts}
}

// MembershipChanged satisfies chat.Announcer, and core/location's for the rooms of two:
// the edges of this region hear of the room's version as of both.
func (c *conversations) MembershipChanged(ctx context.Context, room string, version uint64) {
	if pair, ok := strings.CutPrefix(room, "direct:"); ok {
		one, _, _ := strings.Cut(pair, ":")
		user, err := core.ParseUserID(one)
		if err == nil {
			var s sides
			s, err = c.sides(ctx, user, room)
			version = s.version()
		}
		if err != nil { // they ask again by themselves after a while
			c.log.WarnContext(ctx, "version of a room not read", "room", room, "err", err)
			return
		}
	}
	c.rooms.MembershipChanged(ctx, room, version)
}

// sides are what somebody is in a room of two.
type sides struct {
	talk  chat.Standing
	talks bool // they are in the conversation
	look  location.Standing
	looks bool // they may see where the other one is, or be seen
}

// version is the conversation's, and below it that of what the two share of where they
// are. The conversation is read first: so an answer that is older than a change of
// either side is always lower than the version which that change announces.
func (s sides) version() uint64 { return s.talk.Version<<32 + s.look.Version }

func (c *conversations) sides(ctx context.Context, user core.UserID, room string) (s sides, err error) {
	s.talk, err = c.Standing(ctx, user, room, 0)
	if s.talks = err == nil; err != nil && !errors.Is(err, chat.ErrNotMember) {
		return sides{}, err
	}
	s.look, err = c.places.DirectMember(ctx, user, room, 0)
	if s.looks = err == nil; err != nil && !errors.Is(err, location.ErrNoDirect) {
		return sides{}, err
	}
	return s, nil
}

// Member answers for rooms that are no group's, as members does, and says where their
// messages are written; "" if it is nowhere in particular.
func (c *conversations) Member(ctx context.Context, user core.UserID, room string, least uint64) (m edge.Membership, home string, err error) {
	var s sides
	if chat.ScopeOf(room) == chat.OfDirect {
		if s, err = c.sides(ctx, user, room); err == nil && s.version() < least {
			err = chat.ErrBehind
		}
		m.Version = s.version()
	} else {
		s.talk, err = c.Standing(ctx, user, room, least)
		s.talks, m.Version = err == nil, s.talk.Version
	}
	switch {
	case errors.Is(err, chat.ErrNotMember), err == nil && !s.talks && !s.looks:
		return edge.Membership{}, "", errNotMember
	case err != nil:
		return edge.Membership{}, "", err
	case !s.talks:
		m.Role, m.Name, m.Talk = "reader", s.look.Username, edge.Looks
		return m, "", nil
	case !s.talk.Writes:
		m.Talk = edge.Listens
	}
	m.Role, m.Name = s.talk.Role, s.talk.Name
	return m, s.talk.Home, nil
}

// homes says where the messages of a room are written, whatever it is of.
func (c *conversations) homes(teams *groups.Store) func(context.Context, string) (string, error) {
	return func(ctx context.Context, room string) (string, error) {
		if id, ok := core.GroupOf(room); ok {
			return teams.Home(ctx, id)
		}
		return c.Home(ctx, room)
	}
}

// Advance satisfies edge.Progress.
func (c *conversations) Advance(room, user, device string, delivered, read uint64) {
	if id, err := core.ParseUserID(user); err == nil {
		c.receipts.Advance(room, id, device, delivered, read)
	}
}

// Lately satisfies edge.Progress.
func (c *conversations) Lately(ctx context.Context, room string) ([]*wire.Seen, error) {
	seen, err := c.receipts.Lately(ctx, room)
	return receiptsOf(seen).GetSeen(), err
}

// Discreet satisfies edge.Discreet: from memory, as it was a moment ago.
func (c *conversations) Discreet(ctx context.Context, user string) (bool, error) {
	id, err := core.ParseUserID(user)
	if err != nil { // a gateway's
		return false, nil
	}
	now := time.Now()
	c.mu.Lock()
	d, ok := c.discreet[id]
	chosen := c.chosen
	c.mu.Unlock()
	if ok && now.Before(d.until) {
		return d.nobody, nil
	}
	set, err := c.Settings(ctx, id)
	if err != nil {
		return false, err
	}
	d = discretion{set.Receipts == chat.Nobody, now.Add(discreetFor)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.chosen != chosen {
		return d.nobody, nil
	}
	for other := range c.discreet { // any: it is read again when it is needed
		if len(c.discreet) < discreetMost {
			break
		}
		delete(c.discreet, other)
	}
	c.discreet[id] = d
	return d.nobody, nil
}

// Chosen tells that a user may have chosen otherwise: they are asked for anew.
func (c *conversations) Chosen(user string) {
	id, err := core.ParseUserID(user)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.discreet, id)
	c.chosen++
}

// depart takes somebody whose account has ended out of groups and conversations.
type depart []func(context.Context, core.UserID) error

func (d depart) Depart(ctx context.Context, user core.UserID) error {
	for _, f := range d {
		if err := f(ctx, user); err != nil {
			return err
		}
	}
	return nil
}
