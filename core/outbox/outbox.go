// Package outbox tells others what a transaction changed: whoever changes
// something appends an event in the same transaction, and a relay sends it once
// that is committed.
//
// # Promises
//
// An event that was committed reaches every sink that there was at that time, at
// least once, whichever process dies when. The events of one key reach each sink
// in the order of their numbers, which are dense and the order of the commits.
// After an error or a crash some come again, with the same id and number, and
// those after them, too. Between keys, and between sinks, there is no order: a
// slow Kafka holds up no room.
//
//	transaction ──Append──▶ outbox: one row per sink ──▶ relay claims (sink, key) ──▶ Sink.Send
//	                         ▲                            │ of some process,            │
//	                         └── deleted once it is taken ┴──────────── ok ◀────────────┘
//
// # How
//
// Append gives the event the next number of its key, which locks the key until
// the commit; it inserts the event once for each sink and touches nothing that a
// relay writes. The relay of the process hears of the commit (db.Wake) and claims
// the key for a sink, by a lease with a token; what nobody claimed, because a
// process died, any relay finds when it polls. A finish names its token, so a
// relay that was paused until its lease ran out deletes nothing.
//
// A sink that fails is tried again with a wait that doubles up to a minute, per
// key: other keys go on. Nothing is ever given up; what waits is counted
// (muster_outbox_pending) and bounded by nothing but the table.
package outbox

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/db"
)

// Event is something that changed.
type Event struct {
	Key  string // whose order it keeps: "group:<uuid>", "user:<uuid>"
	Kind string // such as core.GroupUpdated
	Data any    // becomes a JSON object
}

// Sent is an event as sinks get it.
type Sent struct {
	ID   uuid.UUID // by which a repetition is known
	Key  string
	N    int64 // 1, 2, 3… within the key
	Kind string
	Data json.RawMessage
	At   time.Time
}

// Sink takes events to those who watch.
type Sink interface {
	// Name is the same in all processes and versions.
	Name() string
	// Send takes events of one key, in order. After nil they are not sent again;
	// after an error, or a crash, all of them are.
	Send(ctx context.Context, events []Sent) error
}

// Wide is for sinks whose Send mostly waits for somebody far away: so many keys
// are sent at once, rather than Config.Workers.
type Wide interface{ AtOnce() int }

// scoped is a sink that wants some keys only.
type scoped struct {
	Sink
	scope string
}

// Only returns a sink that gets the events of keys "scope:…" alone.
func Only(scope string, s Sink) Sink { return scoped{s, scope} }

// Append adds events in the caller's transaction. Give all in one call: it locks
// keys in one order, so that two transactions don't wait for each other.
func Append(ctx context.Context, tx pgx.Tx, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	var b pgx.Batch
	if err := AppendTo(ctx, &b, events...); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("append %s: %w", events[0].Kind, err)
	}
	return nil
}

// AppendTo is Append for a batch that the caller sends, in the transaction that ctx
// belongs to.
func AppendTo(ctx context.Context, b *pgx.Batch, events ...Event) error {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Key, b.Key) })
	for _, e := range events {
		data, err := json.Marshal(e.Data)
		if err != nil {
			return fmt.Errorf("append %s: %w", e.Kind, err)
		}
		if len(data) == 0 || data[0] != '{' {
			return fmt.Errorf("append %s: its data is no JSON object", e.Kind)
		}
		scope, _, ok := strings.Cut(e.Key, ":")
		if !ok {
			return fmt.Errorf("append %s: the key %q has no scope", e.Kind, e.Key)
		}
		b.Queue(`WITH numbered AS (
				INSERT INTO outbox_keys (key, last) VALUES ($1, 1)
				ON CONFLICT (key) DO UPDATE SET last = outbox_keys.last + 1 RETURNING last)
			INSERT INTO outbox (sink, key, n, id, kind, data)
			SELECT s.name, $1, numbered.last, $2::UUID, $3::TEXT, $4::JSONB
			FROM numbered, outbox_sinks s WHERE s.scope = '' OR s.scope = $5`,
			e.Key, uuid.New(), e.Kind, string(data), scope)
	}
	for _, e := range events {
		db.Wake(ctx, topic, e.Key)
	}
	return nil
}

// topic is where relays listen for what was appended in their process.
const topic = "outbox"
