package subscriptions

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/users"
)

// world is a store with a gateway that is told what to say.
type world struct {
	*Store
	t     *testing.T
	db    *db.DB
	books *ledger.Store

	mu   sync.Mutex // guards the following
	time time.Time
	told []string // kinds of notifications
}

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.time
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.time = w.time.Add(d)
}

func (w *world) Notify(_ context.Context, _ pgx.Tx, _ core.UserID, kind string, _ map[string]any) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, kind)
	return nil
}

func (w *world) heard() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.told
	w.told = nil
	return list
}

// Charge and Return satisfy Gateway, by a table of the test's.
func (*world) Charge(ctx context.Context, tx pgx.Tx, o Order) error {
	_, err := tx.Exec(ctx, `INSERT INTO test_payments (id, charge, user_id, amount, currency, method, away, state) VALUES ($1, $2, $3, $4, $5, $6, $7, 'open')`,
		o.ID, o.Charge, o.User, o.Amount.Amount, o.Amount.Currency, o.Method, o.Away)
	return err
}

func (*world) Return(ctx context.Context, tx pgx.Tx, payment uuid.UUID) error {
	_, err := tx.Exec(ctx, `UPDATE test_payments SET state = 'returned' WHERE id = $1 AND state = 'paid'`, payment)
	return err
}

func setup(t *testing.T) *world { return setupOn(t, devdb.Test(t)) }

func setupOn(t *testing.T, d *db.DB) *world {
	w := &world{t: t, db: d, books: ledger.New(d, ledger.Config{}), time: start}
	w.Store = New(d, w.books, w, Config{Now: w.clock, Notify: w, Changed: users.Changed})
	w.exec(`CREATE TABLE test_payments (id UUID PRIMARY KEY, charge UUID NOT NULL, user_id UUID NOT NULL, amount BIGINT NOT NULL, currency TEXT NOT NULL,
		method TEXT NOT NULL, away BOOLEAN NOT NULL, state TEXT NOT NULL)`)
	w.exec(`CREATE UNIQUE INDEX test_payments_one ON test_payments (charge) WHERE state = 'open'`)
	w.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', '')`)
	w.exec(`INSERT INTO plans (id, name, rank, months, features) VALUES ('yearly', 'Yearly', 5, 12, '{"upload_bytes": 5, "badge": true}')`)
	w.exec(`INSERT INTO plan_prices (plan_id, currency, amount) VALUES ('yearly', 'EUR', 3000)`)
	return w
}

func (w *world) tx(fn func(ctx context.Context, tx pgx.Tx) error) error {
	return w.db.InTx(context.WithoutCancel(w.t.Context()), pgx.TxOptions{}, fn)
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	require.NoError(w.t, w.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

func (w *world) number(sql string, args ...any) (n int64) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read(w.t.Context(), func(ctx context.Context, q db.Querier) error { return q.QueryRow(ctx, sql, args...).Scan(&n) }))
	return n
}

func (w *world) user() core.UserID {
	id := core.UserID(uuid.New())
	w.exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, id.String())
	return id
}

func (w *world) subscribe(user core.UserID, plan string) Subscription {
	w.t.Helper()
	s, err := w.Subscribe(w.t.Context(), user, plan, "pm_"+plan, "")
	require.NoError(w.t, err)
	return s
}

func (w *world) get(user core.UserID) Subscription {
	w.t.Helper()
	s, err := w.Get(w.t.Context(), user)
	require.NoError(w.t, err)
	return s
}

// later has time go on, and done what is due.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.advance(d)
	require.NoError(w.t, w.RenewDue(w.t.Context()))
}

// settle says what becomes of a user's payment, and returns it.
func (w *world) settle(user core.UserID, ok bool) (p Payment, amount int64) {
	w.t.Helper()
	require.NoError(w.t, w.tx(func(ctx context.Context, tx pgx.Tx) error {
		p.User = user
		if err := tx.QueryRow(ctx, `SELECT id, charge, amount, method FROM test_payments WHERE user_id = $1 AND state = 'open'`, user).Scan(&p.ID, &p.Charge, &amount, &p.Method); err != nil {
			return err
		}
		return w.outcome(ctx, tx, p, ok)
	}))
	return p, amount
}

