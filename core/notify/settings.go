package notify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	_ "time/tzdata" // zones, wherever this runs

	"github.com/jackc/pgx/v5"
	"golang.org/x/text/language"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrBadLanguage = errs.New(errs.Invalid, "bad_language", "a language is a tag such as de or pt-BR, or empty").At("body.language")
	ErrBadZone     = errs.New(errs.Invalid, "bad_time_zone", "a time zone is a name of the IANA database such as Europe/Lisbon, or empty").At("body.time_zone")
	ErrBadQuiet    = errs.New(errs.Invalid, "bad_quiet_hours", "quiet hours are two times of a day such as 22:00 and 07:30").At("body.quiet_hours")
	ErrBadKind     = errs.New(errs.Invalid, "bad_preference", "there is no such kind of notification, or no such channel").At("body.preferences")
)

// choice is what a user chose about a kind and a channel.
type choice struct{ kind, channel string }

type preferences map[choice]bool

// of is what was chosen; nil for nothing.
func (p preferences) of(k Kind, channel string) *bool {
	if on, ok := p[choice{k, channel}]; ok {
		return &on
	}
	return nil
}

func choices(ctx context.Context, q db.Querier, user core.UserID) (preferences, error) {
	rows, err := q.Query(ctx, `SELECT kind, channel, enabled FROM notify_preferences WHERE user_id = $1`, user)
	if err != nil {
		return nil, err
	}
	p := preferences{}
	var c choice
	var on bool
	_, err = pgx.ForEachRow(rows, []any{&c.kind, &c.channel, &on}, func() error { p[c] = on; return nil })
	return p, err
}

// Wishes are a user's settings, and what they want to be told by which channel.
type Wishes struct {
	Settings
	Preferences map[Kind]map[string]bool // complete: of all kinds and channels that there are
}

// Wishes returns a user's.
func (n *Notifier) Wishes(ctx context.Context, user core.UserID) (w Wishes, err error) {
	err = n.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		w, err = n.wishes(ctx, q, user)
		return err
	})
	if err != nil {
		return Wishes{}, fmt.Errorf("read notification settings: %w", err)
	}
	return w, nil
}

func (n *Notifier) wishes(ctx context.Context, q db.Querier, user core.UserID) (Wishes, error) {
	var w Wishes
	err := q.QueryRow(ctx, `SELECT language, time_zone, quiet_from, quiet_until FROM notify_settings WHERE user_id = $1`, user).
		Scan(&w.Language, &w.Zone, &w.Quiet.From, &w.Quiet.Until)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return w, err
	}
	chosen, err := choices(ctx, q, user)
	if err != nil {
		return w, err
	}
	w.Preferences = map[Kind]map[string]bool{}
	for _, k := range Kinds() {
		w.Preferences[k] = map[string]bool{}
		for name := range n.channels {
			w.Preferences[k][name] = wanted(k, name, chosen.of(k, name))
		}
	}
	return w, nil
}

// Channels returns the names of the channels, sorted.
func (n *Notifier) Channels() []string { return slices.Sorted(maps.Keys(n.channels)) }

// WishChange names what is to be replaced; nil leaves it as it is.
type WishChange struct {
	Language, Zone *string
	Quiet          *Quiet
	Preferences    map[Kind]map[string]bool // those named are replaced
}

func (n *Notifier) check(c WishChange) error {
	if c.Language != nil && *c.Language != "" {
		if _, err := language.Parse(*c.Language); err != nil || len(*c.Language) > 35 {
			return ErrBadLanguage
		}
	}
	if c.Zone != nil && *c.Zone != "" {
		if _, err := time.LoadLocation(*c.Zone); err != nil || *c.Zone == "Local" || len(*c.Zone) > 64 {
			return ErrBadZone
		}
	}
	if c.Quiet != nil && (c.Quiet.From < 0 || c.Quiet.From >= 24*60 || c.Quiet.Until < 0 || c.Quiet.Until >= 24*60) {
		return ErrBadQuiet
	}
	for k, channels := range c.Preferences {
		for name, on := range channels {
			_, known := n.channels[name]
			switch kind, ok := kinds[k]; {
			case !ok || kind.mailOnly || !known:
				return ErrBadKind
			case kind.security && name == Email && !on:
				return ErrCantMute.At("body.preferences")
			}
		}
	}
	return nil
}

// ChangeWishes changes a user's and returns what holds now.
func (n *Notifier) ChangeWishes(ctx context.Context, user core.UserID, c WishChange) (w Wishes, err error) {
	if err := n.check(c); err != nil {
		return w, err
	}
	err = n.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var from, until *int
		if c.Quiet != nil {
			from, until = &c.Quiet.From, &c.Quiet.Until
		}
		if _, err := tx.Exec(ctx,
			`INSERT INTO notify_settings AS s (user_id, language, time_zone, quiet_from, quiet_until, updated_at)
			 VALUES ($1, coalesce($2, ''), coalesce($3, ''), coalesce($4, 0), coalesce($5, 0), $6)
			 ON CONFLICT (user_id) DO UPDATE SET language = coalesce($2, s.language), time_zone = coalesce($3, s.time_zone),
			   quiet_from = coalesce($4, s.quiet_from), quiet_until = coalesce($5, s.quiet_until), updated_at = $6`,
			user, c.Language, c.Zone, from, until, n.now()); err != nil {
			return err
		}
		for k, channels := range c.Preferences {
			for name, on := range channels {
				if _, err := tx.Exec(ctx,
					`INSERT INTO notify_preferences (user_id, kind, channel, enabled) VALUES ($1, $2, $3, $4)
					 ON CONFLICT (user_id, kind, channel) DO UPDATE SET enabled = $4`, user, k, name, on); err != nil {
					return err
				}
			}
		}
		w, err = n.wishes(ctx, tx, user)
		return err
	})
	if err != nil {
		return Wishes{}, fmt.Errorf("change notification settings: %w", err)
	}
	return w, nil
}
