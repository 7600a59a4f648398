package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/jobs"
)

// Audience is who gets a bulk notification: a query by its name, since it is read
// in parts, later, maybe on another node, and its argument.
type Audience struct{ Name, Argument string }

// Everyone is all users.
func Everyone() Audience { return Audience{Name: "everyone"} }

// Members is who is in a group.
func Members(g core.GroupID) Audience { return Audience{"members", g.String()} }

// audiences return users above one ($1) in the order of their ids, so many ($2).
var audiences = map[string]string{
	"everyone": `SELECT id FROM users WHERE id > $1 AND $3 = '' ORDER BY id LIMIT $2`,
	"members":  `SELECT user_id FROM group_members WHERE user_id > $1 AND group_id = $3::UUID ORDER BY user_id LIMIT $2`,
}

const (
	bulkBatch = 200 // users in a transaction
	bulkParts = 100 // transactions of a run; then others have their turn
)

// Bulk tells all of an audience something, once the caller's transaction has
// committed. Each gets it once, whatever happens on the way. Who joins the
// audience meanwhile may or may not.
func (n *Notifier) Bulk(ctx context.Context, tx pgx.Tx, kind string, data map[string]any, to Audience) (id uuid.UUID, err error) {
	k, ok := kinds[kind]
	if !ok || k.mailOnly {
		return id, fmt.Errorf("notify: %q is no kind of notification", kind)
	}
	if _, ok := audiences[to.Name]; !ok {
		return id, fmt.Errorf("notify: %q is no audience", to.Name)
	}
	encoded, _, err := encode(kind, k, data)
	if err != nil {
		return id, err
	}
	id = uuid.New()
	if _, err := tx.Exec(ctx, `INSERT INTO notify_bulks (id, kind, data, audience, argument, position, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id, kind, encoded, to.Name, to.Argument, uuid.Nil, n.now()); err != nil {
		return id, fmt.Errorf("notify: %w", err)
	}
	return id, jobs.Enqueue(ctx, tx, jobs.Job{Kind: bulkJob, Key: id.String(), Payload: idPayload{id}})
}

// bulk makes the notifications of a bulk, a batch per transaction. Where it is
// stands in its row, so it goes on there after a crash, and after its turn: the time
// of a job bounds no bulk.
func (n *Notifier) bulk(ctx context.Context, w jobs.Work) error {
	var p idPayload
	if err := w.Decode(&p); err != nil {
		return err
	}
	for range bulkParts {
		var done bool
		var recipients int64
		err := n.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
			done, recipients, err = n.bulkPart(ctx, tx, p.ID)
			return err
		})
		if err != nil || done {
			return err
		}
		if err := w.Progress(ctx, fmt.Sprintf("%d recipients", recipients)); err != nil {
			return err
		}
	}
	return jobs.Later(nil, 0)
}

func (n *Notifier) bulkPart(ctx context.Context, tx pgx.Tx, id uuid.UUID) (done bool, recipients int64, err error) {
	var kind, audience, argument string
	var encoded []byte
	var position uuid.UUID
	var finished *time.Time
	err = tx.QueryRow(ctx, `SELECT kind, data, audience, argument, position, finished_at FROM notify_bulks WHERE id = $1 FOR UPDATE`, id).
		Scan(&kind, &encoded, &audience, &argument, &position, &finished)
	if errors.Is(err, pgx.ErrNoRows) || finished != nil {
		return true, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	var data map[string]any
	if err := json.Unmarshal(encoded, &data); err != nil {
		return false, 0, err
	}
	rows, err := tx.Query(ctx, audiences[audience], position, bulkBatch, argument)
	if err != nil {
		return false, 0, err
	}
	users, err := pgx.CollectRows(rows, pgx.RowTo[core.UserID])
	if err != nil {
		return false, 0, err
	}
	if len(users) == 0 {
		_, err = tx.Exec(ctx, `UPDATE notify_bulks SET finished_at = $2 WHERE id = $1`, id, n.now())
		return true, 0, err
	}
	notices := make([]Notice, len(users))
	for i, u := range users {
		notices[i] = Notice{To: u, Kind: kind, Data: data, Once: "bulk:" + id.String()}
	}
	if err := n.Send(ctx, tx, notices...); err != nil {
		return false, 0, err
	}
	err = tx.QueryRow(ctx, `UPDATE notify_bulks SET position = $2, recipients = recipients + $3 WHERE id = $1 RETURNING recipients`,
		id, users[len(users)-1], len(users)).Scan(&recipients)
	return false, recipients, err
}