func (w *world) outcome(ctx context.Context, tx pgx.Tx, p Payment, ok bool) error {
	state := "failed"
	if ok {
		state = "paid"
	}
	if _, err := tx.Exec(ctx, `UPDATE test_payments SET state = $2 WHERE id = $1`, p.ID, state); err != nil {
		return err
	}
	if ok {
		return w.Store.Paid(ctx, tx, p)
	}
	return w.Store.Failed(ctx, tx, p)
}

// owed is what a user owes the platform by their book.
func (w *world) owed(user core.UserID) (m core.Money) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read(w.t.Context(), func(ctx context.Context, q db.Querier) (err error) {
		m, err = w.books.Debt(ctx, q, ledger.UserBook(user), ledger.User(user), ledger.Platform, "EUR")
		return err
	}))
	return m
}

func (w *world) limit(user core.UserID, feature string) int64 {
	w.t.Helper()
	n, ok, err := w.Entitlements().Limit(w.t.Context(), user, feature)
	require.NoError(w.t, err)
	require.True(w.t, ok)
	return n
}

const gib = 1 << 30

func TestTrialRenewalAndEnd(t *testing.T) {
	w := setup(t)
	ana := w.user()
	require.Equal(t, None, w.get(ana).Status())
	require.Equal(t, int64(2*gib), w.limit(ana, UploadBytes))

	s := w.subscribe(ana, "plus")
	require.Equal(t, Trialing, s.Status())
	require.Equal(t, start.Add(14*day), s.Span.Ends)
	require.Equal(t, int64(20*gib), w.limit(ana, UploadBytes), "at once")
	w.later(13 * day)
	require.Zero(t, w.number(`SELECT count(*) FROM test_payments`))

	w.later(day)
	require.NoError(t, w.RenewDue(t.Context()), "again changes nothing")
	require.Equal(t, int64(1), w.number(`SELECT count(*) FROM test_payments WHERE NOT away AND method = 'pm_plus'`), "it is to be saved")
	require.Equal(t, int64(20*gib), w.limit(ana, UploadBytes), "while nobody knows")
	paid, amount := w.settle(ana, true)
	require.Equal(t, int64(399), amount)
	s = w.get(ana)
	require.Equal(t, Active, s.Status())
	require.Equal(t, time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC), s.Span.Ends)
	require.Equal(t, core.Money{Amount: 399, Currency: "EUR"}, w.owed(ana))
	require.Equal(t, []string{"subscription_renewed"}, w.heard())
	require.NoError(t, w.tx(func(ctx context.Context, tx pgx.Tx) error { return w.Paid(ctx, tx, paid) }), "told twice")
	require.Equal(t, int64(399), w.owed(ana).Amount)

	s, err := w.Cancel(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, Canceled, s.Status())
	s, err = w.Resume(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, Active, s.Status())
	_, err = w.Subscribe(t.Context(), ana, Free, "", "")
	require.NoError(t, err, "free is to cancel")
	require.Equal(t, int64(20*gib), w.limit(ana, UploadBytes), "it is paid for")
	w.later(40 * day)
	require.Equal(t, Expired, w.get(ana).Status())
	require.Equal(t, int64(2*gib), w.limit(ana, UploadBytes))
	require.Equal(t, []string{"subscription_ended"}, w.heard())
	_, err = w.Resume(t.Context(), ana)
	require.ErrorIs(t, err, ErrNone)

	s = w.subscribe(ana, "plus")
	require.Equal(t, Incomplete, s.Status(), "no second trial")
	require.Equal(t, int64(2*gib), w.limit(ana, UploadBytes))
	w.settle(ana, true)
	require.Equal(t, int64(2), w.get(ana).Period)
	require.Equal(t, int64(798), w.owed(ana).Amount)
	require.Equal(t, int64(20*gib), w.limit(ana, UploadBytes))
}

