package nemesis

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/mustermesh/muster/api/wire"
)

type number struct {
	room, region string
	epoch, seq   uint64
}

func (n number) String() string {
	return fmt.Sprintf("%s %s (%d, %d)", n.room, n.region, n.epoch, n.seq)
}

func numbers(h *History) (out []Violation) {
	type told struct {
		event *wire.Event
		who   string
	}
	known := map[number]told{}
	tell := func(e *wire.Event, who func() string) {
		n := number{e.GetRoom(), e.GetAt().GetRegion(), e.GetAt().GetEpoch(), e.GetAt().GetSeq()}
		if k, ok := known[n]; !ok {
			known[n] = told{e, who()}
		} else if !proto.Equal(k.event, e) {
			out = append(out, Violation{What: n.String(), History: []string{k.who + ": " + k.event.String(), who() + ": " + e.String()}})
		}
	}
	for _, s := range h.Spoken {
		if s.Event != nil {
			tell(s.Event, s.String)
		}
	}
	for _, r := range h.Runs {
		for _, s := range r.Sights {
			if e := s.In.GetEvent(); e != nil {
				tell(e, func() string { return fmt.Sprintf("%s %s got it from %s", seconds(s.At), r.Key, s.Node) })
			}
		}
	}
	return out
}

// slotted groups what owners said by region and room.
func slotted(h *History) map[[2]string][]Spoken {
	out := map[[2]string][]Spoken{}
	for _, s := range h.Spoken {
		k := [2]string{s.Region, s.Room}
		out[k] = append(out[k], s)
	}
	return out
}

func (s Spoken) String() string {
	return fmt.Sprintf("%s %s under (%d, %d) in %s: %v", seconds(s.At), s.Node, s.Epoch, s.Seq, s.Room, s.Devices)
}

// owners looks for those that speak though they were replaced. What a
// successor repeats of its predecessors' events is no such thing.
func owners(h *History) (out []Violation) {
	for _, all := range slotted(h) {
		first := map[uint64]Spoken{} // by epoch
		successor := map[string]uint64{}
		last := map[uint64]uint64{} // number, by epoch
		for _, s := range all {
			if _, ok := first[s.Epoch]; !ok && (s.Seq == 0 || s.Event.GetPriorEpoch() != 0 || successor[s.Node] < s.Epoch) {
				first[s.Epoch] = s
				successor[s.Node] = max(successor[s.Node], s.Epoch)
			}
			fresh := s.Seq == 0 || s.Seq > last[s.Epoch]
			last[s.Epoch] = max(last[s.Epoch], s.Seq)
			if !fresh || successor[s.Node] > s.Epoch {
				continue
			}
			for epoch, f := range first {
				if epoch > s.Epoch && s.At > f.At+contact {
					out = append(out, Violation{What: "an owner speaks that was replaced long ago", History: []string{f.String(), s.String()}})
					break
				}
			}
		}
	}
	return out
}

// accepted goes by the owners' numbers for presence, and for fixes by when they
// were taken: one that is taken later than a newer session was accepted must
// have been accepted later, too.
func accepted(h *History) (out []Violation) {
	type word struct {
		Spoken
		epoch uint64 // of the device
	}
	for _, all := range slotted(h) {
		once := map[position]bool{}
		presence := map[Key][]word{}
		for _, s := range all {
			if at := (position{s.Epoch, s.Seq}); s.Seq > 0 && !once[at] {
				once[at] = true
				for _, d := range s.Devices {
					if d.State != wire.State_LEFT { // an end may come late
						presence[d.Key] = append(presence[d.Key], word{s, d.Epoch})
					}
				}
			}
		}
		for k, words := range presence {
			slices.SortFunc(words, func(a, b word) int {
				return cmp.Or(cmp.Compare(a.Spoken.Epoch, b.Spoken.Epoch), cmp.Compare(a.Seq, b.Seq))
			})
			for i, w := range words[min(1, len(words)):] {
				if was := words[i]; w.epoch < was.epoch {
					out = append(out, Violation{What: fmt.Sprintf("%s accepted under %d, then under %d", k, was.epoch, w.epoch),
						History: []string{was.String(), w.String()}})
				}
			}
		}
		for _, s := range all {
			for _, d := range s.Devices {
				if s.Seq > 0 {
					continue
				}
				for _, was := range presence[d.Key] {
					if was.epoch > d.Epoch && was.Spoken.Epoch <= s.Epoch && was.At < d.Captured {
						out = append(out, Violation{What: fmt.Sprintf("%s accepted under %d, then a fix under %d", d.Key, was.epoch, d.Epoch),
							History: []string{was.String(), s.String()}})
						break
					}
				}
			}
		}
	}
	return out
}
