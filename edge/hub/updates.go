package hub

import (
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// Update has updates of a room numbered and spread, in this order, if this node
// owns the room; they are when it returns nil. Else whoever asks is to find the
// owner again: to be told twice does no harm, and to be lost with an owner that is
// none any more would. epoch is that of the room's slot here, as the asker knows it.
func (h *Hub) Update(room string, updates []*wire.Update, epoch regions.Epoch) error {
	t := h.begin(room)
	defer t.end()
	if edge.Fencing {
		t.sl.heard = max(t.sl.heard, epoch)
	}
	if t.sl.owner != h.cfg.Self || t.sl.over != nil || !t.current() {
		return errRetry
	}
	o := t.ownedOrNew()
	for _, u := range updates {
		members := o.Len()
		t.apply(o, members, o.Update(t.now, u))
	}
	return nil
}
