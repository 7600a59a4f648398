package expenses_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/internal/errs"
)

func assertAs[T error](t *testing.T, err error, target *T) bool {
	t.Helper()
	if !errors.As(err, target) {
		t.Errorf("unexpected: %v", err)
		return false
	}
	return true
}

// refused reports a failure that is the client's.
func refused(err error) bool {
	e, told := errs.From(err)
	return err != nil && told && e.Kind >= 400 && e.Kind < 500
}

func TestSettleInPartsAndUndo(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	b.add(b.ana, eur(900), b.ana, b.ben, b.eve)
	pay := expenses.Settlement{From: ledger.Member(b.eve), To: ledger.Member(b.ana), Money: eur(100), Note: "coins"}
	st, err := b.Settle(ctx, b.eve, b.group, pay)
	require.NoError(t, err)
	require.Equal(t, expenses.Recorded, st.Status)
	require.Equal(t, "cash", st.Method)
	require.EqualValues(t, -200, b.balance(ledger.Member(b.eve), "EUR"))
	pay.Money = eur(200)
	_, err = b.Settle(ctx, b.ana, b.group, pay) // the one who got it says so
	require.NoError(t, err)
	require.Zero(t, b.balance(ledger.Member(b.eve), "EUR"))
	_, err = b.Undo(ctx, b.kim, b.group, st.ID)
	require.ErrorIs(t, err, expenses.ErrForbidden)
	undone, err := b.Undo(ctx, b.ana, b.group, st.ID)
	require.NoError(t, err)
	require.Equal(t, expenses.Undone, undone.Status)
	again, err := b.Undo(ctx, b.ana, b.group, st.ID)
	require.NoError(t, err)
	require.Equal(t, undone, again)
	require.EqualValues(t, -100, b.balance(ledger.Member(b.eve), "EUR"))
	list, next, err := b.Settlements(ctx, b.kim, b.group, "", 1)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NotEmpty(t, next)
	list, _, err = b.Settlements(ctx, b.kim, b.group, next, 1)
	require.NoError(t, err)
	require.Len(t, list, 1)
	told := b.told.take("settlement")
	require.Len(t, told, 3)
	require.Equal(t, b.ana, told[0].to)
	require.Equal(t, b.eve, told[1].to)
	require.Equal(t, "undone", told[2].data["status"])
	b.proves()
}

func TestSettlementsThatCantBe(t *testing.T) {
	b := setup(t)
	ana, eve := ledger.Member(b.ana), ledger.Member(b.eve)
	for name, st := range map[string]expenses.Settlement{
		"with oneself":     {From: ana, To: ana, Money: eur(1)},
		"nothing":          {From: ana, To: eve, Money: eur(0)},
		"negative":         {From: ana, To: eve, Money: eur(-1)},
		"unknown currency": {From: ana, To: eve, Money: core.Money{Amount: 1, Currency: "ZZZ"}},
		"too much":         {From: ana, To: eve, Money: eur(1<<63 - 1)},
		"unknown method":   {From: ana, To: eve, Money: eur(1), Method: "barter"},
		"long note":        {From: ana, To: eve, Money: eur(1), Note: strings.Repeat("x", 2001)},
		"of the platform":  {From: ana, To: ledger.Platform, Money: eur(1)},
	} {
		_, err := b.Settle(t.Context(), b.ana, b.group, st)
		require.True(t, refused(err), "%s: %v", name, err)
	}
	require.Zero(t, b.count("settlements")+b.count("ledger_books"))
}

