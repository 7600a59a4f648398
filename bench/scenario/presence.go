// Package scenario holds what benchmarks do: the story of a load, played
// through the Go SDK alone, as an application would.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

// Presence is a crowd in rooms that spread over all regions. Everybody moves at
// a steady pace and sees everybody else of their room move.
type Presence struct {
	API       string
	Users     int
	RoomSize  int
	Rate      float64 // fixes per second and user
	Duration  time.Duration
	Warmup    time.Duration
	Transport client.Transport
	ServerPID int // 0: the servers run in this process
	// Echo measures the bare link between two regions: count round trips, one
	// per interval. nil: no baseline. Link says what that link is.
	Echo func(ctx context.Context, from, to string, count int, interval time.Duration) ([]time.Duration, error)
	Link string
	// Progress is told what happens; it may be nil.
	Progress func(format string, args ...any)
}

const settle = 10 * time.Second // at most, until all final positions are there

// walk is a running scenario.
type walk struct {
	Presence
	*crowd
	regions []string

	from, to time.Time // what was meant to be sent between counts
	pairs    map[[2]string]*pair
	sent     atomic.Int64
}

type pair struct {
	latencies  *loadgen.Latencies
	expected   atomic.Int64
	duplicates atomic.Int64
	lost       int64
}

// Run plays the scenario and returns what was measured.
func (p Presence) Run(ctx context.Context) (*report.Presence, error) {
	switch {
	case p.Users < 2 || p.RoomSize < 2 || p.Users%p.RoomSize != 0:
		return nil, errors.New("bench: users come in whole rooms of at least two")
	case !(p.Rate > 0 && p.Rate <= 50) || p.Duration <= 0 || p.Warmup < 0:
		return nil, errors.New("bench: the rate is above 0 and at most 50 a second, the duration above 0")
	}
	if p.Progress == nil {
		p.Progress = func(string, ...any) {}
	}
	c := &walk{Presence: p, crowd: newCrowd(p.Users, p.RoomSize, p.Progress), pairs: map[[2]string]*pair{}}
	defer c.leave()
	if err := c.gather(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	r, err := c.measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return r, nil
}

// gather signs everybody up and brings them into their rooms.
func (c *walk) gather(ctx context.Context) error {
	// One pool of connections for all users' HTTP calls.
	pool := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: setupAtOnce}}
	defer pool.CloseIdleConnections()
	edge, err := client.NewAPI(c.API, client.APIConfig{HTTP: pool}).Edge(ctx)
	if err != nil {
		return err
	}
	for _, r := range edge.Regions {
		c.regions = append(c.regions, r.Name)
	}
	pins, err := edge.Pins()
	if err != nil {
		return err
	}
	dialer := &client.Dialer{Transport: c.Transport, CertSHA256: pins}
	for _, from := range c.regions {
		for _, to := range c.regions {
			c.pairs[[2]string{from, to}] = &pair{latencies: loadgen.NewLatencies()}
		}
	}

	c.Progress("signing up %d users in %d regions", c.Users, len(c.regions))
	began := time.Now()
	for _, u := range c.users {
		u.region = c.regions[u.index%len(c.regions)]
	}
	if err := c.signUp(ctx, c.API, pool); err != nil {
		return err
	}
	c.Progress("opening %d sessions", c.Users)
	if err := c.each(ctx, func(ctx context.Context, u *user) error {
		endpoints := edge.Endpoints(u.region)
		// Spread over the region's nodes.
		own := slices.IndexFunc(endpoints, func(e client.Endpoint) bool { return e.Region != u.region })
		if own < 0 {
			own = len(endpoints)
		}
		turn := u.index / len(c.regions) % own
		endpoints = slices.Concat(endpoints[turn:own], endpoints[:turn], endpoints[own:])
		s, err := client.Connect(ctx, client.Config{Endpoints: endpoints, Tokens: u.api, Dialer: dialer, QueueSize: 16 * c.RoomSize})
		if err != nil {
			return err
		}
		u.session = s
		u.room, err = s.Join(ctx, c.roomOf(u))
		return err
	}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := c.together(ctx); err != nil {
		return err
	}
	c.Progress("everybody sees everybody after %.1f s", time.Since(began).Seconds())
	return nil
}

// measure plays the load.
func (c *walk) measure(ctx context.Context) (*report.Presence, error) {
	period := time.Duration(float64(time.Second) / c.Rate)
	every := period / time.Duration(c.Users)
	start := time.Now().Add(100 * time.Millisecond)
	c.from = start.Add(c.Warmup)
	c.to = c.from.Add(c.Duration)

	readCtx, stopReading := context.WithCancel(ctx)
	var readers sync.WaitGroup
	for _, u := range c.users {
		readers.Go(func() { c.read(readCtx, u) })
	}
	defer readers.Wait()
	defer stopReading()

	links := make(map[[2]string]time.Duration)
	helpers, helping := errgroup.WithContext(ctx)
	helpers.Go(func() error { return c.echo(helping, links) })

	var before, after time.Duration
	var cpuErr error
	c.Progress("measuring for %s after %s of warm-up", c.Duration, c.Warmup)
	n := int((c.Warmup + c.Duration) / every)
	measuring := false
	err := loadgen.Open(ctx, start, every, n, func(i int, due time.Time) {
		if !measuring && !due.Before(c.from) {
			measuring = true
			before, cpuErr = loadgen.CPU(c.ServerPID)
		}
		c.send(c.users[i%c.Users], i/c.Users, due)
	})
	if err != nil {
		return nil, err
	}
	after, err = loadgen.CPU(c.ServerPID)
	if err = errors.Join(cpuErr, err); err != nil {
		return nil, err
	}
	if err := helpers.Wait(); err != nil {
		return nil, err
	}
	_ = c.until(ctx, settle, func(u *user) int { return len(u.behind()) })
	stopReading()
	readers.Wait()
	return c.result(links, after-before), nil
}

