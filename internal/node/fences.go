package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/edge/fences"
)

// newFences makes what runs the fences of the rooms that this node owns; nil: this
// node has none.
func (r *Realtime) newFences() *fences.Fences {
	if r.cfg.Fences == nil {
		return nil
	}
	return fences.New(fences.Config{
		Store:   r.cfg.Fences,
		Publish: func(room string, c *wire.Crossing) { r.Hub.Cross(room, c) },
		Owns: func(room string) bool {
			owner, _ := r.Cluster.Owner(room)
			return owner == r.cfg.ID && r.Cluster.Current()
		},
		Log: r.log, Registry: r.cfg.Metrics,
	})
}

// observer is what the hub calls with fixes; nil: nobody wants them.
func observer(f *fences.Fences) func(room string, version uint64, fix *wire.MemberFix, own bool) {
	if f == nil {
		return nil
	}
	return f.Observe
}

// fencing is core/location as the edge's fences see it.
type fencing struct{ *location.Store }

var _ fences.Store = fencing{}

func (f fencing) Fencing(ctx context.Context, room string, min uint64) (fences.Fencing, error) {
	got, err := f.Store.Fencing(ctx, room, min)
	switch {
	case errors.Is(err, location.ErrNoGroup): // it was deleted
		return fences.Fencing{Version: min}, nil
	case err != nil:
		return fences.Fencing{}, err
	}
	out := fences.Fencing{Version: got.Version, Meet: got.Meet}
	for _, x := range got.Fences {
		out.Fences = append(out.Fences, fences.Fence{
			ID: x.ID.String(), Name: x.Name, Revision: x.Revision, Shape: x.Shape, Dwell: x.Dwell, From: x.UpdatedAt,
		})
	}
	for _, s := range got.States {
		out.States = append(out.States, standing(s))
	}
	return out, nil
}

func standing(s location.FenceState) fences.State {
	return fences.State{
		Fence: orEmpty(s.Fence), User: orEmpty(uuid.UUID(s.User)), Other: orEmpty(uuid.UUID(s.Other)),
		Revision: s.Revision, N: s.N, Inside: s.Inside, At: s.At,
	}
}

func orEmpty(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// crossingKinds are core's words for the frame's.
var crossingKinds = map[wire.Crossing_Kind]location.CrossingKind{
	wire.Crossing_ENTER: location.Enter, wire.Crossing_EXIT: location.Exit, wire.Crossing_DWELL: location.Dwell,
	wire.Crossing_MEET: location.Meet, wire.Crossing_PART: location.Part,
}

func (f fencing) Cross(ctx context.Context, room string, c fences.Crossing) (fences.State, bool, error) {
	x := location.Crossing{Kind: crossingKinds[c.Kind], Name: c.Name, At: c.At.AsTime(), Passed: c.Passed, Revision: c.Revision, N: c.N}
	for _, id := range []struct {
		to   *uuid.UUID
		text string
	}{{&x.ID, c.Id}, {&x.Fence, c.Fence}, {(*uuid.UUID)(&x.User), c.User}, {(*uuid.UUID)(&x.Other), c.Other}} {
		if id.text == "" {
			continue
		}
		var err error
		if *id.to, err = uuid.Parse(id.text); err != nil {
			return fences.State{}, false, fmt.Errorf("crossing: %w", err)
		}
	}
	now, stored, err := f.Store.Cross(ctx, room, x)
	return standing(now), stored, err
}

func (f fencing) Outside(ctx context.Context, room, user string) error {
	id, err := core.ParseUserID(user)
	if err != nil {
		return err
	}
	return f.Store.Outside(ctx, room, id)
}

func (f fencing) Stored(ctx context.Context, room string, since time.Time) ([]*wire.Crossing, error) {
	list, err := f.Store.Stored(ctx, room, since)
	out := make([]*wire.Crossing, len(list))
	for i, c := range list {
		out[i] = &wire.Crossing{
			Id: c.ID.String(), Fence: orEmpty(c.Fence), Name: c.Name, User: c.User.String(), Other: orEmpty(uuid.UUID(c.Other)),
			At: timestamppb.New(c.At), Passed: c.Passed,
		}
		for wired, kind := range crossingKinds {
			if kind == c.Kind {
				out[i].Kind = wired
			}
		}
	}
	return out, err
}
