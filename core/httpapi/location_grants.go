package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// Audience is who may see.
type Audience struct {
	Kind string `json:"kind" enum:"person,group,discoverable" doc:"discoverable: whoever is near"`
	ID   string `json:"id,omitempty" doc:"Of the person or group"`
	Name string `json:"name,omitempty" readOnly:"true" doc:"Of the person or group, in answers"`
}

// LocationGrant lets an audience see where the signed-in user is.
type LocationGrant struct {
	GrantID   string     `json:"grant_id"`
	Audience  Audience   `json:"audience"`
	Precision Precision  `json:"precision"`
	Purpose   string     `json:"purpose"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Absent: until it is ended"`
	Ended     bool       `json:"ended" doc:"Of a group: as long as it is there, a report that names the group does not share with it by itself"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
}

func (a *api) grantOf(g location.Grant) LocationGrant {
	return LocationGrant{
		GrantID: g.ID.String(), Audience: Audience{string(g.Audience.Kind), g.Audience.ID, g.Name}, Precision: Precision(g.Precision.String()),
		Purpose: g.Purpose, ExpiresAt: timeOrNil(g.Expires), Ended: !g.Expires.IsZero() && !a.Now().Before(g.Expires),
		CreatedAt: g.CreatedAt, UpdatedAt: g.UpdatedAt,
	}
}

// Zone is a place in which nobody sees the signed-in user finer than its precision.
type Zone struct {
	ZoneID    string    `json:"zone_id"`
	Name      string    `json:"name"`
	Center    geo.Point `json:"center"`
	Radius    float64   `json:"radius" doc:"Metres"`
	Precision Precision `json:"precision"`
	CreatedAt time.Time `json:"created_at"`
}

func zoneOf(z location.Zone) Zone {
	return Zone{z.ID.String(), z.Name, z.Center, z.Radius, Precision(z.Precision.String()), z.CreatedAt}
}

// SharingState says whether anything is shared at all.
type SharingState struct {
	Paused      bool       `json:"paused" doc:"Ghost mode: nobody sees where you are, whatever you granted"`
	PausedUntil *time.Time `json:"paused_until,omitempty" doc:"Absent: until it is ended"`
}

// LocationReceipt says that somebody could see where the signed-in user was.
type LocationReceipt struct {
	Reader    Reader    `json:"reader"`
	How       string    `json:"how" doc:"room: it was told into a room that they followed; group, proximity, people, nearby: they asked; link: somebody opened it" example:"room"`
	Room      string    `json:"room,omitempty" doc:"With how=room"`
	Precision Precision `json:"precision"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Reads     int       `json:"reads" doc:"How often between first and last; reads are gathered by the hour"`
}

// Reader is a user, or whoever had a link.
type Reader struct {
	Kind string `json:"kind" enum:"user,link"`
	ID   string `json:"id"`
	Name string `json:"name" doc:"Of the user, or the purpose of the link; empty: there is none any more"`
}

// pathID reads an id of the path. A malformed one is that of nothing.
func pathID(s, field string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return id, errs.New(errs.Invalid, "bad_request", "an id is a UUID in lower case").At("path." + field)
	}
	return id, nil
}

// seconds reads a length of time; what is out of any range stays so.
func seconds(n int64) time.Duration {
	const most = int64(100 * 366 * 24 * time.Hour / time.Second)
	return time.Duration(min(max(n, -1), most)) * time.Second
}

