package httpapi

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// FleetPrecision is a Precision, or none.
type FleetPrecision string

// Schema lists the precisions in the document.
func (FleetPrecision) Schema(r huma.Registry) *huma.Schema {
	s := Precision("").Schema(r)
	s.Description = "What every signed-in user sees of the fleet's subjects: none, " + s.Description
	s.Enum = append([]any{nobody}, s.Enum...)
	s.PrecomputeMessages()
	return s
}

const nobody = "none"

// parsed is a precision that has passed the schema.
func (p FleetPrecision) parsed() grant.Precision { return Precision(p).parsed() } // None is what "none" is read as

// Fleet is many subjects whose positions come through gateways.
type Fleet struct {
	FleetID   string         `json:"fleet_id" doc:"UUID"`
	Name      string         `json:"name"`
	Precision FleetPrecision `json:"precision"`
	ExpiresAt *time.Time     `json:"expires_at,omitempty" doc:"When nobody sees the subjects any more; absent: not by itself"`
	Version   uint64         `json:"version" doc:"Grows with each change"`
	CreatedAt time.Time      `json:"created_at"`
	UpdatedAt time.Time      `json:"updated_at"`
}

func (a *api) fleetOf(f fleets.Fleet) Fleet {
	s := f.Shown.At(a.Now())
	return Fleet{
		FleetID: f.ID.String(), Name: f.Name, Precision: FleetPrecision(s.Precision.String()), ExpiresAt: timeOrNil(s.Expires),
		Version: f.Version, CreatedAt: f.CreatedAt, UpdatedAt: f.UpdatedAt,
	}
}

