package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/internal/errs"
)

// Login is a device that is signed in.
type Login struct {
	LoginID    string    `json:"login_id" doc:"UUID"`
	DeviceInfo any       `json:"device_info" doc:"What the app said about the device"`
	Network    string    `json:"network" doc:"From which it signed in, never the whole address; empty: unknown" example:"203.0.113.0/24"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at" doc:"When it was begun or last refreshed"`
	Current    bool      `json:"current" doc:"This is the login that asks"`
}

// SecurityEvent is an entry of the audit log.
type SecurityEvent struct {
	EventID string         `json:"event_id" doc:"UUID"`
	At      time.Time      `json:"at"`
	Kind    string         `json:"kind" doc:"registered, signed_in, sign_in_failed, signed_out, login_ended, refresh_reused, email_verified, email_change_requested, email_changed, password_changed, password_reset_requested, password_reset, google_linked, google_unlinked; there may be more"`
	LoginID string         `json:"login_id,omitempty" doc:"The login that did it, or that it is about"`
	Network string         `json:"network" doc:"From which it was done; empty: unknown"`
	Data    map[string]any `json:"data"`
}

func (a *api) loginOperations() {
	const tag = "auth"

	type pageInput struct {
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type loginsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Logins []Login `json:"logins" nullable:"false"`
		}
	}
	register(a, operation{id: "list-logins", method: http.MethodGet, path: "/auth/logins", tag: tag, summary: "List the devices that are signed in, the newest first"},
		func(ctx context.Context, in *pageInput) (*loginsOutput, error) {
			me := caller(ctx)
			list, next, err := a.Auth.Logins(ctx, me.User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &loginsOutput{Link: nextPage("/auth/logins", in.Limit, next)}
			out.Body.Logins = make([]Login, len(list))
			for i, d := range list {
				l := Login{LoginID: d.Login.String(), Network: d.Network, CreatedAt: d.Created.UTC(), LastUsedAt: d.LastUsed.UTC(), Current: d.Login == me.Login}
				if err := json.Unmarshal(d.Info, &l.DeviceInfo); err != nil {
					return nil, err
				}
				out.Body.Logins[i] = l
			}
			return out, nil
		})

	type loginInput struct {
		LoginID string `path:"login_id"`
	}
	register(a, operation{id: "end-login", method: http.MethodDelete, path: "/auth/logins/{login_id}", tag: tag, locates: true, spreads: true,
		summary: "Sign a device out; its sessions are closed when this is answered"},
		func(ctx context.Context, in *loginInput) (*Success, error) {
			id, err := core.ParseLoginID(in.LoginID)
			if err != nil {
				return nil, errs.New(errs.Invalid, "bad_request", "a login id is a UUID in lower case").At("path.login_id")
			}
			return success(a.Auth.EndLogin(origin(ctx, ""), caller(ctx), id))
		})

	type endedOutput struct {
		Body struct {
			Success bool `json:"success"`
			Ended   int  `json:"ended" doc:"How many there were"`
		}
	}
	register(a, operation{id: "end-other-logins", method: http.MethodDelete, path: "/auth/logins", tag: tag, locates: true, spreads: true,
		summary: "Sign all other devices out"},
		func(ctx context.Context, _ *struct{}) (*endedOutput, error) {
			n, err := a.Auth.EndOthers(origin(ctx, ""), caller(ctx))
			if err != nil {
				return nil, err
			}
			out := &endedOutput{}
			out.Body.Success, out.Body.Ended = true, n
			return out, nil
		})

	type eventsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Events []SecurityEvent `json:"events" nullable:"false"`
		}
	}
	register(a, operation{id: "list-security-events", method: http.MethodGet, path: "/auth/events", tag: tag, summary: "What happened to the account's security, the newest first"},
		func(ctx context.Context, in *pageInput) (*eventsOutput, error) {
			list, next, err := a.Auth.Events(ctx, caller(ctx).User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &eventsOutput{Link: nextPage("/auth/events", in.Limit, next)}
			out.Body.Events = make([]SecurityEvent, len(list))
			for i, e := range list {
				out.Body.Events[i] = securityEventOf(e)
			}
			return out, nil
		})
}

func securityEventOf(e auth.Event) SecurityEvent {
	out := SecurityEvent{EventID: e.ID.String(), At: e.At.UTC(), Kind: string(e.Kind), Network: e.Network, Data: e.Data}
	if e.Login != (core.LoginID{}) {
		out.LoginID = e.Login.String()
	}
	return out
}
