package outbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// sink keeps what it is sent; fail may refuse.
type sink struct {
	name string
	fail func(events []Sent) error

	mu   sync.Mutex
	sent map[string][]Sent
}

func (s *sink) Name() string { return s.name }

func (s *sink) Send(_ context.Context, events []Sent) error {
	if s.fail != nil {
		if err := s.fail(events); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent == nil {
		s.sent = map[string][]Sent{}
	}
	s.sent[events[0].Key] = append(s.sent[events[0].Key], events...)
	return nil
}

func (s *sink) of(key string) []Sent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent[key])
}

func (s *sink) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range s.sent {
		n += len(list)
	}
	return n
}

// numbers are those of events, in the order in which they came.
func numbers(events []Sent) (list []int64) {
	for _, e := range events {
		list = append(list, e.N)
	}
	return list
}

func upTo(n int) (list []int64) {
	for i := range n {
		list = append(list, int64(i+1))
	}
	return list
}

var quick = Config{Poll: 20 * time.Millisecond}

func relay(t *testing.T, d *db.DB, cfg Config, sinks ...Sink) *Relay {
	t.Helper()
	cfg.Sinks = sinks
	r := New(d, cfg)
	require.NoError(t, r.Start(t.Context()))
	t.Cleanup(r.Stop)
	return r
}

func add(t *testing.T, d *db.DB, events ...Event) {
	t.Helper()
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return Append(ctx, tx, events...)
	}))
}

func event(key string) Event {
	return Event{Key: key, Kind: "changed", Data: map[string]string{"of": key}}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 20*time.Second, 5*time.Millisecond)
}