// A payment by card counts once it is paid, however often and in whatever order the
// gateway says so; and what it gives back counts, too.
func TestCards(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	b.add(b.ana, eur(900), b.eve)
	eve := ledger.Member(b.eve)
	pay := expenses.Settlement{From: eve, To: ledger.Member(b.ana), Money: eur(900), Method: expenses.Card}
	_, err := b.Settle(ctx, b.ana, b.group, pay)
	require.ErrorIs(t, err, expenses.ErrForbidden, "nobody pays by another's card")
	st, err := b.Settle(ctx, b.eve, b.group, pay)
	require.NoError(t, err)
	require.Equal(t, expenses.Pending, st.Status)
	require.Empty(t, b.told.take("settlement"))
	require.EqualValues(t, -900, b.balance(eve, "EUR"))
	_, err = b.Payable(ctx, b.ana, b.group, st.ID)
	require.ErrorIs(t, err, expenses.ErrForbidden)

	in := func(fn func(ctx context.Context, tx pgx.Tx) error) {
		t.Helper()
		require.NoError(t, b.db.InTx(ctx, pgx.TxOptions{}, fn))
	}
	status := func() string {
		now, err := b.Settlement(ctx, b.kim, b.group, st.ID)
		require.NoError(t, err)
		return now.Status
	}
	settled := func(paid bool) {
		t.Helper()
		in(func(ctx context.Context, tx pgx.Tx) error { return b.Settled(ctx, tx, st.ID, paid) })
	}
	refund := func(total int64) {
		t.Helper()
		in(func(ctx context.Context, tx pgx.Tx) error { return b.Refunded(ctx, tx, st.ID, total) })
	}
	settled(false)
	require.Equal(t, expenses.Failed, status())
	_, err = b.Payable(ctx, b.eve, b.group, st.ID)
	require.NoError(t, err, "it can be tried again")
	settled(true)
	settled(true)
	settled(false)
	require.Equal(t, expenses.Settled, status())
	require.Zero(t, b.balance(eve, "EUR"))
	_, err = b.Undo(ctx, b.eve, b.group, st.ID)
	require.ErrorIs(t, err, expenses.ErrPaid)
	_, err = b.Payable(ctx, b.eve, b.group, st.ID)
	require.ErrorIs(t, err, expenses.ErrNotPending)

	refund(300)
	refund(300)
	require.EqualValues(t, -300, b.balance(eve, "EUR"))
	require.Equal(t, expenses.Settled, status())
	refund(900)
	refund(1000)
	require.EqualValues(t, -900, b.balance(eve, "EUR"))
	require.Equal(t, expenses.Undone, status())

	// Refunded at once: a reversal.
	st, err = b.Settle(ctx, b.eve, b.group, pay)
	require.NoError(t, err)
	settled(true)
	refund(900)
	require.Equal(t, expenses.Undone, status())
	require.EqualValues(t, -900, b.balance(eve, "EUR"))

	// Money that moved although it was taken back counts.
	st, err = b.Settle(ctx, b.eve, b.group, pay)
	require.NoError(t, err)
	_, err = b.Undo(ctx, b.eve, b.group, st.ID)
	require.NoError(t, err)
	settled(true)
	require.Zero(t, b.balance(eve, "EUR"))
	b.proves()
}

