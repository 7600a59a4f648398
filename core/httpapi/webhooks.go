package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/notify/webhook"
)

// Webhook is a URL that is called with what happens.
type Webhook struct {
	WebhookID    string     `json:"webhook_id" doc:"UUID"`
	URL          string     `json:"url"`
	CreatedAt    time.Time  `json:"created_at"`
	DeliveredAt  *time.Time `json:"delivered_at,omitempty" doc:"When it last took something"`
	FailingSince *time.Time `json:"failing_since,omitempty"`
	DisabledAt   *time.Time `json:"disabled_at,omitempty" doc:"It answered 410, or failed for five days: it is not called any more"`
	Detail       string     `json:"detail" doc:"Why it failed the last time"`
}

// NewWebhook is such a URL with its secret, which is told this once.
type NewWebhook struct {
	Webhook
	Secret string `json:"secret" doc:"What is sent is signed with it, as Standard Webhooks says; it is not told again"`
}

func webhookOf(h webhook.Hook) Webhook {
	return Webhook{h.ID.String(), h.URL, h.CreatedAt.UTC(), utc(h.DeliveredAt), utc(h.FailingSince), utc(h.DisabledAt), h.Detail}
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	return new(t.UTC())
}

type webhookBody struct {
	URL string `json:"url" maxLength:"2048" doc:"An https URL at a public address"`
}

type newWebhookOutput struct{ Body NewWebhook }

type webhooksOutput struct {
	Body struct {
		Webhooks []Webhook `json:"webhooks" nullable:"false"`
	}
}

// webhookOperations are the same for a user's webhooks and for a group's.
func (a *api) webhookOperations() {
	const tag = "webhooks"
	hooks := a.Notifications.Webhooks

	create := func(ctx context.Context, o webhook.Owner, url string) (*newWebhookOutput, error) {
		h, secret, err := hooks.Create(ctx, o, url)
		return &newWebhookOutput{NewWebhook{webhookOf(h), secret}}, err
	}
	list := func(ctx context.Context, o webhook.Owner) (*webhooksOutput, error) {
		list, err := hooks.List(ctx, o)
		out := &webhooksOutput{}
		out.Body.Webhooks = make([]Webhook, len(list))
		for i, h := range list {
			out.Body.Webhooks[i] = webhookOf(h)
		}
		return out, err
	}
	remove := func(ctx context.Context, o webhook.Owner, id string) (*Success, error) {
		hook, err := pathID(id, "webhook_id")
		if err != nil {
			return nil, err
		}
		return success(hooks.Delete(ctx, o, hook))
	}
	mine := func(ctx context.Context) webhook.Owner { return webhook.Owner{User: caller(ctx).User} }
	// of is a group as the owner, for its owner and admins.
	of := func(ctx context.Context, group string) (o webhook.Owner, err error) {
		if o.Group, err = groupID(group); err != nil {
			return o, err
		}
		standing, err := a.Groups.Member(ctx, caller(ctx).User, o.Group, 0)
		if err == nil && standing.Role != groups.Owner && standing.Role != groups.Admin {
			err = groups.ErrForbidden
		}
		return o, err
	}

	type newInput struct{ Body webhookBody }
	register(a, operation{id: "create-webhook", method: http.MethodPost, path: "/webhooks", tag: tag, status: http.StatusCreated,
		summary: "Have a URL called with your notifications"},
		func(ctx context.Context, in *newInput) (*newWebhookOutput, error) {
			return create(ctx, mine(ctx), in.Body.URL)
		})
	register(a, operation{id: "list-webhooks", method: http.MethodGet, path: "/webhooks", tag: tag, summary: "Your webhooks, the oldest first"},
		func(ctx context.Context, _ *struct{}) (*webhooksOutput, error) { return list(ctx, mine(ctx)) })
	type oneInput struct {
		ID string `path:"webhook_id"`
	}
	register(a, operation{id: "delete-webhook", method: http.MethodDelete, path: "/webhooks/{webhook_id}", tag: tag, summary: "End a webhook of yours"},
		func(ctx context.Context, in *oneInput) (*Success, error) { return remove(ctx, mine(ctx), in.ID) })

	type groupInput struct {
		GroupID string `path:"group_id"`
		Body    webhookBody
	}
	register(a, operation{id: "create-group-webhook", method: http.MethodPost, path: "/groups/{group_id}/webhooks", tag: tag, status: http.StatusCreated,
		summary: "Have a URL called with the events of a group; for its owner and admins"},
		func(ctx context.Context, in *groupInput) (*newWebhookOutput, error) {
			o, err := of(ctx, in.GroupID)
			if err != nil {
				return nil, err
			}
			return create(ctx, o, in.Body.URL)
		})
	type groupListInput struct {
		GroupID string `path:"group_id"`
	}
	register(a, operation{id: "list-group-webhooks", method: http.MethodGet, path: "/groups/{group_id}/webhooks", tag: tag, summary: "The webhooks of a group, the oldest first"},
		func(ctx context.Context, in *groupListInput) (*webhooksOutput, error) {
			o, err := of(ctx, in.GroupID)
			if err != nil {
				return nil, err
			}
			return list(ctx, o)
		})
	type groupOneInput struct {
		GroupID string `path:"group_id"`
		ID      string `path:"webhook_id"`
	}
	register(a, operation{id: "delete-group-webhook", method: http.MethodDelete, path: "/groups/{group_id}/webhooks/{webhook_id}", tag: tag, summary: "End a webhook of a group"},
		func(ctx context.Context, in *groupOneInput) (*Success, error) {
			o, err := of(ctx, in.GroupID)
			if err != nil {
				return nil, err
			}
			return remove(ctx, o, in.ID)
		})
}
