package outbox

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The relay's statements are READ COMMITTED, as those of core/jobs, and can be
// repeated: each names its token.
var (
	readCommitted = pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	readOnly      = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly}
)

func within(key, scope string) bool {
	s, _, _ := strings.Cut(key, ":")
	return scope == "" || s == scope
}

// sinkLife is for how long a sink that no node has is kept, with what waits for
// it.
const sinkLife = 7 * 24 * time.Hour

// register makes the sinks known to Append.
func (r *Relay) register(ctx context.Context) error {
	names, scopes := r.sinks()
	return r.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		b.Queue(`INSERT INTO outbox_sinks (name, scope) SELECT name, scope FROM unnest($1::TEXT[], $2::TEXT[]) AS s (name, scope)
			ON CONFLICT (name, scope) DO UPDATE SET seen_at = now()`, names, scopes)
		// A sink that wants other keys than it did: Append goes by the new ones.
		b.Queue(`DELETE FROM outbox_sinks USING unnest($1::TEXT[], $2::TEXT[]) AS s (name, scope)
			WHERE outbox_sinks.name = s.name AND outbox_sinks.scope <> s.scope`, names, scopes)
	})
}

func (r *Relay) sinks() (names, scopes []string) {
	for _, l := range r.lanes {
		names, scopes = append(names, l.name), append(scopes, l.scope)
	}
	return names, scopes
}

// lookAt is how many rows a look at the table reads.
const lookAt = 1000

// waiting lists keys after the cursor under which something waits that nobody
// sends. The new cursor is empty after the last key.
func (l *lane) waiting(ctx context.Context, cursor string) (keys []string, next string, err error) {
	err = l.db.InOneTrip(ctx, readOnly, func(b *pgx.Batch) {
		keys, next = nil, ""
		b.Queue(`SELECT key, count(*), bool_and(claimed) FROM (
				SELECT o.key, EXISTS (SELECT 1 FROM outbox_claims c WHERE c.sink = o.sink AND c.key = o.key AND c.until > now()) AS claimed
				FROM outbox o WHERE o.sink = $1 AND o.key > $2 ORDER BY o.key, o.n LIMIT $3) AS w
			GROUP BY key ORDER BY key`, l.name, cursor, lookAt).Query(func(rows pgx.Rows) error {
			var key string
			var n, total int
			var claimed bool
			_, err := pgx.ForEachRow(rows, []any{&key, &n, &claimed}, func() error {
				if total += n; total == lookAt {
					next = key
				}
				if !claimed {
					keys = append(keys, key)
				}
				return nil
			})
			return err
		})
	})
	if err != nil {
		return nil, cursor, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(keys, func(key string) bool { return l.busy[key] }), next, nil
}

// claim claims those of the keys that nobody sends.
func (l *lane) claim(ctx context.Context, keys []string) ([]claim, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var claims []claim
	token, until := uuid.New(), time.Now().Add(l.cfg.Lease)
	slices.Sort(keys) // all lock in one order
	err := l.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		claims = nil
		b.Queue(`INSERT INTO outbox_claims (sink, key, token, until)
			SELECT $1, key, $3::UUID, now() + $4 * INTERVAL '1 second' FROM unnest($2::TEXT[]) AS key
			ON CONFLICT (sink, key) DO UPDATE SET token = excluded.token, until = excluded.until
				WHERE outbox_claims.until <= now()
			RETURNING key, failures`, l.name, keys, token, l.cfg.Lease.Seconds()).Query(func(rows pgx.Rows) error {
			c := claim{token: token, until: until}
			_, err := pgx.ForEachRow(rows, []any{&c.key, &c.failures}, func() error {
				claims = append(claims, c)
				return nil
			})
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range claims {
		l.busy[c.key] = true
	}
	return claims, nil
}

// read reads the first events that wait under a claimed key. It must not be one
// statement with the claim: that would see what the holder before has taken since.
func (l *lane) read(ctx context.Context, c claim) ([]Sent, error) {
	var events []Sent
	err := l.db.InOneTrip(ctx, readOnly, func(b *pgx.Batch) {
		events = nil
		b.Queue(`SELECT id, key, n, kind, data::TEXT, at FROM outbox WHERE sink = $1 AND key = $2 ORDER BY n LIMIT $3`,
			l.name, c.key, l.cfg.Batch).Query(func(rows pgx.Rows) error {
			var e Sent
			var data string
			_, err := pgx.ForEachRow(rows, []any{&e.ID, &e.Key, &e.N, &e.Kind, &data, &e.At}, func() error {
				e.Data = []byte(data)
				events = append(events, e)
				return nil
			})
			return err
		})
	})
	return events, err
}

// taken deletes the events up to n and goes on holding the claim, if it is still
// held.
func (l *lane) taken(ctx context.Context, c claim, n int64) (held bool, err error) {
	err = l.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		held = false
		b.Queue(`WITH mine AS (
				UPDATE outbox_claims SET until = now() + $5 * INTERVAL '1 second', failures = 0
				WHERE sink = $1 AND key = $2 AND token = $3 RETURNING key),
			gone AS (DELETE FROM outbox WHERE sink = $1 AND key = (SELECT key FROM mine) AND n <= $4 RETURNING n)
			SELECT EXISTS (SELECT 1 FROM mine)`, l.name, c.key, c.token, n, l.cfg.Lease.Seconds()).QueryRow(func(row pgx.Row) error {
			return row.Scan(&held)
		})
	})
	return held, err
}

// release ends a claim if nothing waits under its key, or if it isn't held.
func (l *lane) release(ctx context.Context, c claim) (released bool, err error) {
	err = l.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		released = false
		b.Queue(`DELETE FROM outbox_claims WHERE sink = $1 AND key = $2 AND token = $3
			AND NOT EXISTS (SELECT 1 FROM outbox WHERE sink = $1 AND key = $2)`, l.name, c.key, c.token)
		b.Queue(`SELECT NOT EXISTS (SELECT 1 FROM outbox_claims WHERE sink = $1 AND key = $2 AND token = $3)`,
			l.name, c.key, c.token).QueryRow(func(row pgx.Row) error { return row.Scan(&released) })
	})
	return released, err
}

