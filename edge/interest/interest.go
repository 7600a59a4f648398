package interest

import (
	"context"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
)

// Rooms reads what rooms know.
type Rooms interface {
	// Fixes returns the last fix of every member of a room, from all regions, as
	// the room's members may know them. With an error what it returns is not used.
	Fixes(ctx context.Context, room string) ([]*wire.MemberFix, error)
}

// Map finds discoverable people (edge/nearby through internal/node).
type Map interface {
	// Box returns the discoverable people in a box, all of them or, if the answer
	// is not Whole, those who changed since the answer that gave the mark; nil: all.
	Box(ctx context.Context, box *wire.Box, since any) (Found, error)
}

// Found is an answer of the map.
type Found struct {
	// Points, snapped as their grants say, one a user. Without a fix, or a point
	// in it: gone, whatever version is known. What is outside the box does no harm.
	Points []*peer.MapPoint
	Whole  bool // who is not listed is not there (any more)
	Mark   any  // to ask for what changes from here on
}
