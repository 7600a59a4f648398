package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/simnet"
)

// WAN is a crowd in rooms that span all regions, on links of which the bare
// delay is measured beside what the product makes of them.
type WAN struct {
	API       string
	Users     int // in whole rooms; the users of a room spread over all regions
	RoomSize  int
	Transport client.Transport
	// Net is the network between the regions. It may be another one with the same
	// delays, then there are no bytes to report; nil: no bare links either.
	Net  *simnet.Network
	Mesh report.Mesh // of the report; its regions are filled in
	// Progress is told what happens; it may be nil.
	Progress func(format string, args ...any)

	first string // region of every room's first user; empty: of all in turn
}

func (c *WAN) check() error {
	if c.Users < 2 || c.RoomSize < 2 || c.Users%c.RoomSize != 0 {
		return errors.New("bench: users come in whole rooms of at least two")
	}
	if c.Progress == nil {
		c.Progress = func(string, ...any) {}
	}
	return nil
}

// wan is one that runs.
type wan struct {
	WAN
	*crowd
	edge    client.Edge
	regions []string
	pool    *http.Client
	dialer  *client.Dialer
	idle    map[[2]string]float64 // bytes a second of each link before there is load
}

// The links are watched without load so long and so often; the quietest time
// counts.
const (
	idleFor   = 2 * time.Second
	idleTimes = 3
)

// open signs everybody up, each at a node of their own region, and finds out
// where the nodes are. The first user of a room makes its group: it is at home in
// their region.
func (c WAN) open(ctx context.Context) (*wan, error) {
	w := &wan{
		WAN: c, crowd: newCrowd(c.Users, c.RoomSize, c.Progress),
		// One pool of connections for all users' HTTP calls.
		pool: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: setupAtOnce}},
	}
	var err error
	if w.edge, err = client.NewAPI(c.API, client.APIConfig{HTTP: w.pool}).Edge(ctx); err != nil {
		return nil, err
	}
	pins, err := w.edge.Pins()
	if err != nil {
		return nil, err
	}
	w.dialer = &client.Dialer{Transport: c.Transport, CertSHA256: pins}
	w.bases = map[string]string{}
	for _, r := range w.edge.Regions {
		w.regions = append(w.regions, r.Name)
		w.bases[r.Name] = r.Nodes[0].HTTP
	}
	if near := w.bases[c.first]; near != "" { // the database is there
		for r := range w.bases {
			w.bases[r] = near
		}
	}
	slices.Sort(w.regions)
	w.Mesh.Regions = w.regions
	if c.Net == nil {
		w.Mesh.Baseline = "none"
	}
	for _, u := range w.users {
		first := u.index / c.RoomSize
		if c.first != "" {
			if first = slices.Index(w.regions, c.first); first < 0 {
				return nil, fmt.Errorf("there is no region %q", c.first)
			}
		}
		u.region = w.regions[(first+u.index%c.RoomSize)%len(w.regions)]
	}
	c.Progress("signing up %d users in %d regions", c.Users, len(w.regions))
	return w, w.signUp(ctx, c.API, w.pool)
}

// close lets everybody go.
func (w *wan) close() {
	w.leave()
	w.pool.CloseIdleConnections()
}

// endpoints lists the nodes for a user: those of a region, from another one on
// for every user, then the others.
func (w *wan) endpoints(region string, turn int) []client.Endpoint {
	var own, others []client.Endpoint
	for _, e := range w.edge.Endpoints(region) {
		if e.Region == region {
			own = append(own, e)
		} else {
			others = append(others, e)
		}
	}
	// The list has the nodes of a region in a random order.
	slices.SortFunc(own, func(a, b client.Endpoint) int { return strings.Compare(a.Node, b.Node) })
	turn %= len(own)
	return slices.Concat(own[turn:], own[:turn], others)
}