func TestDunning(t *testing.T) {
	w := setup(t)
	ana, ben := w.user(), w.user()
	for _, user := range []core.UserID{ana, ben} {
		require.Equal(t, Incomplete, w.subscribe(user, "pro").Status())
		w.settle(user, true)
	}
	require.Empty(t, w.heard())
	w.later(28 * day) // until the last day of February
	require.Equal(t, int64(2), w.number(`SELECT count(*) FROM test_payments WHERE state = 'open' AND away`))
	for i, wait := range []time.Duration{day, 2 * day, 4 * day} {
		w.settle(ana, false)
		w.settle(ben, false)
		s := w.get(ana)
		require.Equal(t, PastDue, s.Status())
		require.Equal(t, w.clock().Add(wait), s.Charge.NextTry)
		require.Equal(t, int64(1000), w.limit(ana, GroupMembers), "it stays while it is tried")
		w.later(wait - time.Second)
		require.Zero(t, w.number(`SELECT count(*) FROM test_payments WHERE state = 'open'`))
		w.later(time.Second)
		require.Equal(t, int64(i+2), w.get(ana).Charge.Attempts)
	}
	w.settle(ana, false)
	s := w.get(ana)
	require.Equal(t, Expired, s.Status())
	require.Equal(t, int64(250), w.limit(ana, GroupMembers))
	require.Equal(t, int64(999), w.owed(ana).Amount, "what was not paid is not owed")

	// Another way to pay is tried at once, but not beside one that is under way.
	w.settle(ben, false)
	require.Equal(t, Expired, w.get(ben).Status())
	w.subscribe(ben, "pro")
	_, err := w.Subscribe(t.Context(), ben, "pro", "pm_other", "")
	require.ErrorIs(t, err, ErrPending)
	w.settle(ben, true)
	w.later(31 * day)
	w.settle(ben, false)
	s, err = w.Subscribe(t.Context(), ben, "pro", "pm_other", "")
	require.NoError(t, err)
	require.NotZero(t, s.Charge.Trying)
	require.Equal(t, int64(1), w.number(`SELECT count(*) FROM test_payments WHERE state = 'open' AND method = 'pm_other' AND NOT away`))
	w.settle(ben, true)
	require.Equal(t, Active, w.get(ben).Status())
	require.Equal(t, int64(3*999), w.owed(ben).Amount)
}

func TestPlanChanges(t *testing.T) {
	w := setup(t)
	ana := w.user()
	w.exec(`UPDATE plans SET trial_days = 0`)
	w.subscribe(ana, "plus")
	w.settle(ana, true)
	w.advance(14 * day) // half of February
	w.subscribe(ana, "pro")
	require.Equal(t, "plus", w.get(ana).Terms.Plan, "until it is paid")
	_, amount := w.settle(ana, false)
	require.Equal(t, int64(999-200), amount, "199.5 are left, rounded in her favour")
	require.Equal(t, Active, w.get(ana).Status(), "it stays as it was")
	require.Equal(t, []string{"subscription_payment_failed"}, w.heard())
	w.subscribe(ana, "pro")
	w.settle(ana, true)
	s := w.get(ana)
	require.Equal(t, "pro", s.Terms.Plan)
	require.Equal(t, w.clock().AddDate(0, 1, 0), s.Span.Ends)
	require.Equal(t, int64(399+799), w.owed(ana).Amount)

	s = w.subscribe(ana, "plus")
	require.Equal(t, "plus", s.Next.Plan, "a cheaper one comes with the next period")
	require.Equal(t, int64(200*gib), w.limit(ana, UploadBytes))
	w.later(31 * day)
	_, amount = w.settle(ana, true)
	require.Equal(t, int64(399), amount)
	require.Equal(t, int64(20*gib), w.limit(ana, UploadBytes))

	w.subscribe(ana, "yearly") // of a lower rank
	w.later(31 * day)
	_, amount = w.settle(ana, true)
	require.Equal(t, int64(3000), amount)
	s = w.get(ana)
	require.Equal(t, s.Span.Starts.AddDate(1, 0, 0), s.Span.Ends)
	ok, err := w.Entitlements().Allows(t.Context(), ana, "badge")
	require.NoError(t, err)
	require.True(t, ok)

	_, err = w.Subscribe(t.Context(), ana, "pro", "pm_x", "USD")
	require.ErrorIs(t, err, ErrOtherCurrency)
	_, err = w.Subscribe(t.Context(), ana, "pro", "pm_x", "KWD")
	require.ErrorIs(t, err, ErrNotOffered)
	_, err = w.Subscribe(t.Context(), ana, "gold", "pm_x", "")
	require.ErrorIs(t, err, ErrNoPlan)
	_, err = w.Subscribe(t.Context(), ana, "pro", "", "")
	require.ErrorIs(t, err, ErrBadMethod)
	_, err = w.Cancel(t.Context(), w.user())
	require.ErrorIs(t, err, ErrNone)
}

