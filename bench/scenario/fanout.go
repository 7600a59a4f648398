package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/peers"
	"github.com/mustermesh/muster/bench/report"
)

// FanoutCase is one load on one room.
type FanoutCase struct {
	Name    string
	Members int
	// Messages per second, or Window of them under way at any time, or Moves:
	// every member's position, once a second.
	Messages float64
	Window   int
	Moves    bool
}

// FanoutCases are the loads that peers were measured under.
func FanoutCases() []FanoutCase {
	return []FanoutCase{
		{Name: "200 members, 100 messages/s", Members: 200, Messages: 100},
		{Name: "1,000 members, 20 messages/s", Members: 1000, Messages: 20},
		{Name: "200 members, 8 messages under way", Members: 200, Window: 8},
		{Name: "200 members, each moves once a second", Members: 200, Moves: true},
	}
}

// FanoutTarget is a server under load.
type FanoutTarget struct {
	Open peers.Opener
	PID  int // whose CPU time is counted
}

// Fanout gives the same loads to several servers in turn.
type Fanout struct {
	Cases    []FanoutCase
	Targets  map[string]FanoutTarget
	Rounds   int // of all cases with all targets; the median counts
	Warmup   time.Duration
	Duration time.Duration
	Size     int // bytes of a message
	Progress func(format string, args ...any)
}

const fanoutSenders = 20 // members that send at a fixed rate, in turn

// Run measures.
func (f Fanout) Run(ctx context.Context) (*report.Fanout, error) {
	r := &report.Fanout{Head: report.NewHead("fanout"), Rounds: f.Rounds, Seconds: f.Duration.Seconds(), Bytes: f.Size}
	var names []string
	for name := range f.Targets {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, c := range f.Cases {
		runs := map[string][]report.FanoutRun{}
		for round := range f.Rounds {
			for i := range names { // who begins takes turns
				name := names[(i+round)%len(names)]
				run, err := f.one(ctx, c, f.Targets[name])
				if err != nil {
					return nil, fmt.Errorf("bench: %s: %s: %w", name, c.Name, err)
				}
				f.Progress("%s: %s: %.0f a CPU second, p99 %.1f ms", c.Name, name, run.PerCPUSecond, run.Latency.P99)
				runs[name] = append(runs[name], run)
			}
		}
		r.Add(c.Name, runs)
	}
	return r, nil
}

// member is what one member got.
type member struct {
	got atomic.Int64
	_   [56]byte // a cache line of its own
}

// one plays one case on one server.
func (f Fanout) one(ctx context.Context, c FanoutCase, target FanoutTarget) (run report.FanoutRun, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	counts := make([]member, c.Members)
	latencies := loadgen.NewLatencies()
	var measuring, closing atomic.Bool
	got := func(m, n int, sent time.Time) {
		counts[m].got.Add(int64(n))
		if m%16 == 0 && measuring.Load() {
			latencies.Record(time.Since(sent))
		}
	}
	room, err := target.Open(ctx, c.Members, peers.Sink{
		Message: func(m int, sent time.Time) { got(m, 1, sent) },
		Moves:   got,
		Lost: func(m int, err error) {
			if !closing.Load() {
				cancel(fmt.Errorf("member %d lost its connection: %w", m, err))
			}
		},
	})
	if err != nil {
		return run, err
	}
	defer room.Close()
	defer closing.Store(true)
	if err := pause(ctx, time.Second); err != nil {
		return run, err
	}

	var sent, answered, refused atomic.Int64
	done := func(err error) {
		if err != nil {
			refused.Add(1)
		}
		answered.Add(1)
	}
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	start := time.Now()
	fixed := func(every time.Duration, arrive func(i int, due time.Time) error) {
		load.Go(func() {
			_ = loadgen.Open(loading, start, every, 1<<40, func(i int, due time.Time) {
				if err := arrive(i, due); err != nil && loading.Err() == nil {
					cancel(err)
				}
				sent.Add(1)
			})
		})
	}
	switch {
	case c.Moves:
		fixed(time.Second/time.Duration(c.Members), func(i int, due time.Time) error {
			return room.Move(i%c.Members, i/c.Members, due)
		})
	case c.Window > 0:
		for w := range c.Window {
			next := make(chan struct{}, 1)
			load.Go(func() {
				for i := w; ; i += c.Window { // in turn, so that nobody sends too much
					err := room.Send(i%c.Members, time.Now(), f.Size, func(err error) {
						done(err)
						next <- struct{}{}
					})
					if err != nil && loading.Err() == nil {
						cancel(err)
						return
					}
					sent.Add(1)
					select {
					case <-next:
					case <-loading.Done():
						return
					}
				}
			})
		}
	default:
		fixed(time.Duration(float64(time.Second)/c.Messages), func(i int, due time.Time) error {
			return room.Send(i%fanoutSenders*c.Members/fanoutSenders, due, f.Size, done)
		})
	}

	type usage struct {
		got, sent int64
		cpu       time.Duration
		at        time.Time
	}
	measure := func() (u usage) {
		cpu, err := loadgen.CPU(target.PID)
		if err != nil {
			cancel(err)
		}
		u.cpu, u.at, u.sent = cpu, time.Now(), sent.Load()
		for i := range counts {
			u.got += counts[i].got.Load()
		}
		return u
	}
	if err := pause(ctx, f.Warmup); err != nil {
		return run, errors.Join(err, context.Cause(ctx))
	}
	measuring.Store(true)
	before := measure()
	if err := pause(ctx, f.Duration); err != nil {
		return run, errors.Join(err, context.Cause(ctx))
	}
	after := measure()
	measuring.Store(false)
	stop()
	load.Wait()
	if n := refused.Load(); n > 0 {
		return run, fmt.Errorf("%d of %d messages were refused", n, answered.Load())
	}
	seconds, cpu := after.at.Sub(before.at).Seconds(), (after.cpu - before.cpu).Seconds()
	return report.FanoutRun{
		Deliveries:   float64(after.got-before.got) / seconds,
		Sent:         float64(after.sent-before.sent) / seconds,
		Cores:        cpu / seconds,
		PerCPUSecond: float64(after.got-before.got) / cpu,
		Latency:      report.QuantilesOf(latencies.At, latencies.Max()),
	}, context.Cause(ctx)
}

// CentrifugoTarget is a Centrifugo that somebody started.
func CentrifugoTarget(address string, pid int) FanoutTarget {
	return FanoutTarget{Open: peers.Centrifugo(address), PID: pid}
}

// FleetTarget starts a fleet of one node with a room for all cases.
func FleetTarget(ctx context.Context, f *fleet.Fleet, cases []FanoutCase, progress func(string, ...any)) (t FanoutTarget, err error) {
	if err := f.Start(ctx); err != nil {
		return t, err
	}
	most := 0
	for _, c := range cases {
		most = max(most, c.Members)
	}
	pool := f.Client()
	defer pool.CloseIdleConnections()
	crowd := newCrowd(most, most, progress)
	progress("signing up %d users", most)
	if err := crowd.signUp(ctx, f.API(), pool); err != nil {
		return t, err
	}
	var users []peers.Member
	for _, u := range crowd.users {
		token, err := u.api.Token(ctx, "")
		if err != nil {
			return t, err
		}
		users = append(users, peers.Member{Token: token, WS: f.Nodes[0].WS})
	}
	return FanoutTarget{Open: peers.Muster(crowd.roomOf(crowd.users[0]), users), PID: f.Nodes[0].PID()}, nil
}
