package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/peers"
	"github.com/mustermesh/muster/bench/report"
)

// Ledger is people who add expenses over HTTP, in many groups and in one, beside
// pgbench on the same database; and then people who ask about a group with much in it.
type Ledger struct {
	Fleet       *fleet.Fleet // of one node, started
	DatabasePID int
	Rounds      int
	Duration    time.Duration
	Clients     int // requests under way
	Groups      int // of the case of many
	Scale       int // of pgbench; 0: without
	Members     int // of the group that is asked about; 0: none is
	Expenses    int // of that
	Rate        float64
	Progress    func(format string, args ...any)
}

// ways is among how many members an expense is split.
const ways = 5

// Run measures.
func (l Ledger) Run(ctx context.Context) (r *report.Ledger, err error) {
	if l.Rounds < 1 || l.Clients < 1 || l.Groups < 1 || l.Duration < time.Second || l.Members != 0 && (l.Members < ways || l.Expenses < 1 || l.Rate <= 0) {
		return nil, errors.New("bench: rounds of at least a second, some clients and groups")
	}
	r = &report.Ledger{Rounds: l.Rounds, Seconds: l.Duration.Seconds(), Clients: l.Clients, Ways: ways, Scale: l.Scale}
	pool := l.Fleet.Client()
	defer pool.CloseIdleConnections()
	l.Progress("signing up %d users in %d groups", l.Groups*ways, l.Groups)
	many := newCrowd(l.Groups*ways, ways, l.Progress)
	if err := many.signUp(ctx, l.Fleet.API(), pool); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	// Members take turns: each device may ask 33 times a second, as everywhere.
	one := newCrowd(50, 50, l.Progress)
	if err := one.signUp(ctx, l.Fleet.API(), pool); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	var bench *peers.Pgbench
	if l.Scale > 0 {
		l.Progress("filling pgbench's tables, scale %d", l.Scale)
		if bench, err = peers.NewPgbench(ctx, l.Fleet.Database(), l.Scale, l.Clients); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	for _, c := range []struct {
		name  string
		crowd *crowd
	}{{fmt.Sprintf("%d groups", l.Groups), many}, {"one group", one}} {
		cases := report.LedgerCase{Case: c.name}
		for range l.Rounds {
			run := report.LedgerRun{}
			if bench != nil {
				if run.Pgbench, err = bench.Run(ctx, l.Duration); err != nil {
					return nil, fmt.Errorf("bench: %w", err)
				}
			}
			if err := l.create(ctx, c.crowd, pool, &run); err != nil {
				return nil, fmt.Errorf("bench: %s: %w", c.name, err)
			}
			l.Progress("%s: %.0f expenses/s, p99 %.1f ms (server %.2f cores, database %.2f); pgbench %.0f tps", c.name, run.Created, run.Took.P99,
				run.ServerCores, run.DatabaseCores, run.Pgbench)
			cases.Runs = append(cases.Runs, run)
		}
		r.Cases = append(r.Cases, cases)
	}
	if l.Members > 0 {
		if r.Queries, err = l.ask(ctx, pool); err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
	}
	r.Head = report.NewHead("ledger")
	return r, nil
}

// purse is somebody of a crowd who adds expenses for some of their group.
type purse struct {
	http  *http.Client
	crowd *crowd
	base  string // of the API
}

// add adds an expense of a member, split equally among them and the next ones.
func (p purse) add(ctx context.Context, group, member int) error {
	mates := p.crowd.mates(group)
	parts := make([]map[string]any, ways)
	for i := range parts {
		parts[i] = map[string]any{"user_id": mates[(member+i)%len(mates)].id}
	}
	return p.call(ctx, mates[member], http.MethodPost, "/api/v1/groups/"+p.crowd.groups[group]+"/expenses", map[string]any{
		"title": "Lunch", "category": "food", "money": map[string]any{"amount": 1000 + rand.IntN(10_000), "currency": "EUR"},
		"split": map[string]any{"mode": "equal", "parts": parts},
	})
}

// call is one request as the SDKs make it: with a token, and a key if it writes.
func (p purse) call(ctx context.Context, u *user, method, path string, in any) error {
	token, err := u.api.Token(ctx, "")
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", uuid.NewString())
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return err
}

// create has the clients add expenses, each the next one when it has the answer.
func (l Ledger) create(ctx context.Context, c *crowd, pool *http.Client, run *report.LedgerRun) error {
	p := purse{pool, c, l.Fleet.API()}
	took, failure := loadgen.NewLatencies(), atomic.Pointer[error]{}
	var measuring atomic.Bool
	var created, failed atomic.Int64
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	turn := atomic.Int64{}
	for range l.Clients {
		load.Go(func() {
			for loading.Err() == nil {
				n := int(turn.Add(1))
				began := time.Now()
				err := p.add(ctx, n%c.rooms(), n/c.rooms()%c.roomSize)
				switch {
				case !measuring.Load():
				case err != nil:
					failure.CompareAndSwap(nil, &err)
					failed.Add(1)
				default:
					created.Add(1)
					took.Record(time.Since(began))
				}
			}
		})
	}
	if err := pause(ctx, min(l.Duration, 3*time.Second)); err != nil {
		return err
	}
	before, err := l.used()
	if err != nil {
		return err
	}
	measuring.Store(true)
	if err := pause(ctx, l.Duration); err != nil {
		return err
	}
	measuring.Store(false)
	after, err := l.used()
	if err != nil {
		return err
	}
	stop()
	load.Wait()
	seconds := after.at.Sub(before.at).Seconds()
	run.Created, run.Failed = float64(created.Load())/seconds, failed.Load()
	run.Took = report.QuantilesOf(took.At, took.Max())
	run.ServerCores = (after.server - before.server).Seconds() / seconds
	run.DatabaseCores = (after.database - before.database).Seconds() / seconds
	run.ClientCores = (after.client - before.client).Seconds() / seconds
	if run.Pgbench > 0 {
		run.Share = run.Created / run.Pgbench
	}
	if err := failure.Load(); err != nil {
		l.Progress("%d failed, first: %v", run.Failed, *err)
	}
	return nil
}

func (l Ledger) used() (u usage, err error) {
	var errs [3]error
	u.server, errs[0] = loadgen.TreeCPU(l.Fleet.Nodes[0].PID())
	u.database, errs[1] = loadgen.TreeCPU(l.DatabasePID)
	u.client, errs[2] = loadgen.CPU(0)
	u.at = time.Now()
	return u, errors.Join(errs[:]...)
}

// ask fills a group, and has its members ask about it.
func (l Ledger) ask(ctx context.Context, pool *http.Client) (*report.LedgerAsked, error) {
	c := newCrowd(l.Members, l.Members, l.Progress)
	if err := c.signUp(ctx, l.Fleet.API(), pool); err != nil {
		return nil, err
	}
	p := purse{pool, c, l.Fleet.API()}
	l.Progress("adding %d expenses to a group of %d", l.Expenses, l.Members)
	var filling sync.WaitGroup
	var next atomic.Int64
	var failure atomic.Pointer[error]
	for range l.Clients {
		filling.Go(func() {
			for n := int(next.Add(1)); n <= l.Expenses && failure.Load() == nil && ctx.Err() == nil; n = int(next.Add(1)) {
				if err := p.add(ctx, 0, n%l.Members); err != nil {
					failure.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	filling.Wait()
	if err := failure.Load(); err != nil {
		return nil, *err
	}
	base := "/api/v1/groups/" + c.groups[0]
	questions := []struct {
		name string
		path func(i int, u *user) string
	}{
		{"balances", func(int, *user) string { return base + "/balances" }},
		{"expenses", func(int, *user) string { return base + "/expenses?limit=50" }},
		{"explain", func(i int, u *user) string {
			other := c.users[(u.index+1+i%(l.Members-1))%l.Members]
			return base + "/debts/explain?currency=EUR&from=" + u.id + "&to=" + other.id
		}},
	}
	took := map[string]*loadgen.Latencies{"all": loadgen.NewLatencies()}
	for _, q := range questions {
		took[q.name] = loadgen.NewLatencies()
	}
	asked := &report.LedgerAsked{Members: l.Members, Expenses: l.Expenses, PerSecond: l.Rate, Took: map[string]report.Quantiles{}}
	var failed atomic.Int64
	var asking sync.WaitGroup
	defer asking.Wait()
	n := int(l.Rate * (l.Duration.Seconds()*3 + 3))
	warm := int(l.Rate * 3)
	err := loadgen.Open(ctx, time.Now(), time.Duration(float64(time.Second)/l.Rate), n, func(i int, due time.Time) {
		asking.Go(func() {
			q, u := questions[i%len(questions)], c.users[i%l.Members]
			if err := p.call(ctx, u, http.MethodGet, q.path(i, u), nil); err != nil {
				if failed.Add(1) == 1 {
					l.Progress("%s: %v", q.name, err)
				}
				return
			}
			if d := time.Since(due); i >= warm {
				took[q.name].Record(d)
				took["all"].Record(d)
			}
		})
	})
	asking.Wait()
	for name, t := range took {
		asked.Took[name] = report.QuantilesOf(t.At, t.Max())
	}
	asked.Failed = failed.Load()
	l.Progress("asked %d times: p99 %.1f ms", n, asked.Took["all"].P99)
	return asked, err
}
