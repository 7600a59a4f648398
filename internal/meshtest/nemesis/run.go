package nemesis

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/regions/cluster"
	"github.com/mustermesh/muster/regions/roster"
)

// Bound is how long after the grace time everybody has to agree.
const Bound = 20 * time.Second

// mesh is what the runner needs of a mesh, in memory or on sockets.
type mesh interface {
	network
	// endpoints are the nodes of a region as clients know them.
	endpoints(region int) []client.Endpoint
	// inflict does a fault and undoes it when its time is over or ctx ends.
	inflict(ctx context.Context, f Fault)
	// heal ends what ctx's end did not, and returns when all nodes run.
	heal(ctx context.Context) error
	kept(room string) Kept
	// rosters are what each node of each region knows of its region.
	rosters() map[string]map[string][]Session
}

// play lets devices live in a mesh under a schedule, heals it, waits until
// everybody agrees, and completes the history.
func play(ctx context.Context, m mesh, seed uint64, s Shape, faults []Fault, length time.Duration, rooms []string, users func(i int) string, h *History, log *slog.Logger) error {
	rng := rand.New(rand.NewPCG(seed, 0xdef1ce))
	var fixes atomic.Uint64
	patience, enough := context.WithCancel(ctx)
	defer enough()
	var devices []*device
	for i := range s.Devices {
		home := rng.IntN(s.Regions)
		d := &device{
			key: Key{users(i), fmt.Sprintf("device-%02d", i)}, net: m, history: h, fixes: &fixes,
			log: log.With("device", i), rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), taps: map[*tap]struct{}{},
			endpoints: m.endpoints(home), patience: patience,
		}
		if s.Regions > 1 && rng.IntN(4) == 0 { // near a border
			d.endpoints = append(d.endpoints, m.endpoints((home+1)%s.Regions)...)
		}
		d.rooms = append(d.rooms, rooms[rng.IntN(len(rooms))])
		if other := rooms[rng.IntN(len(rooms))]; other != d.rooms[0] {
			d.rooms = append(d.rooms, other)
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

	// Chaos.
	chaos, calm := context.WithTimeout(ctx, length)
	defer calm()
	var living, breaking sync.WaitGroup
	for _, d := range devices {
		living.Go(func() { d.live(chaos) })
	}
	for _, f := range faults {
		breaking.Go(func() {
			select {
			case <-time.After(f.At):
				log.Info("fault", "what", f.String())
				m.inflict(chaos, f)
			case <-chaos.Done():
			}
		})
	}
	<-chaos.Done()
	log.Info("healing")
	breaking.Wait()
	if err := m.heal(ctx); err != nil {
		return err
	}
	if !within(time.Minute, living.Wait) {
		enough()
		living.Wait()
		return fmt.Errorf("a device waits for an answer a minute after the mesh was healed")
	}

	// Who is to be there in the end, and one last word of each.
	var last sync.WaitGroup
	soon, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	defer context.AfterFunc(soon, enough)()
	for _, d := range devices {
		last.Go(func() { d.settle(soon) })
	}
	last.Wait()
	for _, d := range devices {
		if d.session == nil && !d.gone {
			return fmt.Errorf("%s can't connect a minute after the mesh was healed", d.key)
		}
	}
	log.Info("settling")
	look := func() {
		h.Final, h.Truth, h.Connected = nil, map[string]map[Key]Present{}, map[Key]Session{}
		for _, room := range rooms {
			h.Truth[room] = map[Key]Present{}
		}
		for _, d := range devices {
			if p, ok := d.present(); ok {
				st := d.session.Status()
				h.Connected[d.key] = Session{Key: d.key, Epoch: st.Epoch, Node: st.Node}
				seen := d.observe()
				for _, o := range seen {
					h.Truth[o.Room][d.key] = p
				}
				h.Final = append(h.Final, seen...)
			} else if !d.gone {
				// Between two connections: nobody can be settled yet.
				st := d.session.Status()
				h.Final = append(h.Final, Observer{Run: d.run, Room: rooms[0], Offline: fmt.Sprintf("%s: %v", st.Phase, st.Err)})
			}
		}
	}
	agreed := func() bool {
		look()
		for _, room := range rooms {
			h.Stored[room] = m.kept(room)
		}
		return len(Disagreements(h.Truth, h.Final, h.Stored)) == 0
	}
	for began := time.Now(); !h.Settled && time.Since(began) < h.Grace+Bound; {
		time.Sleep(250 * time.Millisecond)
		for _, d := range devices {
			d.again(soon)
		}
		if agreed() {
			time.Sleep(2 * time.Second) // it has to last, and nothing to be under way any more
			h.Settled = agreed()
		}
	}
	h.Rosters = m.rosters()
	return nil
}

// rosterOf is what a node knows of its region's sessions.
func rosterOf(c *cluster.Cluster) (out []Session) {
	c.View(func(s *roster.State, _ uint64) {
		for _, n := range s.Nodes() {
			for _, x := range s.SessionsOn(n.ID) {
				out = append(out, Session{
					Key: Key{x.User, x.Device}, Epoch: uint64(x.Epoch), Node: string(x.Node),
					Suspended: x.State == roster.Suspended, Rooms: strings.Join(x.Rooms(), " "),
				})
			}
		}
	})
	slices.SortFunc(out, func(a, b Session) int { return cmp.Compare(a.String(), b.String()) })
	return out
}

// within waits for f at most that long.
func within(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}
