package scenario

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/client"
)

// visitor comes into a room and leaves it, again and again.
type visitor struct {
	user
	roomID string
	mates  []*user // who see it

	busy sync.Mutex // held while it comes or goes
	ops  [2]atomic.Pointer[op]
}

// op is one coming or going.
type op struct{ due time.Time }

const (
	coming = iota
	going
)

// visitEvery is how long a visitor stays, and stays away: so long that no two
// events of one room and region are merged.
const visitEvery = time.Second

// invite brings one visitor per room, or more if the changes ask for it, each to
// another region than the one before.
func (c *walk) invite(ctx context.Context) error {
	if c.p.Changes == 0 {
		return nil
	}
	n := max(c.rooms(), int(c.p.Changes*visitEvery.Seconds()))
	for i := range n {
		room := i % c.rooms()
		// Visitors of one room are of different regions: events of one region's
		// part are merged when they come close.
		v := &visitor{roomID: client.GroupRoom(c.groups[room]), mates: c.mates(room)}
		v.index, v.region = i, c.regions[(room+i/c.rooms())%len(c.regions)]
		c.visitors = append(c.visitors, v)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(setupAtOnce)
	for i, v := range c.visitors {
		g.Go(func() error {
			v.api = client.NewAPI(c.bases[v.region], client.APIConfig{HTTP: c.pool})
			if err := client.Patiently(ctx, func() error {
				creds, err := v.api.Guest(ctx, "", "muster bench")
				v.id = creds.UserID
				return err
			}); err != nil {
				return err
			}
			if err := client.Patiently(ctx, func() error {
				_, err := v.api.Join(ctx, c.codes[i%c.rooms()])
				return err
			}); err != nil {
				return err
			}
			var err error
			v.session, err = client.Connect(ctx, c.config(&v.user))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, v := range c.visitors {
		for _, m := range v.mates {
			m.visitors[v.id] = v
		}
		v.others = others(&v.user, v.mates)
	}
	return nil
}

// dismiss lets the visitors go.
func (c *walk) dismiss() {
	var closing sync.WaitGroup
	for _, v := range c.visitors {
		if v.session != nil {
			closing.Go(v.session.Close)
		}
	}
	closing.Wait()
}

// comeAndGo has the visitors come and go in turn. In the end all are gone.
func (c *walk) comeAndGo(ctx context.Context, s *stretch, start time.Time) error {
	if len(c.visitors) == 0 {
		return nil
	}
	var calls sync.WaitGroup
	defer calls.Wait()
	every := time.Duration(float64(time.Second) / c.p.Changes)
	rounds := int((c.p.Warmup + c.p.Duration) / every / time.Duration(len(c.visitors)))
	return loadgen.Open(ctx, start, every, rounds/2*2*len(c.visitors), func(i int, due time.Time) {
		v, what := c.visitors[i%len(c.visitors)], i/len(c.visitors)%2
		calls.Go(func() { c.visit(ctx, s, v, what, due) })
	})
}

func (c *walk) visit(ctx context.Context, s *stretch, v *visitor, what int, due time.Time) {
	v.busy.Lock()
	defer v.busy.Unlock()
	v.ops[what].Store(&op{due})
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	var err error
	if what == coming {
		v.room, err = v.session.Join(ctx, v.roomID)
	} else if v.room != nil {
		err = v.room.Leave(ctx)
	}
	if err != nil {
		s.refused.Add(1)
		return
	}
	if !s.counts(due) {
		return
	}
	s.changed.Add(1)
	for _, m := range v.mates {
		key := [2]string{v.region, m.region}
		s.changes[key].expected.Add(1)
		s.calls[key].expected.Add(1)
	}
	s.crossed(v.region, v.others)
}

// see takes note of somebody who came or went.
func (c *walk) see(s *stretch, u *user, ev client.PresenceChanged, now time.Time, seen map[*op]bool) {
	v := u.visitors[ev.User]
	if v == nil {
		return
	}
	what := coming
	if ev.Device.State == wire.State_LEFT {
		what = going
	}
	o := v.ops[what].Load()
	if o == nil || !s.counts(o.due) {
		return
	}
	key := [2]string{v.region, u.region}
	if seen[o] {
		s.changes[key].duplicates.Add(1)
		return
	}
	seen[o] = true
	s.changes[key].latencies.Record(now.Sub(ev.Device.Since))
	s.calls[key].latencies.Record(now.Sub(o.due))
}
