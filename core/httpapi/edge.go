package httpapi

import (
	"context"
	"net/http"

	"github.com/mustermesh/muster/internal/errs"
)

// Edges says where sessions can be opened, and what to try there.
type Edges interface {
	Edges() EdgeDirectory
	// Demo returns the group in which recorded tracks are played; false where
	// there is none.
	Demo() (Demo, bool)
}

// EdgeDirectory is where sessions can be opened.
type EdgeDirectory struct {
	Regions    []EdgeRegion `json:"regions" nullable:"false"`
	CertSHA256 string       `json:"cert_sha256,omitempty" doc:"Base64 of the SHA-256 of the certificate that WebTransport shows, where it is to be pinned"`
}

// EdgeRegion is a set of nodes near each other.
type EdgeRegion struct {
	Name  string     `json:"name" example:"eu-west"`
	Lat   float64    `json:"lat" doc:"Degrees, WGS 84"`
	Lng   float64    `json:"lng"`
	Nodes []EdgeNode `json:"nodes" nullable:"false"`
}

// EdgeNode is one node.
type EdgeNode struct {
	ID   string `json:"id" example:"eu-west-1"`
	HTTP string `json:"http" doc:"Base URL of the HTTP API"`
	WS   string `json:"ws" doc:"WebSocket URL"`
	WT   string `json:"wt" doc:"WebTransport URL; empty where there is none"`
}

// Demo is a group that everybody may look into.
type Demo struct {
	InviteCode string `json:"invite_code"`
	Name       string `json:"name"`
}

func (a *api) edgeOperations() {
	const tag = "edge"

	type edgeOutput struct {
		CacheControl string `header:"Cache-Control"`
		Body         EdgeDirectory
	}
	register(a, operation{id: "edge", method: http.MethodGet, path: "/edge", tag: tag, summary: "Where to open a session", public: true},
		func(context.Context, *struct{}) (*edgeOutput, error) {
			out := &edgeOutput{CacheControl: "no-cache", Body: a.Edges.Edges()}
			if out.Body.Regions == nil {
				out.Body.Regions = []EdgeRegion{}
			}
			return out, nil
		})

	type demoOutput struct{ Body Demo }
	register(a, operation{id: "demo", method: http.MethodGet, path: "/demo", tag: tag, summary: "The group in which recorded tracks are played", public: true},
		func(context.Context, *struct{}) (*demoOutput, error) {
			d, ok := a.Edges.Demo()
			if !ok {
				return nil, errs.New(errs.NotFound, "no_demo", "this deployment plays no recorded tracks")
			}
			return &demoOutput{d}, nil
		})
}
