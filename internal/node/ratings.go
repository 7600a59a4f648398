package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/core/reports"
	"github.com/mustermesh/muster/core/users"
)

// newRatings makes what people who met give each other, and has it revealed when it
// is due.
func newRatings(cfg *Config, people *users.Store, w *work) *ratings.Store {
	s := ratings.New(cfg.DB, people, ratings.Config{})
	w.Schedule(jobs.Schedule{
		Name: "reveal_ratings", Every: ratings.CloseEvery, Late: jobs.LateOnce, Timeout: 10 * time.Minute,
		Do: func(ctx context.Context, _ jobs.Work) error { return s.CloseDue(ctx) },
	})
	return s
}

// meetings are nearby conversations that ended, as core/ratings sees them.
type meetings struct{ ratings *ratings.Store }

func (m meetings) Opened(ctx context.Context, tx pgx.Tx, id uuid.UUID, people []core.UserID, at time.Time) error {
	return m.ratings.Opened(ctx, tx, ratings.Encounter{ID: id, Kind: ratings.Nearby, People: people, At: at})
}

// newReports makes what people report.
func newReports(cfg *Config, sees subjects, w *work) (*reports.Store, error) {
	s, err := reports.New(cfg.DB, cfg.Secret, sees, reports.Config{})
	if err == nil {
		w.sweep("reports", s.Sweep)
	}
	return s, err
}

// subjects are what people can see, as core/reports asks for it.
type subjects struct {
	rooms interface {
		Conversation(ctx context.Context, user core.UserID, room string) (chat.Conversation, error)
	}
	messages interface {
		Get(ctx context.Context, viewer core.UserID, room string, number uint64) (chat.Message, error)
	}
	friends *friends.Store
	cards   *users.Cards
	ratings *ratings.Store
}

func (s subjects) See(ctx context.Context, user core.UserID, about reports.Subject) (reports.Seen, error) {
	seen, err := s.see(ctx, user, about)
	for _, missing := range []error{chat.ErrNotMember, chat.ErrNoMessage, users.ErrNotFound} {
		if errors.Is(err, missing) {
			err = reports.ErrNoSubject
		}
	}
	return seen, err
}

func (s subjects) see(ctx context.Context, user core.UserID, about reports.Subject) (reports.Seen, error) {
	if about.Room == "" {
		return s.person(ctx, user, about.User)
	}
	room, err := s.room(ctx, user, about.Room)
	if err != nil || about.Number == 0 {
		return room, err
	}
	m, err := s.messages.Get(ctx, user, about.Room, about.Number)
	if err != nil || m.Deleted || m.Hidden {
		return reports.Seen{}, cmp.Or(err, error(reports.ErrNoSubject))
	}
	evidence := map[string]any{"body": m.Body, "sent_at": m.SentAt.UTC()}
	if len(m.Attachments) > 0 {
		evidence["attachments"] = m.Attachments
	}
	return reports.Seen{User: m.Sender, Evidence: evidence}, nil
}

// person is somebody whom the user can see, or has blocked: whoever is bothered
// blocks first.
func (s subjects) person(ctx context.Context, user, other core.UserID) (reports.Seen, error) {
	_, err := s.cards.Get(ctx, user, other)
	if errors.Is(err, users.ErrNotFound) {
		list, _, failed := s.friends.List(ctx, user, "", maxBlocked)
		if failed != nil {
			return reports.Seen{}, failed
		}
		if slices.ContainsFunc(list, func(b friends.Blocked) bool { return b.User == other }) {
			err = nil
		}
	}
	if err != nil {
		return reports.Seen{}, err
	}
	return s.card(ctx, other)
}

// maxBlocked is more than anybody can block.
const maxBlocked = 10_000

func (s subjects) card(ctx context.Context, user core.UserID) (reports.Seen, error) {
	c, err := s.cards.Get(ctx, user, user) // as they see it themselves: whoever asks may be blocked
	return reports.Seen{User: user, Evidence: map[string]any{"username": c.Username, "profile_picture": c.Picture}}, err
}

// room is a room that the user is in; of two people it is about the other one. Who
// leaves a talk nearby, or blocks the other one after it, doesn't take from them what
// they saw, as long as they may rate each other.
func (s subjects) room(ctx context.Context, user core.UserID, room string) (reports.Seen, error) {
	c, err := s.rooms.Conversation(ctx, user, room)
	if talk, ok := strings.CutPrefix(room, "nearby:"); ok && errors.Is(err, chat.ErrNotMember) {
		id, bad := uuid.Parse(talk)
		if bad != nil || id.String() != talk {
			return reports.Seen{}, err
		}
		others, failed := s.ratings.Others(ctx, user, id)
		switch {
		case failed != nil:
			return reports.Seen{}, failed
		case len(others) == 1:
			return s.card(ctx, others[0])
		}
	}
	switch {
	case err != nil:
		return reports.Seen{}, err
	case c.Peer != nil:
		return s.card(ctx, c.Peer.User)
	}
	return reports.Seen{Evidence: map[string]any{"name": c.Name, "picture": c.Picture}}, nil
}
