package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
)

// fleetChoices is core/fleets as the edge sees it: who sees the subjects of a
// fleet. There may be a million of them, so an answer is kept for a moment, and
// whoever asks meanwhile waits for the same one.
//
// A version that was told is never undercut: an answer of an earlier one, also one
// that was on its way when it was told, is not given any more.
type fleetChoices struct {
	read func(context.Context, core.FleetID) (fleets.Shown, uint64, error)

	mu    sync.Mutex // guards the following
	known map[string]*fleetEntry
}

type fleetEntry struct {
	id      core.FleetID
	told    uint64    // the version that was told last
	at      time.Time // when what follows was asked for; zero: it is not known
	shown   fleets.Shown
	version uint64
	under   chan struct{} // closed when a read under way is over; nil: none
	waiting int           // who is in Choices: the entry is not to be forgotten
}

const (
	// fleetFor is short of what a Sharer adds to it, so that a change that nobody
	// could tell holds after 30 s all the same.
	fleetFor  = 5 * time.Second
	fleetMost = 10_000 // answers are kept
)

func newFleetChoices(read func(context.Context, core.FleetID) (fleets.Shown, uint64, error)) *fleetChoices {
	return &fleetChoices{read: read, known: map[string]*fleetEntry{}}
}

// Choices returns those of a fleet as of version min or later.
func (f *fleetChoices) Choices(ctx context.Context, fleet string, min uint64) (edge.Choices, error) {
	id, err := core.ParseFleetID(fleet)
	if err != nil {
		return edge.Choices{}, err
	}
	began := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.entry(fleet, id)
	e.waiting++
	defer func() { e.waiting-- }()
	for e.version < max(min, e.told) || e.at.Before(began) && time.Since(e.at) >= fleetFor {
		if e.under != nil {
			err = f.wait(ctx, e)
		} else {
			err = f.ask(ctx, e, min)
		}
		if err != nil {
			return edge.Choices{}, err
		}
	}
	return choicesOf(e.shown, e.version)
}

func choicesOf(s fleets.Shown, version uint64) (edge.Choices, error) {
	var grants []grant.Grant
	if s.Precision != grant.None {
		grants = append(grants, grant.Grant{Audience: grant.Audience{Kind: grant.Discoverable}, Precision: s.Precision, Expires: s.Expires})
	}
	set, err := grant.NewSet(grants, nil, false)
	if err != nil {
		return edge.Choices{}, fmt.Errorf("choices of a fleet: %w", err)
	}
	return edge.Choices{Set: set, Version: version}, nil
}

// entry returns what is known of a fleet.
func (f *fleetChoices) entry(fleet string, id core.FleetID) *fleetEntry {
	e := f.known[fleet]
	if e != nil {
		return e
	}
	for other, old := range f.known { // any: it is asked for again
		if len(f.known) < fleetMost {
			break
		}
		if old.waiting == 0 {
			delete(f.known, other)
		}
	}
	e = &fleetEntry{id: id}
	f.known[fleet] = e
	return e
}

// wait waits for a read of somebody else. It may have begun too early to be good
// enough: the caller looks again.
func (f *fleetChoices) wait(ctx context.Context, e *fleetEntry) error {
	over := e.under
	f.mu.Unlock()
	defer f.mu.Lock()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ask reads the choices for all who wait. An answer that is older than what was
// told before it was asked for is an error: it is on its way.
func (f *fleetChoices) ask(ctx context.Context, e *fleetEntry, min uint64) error {
	over, at, need := make(chan struct{}), time.Now(), max(min, e.told, e.version)
	e.under = over
	f.mu.Unlock()
	shown, version, err := f.read(ctx, e.id)
	f.mu.Lock()
	e.under = nil
	close(over)
	switch {
	case err != nil:
		return err
	case version == 0: // it is no more, and that is later than any version
		shown, version = fleets.Shown{}, max(need, e.told)
	case version < need:
		return location.ErrBehind
	}
	e.at, e.shown, e.version = at, shown, version
	return nil
}

// Changed hears that a fleet's choices have a new version.
func (f *fleetChoices) Changed(fleet string, version uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.known[fleet]; e != nil { // else whoever asks next reads it
		e.told = max(e.told, version)
	}
}

// fleetChanges satisfies core/fleets' Announcer.
type fleetChanges struct {
	sharing *sharingChanges
	revoked *revocations
}

var _ fleets.Announcer = fleetChanges{}

func (c fleetChanges) FleetChanged(ctx context.Context, fleet core.FleetID, version uint64) {
	c.sharing.all(ctx, &peer.SharingChanged{User: edge.FleetUser(fleet.String()), Version: version})
}

func (c fleetChanges) KeysRevoked(ctx context.Context, keys []core.LoginID) {
	var told sync.WaitGroup
	for _, k := range keys {
		told.Go(func() { c.revoked.LoginRevoked(ctx, k) })
	}
	told.Wait()
}
