package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/webhook"
	"github.com/mustermesh/muster/core/outbox"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// receiver is a program that is called. It believes what the reference library
// of Standard Webhooks believes.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	check  *standardwebhooks.Webhook
	got    map[string]webhook.Body // by webhook-id
	calls  int
	wrong  []error
	answer func(n int) int // 0: 200
}

func receive(t *testing.T) *receiver {
	r := &receiver{got: map[string]webhook.Body{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls++
		var b webhook.Body
		if err == nil {
			err = r.check.Verify(body, req.Header)
		}
		if err == nil {
			err = json.Unmarshal(body, &b)
		}
		if err != nil {
			r.wrong = append(r.wrong, err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.answer != nil {
			if status := r.answer(r.calls); status != 0 {
				w.WriteHeader(status)
				return
			}
		}
		r.got[req.Header.Get("webhook-id")] = b
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) trust(t *testing.T, secret string) {
	var err error
	r.mu.Lock()
	defer r.mu.Unlock()
	r.check, err = standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
}

func (r *receiver) bodies() map[string]webhook.Body {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]webhook.Body{}
	for k, v := range r.got {
		out[k] = v
	}
	return out
}

type bundle struct {
	*webhook.Channel
	t  *testing.T
	db *db.DB
}

func setup(t *testing.T) *bundle {
	b := &bundle{t: t, db: devdb.Test(t)}
	var err error
	b.Channel, err = webhook.New(b.db, secret, webhook.Config{Private: true})
	require.NoError(t, err)
	return b
}

func (b *bundle) tx(fn func(ctx context.Context, tx pgx.Tx) error) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, fn))
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	b.tx(func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, sql, args...); return err })
}

func (b *bundle) user(name string) core.UserID {
	id := core.UserID(uuid.New())
	b.exec(`INSERT INTO users (id, username, username_key, home_region) VALUES ($1, $2, $2, 'eu-west')`, id, name)
	return id
}

