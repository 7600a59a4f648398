package roster

import (
	"cmp"
	"slices"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

func (m moment) encode() *peer.RosterMoment { return &peer.RosterMoment{Term: m.term, Ms: m.at} }

func decodeMoment(m *peer.RosterMoment) moment { return moment{m.GetTerm(), m.GetMs()} }

func (c *Call) encode() *peer.RosterCall {
	return &peer.RosterCall{
		Call: string(c.ID), Room: c.Room,
		Node: string(c.Place.Node), Incarnation: c.Place.Incarnation, Epoch: uint64(c.Place.Epoch),
		Former: string(c.Former.Node), FormerIncarnation: c.Former.Incarnation, FormerEpoch: uint64(c.Former.Epoch),
		Kept: c.kept.encode(), Order: c.kept.order,
	}
}

func (f *Floor) encode() *peer.RosterFloor {
	x := &peer.RosterFloor{
		Call: string(f.Call), SpentUser: f.spent.user, SpentDevice: f.spent.device,
		Touched: f.touched.encode(), Order: f.touched.order,
	}
	if f.holder != nil {
		x.Holder = &peer.RosterHolder{Claim: f.holder.encode(), Grant: f.holder.grant, Taken: f.holder.taken}
		if f.holder.others != nil {
			x.Holder.Others = f.holder.others.encode()
		}
	}
	if f.rest != nil {
		x.Rest = f.rest.encode()
	}
	for i := range f.queue {
		x.Queue = append(x.Queue, f.queue[i].encode())
	}
	return x
}

func (c *claim) encode() *peer.RosterClaim {
	return &peer.RosterClaim{
		User: c.User, Device: c.Device, Epoch: uint64(c.Epoch), Region: string(c.region), Node: string(c.node),
		Priority: c.priority, Heir: c.heir, Asked: c.asked.encode(), TalkedMs: c.talkedMs, MaxTalkMs: c.maxTalkMs,
	}
}

func decodeClaim(c *peer.RosterClaim) claim {
	return claim{
		SessionID: regions.SessionID{User: c.GetUser(), Device: c.GetDevice(), Epoch: regions.Epoch(c.GetEpoch())},
		region:    regions.RegionID(c.GetRegion()), node: regions.NodeID(c.GetNode()),
		priority: c.GetPriority(), heir: c.GetHeir(), asked: decodeMoment(c.GetAsked()),
		talkedMs: c.GetTalkedMs(), maxTalkMs: c.GetMaxTalkMs(),
	}
}

// decodeCalls reads calls and floors.
func (s *State) decodeCalls(r *reader) error {
	last := ""
	for b := r.part(); len(b) > 0; b = r.part() {
		var c peer.RosterCall
		if err := c.UnmarshalVT(b); err != nil {
			return corrupt("call", err)
		}
		if c.Call <= last || c.Node == "" || len(s.calls) >= MaxCalls || max(c.Epoch, c.FormerEpoch) > uint64(s.issued) {
			return corrupt("call", nil)
		}
		last = c.Call
		s.putCall(nil, &Call{
			ID: regions.CallID(c.Call), Room: c.Room,
			Place:  Place{s.intern(c.Node), c.Incarnation, regions.Epoch(c.Epoch)},
			Former: Place{s.intern(c.Former), c.FormerIncarnation, regions.Epoch(c.FormerEpoch)},
			kept:   idle{decodeMoment(c.Kept), c.Order},
		})
	}
	last = ""
	for b := r.part(); len(b) > 0; b = r.part() {
		var x peer.RosterFloor
		if err := x.UnmarshalVT(b); err != nil {
			return corrupt("floor", err)
		}
		f := &Floor{
			Call: regions.CallID(x.Call), spent: device{x.SpentUser, x.SpentDevice},
			touched: idle{decodeMoment(x.Touched), x.Order},
		}
		if h := x.Holder; h != nil {
			f.holder = &holder{claim: decodeClaim(h.Claim), grant: h.Grant, taken: h.Taken}
			if h.Others != nil {
				others := decodeMoment(h.Others)
				f.holder.others = &others
			}
		}
		if x.Rest != nil {
			rest := decodeMoment(x.Rest)
			f.rest = &rest
		}
		for _, c := range x.Queue {
			f.queue = append(f.queue, decodeClaim(c))
		}
		if x.Call <= last || f.empty() || len(f.queue) > MaxWaiting+1 || len(s.floors) >= MaxCalls ||
			(f.holder != nil && f.holder.grant > uint64(s.issued)) ||
			!slices.IsSortedFunc(f.queue, func(a, b claim) int { return cmp.Compare(b.rank(), a.rank()) }) {
			return corrupt("floor", nil)
		}
		last = x.Call
		s.enterFloor(f)
	}
	return nil
}
