package host

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// seeker looks for the SFU of another region.
type seeker struct {
	next   time.Time
	asking bool
	none   bool // the region has no SFU for the call, said one of its nodes
}

const (
	seekFailed = time.Second     // nobody of the region answered
	seekNone   = 5 * time.Second // it has no SFU for the call
	seekMost   = 3               // nodes that are asked in a row
	seekFirst  = time.Second     // how long the first one to join waits for the others
)

// seek asks the regions of which no SFU is known whether they have one, while somebody
// is here: there is no home that would know.
func (l *live) seek(now time.Time) {
	if l.m.Len() == 0 && now.Sub(l.began) > seekFailed {
		return
	}
	for _, region := range l.h.cfg.World.Others() {
		s := l.seekers[region]
		if s == nil {
			s = &seeker{}
			l.seekers[region] = s
		}
		if s.asking || now.Before(s.next) || l.m.Knows(now, region) {
			continue
		}
		s.asking = true
		place := l.m.Place()
		l.h.spawn(func(ctx context.Context) {
			met, answered := l.meet(ctx, region, place)
			l.do(func(now time.Time) {
				s.asking, s.none = false, answered && met.GetNode() == ""
				switch {
				case !answered:
					s.next = now.Add(seekFailed)
				case met.GetNode() == "":
					s.next = now.Add(seekNone)
				default:
					s.next = now.Add(seekFailed)
					for _, node := range []string{met.GetNode(), met.GetFormer()} {
						l.m.Meet(now, regions.NodeID(node), region)
					}
				}
			})
		})
	}
}

// introduce lets in who waits for what other regions know, once they have said so: who
// joins sees everybody at once, instead of one after the other.
func (l *live) introduce(now time.Time) {
	if l.met {
		return
	}
	if now.Sub(l.began) < seekFirst {
		for _, region := range l.h.cfg.World.Others() {
			if s := l.seekers[region]; (s == nil || !s.none) && !l.m.Knows(now, region) {
				return
			}
		}
	}
	close(l.others)
	l.met = true
}

func (l *live) meet(ctx context.Context, region regions.RegionID, place regions.Epoch) (*peer.CallMet, bool) {
	nodes := l.h.cfg.World.Nodes(region)
	for _, node := range nodes[:min(len(nodes), seekMost)] {
		ctx, cancel := context.WithTimeout(ctx, seekFailed)
		asked := time.Now()
		a, err := l.h.cfg.Links.Call(ctx, node, &peer.Call{Body: &peer.Call_CallMeet{CallMeet: &peer.CallMeet{
			Call: string(l.id), Node: string(l.h.cfg.Self), Place: uint64(place), Region: string(l.h.cfg.Region),
		}}})
		cancel()
		if err == nil && a.GetCallMet() != nil {
			l.h.far.Store(region, time.Since(asked))
			return a.GetCallMet(), true
		}
	}
	return nil, false
}