// All that was paid for the period goes back: it ends now, and nothing of it is owed.
func TestRefund(t *testing.T) {
	w := setup(t)
	ana := w.user()
	w.subscribe(ana, "pro")
	p, _ := w.settle(ana, true)
	refund := func(total int64) {
		p.Refunded = total
		require.NoError(t, w.tx(func(ctx context.Context, tx pgx.Tx) error { return w.Refunded(ctx, tx, p, uuid.New()) }))
	}
	refund(100)
	refund(100) // told twice
	require.Equal(t, Active, w.get(ana).Status())
	require.Equal(t, int64(899), w.owed(ana).Amount)
	refund(0) // the bank sent it back
	require.Equal(t, int64(999), w.owed(ana).Amount)
	w.advance(day)
	refund(999)
	s := w.get(ana)
	require.Equal(t, Expired, s.Status())
	require.Equal(t, w.clock(), s.Span.Ends)
	require.Zero(t, w.owed(ana).Amount)
	require.Equal(t, int64(2*gib), w.limit(ana, UploadBytes))
}

// Nobody is charged after they ended their account; what comes in spite of it goes
// back.
func TestAccountsThatEnded(t *testing.T) {
	w := setup(t)
	ana := w.user()
	w.subscribe(ana, "pro")
	w.settle(ana, true)
	w.exec(`UPDATE users SET deleted_at = now() WHERE id = $1`, ana)
	w.later(40 * day)
	require.Zero(t, w.number(`SELECT count(*) FROM test_payments WHERE state = 'open'`))
	late := Payment{ID: uuid.New(), Charge: uuid.New(), User: ana}
	w.exec(`INSERT INTO test_payments (id, charge, user_id, amount, currency, method, away, state) VALUES ($1, $2, $3, 999, 'EUR', 'x', true, 'open')`, late.ID, late.Charge, ana)
	require.NoError(t, w.tx(func(ctx context.Context, tx pgx.Tx) error { return w.outcome(ctx, tx, late, true) }))
	require.Equal(t, int64(1), w.number(`SELECT count(*) FROM test_payments WHERE id = $1 AND state = 'returned'`, late.ID))
}

// A node remembers what somebody may do, until it hears of a change.
func TestEntitlementsOfAnotherNode(t *testing.T) {
	w := setup(t)
	ana := w.user()
	other := New(w.db, w.books, w, Config{Now: w.clock, Changed: users.Changed}).Entitlements()
	limit := func() int64 {
		n, _, err := other.Limit(t.Context(), ana, UploadBytes)
		require.NoError(t, err)
		return n
	}
	require.Equal(t, int64(2*gib), limit())
	w.subscribe(ana, "plus")
	require.Equal(t, int64(2*gib), limit(), "it has not heard")
	version := uint64(w.number(`SELECT profile_version FROM users WHERE id = $1`, ana))
	other.Changed(ana, version)
	require.Equal(t, int64(20*gib), limit())
	other.Changed(ana, version-1) // late
	require.Equal(t, int64(20*gib), limit())
	require.Equal(t, int64(1), w.number(`SELECT count(*) FROM outbox WHERE kind = 'subscription.updated'`))
}
