package expenses_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
)

func date(s string) time.Time {
	d, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return d
}

// repeat has a rent of ana's come again.
func (b *bundle) repeat(every expenses.Every, starts, zone string) expenses.Recurring {
	b.t.Helper()
	r, err := b.Repeat(b.t.Context(), b.ana, b.group, expenses.Recurring{
		Draft: expenses.Draft{Title: "rent", Money: eur(1000)}, Recurrence: expenses.Recurrence{Every: every, Starts: date(starts), Zone: zone},
	})
	require.NoError(b.t, err)
	return r
}

// days are those of the expenses there are, the latest first.
func (b *bundle) days() (days []string) {
	b.t.Helper()
	list, next, err := b.List(b.t.Context(), b.ana, b.group, expenses.Filter{}, "", 200)
	require.NoError(b.t, err)
	require.Empty(b.t, next)
	for _, e := range list {
		days = append(days, e.On.Format(time.DateOnly))
	}
	return days
}

func (b *bundle) at(s string) {
	t, err := time.Parse(time.RFC3339, s)
	require.NoError(b.t, err)
	b.now = t
}

func TestPeriods(t *testing.T) {
	for name, c := range map[string]struct {
		every  expenses.Every
		starts string
		until  string // by when all are made
		want   []string
	}{
		"days over the end of a month":       {expenses.Day, "2026-02-27", "2026-03-02", []string{"2026-03-02", "2026-03-01", "2026-02-28", "2026-02-27"}},
		"weeks":                              {expenses.Week, "2026-02-20", "2026-03-13", []string{"2026-03-13", "2026-03-06", "2026-02-27", "2026-02-20"}},
		"the 31st is the last of short ones": {expenses.Month, "2026-01-31", "2026-05-01", []string{"2026-04-30", "2026-03-31", "2026-02-28", "2026-01-31"}},
		"the 29th of February is the 28th":   {expenses.Year, "2028-02-29", "2032-03-01", []string{"2032-02-29", "2031-02-28", "2030-02-28", "2029-02-28", "2028-02-29"}},
		"months over the end of a year":      {expenses.Month, "2026-11-30", "2027-02-28", []string{"2027-02-28", "2027-01-30", "2026-12-30", "2026-11-30"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.at(c.starts + "T00:00:00Z")
			b.repeat(c.every, c.starts, "")
			b.at(c.until + "T12:00:00Z")
			require.NoError(t, b.Due(t.Context()))
			require.Equal(t, c.want, b.days())
			require.NoError(t, b.Due(t.Context()))
			require.Equal(t, c.want, b.days(), "once each")
			b.proves()
		})
	}
}

// Days begin where the zone says, also when clocks change.
func TestDaysBeginInTheZone(t *testing.T) {
	b := setup(t)
	b.repeat(expenses.Day, "2026-03-28", "Europe/Berlin")
	for _, c := range []struct {
		at   string
		days int
	}{
		{"2026-03-27T22:59:59Z", 0}, {"2026-03-27T23:00:00Z", 1}, // UTC+1
		{"2026-03-28T23:00:00Z", 2},
		{"2026-03-29T21:59:59Z", 2}, {"2026-03-29T22:00:00Z", 3}, // UTC+2
	} {
		b.at(c.at)
		require.NoError(t, b.Due(t.Context()))
		require.Len(t, b.days(), c.days, c.at)
	}
}

// Several nodes at once make each period once.
func TestEachPeriodOnceHoweverManyAsk(t *testing.T) {
	b := setup(t)
	for i := range 5 {
		b.repeat(expenses.Day, fmt.Sprintf("2026-02-%d", 20+i), "")
	}
	other := expenses.New(b.db, ledger.New(b.db, ledger.Config{Now: b.clock}), expenses.Config{Now: b.clock}) // another process: it shares no turns
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			s := b.Store
			if i%2 == 1 {
				s = other
			}
			require.NoError(t, s.Due(t.Context()))
		})
	}
	wg.Wait()
	require.Len(t, b.days(), 10+9+8+7+6) // to the first of March
	b.proves()
}

