package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core/reports"
	"github.com/mustermesh/muster/internal/errs"
)

func (a *api) abuseOperations() {
	type reportInput struct {
		Body struct {
			Room   string `json:"room,omitempty" doc:"With number: a message in it; without: the room itself"`
			Number uint64 `json:"number,omitempty"`
			UserID string `json:"user_id,omitempty" doc:"A person"`
			Talk   string `json:"talk,omitempty" doc:"A nearby conversation, by its UUID: the same as room nearby:UUID"`
			Reason string `json:"reason" enum:"spam,harassment,hate,sexual,violence,child_safety,impersonation,other"`
			Text   string `json:"text,omitempty" doc:"At most 1,000 characters"`
		}
	}
	type reportOutput struct {
		Body struct {
			Success  bool   `json:"success"`
			ReportID string `json:"report_id" doc:"UUID"`
		}
	}
	register(a, operation{id: "report", method: http.MethodPost, path: "/reports", tag: "reports",
		summary: "Report a message, a room, a talk or a person that you can see to whoever runs this; while it is open, again is a success"},
		func(ctx context.Context, in *reportInput) (*reportOutput, error) {
			about := reports.Subject{Room: in.Body.Room, Number: in.Body.Number}
			if in.Body.UserID != "" {
				id, err := userID(in.Body.UserID, "body.user_id")
				if err != nil {
					return nil, err
				}
				about.User = id
			}
			if in.Body.Talk != "" {
				talk, err := uuid.Parse(in.Body.Talk)
				if err != nil || about != (reports.Subject{}) {
					return nil, errs.New(errs.Invalid, "bad_request", "a talk is a UUID, and nothing else is named with it").At("body.talk")
				}
				about.Room = "nearby:" + talk.String()
			}
			id, err := a.Reports.File(ctx, caller(ctx).User, about, in.Body.Reason, in.Body.Text)
			if err != nil {
				return nil, err
			}
			out := &reportOutput{}
			out.Body.Success, out.Body.ReportID = true, id.String()
			return out, nil
		})
}
