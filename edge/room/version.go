package room

import (
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// applying is a membership version that somebody waits for.
type applying struct {
	version uint64
	asker   regions.NodeID
	until   time.Time
}

// MembershipChanged spreads a membership version and answers the asking node
// with Applied when all nodes of the region with sessions here have applied it.
// It does not answer if they take longer than ApplyWait: the asker has the same
// limit, and a node that is cut off lets its memberships lapse.
func (r *Room) MembershipChanged(now time.Time, asker regions.NodeID, version uint64) []Effect {
	r.used = now
	if version > r.version {
		r.raise(now, version, 0, 0)
		r.tell(now)
		r.emit(&wire.Event{Body: &wire.Event_Changed{Changed: &wire.Changed{Version: version}}})
	} else if slices.ContainsFunc(r.nodes, func(n *node) bool { return n.applied < version }) {
		r.hint() // a former owner may have told only some
	}
	r.applying = append(r.applying, applying{version, asker, now.Add(r.cfg.ApplyWait)})
	r.checkApplied()
	return r.take()
}

// Applied takes a node's word that all its sessions in the room were checked
// against a version, and those of no members are gone.
func (r *Room) Applied(now time.Time, from regions.NodeID, version uint64) []Effect {
	r.used = now
	r.raise(now, version, 0, 0) // we may be new here
	if n := r.node(from); n != nil && version > n.applied {
		n.applied = version
		r.checkApplied()
	}
	return r.take()
}

func (r *Room) checkApplied() {
	if len(r.applying) == 0 {
		return
	}
	lowest := ^uint64(0)
	for _, n := range r.nodes {
		if !n.lost {
			lowest = min(lowest, n.applied)
		}
	}
	r.applying = slices.DeleteFunc(r.applying, func(a applying) bool {
		if a.version > lowest {
			return false
		}
		r.toNode(a.asker, &peer.Frame{Body: &peer.Frame_Applied{Applied: &peer.Applied{Room: r.id, Version: a.version}}})
		return true
	})
}

func (r *Room) giveUpApplying(now time.Time) {
	r.applying = slices.DeleteFunc(r.applying, func(a applying) bool { return due(a.until, now) })
}
