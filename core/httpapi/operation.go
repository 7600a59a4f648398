package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// operation describes an operation in few words. Most need a signed-in user
// and answer 200.
type operation struct {
	id, method, path, tag, summary string

	public  bool  // no token needed
	limited bool  // counted per client address: what costs us most, or tries passwords or invites
	spreads bool  // all nodes are told what it changed: a user's are counted apart
	locates bool  // the answer depends on where the client's address is
	stale   bool  // a follower of the database may answer it, some seconds late: see db.ReadStale
	status  int   // default 200
	refuses []int // statuses of failures beyond those that follow from the rest: see responses

	body  int64  // most bytes of a request; default Config.MaxBody
	media string // content types of an answer that isn't JSON of the document's
	raw   bool   // its body is taken as it came: the operation itself checks it

	// Of a write: the field of its body that says whose it is, where nobody is signed
	// in. Idempotency keys count for it.
	account string
	// Of a write that isn't one transaction: why, and what makes a repeated one
	// harmless. It leaves Idempotency-Key alone.
	apart string
}

// writes reports whether an operation changes something.
func (o operation) writes() bool { return o.method != http.MethodGet }

// register adds an operation whose failures are problems.
func register[I, O any](a *api, o operation, call func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID:   o.id,
		Method:        o.method,
		Path:          prefix + o.path,
		Tags:          []string{o.tag},
		Summary:       o.summary,
		DefaultStatus: o.status,
		MaxBodyBytes:  cmp.Or(o.body, a.MaxBody) + 1, // huma refuses the limit itself
		Middlewares:   huma.Middlewares{nameOperation},

		SkipValidateBody: o.raw,
	}
	if o.body > 0 {
		a.larger[o.method+" "+prefix+o.path] = o.body
		op.BodyReadTimeout = 30 * time.Second
	}
	if o.limited {
		op.Middlewares = append(op.Middlewares, a.limitAddress)
	}
	if o.locates {
		op.Middlewares = append(op.Middlewares, a.noteAddress)
	}
	if o.public {
		op.Security = []map[string][]string{}
	} else {
		op.Security = []map[string][]string{{"bearer": {}}}
		op.Middlewares = append(op.Middlewares, a.authenticate)
	}
	if o.spreads {
		op.Middlewares = append(op.Middlewares, a.limitChanges)
	}
	if o.writes() && o.apart == "" {
		op.Middlewares = append(op.Middlewares, a.once(o))
	}
	op.Parameters, op.Responses = o.parameters(), a.responses(o)
	if o.method == http.MethodGet {
		op.Extensions = map[string]any{"x-consistency": "strong"}
	}
	if o.stale {
		op.Extensions["x-consistency"] = "stale"
		op.Description = "May be some seconds old: `Age` says how old at most."
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		if !o.stale {
			ctx = db.Current(ctx)
		}
		out, err := call(ctx, in)
		switch {
		case err == nil:
			exchangeOf(ctx).dated()
			return out, nil
		case db.Repeats(ctx): // nobody gets this answer
			return nil, newProblem(http.StatusServiceUnavailable, "retry", "this is tried again")
		}
		return nil, fromError(ctx, a.Log, err)
	})
	o.describe(a.huma.OpenAPI())
}

// nameOperation tells log and metrics which operation this is.
func nameOperation(ctx huma.Context, next func(huma.Context)) {
	exchangeOf(ctx.Context()).operation = ctx.Operation().OperationID
	next(ctx)
}

type callerKey struct{}

// caller is who asks; operations that aren't public always have one.
func caller(ctx context.Context) auth.Identity {
	id, _ := ctx.Value(callerKey{}).(auth.Identity)
	return id
}

// authenticate lets only a valid token of a live login pass, and not too often.
func (a *api) authenticate(ctx huma.Context, next func(huma.Context)) {
	_, w := humachi.Unwrap(ctx)
	x := exchangeOf(ctx.Context())
	id, err := a.Auth.Authenticate(ctx.Context(), x.bearer)
	if err == nil {
		x.user = id.User.String()
		err = a.limitCaller(ctx.Context(), id)
	}
	if err != nil {
		fromError(ctx.Context(), a.Log, err).write(w)
		return
	}
	next(huma.WithValue(ctx, callerKey{}, id))
}

// bearer returns the token of an Authorization header (RFC 6750 section 2.1).
func bearer(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// noteAddress keeps the client's address for the operation.
func (a *api) noteAddress(ctx huma.Context, next func(huma.Context)) {
	r, _ := humachi.Unwrap(ctx)
	exchangeOf(ctx.Context()).client = a.ClientAddr(r)
	next(ctx)
}

// connectionAddr is the address at the other end of the connection.
func connectionAddr(r *http.Request) netip.Addr {
	ap, _ := netip.ParseAddrPort(r.RemoteAddr) // "" in tests without a listener: one bucket for all
	return ap.Addr().Unmap()
}

// network is what one subscriber usually holds: an IPv4 address, or a /64.
func network(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}

// groupID reads the path's group. A malformed one is no group's.
func groupID(s string) (core.GroupID, error) {
	id, err := core.ParseGroupID(s)
	if err != nil {
		return id, errs.New(errs.Invalid, "bad_request", "a group id is a UUID in lower case").At("path.group_id")
	}
	return id, nil
}

func userID(s, field string) (core.UserID, error) {
	id, err := core.ParseUserID(s)
	if err != nil {
		return id, errs.New(errs.Invalid, "bad_request", "a user id is a UUID in lower case").At(field)
	}
	return id, nil
}

// inTx runs fn in a transaction; see db.InTx.
func inTx[T any](ctx context.Context, a *api, fn func(context.Context, pgx.Tx) (T, error)) (out T, err error) {
	err = a.DB.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = fn(ctx, tx)
		return err
	})
	return out, err
}

// Success is the answer of operations that have nothing to tell.
type Success struct {
	Body struct {
		Success bool `json:"success"`
	}
}

func success(err error) (*Success, error) {
	if err != nil {
		return nil, err
	}
	s := &Success{}
	s.Body.Success = true
	return s, nil
}
