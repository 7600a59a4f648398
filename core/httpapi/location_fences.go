package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/geo/fence"
)

// Fence is a place of a group.
type Fence struct {
	FenceID   string      `json:"fence_id"`
	Name      string      `json:"name"`
	Shape     fence.Shape `json:"shape"`
	Dwell     int64       `json:"dwell" doc:"Seconds: a visit is told only when it has lasted so long"`
	Revision  uint64      `json:"revision" doc:"Grows with changes of shape and dwell: visits are counted anew"`
	CreatedBy string      `json:"created_by,omitempty" doc:"User id"`
	CreatedAt time.Time   `json:"created_at"`
	UpdatedAt time.Time   `json:"updated_at"`
}

func fenceOf(f location.Fence) Fence {
	out := Fence{FenceID: f.ID.String(), Name: f.Name, Shape: f.Shape, Dwell: int64(f.Dwell.Seconds()), Revision: f.Revision, CreatedAt: f.CreatedAt, UpdatedAt: f.UpdatedAt}
	if f.CreatedBy != (core.UserID{}) {
		out.CreatedBy = f.CreatedBy.String()
	}
	return out
}

// FenceCrossing is something that happened at a fence, or between two members.
type FenceCrossing struct {
	CrossingID string    `json:"crossing_id"`
	Kind       string    `json:"kind" enum:"enter,exit,dwell,meet,part"`
	FenceID    string    `json:"fence_id,omitempty" doc:"Absent: two members"`
	Name       string    `json:"name,omitempty" doc:"Of the fence, then"`
	UserID     string    `json:"user_id"`
	OtherID    string    `json:"other_id,omitempty" doc:"The second of two members"`
	At         time.Time `json:"at" doc:"By the times of the positions that the group was told"`
	Passed     bool      `json:"passed" doc:"Through, between two positions"`
}

func crossingOf(c location.Crossing) FenceCrossing {
	out := FenceCrossing{CrossingID: c.ID.String(), Kind: string(c.Kind), Name: c.Name, UserID: c.User.String(), At: c.At, Passed: c.Passed}
	if c.Fence != uuid.Nil {
		out.FenceID = c.Fence.String()
	}
	if c.Other != (core.UserID{}) {
		out.OtherID = c.Other.String()
	}
	return out
}

