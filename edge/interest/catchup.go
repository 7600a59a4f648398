package interest

import (
	"slices"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// catchUpFixes of a frame.
const catchUpFixes = 128

// catchUp tells a client what its room's fixes said while it watched an area
// instead. Who stands still would not say so again, nor who withdrew.
func (p *place) catchUp(c edge.Client, since uint64) {
	for fixes := range slices.Chunk(p.scene.since(since), catchUpFixes) {
		c.Deliver(edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: p.room, Fixes: fixes}}}))
	}
}

// since returns the last fixes of those that were told of since so many fixes were
// applied.
func (s *Scene) since(applied uint64) (fixes []*wire.MemberFix) {
	for _, sub := range s.subjects {
		if sub.applied > applied {
			fixes = append(fixes, sub.fix)
		}
	}
	return fixes
}