func TestConversions(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	b.add(b.ana, eur(1000), b.eve)
	eve, ana := ledger.Member(b.eve), ledger.Member(b.ana)
	st, err := b.Convert(ctx, b.eve, b.group, expenses.Settlement{From: eve, To: ana, Money: eur(1000), Into: core.Money{Currency: "JPY"}, Rate: "161.055"})
	require.NoError(t, err)
	require.Equal(t, core.Money{Amount: 1611, Currency: "JPY"}, st.Into, "10.00 × 161.055 = 1610.55")
	require.Zero(t, b.balance(eve, "EUR"))
	require.EqualValues(t, -1611, b.balance(eve, "JPY"))
	b.proves()
	_, err = b.Undo(ctx, b.ana, b.group, st.ID)
	require.NoError(t, err)
	require.EqualValues(t, -1000, b.balance(eve, "EUR"))
	require.Zero(t, b.balance(eve, "JPY"))
	b.proves()

	for name, c := range map[string]struct {
		m    core.Money
		into core.Currency
		rate string
		want int64 // 0: refused
	}{
		"yen to dinars":      {core.Money{Amount: 1000, Currency: "JPY"}, "KWD", "0.00201", 2010},
		"dinars to yen":      {core.Money{Amount: 2010, Currency: "KWD"}, "JPY", "497.512", 1000},
		"half a unit is up":  {eur(1), "USD", "1.5", 2},
		"less is down":       {eur(1), "USD", "1.499999999999", 1},
		"the most":           {eur(core.MaxAmount), "USD", "1", core.MaxAmount},
		"more than the most": {eur(core.MaxAmount), "USD", "1.0001", 0},
		"nothing is left":    {eur(1), "USD", "0.1", 0},
		"a rate of zero":     {eur(1), "USD", "0", 0},
		"negative":           {eur(1), "USD", "-1", 0},
		"exponent":           {eur(1), "USD", "1e3", 0},
		"fraction":           {eur(1), "USD", "1/2", 0},
		"none":               {eur(1), "USD", "", 0},
		"itself":             {eur(1), "EUR", "1", 0},
		"unknown":            {eur(1), "EUX", "1", 0},
		"too fine":           {eur(1), "USD", "1.0000000000001", 0},
	} {
		st, err := b.Convert(ctx, b.eve, b.group, expenses.Settlement{From: eve, To: ana, Money: c.m, Into: core.Money{Currency: c.into}, Rate: c.rate})
		if c.want == 0 {
			require.True(t, refused(err), "%s: %v", name, err)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, c.want, st.Into.Amount, name)
		_, err = b.Undo(ctx, b.eve, b.group, st.ID)
		require.NoError(t, err)
	}
	b.proves()
}

// Who leaves keeps their debts, and they can be settled.
func TestWhoLeavesKeepsTheirDebts(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	e := b.add(b.ana, eur(900), b.ana, b.ben, b.eve)
	b.leave(b.eve)
	require.EqualValues(t, -300, b.balance(ledger.Member(b.eve), "EUR"))
	person := b.standing().People[ledger.Member(b.eve)]
	require.False(t, person.Member)
	require.NotEmpty(t, person.Name)
	_, err := b.Create(ctx, b.ana, b.group, expenses.Draft{Title: "x", Money: eur(1), Parts: of(b.eve)})
	require.ErrorIs(t, err, expenses.ErrNoSuchMember)
	_, err = b.Update(ctx, b.ana, b.group, e.ID, 1, expenses.Draft{Title: "corrected", Money: eur(600), Parts: of(b.ana, b.ben, b.eve)})
	require.NoError(t, err, "who has a part in it keeps it")
	require.EqualValues(t, -200, b.balance(ledger.Member(b.eve), "EUR"))
	_, err = b.Settle(ctx, b.ana, b.group, expenses.Settlement{From: ledger.Member(b.eve), To: ledger.Member(b.ana), Money: eur(200)})
	require.NoError(t, err)
	require.Zero(t, b.balance(ledger.Member(b.eve), "EUR"))
	b.proves()
}

