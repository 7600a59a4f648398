package payments_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/payments"
	"github.com/mustermesh/muster/core/payments/local"
	"github.com/mustermesh/muster/core/payments/stripe"
	"github.com/mustermesh/muster/internal/errs"
)

// world is a Store with its database, its jobs, and a gateway that tells it things over
// HTTP.
type world struct {
	*payments.Store
	t      *testing.T
	db     *db.DB
	books  *ledger.Store
	there  *local.Server
	stripe *stripe.Gateway
	hook   *httptest.Server
	queue  *jobs.Queue
	offset atomic.Int64 // by which the clock is ahead
}

func (w *world) clock() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

func (w *world) advance(d time.Duration) { w.offset.Add(int64(d)) }

// options of a world.
type options struct {
	there local.Config
	// around stands between the Store and its gateway.
	around func(payments.Gateway) payments.Gateway
	// hear stands before the webhook's handler.
	hear func(http.Handler) http.Handler
	do   func(next func(context.Context, jobs.Work) error) func(context.Context, jobs.Work) error
}

func setup(t *testing.T, o options) *world {
	w := &world{t: t, db: devdb.Test(t)}
	w.exec(`CREATE TABLE told (payment_id UUID NOT NULL, what TEXT NOT NULL, amount BIGINT NOT NULL)`)
	w.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', '')`)
	w.books = ledger.New(w.db, ledger.Config{})
	var handler http.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err == nil {
			err = w.Hook(r.Context(), "stripe", r.Header, body)
		}
		if e, ok := errors.AsType[*errs.Error](err); ok {
			rw.WriteHeader(int(e.Kind))
		} else if err != nil {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	})
	if o.hear != nil {
		handler = o.hear(handler)
	}
	w.hook = httptest.NewServer(handler)
	t.Cleanup(w.hook.Close)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	o.there.Webhook = w.hook.URL
	w.there, err = local.New(l, o.there)
	require.NoError(t, err)
	require.NoError(t, w.there.Start(t.Context()))
	t.Cleanup(w.there.Stop)
	w.stripe, err = stripe.New(stripe.Config{Key: w.there.Key(), Secrets: []string{"whsec_old", w.there.Secret()}, URL: w.there.URL(), Return: "https://app.example.org/"})
	require.NoError(t, err)
	var gateway payments.Gateway = w.stripe
	if o.around != nil {
		gateway = o.around(gateway)
	}
	w.Store = payments.New(w.db, w.books, gateway, payments.Config{Now: w.clock})
	w.For("settlement", settles{w.books})

	w.queue = jobs.New(w.db, jobs.Config{})
	do := w.Do
	if o.do != nil {
		do = o.do(do)
	}
	w.queue.Handle(payments.Job, jobs.Handler{Do: do, Workers: 8})
	require.NoError(t, w.queue.Start(t.Context()))
	t.Cleanup(w.queue.Stop)
	return w
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	require.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

// count is the number that a query answers.
func (w *world) count(sql string, args ...any) (n int64) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read(w.t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, sql, args...).Scan(&n)
	}))
	return n
}

// start begins a payment.
func (w *world) start(c payments.Charge) payments.Payment {
	w.t.Helper()
	p, err := w.begin(c)
	require.NoError(w.t, err)
	return p
}

func (w *world) begin(c payments.Charge) (p payments.Payment, err error) {
	if c.Kind == "" {
		c.Kind = "settlement"
	}
	if c.Ref == uuid.Nil {
		c.Ref = uuid.New()
	}
	if c.Money == (core.Money{}) {
		c.Money = core.Money{Amount: 1240, Currency: "EUR"}
	}
	err = w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) (err error) {
		p, err = w.Start(ctx, tx, c)
		return err
	})
	return p, err
}

// until waits for a payment to be as is wanted.
func (w *world) until(p payments.Payment, ok func(payments.Details) bool) (d payments.Details) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		var err error
		d, err = w.Get(w.t.Context(), p.User, p.ID)
		require.NoError(w.t, err)
		if ok(d) {
			return d
		}
		require.True(w.t, time.Now().Before(deadline), "%+v", d)
		<-time.After(10 * time.Millisecond)
	}
}

func (w *world) become(p payments.Payment, s payments.Status) payments.Details {
	w.t.Helper()
	return w.until(p, func(d payments.Details) bool { return d.Status == s })
}

// told is what a payment's purpose was told, in order of time as far as that matters.
func (w *world) told(id uuid.UUID) (what string) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read(w.t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT coalesce(string_agg(what || ' ' || CAST(amount AS TEXT), ', ' ORDER BY what, amount), '') FROM told WHERE payment_id = $1`, id).Scan(&what)
	}))
	return what
}

// balance is what an account of a book is owed, less what it owes.
func (w *world) balance(book ledger.Book, a ledger.Account) (sum int64) {
	w.t.Helper()
	require.NoError(w.t, w.db.Read(w.t.Context(), func(ctx context.Context, q db.Querier) error {
		sum = 0
		list, err := w.books.Balances(ctx, q, book)
		for _, b := range list {
			if b.Account == a {
				sum += b.Money.Amount
			}
		}
		return err
	}))
	return sum
}

// settles is a purpose as core/expenses is one: a settlement is posted when it is paid,
// into a book of its own. It writes down each time it is told something.
type settles struct{ books *ledger.Store }

func told(ctx context.Context, tx pgx.Tx, p payments.Payment, what string, amount int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO told (payment_id, what, amount) VALUES ($1, $2, $3)`, p.ID, what, amount)
	return err
}

func group(p payments.Payment) ledger.Book { return ledger.GroupBook(core.GroupID(p.Ref)) }

func (s settles) Paid(ctx context.Context, tx pgx.Tx, p payments.Payment) error {
	if _, err := s.books.Post(ctx, tx, group(p), ledger.Entry{ID: uuid.New(), Kind: "settlement", Ref: p.Ref,
		Lines: []ledger.Line{{Debtor: ledger.Member(p.To), Creditor: ledger.Member(p.User), Money: p.Money}}}); err != nil {
		return err
	}
	return told(ctx, tx, p, "paid", p.Money.Amount)
}

func (s settles) Failed(ctx context.Context, tx pgx.Tx, p payments.Payment) error {
	return told(ctx, tx, p, string(p.Status), 0)
}

func (s settles) Refunded(ctx context.Context, tx pgx.Tx, p payments.Payment, r payments.Refund) error {
	if _, err := s.books.Post(ctx, tx, group(p), ledger.Entry{ID: uuid.New(), Kind: "refund", Ref: p.Ref,
		Lines: []ledger.Line{{Debtor: ledger.Member(p.User), Creditor: ledger.Member(p.To), Money: r.Money}}}); err != nil {
		return err
	}
	return told(ctx, tx, p, "refunded", r.Money.Amount)
}

func person() core.UserID { return core.UserID(uuid.New()) }
