package node

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/attachments"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ledger"
)

// newExpenses makes what members of groups spend for each other, what of it comes
// again, and what they are notified of.
func newExpenses(cfg *Config, books *ledger.Store, told expenses.Notifier, kept *files, w *work) *expenses.Store {
	s := expenses.New(cfg.DB, books, expenses.Config{Notify: told, Receipts: kept.ofExpenses()})
	w.Schedule(jobs.Schedule{
		Name: "recurring_expenses", Every: expenses.DueEvery, Late: jobs.LateOnce, Timeout: 10 * time.Minute,
		Do: func(ctx context.Context, _ jobs.Work) error { return s.Due(ctx) },
	})
	w.Schedule(jobs.Schedule{
		Name: "expense_notices", Every: expenses.NoticesEvery, Late: jobs.LateOnce, Timeout: 10 * time.Minute,
		Do: func(ctx context.Context, _ jobs.Work) error { return s.Notices(ctx) },
	})
	return s
}

// ofExpenses are the files as core/expenses sees them.
func (f *files) ofExpenses() expenses.Receipts {
	if f == nil {
		return nil
	}
	return receiptFiles{f.attachments}
}

// receiptFiles is core/attachments as core/expenses sees it: neither knows the other.
type receiptFiles struct{ *attachments.Store }

// Attach satisfies expenses.Receipts.
func (r receiptFiles) Attach(ctx context.Context, tx pgx.Tx, user core.UserID, room string, ids []uuid.UUID) error {
	_, err := r.Store.Attach(ctx, tx, user, room, ids)
	return err
}
