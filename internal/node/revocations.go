package node

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/internal/run"
)

// revocations ends sessions of logins that were ended while their access
// tokens are still valid by signature. The key of a fleet's gateway is such a
// login, too. A node hears of them from the node that
// ended the login, and asks the database now and then in case it did not.
type revocations struct {
	tell  *tell
	since func(ctx context.Context, t time.Time) ([]core.LoginID, error)
	close func(login string) // ends the login's sessions on this node, and refuses its tokens
	log   *slog.Logger
	life  run.Lifecycle
}

const (
	revokedPoll    = 10 * time.Second
	revokedOverlap = 30 * time.Second // the database tells a little after the time it writes
	revokedKeep    = time.Hour        // longer than an access token lives
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
						r.log.WarnContext(ctx, "ended logins not read, trying again", "err", err)
						continue
					}
					last = now
				}
			}
		})
		return nil
	})
}

// Stop ends the polling.
func (r *revocations) Stop() { r.life.Stop(nil) }

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

// endedSince joins several sources of what was ended.
func endedSince(sources ...func(context.Context, time.Time) ([]core.LoginID, error)) func(context.Context, time.Time) ([]core.LoginID, error) {
	return func(ctx context.Context, t time.Time) (all []core.LoginID, err error) {
		for _, since := range sources {
			ended, err := since(ctx, t)
			if err != nil {
				return nil, err
			}
			all = append(all, ended...)
		}
		return all, nil
	}
}

// LoginRevoked satisfies core/auth's Announcer: it tells every node, and waits
// for those of this region. A node that can't be told reads it.
func (r *revocations) LoginRevoked(ctx context.Context, login core.LoginID) {
	r.close(login.String())
	r.tell.all(ctx, "an ended login", &peer.Call{Body: &peer.Call_Revoke{Revoke: &peer.Revoke{Login: login.String(), At: timestamppb.Now()}}})
}
