package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/regions"
)

// revocations ends sessions of logins that were ended while their access
// tokens are still valid by signature. A node hears of them from the node that
// ended the login, and asks the database now and then in case it did not.
type revocations struct {
	self     regions.NodeID
	region   regions.RegionID
	topology *regions.Topology
	call     func(ctx context.Context, to regions.NodeID, frame []byte) ([]byte, error)
	since    func(ctx context.Context, t time.Time) ([]core.LoginID, error)
	close    func(login string) // ends the login's sessions on this node, and refuses its tokens
	log      *slog.Logger
	life     run.Lifecycle

	telling sync.WaitGroup // calls to other nodes under way
}

const (
	revokedPoll    = 10 * time.Second
	revokedOverlap = 30 * time.Second // the database tells a little after the time it writes
	revokedKeep    = time.Hour        // longer than an access token lives
	revokeWait     = 2 * time.Second
)

// Start reads what was ended before this node started, and polls.
func (r *revocations) Start(ctx context.Context) error {
	return r.life.Start(ctx, func(ctx context.Context) error {
		from := time.Now().Add(-revokedKeep)
		if err := r.poll(ctx, from); err != nil {
			return err
		}
		r.life.Go(func() {
			last := time.Now()
			tick := time.NewTicker(revokedPoll)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case now := <-tick.C:
					if err := r.poll(ctx, last.Add(-revokedOverlap)); err != nil {
						r.log.Warn("ended logins not read, trying again", "err", err)
						continue
					}
					last = now
				}
			}
		})
		return nil
	})
}

// Stop ends the polling and waits for what is being told to others. Nothing
// calls LoginRevoked by then: the HTTP server has stopped.
func (r *revocations) Stop() { r.life.Stop(r.telling.Wait) }

func (r *revocations) poll(ctx context.Context, since time.Time) error {
	logins, err := r.since(ctx, since)
	if err != nil {
		return err
	}
	for _, l := range logins {
		r.close(l.String())
	}
	return nil
}

// LoginRevoked satisfies core/auth's Announcer: it tells every node, and waits
// for those of this region.
func (r *revocations) LoginRevoked(ctx context.Context, login core.LoginID) {
	r.close(login.String())
	c := peer.Call{Body: &peer.Call_Revoke{Revoke: &peer.Revoke{Login: login.String(), At: timestamppb.Now()}}}
	frame, err := c.MarshalVT()
	if err != nil {
		r.log.Error("revocation not encoded", "err", err)
		return
	}
	var near sync.WaitGroup
	for _, region := range r.topology.Regions {
		for _, n := range region.Nodes {
			if n.ID == r.self {
				continue
			}
			tell := func() {
				// Each has its own time, so that those far away may take
				// longer than this call.
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeWait)
				defer cancel()
				if _, err := r.call(ctx, n.ID, frame); err != nil {
					r.log.Warn("node not told of an ended login; it will read it", "to", n.ID, "err", err)
				}
			}
			if region.Name == r.region {
				near.Go(tell)
			} else {
				r.telling.Go(tell)
			}
		}
	}
	near.Wait()
}
