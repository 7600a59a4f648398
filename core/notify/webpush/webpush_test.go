package webpush_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/egress"
	"github.com/mustermesh/muster/core/notify/pushtest"
	"github.com/mustermesh/muster/core/notify/webpush"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

type bundle struct {
	*webpush.Channel
	t       *testing.T
	db      *db.DB
	service *pushtest.Service
}

func setup(t *testing.T) *bundle {
	b := &bundle{t: t, db: devdb.Test(t), service: pushtest.Start()}
	t.Cleanup(b.service.Close)
	b.Channel = b.node(secret)
	return b
}

func (b *bundle) node(secret []byte) *webpush.Channel {
	c, err := webpush.New(b.db, secret, webpush.Config{Private: true, Contact: "ops@muster.test"})
	require.NoError(b.t, err)
	return c
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

func (b *bundle) user(name string) (core.UserID, core.LoginID) {
	b.t.Helper()
	user, login := core.UserID(uuid.New()), core.LoginID(uuid.New())
	b.exec(`INSERT INTO users (id, username, username_key, home_region) VALUES ($1, $2, $2, 'eu-west')`, user, name)
	b.exec(`INSERT INTO logins (id, user_id) VALUES ($1, $2)`, login, user)
	return user, login
}

func (b *bundle) browser() pushtest.Browser {
	b.t.Helper()
	key, err := b.PublicKey(b.t.Context())
	require.NoError(b.t, err)
	browser, err := b.service.Subscribe(key)
	require.NoError(b.t, err)
	return browser
}

func (b *bundle) addresses(user core.UserID) (list []notify.Address) {
	b.t.Helper()
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) (err error) {
		list, err = b.Address(ctx, q, user)
		return err
	}))
	return list
}

func subscription(b pushtest.Browser) webpush.Subscription {
	return webpush.Subscription{Endpoint: b.Endpoint, P256DH: b.P256DH, Auth: b.Auth}
}

func message() notify.Message {
	return notify.Message{ID: uuid.New(), Notification: uuid.New(), Kind: notify.FriendRequest, Subject: "Bob wants to be friends",
		Brief: strings.Repeat("Grüße 🎈 ", 100), Link: "https://muster.test/", Data: map[string]any{"user_id": "x"}, At: time.Now()}
}

func TestABrowserIsTold(t *testing.T) {
	b := setup(t)
	user, login := b.user("ana")
	first, second := b.browser(), b.browser()
	id, err := b.Subscribe(t.Context(), user, login, subscription(first))
	require.NoError(t, err)
	again, err := b.Subscribe(t.Context(), user, login, subscription(first))
	require.NoError(t, err)
	require.Equal(t, id, again)
	_, err = b.Subscribe(t.Context(), user, login, subscription(second))
	require.NoError(t, err)

	list := b.addresses(user)
	require.Len(t, list, 2)
	m := message()
	require.NoError(t, b.node(secret).Deliver(t.Context(), list[0], m)) // any node: the key is the deployment's
	require.Empty(t, b.service.Refused())
	pushes := b.service.Pushes(first)
	require.Len(t, pushes, 1)
	var p webpush.Payload
	require.NoError(t, json.Unmarshal(pushes[0].Text, &p))
	require.Equal(t, "Bob wants to be friends", p.Title)
	require.Equal(t, m.Notification.String(), p.ID)
	require.Len(t, []rune(p.Body), 400)
	require.Equal(t, "mailto:ops@muster.test", pushes[0].Contact)
	require.NotEmpty(t, pushes[0].Topic)
	require.Positive(t, pushes[0].TTL)
	require.Empty(t, b.service.Pushes(second))

	// The largest that there can be fits.
	m.Subject, m.Data = strings.Repeat("\\", 500), map[string]any{"x": strings.Repeat("\\", 5000)}
	m.Brief = strings.Repeat("\\", 5000)
	require.NoError(t, b.Deliver(t.Context(), list[0], m))

	require.NoError(t, b.Unsubscribe(t.Context(), user, id))
	require.ErrorIs(t, b.Unsubscribe(t.Context(), user, id), webpush.ErrNoSubscription)
	require.Len(t, b.addresses(user), 1)
	// Whoever signs out gets no more.
	b.exec(`UPDATE logins SET revoked_at = now() WHERE id = $1`, login)
	require.Empty(t, b.addresses(user))
}

