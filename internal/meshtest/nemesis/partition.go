package nemesis

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
)

// Way says what of a region's traffic with the others is cut.
type Way int

// Ways to be cut off.
const (
	Both Way = iota // nothing goes in or out
	Out             // what it says reaches nobody
	In              // it hears nobody
	ways = 3
)

func (w Way) String() string { return [...]string{"both ways", "outwards", "inwards"}[w] }

// Partition is a region that is cut off from all others for a while, under
// load, and perhaps a node that goes meanwhile, with the rooms that it owns.
type Partition struct {
	Region   string
	Way      Way
	From, To time.Duration
	Moves    *Fault
}

func (p Partition) String() string {
	s := fmt.Sprintf("%s cut off %s from %s to %s", p.Region, p.Way, p.From, p.To)
	if p.Moves != nil {
		s += "; " + p.Moves.String()
	}
	return s
}

// PartitionOf draws one from a seed: every third cut is of each way, and owners
// move in two of three, in the region that is cut off or in another.
func PartitionOf(seed uint64, s Shape, length time.Duration) Partition {
	rng := rand.New(rand.NewPCG(seed, 0xc07))
	p := Partition{Region: places[rng.IntN(s.Regions)], Way: Way(seed % ways), From: 5 * time.Second, To: 5*time.Second + length}
	kind, at := Kill, p.From+length/4
	switch rng.IntN(3) {
	case 0:
		return p
	case 1:
		kind = Drain
	}
	p.Moves = &Fault{At: at, For: length / 4, Kind: kind, On: nodeName(rng.IntN(s.Regions), rng.IntN(s.Nodes))}
	return p
}

// Healing is what came of a partition.
type Healing struct {
	Partition
	Converged time.Duration // from the end of the cut until everybody agreed on all but receipts
	Receipts  time.Duration // likewise on receipts too
	RTT       time.Duration // the longest round trip between the region and another
	Unknown   int           // how often observers were told that a region can't be heard
	Late      []string      // some of what was still wrong when all should have agreed
}

const (
	// convergeIn is how long after a cut everybody has to agree, beside one round
	// trip, but on receipts: what came with its end is yet to be told of.
	convergeIn = 1500 * time.Millisecond
	// receiptsIn is how much later they agree on these, beside the way to the other
	// regions: a device gathers what it tells for 200 ms, a node what it stores for as
	// long, and that it is stored takes a moment.
	receiptsIn = 500 * time.Millisecond
	// still is how long nobody moves before the cut ends: the last fix of a burst
	// may take as long without a cut, where datagrams get lost.
	still = 3 * time.Second
	// toldIn is how long a region may be away before observers are told.
	toldIn = 9 * time.Second
)

