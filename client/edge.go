package client

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

// EdgeSource says where the edge nodes are. *API is one.
type EdgeSource interface {
	Edge(ctx context.Context) (Edge, error)
}

// Edge says where the edge nodes are, the best for the caller first.
type Edge struct {
	Regions []EdgeRegion `json:"regions"`
	// CertSHA256 is the base64 of the SHA-256 of the certificate that nodes
	// show on WebTransport, if it is to be pinned.
	CertSHA256 string `json:"cert_sha256"`
	TTL        int    `json:"ttl_s"` // seconds until it should be asked for again
}

// EdgeRegion is one region of Edge.
type EdgeRegion struct {
	Name      string     `json:"name"`
	geo.Point            // about where it is
	State     string     `json:"state"` // up, draining, down or unknown; empty: not said
	Load      float64    `json:"load"`
	Nodes     []EdgeNode `json:"nodes"`
}

// EdgeNode is one node of Edge.
type EdgeNode struct {
	ID    string `json:"id"`
	HTTP  string `json:"http"`
	WS    string `json:"ws"`
	WT    string `json:"wt"`
	State string `json:"state"`
}

// Edge asks where the edge nodes are. It needs no sign-in.
func (a *API) Edge(ctx context.Context) (e Edge, err error) {
	return e, a.do(ctx, http.MethodGet, pathEdge, "", nil, &e)
}

const (
	pathEdge  = "/api/v1/edge"
	pathProbe = "/api/v1/edge/probe"
)

// unwell reports whether a region or node is better not gone to.
func unwell(state string) bool { return state == "down" || state == "draining" }

// Endpoints lists the nodes in the order in which to try them: those of the
// wanted regions, then the others. Without any, or an empty one, it is the
// order of the list. What is down or about to go comes last.
func (e Edge) Endpoints(wanted ...string) []Endpoint {
	type ranked struct {
		Endpoint
		rank int
	}
	var all []ranked
	for _, r := range e.Regions {
		for _, n := range r.Nodes {
			at := slices.Index(wanted, r.Name)
			if at < 0 {
				at = len(wanted)
			}
			if unwell(r.State) || unwell(n.State) {
				at = len(wanted) + 1
			}
			all = append(all, ranked{Endpoint{Region: r.Name, Node: n.ID, WS: n.WS, WT: n.WT, HTTP: n.HTTP}, at})
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	list := make([]Endpoint, len(all))
	for i, r := range all {
		list[i] = r.Endpoint
	}
	return list
}

// Pins returns the certificate hashes for Dialer.CertSHA256.
func (e Edge) Pins() ([][32]byte, error) {
	if e.CertSHA256 == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.DecodeString(e.CertSHA256)
	if err != nil || len(b) != 32 {
		return nil, &Error{Code: wire.CodeInternal, Message: "the server's certificate hash makes no sense"}
	}
	return [][32]byte{[32]byte(b)}, nil
}

// Has reports whether there is a region of that name.
func (e Edge) Has(region string) bool {
	return slices.ContainsFunc(e.Regions, func(r EdgeRegion) bool { return r.Name == region })
}

const (
	defaultTTL = 5 * time.Minute
	leastTTL   = 10 * time.Second // between two questions, however short the ttl
	edgeWait   = 5 * time.Second  // for an answer
)

// locate gets the list before the first connection, if there is nothing to go by.
func (s *Session) locate(ctx context.Context) error {
	if len(s.cfg.Endpoints) > 0 {
		return nil
	}
	e, err := s.cfg.Edges.Edge(ctx)
	if err != nil {
		return fmt.Errorf("client: where the edge nodes are: %w", err)
	}
	if len(e.Endpoints()) == 0 {
		return fmt.Errorf("client: there is no edge node to connect to")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.located(e)
	return nil
}

// located notes a list. The caller holds the lock.
func (s *Session) located(e Edge) {
	s.edge, s.edgeAt = e, time.Now()
	if pins, err := e.Pins(); err == nil {
		s.dialer.learn(pins)
	}
}

// stale says when the list should be asked for again, and whether that is under
// way. The caller holds the lock.
func (s *Session) staleAt() time.Time {
	ttl := time.Duration(s.edge.TTL) * time.Second
	if ttl <= 0 {
		ttl = defaultTTL
	}
	return s.edgeAt.Add(max(ttl, leastTTL))
}

// relocate asks for the list, beside whatever else is going on: of the source,
// or if that is silent (it may be in the region that is lost), of the node that
// serves the session.
func (s *Session) relocate(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Edges == nil || s.asking || time.Since(s.edgeAt) < leastTTL {
		return
	}
	s.asking = true
	var base string
	if s.conn != nil {
		base = s.conn.ep.HTTP
	}
	s.conns.Go(func() {
		e, err := s.ask(ctx, base)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asking, s.edgeAt = false, time.Now() // not again at once, whatever came of it
		if err != nil || len(e.Endpoints()) == 0 {
			s.log.Debug("the list of edge nodes is not to be had", "error", err)
			return
		}
		s.located(e)
		s.listed = true
		s.poke()
	})
}

func (s *Session) ask(ctx context.Context, base string) (Edge, error) {
	asking, cancel := context.WithTimeout(ctx, edgeWait)
	e, err := s.cfg.Edges.Edge(asking)
	cancel()
	if err == nil || base == "" {
		return e, err
	}
	asking, cancel = context.WithTimeout(ctx, edgeWait)
	defer cancel()
	body, err := s.get(asking, base+pathEdge)
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	return e, err
}

// get reads what is at a node's URL.
func (s *Session) get(ctx context.Context, at string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s", strings.ToLower(resp.Status))
	}
	return body, err
}