// config is that of a user's session.
func (w *wan) config(u *user) client.Config {
	return client.Config{
		Endpoints: w.endpoints(u.region, u.index/len(w.regions)), Tokens: u.api, Dialer: w.dialer,
		QueueSize: max(1024, 64*w.RoomSize),
	}
}

// connect opens the sessions of all users, brings them into their rooms, and
// waits until everybody sees everybody.
func (w *wan) connect(ctx context.Context, config func(*user) client.Config) error {
	began := time.Now()
	w.Progress("opening %d sessions", w.Users)
	if err := w.each(ctx, func(ctx context.Context, u *user) (err error) {
		if u.session, err = client.Connect(ctx, config(u)); err == nil {
			u.room, err = u.session.Join(ctx, w.roomOf(u))
		}
		return err
	}); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := w.together(ctx); err != nil {
		return err
	}
	w.Progress("everybody sees everybody after %.1f s", time.Since(began).Seconds())
	return nil
}

// from is the list of edge nodes as it is told to somebody who is in a region:
// the nearest first, all well.
func (w *wan) from(list client.Edge, region string) client.Edge {
	list.Regions = slices.Clone(list.Regions)
	slices.SortStableFunc(list.Regions, func(a, b client.EdgeRegion) int {
		return int(simnet.RTT(region, a.Name) - simnet.RTT(region, b.Name))
	})
	return list
}

// transports says how the users are connected.
func (w *wan) transports() string {
	kinds := map[wire.Transport]int{}
	for _, u := range w.users {
		kinds[u.session.Status().Transport]++
	}
	return fmt.Sprintf("%d over WebTransport, %d over WebSocket", kinds[wire.Transport_WEBTRANSPORT], kinds[wire.Transport_WEBSOCKET])
}

// path is what goes from one region to another.
type path struct {
	latencies, crossings *loadgen.Latencies
	expected, duplicates atomic.Int64
	lost                 int64
}

type paths map[[2]string]*path

func newPaths(regions []string) paths {
	ps := paths{}
	for _, from := range regions {
		for _, to := range regions {
			ps[[2]string{from, to}] = &path{latencies: loadgen.NewLatencies(), crossings: loadgen.NewLatencies()}
		}
	}
	return ps
}

// to adds up the deliveries to a region.
func (ps paths) to(region string) (n int64) {
	for key, p := range ps {
		if key[1] == region {
			n += p.latencies.Count()
		}
	}
	return n
}

// pairs is the report of the paths on which something was expected.
func (ps paths) pairs(regions []string, links map[[2]string]bare) (list []report.Pair) {
	for _, from := range regions {
		for _, to := range regions {
			p := ps[[2]string{from, to}]
			if p.expected.Load() == 0 {
				continue
			}
			row := report.Pair{
				From: from, To: to, Deliveries: p.latencies.Count(), Expected: p.expected.Load(),
				Duplicates: p.duplicates.Load(), Lost: p.lost,
				Latency: report.QuantilesOf(p.latencies.At, p.latencies.Max()),
			}
			if link, ok := links[[2]string{from, to}]; ok {
				row.Link = &report.Bare{P50: report.Millis(link.p50), P99: report.Millis(link.p99)}
				added := row.Latency.Less(row.Link.P50)
				row.Added, row.CDF = &added, p.latencies.CDF(link.p50)
				if p.crossings.Count() > 0 {
					crossing := report.QuantilesOf(p.crossings.At, p.crossings.Max()).Less(row.Link.P50)
					row.Crossing, row.CrossingCDF = &crossing, p.crossings.CDF(link.p50)
				}
			}
			list = append(list, row)
		}
	}
	return list
}

// bare is a link without the product on it, one way.
type bare struct{ p50, p99 time.Duration }

