package httpapi

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/errs"
)

// Edges says where sessions can be opened, and what to try there.
type Edges interface {
	// Edges lists the regions, the best for the caller first, and the nodes of
	// each in the order in which to try them.
	Edges(EdgeCaller) EdgeDirectory
	// Demo returns the group in which recorded tracks are played; false where
	// there is none.
	Demo() (Demo, bool)
}

// EdgeCaller is what is known of who asks.
type EdgeCaller struct {
	Addr   netip.Addr
	At     *geo.Point               // as the caller says; nil: it doesn't
	Region string                   // in which it is now; empty: it doesn't say
	RTT    map[string]time.Duration // to regions, as it measured
}

// EdgeDirectory is where sessions can be opened.
type EdgeDirectory struct {
	Regions    []EdgeRegion `json:"regions" nullable:"false" doc:"The best for the caller first"`
	CertSHA256 string       `json:"cert_sha256,omitempty" doc:"Base64 of the SHA-256 of the certificate that WebTransport shows, where it is to be pinned"`
	TTL        int          `json:"ttl_s" doc:"Seconds after which to ask again" example:"300"`
}

// EdgeRegion is a set of nodes near each other.
type EdgeRegion struct {
	Name  string     `json:"name" example:"eu-west"`
	Lat   float64    `json:"lat" doc:"Degrees, WGS 84"`
	Lng   float64    `json:"lng"`
	State string     `json:"state" enum:"up,draining,down,unknown" doc:"As the answering node knows; unknown: it has not heard of the region yet"`
	Load  float64    `json:"load" minimum:"0" doc:"Share of the region's capacity that is in use; 1 is full"`
	Nodes []EdgeNode `json:"nodes" nullable:"false" doc:"In the order in which to try them"`
}

// EdgeNode is one node.
type EdgeNode struct {
	ID    string `json:"id" example:"eu-west-1"`
	HTTP  string `json:"http" doc:"Base URL of the HTTP API"`
	WS    string `json:"ws" doc:"WebSocket URL"`
	WT    string `json:"wt" doc:"WebTransport URL; empty where there is none"`
	State string `json:"state" enum:"up,draining,down,unknown"`
}

// Demo is a group that everybody may look into.
type Demo struct {
	InviteCode string `json:"invite_code"`
	Name       string `json:"name"`
}

// edgeInput is how a caller helps to find what is best for it.
type edgeInput struct {
	Lat    float64  `query:"lat" minimum:"-90" maximum:"90" doc:"Where the caller is, with lng. Default: where its address is"`
	Lng    float64  `query:"lng" minimum:"-180" maximum:"180"`
	Region string   `query:"region" maxLength:"63" doc:"Where the caller's session is: another region comes first only if it is clearly better"`
	RTT    []string `query:"rtt,explode" maxItems:"64" doc:"A round trip that the caller measured, as region:milliseconds" example:"[\"eu-west:23.5\"]"`

	located bool
}

var _ huma.Resolver = (*edgeInput)(nil)

// Resolve notes whether coordinates were given: none are not those of the Gulf
// of Guinea.
func (in *edgeInput) Resolve(ctx huma.Context) (problems []error) {
	in.located, problems = located(ctx)
	return problems
}

// located reports whether a query has lat and lng, and not only one of them.
func located(ctx huma.Context) (is bool, problems []error) {
	lat, lng := ctx.Query("lat") != "", ctx.Query("lng") != ""
	if lat != lng {
		problems = []error{&huma.ErrorDetail{Location: "query.lat", Message: "lat and lng go together"}}
	}
	return lat && lng, problems
}

func (in *edgeInput) caller(addr netip.Addr) (EdgeCaller, error) {
	c := EdgeCaller{Addr: addr, Region: in.Region}
	if in.located {
		c.At = &geo.Point{Lat: in.Lat, Lng: in.Lng}
	}
	for _, s := range in.RTT {
		region, number, _ := strings.Cut(s, ":")
		ms, err := strconv.ParseFloat(number, 64)
		if err != nil || !(ms > 0 && ms < 1e6) {
			return c, errs.New(errs.Invalid, "bad_request", "a round trip is region:milliseconds, such as eu-west:23.5").At("query.rtt")
		}
		if c.RTT == nil {
			c.RTT = map[string]time.Duration{}
		}
		c.RTT[region] = time.Duration(ms * float64(time.Millisecond))
	}
	return c, nil
}

func (a *api) edgeOperations() {
	const tag = "edge"

	type edgeOutput struct {
		CacheControl string `header:"Cache-Control"`
		Body         EdgeDirectory
	}
	register(a, operation{id: "edge", method: http.MethodGet, path: "/edge", tag: tag, summary: "Where to open a session", public: true, locates: true},
		func(ctx context.Context, in *edgeInput) (*edgeOutput, error) {
			c, err := in.caller(exchangeOf(ctx).client)
			if err != nil {
				return nil, err
			}
			// The answer is the caller's own.
			out := &edgeOutput{CacheControl: "private, no-cache", Body: a.Edges.Edges(c)}
			if out.Body.Regions == nil {
				out.Body.Regions = []EdgeRegion{}
			}
			return out, nil
		})

	type probeOutput struct {
		Timing string `header:"Timing-Allow-Origin"`
	}
	register(a, operation{
		id: "edge-probe", method: http.MethodGet, path: "/edge/probe", tag: tag, public: true, status: http.StatusNoContent,
		summary: "Nothing, as fast as possible: to measure the round trip to this node",
	}, func(context.Context, *struct{}) (*probeOutput, error) {
		return &probeOutput{Timing: "*"}, nil // so that pages may read the timing in detail
	})

	type demoOutput struct{ Body Demo }
	register(a, operation{id: "demo", refuses: []int{http.StatusNotFound}, method: http.MethodGet, path: "/demo", tag: tag, summary: "The group in which recorded tracks are played", public: true},
		func(context.Context, *struct{}) (*demoOutput, error) {
			d, ok := a.Edges.Demo()
			if !ok {
				return nil, errs.New(errs.NotFound, "no_demo", "this deployment plays no recorded tracks")
			}
			return &demoOutput{d}, nil
		})
}
