package client

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Nobody is the precision of a fleet whose subjects nobody sees; the others are
// "exact" and the H3 resolutions "r0" to "r10".
const Nobody = "none"

// Fleet is many subjects (vehicles, parcels) whose positions come through gateways.
type Fleet struct {
	FleetID   string     `json:"fleet_id"`
	Name      string     `json:"name"`
	Precision string     `json:"precision"`  // at which everybody sees its subjects
	ExpiresAt *time.Time `json:"expires_at"` // when nobody does any more; nil: not by itself
	Version   uint64     `json:"version"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
}

// FleetDraft describes a fleet to make.
type FleetDraft struct {
	Name      string `json:"name"`
	Precision string `json:"precision,omitempty"`  // empty: Nobody
	ExpiresIn int64  `json:"expires_in,omitempty"` // seconds; 0: until it is ended
}

// FleetChange names what is to be replaced; nil leaves a field as it is.
type FleetChange struct {
	Name      *string `json:"name,omitempty"`
	Precision *string `json:"precision,omitempty"`
	ExpiresIn *int64  `json:"expires_in,omitempty"` // seconds from now; 0: until it is ended
}

// FleetKey lets a gateway of a fleet in.
type FleetKey struct {
	KeyID     string    `json:"key_id"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	Key       string    `json:"key"` // the secret, for NewFleetTokens; only CreateFleetKey tells it
}

// CreateFleet makes a fleet of the signed-in user's.
func (a *API) CreateFleet(ctx context.Context, d FleetDraft) (f Fleet, err error) {
	err = a.call(ctx, http.MethodPost, "/api/v1/fleets", d, &f)
	return f, err
}

// Fleets lists the signed-in user's fleets, the oldest first.
func (a *API) Fleets(ctx context.Context) ([]Fleet, error) {
	var out struct{ Fleets []Fleet }
	err := a.call(ctx, http.MethodGet, "/api/v1/fleets", nil, &out)
	return out.Fleets, err
}

// Fleet returns one of them.
func (a *API) Fleet(ctx context.Context, id string) (f Fleet, err error) {
	err = a.call(ctx, http.MethodGet, fleetPath(id), nil, &f)
	return f, err
}

// ChangeFleet changes a fleet; that holds for all its subjects at once.
func (a *API) ChangeFleet(ctx context.Context, id string, c FleetChange) (f Fleet, err error) {
	err = a.call(ctx, http.MethodPatch, fleetPath(id), c, &f)
	return f, err
}

// DeleteFleet deletes a fleet: nobody sees its subjects, and its gateways' sessions
// end.
func (a *API) DeleteFleet(ctx context.Context, id string) error {
	return a.call(ctx, http.MethodDelete, fleetPath(id), nil, nil)
}

// CreateFleetKey makes a key for a gateway. Its secret is told in this answer alone.
func (a *API) CreateFleetKey(ctx context.Context, fleet, name string) (k FleetKey, err error) {
	err = a.call(ctx, http.MethodPost, fleetPath(fleet)+"/keys", map[string]string{"name": name}, &k)
	return k, err
}

// FleetKeys lists a fleet's keys, the oldest first.
func (a *API) FleetKeys(ctx context.Context, fleet string) ([]FleetKey, error) {
	var out struct{ Keys []FleetKey }
	err := a.call(ctx, http.MethodGet, fleetPath(fleet)+"/keys", nil, &out)
	return out.Keys, err
}

// RevokeFleetKey revokes a key; the sessions of whoever has it end.
func (a *API) RevokeFleetKey(ctx context.Context, fleet, key string) error {
	return a.call(ctx, http.MethodDelete, fleetPath(fleet)+"/keys/"+url.PathEscape(key), nil, nil)
}

func fleetPath(id string) string { return "/api/v1/fleets/" + url.PathEscape(id) }

// FleetTokens is the TokenSource of a fleet's gateway: it trades the gateway's key
// for access tokens, again and again. It is safe for concurrent use.
//
//	api := client.NewAPI("https://muster.example", client.APIConfig{})
//	s, err := client.Connect(ctx, client.Config{Edges: api, Tokens: client.NewFleetTokens(api, key)})
type FleetTokens struct {
	api *API
	key string

	flight singleflight.Group // of exchanges
	mu     sync.Mutex         // guards the following
	token  string
	fleet  string
}

// NewFleetTokens returns one for the key that CreateFleetKey told. Nobody needs to
// be signed in with the API.
func NewFleetTokens(api *API, key string) *FleetTokens { return &FleetTokens{api: api, key: key} }

// Token implements TokenSource. Concurrent calls share one exchange.
func (t *FleetTokens) Token(ctx context.Context, stale string) (string, error) {
	t.mu.Lock()
	token := t.token
	t.mu.Unlock()
	if token != "" && token != stale && remaining(token, time.Hour) > 10*time.Second {
		return token, nil
	}
	// A caller that goes away must not fail those who share its exchange.
	done := t.flight.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return t.exchange(ctx)
	})
	select {
	case r := <-done:
		token, _ := r.Val.(string)
		return token, r.Err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (t *FleetTokens) exchange(ctx context.Context) (string, error) {
	var out struct {
		Token string `json:"access_token"`
		Fleet string `json:"fleet_id"`
	}
	if err := t.api.do(ctx, http.MethodPost, "/api/v1/fleets/token", "", map[string]string{"key": t.key}, &out); err != nil {
		return "", err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.fleet = out.Token, out.Fleet
	return out.Token, nil
}

// Fleet returns the id of the key's fleet, as the last token had it; empty before
// the first.
func (t *FleetTokens) Fleet() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fleet
}
