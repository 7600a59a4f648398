package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/outbox"
)

const groupJob = "webhook" // calls one webhook of a group with one event

type groupPayload struct {
	Hook  uuid.UUID       `json:"hook"`
	ID    uuid.UUID       `json:"id"` // of the call: the same for the same event and webhook
	Event json.RawMessage `json:"event"`
}

// Sink returns what takes the events of groups from the outbox and makes a job of
// each for each webhook of the group. An event that the outbox sends again makes
// a job again, whose call has the same id.
func (c *Channel) Sink() outbox.Sink { return outbox.Only("group", sink{c}) }

type sink struct{ *Channel }

func (s sink) Send(ctx context.Context, events []outbox.Sent) error {
	group, ok := core.GroupOf(events[0].Key) // all are of one key
	if !ok {
		return nil
	}
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT id FROM webhooks WHERE group_id = $1 AND disabled_at IS NULL`, group)
		if err != nil {
			return err
		}
		hooks, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil {
			return err
		}
		var list []jobs.Job
		for _, e := range events {
			body, err := json.Marshal(Body{Type: e.Kind, At: e.At.UTC(), N: e.N, Data: e.Data})
			if err != nil {
				return err
			}
			for _, h := range hooks {
				id := uuid.NewSHA1(h, e.ID[:])
				list = append(list, jobs.Job{Kind: groupJob, Key: id.String(), Payload: groupPayload{h, id, body}, MaxAttempts: attempts})
			}
		}
		return jobs.Enqueue(ctx, tx, list...)
	})
	if err != nil {
		return fmt.Errorf("webhooks of a group: %w", err)
	}
	return nil
}

const attempts = 30 // about a day

// Handle gives a queue the work of groups' webhooks. Call it before the queue
// starts. Its workers mostly wait: with few, one group's slow webhooks would hold up
// those of all others.
func (c *Channel) Handle(q *jobs.Queue) {
	q.Handle(groupJob, jobs.Handler{Do: c.tell, Timeout: 2 * answerTime, Workers: 64, Backoff: func(attempt int) time.Duration {
		d := min(5*time.Second<<min(attempt-1, 10), time.Hour)
		return d - rand.N(d/4)
	}})
}

// tell calls a group's webhook. A call that fails to the last attempt is a dead
// job; one that is refused is done.
func (c *Channel) tell(ctx context.Context, w jobs.Work) error {
	var p groupPayload
	if err := w.Decode(&p); err != nil {
		return err
	}
	var list []target
	err := c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT id, url, secret FROM webhooks WHERE id = $1 AND disabled_at IS NULL`, p.Hook)
		if err != nil {
			return err
		}
		list, err = c.targets(rows)
		return err
	})
	if err != nil || len(list) == 0 { // deleted or disabled meanwhile
		return err
	}
	var b Body
	if err := json.Unmarshal(p.Event, &b); err != nil {
		return jobs.Permanent(err)
	}
	err = c.call(ctx, list[0], p.ID, b)
	switch permanent, wait := notify.Advice(err); {
	case permanent:
		return nil
	case wait > 0:
		return jobs.Later(err, min(wait, 6*time.Hour))
	}
	return err
}

// Sweep forgets calls that failed to the last long ago.
func (c *Channel) Sweep(ctx context.Context) error { return jobs.Sweep(ctx, c.db, groupJob) }
