package scenario

import (
	"context"
	"slices"
	"sync"
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

	busy sync.Mutex // held while it comes or goes, and guards the following
	done time.Time  // when it last did

	mu  sync.Mutex // guards the following
	ops []*op      // in order
}

// op is one coming or going.
type op struct {
	state  wire.State // as others see it afterwards
	due    time.Time
	called time.Time
}

const (
	// visitEvery is how long a visitor stays, and stays away.
	visitEvery = time.Second
	// apart is the least between two calls of a late visitor: what comes closer
	// may be merged into one event.
	apart = 4 * mergeWindow
)

// began notes a call.
func (v *visitor) began(o *op) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ops = append(v.ops, o)
}

// caused returns the call that led to a state, by the server's stamp.
func (v *visitor) caused(state wire.State, since time.Time) *op {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, o := range slices.Backward(v.ops) {
		if o.state == state && !o.called.After(since) {
			return o
		}
	}
	return nil
}

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
		v, o := c.visitors[i%len(c.visitors)], &op{state: wire.State_LIVE, due: due}
		if i/len(c.visitors)%2 == 1 {
			o.state = wire.State_LEFT
		}
		calls.Go(func() { c.visit(ctx, s, v, o) })
	})
}

func (c *walk) visit(ctx context.Context, s *stretch, v *visitor, o *op) {
	v.busy.Lock()
	defer v.busy.Unlock()
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	err := pause(ctx, time.Until(v.done.Add(apart)))
	o.called = time.Now().Round(0) // it is compared with another clock's
	v.began(o)
	switch {
	case err != nil:
	case o.state == wire.State_LIVE:
		v.room, err = v.session.Join(ctx, v.roomID)
	case v.room != nil:
		err = v.room.Leave(ctx)
	}
	v.done = time.Now()
	if err != nil {
		s.refused.Add(1)
		return
	}
	if !s.counts(o.due) {
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
	o := v.caused(ev.Device.State, ev.Device.Since)
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