func (a *api) grantOperations() {
	store := a.Location.Store

	type grantOutput struct {
		Body LocationGrant
	}
	type newGrantInput struct {
		Body struct {
			Audience  Audience  `json:"audience"`
			Precision Precision `json:"precision"`
			ExpiresIn int64     `json:"expires_in,omitempty" minimum:"0" doc:"Seconds, from a minute; absent or 0: until it is ended"`
			Purpose   string    `json:"purpose,omitempty" doc:"At most 200 characters, for yourself"`
		}
	}
	register(a, operation{id: "create-grant", method: http.MethodPost, path: "/location/grants", tag: tagLocation, spreads: true, status: http.StatusCreated,
		summary: "Let a person, a group that you are in, or whoever is near see where you are; of several for one audience the finest counts. A person shares a group with you, and finds you under /location/people"},
		func(ctx context.Context, in *newGrantInput) (*grantOutput, error) {
			user := caller(ctx).User
			d := location.Draft{Audience: grant.Audience{Kind: grant.Kind(in.Body.Audience.Kind), ID: in.Body.Audience.ID},
				Precision: in.Body.Precision.parsed(), Life: seconds(in.Body.ExpiresIn), Purpose: in.Body.Purpose}
			answer, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (LocationGrant, error) {
				g, err := store.Grant(ctx, tx, user, d)
				return a.grantOf(g), err
			})
			if err != nil {
				return nil, err
			}
			store.TellGrant(ctx, user, d.Audience)
			return &grantOutput{Body: answer}, nil
		})

	type grantsOutput struct {
		Body struct {
			Grants []LocationGrant `json:"grants" nullable:"false"`
		}
	}
	register(a, operation{id: "list-grants", method: http.MethodGet, path: "/location/grants", tag: tagLocation,
		summary: "Who may see where you are, the oldest grant first; of groups also what has ended"},
		func(ctx context.Context, _ *struct{}) (*grantsOutput, error) {
			list, err := store.Grants(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			out := &grantsOutput{}
			out.Body.Grants = make([]LocationGrant, len(list))
			for i, g := range list {
				out.Body.Grants[i] = a.grantOf(g)
			}
			return out, nil
		})

	type changeGrantInput struct {
		GrantID string `path:"grant_id"`
		Body    struct {
			Precision *Precision `json:"precision,omitempty" doc:"Absent: unchanged"`
			ExpiresIn *int64     `json:"expires_in,omitempty" minimum:"0" doc:"Seconds from now; 0: until it is ended; absent: unchanged"`
			Purpose   *string    `json:"purpose,omitempty" doc:"Absent: unchanged"`
		}
	}
	register(a, operation{id: "change-grant", method: http.MethodPatch, path: "/location/grants/{grant_id}", tag: tagLocation, spreads: true,
		summary: "Change a grant; it holds at once"},
		func(ctx context.Context, in *changeGrantInput) (*grantOutput, error) {
			id, err := pathID(in.GrantID, "grant_id")
			if err != nil {
				return nil, err
			}
			c := location.GrantChange{Purpose: in.Body.Purpose}
			if in.Body.Precision != nil {
				p := in.Body.Precision.parsed()
				c.Precision = &p
			}
			if in.Body.ExpiresIn != nil {
				life := seconds(*in.Body.ExpiresIn)
				c.Life = &life
			}
			g, err := store.ChangeGrant(ctx, caller(ctx).User, id, c)
			if err != nil {
				return nil, err
			}
			return &grantOutput{Body: a.grantOf(g)}, nil
		})

	type endGrantInput struct {
		GrantID string `path:"grant_id"`
		Forget  bool   `query:"forget" doc:"Of a group: leave nothing behind, so that a report that names the group shares with it again"`
	}
	register(a, operation{id: "end-grant", method: http.MethodDelete, path: "/location/grants/{grant_id}", tag: tagLocation, spreads: true,
		summary: "Take a grant back; the position is withdrawn from that audience at once"},
		func(ctx context.Context, in *endGrantInput) (*Success, error) {
			id, err := pathID(in.GrantID, "grant_id")
			if err != nil {
				return nil, err
			}
			return success(store.EndGrant(ctx, caller(ctx).User, id, in.Forget))
		})

	a.sharingOperations()
	a.receiptOperations()
}

