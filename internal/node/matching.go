package node

import (
	"context"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/matching"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// newMatching brings people near each other together: by the map that everybody
// asks, into conversations, out of which they may rate each other.
func newMatching(cfg *Config, rt *Realtime, blocks *friends.Store, rated *ratings.Store, talks matching.Talks, notify matching.Notifier, w *work) *matching.Store {
	s := matching.New(cfg.DB, matching.Config{
		Map: vicinity{rt.Sharer.Own, rt.Map.Crowd}, Blocks: blocks, Ratings: rated, Talks: talks, Meetings: meetings{rated}, Notify: notify,
		Secret: cfg.Secret, Metrics: cfg.Metrics,
	})
	w.Schedule(jobs.Schedule{
		Name: "expire_talks", Every: time.Minute, Late: jobs.LateOnce,
		Do: func(ctx context.Context, _ jobs.Work) error { return s.Expire(ctx) },
	})
	w.sweep("matching", s.Sweep)
	return s
}

// vicinity is where people are, as core/matching sees it: what the map tells anybody
// who asks, by sessions or HTTP.
type vicinity struct {
	own   func(user string) (grant.Raw, bool)
	crowd func(ctx context.Context, viewer string, at geo.Point, radius float64) (edge.Nearby, error)
}

func (v vicinity) Own(user core.UserID) (geo.Point, time.Time, bool) {
	raw, ok := v.own(user.String())
	if !ok {
		return geo.Point{}, time.Time{}, false
	}
	mine := grant.Own(raw)
	return mine.Point, mine.Captured, true
}

func (v vicinity) Near(ctx context.Context, viewer core.UserID, center geo.Point, radius float64) (matching.Crowd, error) {
	found, err := v.crowd(ctx, viewer.String(), center, radius)
	if err != nil {
		return matching.Crowd{}, err
	}
	out := matching.Crowd{More: found.More}
	for _, r := range found.Unreached {
		out.Unreached = append(out.Unreached, string(r))
	}
	for _, p := range found.People {
		if id, err := core.ParseUserID(p.User); err == nil {
			out.Sights = append(out.Sights, matching.Sight{User: id, View: p.View})
		}
	}
	return out, nil
}