func TestWhatThePushServiceSays(t *testing.T) {
	b := setup(t)
	user, login := b.user("ana")
	browser := b.browser()
	_, err := b.Subscribe(t.Context(), user, login, subscription(browser))
	require.NoError(t, err)
	a := b.addresses(user)[0]
	answers := []int{500, 429, 413, 201}
	b.service.Answer = func(n int) int {
		if n > len(answers) {
			return 0
		}
		return answers[n-1]
	}
	permanent, wait := notify.Advice(b.Deliver(t.Context(), a, message()))
	require.False(t, permanent)
	require.Zero(t, wait)
	permanent, wait = notify.Advice(b.Deliver(t.Context(), a, message()))
	require.False(t, permanent)
	require.Equal(t, time.Second, wait)
	err = b.Deliver(t.Context(), a, message())
	require.EqualError(t, err, "it answered 413")
	require.NoError(t, b.Deliver(t.Context(), a, message()))
	b.service.Unsubscribe(browser)
	permanent, _ = notify.Advice(b.Deliver(t.Context(), a, message()))
	require.True(t, permanent)
	require.Empty(t, b.addresses(user), "a subscription that is gone is forgotten")
}

// Somebody else who uses the browser takes the subscription over.
func TestOneBrowserOneUser(t *testing.T) {
	b := setup(t)
	ana, anas := b.user("ana")
	bob, bobs := b.user("bob")
	browser := b.browser()
	_, err := b.Subscribe(t.Context(), ana, anas, subscription(browser))
	require.NoError(t, err)
	_, err = b.Subscribe(t.Context(), bob, bobs, subscription(browser))
	require.NoError(t, err)
	require.Empty(t, b.addresses(ana))
	require.Len(t, b.addresses(bob), 1)
	for range 20 {
		_, err = b.Subscribe(t.Context(), bob, bobs, subscription(b.browser()))
	}
	require.ErrorIs(t, err, webpush.ErrTooMany)
}

func TestBadSubscriptions(t *testing.T) {
	b := setup(t)
	user, login := b.user("ana")
	good := subscription(b.browser())
	for _, change := range []func(*webpush.Subscription){
		func(s *webpush.Subscription) { s.Endpoint = "ftp://push.example.org/x" },
		func(s *webpush.Subscription) { s.P256DH = s.Auth },
		func(s *webpush.Subscription) { s.Auth = "x" },
		func(s *webpush.Subscription) { s.P256DH = strings.Repeat("A", 87) },
	} {
		s := good
		change(&s)
		_, err := b.Subscribe(t.Context(), user, login, s)
		require.ErrorIs(t, err, webpush.ErrBadSubscription)
	}
	public, err := webpush.New(b.db, secret, webpush.Config{})
	require.NoError(t, err)
	_, err = public.Subscribe(t.Context(), user, login, good) // at 127.0.0.1
	require.ErrorIs(t, err, webpush.ErrBadSubscription)
	err = public.Deliver(t.Context(), notify.Address{ID: uuid.NewString(), Detail: good}, message())
	require.ErrorIs(t, err, egress.ErrPrivate)
	require.Empty(t, b.service.Refused())
}

// All nodes have one key; under another secret there is a new one.
func TestKeys(t *testing.T) {
	b := setup(t)
	keys := make(chan string, 8)
	for range cap(keys) {
		go func() {
			k, err := b.node(secret).PublicKey(context.Background())
			if err != nil {
				k = err.Error()
			}
			keys <- k
		}()
	}
	first := <-keys
	for range cap(keys) - 1 {
		require.Equal(t, first, <-keys)
	}
	other := b.node([]byte("another secret of thirty-two byte"))
	k, err := other.PublicKey(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, first, k)
}
