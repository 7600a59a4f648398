package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions/roster"
)

const (
	// stale is when a node may no longer act on its copy of the roster.
	stale = 2 * time.Second
	// proveEvery leaves time for several proofs, and for an election, in that.
	proveEvery = 400 * time.Millisecond
	// retryPause is how long to wait where nothing tells when to try again.
	retryPause = 50 * time.Millisecond
	// calmAfter is how long no node may have changed before slots of living
	// nodes are moved.
	calmAfter = time.Second
)

// prove shows again and again that this node's copy of the roster is the latest.
// What the copy got on the way there waits for the hooks: the proof goes behind
// it, so that the edge is not current before it was told whose its slots are now.
func (c *Cluster) prove(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		wait := retryPause
		if c.node.Read(ctx) == nil {
			c.events.push(proof(began))
			wait = proveEvery - time.Since(began)
		}
		pause(ctx, wait)
	}
}

// Read returns when this node's copy of the roster has all that the region had
// noted when it was called.
func (c *Cluster) Read(ctx context.Context) error { return c.node.Read(ctx) }

// Contact is the latest time at which this node's copy of the roster is known
// to have been the region's latest, as far as the hooks were told; zero: never.
func (c *Cluster) Contact() time.Time {
	if at := c.proved.Load(); at != 0 {
		return c.origin.Add(time.Duration(at))
	}
	return time.Time{}
}

// Current reports whether this node is in, and what its hooks were told of the
// roster was the region's latest less than 2 s ago.
func (c *Cluster) Current() bool {
	select {
	case <-c.failed:
		return false
	default:
	}
	select {
	case <-c.ready:
		at := c.proved.Load()
		return at != 0 && time.Since(c.origin)-time.Duration(at) < stale
	default:
		return false
	}
}

// stay has the region know that this node is up, from the start and whenever
// it doesn't.
func (c *Cluster) stay(ctx context.Context) {
	var calm <-chan time.Time
	for was := false; ; {
		in, err := c.standing(was)
		switch {
		case err != nil:
			c.fail(err)
			return
		case !in:
			if was {
				c.log.WarnContext(ctx, "given up by the region, and back")
			}
			if err := c.up(ctx); err != nil {
				if ctx.Err() == nil {
					c.fail(err)
				}
				return
			}
			continue
		case !was:
			was = true
			c.events.begin()
			close(c.ready)
			c.log.InfoContext(ctx, "in the region", "region", c.cfg.Region, "incarnation", c.cfg.Incarnation)
		}
		select {
		case <-c.nodes:
			calm = time.After(calmAfter)
		case <-calm:
			wake(c.planned)
		case <-c.failed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// standing is how the roster has this node; was says that it was in before.
func (c *Cluster) standing(was bool) (in bool, err error) {
	c.View(func(s *roster.State, _ uint64) {
		switch n, known := s.Node(c.cfg.Self); {
		case n.Incarnation > c.cfg.Incarnation:
			err = ErrReplaced
		case was && !known:
			err = ErrRemoved
		default:
			in = known && n.Incarnation == c.cfg.Incarnation && n.State != roster.Down
		}
	})
	return in, err
}

// up has the region note that this node is up, until it is so.
func (c *Cluster) up(ctx context.Context) error {
	command := &peer.RosterCommand{Body: &peer.RosterCommand_NodeUp{NodeUp: &peer.NodeUp{
		Node: string(c.cfg.Self), Incarnation: c.cfg.Incarnation, Capacity: c.cfg.Capacity, Media: c.cfg.Media,
	}}}
	for {
		// Who can't read is not a member of consensus yet.
		err := c.node.Read(ctx)
		var a *peer.RosterAnswer
		if err == nil {
			a, err = c.ask(ctx, command)
		}
		if err == nil {
			switch a.Code {
			case peer.RosterCode_ROSTER_OK:
				err = c.node.Read(ctx)
			case peer.RosterCode_ROSTER_STALE_NODE:
				return ErrReplaced
			default:
				err = fmt.Errorf("refused: %v", a.Code)
			}
		}
		if err == nil {
			return nil
		}
		c.log.InfoContext(ctx, "not up in the region yet", "err", err)
		select {
		case <-c.failed:
			return c.Err()
		default:
		}
		if !pause(ctx, retryPause) {
			return ctx.Err()
		}
	}
}
