package db_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/internal/obs"
)

// Without a replica, and with one that is not there, stale reads are current.
func TestReadStaleWithoutAReplica(t *testing.T) {
	for _, d := range []*db.DB{
		devdb.Test(t),
		devdb.Connect(t, devdb.TestURL(t), db.Config{Replica: "postgres://127.0.0.1:1/x?sslmode=disable"}),
	} {
		require.NoError(t, exec(t.Context(), d, `INSERT INTO rooms (room, last_number) VALUES ('group:x', 0)`))
		ctx, age := db.NoteAge(t.Context())
		rooms := 0
		for range 3 {
			require.NoError(t, d.ReadStale(ctx, func(ctx context.Context, q db.Querier) error {
				return q.QueryRow(ctx, `SELECT count(*) FROM rooms`).Scan(&rooms)
			}))
			require.Equal(t, 1, rooms)
		}
		if !d.Cockroach() {
			require.Zero(t, age.Most())
		}
		require.ErrorIs(t, d.ReadStale(ctx, func(ctx context.Context, q db.Querier) error {
			return q.QueryRow(ctx, `SELECT last_number FROM rooms WHERE room = 'none'`).Scan(&rooms)
		}), pgx.ErrNoRows)
	}
	_, err := db.Open(t.Context(), devdb.TestURL(t), db.Config{Replica: "postgres://%"})
	require.ErrorContains(t, err, "replica")
}

func TestPoolsAreMeasured(t *testing.T) {
	d := devdb.Connect(t, devdb.TestURL(t), db.Config{MaxConns: 3})
	reg := prometheus.NewRegistry()
	require.NoError(t, d.Register(reg))
	require.NoError(t, exec(t.Context(), d, `SELECT 1`))
	n, err := testutil.GatherAndCount(reg, "muster_db_acquire_seconds", "muster_db_connections_max", "muster_db_connections_used", "muster_db_connections_waited_total")
	require.NoError(t, err)
	require.Equal(t, 4, n)
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		switch f.GetName() {
		case "muster_db_connections_max":
			require.InDelta(t, 3, f.GetMetric()[0].GetGauge().GetValue(), 0)
		case "muster_db_acquire_seconds":
			require.NotZero(t, f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
}

// Statements are spans below whoever has one; arguments are in none.
func TestStatementsAreSpans(t *testing.T) {
	d := devdb.Test(t)
	spans := tracetest.NewSpanRecorder()
	require.NoError(t, exec(t.Context(), d, `SELECT 1`))
	require.Empty(t, spans.Started())
	ctx, root := obs.Root(t.Context(), obs.TracesTo(spans, 1, "").Tracer("a", "a-1"), "root")
	require.NoError(t, d.Read(ctx, func(ctx context.Context, q db.Querier) error {
		var n int
		return q.QueryRow(ctx, `SELECT count(*)
			FROM rooms WHERE room = $1`, "canary").Scan(&n)
	}))
	require.NoError(t, d.InOneTrip(ctx, pgx.TxOptions{}, func(b *pgx.Batch) {
		b.Queue(`DELETE FROM rooms WHERE room = $1`, "canary")
	}))
	root.End()
	var texts []string
	for _, s := range spans.Ended() {
		require.Equal(t, root.SpanContext().TraceID(), s.SpanContext().TraceID())
		for _, a := range s.Attributes() {
			require.NotContains(t, a.Value.String(), "canary")
			if a.Key == "db.query.text" {
				texts = append(texts, a.Value.AsString())
			}
		}
	}
	require.Contains(t, texts, `SELECT count(*) FROM rooms WHERE room = $1`)
	require.Greater(t, len(texts), 1)
}
