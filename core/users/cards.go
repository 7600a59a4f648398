package users

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Card is what others see of a user.
type Card struct {
	ID       core.UserID
	Username string
	Picture  string
	Rating   core.Rating
	Version  uint64
}

// ETag is the card's version as HTTP has it (RFC 9110 section 8.8.3).
func (c Card) ETag() string { return `"` + strconv.FormatUint(c.Version, 10) + `"` }

// CardsConfig holds what is optional about Cards; its zero value works.
type CardsConfig struct {
	// Hidden tells whether two users must not see each other. Nil: nobody is.
	Hidden  func(ctx context.Context, viewer, user core.UserID) (bool, error)
	Metrics prometheus.Registerer // nil: not registered
}

// Cards are the users as others see them, from memory where they were read of
// late; see the package comment. It is safe for concurrent use.
type Cards struct {
	db     *db.DB
	now    func() time.Time
	hidden func(ctx context.Context, viewer, user core.UserID) (bool, error)
	known  *otter.Cache[core.UserID, known]
	asked  *prometheus.CounterVec
}

// known is what memory has of a user.
type known struct {
	card  Card      // of Version 0: none
	least uint64    // no card of a lower version is true any more
	until time.Time // then it is read anew
}

const (
	cardFor   = time.Minute
	cardsMost = 100_000 // some 30 MB
)

// NewCards returns the cards of a store's users.
func NewCards(s *Store, cfg CardsConfig) (*Cards, error) {
	c := &Cards{db: s.db, now: s.now, hidden: cfg.Hidden, known: otter.Must(&otter.Options[core.UserID, known]{
		MaximumSize: cardsMost,
		Executor:    func(f func()) { f() }, // its upkeep runs in the caller: no goroutine without an owner
	}), asked: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_profile_reads_total", Help: "Public profiles that were asked for, from memory or from the database.",
	}, []string{"from"})}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(c.asked); err != nil {
			return nil, fmt.Errorf("profiles: %w", err)
		}
	}
	s.cards = c
	return c, nil
}

// Get returns a user's card to another. Who must not see them gets ErrNotFound,
// as for somebody who doesn't exist.
func (c *Cards) Get(ctx context.Context, viewer, id core.UserID) (Card, error) {
	if c.hidden != nil && viewer != id {
		hidden, err := c.hidden(ctx, viewer, id)
		if err != nil {
			return Card{}, fmt.Errorf("read card: %w", err)
		}
		if hidden {
			return Card{}, ErrNotFound
		}
	}
	now := c.now()
	k, _ := c.known.GetIfPresent(id)
	if k.card.Version > 0 && now.Before(k.until) {
		c.asked.WithLabelValues("memory").Inc()
		return k.card, nil
	}
	c.asked.WithLabelValues("database").Inc()
	card, err := c.read(ctx, id, k.least)
	if err != nil {
		return Card{}, fmt.Errorf("read card: %w", err)
	}
	c.known.Compute(id, func(k known, _ bool) (known, otter.ComputeOp) {
		if card.Version < k.least || card.Version < k.card.Version { // a change came in between
			return k, otter.CancelOp
		}
		return known{card: card, least: card.Version, until: now.Add(cardFor)}, otter.WriteOp
	})
	return card, nil
}

// read reads a card of least or later. A replica that is behind is asked first,
// since most cards have not changed for long.
func (c *Cards) read(ctx context.Context, id core.UserID, least uint64) (card Card, err error) {
	if err = c.db.ReadStale(ctx, func(ctx context.Context, q db.Querier) error {
		card, err = one(ctx, q, id)
		return err
	}); err == nil && card.Version >= least {
		return card, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) { // which may be news to the replica
		return Card{}, err
	}
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		card, err = one(ctx, q, id)
		return err
	})
	return card, err
}

func one(ctx context.Context, q db.Querier, id core.UserID) (Card, error) {
	card := Card{ID: id}
	err := q.QueryRow(ctx, `SELECT username, profile_picture, rating_sum, rating_count, profile_version FROM users WHERE id = $1 AND deleted_at IS NULL`, id).
		Scan(&card.Username, &card.Picture, &card.Rating.Sum, &card.Rating.Count, &card.Version)
	if errors.Is(err, pgx.ErrNoRows) {
		return Card{}, ErrNotFound
	}
	return card, err
}

// Changed hears that a user's card has a version now.
func (c *Cards) Changed(id core.UserID, version uint64) {
	c.known.Compute(id, func(k known, _ bool) (known, otter.ComputeOp) {
		if k.least >= version {
			return k, otter.CancelOp
		}
		return known{least: version}, otter.WriteOp
	})
}
