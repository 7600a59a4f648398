package scenario

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// Life is what goes on in rooms that span all regions while something happens to
// the mesh: everybody moves, some write.
type Life struct {
	WAN
	Fixes    float64 // per second, of all
	Messages float64 // per second, of all

	heard func(x *watch, at time.Time) // of each event, by the goroutine of its application; may be nil
}

func (c *Life) check() error {
	if err := c.WAN.check(); err != nil {
		return err
	}
	if !(c.Fixes > 0 && c.Fixes <= 50*float64(c.Users)) || !(c.Messages > 0 && c.Messages <= 5*float64(c.Users)) {
		return errors.New("bench: everybody moves up to 50 times and writes up to 5 times a second, and some")
	}
	return nil
}

func (c *Life) report() report.Load {
	return report.Load{Users: c.Users, Rooms: c.Users / c.RoomSize, RoomSize: c.RoomSize, MessagesPerSecond: c.Messages, FixesPerSecond: c.Fixes}
}

// life is one that goes on, and the book of what was said, heard and seen.
type life struct {
	cfg Life
	*wan
	books   []*book
	watches []*watch // by user

	counts  tally
	away    atomic.Int64       // times that a message was not stored, or perhaps not, since its room's home region could not be reached
	absence *loadgen.Latencies // how long people who moved were gone for others

	mu      sync.Mutex // guards the following
	failure error      // the first

	stop func() // ends the load and the applications
	done sync.WaitGroup
}

// watch is one user's application.
type watch struct {
	ear
	still  atomic.Bool          // neither moves nor writes
	absent map[string]time.Time // people who moved away and were not seen again; listen's own

	mu      sync.Mutex           // guards the following
	fixes   map[string]time.Time // capture time of each member's last fix
	unknown map[string]time.Time // regions that can't be heard: since when that is shown
}

// live signs everybody up and brings them together; the load goes on from then
// on until end.
func (c Life) live(ctx context.Context, config func(*wan, *watch) client.Config) (*life, error) {
	w, err := c.open(ctx)
	if err != nil {
		if w != nil {
			w.close()
		}
		return nil, err
	}
	l := &life{cfg: c, wan: w, absence: loadgen.NewLatencies(), stop: func() {}}
	for _, g := range l.groups {
		l.books = append(l.books, &book{room: client.GroupRoom(g)})
	}
	for _, u := range l.users {
		l.watches = append(l.watches, &watch{
			ear: ear{u: u, book: l.books[u.index/l.roomSize]}, fixes: map[string]time.Time{}, unknown: map[string]time.Time{}, absent: map[string]time.Time{},
		})
	}
	if err := l.connect(ctx, func(u *user) client.Config { return config(w, l.watches[u.index]) }); err != nil {
		w.close()
		return nil, err
	}
	loading, stop := context.WithCancel(ctx)
	l.stop = stop
	for _, x := range l.watches {
		l.done.Go(func() { l.listen(loading, x) })
	}
	l.done.Go(func() {
		_ = loadgen.Open(loading, time.Now(), rate(c.Fixes), 1<<40, func(i int, due time.Time) { l.move(l.watches[i%len(l.watches)], i, due) })
	})
	l.done.Go(func() {
		_ = loadgen.Open(loading, time.Now(), rate(c.Messages), 1<<40, func(i int, due time.Time) {
			l.done.Go(func() { l.say(loading, l.watches[i*7%len(l.watches)], due) })
		})
	})
	return l, nil
}

func rate(perSecond float64) time.Duration { return time.Duration(float64(time.Second) / perSecond) }

// end stops the load and lets everybody go.
func (l *life) end() {
	l.stop()
	l.close()
	l.done.Wait()
}

func (l *life) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = err
	}
}

// firstFailure is what went wrong first, for the report.
func (l *life) firstFailure() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		return ""
	}
	return l.failure.Error()
}

func (l *life) move(x *watch, i int, due time.Time) {
	if x.still.Load() {
		return
	}
	u := x.u
	u.mu.Lock()
	u.last = due
	u.mu.Unlock()
	at := geo.Destination(geo.Point{Lat: 52.52, Lng: 13.4}, float64(i%360), 100+float64(u.index))
	_ = u.room.Report(client.Fix{Point: at, Accuracy: 5, Captured: due}) // latest wins: a lost one is not missed
}

