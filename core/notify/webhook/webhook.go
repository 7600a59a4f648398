// Package webhook is the channel of other programs: a URL that is called with
// what happened, signed as Standard Webhooks says
// (github.com/standard-webhooks/standard-webhooks, version 1).
//
// A webhook is a user's, and gets their notifications; or a group's, and gets the
// events of the group. Whoever receives one checks webhook-signature with the
// secret that was shown when the webhook was made, refuses a webhook-timestamp
// that is old, and drops a webhook-id that it has seen: the same thing is sent
// again, under the same id, when the answer did not arrive.
//
// Calls of one webhook are made side by side, so they may arrive out of order; an
// event of a group has its number in it.
//
// What answers 410 is disabled at once, what fails for five days at last; 404 may
// be an accident and counts as a failure like others.
package webhook

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

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
	ErrBadURL  = errs.New(errs.Invalid, "bad_url", "a webhook is an https URL of at most 2,048 bytes at a public address, without a user and a fragment").At("body.url")
	ErrNoHook  = errs.New(errs.NotFound, "webhook_not_found", "there is no such webhook")
	ErrTooMany = errs.New(errs.Conflict, "too_many_webhooks", "there are as many webhooks as there can be: delete one first")
)

// Name is the channel's.
const Name = "webhook"

const (
	most       = 10                 // webhooks of a user, and of a group
	patience   = 5 * 24 * time.Hour // for which one may fail
	answerTime = 15 * time.Second
)

// Config holds what is optional about a Channel; its zero value works.
type Config struct {
	Private bool             // webhooks may be at private addresses and without TLS
	Now     func() time.Time // default time.Now
}

// Channel is a notify.Channel, and keeps the webhooks.
type Channel struct {
	db     *db.DB
	seal   cipher.AEAD
	cfg    Config
	client *http.Client
}

// New returns the channel; the secret is the deployment's.
func New(d *db.DB, secret []byte, cfg Config) (*Channel, error) {
	seal, err := notify.Sealer(secret)
	if err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Channel{db: d, seal: seal, cfg: cfg, client: egress.Client(cfg.Private, answerTime)}, nil
}

// Name satisfies notify.Channel.
func (*Channel) Name() string { return Name }

// Silent satisfies notify.Silent: programs have no quiet hours.
func (*Channel) Silent() {}

// Owner is whose a webhook is: a user's or a group's.
type Owner struct {
	User  core.UserID
	Group core.GroupID
}

// ids are the owner as columns.
func (o Owner) ids() (user, group *uuid.UUID) {
	if o.User != (core.UserID{}) {
		return new(uuid.UUID(o.User)), nil
	}
	return nil, new(uuid.UUID(o.Group))
}

// Hook is a webhook.
type Hook struct {
	ID           uuid.UUID
	URL          string
	CreatedAt    time.Time
	DeliveredAt  *time.Time // the last time that it took something
	FailingSince *time.Time
	DisabledAt   *time.Time
	Detail       string // why it failed the last time
}

// Create makes a webhook and returns its secret, which is told this once.
func (c *Channel) Create(ctx context.Context, o Owner, url string) (h Hook, secret string, err error) {
	if err := egress.CheckURL(url, c.cfg.Private); err != nil {
		return h, "", ErrBadURL
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	user, group := o.ids()
	err = c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var count int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM webhooks WHERE user_id = $1 OR group_id = $2`, user, group).Scan(&count); err != nil {
			return err
		}
		if count >= most {
			return ErrTooMany
		}
		h = Hook{ID: uuid.New(), URL: url, CreatedAt: c.cfg.Now().UTC().Truncate(time.Microsecond)}
		_, err := tx.Exec(ctx, `INSERT INTO webhooks (id, user_id, group_id, url, secret, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			h.ID, user, group, url, c.seal.Seal(nil, nil, key, h.ID[:]), h.CreatedAt)
		return err
	})
	if err != nil {
		return Hook{}, "", fmt.Errorf("create webhook: %w", err)
	}
	return h, Secret(key), nil
}

// List returns an owner's webhooks, the oldest first.
func (c *Channel) List(ctx context.Context, o Owner) (list []Hook, err error) {
	user, group := o.ids()
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, url, created_at, delivered_at, failing_since, disabled_at, detail FROM webhooks
			 WHERE user_id = $1 OR group_id = $2 ORDER BY created_at, id`, user, group)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Hook])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	return list, nil
}

// Delete ends a webhook of an owner's.
func (c *Channel) Delete(ctx context.Context, o Owner, id uuid.UUID) error {
	user, group := o.ids()
	err := c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM webhooks WHERE id = $1 AND (user_id = $2 OR group_id = $3)`, id, user, group)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoHook
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete webhook: %w", err)
	}
	return nil
}