func (a *api) sharingOperations() {
	store := a.Location.Store

	type sharingOutput struct{ Body SharingState }
	sharing := func(p location.Pause, err error) (*sharingOutput, error) {
		if err != nil {
			return nil, err
		}
		return &sharingOutput{SharingState{p.Paused, timeOrNil(p.Until)}}, nil
	}
	register(a, operation{id: "get-sharing", method: http.MethodGet, path: "/location/sharing", tag: tagLocation, summary: "Whether you are in ghost mode"},
		func(ctx context.Context, _ *struct{}) (*sharingOutput, error) {
			return sharing(store.Paused(ctx, caller(ctx).User))
		})
	type sharingInput struct {
		Body struct {
			Paused    bool  `json:"paused"`
			ExpiresIn int64 `json:"expires_in,omitempty" minimum:"0" doc:"Seconds, from a minute; absent or 0: until it is ended"`
		}
	}
	register(a, operation{id: "put-sharing", method: http.MethodPut, path: "/location/sharing", tag: tagLocation, spreads: true,
		summary: "Begin or end ghost mode: while it lasts nobody sees where you are, and your grants stay as they are"},
		func(ctx context.Context, in *sharingInput) (*sharingOutput, error) {
			return sharing(store.SetPause(ctx, caller(ctx).User, in.Body.Paused, seconds(in.Body.ExpiresIn)))
		})

	type newZoneInput struct {
		Body struct {
			Name      string    `json:"name,omitempty" doc:"At most 80 characters, for yourself"`
			Center    geo.Point `json:"center"`
			Radius    float64   `json:"radius" doc:"Metres; a large zone wants a coarse precision"`
			Precision Precision `json:"precision" doc:"r0 to r10"`
		}
	}
	type zoneOutput struct {
		Body Zone
	}
	register(a, operation{id: "create-zone", method: http.MethodPost, path: "/location/zones", tag: tagLocation, spreads: true, status: http.StatusCreated,
		summary: "Make a place, such as your home, in which nobody sees you finer than its precision"},
		func(ctx context.Context, in *newZoneInput) (*zoneOutput, error) {
			user := caller(ctx).User
			answer, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (Zone, error) {
				z, err := store.AddZone(ctx, tx, user, in.Body.Name, grant.Zone{Center: in.Body.Center, Radius: in.Body.Radius, Precision: in.Body.Precision.parsed()})
				return zoneOf(z), err
			})
			if err != nil {
				return nil, err
			}
			store.Tell(ctx, user)
			return &zoneOutput{Body: answer}, nil
		})

	type zonesOutput struct {
		Body struct {
			Zones []Zone `json:"zones" nullable:"false"`
		}
	}
	register(a, operation{id: "list-zones", method: http.MethodGet, path: "/location/zones", tag: tagLocation, summary: "Your zones, the oldest first; nobody else can read them"},
		func(ctx context.Context, _ *struct{}) (*zonesOutput, error) {
			list, err := store.Zones(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			out := &zonesOutput{}
			out.Body.Zones = make([]Zone, len(list))
			for i, z := range list {
				out.Body.Zones[i] = zoneOf(z)
			}
			return out, nil
		})

	type deleteZoneInput struct {
		ZoneID string `path:"zone_id"`
	}
	register(a, operation{id: "delete-zone", method: http.MethodDelete, path: "/location/zones/{zone_id}", tag: tagLocation, spreads: true, summary: "Delete a zone"},
		func(ctx context.Context, in *deleteZoneInput) (*Success, error) {
			id, err := pathID(in.ZoneID, "zone_id")
			if err != nil {
				return nil, err
			}
			return success(store.RemoveZone(ctx, caller(ctx).User, id))
		})
}

func (a *api) receiptOperations() {
	type receiptsInput struct {
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type receiptsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Receipts []LocationReceipt `json:"receipts" nullable:"false"`
		}
	}
	register(a, operation{id: "list-receipts", method: http.MethodGet, path: "/location/receipts", tag: tagLocation,
		summary: "Who could see where you were in the last 30 days, when, and how precisely; the latest first, up to some seconds ago"},
		func(ctx context.Context, in *receiptsInput) (*receiptsOutput, error) {
			list, next, err := a.Location.Store.Receipts(ctx, caller(ctx).User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &receiptsOutput{Link: nextPage("/location/receipts", in.Limit, next)}
			out.Body.Receipts = make([]LocationReceipt, len(list))
			for i, r := range list {
				kind := "user"
				if r.How == location.ByLink {
					kind = "link"
				}
				out.Body.Receipts[i] = LocationReceipt{Reader{kind, r.Reader.String(), r.Name}, r.How, r.Room, Precision(r.Precision.String()), r.First, r.Last, r.Reads}
			}
			return out, nil
		})
}
