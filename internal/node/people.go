package node

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/api/wire"
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
	parted  *partings // who else has to know of a block
}

func newPeople(cfg *Config, region string, where *location.Store, announce groups.Announcer, talk *conversations, notify friends.Notifier, members allowance, w *work) people {
	parted := &partings{Store: where}
	parted.also(talk.Parted)
	p := people{
		parted:  parted,
		friends: friends.New(cfg.DB, friends.Config{Sharing: parted, Notify: notify}),
		groups:  groups.New(cfg.DB, region, groups.Config{Announce: announce, Leaving: where, Talk: talk, Notify: notify, Members: members, LinkBase: cfg.InviteBase}),
	}
	w.sweep("friend_requests", p.friends.Sweep)
	return p
}

// partings are all who have to know that two people are on no terms any more: where
// they see each other, and what comes to be on a node after that.
type partings struct {
	*location.Store
	others []func(ctx context.Context, tx pgx.Tx, by, other core.UserID) error
}

// also has one more know, from before the node starts.
func (p *partings) also(end func(ctx context.Context, tx pgx.Tx, by, other core.UserID) error) {
	p.others = append(p.others, end)
}

// Parted satisfies friends.Sharing.
func (p *partings) Parted(ctx context.Context, tx pgx.Tx, by, other core.UserID) error {
	if err := p.Store.Parted(ctx, tx, by, other); err != nil {
		return err
	}
	for _, end := range p.others {
		if err := end(ctx, tx, by, other); err != nil {
			return err
		}
	}
	return nil
}

// renamed is for whoever gives users other names: see users.Store.OnName.
func renamed(ctx context.Context, tx pgx.Tx, user core.UserID) error {
	if _, err := users.Changed(ctx, tx, user); err != nil {
		return err
	}
	return friends.Renamed(ctx, tx, user)
}

// wholeRoom is up to how many people a room is looked through to count them without
// those whom a viewer must not see. In a crowd one more tells nobody anything.
const wholeRoom = 500

// People returns a page of a room's people, and how many they are, as a viewer may
// see them: without those with whom they are on no terms.
func (r *Realtime) People(ctx context.Context, viewer, room, after string, limit int) (*wire.PeoplePage, error) {
	page, err := r.page(ctx, room, after, limit)
	if err != nil {
		return nil, err
	}
	hidden, err := r.cfg.Blocks.Blocked(ctx, viewer)
	if err != nil || len(hidden) == 0 {
		return page, err
	}
	all := page
	counts := &wire.Counts{Live: page.GetCounts().GetLive(), Suspended: page.GetCounts().GetSuspended()}
	if (after != "" || page.GetMore()) && counts.Live+counts.Suspended <= wholeRoom {
		if all, err = r.page(ctx, room, "", wholeRoom); err != nil {
			return nil, err
		}
	}
	for _, p := range all.GetPeople() {
		if hidden[p.GetUser()] {
			counts.Without(stateOf(p))
		}
	}
	for {
		seen := slices.DeleteFunc(slices.Clone(page.GetPeople()), func(p *wire.Person) bool { return hidden[p.GetUser()] })
		if len(seen) > 0 || !page.GetMore() {
			return &wire.PeoplePage{Room: room, People: seen, More: page.GetMore(), Counts: counts}, nil
		}
		// Who asks for the next page names the last one of this.
		if page, err = r.page(ctx, room, page.People[len(page.People)-1].GetUser(), limit); err != nil {
			return nil, err
		}
	}
}

// stateOf is how a person is there, by the best of their devices.
func stateOf(p *wire.Person) wire.State {
	best := wire.State_LEFT
	for _, d := range p.GetDevices() {
		if d.GetState() != wire.State_STATE_UNSPECIFIED {
			best = min(best, d.GetState())
		}
	}
	return best
}