func TestSimplifyingIsASettingAndExplained(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	b.add(b.ana, eur(1000), b.ben) // ben owes ana 10
	b.add(b.ben, eur(1000), b.eve) // eve owes ben 10
	ana, eve := ledger.Member(b.ana), ledger.Member(b.eve)
	st := b.standing()
	require.True(t, st.Simplified)
	require.Equal(t, []expenses.Transfer{{From: eve, To: ana, Amount: 1000}}, st.Positions[0].Transfers)
	x, next, err := b.Explain(ctx, b.eve, b.group, eve, ana, "EUR", "", 10)
	require.NoError(t, err)
	require.Empty(t, next)
	require.Empty(t, x.Lines, "they never shared anything")
	require.EqualValues(t, 1000, x.Total)
	require.Len(t, x.Circles, 1)
	require.Len(t, x.Circles[0].People, 3)
	b.proves()

	b.write(`UPDATE groups SET settings = '{"simplify_debts": false}' WHERE id = $1`, b.group)
	st = b.standing()
	require.False(t, st.Simplified)
	require.Len(t, st.Positions[0].Transfers, 2)
	b.proves()

	_, _, err = b.Explain(ctx, b.eve, b.group, eve, eve, "EUR", "", 10)
	require.True(t, refused(err))
	_, _, err = b.Explain(ctx, b.eve, b.group, eve, ledger.Member(core.UserID(uuid.New())), "EUR", "", 10)
	require.ErrorIs(t, err, expenses.ErrNoSuchMember)
	_, _, err = b.Explain(ctx, b.eve, b.group, eve, ana, "EUX", "", 10)
	require.ErrorIs(t, err, core.ErrCurrency)
	_, _, err = b.Explain(ctx, b.eve, b.group, eve, ana, "EUR", "xx", 10)
	require.ErrorIs(t, err, core.ErrBadCursor)
}

func TestNoticesAreGathered(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	first := b.add(b.ana, eur(900), b.ana, b.ben, b.eve)
	require.NoError(t, b.Notices(ctx))
	require.Empty(t, b.told.take("expense"), "not yet")
	b.now = b.now.Add(time.Minute)
	require.NoError(t, b.Notices(ctx))
	told := b.told.take("expense")
	require.Len(t, told, 2, "those whose balance it changes, but for who added it")
	for _, n := range told {
		require.Contains(t, []core.UserID{b.ben, b.eve}, n.to)
		require.Equal(t, first.ID.String(), n.data["expense_id"])
		require.Equal(t, b.ana.String(), n.data["user_id"])
	}
	require.NoError(t, b.Notices(ctx))
	require.Empty(t, b.told.take("expense"), "once")

	b.add(b.ben, eur(100), b.eve)
	b.add(b.ben, core.Money{Amount: 100, Currency: "JPY"}, b.eve)
	gone := b.add(b.ben, eur(100), b.kim)
	require.NoError(t, b.Delete(ctx, b.ben, b.group, gone.ID, 0))
	b.now = b.now.Add(time.Minute)
	require.NoError(t, b.Notices(ctx))
	told = b.told.take("expense")
	require.Len(t, told, 1, "%v", told)
	require.Equal(t, b.eve, told[0].to)
	require.Equal(t, 2, told[0].data["count"])
	require.NotContains(t, told[0].data, "expense_id")
}

func TestExportIsATable(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	_, err := b.Create(ctx, b.ana, b.group, expenses.Draft{Title: "=HYPERLINK(1)", Money: eur(1001), Parts: of(b.ana, b.ben)})
	require.NoError(t, err)
	_, err = b.Settle(ctx, b.ben, b.group, expenses.Settlement{From: ledger.Member(b.ben), To: ledger.Member(b.ana), Money: eur(500), Note: `"thanks", she said`})
	require.NoError(t, err)
	_, err = b.Convert(ctx, b.ben, b.group, expenses.Settlement{From: ledger.Member(b.ben), To: ledger.Member(b.ana), Money: eur(1), Into: core.Money{Currency: "KWD"}, Rate: "0.5"})
	require.NoError(t, err)
	write, err := b.CSV(ctx, b.kim, b.group)
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, write(ctx, &out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 5, out.String())
	require.Contains(t, lines[0], "Date,Kind,Title")
	require.Contains(t, lines[1], "2026-03-01,expense,'=HYPERLINK(1),general,,EUR,10.01,")
	require.Contains(t, out.String(), `"""thanks"", she said",EUR,5.00`)
	require.Contains(t, out.String(), "KWD,0.005")
	_, err = b.CSV(ctx, b.user(), b.group)
	require.ErrorIs(t, err, expenses.ErrNotMember)
}
