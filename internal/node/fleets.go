package node

import (
	"context"
	"fmt"
	"sync"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
)

// fleetChoices is core/fleets as the edge sees it: who sees the subjects of a
// fleet, as of a version. The Sharer asks once for all of them, and keeps the
// answer.
type fleetChoices func(context.Context, core.FleetID) (fleets.Shown, uint64, error)

func (read fleetChoices) of(ctx context.Context, fleet string, min uint64) (edge.Choices, error) {
	id, err := core.ParseFleetID(fleet)
	if err != nil {
		return edge.Choices{}, err
	}
	shown, version, err := read(ctx, id)
	switch {
	case err != nil:
		return edge.Choices{}, err
	case version == 0: // it is no more, and that is later than any version
		version = min
	case version < min:
		return edge.Choices{}, location.ErrBehind
	}
	var grants []grant.Grant
	if shown.Precision != grant.None {
		grants = append(grants, grant.Grant{Audience: grant.Audience{Kind: grant.Discoverable}, Precision: shown.Precision, Expires: shown.Expires})
	}
	set, err := grant.NewSet(grants, nil, false)
	if err != nil {
		return edge.Choices{}, fmt.Errorf("choices of a fleet: %w", err)
	}
	return edge.Choices{Set: set, Version: version}, nil
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
