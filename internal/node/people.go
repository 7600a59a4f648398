package node

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/users"
)

// people are who knows whom: friends and groups. They meet here with what a
// friendship, a block or a membership means for positions, and with the ways by
// which people are told.
type people struct {
	friends *friends.Store
	groups  *groups.Store
}

// notifier is core/notify as friends and groups see it.
type notifier interface {
	Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error
}

func newPeople(cfg *Config, region string, where *location.Store, announce groups.Announcer, notify notifier, w *work) people {
	p := people{
		friends: friends.New(cfg.DB, friends.Config{Sharing: where, Notify: notify}),
		groups:  groups.New(cfg.DB, region, groups.Config{Announce: announce, Leaving: where, Notify: notify, LinkBase: cfg.InviteBase}),
	}
	w.sweep("friend_requests", p.friends.Sweep)
	return p
}

// renamed is for whoever gives users other names: see users.Store.OnName.
func renamed(ctx context.Context, tx pgx.Tx, user core.UserID) error {
	if _, err := users.Changed(ctx, tx, user); err != nil {
		return err
	}
	return friends.Renamed(ctx, tx, user)
}