func TestRecurringExpensesAreChangedAndEnd(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	r := b.repeat(expenses.Month, "2026-03-01", "")
	require.NoError(t, b.Due(ctx))
	require.Len(t, b.days(), 1)
	got, err := b.RecurringExpenses(ctx, b.kim, b.group)
	require.NoError(t, err)
	require.Equal(t, date("2026-04-01"), got[0].Next)
	require.Equal(t, []expenses.Stake{{Who: ledger.Member(b.ana), Amount: 1000}}, got[0].Paid)
	require.Empty(t, got[0].Parts, "all who are members then")

	r.Draft.Money, r.Draft.Paid = eur(2000), nil
	r.Every = expenses.Week
	_, err = b.Replan(ctx, b.kim, b.group, r.ID, 2, r)
	require.ErrorIs(t, err, expenses.ErrForbidden)
	_, err = b.Replan(ctx, b.ana, b.group, r.ID, 7, r)
	require.ErrorIs(t, err, expenses.ErrRecurringChanged)
	r, err = b.Replan(ctx, b.ana, b.group, r.ID, got[0].Version, r)
	require.NoError(t, err)
	require.Equal(t, date("2026-03-08"), r.Next, "after the last one that there was")
	b.at("2026-03-08T00:00:00Z")
	require.NoError(t, b.Due(ctx))
	require.EqualValues(t, 3000, b.spent("EUR"))

	r.Until = date("2026-03-15")
	r, err = b.Replan(ctx, b.ben, b.group, r.ID, r.Version, r)
	require.NoError(t, err)
	b.at("2026-05-01T00:00:00Z")
	require.NoError(t, b.Due(ctx))
	require.Len(t, b.days(), 3)
	got, err = b.RecurringExpenses(ctx, b.kim, b.group)
	require.NoError(t, err)
	require.True(t, got[0].Next.IsZero())

	require.ErrorIs(t, b.End(ctx, b.kim, b.group, r.ID), expenses.ErrForbidden)
	require.NoError(t, b.End(ctx, b.ana, b.group, r.ID))
	require.ErrorIs(t, b.End(ctx, b.ana, b.group, r.ID), expenses.ErrNoRecurring)
	require.Len(t, b.days(), 3, "what it made stays")
}

// One that can't come any more stops, says why, and holds up no other.
func TestARecurringExpenseOfWhoLeftStops(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	r, err := b.Repeat(ctx, b.ana, b.group, expenses.Recurring{
		Draft:      expenses.Draft{Title: "garden", Money: eur(1000), Mode: expenses.Shares, Parts: []expenses.Part{{User: b.ana, Value: "1"}, {User: b.eve, Value: "2"}}},
		Recurrence: expenses.Recurrence{Every: expenses.Day, Starts: date("2026-03-01")},
	})
	require.NoError(t, err)
	b.repeat(expenses.Day, "2026-03-01", "")
	require.NoError(t, b.Due(ctx))
	require.Len(t, b.days(), 2)
	b.leave(b.eve)
	b.now = b.now.AddDate(0, 0, 1)
	require.NoError(t, b.Due(ctx))
	require.Len(t, b.days(), 3)
	list, err := b.RecurringExpenses(ctx, b.ana, b.group)
	require.NoError(t, err)
	for _, x := range list {
		if x.ID != r.ID {
			require.Empty(t, x.Problem)
			continue
		}
		require.Equal(t, string(expenses.ErrNoSuchMember.Code), x.Problem)
		require.True(t, x.Next.IsZero())
		x.Parts = x.Parts[:1]
		if x.Parts[0].User == b.eve {
			x.Parts[0].User = b.ana
		}
		r, err = b.Replan(ctx, b.ana, b.group, r.ID, x.Version, x)
		require.NoError(t, err)
		require.Empty(t, r.Problem)
	}
	require.NoError(t, b.Due(ctx))
	require.Len(t, b.days(), 4, "it goes on with the day that was left out")
	b.proves()
}

func TestRecurrencesThatCantBe(t *testing.T) {
	b := setup(t)
	for name, r := range map[string]expenses.Recurrence{
		"no interval":  {Starts: date("2026-03-01")},
		"unknown zone": {Every: expenses.Day, Starts: date("2026-03-01"), Zone: "Mars/Base"},
		"local zone":   {Every: expenses.Day, Starts: date("2026-03-01"), Zone: "Local"},
		"long ago":     {Every: expenses.Day, Starts: date("2024-03-01")},
		"no day":       {Every: expenses.Day},
		"over":         {Every: expenses.Day, Starts: date("2026-03-01"), Until: date("2026-02-28")},
	} {
		_, err := b.Repeat(t.Context(), b.ana, b.group, expenses.Recurring{Draft: expenses.Draft{Title: "x", Money: eur(1)}, Recurrence: r})
		require.True(t, refused(err), "%s: %v", name, err)
	}
	_, err := b.Repeat(t.Context(), b.ana, b.group, expenses.Recurring{Draft: expenses.Draft{Title: "x", Money: eur(1), Parts: of(b.user())},
		Recurrence: expenses.Recurrence{Every: expenses.Day, Starts: date("2026-03-01")}})
	require.ErrorIs(t, err, expenses.ErrNoSuchMember)
	require.Zero(t, b.count("recurring_expenses"))
	require.NotErrorIs(t, err, core.ErrAmount)
}
