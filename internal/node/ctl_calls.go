package node

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// CallsView are the calls that go on, the oldest first.
type CallsView struct {
	Calls []CallView `json:"calls"`
}

// CallView is one. Who is in it is nothing that an operator needs to know.
type CallView struct {
	ID         string    `json:"id"`
	Room       string    `json:"room"`
	Type       string    `json:"type"`
	Home       string    `json:"home"` // region of its talk floor
	StartedAt  time.Time `json:"started_at"`
	Locked     bool      `json:"locked"`
	PushToTalk bool      `json:"push_to_talk"`
	// SFUs are the nodes that forward it, of the regions that this process is part of.
	SFUs []string `json:"sfus"`
}

// maxCallsListed bounds an answer.
const maxCallsListed = 1000

func (c *control) calls(r *http.Request) (*CallsView, error) {
	n, err := c.anyNode()
	if err != nil {
		return nil, err
	}
	list, err := n.talks.store.Going(r.Context(), maxCallsListed)
	if err != nil {
		return nil, err
	}
	v := &CallsView{Calls: make([]CallView, len(list))}
	for i, x := range list {
		v.Calls[i] = CallView{ID: x.ID.String(), Room: x.Room, Type: string(x.Type), Home: x.Home, StartedAt: x.StartedAt, Locked: x.Locked, PushToTalk: x.PushToTalk, SFUs: []string{}}
		c.each(func(n *Node) {
			if p, ok := n.rt.Cluster.CallOf(regions.CallID(v.Calls[i].ID)); ok {
				v.Calls[i].SFUs = append(v.Calls[i].SFUs, string(p.Node))
			}
		})
	}
	return v, nil
}

// endCall ends ?id= for everybody.
func (c *control) endCall(ctx context.Context, r *http.Request) error {
	n, err := c.anyNode()
	if err != nil {
		return err
	}
	id, err := uuid.Parse(r.FormValue("id"))
	if err != nil {
		return errs.New(errs.Invalid, "invalid_call", "a call's id is a UUID; `muster ctl calls list` lists them")
	}
	return n.talks.store.Cut(ctx, id)
}