func (a *api) fenceOperations() {
	const tag = "fences"
	store := a.Location.Store

	type fencesOutput struct {
		Body struct {
			Fences       []Fence `json:"fences" nullable:"false" doc:"The oldest first"`
			MeetDistance float64 `json:"meet_distance" doc:"Metres at which two members meet; 0: that is not told"`
		}
	}
	register(a, operation{id: "list-fences", method: http.MethodGet, path: "/groups/{group_id}/fences", tag: tag, summary: "A group's fences, and at which distance members meet"},
		func(ctx context.Context, in *groupInput) (*fencesOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			list, meet, err := store.Fences(ctx, caller(ctx).User, id)
			if err != nil {
				return nil, err
			}
			out := &fencesOutput{}
			out.Body.MeetDistance = meet
			out.Body.Fences = make([]Fence, len(list))
			for i, f := range list {
				out.Body.Fences[i] = fenceOf(f)
			}
			return out, nil
		})

	type fenceOutput struct {
		Body Fence
	}
	type newFenceInput struct {
		GroupID string `path:"group_id"`
		Body    struct {
			Name  string      `json:"name" doc:"1 to 80 characters"`
			Shape fence.Shape `json:"shape" doc:"One of circle {center, radius in metres}, polygon (rings of points, the first the outline, the others holes) and cells (H3)"`
			Dwell int64       `json:"dwell,omitempty" minimum:"0" maximum:"86400" doc:"Seconds: tell a visit only when it has lasted so long"`
		}
	}
	type created struct {
		Fence   Fence
		Version uint64
	}
	register(a, operation{id: "create-fence", method: http.MethodPost, path: "/groups/{group_id}/fences", tag: tag, status: http.StatusCreated,
		summary: "Make a fence; who of the members enters and leaves it is told in the group's room. Any member may"},
		func(ctx context.Context, in *newFenceInput) (*fenceOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			d := location.FenceDraft{Name: in.Body.Name, Shape: in.Body.Shape, Dwell: seconds(in.Body.Dwell)}
			answer, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (created, error) {
				f, version, err := store.AddFence(ctx, tx, caller(ctx).User, id, d)
				return created{fenceOf(f), version}, err
			})
			if err != nil {
				return nil, err
			}
			store.TellFences(ctx, id, answer.Version)
			return &fenceOutput{Body: answer.Fence}, nil
		})

	type changeFenceInput struct {
		FencePath
		Body struct {
			Name  *string      `json:"name,omitempty" doc:"Absent: unchanged"`
			Shape *fence.Shape `json:"shape,omitempty" doc:"Absent: unchanged"`
			Dwell *int64       `json:"dwell,omitempty" minimum:"0" maximum:"86400" doc:"Absent: unchanged"`
		}
	}
	register(a, operation{id: "change-fence", method: http.MethodPatch, path: "/groups/{group_id}/fences/{fence_id}", tag: tag, summary: "Change a fence (its maker, owner, admins)"},
		func(ctx context.Context, in *changeFenceInput) (*fenceOutput, error) {
			group, id, err := fenceID(in.GroupID, in.FenceID)
			if err != nil {
				return nil, err
			}
			c := location.FenceChange{Name: in.Body.Name, Shape: in.Body.Shape}
			if in.Body.Dwell != nil {
				dwell := seconds(*in.Body.Dwell)
				c.Dwell = &dwell
			}
			f, err := store.ChangeFence(ctx, caller(ctx).User, group, id, c)
			if err != nil {
				return nil, err
			}
			return &fenceOutput{Body: fenceOf(f)}, nil
		})

	register(a, operation{id: "delete-fence", method: http.MethodDelete, path: "/groups/{group_id}/fences/{fence_id}", tag: tag, summary: "Delete a fence (its maker, owner, admins)"},
		func(ctx context.Context, in *FencePath) (*Success, error) {
			group, id, err := fenceID(in.GroupID, in.FenceID)
			if err != nil {
				return nil, err
			}
			return success(store.RemoveFence(ctx, caller(ctx).User, group, id))
		})

	type meetInput struct {
		GroupID string `path:"group_id"`
		Body    struct {
			MeetDistance float64 `json:"meet_distance" doc:"Metres, 10 to 10,000; 0: not told"`
		}
	}
	register(a, operation{id: "put-meeting", method: http.MethodPut, path: "/groups/{group_id}/meeting", tag: tag, summary: "Say at which distance two members meet, which the group's room is told (owner, admins)"},
		func(ctx context.Context, in *meetInput) (*Success, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			return success(store.SetMeet(ctx, caller(ctx).User, id, in.Body.MeetDistance))
		})

	type crossingsInput struct {
		GroupID string `path:"group_id"`
		Limit   int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor  string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type crossingsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Crossings []FenceCrossing `json:"crossings" nullable:"false"`
		}
	}
	register(a, operation{id: "list-crossings", method: http.MethodGet, path: "/groups/{group_id}/fences/crossings", tag: tag,
		summary: "What happened at a group's fences and between its members in the last 30 days, the latest first"},
		func(ctx context.Context, in *crossingsInput) (*crossingsOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			list, next, err := store.Crossings(ctx, caller(ctx).User, id, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &crossingsOutput{Link: nextPage("/groups/"+in.GroupID+"/fences/crossings", in.Limit, next)}
			out.Body.Crossings = make([]FenceCrossing, len(list))
			for i, c := range list {
				out.Body.Crossings[i] = crossingOf(c)
			}
			return out, nil
		})
}

// FencePath names a fence of a group.
type FencePath struct {
	GroupID string `path:"group_id"`
	FenceID string `path:"fence_id"`
}

// fenceID reads the path's group and fence.
func fenceID(group, id string) (core.GroupID, uuid.UUID, error) {
	g, err := groupID(group)
	if err != nil {
		return g, uuid.Nil, err
	}
	f, err := pathID(id, "fence_id")
	return g, f, err
}