func rows(t *testing.T, d *db.DB) (n int) {
	t.Helper()
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_claims)`).Scan(&n)
	}))
	return n
}

func TestACommittedEventReachesEverySink(t *testing.T) {
	d := devdb.Test(t)
	all, rooms := &sink{name: "all"}, &sink{name: "rooms"}
	relay(t, d, quick, all, Only("group", rooms))
	require.Error(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, Append(ctx, tx, event("group:a")))
		return errors.New("no")
	}))
	add(t, d, event("user:b"), event("group:a"), event("group:a"), event("user:b"))
	eventually(t, func() bool { return all.count() == 4 && rooms.count() == 2 && rows(t, d) == 0 })
	require.Equal(t, upTo(2), numbers(all.of("group:a")), "what was rolled back took no number")
	require.Equal(t, upTo(2), numbers(rooms.of("group:a")))
	require.Equal(t, upTo(2), numbers(all.of("user:b")))
	e := all.of("group:a")[0]
	require.Equal(t, e, rooms.of("group:a")[0], "the same for all, with the same id")
	require.NotEqual(t, uuid.Nil, e.ID)
	require.Equal(t, "changed", e.Kind)
	require.JSONEq(t, `{"of": "group:a"}`, string(e.Data))
	require.WithinDuration(t, time.Now(), e.At, time.Minute)
}

// The poll takes an hour here: only the hint can be so quick.
func TestTheRelayOfTheProcessHearsOfACommit(t *testing.T) {
	d := devdb.Test(t)
	s := &sink{name: "rooms"}
	relay(t, d, Config{Poll: time.Hour}, s)
	for n := range 20 {
		add(t, d, event("group:a"))
		if n%3 == 0 {
			eventually(t, func() bool { return s.count() == n+1 })
		}
	}
	eventually(t, func() bool { return s.count() == 20 })
	require.Equal(t, upTo(20), numbers(s.of("group:a")))
}

// Twenty writers, three nodes with three sinks, one of which fails at random: every
// event, in order, once unless the sink failed.
func TestOrderPerKey(t *testing.T) {
	url := devdb.TestURL(t)
	const nodes, keys, writers, each = 3, 7, 20, 15
	// It fails one time in three, but not so often on end that the waits, which double,
	// take all of the test.
	var mu sync.Mutex // guards failed
	failed := map[string]int{}
	steady, flaky := &sink{name: "steady"}, &sink{name: "flaky", fail: func(events []Sent) error {
		mu.Lock()
		defer mu.Unlock()
		if key := events[0].Key; failed[key] < 3 && rand.IntN(3) == 0 {
			failed[key]++
			return errors.New("not now")
		}
		failed[events[0].Key] = 0
		return nil
	}}
	slow := &sink{name: "slow", fail: func([]Sent) error { time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond); return nil }}
	var pools []*db.DB
	for range nodes {
		d := devdb.Connect(t, url, db.Config{MaxConns: 6})
		pools = append(pools, d)
		cfg := quick
		cfg.Batch = 4
		relay(t, d, cfg, steady, flaky, slow)
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				a, b := (w+i)%keys, (w+3*i+1)%keys
				add(t, pools[w%nodes], event(fmt.Sprintf("group:%d", a)), event(fmt.Sprintf("user:%d", b)))
			}
		})
	}
	wg.Wait()
	defer func() {
		t.Logf("of %d heard: %d, %d, %d; %d rows left", 2*writers*each, steady.count(), flaky.count(), slow.count(), rows(t, pools[0]))
	}()
	eventually(t, func() bool {
		return steady.count() == 2*writers*each && flaky.count() == 2*writers*each && slow.count() == 2*writers*each && rows(t, pools[0]) == 0
	})
	for _, s := range []*sink{steady, flaky, slow} {
		for key := range s.sent {
			require.Equal(t, upTo(len(s.of(key))), numbers(s.of(key)), "%s %s", s.name, key)
		}
	}
}

func TestAKeyThatFailsHoldsUpNoOtherAndASinkNoOther(t *testing.T) {
	d := devdb.Test(t)
	broken := make(chan struct{})
	some := &sink{name: "some", fail: func(events []Sent) error {
		if events[0].Key == "group:bad" {
			select {
			case <-broken:
			default:
				panic("as bugs do")
			}
		}
		return nil
	}}
	stuck := make(chan struct{})
	kafka := &sink{name: "kafka", fail: func([]Sent) error { <-stuck; return nil }}
	reg := prometheus.NewRegistry()
	cfg := quick
	cfg.Metrics = reg
	r := relay(t, d, cfg, some, kafka)
	for n := range 30 {
		add(t, d, event("group:bad"), event(fmt.Sprintf("group:%d", n)))
	}
	eventually(t, func() bool { return some.count() == 30 })
	require.Positive(t, testutil.ToFloat64(r.events.WithLabelValues("some", "refused")))
	require.NoError(t, r.count(t.Context()))
	require.EqualValues(t, 30, testutil.ToFloat64(r.pending.WithLabelValues("some")))
	require.EqualValues(t, 60, testutil.ToFloat64(r.pending.WithLabelValues("kafka")))
	close(broken)
	close(stuck)
	eventually(t, func() bool { return some.count() == 60 && kafka.count() == 60 && rows(t, d) == 0 })
	require.Equal(t, upTo(30), numbers(some.of("group:bad")))
}

// What nobody heard of is found, piece by piece, whatever is in the way.
func TestThePollFindsWhatADeadProcessLeft(t *testing.T) {
	d := devdb.Test(t)
	s := &sink{name: "rooms"}
	stopped := New(d, Config{Sinks: []Sink{s}})
	require.NoError(t, stopped.Start(t.Context())) // the sink is known
	stopped.Stop()
	var many []Event
	for range lookAt + 200 { // more than a look sees
		many = append(many, event("group:b"))
	}
	add(t, d, many...)
	add(t, d, event("group:a"), event("group:c"))
	// One that died with its claim: it is waited for.
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO outbox_claims (sink, key, token, until) VALUES ('rooms', 'group:c', gen_random_uuid(), now() + INTERVAL '1 second')`)
		return err
	}))
	began := time.Now()
	relay(t, d, quick, s)
	eventually(t, func() bool { return len(s.of("group:a")) == 1 && len(s.of("group:b")) == lookAt+200 })
	eventually(t, func() bool { return len(s.of("group:c")) == 1 && rows(t, d) == 0 })
	require.Greater(t, time.Since(began), 900*time.Millisecond)
	require.Equal(t, upTo(lookAt+200), numbers(s.of("group:b")))
}

// A relay that was paused until its claim was another's deletes nothing.
func TestAFinishNamesItsClaim(t *testing.T) {
	d := devdb.Test(t)
	s := &sink{name: "rooms"}
	r := New(d, Config{Sinks: []Sink{s}})
	require.NoError(t, r.register(t.Context()))
	add(t, d, event("group:a"), event("group:a"))
	l := r.lanes[0]
	first, err := l.claim(t.Context(), []string{"group:a"})
	require.NoError(t, err)
	require.Len(t, first, 1)
	none, err := l.claim(t.Context(), []string{"group:a"})
	require.NoError(t, err)
	require.Empty(t, none)
	require.NoError(t, l.fail(t.Context(), first[0], 0)) // as if it had lapsed
	second, err := l.claim(t.Context(), []string{"group:a"})
	require.NoError(t, err)
	require.Len(t, second, 1)

	held, err := l.taken(t.Context(), first[0], 2)
	require.NoError(t, err)
	require.False(t, held)
	events, err := l.read(t.Context(), second[0])
	require.NoError(t, err)
	require.Equal(t, upTo(2), numbers(events))
	released, err := l.release(t.Context(), second[0])
	require.NoError(t, err)
	require.False(t, released, "something waits")
	held, err = l.taken(t.Context(), second[0], 2)
	require.NoError(t, err)
	require.True(t, held)
	released, err = l.release(t.Context(), second[0])
	require.NoError(t, err)
	require.True(t, released)
	require.Zero(t, rows(t, d))
}

