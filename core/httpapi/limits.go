package httpapi

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/mustermesh/muster/core/auth"
)

// limit is a limit under the name that clients know it by.
type limit struct {
	name    string
	buckets *auth.Limiter
}

func newLimit(name string, l auth.Limit, now func() time.Time) limit {
	return limit{name, auth.NewLimiter(l, now)}
}

// take counts a request against key's bucket, and says in the answer what is left
// (draft-ietf-httpapi-ratelimit-headers-10): of a policy q requests in w seconds,
// which is what the bucket holds and how long it takes to fill, r are left, and all
// q in t seconds.
func (l limit) take(ctx context.Context, key string) error {
	left, err := l.buckets.Take(key)
	h := exchangeOf(ctx).header
	h.Add("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", l.name, left.Limit.Burst, whole(time.Duration(left.Limit.Burst)*left.Limit.Every)))
	h.Add("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", l.name, left.Tokens, whole(left.Full)))
	return err
}

// whole is a time in whole seconds, never less than it is.
func whole(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// limits are those of the API; operations may have their own besides.
type limits struct {
	address limit // of a client address, for each operation: sign-ups, sign-ins and the like
	login   limit // of a device
	user    limit // of all devices of a user
	changes limit // of what a user has all nodes told
}

func newLimits(cfg *Config) limits {
	user := cfg.UserLimit.Or(auth.Limit{Burst: 300, Every: 20 * time.Millisecond})
	// One device leaves something to the user's others.
	login := cfg.LoginLimit.Or(auth.Limit{Burst: max(1, user.Burst*2/3), Every: user.Every * 3 / 2})
	return limits{
		address: newLimit("address", cfg.AddressLimit.Or(auth.Limit{Burst: 1000, Every: 50 * time.Millisecond}), cfg.Now),
		login:   newLimit("login", login, cfg.Now),
		user:    newLimit("user", user, cfg.Now),
		changes: newLimit("changes", cfg.ChangeLimit.Or(auth.Limit{Burst: 60, Every: time.Second}), cfg.Now),
	}
}

// limitAddress bounds what one client address may ask of an operation. Each has
// a bucket of its own, so that who tries passwords from an address does not
// keep others behind it from refreshing.
func (a *api) limitAddress(ctx huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(ctx)
	key := ctx.Operation().OperationID + " " + network(a.ClientAddr(r)).String()
	if err := a.limits.address.take(ctx.Context(), key); err != nil {
		fromError(ctx.Context(), a.Log, err).write(w)
		return
	}
	next(ctx)
}

// limitChanges bounds how often all nodes are called for one user, who may ask for
// much that costs less.
func (a *api) limitChanges(ctx huma.Context, next func(huma.Context)) {
	if err := a.limits.changes.take(ctx.Context(), caller(ctx.Context()).User.String()); err != nil {
		_, w := humachi.Unwrap(ctx)
		fromError(ctx.Context(), a.Log, err).write(w)
		return
	}
	next(ctx)
}

// limitCaller bounds what a device asks, and all devices of a user.
func (a *api) limitCaller(ctx context.Context, id auth.Identity) error {
	if err := a.limits.login.take(ctx, id.Login.String()); err != nil {
		return err
	}
	return a.limits.user.take(ctx, id.User.String())
}
