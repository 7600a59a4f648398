package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/internal/errs"
)

// ErrNoNotification is for a notification that isn't in the user's list.
var ErrNoNotification = errs.New(errs.NotFound, "notification_not_found", "you have no such notification")

// Notification is one as its user sees it.
type Notification struct {
	ID        uuid.UUID
	Kind      Kind
	Data      map[string]any
	Title     string // in the user's language
	Text      string
	CreatedAt time.Time
	ReadAt    *time.Time
}

const (
	defaultPage = 30
	mostPage    = 100
	countMost   = 1000 // unread ones are counted up to here
)

// List returns a user's notifications, the newest first.
func (n *Notifier) List(ctx context.Context, user core.UserID, unread bool, cursor string, limit int) (list []Notification, next string, err error) {
	at, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	if limit <= 0 {
		limit = defaultPage
	}
	limit = min(limit, mostPage)
	err = n.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT id, kind, data, created_at, read_at FROM notifications
			 WHERE user_id = $1 AND shown_at IS NOT NULL AND (created_at, id) < ($2, $3) AND ($4 = false OR read_at IS NULL)
			 ORDER BY created_at DESC, id DESC LIMIT $5`, user, at.At, at.ID, unread, limit+1)
		if err != nil {
			return err
		}
		if list, err = pgx.CollectRows(rows, scan); err != nil {
			return err
		}
		list, next = core.Page(list, limit, func(n Notification) core.Position { return core.Position{At: n.CreatedAt, ID: n.ID} })
		return n.describe(ctx, q, user, list)
	})
	if err != nil {
		return nil, "", fmt.Errorf("list notifications: %w", err)
	}
	return list, next, nil
}

func scan(row pgx.CollectableRow) (x Notification, err error) {
	var data []byte
	if err := row.Scan(&x.ID, &x.Kind, &data, &x.CreatedAt, &x.ReadAt); err != nil {
		return x, err
	}
	x.CreatedAt = x.CreatedAt.UTC()
	if x.ReadAt != nil {
		*x.ReadAt = x.ReadAt.UTC()
	}
	return x, json.Unmarshal(data, &x.Data)
}

// describe writes the texts of a page, with names as they are now.
func (n *Notifier) describe(ctx context.Context, q db.Querier, user core.UserID, list []Notification) error {
	if len(list) == 0 {
		return nil
	}
	var language string
	if err := q.QueryRow(ctx, `SELECT coalesce((SELECT language FROM notify_settings WHERE user_id = $1), '')`, user).Scan(&language); err != nil {
		return err
	}
	users, groups := []string{}, []string{}
	for _, x := range list {
		if s, ok := x.Data["user_id"].(string); ok {
			users = append(users, s)
		}
		if s, ok := x.Data["group_id"].(string); ok {
			groups = append(groups, s)
		}
	}
	rows, err := q.Query(ctx, `SELECT id::TEXT, username FROM users WHERE id::TEXT = ANY($1) UNION ALL SELECT id::TEXT, name FROM groups WHERE id::TEXT = ANY($2)`, users, groups)
	if err != nil {
		return err
	}
	known := map[string]string{}
	var id, name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error { known[id] = name; return nil }); err != nil {
		return err
	}
	for i := range list {
		x := &list[i]
		u, _ := x.Data["user_id"].(string)
		g, _ := x.Data["group_id"].(string)
		m := Message{Kind: x.Kind, Data: x.Data, Language: language}
		if _, known := kinds[x.Kind]; !known { // a newer version's, during an update: it has no words here
			x.Title, x.Text = x.Kind, x.Kind
			continue
		}
		if err := n.texts.write(&m, map[string]string{"user": known[u], "group": known[g]}); err != nil {
			return err
		}
		x.Title, x.Text = m.Subject, m.Brief
	}
	return nil
}

// Unread counts a user's unread notifications, up to a thousand.
func (n *Notifier) Unread(ctx context.Context, user core.UserID) (count int, err error) {
	err = n.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx,
			`SELECT count(*) FROM (SELECT 1 FROM notifications WHERE user_id = $1 AND shown_at IS NOT NULL AND read_at IS NULL LIMIT $2) n`,
			user, countMost).Scan(&count)
	})
	if err != nil {
		return 0, fmt.Errorf("count notifications: %w", err)
	}
	return count, nil
}

// Read marks one as read.
func (n *Notifier) Read(ctx context.Context, user core.UserID, id uuid.UUID) error {
	err := n.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx,
			`UPDATE notifications SET read_at = coalesce(read_at, $3) WHERE id = $2 AND user_id = $1 AND shown_at IS NOT NULL`, user, id, n.now())
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrNoNotification
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read notification: %w", err)
	}
	return nil
}

// ReadUntil marks all as read that were made up to a moment: what the user has
// seen of the list, not what came since.
func (n *Notifier) ReadUntil(ctx context.Context, user core.UserID, until time.Time) error {
	err := n.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx,
			`UPDATE notifications SET read_at = $3 WHERE user_id = $1 AND created_at <= $2 AND shown_at IS NOT NULL AND read_at IS NULL`,
			user, until, n.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("read notifications: %w", err)
	}
	return nil
}

// Delivery is what became of a notification by one way.
type Delivery struct {
	Channel  string
	State    State
	Attempts int
	Detail   string
	At       time.Time // of the last change
}

// Deliveries returns what became of a user's notification.
func (n *Notifier) Deliveries(ctx context.Context, user core.UserID, id uuid.UUID) (list []Delivery, err error) {
	err = n.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		var there bool
		if err := q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM notifications WHERE id = $1 AND user_id = $2)`, id, user).Scan(&there); err != nil {
			return err
		}
		if !there {
			return ErrNoNotification
		}
		rows, err := q.Query(ctx,
			`SELECT channel, state, attempts, detail, updated_at FROM notify_deliveries WHERE notification_id = $1 ORDER BY channel, created_at, id`, id)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d Delivery, err error) {
			err = row.Scan(&d.Channel, &d.State, &d.Attempts, &d.Detail, &d.At)
			d.At = d.At.UTC()
			return d, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return list, nil
}

const (
	keepNotifications = 180 * 24 * time.Hour
	keepMails         = 14 * 24 * time.Hour // longer than they are tried
)

// Sweep deletes what is old.
func (n *Notifier) Sweep(ctx context.Context) error {
	now := n.now()
	err := n.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM notifications WHERE created_at < $1`, now.Add(-keepNotifications)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM notify_bulks WHERE finished_at < $1`, now.Add(-keepNotifications)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM mails WHERE created_at < $1`, now.Add(-keepMails))
		return err
	})
	if err != nil {
		return fmt.Errorf("sweep notifications: %w", err)
	}
	kinds := []string{mailJob}
	for name := range n.channels {
		kinds = append(kinds, deliverJob+name)
	}
	return jobs.Sweep(ctx, n.db, kinds...)
}
