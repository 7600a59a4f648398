package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
)

// Logins is a crowd that talks on one node, while others sign in there by
// password: what hashing passwords does to what people in rooms see. Stretches
// with and without sign-ins take turns, so that what else the machine does meets
// both.
type Logins struct {
	Load
	Fleet    *fleet.Fleet // of one node, not started
	Accounts int          // who sign in, one after another
	PerS     float64      // sign-ins a second, whether the ones before have been answered or not
	Stretch  time.Duration
	Rounds   int // of a stretch without and one with sign-ins
	Progress func(format string, args ...any)
}

const benchPassword = "correct horse battery staple"

// Run measures.
func (l Logins) Run(ctx context.Context) (*report.Logins, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	if len(l.Fleet.Nodes) != 1 || l.Accounts < 1 || l.Rounds < 1 || l.Stretch < time.Second || !(l.PerS > 0 && l.PerS <= 10_000) {
		return nil, errors.New("bench: one node, some accounts, and up to 10,000 sign-ins a second for a while")
	}
	t := l.talk(l.Fleet, l.Progress)
	defer t.end()
	if err := t.begin(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	door := &door{api: l.Fleet.API(), http: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxConnsPerHost: 256, TLSClientConfig: l.Fleet.TLS()},
	}}
	defer door.http.CloseIdleConnections()
	l.Progress("registering %d accounts", l.Accounts)
	if err := door.register(ctx, l.Accounts); err != nil {
		return nil, fmt.Errorf("bench: register: %w", err)
	}

	r := &report.Logins{Load: l.report(), Accounts: l.Accounts, PerSecond: l.PerS, Seconds: l.Stretch.Seconds()}
	for round := range l.Rounds {
		idle, err := l.stretch(ctx, t, nil)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		busy, err := l.stretch(ctx, t, door)
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		r.Rounds = append(r.Rounds, report.LoginsRound{Idle: *idle, Busy: *busy})
		l.Progress("round %d of %d: events p99 %.1f ms idle, %.1f ms with sign-ins; %d signed in, %d turned away",
			round+1, l.Rounds, idle.Events.P99, busy.Events.P99, busy.OK, busy.TurnedAway)
	}
	t.measuring.Store(false)
	t.mu.Lock()
	if t.failure != nil {
		r.FirstFailure = t.failure.Error()
	}
	t.mu.Unlock()
	r.Refused, r.Closed = t.counts.refused.Load(), t.counts.closed.Load()
	r.Head = report.NewHead("logins")
	return r, nil
}

// stretch measures for a while, with sign-ins at the door if there is one.
func (l Logins) stretch(ctx context.Context, t *talk, d *door) (*report.LoginsStretch, error) {
	s := &report.LoginsStretch{}
	if err := pause(ctx, time.Second); err != nil { // the one before fades
		return nil, err
	}
	t.latency.Reset()
	pid := t.fleet.Nodes[0].PID()
	before, err := loadgen.CPU(pid)
	if err != nil {
		return nil, err
	}
	if d == nil {
		err = pause(ctx, l.Stretch)
	} else {
		err = d.open(ctx, l, s)
	}
	if err != nil {
		return nil, err
	}
	s.Events = report.QuantilesOf(t.latency.At, t.latency.Max())
	s.Heard = t.latency.Count()
	after, err := loadgen.CPU(pid)
	if err != nil {
		return nil, err
	}
	s.Cores = (after - before).Seconds() / l.Stretch.Seconds()
	s.Lost, err = t.settle(ctx, settleLimit)
	return s, err
}

// door is where people sign in.
type door struct {
	api  string
	http *http.Client
	next atomic.Int64 // account
}

func mailOf(i int) string { return fmt.Sprintf("bench-%d@example.org", i) }

func (d *door) post(ctx context.Context, path string, body any) (status int, retryAfter string, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.api+path, bytes.NewReader(b))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), nil
}

// register makes the accounts, as fast as it is let.
func (d *door) register(ctx context.Context, n int) error {
	for i := range n {
		account := map[string]string{"username": "bench " + strconv.Itoa(i), "email": mailOf(i), "password": benchPassword}
		if err := client.Patiently(ctx, func() error {
			status, _, err := d.post(ctx, "/api/v1/auth/register", account)
			if err == nil && status != http.StatusOK {
				err = &client.Error{Status: status, Message: "not registered"}
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// open has people sign in on a fixed timeline.
func (d *door) open(ctx context.Context, l Logins, s *report.LoginsStretch) error {
	took := loadgen.NewLatencies()
	var calls sync.WaitGroup
	var mu sync.Mutex // guards s
	n := int(l.PerS * l.Stretch.Seconds())
	err := loadgen.Open(ctx, time.Now(), time.Duration(float64(time.Second)/l.PerS), n, func(_ int, due time.Time) {
		account := int(d.next.Add(1)) % l.Accounts
		calls.Go(func() {
			status, retryAfter, err := d.post(ctx, "/api/v1/auth/login", map[string]string{"email": mailOf(account), "password": benchPassword})
			mu.Lock()
			defer mu.Unlock()
			s.Offered++
			switch {
			case err == nil && status == http.StatusOK:
				s.OK++
				took.Record(time.Since(due))
			case err == nil && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) && retryAfter != "":
				s.TurnedAway++
			default:
				s.Failed++
				if s.FirstFailure == "" {
					s.FirstFailure = fmt.Sprintf("status %d, Retry-After %q, %v", status, retryAfter, err)
				}
			}
		})
	})
	calls.Wait()
	s.Took = report.QuantilesOf(took.At, took.Max())
	return err
}