func (b *bundle) group() core.GroupID {
	id := core.GroupID(uuid.New())
	b.exec(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'Crew', 'eu-west')`, id)
	return id
}

func (b *bundle) addresses(user core.UserID) (list []notify.Address) {
	b.t.Helper()
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) (err error) {
		list, err = b.Address(ctx, q, user)
		return err
	}))
	return list
}

func message() notify.Message {
	return notify.Message{ID: uuid.New(), Notification: uuid.New(), Kind: notify.FriendRequest, Subject: "Bob wants to be friends", Brief: "Bob asks.",
		Data: map[string]any{"user_id": "x"}, At: time.Now().UTC()}
}

func TestAUsersWebhook(t *testing.T) {
	b := setup(t)
	ana := b.user("ana")
	r := receive(t)
	hook, key, err := b.Create(t.Context(), webhook.Owner{User: ana}, r.URL+"/hook")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(key, "whsec_"))
	r.trust(t, key)
	m := message()
	require.NoError(t, b.Deliver(t.Context(), b.addresses(ana)[0], m))
	require.Empty(t, r.wrong)
	got := r.bodies()[m.ID.String()]
	require.Equal(t, "notification.friend_request", got.Type)
	require.WithinDuration(t, m.At, got.At, 0)
	require.Equal(t, m.Notification.String(), got.Data.(map[string]any)["notification_id"])

	list, err := b.List(t.Context(), webhook.Owner{User: ana})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NotNil(t, list[0].DeliveredAt)
	require.Nil(t, list[0].FailingSince)

	// What it answers.
	r.mu.Lock()
	r.answer = func(n int) int { return map[int]int{2: 500, 3: 404, 4: 302, 6: 410}[n] }
	r.mu.Unlock()
	for range 3 {
		permanent, _ := notify.Advice(b.Deliver(t.Context(), b.addresses(ana)[0], m))
		require.False(t, permanent)
	}
	list, err = b.List(t.Context(), webhook.Owner{User: ana})
	require.NoError(t, err)
	require.NotNil(t, list[0].FailingSince)
	require.Equal(t, "it answered 302", list[0].Detail)
	require.NoError(t, b.Deliver(t.Context(), b.addresses(ana)[0], m))
	permanent, _ := notify.Advice(b.Deliver(t.Context(), b.addresses(ana)[0], m))
	require.True(t, permanent)
	require.Empty(t, b.addresses(ana), "what answers 410 is disabled")

	bob := b.user("bob")
	require.ErrorIs(t, b.Delete(t.Context(), webhook.Owner{User: bob}, hook.ID), webhook.ErrNoHook)
	require.NoError(t, b.Delete(t.Context(), webhook.Owner{User: ana}, hook.ID))
	require.ErrorIs(t, b.Delete(t.Context(), webhook.Owner{User: ana}, hook.ID), webhook.ErrNoHook)
}

// After five days of failures it is given up.
func TestPatience(t *testing.T) {
	b := setup(t)
	ana := b.user("ana")
	_, _, err := b.Create(t.Context(), webhook.Owner{User: ana}, "http://127.0.0.1:1/")
	require.NoError(t, err)
	a := b.addresses(ana)[0]
	require.EqualError(t, b.Deliver(t.Context(), a, message()), "it can't be reached")
	require.Len(t, b.addresses(ana), 1)
	b.exec(`UPDATE webhooks SET failing_since = now() - interval '6 days'`)
	require.Error(t, b.Deliver(t.Context(), a, message()))
	require.Empty(t, b.addresses(ana))
}

func TestWhatIsRefused(t *testing.T) {
	b := setup(t)
	ana := b.user("ana")
	public, err := webhook.New(b.db, secret, webhook.Config{})
	require.NoError(t, err)
	for _, u := range []string{"http://example.org/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest", "x"} {
		_, _, err := public.Create(t.Context(), webhook.Owner{User: ana}, u)
		require.ErrorIs(t, err, webhook.ErrBadURL, u)
	}
	// A name may lead anywhere, and is only known when it is called.
	_, _, err = public.Create(t.Context(), webhook.Owner{User: ana}, "https://localhost:1/")
	require.NoError(t, err)
	permanent, _ := notify.Advice(public.Deliver(t.Context(), b.addresses(ana)[0], message()))
	require.True(t, permanent)
	for range 10 {
		_, _, err = b.Create(t.Context(), webhook.Owner{User: ana}, "https://example.org/")
	}
	require.ErrorIs(t, err, webhook.ErrTooMany)
}

// A group's events reach its webhook, each as itself, though it fails at random
// and the outbox sends things again.
func TestAGroupsWebhook(t *testing.T) {
	b := setup(t)
	group, other := b.group(), b.group()
	r := receive(t)
	hook, key, err := b.Create(t.Context(), webhook.Owner{Group: group}, r.URL)
	require.NoError(t, err)
	r.trust(t, key)
	rng := rand.New(rand.NewPCG(3, 4))
	r.answer = func(int) int { // under the receiver's lock
		return []int{0, 0, 0, 500, 503}[rng.IntN(5)]
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	q := jobs.New(b.db, jobs.Config{Poll: 100 * time.Millisecond, Log: log})
	b.Handle(q)
	require.NoError(t, q.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(q.Stop)
	relay := outbox.New(b.db, outbox.Config{Sinks: []outbox.Sink{b.Sink()}, Log: log})
	require.NoError(t, relay.Start(context.WithoutCancel(t.Context())))
	t.Cleanup(relay.Stop)

	const events = 40
	for i := range events {
		b.tx(func(ctx context.Context, tx pgx.Tx) error {
			return outbox.Append(ctx, tx,
				outbox.Event{Key: group.Room(), Kind: core.GroupUpdated, Data: map[string]any{"group_id": group.String(), "version": i}},
				outbox.Event{Key: other.Room(), Kind: core.GroupUpdated, Data: map[string]any{"group_id": other.String(), "version": i}})
		})
	}
	require.Eventually(t, func() bool {
		b.exec(`UPDATE jobs SET run_at = now() WHERE state = 'ready'`)
		return len(r.bodies()) == events
	}, 30*time.Second, 50*time.Millisecond)
	numbers := map[int64]string{}
	for _, e := range r.bodies() {
		data := e.Data.(map[string]any)
		require.Equal(t, core.GroupUpdated, e.Type)
		require.Equal(t, group.String(), data["group_id"])
		numbers[e.N] = fmt.Sprint(data["version"])
	}
	require.Len(t, numbers, events)
	require.Equal(t, "0", numbers[1])
	require.Equal(t, fmt.Sprint(events-1), numbers[events])
	require.Empty(t, r.wrong)

	// The same event again is the same call again.
	before := r.bodies()
	var sent outbox.Sent
	for _, e := range before {
		raw, err := json.Marshal(e.Data)
		require.NoError(t, err)
		sent = outbox.Sent{ID: uuid.New(), Key: group.Room(), N: 99, Kind: e.Type, Data: raw, At: e.At}
		break
	}
	for range 2 {
		require.NoError(t, b.Sink().Send(t.Context(), []outbox.Sent{sent}))
	}
	require.Eventually(t, func() bool {
		b.exec(`UPDATE jobs SET run_at = now() WHERE state = 'ready'`)
		return len(r.bodies()) == events+1
	}, 30*time.Second, 50*time.Millisecond)
	require.NoError(t, b.Sink().Send(t.Context(), []outbox.Sent{sent})) // long after
	require.Eventually(t, func() bool { return b.idle() }, 30*time.Second, 50*time.Millisecond)
	require.Len(t, r.bodies(), events+1)

	require.NoError(t, b.Delete(t.Context(), webhook.Owner{Group: group}, hook.ID))
}

func (b *bundle) idle() bool {
	var n int
	b.exec(`UPDATE jobs SET run_at = now() WHERE state = 'ready'`)
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT count(*) FROM jobs`).Scan(&n)
	}))
	return n == 0
}
