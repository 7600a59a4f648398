package client

import "slices"

// maxRound bounds the endpoints of one round.
const maxRound = 12

// route knows whom to try, and in which order.
type route struct {
	configured []Endpoint
	targets    []Endpoint // that a Goaway named
	leaving    *Endpoint  // who is tried last: it asked us to leave, or is silent
}

// leave notes that a node is about to go, or gone, and where it would have us go.
func (r *route) leave(from Endpoint, targets []Endpoint) {
	r.leaving, r.targets = &from, targets
}

// arrived ends a search.
func (r *route) arrived() { r.leaving, r.targets = nil, nil }

// order lists the endpoints of a round: first, if not nil; the targets; then by
// turns the other nodes of the region called home and the first nodes of the
// others, for a region whose nodes are all gone must not be asked through before
// the next. Later rounds reach those that don't fit into the first.
func (r *route) order(first *Endpoint, home string, round int) []Endpoint {
	var list []Endpoint
	add := func(ep Endpoint) {
		if !slices.ContainsFunc(list, ep.same) {
			list = append(list, ep)
		}
	}
	if first != nil {
		add(*first)
	}
	for _, ep := range r.targets {
		add(ep)
	}
	var own []Endpoint
	var regions []string // the others
	abroad := map[string][]Endpoint{}
	for _, ep := range r.configured {
		switch {
		case slices.ContainsFunc(list, ep.same), r.leaving != nil && ep.same(*r.leaving):
		case ep.Region == home:
			own = append(own, ep)
		default:
			if abroad[ep.Region] == nil {
				regions = append(regions, ep.Region)
			}
			abroad[ep.Region] = append(abroad[ep.Region], ep)
		}
	}
	var others []Endpoint
	for i, more := 0, true; more; i++ {
		more = false
		for _, region := range regions {
			if i < len(abroad[region]) {
				others, more = append(others, abroad[region][i]), true
			}
		}
	}
	for i := range max(len(own), len(others)) {
		for _, from := range [][]Endpoint{own, others} {
			if i < len(from) {
				add(from[i])
			}
		}
	}
	if r.leaving != nil {
		list = slices.DeleteFunc(list, r.leaving.same)
		if slices.ContainsFunc(slices.Concat(r.targets, r.configured), r.leaving.same) {
			list = append(list, *r.leaving)
		}
	}
	if len(list) > maxRound {
		const stay = maxRound / 2
		rest := list[stay:]
		at := round * stay % len(rest)
		list = slices.Concat(list[:stay], rest[at:], rest[:at])[:maxRound]
	}
	return list
}

// elsewhere is order without the node that is left.
func (r *route) elsewhere(home string, round int) []Endpoint {
	return slices.DeleteFunc(r.order(nil, home, round), func(ep Endpoint) bool {
		return r.leaving != nil && ep.same(*r.leaving)
	})
}

// in lists the nodes of one region.
func (r *route) in(region string) []Endpoint {
	list := slices.DeleteFunc(slices.Clone(r.configured), func(ep Endpoint) bool { return ep.Region != region })
	return list[:min(len(list), maxRound)]
}

// same reports whether both are one node, whatever its addresses.
func (e Endpoint) same(o Endpoint) bool {
	if e.Node != "" && o.Node != "" {
		return e.Node == o.Node && e.Region == o.Region
	}
	return e.WS == o.WS && e.WT == o.WT
}
