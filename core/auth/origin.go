package auth

import (
	"context"
	"net/netip"
)

// Origin is what is kept of where a request came from. It travels in the context:
// no decision depends on it.
type Origin struct {
	// Network is shown beside a login and in the audit log: see NetworkOf.
	Network string
	// Language is what the client prefers to read, as in Accept-Language (RFC 9110
	// section 12.5.4): that of the mails that the request leads to.
	Language string
}

type originKey struct{}

// WithOrigin returns a context that says where a request came from.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

func originOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

// NetworkOf is how much of an address is kept, a /24 or a /48: enough to tell
// one's own network from a foreign one, too little to follow a person by.
func NetworkOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, _ := a.Prefix(bits) // of a valid address
	return p.String()
}
