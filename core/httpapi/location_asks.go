package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/geo/grant"
)

// LocationAsk is a question where somebody is.
type LocationAsk struct {
	AskID     string    `json:"ask_id"`
	From      NamedUser `json:"from"`
	To        NamedUser `json:"to"`
	Message   string    `json:"message"`
	Precision Precision `json:"precision" doc:"Wished for"`
	Duration  int64     `json:"duration" doc:"Seconds, wished for"`
	State     string    `json:"state" enum:"open,accepted,declined,withdrawn,expired"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at" doc:"Until then it can be answered"`
}

// NamedUser is a user and what they are called.
type NamedUser struct {
	UserID   string `json:"user_id"`
	Username string `json:"username"`
}

func askOf(k location.Ask) LocationAsk {
	return LocationAsk{
		AskID: k.ID.String(), From: NamedUser{k.Asker.String(), k.AskerName}, To: NamedUser{k.Asked.String(), k.AskedName}, Message: k.Message,
		Precision: Precision(k.Precision.String()), Duration: int64(k.Life.Seconds()), State: string(k.State), CreatedAt: k.CreatedAt, ExpiresAt: k.Expires,
	}
}

type askInput struct {
	AskID string `path:"ask_id"`
}

func (a *api) askOperations() {
	store := a.Location.Store

	type newAskInput struct {
		Body struct {
			UserID    string    `json:"user_id" doc:"Somebody who shares a group with you"`
			Message   string    `json:"message,omitempty" doc:"At most 200 characters"`
			Precision Precision `json:"precision,omitempty" default:"exact" doc:"Wished for"`
			Duration  int64     `json:"duration,omitempty" minimum:"0" doc:"Seconds, wished for: a minute to 30 days; absent or 0: an hour"`
		}
	}
	type askOutput struct {
		Body LocationAsk
	}
	register(a, operation{id: "create-ask", method: http.MethodPost, path: "/location/asks", tag: tagLocation, status: http.StatusCreated,
		summary: "Ask somebody where they are; nothing is shared until they accept. 30 a day, one at a time for a person, and not soon after a no"},
		func(ctx context.Context, in *newAskInput) (*askOutput, error) {
			other, err := userID(in.Body.UserID, "body.user_id")
			if err != nil {
				return nil, err
			}
			d := location.AskDraft{Asked: other, Message: in.Body.Message, Precision: in.Body.Precision.parsed(), Life: seconds(in.Body.Duration)}
			answer, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (LocationAsk, error) {
				k, err := store.Ask(ctx, tx, caller(ctx).User, d)
				return askOf(k), err
			})
			if err != nil {
				return nil, err
			}
			return &askOutput{Body: answer}, nil
		})

	type asksInput struct {
		Direction string `query:"direction" enum:"in,out" default:"in" doc:"in: what others asked you; out: what you asked others"`
		Limit     int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor    string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type asksOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Asks []LocationAsk `json:"asks" nullable:"false"`
		}
	}
	register(a, operation{id: "list-asks", method: http.MethodGet, path: "/location/asks", tag: tagLocation, summary: "Who asked you where you are, or whom you asked, the latest first"},
		func(ctx context.Context, in *asksInput) (*asksOutput, error) {
			list, next, err := store.Asks(ctx, caller(ctx).User, in.Direction == "out", in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &asksOutput{}
			if next != "" {
				q := url.Values{"direction": {in.Direction}, "limit": {strconv.Itoa(in.Limit)}, "cursor": {next}}
				out.Link = "<" + prefix + "/location/asks?" + q.Encode() + `>; rel="next"`
			}
			out.Body.Asks = make([]LocationAsk, len(list))
			for i, k := range list {
				out.Body.Asks[i] = askOf(k)
			}
			return out, nil
		})

	type acceptAskInput struct {
		AskID string `path:"ask_id"`
		Body  struct {
			Precision Precision `json:"precision"`
			ExpiresIn int64     `json:"expires_in" minimum:"0" doc:"Seconds, from a minute; 0: until you end it"`
		}
	}
	type grantOutput struct {
		Body LocationGrant
	}
	register(a, operation{id: "accept-ask", method: http.MethodPost, path: "/location/asks/{ask_id}/accept", tag: tagLocation, spreads: true, status: http.StatusCreated,
		summary: "Let who asked see where you are, as precisely and for as long as you say: answers the grant"},
		func(ctx context.Context, in *acceptAskInput) (*grantOutput, error) {
			id, err := pathID(in.AskID, "ask_id")
			if err != nil {
				return nil, err
			}
			user := caller(ctx).User
			answer, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (LocationGrant, error) {
				g, err := store.Accept(ctx, tx, user, id, in.Body.Precision.parsed(), seconds(in.Body.ExpiresIn))
				return a.grantOf(g), err
			})
			if err != nil {
				return nil, err
			}
			store.TellGrant(ctx, user, grant.Audience{Kind: grant.Person, ID: answer.Audience.ID})
			return &grantOutput{Body: answer}, nil
		})

	register(a, operation{id: "decline-ask", method: http.MethodPost, path: "/location/asks/{ask_id}/decline", tag: tagLocation, summary: "Say no; nothing is shared"},
		func(ctx context.Context, in *askInput) (*Success, error) {
			id, err := pathID(in.AskID, "ask_id")
			if err != nil {
				return nil, err
			}
			return success(store.Decline(ctx, caller(ctx).User, id))
		})

	register(a, operation{id: "withdraw-ask", method: http.MethodDelete, path: "/location/asks/{ask_id}", tag: tagLocation, summary: "Take back an ask of yours that is open"},
		func(ctx context.Context, in *askInput) (*Success, error) {
			id, err := pathID(in.AskID, "ask_id")
			if err != nil {
				return nil, err
			}
			return success(store.Withdraw(ctx, caller(ctx).User, id))
		})
}

