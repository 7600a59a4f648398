// Package webpush is the channel of browsers: a push service of the browser's
// maker (RFC 8030) wakes the app's service worker, which shows the notification.
// The service can't read it (RFC 8291), and knows by a key who may push
// (RFC 8292, VAPID): the key is made once per deployment and stored sealed, since
// subscriptions hold for one key alone.
//
// A subscription belongs to the login with which it was made: who signs out gets
// no more pushes there. What the push service no longer knows (404, 410) is
// forgotten.
package webpush

import (
	"bytes"
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	push "github.com/SherClockHolmes/webpush-go"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/egress"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrBadSubscription = errs.New(errs.Invalid, "bad_subscription", "send a PushSubscription as the browser gave it")
	ErrNoSubscription  = errs.New(errs.NotFound, "subscription_not_found", "you have no such subscription")
	ErrTooMany         = errs.New(errs.Conflict, "too_many_subscriptions", "you have as many subscriptions as one can: delete one first")
)

// Name is the channel's.
const Name = "push"

const (
	most = 20             // subscriptions of a user
	ttl  = 24 * time.Hour // for how long the push service keeps what it can't deliver
)

// Config holds what is optional about a Channel; its zero value works.
type Config struct {
	// Contact is a mail address or URL at which push services reach whoever runs
	// this (RFC 8292 section 2.1).
	Contact string
	Private bool             // push services may be at private addresses, for tests
	Now     func() time.Time // default time.Now
}

// Channel is a notify.Channel, and keeps the subscriptions.
type Channel struct {
	db     *db.DB
	seal   cipher.AEAD
	cfg    Config
	client *http.Client

	mu   sync.Mutex // guards keys
	keys *vapid
}

// vapid is the deployment's key, as the library takes it.
type vapid struct{ public, private string }

// New returns the channel; the secret is the deployment's.
func New(d *db.DB, secret []byte, cfg Config) (*Channel, error) {
	seal, err := notify.Sealer(secret)
	if err != nil {
		return nil, err
	}
	cfg.Contact = cmp.Or(strings.TrimPrefix(cfg.Contact, "mailto:"), "https://github.com/mustermesh/muster")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Channel{db: d, seal: seal, cfg: cfg, client: egress.Client(cfg.Private, 30*time.Second)}, nil
}

// Name satisfies notify.Channel.
func (*Channel) Name() string { return Name }

// Subscription is what a browser gives (W3C Push API).
type Subscription struct {
	Endpoint string `json:"endpoint"`
	P256DH   string `json:"p256dh"` // its public key, base64url
	Auth     string `json:"auth"`   // base64url
}

func (s Subscription) check(private bool) error {
	if err := egress.CheckURL(s.Endpoint, private); err != nil {
		return ErrBadSubscription.At("body.endpoint")
	}
	key, err := decode(s.P256DH)
	if err != nil {
		return ErrBadSubscription.At("body.keys.p256dh")
	}
	if _, err := ecdh.P256().NewPublicKey(key); err != nil {
		return ErrBadSubscription.At("body.keys.p256dh")
	}
	if auth, err := decode(s.Auth); err != nil || len(auth) != 16 {
		return ErrBadSubscription.At("body.keys.auth")
	}
	return nil
}

// decode reads base64url, which browsers write without padding.
func decode(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

// Subscribe keeps a subscription for a login. The same one again changes nothing,
// unless somebody else uses the browser now.
func (c *Channel) Subscribe(ctx context.Context, user core.UserID, login core.LoginID, s Subscription) (id uuid.UUID, err error) {
	if err := s.check(c.cfg.Private); err != nil {
		return id, err
	}
	clear, err := json.Marshal(s)
	if err != nil {
		return id, fmt.Errorf("subscribe: %w", err)
	}
	hash := sha256.Sum256([]byte(s.Endpoint))
	err = c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var count int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM push_subscriptions WHERE user_id = $1 AND endpoint_hash <> $2`, user, hash[:]).Scan(&count); err != nil {
			return err
		}
		if count >= most {
			return ErrTooMany
		}
		return tx.QueryRow(ctx,
			`INSERT INTO push_subscriptions (id, user_id, login_id, endpoint_hash, sealed, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			 ON CONFLICT (endpoint_hash) DO UPDATE SET user_id = $2, login_id = $3, sealed = $5 RETURNING id`,
			uuid.New(), user, login, hash[:], c.seal.Seal(nil, nil, clear, hash[:]), c.cfg.Now()).Scan(&id)
	})
	if err != nil {
		return id, fmt.Errorf("subscribe: %w", err)
	}
	return id, nil
}

// Unsubscribe forgets a subscription of a user's.
func (c *Channel) Unsubscribe(ctx context.Context, user core.UserID, id uuid.UUID) error {
	err := c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM push_subscriptions WHERE id = $1 AND user_id = $2`, id, user)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoSubscription
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	return nil
}

// Address returns the subscriptions of the user's live logins.
func (c *Channel) Address(ctx context.Context, q db.Querier, user core.UserID) ([]notify.Address, error) {
	rows, err := q.Query(ctx,
		`SELECT p.id, p.endpoint_hash, p.sealed FROM push_subscriptions p JOIN logins l ON l.id = p.login_id
		 WHERE p.user_id = $1 AND l.revoked_at IS NULL ORDER BY p.created_at, p.id`, user)
	if err != nil {
		return nil, err
	}
	var list []notify.Address
	var id uuid.UUID
	var hash, sealed []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &hash, &sealed}, func() error {
		clear, err := c.seal.Open(nil, nil, sealed, hash)
		if err != nil {
			return nil // under another secret: its browser will subscribe anew, since our key is another, too
		}
		var s Subscription
		if err := json.Unmarshal(clear, &s); err != nil {
			return err
		}
		list = append(list, notify.Address{ID: id.String(), To: s.Endpoint, Detail: s})
		return nil
	})
	return list, err
}

