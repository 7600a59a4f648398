package client

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

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