// outcomeUnknown is core's word for a transaction of which nobody heard whether
// it was committed.
const outcomeUnknown = "outcome_unknown"

// sayLimit is how long a message is tried to be sent: longer than any cut.
const sayLimit = 90 * time.Second

// say sends one message until it is stored. When its room's home region can't be
// reached, or nobody knows whether it is stored, an application says so to its
// user, and sends it again under the same id.
func (l *life) say(ctx context.Context, x *watch, due time.Time) {
	if x.still.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sayLimit)
	defer cancel()
	id, body := client.NewDevice(), fmt.Sprintf("%d %d ", due.UnixNano(), x.u.index)
	body += strings.Repeat(".", max(0, bodySize-len(body)))
	for {
		m, err := x.u.room.SendAs(ctx, id, body)
		switch {
		case err == nil:
			l.counts.acked.Add(1)
			x.book.acknowledge(m.Number)
			return
		case client.IsCode(err, wire.CodeHomeUnreachable), client.IsCode(err, outcomeUnknown):
			l.away.Add(1)
			if pause(ctx, time.Second) == nil {
				continue
			}
		}
		if !errors.Is(err, context.Canceled) && !errors.Is(err, client.ErrClosed) {
			l.counts.refused.Add(1)
			l.fail(fmt.Errorf("a message was not acknowledged: %w", err))
		}
		return
	}
}

// listen is the application of one user.
func (l *life) listen(ctx context.Context, x *watch) {
	for ev := range x.u.room.Events(ctx) {
		now := time.Now()
		x.mu.Lock()
		switch ev := ev.(type) {
		case client.FixChanged:
			x.fixes[ev.Fix.User] = ev.Fix.Captured
		case client.RegionChanged:
			if ev.Reach.UnknownSince.IsZero() {
				delete(x.unknown, ev.Reach.Region)
			} else if _, shown := x.unknown[ev.Reach.Region]; !shown {
				x.unknown[ev.Reach.Region] = now
			}
		}
		x.mu.Unlock()
		switch ev := ev.(type) {
		case client.MessageArrived:
			if x.hear(ev.Message.Number) {
				l.counts.duplicated.Add(1)
			}
		case client.PresenceChanged:
			if x.u.byID[ev.User] == nil {
				break
			}
			// One device each: what is said of it is said of the user.
			switch ev.Device.State {
			case wire.State_LEFT:
				if ev.Device.Reason == wire.Reason_MOVED { // gone from where it was, and not yet seen where it is
					l.counts.vanished.Add(1)
					x.absent[ev.User] = now
					break
				}
				l.counts.left.Add(1)
				l.fail(fmt.Errorf("%s saw somebody leave %s: %s", x.u.region, ev.Device.Region, ev.Device.Reason))
			case wire.State_SUSPENDED:
				l.counts.suspended.Add(1)
			case wire.State_LIVE:
				if since, ok := x.absent[ev.User]; ok {
					delete(x.absent, ev.User)
					l.absence.Record(now.Sub(since))
				}
			}
		case client.RegionReplaced:
			if !ev.Recovered {
				l.counts.unrecovered.Add(1)
			}
		case client.Missed:
			l.counts.overflowed.Add(1)
		case client.Ended:
			if ctx.Err() == nil && !errors.Is(ev.Err, client.ErrClosed) {
				l.counts.closed.Add(1)
				l.fail(fmt.Errorf("a room ended: %w", ev.Err))
			}
		}
		if l.cfg.heard != nil {
			l.cfg.heard(x, now)
		}
	}
}

// ears lists the applications as those who hear messages.
func (l *life) ears() (list []*ear) {
	for _, x := range l.watches {
		list = append(list, &x.ear)
	}
	return list
}

// acknowledged returns what is stored by now, per room.
func (l *life) acknowledged() map[*book][]bool {
	all := map[*book][]bool{}
	for _, b := range l.books {
		all[b] = b.now()
	}
	return all
}