// Payload is what the service worker gets.
type Payload struct {
	ID    string         `json:"notification_id"`
	Kind  string         `json:"kind"`
	Title string         `json:"title"`
	Body  string         `json:"body"`
	URL   string         `json:"url,omitempty"`
	Data  map[string]any `json:"data,omitempty"`
}

// maxBody of the text in characters: all of it fits into the 4,096 bytes that
// every push service takes.
const maxBody = 400

// Deliver pushes to a browser. The Topic makes a push that comes again replace
// the first one while that is waiting, and the worker shows two of one
// notification as one.
func (c *Channel) Deliver(ctx context.Context, to notify.Address, m notify.Message) error {
	s, ok := to.Detail.(Subscription)
	if !ok {
		return notify.Refused(errors.New("this is no subscription"))
	}
	keys, err := c.vapid(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(Payload{m.Notification.String(), m.Kind, short(m.Subject, 120), short(m.Brief, maxBody), m.Link, m.Data})
	if err != nil {
		return notify.Refused(err)
	}
	if len(body) > 3000 { // the data are small; if they are not, the app reads them
		body, _ = json.Marshal(Payload{m.Notification.String(), m.Kind, short(m.Subject, 120), short(m.Brief, maxBody), "", nil})
	}
	resp, err := push.SendNotificationWithContext(ctx, body, &push.Subscription{Endpoint: s.Endpoint, Keys: push.Keys{Auth: s.Auth, P256dh: s.P256DH}},
		&push.Options{
			HTTPClient: c.client, Subscriber: c.cfg.Contact, TTL: int(ttl.Seconds()), Urgency: push.UrgencyNormal,
			// At most 32 characters of base64url (RFC 8030 section 5.4).
			Topic:          base64.RawURLEncoding.EncodeToString(m.ID[:]),
			VAPIDPublicKey: keys.public, VAPIDPrivateKey: keys.private,
		})
	if err == nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		_ = resp.Body.Close()
	}
	result, gone := egress.Meaning(resp, err)
	if gone {
		if err := c.forget(ctx, to.ID); err != nil {
			return err
		}
	}
	return result
}

// forget deletes a subscription that its push service doesn't know any more.
func (c *Channel) forget(ctx context.Context, id string) error {
	return c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM push_subscriptions WHERE id = $1::UUID`, id)
		return err
	})
}

func short(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}

// PublicKey is what browsers subscribe with: base64url.
func (c *Channel) PublicKey(ctx context.Context) (string, error) {
	k, err := c.vapid(ctx)
	return k.public, err
}

// vapid returns the deployment's key. The first node that needs it makes it. One
// that is sealed under another secret is replaced: it can't be used any more.
func (c *Channel) vapid(ctx context.Context) (vapid, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys != nil {
		return *c.keys, nil
	}
	private, public, err := push.GenerateVAPIDKeys()
	if err != nil {
		return vapid{}, fmt.Errorf("make a key for web push: %w", err)
	}
	fresh := vapid{public, private}
	var k vapid
	err = c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var public, sealed []byte
		err := tx.QueryRow(ctx, `SELECT public, private FROM notify_keys WHERE name = $1`, keyName).Scan(&public, &sealed)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if err == nil {
			if clear, err := c.seal.Open(nil, nil, sealed, bytes.Join([][]byte{[]byte(keyName), public}, nil)); err == nil {
				k = vapid{string(public), string(clear)}
				return nil
			}
		}
		k = fresh
		_, err = tx.Exec(ctx,
			`INSERT INTO notify_keys (name, public, private, created_at) VALUES ($1, $2, $3, $4)
			 ON CONFLICT (name) DO UPDATE SET public = $2, private = $3, created_at = $4`,
			keyName, []byte(k.public), c.seal.Seal(nil, nil, []byte(k.private), []byte(keyName+k.public)), c.cfg.Now())
		return err
	})
	if err != nil {
		return vapid{}, fmt.Errorf("key for web push: %w", err)
	}
	c.keys = &k
	return k, nil
}

const keyName = "vapid"
