package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/dir"
	"github.com/mustermesh/muster/core/objects/s3"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/core/privacy"
	"github.com/mustermesh/muster/core/users"
)

// openObjects opens where pictures and exports are: s3://bucket/prefix?…, or a
// directory.
func openObjects(ctx context.Context, where string) (store objects.Store, end func(), err error) {
	if strings.Contains(where, "://") {
		store, err = s3.Open(ctx, where)
		return store, func() {}, err
	}
	d, err := dir.Open(where)
	if err != nil {
		return nil, nil, err
	}
	return d, func() { _ = d.Close() }, nil
}

// profiles is what a node does about users as others see them, and about what is
// stored of them.
type profiles struct {
	pictures *users.Pictures // nil without objects, like privacy
	cards    *users.Cards
	privacy  *privacy.Store
	rights   interface { // what users may do changes with their profile
		Changed(user core.UserID, version uint64)
	}
}

// profilesConfig is what profiles is made of on a node.
type profilesConfig struct {
	people   *users.Store
	accounts *auth.Service
	friends  *friends.Store
	groups   privacy.Groups
	places   *location.Store
	fleets   *fleets.Store
	notify   privacy.Notifier
	files    *files
	withdraw func(ctx context.Context, user core.UserID) error // a position that is in memory
	work     *work
	tell     *tell
}

func newProfiles(cfg *Config, c profilesConfig) (*profiles, error) {
	cards, err := users.NewCards(c.people, users.CardsConfig{Hidden: c.friends.Parted, Metrics: cfg.Metrics})
	if err != nil {
		return nil, err
	}
	p := &profiles{cards: cards}
	c.work.tell(outbox.Only("user", cardChanges{c.tell, p.heard}))
	if c.files == nil {
		return p, nil
	}
	base := appBase(cfg.InviteBase)
	if base == "" {
		base = "/" // of whoever answers
	}
	p.pictures = users.NewPictures(c.people, c.files.catalog, base+"api/v1/pictures/", c.files.turn)
	p.privacy, err = privacy.New(cfg.DB, cfg.Secret, privacy.Config{
		Accounts: c.accounts, Groups: c.groups, Objects: c.files.catalog, Notify: c.notify, Base: strings.TrimSuffix(base, "/"), Log: cfg.Log,
		Changed: func(ctx context.Context, tx pgx.Tx, user core.UserID) error {
			_, err := users.Changed(ctx, tx, user)
			return err
		},
		Gone: []func(context.Context, core.UserID) error{c.withdraw, func(ctx context.Context, user core.UserID) error {
			return endFleets(ctx, c.fleets, user)
		}},
		Extra: map[string]func(context.Context, core.UserID, func(any) error) error{
			"track": func(ctx context.Context, user core.UserID, add func(any) error) error {
				return exportTrack(ctx, c.places, user, add)
			},
		},
	})
	if err != nil {
		return nil, err
	}
	p.privacy.Handle(c.work.Queue)
	c.work.sweep("exports", p.privacy.Sweep)
	return p, nil
}

// heard applies on this node that what others see of a user has changed.
func (p *profiles) heard(user string, version uint64) {
	if id, err := core.ParseUserID(user); err == nil {
		p.cards.Changed(id, version)
		p.rights.Changed(id, version)
	}
}

// cardChanges tells all nodes which cards are outdated. It is a sink of the outbox.
// One that can't be reached is not told again: what it has lapses by itself.
type cardChanges struct {
	tell *tell
	here func(user string, version uint64)
}

func (cardChanges) Name() string { return "profiles" }

func (c cardChanges) Send(ctx context.Context, events []outbox.Sent) error {
	newest := users.ProfileEvent{}
	for _, e := range events {
		if e.Kind != core.ProfileUpdated {
			continue
		}
		if err := json.Unmarshal(e.Data, &newest); err != nil {
			return fmt.Errorf("profile event: %w", err)
		}
	}
	if newest.User == "" {
		return nil
	}
	c.here(newest.User, newest.Version)
	c.tell.all(ctx, "a profile", &peer.Call{Body: &peer.Call_ProfileChanged{ProfileChanged: &peer.ProfileChanged{User: newest.User, Version: newest.Version}}})
	return nil
}

// endFleets ends what a user's gateways do.
func endFleets(ctx context.Context, owned *fleets.Store, user core.UserID) error {
	list, err := owned.List(ctx, user)
	if err != nil {
		return err
	}
	for _, f := range list {
		if err := owned.Delete(ctx, user, f.ID); err != nil {
			return err
		}
	}
	return nil
}

// trackPage is how many points of a track are read at once.
const trackPage = 1000

func exportTrack(ctx context.Context, places *location.Store, user core.UserID, add func(any) error) error {
	for after := (time.Time{}); ; {
		points, err := places.TrackPoints(ctx, user, after, time.Time{}, trackPage)
		if err != nil {
			return err
		}
		for _, p := range points {
			after = p.Captured
			if err := add(map[string]any{"lat": p.Point.Lat, "lng": p.Point.Lng, "accuracy": p.Accuracy, "timestamp": p.Captured.UTC()}); err != nil {
				return err
			}
		}
		if len(points) < trackPage {
			return nil
		}
	}
}