func TestASinkThatNobodyHasIsForgotten(t *testing.T) {
	d := devdb.Test(t)
	gone := New(d, Config{Sinks: []Sink{&sink{name: "gone"}}})
	require.NoError(t, gone.register(t.Context()))
	s := &sink{name: "rooms"}
	r := New(d, Config{Sinks: []Sink{s}})
	require.NoError(t, r.register(t.Context()))
	add(t, d, event("group:a"))
	require.Equal(t, 2, rows(t, d))
	require.NoError(t, r.count(t.Context()))
	require.Equal(t, 2, rows(t, d), "it may come back")
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE outbox_sinks SET seen_at = now() - INTERVAL '8 days'`)
		return err
	}))
	require.NoError(t, r.count(t.Context()))
	require.Equal(t, 1, rows(t, d))
	add(t, d, event("group:a"))
	require.Equal(t, 2, rows(t, d))
}

func TestStopGivesKeysBack(t *testing.T) {
	d := devdb.Test(t)
	began := make(chan struct{})
	slow := &waits{began: began}
	r := relay(t, d, Config{Poll: 20 * time.Millisecond, Lease: time.Hour}, slow)
	add(t, d, event("group:a"))
	<-began
	r.Stop()
	s := &sink{name: "slow"}
	relay(t, d, quick, s)
	eventually(t, func() bool { return s.count() == 1 })
}

// waits sends nothing until it must stop.
type waits struct{ began chan struct{} }

func (*waits) Name() string { return "slow" }

func (w *waits) Send(ctx context.Context, _ []Sent) error {
	close(w.began)
	<-ctx.Done()
	return ctx.Err()
}

// distant is a sink that waits for somebody far away: its first keys until all of
// them are here.
type distant struct {
	sink
	here sync.WaitGroup
}

func (*distant) AtOnce() int { return 50 }

func (s *distant) Send(ctx context.Context, events []Sent) error {
	s.here.Done()
	s.here.Wait()
	return s.sink.Send(ctx, events)
}

func TestAWideSinkIsSentManyKeysAtOnce(t *testing.T) {
	d := devdb.Test(t)
	s := &distant{sink: sink{name: "sessions"}}
	s.here.Add(50)
	relay(t, d, quick, Only("user", s))
	var events []Event
	for i := range 50 {
		events = append(events, event(fmt.Sprint("user:", i)))
	}
	add(t, d, events...)
	eventually(t, func() bool { return s.count() == 50 && rows(t, d) == 0 })
}

// A process that ends between its last event and the release leaves a claim, which
// goes by and by; one that is young, or under which something waits, stays.
func TestClaimsOfDeadProcessesGo(t *testing.T) {
	d := devdb.Test(t)
	r := New(d, Config{Sinks: []Sink{&sink{name: "rooms"}}})
	require.NoError(t, r.register(t.Context()))
	add(t, d, event("group:waits"))
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO outbox_claims (sink, key, token, until) VALUES
			('rooms', 'group:gone', gen_random_uuid(), now() - INTERVAL '2 hours'), ('rooms', 'group:waits', gen_random_uuid(), now() - INTERVAL '2 hours'),
			('rooms', 'group:young', gen_random_uuid(), now())`)
		return err
	}))
	require.NoError(t, r.count(t.Context()))
	var left []string
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT key FROM outbox_claims ORDER BY key`)
		if err == nil {
			left, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	}))
	require.Equal(t, []string{"group:waits", "group:young"}, left)
}

func TestWrongEventsAreRefused(t *testing.T) {
	require.ErrorContains(t, Append(t.Context(), nil, Event{Key: "group", Kind: "k", Data: struct{}{}}), "scope")
	require.ErrorContains(t, Append(t.Context(), nil, Event{Key: "group:a", Kind: "k", Data: 1}), "object")
	require.ErrorContains(t, Append(t.Context(), nil, Event{Key: "group:a", Kind: "k"}), "object")
	require.Error(t, Append(t.Context(), nil, Event{Key: "group:a", Kind: "k", Data: make(chan int)}))
	require.NoError(t, Append(t.Context(), nil))
}