// fail has nobody claim the key for a while.
func (l *lane) fail(ctx context.Context, c claim, wait time.Duration) error {
	return l.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		b.Queue(`UPDATE outbox_claims SET until = now() + $4 * INTERVAL '1 second', failures = $5, token = $6
			WHERE sink = $1 AND key = $2 AND token = $3`, l.name, c.key, c.token, wait.Seconds(), c.failures, uuid.New())
	})
}

// giveBack lets others send the key at once: this relay stops.
func (l *lane) giveBack(ctx context.Context, c claim) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := l.fail(ctx, c, 0); err != nil {
		l.log.WarnContext(ctx, "give a key back", "sink", l.name, "err", err)
	}
}

// count says that the sinks are in use, counts what waits for them, and forgets
// those that nobody has had for long.
func (r *Relay) count(ctx context.Context) error {
	names, _ := r.sinks()
	var counts []waiting
	err := r.db.InOneTrip(ctx, readCommitted, func(b *pgx.Batch) {
		counts = nil
		// Every few hours is enough: whoever appends reads these rows.
		b.Queue(`UPDATE outbox_sinks SET seen_at = now() WHERE name = ANY($1::TEXT[]) AND seen_at < now() - INTERVAL '6 hours'`, names)
		b.Queue(`WITH gone AS (DELETE FROM outbox_sinks WHERE seen_at < now() - $1 * INTERVAL '1 second' RETURNING name)
			DELETE FROM outbox WHERE sink IN (SELECT name FROM gone)`, sinkLife.Seconds())
		// Claims under which nothing waits: their process ended between the last event
		// and the release. Nobody else comes by until there is another event.
		b.Queue(`DELETE FROM outbox_claims WHERE until < now() - INTERVAL '1 hour'
			AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.sink = outbox_claims.sink AND o.key = outbox_claims.key)`)
		b.Queue(`SELECT s, w.n, w.oldest FROM unnest($1::TEXT[]) AS s, LATERAL (
				SELECT count(*) AS n, coalesce(extract(epoch FROM now() - min(at)), 0)::FLOAT8 AS oldest
				FROM (SELECT at FROM outbox WHERE sink = s LIMIT 100000) AS o) AS w`, names).Query(func(rows pgx.Rows) error {
			var err error
			counts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[waiting])
			return err
		})
	})
	if err != nil {
		return err
	}
	for _, w := range counts {
		r.pending.WithLabelValues(w.Sink).Set(float64(w.N))
		r.oldest.WithLabelValues(w.Sink).Set(w.Oldest)
	}
	return nil
}
