package location

import (
	"context"
	"errors"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/geo/grant"
)

// How somebody came to see a position.
type How string

const (
	ByRoom   How = "room"   // told into a room that they followed
	ByRead   How = "read"   // asked for a group's positions or distances
	ByNearby How = "nearby" // asked who is near, or looked at the map
	ByLink   How = "link"   // opened a link
)

// Recorder writes receipts and private tracks, many at once, behind the back of
// who reports them: none of its methods blocks. What waits in it is bounded;
// Stop writes what is left. It is a run.Service.
type Recorder struct{}

// NewRecorder returns a Recorder for the rows of s.
func NewRecorder(s *Store) *Recorder { return &Recorder{} }

func (r *Recorder) Start(context.Context) error { return errors.ErrUnsupported }
func (r *Recorder) Stop()                       {}

// Told notes that a room was told where the subject is, from then until then.
// Calls whose times meet become one interval.
func (r *Recorder) Told(room string, subject core.UserID, p grant.Precision, from, until time.Time) {}

// Followed notes that somebody heard what was told into a room.
func (r *Recorder) Followed(room string, viewer core.UserID, from, until time.Time) {}

// Read notes that somebody asked and got an answer.
func (r *Recorder) Read(viewer, subject core.UserID, how How, p grant.Precision, at time.Time) {}

// Keep puts a fix into the user's private track, if there is one.
func (r *Recorder) Keep(user core.UserID, raw grant.Raw) {}
