package jobs

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db/devdb"
)

var start = time.Date(2026, 3, 1, 0, 0, 30, 0, time.UTC)

func TestLatePolicies(t *testing.T) {
	at := func(minutes ...int) (list []period) { // a minus: missed
		for _, m := range minutes {
			list = append(list, period{start.Truncate(time.Minute).Add(time.Duration(max(m, -m)) * time.Minute), m > 0})
		}
		return list
	}
	due := func(late Late, grace, away time.Duration) ([]period, int) {
		s := &Schedule{Every: time.Minute, Late: late, Grace: grace}
		return s.due(start, start.Add(away))
	}
	got, missed := due(LateOnce, 0, time.Second)
	require.Empty(t, got)
	require.Zero(t, missed)
	got, missed = due(LateOnce, 0, 4*time.Minute)
	require.Equal(t, at(-1, -2, -3, 4), got)
	require.Equal(t, 3, missed)
	got, missed = due(LateEach, 0, 4*time.Minute)
	require.Equal(t, at(1, 2, 3, 4), got)
	require.Zero(t, missed)
	got, missed = due(LateNever, 100*time.Second, 4*time.Minute)
	require.Equal(t, at(-1, -2, 3, 4), got)
	require.Equal(t, 2, missed)

	got, _ = due(LateNever, 5*time.Hour, 24*time.Hour)
	require.Len(t, slices.DeleteFunc(got, func(p period) bool { return !p.run }), 5*60, "all within the grace")

	// After a year nobody wants half a million rows, but to know of them.
	got, missed = due(LateOnce, 0, 365*24*time.Hour)
	require.LessOrEqual(t, len(got), 2*maxPeriods)
	require.True(t, got[len(got)-1].run)
	require.Equal(t, 365*24*60-1, missed)
	got, _ = due(LateEach, 0, 365*24*time.Hour)
	require.Len(t, got, maxPeriods)
	require.Equal(t, at(1)[0], got[0], "the oldest first: the others follow")
}

type planned struct {
	Period  time.Time
	Outcome string
}