// send reports the k-th fix of a user: a walk around the block. Its capture
// time is the time it was meant to be sent, by which receivers measure.
func (c *walk) send(u *user, k int, due time.Time) {
	at := geo.Destination(geo.Point{Lat: 52.52, Lng: 13.4}, float64(k*3%360), 100+float64(u.index))
	u.mu.Lock()
	u.last = due
	u.mu.Unlock()
	if err := u.session.Report(client.Fix{Point: at, Accuracy: 5, Captured: due}); err != nil {
		return // shows as lost
	}
	if due.Before(c.from) || !due.Before(c.to) {
		return
	}
	c.sent.Add(1)
	for _, peer := range u.peers {
		c.pairs[[2]string{u.region, peer.region}].expected.Add(1)
	}
}

// read is the application of one user.
func (c *walk) read(ctx context.Context, u *user) {
	type seen struct{ epoch, n uint64 }
	known := map[string]seen{}
	for ev := range u.room.Events(ctx) {
		e, ok := ev.(client.FixChanged)
		if !ok || e.Fix.User == u.id {
			continue
		}
		now := time.Now()
		from := u.byID[e.Fix.User]
		if from == nil {
			continue
		}
		p := c.pairs[[2]string{from.region, u.region}]
		was, is := known[e.Fix.User], seen{e.Fix.Epoch, e.Fix.N}
		if is.epoch < was.epoch || is.epoch == was.epoch && is.n <= was.n {
			p.duplicates.Add(1)
			continue
		}
		known[e.Fix.User] = is
		if !e.Fix.Captured.Before(c.from.Round(0)) && e.Fix.Captured.Before(c.to.Round(0)) {
			p.latencies.Record(now.Sub(e.Fix.Captured))
		}
	}
}

// behind returns the peers of whom the user does not have the last fix.
func (u *user) behind() (out []*user) {
	have := map[string]time.Time{}
	for _, f := range u.room.Fixes() {
		have[f.User] = f.Captured
	}
	for _, p := range u.peers {
		p.mu.Lock()
		last := p.last
		p.mu.Unlock()
		if !have[p.id].Equal(last) {
			out = append(out, p)
		}
	}
	return out
}

// echo measures the bare links while the load runs.
func (c *walk) echo(ctx context.Context, links map[[2]string]time.Duration) error {
	if c.Echo == nil {
		return nil
	}
	const interval = 100 * time.Millisecond
	count := max(10, int((c.Warmup+c.Duration)/interval))
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for key := range c.pairs {
		g.Go(func() error {
			rtts, err := c.Echo(ctx, key[0], key[1], count, interval)
			if err != nil {
				return fmt.Errorf("bare link %s to %s: %w", key[0], key[1], err)
			}
			if len(rtts) == 0 {
				return fmt.Errorf("bare link %s to %s: no answer", key[0], key[1])
			}
			slices.Sort(rtts)
			mu.Lock()
			defer mu.Unlock()
			links[key] = rtts[len(rtts)/2] / 2
			return nil
		})
	}
	return g.Wait()
}

func (c *walk) result(links map[[2]string]time.Duration, cpu time.Duration) *report.Presence {
	r := &report.Presence{
		Head:  report.NewHead("presence"),
		Users: c.Users, RoomSize: c.RoomSize, Rooms: c.rooms(), Rate: c.Rate,
		Seconds: c.Duration.Seconds(), Warmup: c.Warmup.Seconds(),
		Baseline: "none", CPUSeconds: cpu.Seconds(),
		CPUScope: "servers and load generator together: they share the process",
		Sent:     c.sent.Load(),
	}
	if c.Echo != nil {
		r.Baseline = c.Link
	}
	if c.ServerPID != 0 {
		r.CPUScope = fmt.Sprintf("the servers' process %d alone", c.ServerPID)
	}
	kinds := map[wire.Transport]int{}
	for _, u := range c.users {
		st := u.session.Status()
		kinds[st.Transport]++
		r.Tick = max(r.Tick, report.Millis(st.Tick))
		r.Reconnects += int64(u.session.Counters().Connections) - 1
		r.Gaps += int64(u.room.Counters().Gaps)
		for _, p := range u.behind() {
			c.pairs[[2]string{p.region, u.region}].lost++
		}
	}
	r.Transport = fmt.Sprintf("%d over WebTransport, %d over WebSocket", kinds[wire.Transport_WEBTRANSPORT], kinds[wire.Transport_WEBSOCKET])
	for _, from := range c.regions {
		for _, to := range c.regions {
			key := [2]string{from, to}
			p := c.pairs[key]
			row := report.Pair{
				From: from, To: to, Deliveries: p.latencies.Count(), Expected: p.expected.Load(),
				Duplicates: p.duplicates.Load(), LostFinal: p.lost,
				Latency: report.QuantilesOf(p.latencies.At, p.latencies.Max()),
			}
			row.Superseded = row.Expected - row.Deliveries
			if link, ok := links[key]; ok {
				ms := report.Millis(link)
				added := row.Latency.Less(ms)
				beyond := added.Less(r.Tick)
				row.Link, row.Added, row.BeyondTick = &ms, &added, &beyond
			}
			r.Pairs = append(r.Pairs, row)
			r.Deliveries += row.Deliveries
			r.Expected += row.Expected
			r.Superseded += row.Superseded
			r.Duplicates += row.Duplicates
			r.LostFinal += row.LostFinal
		}
	}
	if r.Deliveries > 0 {
		r.CPUPerMillion = cpu.Seconds() / float64(r.Deliveries) * 1e6
	}
	return r
}
