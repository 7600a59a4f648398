package node

import (
	"slices"

	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
)

// severance cuts regions off from each other in an emulated network, for
// whoever wants to watch that.
type severance struct {
	network *simnet.Network
	regions func() []regions.RegionID
}

func (m *Mesh) links() *severance {
	return &severance{network: m.Net, regions: func() (all []regions.RegionID) {
		for _, r := range m.Topology.Regions {
			all = append(all, r.Name)
		}
		return all
	}}
}

var errNoRegion = errs.New(errs.NotFound, "no_such_region", "no such region in the topology of this process; `muster ctl roster` lists them")

// cut has a region neither hear the others nor be heard, or with another one
// only that.
func (s *severance) cut(region, other regions.RegionID) error {
	return s.each(region, other, func(a, b string) { s.network.CutBoth(a, b) })
}

// heal ends that.
func (s *severance) heal(region, other regions.RegionID) error {
	return s.each(region, other, func(a, b string) {
		s.network.Mend(a, b)
		s.network.Mend(b, a)
	})
}

func (s *severance) each(region, other regions.RegionID, f func(a, b string)) error {
	all := s.regions()
	if !slices.Contains(all, region) || other != "" && (other == region || !slices.Contains(all, other)) {
		return errNoRegion
	}
	for _, r := range all {
		if r != region && (other == "" || r == other) {
			f(string(region), string(r))
		}
	}
	return nil
}

// from lists the regions that a region is cut off from.
func (s *severance) from(region regions.RegionID) []string {
	out := []string{}
	for _, r := range s.regions() {
		if s.network.IsCut(string(region), string(r)) || s.network.IsCut(string(r), string(region)) {
			out = append(out, string(r))
		}
	}
	return out
}