func (b *bundle) periods(name string) []planned {
	b.t.Helper()
	var list []planned
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT period, outcome FROM job_periods WHERE name = $1 ORDER BY period`, name)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[planned])
		return err
	}))
	return list
}

// Four nodes plan at the same time, by clocks that jump hours to and fro, over the
// days on which clocks in Berlin and New York change.
func TestClockJumpsAndDaylightSavingNeitherDoubleNorSkip(t *testing.T) {
	b := setup(t, quick)
	do := func(context.Context, Work) error { return nil }
	schedules := []Schedule{
		{Name: "half past two", At: &Calendar{Hour: 2, Minute: 30, Zone: zone(t, "Europe/Berlin")}, Late: LateEach, Do: do},
		{Name: "twenty past one", At: &Calendar{Hour: 1, Minute: 20, Zone: zone(t, "America/New_York")}, Late: LateEach, Do: do},
		{Name: "each hour", Every: time.Hour, Late: LateEach, Do: do},
	}
	for _, change := range []string{"2026-03-06T12:00:00Z", "2026-03-27T12:00:00Z", "2026-10-23T12:00:00Z", "2026-10-30T12:00:00Z"} {
		begin, err := time.Parse(time.RFC3339, change)
		require.NoError(t, err)
		exec(t, b.db, `DELETE FROM job_periods`)
		exec(t, b.db, `DELETE FROM jobs`)
		for i := range schedules {
			require.NoError(t, b.planSchedule(t.Context(), &schedules[i], begin))
		}
		var nodes sync.WaitGroup
		for range 4 {
			nodes.Go(func() {
				for at := begin; at.Before(begin.Add(72 * time.Hour)); at = at.Add(time.Duration(1+rand.IntN(120)) * time.Minute) {
					seen := at
					if rand.IntN(3) == 0 { // it jumps
						seen = at.Add(time.Duration(rand.IntN(600)-300) * time.Minute)
					}
					s := &schedules[rand.IntN(len(schedules))]
					if err := b.planSchedule(t.Context(), s, seen); err != nil {
						t.Error(err)
					}
				}
			})
		}
		nodes.Wait()
		for i := range schedules {
			s := &schedules[i]
			require.NoError(t, b.planSchedule(t.Context(), s, begin.Add(80*time.Hour)))
			want := []planned{{begin, "first"}}
			for at := s.calendar().Next(begin); !at.After(begin.Add(80 * time.Hour)); at = s.calendar().Next(at) {
				want = append(want, planned{at, "due"})
			}
			got := b.periods(s.Name)
			require.Equal(t, len(want), len(got), s.Name)
			for i := range want {
				require.True(t, want[i].Period.Equal(got[i].Period), "%s: %v, not %v", s.Name, got[i], want[i])
				require.Equal(t, want[i].Outcome, got[i].Outcome)
			}
			require.Len(t, b.jobsOf(s.Name), len(want)-1, "one job for each")
		}
	}
}

func (b *bundle) jobsOf(kind string) []Row {
	b.t.Helper()
	rows, err := List(b.t.Context(), b.db, Filter{Kind: kind}, "", 1000)
	require.NoError(b.t, err)
	return rows
}

// Three nodes have a schedule: each period runs on one of them.
func TestAScheduleRunsOncePerPeriod(t *testing.T) {
	url := devdb.TestURL(t)
	s := &seen{}
	var b *bundle
	for range 3 {
		d := devdb.Connect(t, url, db4)
		b = &bundle{New(d, quick), t, d}
		b.Schedule(Schedule{Name: "tick", Every: 200 * time.Millisecond, Late: LateEach, Do: func(_ context.Context, w Work) error {
			if s.add(w)%5 == 0 {
				return Later(errors.New("fails now and then"), time.Millisecond)
			}
			return nil
		}})
		b.start()
	}
	b.eventually(func() bool { return len(s.all()) > 15 })
	b.Stop()
	done, times := map[time.Time]bool{}, map[time.Time]int{}
	for _, p := range b.periods("tick") {
		if p.Outcome == "done" {
			done[p.Period.UTC()] = true
		}
	}
	require.Greater(t, len(done), 5)
	for _, w := range s.all() {
		require.Equal(t, w.Key, w.Period.Format(time.RFC3339Nano))
		times[w.Period.UTC()]++
		require.Equal(t, times[w.Period.UTC()], w.Attempt, "again only after a failure")
	}
}

func TestWhatComesTooLateIsMissed(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := quick
	cfg.Metrics = reg
	b, s := setup(t, cfg), &seen{}
	reminder := Schedule{Name: "reminder", Every: time.Hour, Late: LateNever, Grace: time.Microsecond, Do: func(_ context.Context, w Work) error { s.add(w); return nil }}
	b.Schedule(reminder)
	now := time.Now()
	require.NoError(t, b.planSchedule(t.Context(), &b.schedules[0], now.Add(-90*time.Minute)))
	// It was planned in time, and then no node ran it.
	require.NoError(t, b.planSchedule(t.Context(), &b.schedules[0], reminder.calendar().Next(now.Add(-90*time.Minute))))
	require.Len(t, b.jobsOf("reminder"), 1)
	b.start()
	b.eventually(func() bool {
		p := b.periods("reminder")
		return p[1].Outcome == "missed" && testutil.ToFloat64(b.metrics.missed.WithLabelValues("reminder")) >= 1
	})
	require.Empty(t, b.jobsOf("reminder"))
	require.Empty(t, s.all())
}

func TestADeadPeriodCanBeTriedAgain(t *testing.T) {
	b, s := setup(t, quick), &seen{}
	b.Schedule(Schedule{Name: "bill", Every: time.Hour, Do: func(_ context.Context, w Work) error {
		if s.add(w) == 1 {
			return Permanent(errors.New("no paper"))
		}
		return nil
	}})
	last := time.Now().Truncate(time.Hour).Add(-30 * time.Minute)
	require.NoError(t, b.planSchedule(t.Context(), &b.schedules[0], last))
	b.start()
	b.eventually(func() bool { p := b.periods("bill"); return len(p) > 1 && p[1].Outcome == "dead" })
	n, err := Retry(t.Context(), b.db, Filter{Kind: "bill"})
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	b.eventually(func() bool { return b.periods("bill")[1].Outcome == "done" })
	require.Equal(t, s.all()[0].Period, s.all()[1].Period)
}

func TestARowThatIsOldGoesButNeverTheNewest(t *testing.T) {
	b := setup(t, quick)
	s := &Schedule{Name: "daily", Every: 24 * time.Hour, Late: LateOnce}
	require.NoError(t, b.planSchedule(t.Context(), s, start))
	for day := range 40 {
		require.NoError(t, b.planSchedule(t.Context(), s, start.AddDate(0, 0, day+1)))
	}
	require.Len(t, b.periods("daily"), 31)
	exec(t, b.db, `DELETE FROM jobs`)
	require.NoError(t, b.planSchedule(t.Context(), s, start.AddDate(1, 0, 0)))
	p := b.periods("daily")
	require.Equal(t, "due", p[len(p)-1].Outcome)
}
