package location

import (
	"context"
	"errors"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// Live is where people are now, as the mesh knows it. Who may ask is checked
// before it is called, except where it says otherwise.
type Live interface {
	// Report takes a fix of a user's that did not come through a session and
	// shows it to whom their grants say, and to groups, which the fix names. One
	// that was captured before the last goes to the private track alone. name is
	// the user's.
	Report(ctx context.Context, user core.UserID, name string, raw grant.Raw, groups []core.GroupID) error
	// Withdraw takes the user's position back everywhere, and what fixes that
	// named a group granted.
	Withdraw(ctx context.Context, user core.UserID) error
	// Room returns the newest view of each person in a room (a group's, one of
	// two, a link's), without those that lapsed or were withdrawn.
	Room(ctx context.Context, room string) ([]Sight, error)
	// Own returns the user's own last fix if this node has it.
	Own(user core.UserID) (grant.Raw, bool)
	// Near returns the discoverable people within a radius in metres, the nearest
	// first, without the viewer, whom they blocked or are blocked by, and what
	// lapsed. more: there are others.
	Near(ctx context.Context, viewer core.UserID, center geo.Point, radius float64, limit int) (list []Sight, more bool, err error)
}

// Sight is somebody's position as an audience sees it.
type Sight struct {
	User  core.UserID
	Name  string // may be empty
	View  grant.View
	Until time.Time // when it lapses
}

// Announcer tells other nodes what changed, after the commit. Both methods
// return when those of this region know, and bound their own time.
type Announcer interface {
	// SharingChanged: a user's grants, zones, links, blocks or pauses are now of
	// this version or later.
	SharingChanged(ctx context.Context, user core.UserID, version uint64)
	// MembershipChanged: who may be in a room changed (of two), or the fences of
	// a group's did.
	MembershipChanged(ctx context.Context, room string, version uint64)
}

// Sharing is all that an edge needs to show a user's fixes to others.
type Sharing struct {
	Grants  *grant.Set // the caller's own
	Version uint64     // of which this is
	Track   bool       // the user keeps a private track
}

// Sharing returns what a user shares, as of version min or later; ErrBehind
// means that the database it asked doesn't know min yet. A link is the audience
// Link with the link's id, served through the room LinkRoom.
func (s *Store) Sharing(ctx context.Context, user core.UserID, min uint64) (Sharing, error) {
	return Sharing{}, errors.ErrUnsupported
}

// Standing is what an edge must know to let somebody into a room of two.
type Standing struct {
	Username string
	Version  uint64
}

// DirectMember returns a user's standing in a room of two, or ErrNotDirect.
func (s *Store) DirectMember(ctx context.Context, user core.UserID, room string, min uint64) (Standing, error) {
	return Standing{}, errors.ErrUnsupported
}

// DirectRoom is the id of the room of two people.
func DirectRoom(a, b core.UserID) string {
	x, y := a.String(), b.String()
	return "direct:" + min(x, y) + ":" + max(x, y)
}

// LinkRoom is the id of the room through which a link's views go. Nobody can
// join it.
func LinkRoom(link string) string { return "link:" + link }

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Now      func() time.Time // default time.Now
	Announce Announcer        // may be nil
}

// Store is all of it. It is safe for concurrent use.
type Store struct {
	db  *db.DB
	cfg Config
}

// New returns a Store.
func New(d *db.DB, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, cfg: cfg}
}
