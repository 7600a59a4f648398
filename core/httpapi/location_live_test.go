package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

func (b *bundle) SharingChanged(_ context.Context, u core.UserID, version uint64) {
	b.told(fmt.Sprintf("sharing %s %d", u, version))
}

// fakeWhere is one node's edge in small: fixes go through the grants that the
// store has, when they come and when they are read.
type fakeWhere struct {
	b     *bundle
	mu    sync.Mutex
	users map[core.UserID]*whereUser
	err   error

	refuse    error // of reports
	subjects  map[core.FleetID][]location.Sight
	unreached []string
}

type whereUser struct {
	name  string
	at    *grant.Snapper
	raw   grant.Raw
	posts map[string]time.Time
}

func newFakeWhere(b *bundle) *fakeWhere {
	return &fakeWhere{b: b, users: map[core.UserID]*whereUser{}}
}

const fakeLife = 15 * time.Minute

func (w *fakeWhere) Report(_ context.Context, user core.UserID, name string, raw grant.Raw, groups []core.GroupID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	u := w.users[user]
	if u == nil {
		u = &whereUser{name: name, at: grant.NewSnapper([]byte("secret"), user.String()), posts: map[string]time.Time{}}
		w.users[user] = u
	}
	w.b.record.Keep(user, raw)
	if newer, err := u.at.Take(raw, w.b.clock()); err != nil || !newer {
		return w.err
	}
	u.raw = raw
	for _, g := range groups {
		u.posts[g.String()] = raw.Captured().Add(fakeLife)
	}
	return w.err
}

func (w *fakeWhere) Withdraw(_ context.Context, user core.UserID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.users, user)
	return w.err
}

func (w *fakeWhere) Own(user core.UserID) (grant.Raw, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.users[user]
	if u == nil {
		return grant.Raw{}, false
	}
	return u.raw, true
}

// view is what an audience sees of a user.
func (w *fakeWhere) view(ctx context.Context, user core.UserID, a grant.Audience) (location.Sight, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.users[user]
	if u == nil {
		return location.Sight{}, false
	}
	s, err := w.b.places.Sharing(ctx, user, 0)
	if err != nil {
		return location.Sight{}, false
	}
	for g, until := range u.posts {
		s.Grants.Post(g, until)
	}
	v, ok := s.Grants.View(w.b.clock(), u.at, a)
	return location.Sight{User: user, Name: u.name, View: v, Until: u.raw.Captured().Add(fakeLife)}, ok
}

func (w *fakeWhere) known() []core.UserID {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]core.UserID, 0, len(w.users))
	for id := range w.users {
		ids = append(ids, id)
	}
	return ids
}

func (w *fakeWhere) Room(ctx context.Context, room string) (found location.Found, err error) {
	found.Unreached = w.unreached
	for _, id := range w.known() {
		var a grant.Audience
		if group, ok := core.GroupOf(room); ok {
			a = grant.Audience{Kind: grant.Group, ID: group.String()}
		} else if other, ok := core.DirectOther(id, room); ok {
			a = grant.Audience{Kind: grant.Person, ID: other.String()}
		} else {
			a = grant.Audience{Kind: grant.Link, ID: room[len("link:"):]}
		}
		if s, ok := w.view(ctx, id, a); ok {
			found.Sights = append(found.Sights, s) // also what has lapsed: who reads leaves it out
		}
	}
	return found, w.err
}

func (w *fakeWhere) Near(ctx context.Context, viewer core.UserID, fleet core.FleetID, center geo.Point, radius float64, limit int) (found location.Found, err error) {
	found.Unreached = w.unreached
	if fleet != (core.FleetID{}) {
		found.Sights = w.subjects[fleet]
		return found, w.err
	}
	var out []location.Sight
	for _, id := range w.known() {
		if s, ok := w.view(ctx, id, grant.Audience{Kind: grant.Discoverable}); ok && geo.Distance(center, s.View.Point) <= radius {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(x, y location.Sight) int {
		return cmp.Compare(geo.Distance(center, x.View.Point), geo.Distance(center, y.View.Point))
	})
	if len(out) > limit {
		out, found.More = out[:limit], true
	}
	found.Sights = out
	return found, w.err
}