// LocationLink shows whoever has its token where the signed-in user is.
type LocationLink struct {
	LinkID    string    `json:"link_id"`
	Token     string    `json:"token" doc:"Who has it needs no account: keep it to whom you send it"`
	URL       string    `json:"url,omitempty" doc:"A page that shows it"`
	Precision Precision `json:"precision"`
	Purpose   string    `json:"purpose"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (a *api) linkOf(l location.Link) LocationLink {
	return LocationLink{
		LinkID: l.ID.String(), Token: a.Location.Store.Token(l.ID), URL: a.Location.Store.URL(l.ID),
		Precision: Precision(l.Precision.String()), Purpose: l.Purpose, CreatedAt: l.CreatedAt, ExpiresAt: l.Expires,
	}
}

func (a *api) linkOperations() {
	store := a.Location.Store

	type newLinkInput struct {
		Body struct {
			Precision Precision `json:"precision"`
			ExpiresIn int64     `json:"expires_in,omitempty" minimum:"0" doc:"Seconds, a minute to 30 days; absent or 0: a day"`
			Purpose   string    `json:"purpose,omitempty" doc:"At most 200 characters, for yourself"`
		}
	}
	type linkOutput struct {
		Body LocationLink
	}
	register(a, operation{id: "create-link", method: http.MethodPost, path: "/location/links", tag: tagLocation, spreads: true, status: http.StatusCreated,
		summary: "Make a link that shows where you are to whoever has it, without an account, until it expires or you revoke it"},
		func(ctx context.Context, in *newLinkInput) (*linkOutput, error) {
			user := caller(ctx).User
			d := location.LinkDraft{Precision: in.Body.Precision.parsed(), Life: seconds(in.Body.ExpiresIn), Purpose: in.Body.Purpose}
			l, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (location.Link, error) {
				return store.MakeLink(ctx, tx, user, d)
			})
			if err != nil {
				return nil, err
			}
			store.Tell(ctx, user)
			return &linkOutput{Body: a.linkOf(l)}, nil
		})

	type linksOutput struct {
		Body struct {
			Links []LocationLink `json:"links" nullable:"false"`
		}
	}
	register(a, operation{id: "list-links", method: http.MethodGet, path: "/location/links", tag: tagLocation, summary: "Your links that hold, the oldest first"},
		func(ctx context.Context, _ *struct{}) (*linksOutput, error) {
			list, err := store.Links(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			out := &linksOutput{}
			out.Body.Links = make([]LocationLink, len(list))
			for i, l := range list {
				out.Body.Links[i] = a.linkOf(l)
			}
			return out, nil
		})

	type revokeLinkInput struct {
		Link string `path:"link" doc:"Here the link's id"`
	}
	register(a, operation{id: "revoke-link", method: http.MethodDelete, path: "/location/links/{link}", tag: tagLocation, spreads: true, summary: "End a link at once"},
		func(ctx context.Context, in *revokeLinkInput) (*Success, error) {
			id, err := pathID(in.Link, "link")
			if err != nil {
				return nil, err
			}
			return success(store.Revoke(ctx, caller(ctx).User, id))
		})
}

// openLinkOperation is for people without an account: they see the last position
// that the link may show, and nothing of whom.
func (a *api) openLinkOperation() {
	type openLinkInput struct {
		Link string `path:"link" maxLength:"64" doc:"Here the token"`
	}
	type openLinkOutput struct {
		Body struct {
			Location  *Whereabouts `json:"location,omitempty" doc:"Absent while it is not known"`
			ExpiresAt time.Time    `json:"expires_at" doc:"Of the link"`
		}
	}
	register(a, operation{id: "open-link", refuses: []int{http.StatusNotFound}, method: http.MethodGet, path: "/location/links/{link}", tag: tagLocation, public: true, limited: true,
		summary: "Where the maker of a link is; no account needed. Unknown, expired and revoked links look alike"},
		func(ctx context.Context, in *openLinkInput) (*openLinkOutput, error) {
			l, err := a.Location.Store.OpenLink(ctx, in.Link)
			if err != nil {
				return nil, err
			}
			found, err := a.Location.Live.Room(ctx, location.LinkRoom(l.ID))
			if err != nil {
				return nil, err
			}
			out := &openLinkOutput{}
			out.Body.ExpiresAt = l.Expires
			now := a.Now()
			for _, s := range location.Visible(found.Sights, nil, now) {
				if s.User == l.User {
					w := whereaboutsOf(s.View, now)
					out.Body.Location = &w
					a.Location.Recorder.Opened(l, s.View.Precision, now)
				}
			}
			return out, nil
		})
}
