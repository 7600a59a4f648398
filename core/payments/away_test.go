package payments_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/payments"
	"github.com/mustermesh/muster/core/payments/stripe"
)

// switched is a gateway that can't be reached while it is off.
type switched struct {
	payments.Gateway
	off atomic.Bool
}

var errAway = errors.New("no route to host")

func (s *switched) Create(ctx context.Context, i payments.Intent) (payments.State, error) {
	if s.off.Load() {
		return payments.State{}, errAway
	}
	return s.Gateway.Create(ctx, i)
}

// deafness doesn't take webhooks while it is on.
type deafness struct {
	on    atomic.Bool
	heard atomic.Int64
}

func (d *deafness) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.on.Load() {
			d.heard.Add(1)
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func fuzzed(f *testing.F) (g *stripe.Gateway, secret string) {
	g, err := stripe.New(stripe.Config{Key: "sk_test", Secrets: []string{"whsec_test"}})
	require.NoError(f, err)
	return g, "whsec_test"
}