// bare measures the bare links for a time, while the load runs: half of what an
// echo takes.
func (w *wan) bare(ctx context.Context, during time.Duration) (map[[2]string]bare, error) {
	if w.Net == nil {
		return nil, nil
	}
	const interval = 100 * time.Millisecond
	count := max(20, int(during/interval))
	links := map[[2]string]bare{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for _, from := range w.regions {
		for _, to := range w.regions {
			g.Go(func() error {
				rtts, err := w.Net.Echo(ctx, from, to, count, interval)
				if err != nil {
					return fmt.Errorf("bare link %s to %s: %w", from, to, err)
				}
				if len(rtts) == 0 {
					return fmt.Errorf("bare link %s to %s: no answer", from, to)
				}
				slices.Sort(rtts)
				mu.Lock()
				defer mu.Unlock()
				links[[2]string{from, to}] = bare{rtts[len(rtts)/2] / 2, rtts[len(rtts)*99/100] / 2}
				return nil
			})
		}
	}
	return links, g.Wait()
}

// idleLinks watches the links without load.
func (w *wan) idleLinks(ctx context.Context) error {
	if w.Net == nil {
		return nil
	}
	w.Progress("watching the idle links for %s", idleTimes*idleFor)
	w.idle = map[[2]string]float64{}
	for i := range idleTimes {
		began, before := time.Now(), w.Net.Traffic()
		if err := pause(ctx, idleFor); err != nil {
			return err
		}
		for key, t := range w.Net.Traffic() {
			rate := float64(t.Less(before[key]).Bytes) / time.Since(began).Seconds()
			if i == 0 || rate < w.idle[key] {
				w.idle[key] = rate
			}
		}
	}
	return nil
}

// meter holds what was sent and read so far.
type meter struct {
	at   time.Time
	net  map[[2]string]simnet.Traffic
	read map[string]uint64 // by the sessions of a region
}

func (w *wan) meter() meter {
	m := meter{at: time.Now(), read: map[string]uint64{}}
	if w.Net != nil {
		m.net = w.Net.Traffic()
	}
	for _, u := range w.users {
		m.read[u.region] += u.session.Counters().BytesIn
	}
	return m
}

// flows says what went over each region link since m. updates are those of a
// region that went to another, all the deliveries of which are in ps.
func (w *wan) flows(m meter, updates map[[2]string]int64, ps ...paths) (list []report.Flow) {
	now := w.meter()
	for _, from := range w.regions {
		for _, to := range w.regions {
			key := [2]string{from, to}
			if updates[key] == 0 || now.net[key] == (simnet.Traffic{}) {
				continue
			}
			var here, all int64
			for _, p := range ps {
				here += p[key].latencies.Count()
				all += p.to(to)
			}
			if all == 0 {
				continue
			}
			sent := now.net[key].Less(m.net[key])
			read := float64(now.read[to]-m.read[to]) * float64(here) / float64(all)
			list = append(list, report.NewFlow(report.Flow{
				From: from, To: to, Packets: sent.Packets, Bytes: sent.Bytes, Idle: w.idle[key], Updates: updates[key], Deliveries: here,
			}, now.at.Sub(m.at).Seconds(), read))
		}
	}
	return list
}

// within reports whether what was due at a time is part of what is measured. The
// times that came over the network have no monotonic part.
func within(from, to, due time.Time) bool {
	return !due.Before(from.Round(0)) && due.Before(to.Round(0))
}

// rampLimit is how many times the rate a ramp goes up to.
const rampLimit = 16

// ramp doubles the rate until it is too much, and tries once between.
func ramp(first report.Step, most float64, measure func(rate float64) (report.Step, error)) ([]report.Step, error) {
	steps := []report.Step{first}
	good := first.Rate
	for first.Why == "" && 2*good <= min(most, first.Rate*rampLimit) {
		step, err := measure(2 * good)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
		if step.Why != "" {
			break
		}
		good = step.Rate
	}
	if steps[len(steps)-1].Why == "" || len(steps) == 1 {
		return steps, nil
	}
	step, err := measure(1.5 * good)
	return append(steps, step), err
}
