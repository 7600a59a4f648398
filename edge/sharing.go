package edge

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/regions"
)

// How a fix goes. Whoever takes one gives it to the Sharer (edge/share), as a
// grant.Raw that nobody can read. The Sharer asks Sharing what the subject chose
// and turns the fix into a View per audience; what comes after it, rooms, map,
// fences, lists, knows nothing finer.
//
//	session Report ─┐                  ┌─▶ Hub.Report (rooms of the session), Hub.Post (others)
//	HTTP ───────────┼─▶ Sharer ─Views──┼─▶ Map.Put (whoever is near)
//	fleet's Ingest ─┘     │            └─▶ Receipts.Told
//	                      ├─Raw─▶ Sharing.Keep (the subject's own track)
//	                      └─the cells it told, sealed─▶ Sharing.Remember

const (
	// PostDevice stands for a device in fixes that came otherwise than through a
	// session in the room, and in all coarse ones: a user has one such fix per
	// room. No session's device may be called so.
	PostDevice = "http"

	// FixLife is how long after its capture a fix is shown. A coarse one (its
	// Fix.cell is set) is told at a moment of the subject's, which may be
	// CoarseLife apart, and lives for so much longer.
	FixLife    = 15 * time.Minute
	CoarseLife = 15 * time.Minute
)

// Lapses returns when a fix is shown no longer.
func Lapses(f *wire.Fix) time.Time {
	t := f.GetCaptured().AsTime().Add(FixLife)
	if f.GetCell() != 0 {
		t = t.Add(CoarseLife)
	}
	return t
}

// Choices are what a user chose about who may see where they are.
type Choices struct {
	Set     *grant.Set // the caller's own; without what posts granted
	Version uint64     // grows with every change of them
	Track   bool       // every fix is to be kept: see Sharing.Keep
	// Withdrawn is when they last took their position back, zero for never: see
	// Sharer.Withdraw, of which a node may not have heard.
	Withdrawn time.Time

	Memory   []byte // what Sharing.Remember stored last; nil: nothing
	Memories uint64 // its version
}

// Sharing knows what users chose (core/location).
type Sharing interface {
	// Sharing returns a user's choices as of version min or later. Grants for
	// groups that the user is no member of, and for people with whom the user
	// is on no terms (blocks), are not in the set.
	Sharing(ctx context.Context, user string, min uint64) (Choices, error)
	// Keep takes a fix for the user's own track, late ones too. It must not
	// block, and may be called for a fix again.
	Keep(user string, raw grant.Raw)
	// Remember stores a grant.Snapper's memory in place of the one of that version.
	// It must not block. It may come to nothing, as it does if that version is no
	// longer the stored one: who then reads the choices gives theirs again.
	Remember(user string, memory []byte, version uint64)
}

// Receipts remember who saw whom (core/location). Nothing in it blocks. An
// interval is told when it begins (until equals from), again and again while it
// lasts, and when it ends: the same from is the same interval.
type Receipts interface {
	// Told notes that a subject was told into a room at a precision.
	Told(room, subject string, precision grant.Precision, from, until time.Time)
	// Saw notes that a viewer followed a room.
	Saw(room, viewer string, from, until time.Time)
	// Read notes that a viewer asked and got an answer: how is "group",
	// "proximity", "nearby", "link" and the like.
	Read(viewer, subject, how string, precision grant.Precision, at time.Time)
}

// Neighbour is somebody near, as a viewer may see them.
type Neighbour struct {
	User, Name string
	View       grant.View
	Distance   float64 // metres, to the view's point
	Bearing    float64 // degrees from true north
}

// Map is where discoverable people are, in all regions (edge/nearby).
type Map interface {
	// Put shows a user until a moment, in place of what was put before, or a subject
	// of a fleet (Subject): each fleet's are apart from people and from those of
	// others. It does not block.
	Put(user, name string, view grant.View, until time.Time)
	// Gone shows a user no more. It does not block.
	Gone(user string)
	// Near returns the nearest people within radius metres of a point, but for
	// the viewer and those who are on no terms with them, at most limit; or the
	// nearest subjects of a fleet, if one is named. That some region can't be asked
	// is no error. Its errors are CodeBadRequest and CodeRetry.
	Near(ctx context.Context, viewer, fleet string, at geo.Point, radius float64, limit int) (Nearby, error)
}

// Nearby is what Map.Near found.
type Nearby struct {
	People []Neighbour // the nearest first
	More   bool        // there are others
	// Unreached are the regions that could not be asked, or not for all that is
	// theirs: people there may be missing.
	Unreached []regions.RegionID
}

// Blocks says who is on no terms with whom (core/friends).
type Blocks interface {
	// Blocked returns whom a viewer must not see, nor be seen by. It is asked often:
	// the answer may come from a cache.
	Blocked(ctx context.Context, viewer string) (map[string]bool, error)
}

// Sharer is the choke point (edge/share), as those see it who take fixes.
type Sharer interface {
	// Report takes a fix of a session, its n-th. The named rooms, all of which
	// the session is in, are granted the exact position for FixLife unless the
	// user chose otherwise for them. It is told to every audience that holds a
	// grant. Calls for a client are made in order.
	Report(c Client, n uint64, raw grant.Raw, rooms []string) error
	// Post is Report for a fix without a session: by HTTP, or of a fleet. The
	// caller has checked that the user may be in the rooms.
	Post(user, name string, raw grant.Raw, rooms []string) error
	// Withdraw has everybody forget where a user was at a moment and before, and
	// ends what posts granted. Other nodes are told by the caller.
	Withdraw(user string, at time.Time)
	// Changed tells that a user's choices have a new version.
	Changed(user string, version uint64)
	// FleetChanged is Changed for all subjects of a fleet (FleetOf).
	FleetChanged(fleet string, version uint64)
	// Gone tells that a session is over: its fixes went with it.
	Gone(c Client)
	// Own returns the user's newest fix that this node has, for that user alone.
	Own(user string) (raw grant.Raw, ok bool)
}