// target is what a call needs.
type target struct {
	id     uuid.UUID
	url    string
	secret []byte
}

// Address returns the user's webhooks.
func (c *Channel) Address(ctx context.Context, q db.Querier, user core.UserID) ([]notify.Address, error) {
	rows, err := q.Query(ctx, `SELECT id, url, secret FROM webhooks WHERE user_id = $1 AND disabled_at IS NULL ORDER BY created_at, id`, user)
	if err != nil {
		return nil, err
	}
	targets, err := c.targets(rows)
	list := make([]notify.Address, len(targets))
	for i, t := range targets {
		list[i] = notify.Address{ID: t.id.String(), To: t.url, Detail: t}
	}
	return list, err
}

func (c *Channel) targets(rows pgx.Rows) (list []target, err error) {
	var t target
	var sealed []byte
	_, err = pgx.ForEachRow(rows, []any{&t.id, &t.url, &sealed}, func() error {
		key, err := c.seal.Open(nil, nil, sealed, t.id[:])
		if err == nil { // else it is under another secret, and nobody could check what is signed
			t.secret = key
			list = append(list, t)
		}
		return nil
	})
	return list, err
}

// Deliver tells a user's webhook of a notification.
func (c *Channel) Deliver(ctx context.Context, to notify.Address, m notify.Message) error {
	t, ok := to.Detail.(target)
	if !ok {
		return notify.Refused(errors.New("this is no webhook"))
	}
	return c.call(ctx, t, m.ID, Body{Type: "notification." + m.Kind, At: m.At, Data: struct {
		ID    string         `json:"notification_id"`
		Kind  string         `json:"kind"`
		Title string         `json:"title"`
		Text  string         `json:"text"`
		Data  map[string]any `json:"data"`
	}{m.Notification.String(), m.Kind, m.Subject, m.Brief, m.Data}})
}

// Body is what is sent.
type Body struct {
	Type string    `json:"type"`
	At   time.Time `json:"timestamp"` // when it happened
	N    int64     `json:"number,omitempty"`
	Data any       `json:"data"`
}

// call posts to a webhook and keeps how that went.
func (c *Channel) call(ctx context.Context, t target, id uuid.UUID, b Body) error {
	body, err := json.Marshal(b)
	if err != nil {
		return notify.Refused(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return notify.Refused(errors.New("its URL can't be called"))
	}
	now := c.cfg.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Muster")
	req.Header.Set("webhook-id", id.String())
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("webhook-signature", Sign(t.secret, id.String(), now, body))
	resp, err := c.client.Do(req)
	gone := false
	if err == nil {
		gone = resp.StatusCode == http.StatusGone
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		_ = resp.Body.Close()
	}
	result, missing := egress.Meaning(resp, err)
	if missing && !gone {
		result = errors.New(result.Error()) // not for good
	}
	if err := c.note(ctx, t.id, result, gone); err != nil && result == nil {
		return nil // it was taken; when, is less important than that it isn't sent again
	}
	return result
}

// note keeps how a call went, and disables what is no use.
func (c *Channel) note(ctx context.Context, id uuid.UUID, result error, gone bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	now := c.cfg.Now()
	return c.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(ctx context.Context, tx pgx.Tx) error {
		if result == nil {
			_, err := tx.Exec(ctx, `UPDATE webhooks SET delivered_at = $2, failing_since = NULL, detail = '' WHERE id = $1`, id, now)
			return err
		}
		_, err := tx.Exec(ctx,
			`UPDATE webhooks SET failing_since = coalesce(failing_since, $2), detail = $3,
			   disabled_at = CASE WHEN $4 OR failing_since < $5 THEN coalesce(disabled_at, $2) ELSE disabled_at END
			 WHERE id = $1`, id, now, result.Error(), gone, now.Add(-patience))
		return err
	})
}

// Secret is a key as its webhook's owner gets it.
func Secret(key []byte) string { return "whsec_" + base64.StdEncoding.EncodeToString(key) }

// Sign is what webhook-signature says of a body.
func Sign(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%d.", id, at.Unix()) // never fails
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