// FleetKey lets a gateway of a fleet in.
type FleetKey struct {
	KeyID     string    `json:"key_id" doc:"UUID"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
}

func keyOf(k fleets.Key) FleetKey { return FleetKey{k.ID.String(), k.Name, k.CreatedAt} }

// NewFleetKey is such a key with its secret, which is told this once.
type NewFleetKey struct {
	FleetKey
	Key string `json:"key" doc:"For the gateway, and nobody else: it is not told again"`
}

// GatewayToken answers a gateway that has a key.
type GatewayToken struct {
	AccessToken string `json:"access_token" doc:"For the hello of a session, in which positions of the fleet's subjects are sent"`
	ExpiresIn   int64  `json:"expires_in" doc:"Seconds; trade the key again before that"`
	FleetID     string `json:"fleet_id" doc:"UUID"`
}

func fleetID(s, field string) (core.FleetID, error) {
	id, err := core.ParseFleetID(s)
	if err != nil {
		return id, errs.New(errs.Invalid, "bad_request", "a fleet id is a UUID in lower case").At(field)
	}
	return id, nil
}

type fleetInput struct {
	FleetID string `path:"fleet_id"`
}

const tagFleets = "fleets"

func (a *api) fleetOperations() {
	type fleetOutput struct {
		Body Fleet
	}
	type newFleetInput struct {
		Body struct {
			Name      string         `json:"name" doc:"1 to 80 characters"`
			Precision FleetPrecision `json:"precision,omitempty" default:"none"`
			ExpiresIn int64          `json:"expires_in,omitempty" minimum:"0" doc:"Seconds, from a minute; absent or 0: they see it until that is ended"`
		}
	}
	register(a, operation{id: "create-fleet", method: http.MethodPost, path: "/fleets", tag: tagFleets, status: http.StatusCreated,
		summary: "Make a fleet: many subjects (vehicles, parcels) whose positions come through gateways of yours"},
		func(ctx context.Context, in *newFleetInput) (*fleetOutput, error) {
			user := caller(ctx).User
			d := fleets.Draft{Name: in.Body.Name, Precision: in.Body.Precision.parsed(), Life: seconds(in.Body.ExpiresIn)}
			answer, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (Fleet, error) {
				f, err := a.Fleets.Create(ctx, tx, user, d)
				return a.fleetOf(f), err
			})
			if err != nil {
				return nil, err
			}
			return &fleetOutput{Body: answer}, nil
		})

	type fleetsOutput struct {
		Body struct {
			Fleets []Fleet `json:"fleets" nullable:"false"`
		}
	}
	register(a, operation{id: "list-fleets", method: http.MethodGet, path: "/fleets", tag: tagFleets, summary: "Your fleets, the oldest first"},
		func(ctx context.Context, _ *struct{}) (*fleetsOutput, error) {
			list, err := a.Fleets.List(ctx, caller(ctx).User)
			if err != nil {
				return nil, err
			}
			out := &fleetsOutput{}
			out.Body.Fleets = make([]Fleet, len(list))
			for i, f := range list {
				out.Body.Fleets[i] = a.fleetOf(f)
			}
			return out, nil
		})

	register(a, operation{id: "get-fleet", method: http.MethodGet, path: "/fleets/{fleet_id}", tag: tagFleets, summary: "A fleet of yours"},
		func(ctx context.Context, in *fleetInput) (*fleetOutput, error) {
			id, err := fleetID(in.FleetID, "path.fleet_id")
			if err != nil {
				return nil, err
			}
			f, err := a.Fleets.Get(ctx, caller(ctx).User, id)
			if err != nil {
				return nil, err
			}
			return &fleetOutput{Body: a.fleetOf(f)}, nil
		})

	type changeFleetInput struct {
		FleetID string `path:"fleet_id"`
		Body    struct {
			Name      *string         `json:"name,omitempty" doc:"Absent: unchanged"`
			Precision *FleetPrecision `json:"precision,omitempty" doc:"Absent: unchanged"`
			ExpiresIn *int64          `json:"expires_in,omitempty" minimum:"0" doc:"Seconds from now; 0: they see it until that is ended; absent: unchanged"`
		}
	}
	register(a, operation{id: "change-fleet", method: http.MethodPatch, path: "/fleets/{fleet_id}", tag: tagFleets, spreads: true,
		summary: "Change a fleet; it holds for all its subjects at once"},
		func(ctx context.Context, in *changeFleetInput) (*fleetOutput, error) {
			id, err := fleetID(in.FleetID, "path.fleet_id")
			if err != nil {
				return nil, err
			}
			c := fleets.Change{Name: in.Body.Name}
			if in.Body.Precision != nil {
				p := in.Body.Precision.parsed()
				c.Precision = &p
			}
			if in.Body.ExpiresIn != nil {
				life := seconds(*in.Body.ExpiresIn)
				c.Life = &life
			}
			f, err := a.Fleets.Change(ctx, caller(ctx).User, id, c)
			if err != nil {
				return nil, err
			}
			return &fleetOutput{Body: a.fleetOf(f)}, nil
		})

	register(a, operation{id: "delete-fleet", method: http.MethodDelete, path: "/fleets/{fleet_id}", tag: tagFleets, spreads: true,
		summary: "Delete a fleet; nobody sees its subjects any more, and its gateways' sessions end at once"},
		func(ctx context.Context, in *fleetInput) (*Success, error) {
			id, err := fleetID(in.FleetID, "path.fleet_id")
			if err != nil {
				return nil, err
			}
			return success(a.Fleets.Delete(ctx, caller(ctx).User, id))
		})

	a.fleetKeyOperations()
}

func (a *api) fleetKeyOperations() {
	type newKeyInput struct {
		FleetID string `path:"fleet_id"`
		Body    *struct {
			Name string `json:"name,omitempty" doc:"At most 80 characters, for yourself: which gateway it is of"`
		}
	}
	type newKeyOutput struct {
		Body NewFleetKey
	}
	register(a, operation{id: "create-fleet-key", method: http.MethodPost, path: "/fleets/{fleet_id}/keys", tag: tagFleets, status: http.StatusCreated,
		summary: "Make a key for a gateway; it is told in this answer alone"},
		func(ctx context.Context, in *newKeyInput) (*newKeyOutput, error) {
			fleet, err := fleetID(in.FleetID, "path.fleet_id")
			if err != nil {
				return nil, err
			}
			name := ""
			if in.Body != nil {
				name = in.Body.Name
			}
			user := caller(ctx).User
			made, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (FleetKey, error) {
				k, err := a.Fleets.AddKey(ctx, tx, user, fleet, name)
				return keyOf(k), err
			})
			if err != nil {
				return nil, err
			}
			id, err := core.ParseLoginID(made.KeyID)
			if err != nil {
				return nil, err
			}
			return &newKeyOutput{Body: NewFleetKey{made, a.Fleets.Secret(id)}}, nil
		})

	type fleetKeysOutput struct {
		Body struct {
			Keys []FleetKey `json:"keys" nullable:"false"`
		}
	}
	register(a, operation{id: "list-fleet-keys", method: http.MethodGet, path: "/fleets/{fleet_id}/keys", tag: tagFleets,
		summary: "The keys of a fleet, the oldest first"},
		func(ctx context.Context, in *fleetInput) (*fleetKeysOutput, error) {
			fleet, err := fleetID(in.FleetID, "path.fleet_id")
			if err != nil {
				return nil, err
			}
			list, err := a.Fleets.Keys(ctx, caller(ctx).User, fleet)
			if err != nil {
				return nil, err
			}
			out := &fleetKeysOutput{}
			out.Body.Keys = make([]FleetKey, len(list))
			for i, k := range list {
				out.Body.Keys[i] = keyOf(k)
			}
			return out, nil
		})

	type revokeInput struct {
		FleetID string `path:"fleet_id"`
		KeyID   string `path:"key_id"`
	}
	register(a, operation{id: "revoke-fleet-key", method: http.MethodDelete, path: "/fleets/{fleet_id}/keys/{key_id}", tag: tagFleets, spreads: true,
		summary: "Revoke a key; the sessions of whoever has it end at once"},
		func(ctx context.Context, in *revokeInput) (*Success, error) {
			fleet, err := fleetID(in.FleetID, "path.fleet_id")
			if err != nil {
				return nil, err
			}
			key, err := pathID(in.KeyID, "key_id")
			if err != nil {
				return nil, err
			}
			return success(a.Fleets.RevokeKey(ctx, caller(ctx).User, fleet, core.LoginID(key)))
		})

	type tokenInput struct {
		Body struct {
			Key string `json:"key" doc:"Of a gateway"`
		}
	}
	type tokenOutput struct{ Body GatewayToken }
	register(a, operation{id: "fleet-token", account: "key", refuses: []int{http.StatusUnauthorized}, method: http.MethodPost, path: "/fleets/token", tag: tagFleets, public: true, limited: true,
		summary: "Trade a gateway's key for an access token"},
		func(ctx context.Context, in *tokenInput) (*tokenOutput, error) {
			g, err := a.Fleets.Open(ctx, in.Body.Key)
			if err != nil {
				return nil, err
			}
			now := a.Now()
			token, expires, err := a.Auth.Gateway(ctx, g.Fleet, g.Key, g.Name)
			if err != nil {
				return nil, err
			}
			return &tokenOutput{GatewayToken{token, int64(math.Floor(expires.Sub(now).Seconds())), g.Fleet.String()}}, nil
		})
}
