package client

import "slices"

// route is the order in which endpoints are tried: the one that worked last,
// for it may hold the session; those that a Goaway named; those of the
// configuration in their order. The node that sent the Goaway comes last.
type route struct {
	configured []Endpoint
	targets    []Endpoint
	leaving    *Endpoint

	list []Endpoint
	at   int
}

func newRoute(configured []Endpoint) *route {
	r := &route{configured: configured}
	r.restart(nil)
	return r
}

// goaway notes that a node is about to go, and where it would have us go.
func (r *route) goaway(from Endpoint, targets []Endpoint) {
	r.leaving, r.targets = &from, targets
}

// arrived ends a search.
func (r *route) arrived() { r.leaving, r.targets = nil, nil }

// restart begins a search; here, if not nil, comes first.
func (r *route) restart(here *Endpoint) {
	r.list, r.at = nil, 0
	if here != nil {
		r.list = append(r.list, *here)
	}
	for _, ep := range slices.Concat(r.targets, r.configured) {
		if !slices.ContainsFunc(r.list, ep.same) {
			r.list = append(r.list, ep)
		}
	}
	if r.leaving != nil {
		if i := slices.IndexFunc(r.list, r.leaving.same); i >= 0 {
			ep := r.list[i]
			r.list = append(slices.Delete(r.list, i, i+1), ep)
		}
	}
}

// next returns the endpoint to try now.
func (r *route) next() Endpoint {
	ep := r.list[r.at%len(r.list)]
	r.at++
	return ep
}

// atStart reports whether next begins a round.
func (r *route) atStart() bool { return r.at%len(r.list) == 0 }

// again has next return the same endpoint once more.
func (r *route) again() { r.at-- }

// elsewhere returns where to go when asked to leave: all but the node that
// asked.
func (r *route) elsewhere() []Endpoint {
	r.restart(nil)
	return slices.DeleteFunc(slices.Clone(r.list), r.leaving.same)
}

// same reports whether both are one node, whatever its addresses.
func (e Endpoint) same(o Endpoint) bool {
	if e.Node != "" && o.Node != "" {
		return e.Node == o.Node && e.Region == o.Region
	}
	return e.WS == o.WS && e.WT == o.WT
}
