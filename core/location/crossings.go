package location

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
)

// Fence is a place of a group.
type Fence struct {
	ID        uuid.UUID
	Name      string
	Shape     json.RawMessage // as geo/fence reads it
	Dwell     time.Duration   // 0: no dwell event
	CreatedBy core.UserID     // zero: is no user any more
	CreatedAt time.Time
}

// FenceState is how somebody stands to a fence, or two members to each other.
type FenceState struct {
	Fence       uuid.UUID   // zero: of two members
	User, Other core.UserID // Other is zero but for two members
	N           uint64      // how many crossings there were
	Inside      bool
	At          time.Time // of the last one
}

// Fencing is what the owner of a group's room needs to run its fences.
type Fencing struct {
	Version uint64  // of the group: changes of fences add one, as those of members do
	Meet    float64 // metres at which two members meet; 0: they are not watched
	Fences  []Fence
	States  []FenceState
}

// Fencing returns the fences of a group's room, as of version min or later.
func (s *Store) Fencing(ctx context.Context, room string, min uint64) (Fencing, error) {
	return Fencing{}, errors.ErrUnsupported
}

// Crossing is something that happened at a fence.
type Crossing struct {
	ID          uuid.UUID
	Kind        CrossingKind
	Fence       uuid.UUID // zero: two members met or parted
	Name        string    // of the fence
	User, Other core.UserID
	At          time.Time
	Passed      bool   // through, between two fixes
	N           uint64 // the state's after it, from 1
}

// CrossingKind is a kind of crossing.
type CrossingKind string

const (
	Enter CrossingKind = "enter"
	Exit  CrossingKind = "exit"
	Dwell CrossingKind = "dwell"
	Meet  CrossingKind = "meet"
	Part  CrossingKind = "part"
)

// Cross stores a crossing if it is the next one of its fence and people, whose
// state has N-1, and reports whether it did: only then it is to be published. If
// another owner was first it returns the state that is there. The same crossing
// (ID) again is stored.
func (s *Store) Cross(ctx context.Context, room string, c Crossing) (now FenceState, stored bool, err error) {
	return FenceState{}, false, errors.ErrUnsupported
}
