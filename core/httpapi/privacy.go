package httpapi

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/mustermesh/muster/core/privacy"
)

// Export is a copy of somebody's data.
type Export struct {
	ExportID  string     `json:"export_id" doc:"UUID"`
	State     string     `json:"state" enum:"making,ready"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at" doc:"It is deleted then; null until it is ready"`
	Size      int64      `json:"size" doc:"Bytes; 0 until it is ready"`
	URL       string     `json:"url" doc:"Of the download, for ten minutes: ask again for another; empty until it is ready"`
}

func exportOf(e privacy.Export) Export {
	out := Export{ExportID: e.ID.String(), State: "making", CreatedAt: e.CreatedAt, Size: e.Size, URL: e.URL}
	if e.Ready {
		out.State, out.ExpiresAt = "ready", &e.Expires
	}
	return out
}

// downloadFor is how long a download may take.
const downloadFor = 10 * time.Minute

func (a *api) privacyOperations() {
	const tag = "users"

	type exportOutput struct{ Body Export }
	register(a, operation{
		id: "export-profile", method: http.MethodPost, path: "/users/export", tag: tag, limited: true, status: http.StatusAccepted,
		summary: "Have a copy of one's own data made; a notification says when it is ready",
	}, func(ctx context.Context, _ *struct{}) (*exportOutput, error) {
		e, err := a.Privacy.Export(ctx, caller(ctx).User)
		if err != nil {
			return nil, err
		}
		return &exportOutput{exportOf(e)}, nil
	})

	register(a, operation{id: "get-export", method: http.MethodGet, path: "/users/export", tag: tag, summary: "The copy of one's own data that was asked for last"},
		func(ctx context.Context, _ *struct{}) (*exportOutput, error) {
			e, err := a.Privacy.Latest(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			return &exportOutput{exportOf(e)}, nil
		})

	type downloadInput struct {
		Token string `path:"export_token" doc:"Of the URL of an export"`
	}
	type downloadOutput struct {
		ContentType string `header:"Content-Type"`
		Disposition string `header:"Content-Disposition"`
		Body        func(huma.Context)
	}
	register(a, operation{
		id: "download-export", method: http.MethodGet, path: "/exports/{export_token}", tag: tag, summary: "Download a copy of one's own data",
		public: true, limited: true, media: "application/json", refuses: []int{http.StatusNotFound},
	}, func(ctx context.Context, in *downloadInput) (*downloadOutput, error) {
		o, err := a.Privacy.Download(ctx, in.Token)
		if err != nil {
			return nil, err
		}
		return &downloadOutput{ContentType: o.Type, Disposition: `attachment; filename="muster-export.json"`, Body: func(ctx huma.Context) {
			defer o.Body.Close()
			_, w := humachi.Unwrap(ctx)
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadFor)) // else the server's holds
			_, _ = io.Copy(ctx.BodyWriter(), o.Body)                                        // the client may have gone
		}}, nil
	})

	type deleteInput struct {
		Body *struct {
			Password string `json:"password,omitempty" maxLength:"1024" doc:"Of the account; a guest has none. Who signs in with Google only signs in again before"`
		}
	}
	register(a, operation{
		id: "delete-profile", method: http.MethodDelete, path: "/users/profile", tag: tag, limited: true,
		summary: "End the signed-in user's account and delete what is stored about them",
	}, func(ctx context.Context, in *deleteInput) (*Success, error) {
		password := ""
		if in.Body != nil {
			password = in.Body.Password
		}
		proof, err := a.Auth.Reauthenticate(ctx, caller(ctx), password)
		if err != nil {
			return nil, err
		}
		return success(a.Privacy.Delete(ctx, caller(ctx).User, proof.Holds))
	})
}
