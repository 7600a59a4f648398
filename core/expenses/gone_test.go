package expenses_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
)

// A recurring expense whose creator has left goes on once somebody takes it over.
func TestWhoChangesARecurringExpenseOfWhoLeftTakesItOver(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	r, err := b.Repeat(ctx, b.eve, b.group, expenses.Recurring{
		Draft: expenses.Draft{Title: "rent", Money: eur(1000)}, Recurrence: expenses.Recurrence{Every: expenses.Day, Starts: date("2026-03-01")},
	})
	require.NoError(t, err)
	b.leave(b.eve)
	require.NoError(t, b.Due(ctx))
	list, err := b.RecurringExpenses(ctx, b.ana, b.group)
	require.NoError(t, err)
	require.Equal(t, string(expenses.ErrNotMember.Code), list[0].Problem)
	list[0].Paid = nil
	_, err = b.Replan(ctx, b.ana, b.group, r.ID, list[0].Version, list[0])
	require.NoError(t, err)
	require.NoError(t, b.Due(ctx))
	list, err = b.RecurringExpenses(ctx, b.ana, b.group)
	require.NoError(t, err)
	require.Empty(t, list[0].Problem)
	require.Len(t, b.days(), 1)
	require.Equal(t, b.ana, list[0].CreatedBy)
	require.Equal(t, []expenses.Stake{{Who: ledger.Member(b.ana), Amount: 1000}}, list[0].Paid)
}

// Unless it says so, who made it goes on to pay it, whoever changes it.
func TestAnAdminsChangeDoesntMakeThemPay(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	r, err := b.Repeat(ctx, b.eve, b.group, expenses.Recurring{
		Draft: expenses.Draft{Title: "rent", Money: eur(1000)}, Recurrence: expenses.Recurrence{Every: expenses.Day, Starts: date("2026-03-01")},
	})
	require.NoError(t, err)
	r.Paid = nil
	r, err = b.Replan(ctx, b.ana, b.group, r.ID, r.Version, r)
	require.NoError(t, err)
	require.Equal(t, []expenses.Stake{{Who: ledger.Member(b.eve), Amount: 1000}}, r.Paid)
}

// A stranger isn't told how many recurring expenses a group has.
func TestAStrangerLearnsNothingOfRecurringExpenses(t *testing.T) {
	b := setup(t)
	for range 100 {
		b.repeat(expenses.Day, "2026-03-05", "")
	}
	_, err := b.Repeat(t.Context(), b.user(), b.group, expenses.Recurring{
		Draft: expenses.Draft{Title: "rent", Money: eur(1)}, Recurrence: expenses.Recurrence{Every: expenses.Day, Starts: date("2026-03-01")},
	})
	require.ErrorIs(t, err, expenses.ErrNotMember)
}

// failing fails for one.
type failing struct {
	*told
	group core.GroupID
}

func (f failing) Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error {
	if data["group_id"] == f.group.String() {
		return errors.New("no")
	}
	return f.told.Notify(ctx, tx, to, kind, data)
}

// One group whose members can't be notified holds up no other.
func TestOneGroupHoldsUpNoOthersNotices(t *testing.T) {
	b := setup(t)
	groups := []core.GroupID{b.group}
	b.add(b.ana, eur(100), b.ana, b.eve)
	for range 2 {
		b.group = b.newGroup()
		groups = append(groups, b.group)
		b.join(b.ana, "owner")
		b.join(b.eve, "member")
		b.add(b.ana, eur(100), b.ana, b.eve)
	}
	b.now = b.now.Add(1000e9)
	bad := groups[0] // the first by id
	for _, g := range groups {
		if g.String() < bad.String() {
			bad = g
		}
	}
	s := expenses.New(b.db, b.books, expenses.Config{Now: b.clock, Notify: failing{b.told, bad}})
	require.Error(t, s.Notices(t.Context()))
	require.Len(t, b.told.take("expense"), 2)
}

// Who is put out while they export gets no more of it.
func TestAnExportEndsWithMembership(t *testing.T) {
	b := setup(t)
	b.add(b.ana, eur(100), b.ana, b.eve)
	write, err := b.CSV(t.Context(), b.eve, b.group)
	require.NoError(t, err)
	b.leave(b.eve)
	require.ErrorIs(t, write(t.Context(), io.Discard), expenses.ErrNotMember)
}

// rows is core/notify as the database sees it: who is told, and whom it names, are users.
type rows struct{}

func (rows) Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error {
	_, err := tx.Exec(ctx, `INSERT INTO notifications (id, user_id, kind, about) VALUES ($1, $2, $3, $4)`, uuid.New(), to, kind, data["user_id"])
	return err
}

// Debts stay when accounts end, and so does all that can be done about them.
func TestWhoseAccountHasEndedIsNotNotified(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	s := expenses.New(b.db, b.books, expenses.Config{Now: b.clock, Notify: rows{}})
	st, err := s.Settle(ctx, b.ana, b.group, expenses.Settlement{From: ledger.Member(b.ana), To: ledger.Member(b.eve), Money: eur(50), Method: expenses.Card})
	require.NoError(t, err)
	b.add(b.ana, eur(300), b.ana, b.eve, b.kim)
	b.add(b.kim, eur(300), b.ana, b.eve, b.kim)
	b.write(`DELETE FROM users WHERE id = ANY($1)`, []core.UserID{b.eve, b.kim})
	b.now = b.now.Add(1000e9)
	require.NoError(t, s.Notices(ctx))
	_, err = s.Settle(ctx, b.ana, b.group, expenses.Settlement{From: ledger.Member(b.eve), To: ledger.Member(b.ana), Money: eur(100)})
	require.NoError(t, err)
	require.NoError(t, b.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return s.Settled(ctx, tx, st.ID, true) }))
	b.proves()
}

// What a gateway says of a settlement whose group is gone isn't asked for again and again.
func TestAPaymentOfADeletedGroupsSettlementEnds(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	st, err := b.Settle(ctx, b.ana, b.group, expenses.Settlement{From: ledger.Member(b.ana), To: ledger.Member(b.eve), Money: eur(50), Method: expenses.Card})
	require.NoError(t, err)
	b.write(`DELETE FROM groups WHERE id = $1`, b.group)
	require.NoError(t, b.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return b.Settled(ctx, tx, st.ID, true) }))
	require.NoError(t, b.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return b.Refunded(ctx, tx, st.ID, 50) }))
}
