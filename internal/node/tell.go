package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/regions"
)

// tell makes a call to all other nodes. It is a run.Service: Stop waits for what is
// under way. Who tells something after it waits for all nodes.
type tell struct {
	self      regions.NodeID
	region    regions.RegionID
	directory *regions.Directory
	call      func(ctx context.Context, to regions.NodeID, frame []byte) ([]byte, error)
	log       *slog.Logger

	mu   sync.Mutex // guards the following
	over bool
	far  sync.WaitGroup // grows until it is over
}

// tellWait is how long one node may take to answer.
const tellWait = 2 * time.Second

// all tells every other node, and waits for those of this region. what says in
// the log what was told, if somebody could not be.
func (t *tell) all(ctx context.Context, what string, c *peer.Call) {
	frame, err := c.MarshalVT()
	if err != nil {
		t.log.ErrorContext(ctx, "call not encoded", "what", what, "err", err)
		return
	}
	var near sync.WaitGroup
	defer near.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, region := range t.directory.Topology().Regions {
		for _, n := range region.Nodes {
			if n.ID == t.self {
				continue
			}
			one := func() {
				// Each has its own time, so that those far away may take longer
				// than this call.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellWait)
				defer cancel()
				if _, err := t.call(ctx, n.ID, frame); err != nil {
					t.log.WarnContext(ctx, "node not told", "what", what, "to", n.ID, "err", err)
				}
			}
			if region.Name == t.region || t.over {
				near.Go(one)
			} else {
				t.far.Go(one)
			}
		}
	}
}

// later is all without waiting for anybody.
func (t *tell) later(ctx context.Context, what string, c *peer.Call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.far.Go(func() { t.all(context.WithoutCancel(ctx), what, c) })
	}
}

func (t *tell) Start(context.Context) error { return nil }

// Stop waits. The HTTP server has stopped by then, sessions have not.
func (t *tell) Stop() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.far.Wait()
}

// presenceChanges satisfies core/presence's Announcer.
type presenceChanges struct {
	tell     *tell
	settings *settings
	rt       *Realtime
}

func (p *presenceChanges) PresenceChanged(ctx context.Context, user core.UserID, invisible bool) {
	p.heard(ctx, user.String(), invisible)
	p.tell.all(ctx, "a presence setting", &peer.Call{Body: &peer.Call_PresenceChanged{PresenceChanged: &peer.PresenceChanged{
		User: user.String(), Invisible: invisible,
	}}})
}

// heard applies it on this node.
func (p *presenceChanges) heard(ctx context.Context, user string, invisible bool) {
	invisible = p.settings.Changed(ctx, user, invisible)
	p.rt.Sessions.SetInvisible(user, invisible)
	p.rt.Sharer.SetInvisible(user, invisible)
}