// InPartition plays a partition in the present bubble of fake time. Devices stay
// where they are; they move and write until the cut ends, and what they see must
// be true soon after.
func InPartition(seed uint64, s Shape, p Partition, log *slog.Logger) (*History, *Healing, error) {
	h := NewHistory(grace)
	m := newInMemory(seed, s, h, log)
	defer m.stop()
	m.stores.heal() // a message that nobody could tell of is found with the next one
	ctx := context.Background()
	for _, n := range m.nodes {
		if err := n.start(ctx); err != nil {
			return h, nil, err
		}
	}
	starting, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := m.ready(starting); err != nil {
		return h, nil, err
	}
	var rooms []string
	for i := range s.Rooms {
		rooms = append(rooms, fmt.Sprintf("group:00000000-0000-4000-8000-%012d", int(seed%1000)*100+i))
	}
	var fixes atomic.Uint64
	var devices []*device
	for i := range s.Devices {
		d := &device{
			key: Key{fmt.Sprintf("00000000-0000-4000-9000-%012d", i), fmt.Sprintf("device-%02d", i)}, net: m, history: h, fixes: &fixes,
			log: log.With("device", i), rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), taps: map[*tap]struct{}{},
			endpoints: m.endpoints(i % s.Regions), patience: ctx, rooms: []string{rooms[i/s.Regions%len(rooms)]},
		}
		devices = append(devices, d)
	}
	defer func() {
		h.freeze()
		var closing sync.WaitGroup
		for _, d := range devices {
			closing.Go(d.close)
		}
		closing.Wait()
	}()

	// Load.
	loading, calm := context.WithTimeout(ctx, p.To-still)
	defer calm()
	var living sync.WaitGroup
	for _, d := range devices {
		living.Go(func() { d.steady(loading) })
	}
	if p.Moves != nil {
		living.Go(func() {
			select {
			case <-time.After(p.Moves.At):
				m.inflict(loading, *p.Moves)
			case <-loading.Done():
			}
		})
	}
	time.Sleep(p.From)
	log.Info("cut", "what", p.String())
	m.cutOff(p, m.fabric.Cut)
	<-loading.Done()
	living.Wait()
	time.Sleep(still)
	m.cutOff(p, m.fabric.Mend)
	healed := time.Now()
	log.Info("healed")

	out := &Healing{Partition: p}
	for _, other := range places[:s.Regions] {
		out.RTT = max(out.RTT, simnet.RTT(p.Region, other))
	}
	look := func() (unheard bool) {
		h.Final, h.Truth, h.Connected = nil, map[string]map[Key]Present{}, map[Key]Session{}
		for _, room := range rooms {
			h.Truth[room] = map[Key]Present{}
		}
		for _, d := range devices {
			here, ok := d.present()
			if !ok {
				st := d.session.Status()
				h.Final = append(h.Final, Observer{Run: d.run, Room: rooms[0], Offline: fmt.Sprintf("%s: %v", st.Phase, st.Err)})
				continue
			}
			st := d.session.Status()
			h.Connected[d.key] = Session{Key: d.key, Epoch: st.Epoch, Node: st.Node}
			seen := d.observe()
			for _, o := range seen {
				h.Truth[o.Room][d.key] = here
			}
			for _, r := range d.joined {
				unheard = unheard || len(r.Unreached()) > 0
			}
			h.Final = append(h.Final, seen...)
		}
		return unheard
	}
	differ := func() (unheard bool, list []Disagreement) {
		unheard = look()
		for _, room := range rooms {
			h.Stored[room] = m.kept(room)
		}
		return unheard, Disagreements(h.Truth, h.Final, h.Stored)
	}
	for since := time.Duration(0); since < h.Grace+Bound; since = time.Since(healed) {
		unheard, list := differ()
		missing := unheard || slices.ContainsFunc(list, func(d Disagreement) bool { return !d.Receipt })
		if missing {
			out.Converged = since
		}
		if !missing && len(list) == 0 {
			break
		}
		out.Receipts = since
		if out.Late == nil && out.late() {
			for _, d := range list[:min(len(list), 12)] {
				out.Late = append(out.Late, d.Text)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(12 * time.Second) // for what comes late: a region that is told again, somebody who is put out
	unheard, list := differ()
	h.Settled = !unheard && len(list) == 0
	h.Rosters = m.rosters()
	return h, out, nil
}

// cutOff cuts (or mends) what a partition does.
func (m *inMemory) cutOff(p Partition, do func(from, to string)) {
	for _, a := range m.nodes {
		for _, b := range m.nodes {
			if a.region != regions.RegionID(p.Region) || b.region == a.region {
				continue
			}
			if p.Way != In {
				do(string(a.id), string(b.id))
			}
			if p.Way != Out {
				do(string(b.id), string(a.id))
			}
		}
	}
}

// steady connects a device, and has it move and write until ctx ends.
func (d *device) steady(ctx context.Context) {
	for d.session == nil && ctx.Err() == nil {
		if !d.connect(ctx) {
			d.pause(ctx, 50*time.Millisecond, 100*time.Millisecond)
		}
	}
	for d.pause(ctx, 100*time.Millisecond, 500*time.Millisecond) {
		d.report()
		switch d.rng.IntN(8) {
		case 0, 1:
			d.send(ctx)
		case 2:
			d.revise()
		case 3:
			d.read()
		}
	}
}

// partitions checks what is promised of a partition beyond what always is.
func partitions(h *History, out *Healing) (broken []Violation) {
	say := func(what string, history ...string) {
		broken = append(broken, Violation{Promise: "partitions are honest", What: what, History: history})
	}
	if out.late() {
		say(fmt.Sprintf("not everybody agreed until %v after the cut, and on receipts until %v; a round trip takes %v", out.Converged, out.Receipts, out.RTT), out.Late...)
	}
	for _, r := range h.Runs {
		type in struct{ room, region string }
		told := map[in][]string{}
		home := ""
		for _, s := range r.Sights {
			if w := s.In.GetWelcome(); w != nil {
				home = w.GetRegion()
			}
		}
		rooms := map[string]bool{}
		for _, e := range r.Heard {
			rooms[e.Room] = true
			switch ev := e.Event.(type) {
			case client.PresenceChanged:
				if ev.Device.State == wire.State_LEFT {
					say(r.Key.String()+" saw somebody leave", append([]string{e.String()}, r.before(e.At, e.Room)...)...)
				}
			case client.RegionChanged:
				reach := ev.Reach
				k := in{e.Room, reach.Region}
				told[k] = append(told[k], e.String())
				if want := out.hears(home, reach.Region); want && !reach.UnknownSince.IsZero() {
					say(fmt.Sprintf("%s was told that %s can't be heard, which can", r.Key, reach.Region), e.String())
				}
				if !reach.UnknownSince.IsZero() {
					out.Unknown++
					if since := reach.UnknownSince.Sub(h.start); since < out.From-2*time.Second {
						say(fmt.Sprintf("%s was told a wrong time for %s", r.Key, reach.Region), e.String())
					}
					if e.At > out.From+toldIn {
						say(fmt.Sprintf("%s was told of %s only after %v", r.Key, reach.Region, e.At-out.From), e.String())
					}
				}
			}
		}
		for room := range rooms {
			for _, region := range places {
				list := told[in{room, region}]
				switch {
				case len(list) > 2:
					say(fmt.Sprintf("%s saw %s come and go in %s", r.Key, region, room), list...)
				case len(list) != 2 && out.deaf(home, region):
					say(fmt.Sprintf("%s was told %d times of %s in %s, and not twice", r.Key, len(list), region, room), list...)
				}
			}
		}
	}
	return broken
}

// deaf reports whether the cut keeps a region from hearing another.
func (p Partition) deaf(home, region string) bool {
	switch {
	case home == region, home == "", !slices.Contains([]string{home, region}, p.Region):
		return false
	case home == p.Region:
		return p.Way != Out
	default:
		return p.Way != In
	}
}

// hears reports whether the cut has nothing to do with what a region hears of
// another: where only the other direction is cut, a link may break all the same.
func (p Partition) hears(home, region string) bool {
	return home == region || !slices.Contains([]string{home, region}, p.Region)
}

// late reports whether something agreed later than promised.
func (o *Healing) late() bool {
	all := convergeIn + o.RTT
	return o.Converged > all || o.Receipts > all+receiptsIn+o.RTT/2
}

func (o *Healing) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: converged %v after healing, receipts %v (round trip %v), %d times told", o.Partition, o.Converged.Round(time.Millisecond), o.Receipts.Round(time.Millisecond), o.RTT, o.Unknown)
	return b.String()
}
