package hub

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

const (
	numbersTick     = 250 * time.Millisecond
	numbersParallel = 4           // reads at the same time
	numbersTimeout  = time.Second // of one read
)

// numbers is the list of rooms that this node owns and of whose messages or
// revisions some may have been stored and never got here: the owner is new, or the node that
// stored them died, or its link to us broke. The owner reads the room's last
// numbers then and tells it to everybody; who lacks some fetches
// them. The receipts of late it tells again, which changes nothing for whoever has
// heard them. The list is bounded by the rooms of this node.
type numbers struct {
	mu    sync.Mutex
	rooms map[string]bool
}

func (n *numbers) ask(room string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rooms == nil {
		n.rooms = map[string]bool{}
	}
	n.rooms[room] = true
}

func (n *numbers) take() map[string]bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	rooms := n.rooms
	n.rooms = nil
	return rooms
}

// NodeDown tells that the region has given a node up. What it stored last, for
// whomever, may have been told to nobody, even if it never spoke to us.
func (h *Hub) NodeDown() { h.eachOwned(func(_ *turn, o *owned) { h.numbers.ask(o.id) }) }

func (h *Hub) runNumbers(ctx context.Context) {
	ticker := time.NewTicker(numbersTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if edge.Fencing && !h.cfg.Roster.Current() {
			continue // it may not tell anybody
		}
		var g errgroup.Group
		g.SetLimit(numbersParallel)
		for room := range h.numbers.take() {
			g.Go(func() error {
				h.readNumber(ctx, room)
				return nil
			})
		}
		_ = g.Wait()
	}
}

func (h *Hub) readNumber(ctx context.Context, room string) {
	ctx, cancel := context.WithTimeout(ctx, numbersTimeout)
	defer cancel()
	last, err := h.cfg.Messages.Last(ctx, room)
	if err != nil {
		h.log.DebugContext(ctx, "last numbers can't be read, trying again", "room", room, "err", err)
		h.numbers.ask(room)
		return
	}
	var lately []*wire.Seen
	if h.cfg.Lately != nil {
		if lately, err = h.cfg.Lately(ctx, room); err != nil {
			h.log.DebugContext(ctx, "receipts can't be read, trying again", "room", room, "err", err)
			h.numbers.ask(room)
		}
	}
	t := h.begin(room)
	defer t.end()
	if o := t.owned(); o != nil {
		members := o.Len()
		t.apply(o, members, o.Last(t.now, last))
		if len(lately) > 0 {
			t.apply(o, members, o.Receive(t.now, &wire.Receipts{Seen: lately}))
		}
	} else if t.sl.rooms[room] != nil {
		h.numbers.ask(room) // it may not act right now
	}
}
