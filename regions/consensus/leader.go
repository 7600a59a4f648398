package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mustermesh/muster/regions"
)

// notLeader: the node that was asked doesn't lead and has done nothing.
type notLeader struct{ hint regions.NodeID }

func (e *notLeader) Error() string { return fmt.Sprintf("not the leader (which may be %q)", e.hint) }

// encodeStatus encodes a failure for a peer of this package.
func encodeStatus(err error) []byte {
	var elsewhere *notLeader
	switch {
	case errors.As(err, &elsewhere):
		return append([]byte{byte(statusNotLeader)}, elsewhere.hint...)
	case errors.Is(err, ErrBusy):
		return []byte{byte(statusBusy)}
	case errors.Is(err, ErrNoLeader):
		return []byte{byte(statusNotLeader)}
	case errors.Is(err, ErrStopped):
		return []byte{byte(statusFailed)}
	case errors.Is(err, ErrUnknown):
		return []byte{byte(statusUnknown)}
	default:
		return append([]byte{byte(statusError)}, err.Error()...)
	}
}

// decodeStatus returns what an answer carries, or the failure that it is.
func decodeStatus(b []byte) ([]byte, error) {
	body := b[1:] // no frame is empty
	switch status(b[0]) {
	case statusOK:
		return body, nil
	case statusNotLeader:
		return nil, &notLeader{regions.NodeID(body)}
	case statusBusy:
		return nil, ErrBusy
	case statusFailed:
		return nil, &notLeader{}
	case statusError:
		return nil, errors.New(string(body))
	default:
		return nil, ErrUnknown
	}
}

// askLeader asks a node that should be the leader, until it answers, ctx ends,
// or another is known to lead, which is sooner than the links notice.
func (n *Node) askLeader(ctx context.Context, leader regions.NodeID, frame []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		for {
			changed := n.leader.wait()
			if now := n.Leader(); (now != "" && now != leader) || !n.running.Load() {
				cancel()
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	b, err := ask(ctx, n.cfg.Links, leader, frame)
	cancel()
	<-watch
	switch {
	case err == nil:
		return decodeStatus(b)
	case errors.Is(err, regions.ErrUnsent):
		return nil, &notLeader{}
	default:
		n.log.DebugContext(ctx, "no answer of the leader", "leader", leader, "err", err)
		return nil, ErrUnknown
	}
}

// atLeader does something here if this node leads, else there where the leader
// is, and follows leadership around until it is done, failed, or ctx ends.
// batch, if any, loses what others forwarded when it has to leave this node.
func (n *Node) atLeader(ctx context.Context, batch *[]*item, here func() error, there func(regions.NodeID) error) error {
	var hint regions.NodeID
	next := 0
	for try := 0; ; try++ {
		if !n.running.Load() {
			return n.stopped()
		}
		changed := n.leader.wait()
		leader := n.Leader()
		var err error
		switch {
		case n.IsLeader():
			err = here()
		case batch != nil && dropForwarded(batch, leader) == 0:
			return nil
		case hint != "" && hint != n.cfg.Self:
			err = there(hint)
		case leader != "" && leader != n.cfg.Self:
			err = there(leader)
		default:
			// Ask around: whoever isn't the leader may know it.
			err = &notLeader{}
			if node := n.cfg.Nodes[next%len(n.cfg.Nodes)]; node != n.cfg.Self && try > 0 {
				err = there(node)
			}
			next++
		}
		var elsewhere *notLeader
		if !errors.As(err, &elsewhere) {
			return err
		}
		known := hint == "" && elsewhere.hint != ""
		if hint = elsewhere.hint; known { // new: follow it at once
			continue
		}
		select {
		case <-changed:
		case <-time.After(retryPause):
		case <-ctx.Done():
			return ErrNoLeader
		}
	}
}

// dropForwarded sends back what other nodes forwarded, and returns how much is
// left.
func dropForwarded(batch *[]*item, leader regions.NodeID) int {
	kept := (*batch)[:0]
	for _, it := range *batch {
		if it.forwarded {
			it.finish(nil, &notLeader{leader})
			continue
		}
		kept = append(kept, it)
	}
	*batch = kept
	return len(kept)
}
