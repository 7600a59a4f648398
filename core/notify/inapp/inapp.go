// Package inapp is the channel of the app itself: a notification appears in the
// user's list, and all their devices hear that there is one, through the outbox.
// Both happen in one transaction, so it appears exactly once.
package inapp

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/outbox"
)

// Name is the channel's.
const Name = "app"

// Channel is a notify.Channel.
type Channel struct {
	db  *db.DB
	now func() time.Time
}

// New returns the channel; now is the clock (time.Now).
func New(d *db.DB, now func() time.Time) *Channel { return &Channel{d, now} }

// Name satisfies notify.Channel.
func (*Channel) Name() string { return Name }

// Silent satisfies notify.Silent: a list disturbs nobody.
func (*Channel) Silent() {}

// Address is the user's list: everybody has one.
func (*Channel) Address(context.Context, db.Querier, core.UserID) ([]notify.Address, error) {
	return []notify.Address{{ID: "list"}}, nil
}

// Event is the data of core.Notified.
type Event struct {
	Notification string `json:"notification_id"`
	Kind         string `json:"kind"`
}

// Deliver satisfies notify.Channel.
func (c *Channel) Deliver(ctx context.Context, to notify.Address, m notify.Message) error {
	return c.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return c.DeliverIn(ctx, tx, to, m) })
}

// DeliverIn satisfies notify.Transactional: it puts the notification into the list.
func (c *Channel) DeliverIn(ctx context.Context, tx pgx.Tx, _ notify.Address, m notify.Message) error {
	tag, err := tx.Exec(ctx, `UPDATE notifications SET shown_at = $2 WHERE id = $1 AND shown_at IS NULL`, m.Notification, c.now())
	if err != nil || tag.RowsAffected() == 0 { // it is there already
		return err
	}
	return outbox.Append(ctx, tx, outbox.Event{Key: m.User.Key(), Kind: core.Notified, Data: Event{m.Notification.String(), m.Kind}})
}
