package payments_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/core/payments"
	"github.com/mustermesh/muster/core/payments/local"
)

// crashes is a gateway under which the process dies: before a call, or after it and
// before anything of it was written down.
type crashes struct {
	payments.Gateway
	on    atomic.Bool
	died  atomic.Int64
	share float64
}

var errDied = errors.New("the process died")

type dieKey struct{}

// life is a process: a job runs in it, and what it is about to write is lost if it dies.
func (c *crashes) life(next func(context.Context, jobs.Work) error) func(context.Context, jobs.Work) error {
	return func(ctx context.Context, w jobs.Work) error {
		ctx, die := context.WithCancelCause(ctx)
		defer die(nil)
		err := next(context.WithValue(ctx, dieKey{}, die), w)
		if context.Cause(ctx) == errDied {
			if rand.IntN(2) == 0 {
				return nil // its job is lost with it: the schedule finds the payment
			}
			return jobs.Later(errDied, 10*time.Millisecond) // its lease runs out
		}
		return err
	}
}

func (c *crashes) maybe(ctx context.Context) {
	if die, ok := ctx.Value(dieKey{}).(context.CancelCauseFunc); ok && c.on.Load() && rand.Float64() < c.share {
		c.died.Add(1)
		die(errDied)
	}
}

func dying[T any](ctx context.Context, c *crashes, call func() (T, error)) (t T, err error) {
	c.maybe(ctx)
	if ctx.Err() != nil {
		return t, context.Cause(ctx)
	}
	t, err = call()
	c.maybe(ctx)
	return t, err
}

func (c *crashes) Create(ctx context.Context, i payments.Intent) (payments.State, error) {
	return dying(ctx, c, func() (payments.State, error) { return c.Gateway.Create(ctx, i) })
}

func (c *crashes) Confirm(ctx context.Context, i payments.Intent) (payments.State, error) {
	return dying(ctx, c, func() (payments.State, error) { return c.Gateway.Confirm(ctx, i) })
}

func (c *crashes) Get(ctx context.Context, id string) (payments.State, error) {
	return dying(ctx, c, func() (payments.State, error) { return c.Gateway.Get(ctx, id) })
}

func (c *crashes) Cancel(ctx context.Context, i payments.Intent) (payments.State, error) {
	return dying(ctx, c, func() (payments.State, error) { return c.Gateway.Cancel(ctx, i) })
}

func (c *crashes) Refund(ctx context.Context, intent string, r payments.Refund) (payments.RefundState, error) {
	return dying(ctx, c, func() (payments.RefundState, error) { return c.Gateway.Refund(ctx, intent, r) })
}

// again sends what webhooks said once more, some time later, in any order.
type again struct {
	mu   sync.Mutex
	seen []said
}

// said is a webhook as it came.
type said struct {
	header http.Header
	body   []byte
}

func (s said) again(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.Header, r.Body = s.header.Clone(), io.NopCloser(bytes.NewReader(s.body))
	return r
}

func (a *again) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		now := said{r.Header.Clone(), b}
		a.mu.Lock()
		a.seen = append(a.seen, now)
		old := a.seen[rand.IntN(len(a.seen))]
		a.mu.Unlock()
		next.ServeHTTP(w, now.again(r))
		if rand.IntN(5) == 0 {
			next.ServeHTTP(discard{}, old.again(r))
		}
	})
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// methods of a proof, and how many of a hundred pay by which.
var mix = map[string]int{
	"pm_card_visa": 45, "pm_local_slow": 10, "pm_card_chargeDeclined": 8, "pm_card_chargeDeclinedInsufficientFunds": 4, "pm_local_slowDecline": 6,
	"pm_card_authenticationRequired": 15, "pm_card_pendingRefund": 6, "pm_card_refundFail": 4, "nonsense_method": 2,
}

func draw(r *rand.Rand) string {
	n := r.IntN(100)
	for _, m := range []string{"pm_card_visa", "pm_local_slow", "pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds", "pm_local_slowDecline",
		"pm_card_authenticationRequired", "pm_card_pendingRefund", "pm_card_refundFail"} {
		if n -= mix[m]; n < 0 {
			return m
		}
	}
	return "nonsense_method"
}

// Payments by a gateway that loses a tenth of its webhooks, doubles a tenth and sends a
// tenth after later ones; whose calls fail, or aren't answered; while the process dies
// between steps, people answer their banks, cancel, and give back, and so does an
// operator at the gateway. In the end each payment is what the gateway says, its purpose
// was told so once, in a transaction with the ledger, and the ledger is right.
func TestEveryPaymentEndsRight(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("MUSTER_PROVE_PAYMENTS"))
	n = cmp.Or(n, 150)
	seed := rand.Uint64()
	t.Logf("%d payments, seed %d", n, seed)
	r := rand.New(rand.NewPCG(seed, 1))
	crash, repeat := &crashes{share: 0.05}, &again{}
	crash.on.Store(true)
	w := setup(t, options{
		there: local.Config{Slow: 100 * time.Millisecond, Resend: 100 * time.Millisecond, Chaos: local.Chaos{
			Lose: 0.1, Double: 0.1, Reorder: 0.1, Fail: 0.05, Cut: 0.05, Delay: 30 * time.Millisecond, Seed: seed,
		}},
		around: func(g payments.Gateway) payments.Gateway { crash.Gateway = g; return crash },
		hear:   repeat.before, do: crash.life,
	})

	people := make([]core.UserID, 20)
	for i := range people {
		people[i] = person()
	}
	type act struct {
		p payments.Payment
		r *rand.Rand
	}
	work := make(chan act)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for a := range work {
				w.life(a.p, a.r)
			}
		})
	}
	var all []payments.Payment
	for range n {
		r.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
		p := w.start(payments.Charge{User: people[0], To: people[1], Method: draw(r), Money: core.Money{Amount: 100 + r.Int64N(10_000), Currency: []core.Currency{"EUR", "JPY", "USD"}[r.IntN(3)]}})
		all = append(all, p)
		work <- act{p, rand.New(rand.NewPCG(seed, r.Uint64()))}
	}
	close(work)
	wg.Wait()

	// Time passes: what hangs is asked for, and who doesn't answer their bank expires.
	crash.on.Store(false)
	w.there.Quiet()
	w.settle()
	t.Logf("the process died %d times between steps", crash.died.Load())
	w.verify(all)
}

// life is what people do about a payment.
func (w *world) life(p payments.Payment, r *rand.Rand) {
	ctx := w.t.Context()
	what := r.IntN(100)
	for range 20 {
		d, err := w.Get(ctx, p.User, p.ID)
		if !assert.NoError(w.t, err) {
			return
		}
		switch {
		case what < 10 && !d.Status.Over():
			if _, err := w.Cancel(ctx, p.User, p.ID); err != nil {
				assert.ErrorIs(w.t, err, payments.ErrOver)
			}
			return
		case d.Status == payments.RequiresAction && d.Next.URL != "" && what < 80:
			answer := []string{"yes", "no"}[r.IntN(2)]
			if resp, err := http.PostForm(d.Next.URL, url.Values{"answer": {answer}}); err == nil {
				_ = resp.Body.Close()
			}
			what = 80
		case d.Status == payments.Succeeded && what < 45:
			amount := int64(0)
			if r.IntN(2) == 0 {
				amount = 1 + r.Int64N(p.Money.Amount)
			}
			if r.IntN(3) == 0 {
				intents, _ := w.there.Snapshot()
				for _, i := range intents[p.ID.String()] {
					if i.Status == "succeeded" {
						_ = w.there.RefundThere(i.ID, amount)
					}
				}
			} else if _, err := w.Refund(ctx, p.To, p.ID, amount); err != nil {
				assert.ErrorIs(w.t, err, payments.ErrRefundable)
			}
			what += 25 // perhaps once more
		case d.Status.Over():
			return
		}
		select {
		case <-time.After(time.Duration(r.IntN(30)) * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

// settle lets time pass until nothing is open.
func (w *world) settle() {
	deadline := time.Now().Add(5 * time.Minute)
	for round := 0; ; round++ {
		idle := func() bool {
			return w.count(`SELECT count(*) FROM jobs WHERE kind = 'payment' AND state <> 'dead'`) == 0
		}
		require.Eventually(w.t, idle, time.Until(deadline), 20*time.Millisecond)
		open := w.count(`SELECT count(*) FROM payments WHERE status IN ('created', 'requires_action', 'processing')`) + w.count(`SELECT count(*) FROM payment_refunds WHERE status = 'pending'`)
		if open == 0 && round >= 4 {
			return
		}
		require.True(w.t, time.Now().Before(deadline), "%d are open", open)
		w.advance(20 * time.Minute)
		if round == 8 {
			w.advance(24 * time.Hour)
		}
		require.NoError(w.t, w.CheckDue(w.t.Context()))
		require.NoError(w.t, w.AskMissed(w.t.Context()))
		<-time.After(200 * time.Millisecond) // what is slow at the gateway
	}
}

// verify compares all payments with the gateway's side, what was told, and the ledger.
func (w *world) verify(all []payments.Payment) {
	t := w.t
	intents, refunds := w.there.Snapshot()
	statuses := map[payments.Status]int{}
	type owed struct {
		book ledger.Book
		of   ledger.Account
		in   core.Currency
	}
	want := map[owed]int64{}
	add := func(book ledger.Book, debtor, creditor ledger.Account, m core.Money) {
		want[owed{book, debtor, m.Currency}] -= m.Amount
		want[owed{book, creditor, m.Currency}] += m.Amount
	}
	bounced := 0
	for _, p := range all {
		d, err := w.Get(t.Context(), p.User, p.ID)
		require.NoError(t, err)
		statuses[d.Status]++
		var paid *local.Intent
		for _, i := range intents[p.ID.String()] {
			// One that was given up before its intent was known has an intent that was never
			// confirmed, and takes no money.
			require.Contains(t, []string{"succeeded", "canceled", "requires_confirmation"}, i.Status, "payment %s", p.ID)
			if i.Status == "succeeded" {
				require.Nil(t, paid, "payment %s was paid twice", p.ID)
				paid = &i
			}
		}
		var told []string
		if paid == nil {
			require.Contains(t, []payments.Status{payments.Failed, payments.Canceled}, d.Status, "payment %s", p.ID)
			told = append(told, string(d.Status)+" 0")
		} else {
			require.True(t, d.Status.Paid(), "payment %s is %s, and was paid", p.ID, d.Status)
			told = append(told, "paid "+strconv.FormatInt(p.Money.Amount, 10))
			add(ledger.UserBook(p.User), ledger.Gateway("stripe"), ledger.Platform, p.Money) // through the payer
			add(ledger.UserBook(p.To), ledger.Platform, ledger.User(p.To), p.Money)
			add(group(p), ledger.Member(p.To), ledger.Member(p.User), p.Money)
			var back int64
			for _, re := range refunds[paid.ID] {
				if re.Status == "failed" && !wasTold(w, p, re.Amount) {
					continue // it failed before anybody heard that it had succeeded
				}
				m := core.Money{Amount: re.Amount, Currency: p.Money.Currency}
				back += m.Amount
				add(ledger.UserBook(p.User), ledger.Platform, ledger.Gateway("stripe"), m)
				add(ledger.UserBook(p.To), ledger.User(p.To), ledger.Platform, m)
				add(group(p), ledger.Member(p.User), ledger.Member(p.To), m)
				if re.Status == "failed" {
					bounced++
					add(ledger.UserBook(p.User), ledger.Gateway("stripe"), ledger.User(p.User), m)
				}
			}
			require.Equal(t, back, d.Refunded, "payment %s", p.ID)
			require.Equal(t, back == p.Money.Amount, d.Status == payments.Refunded, "payment %s", p.ID)
		}
		got := w.told(p.ID)
		if paid == nil {
			require.Equal(t, strings.Join(told, ", "), got, "payment %s", p.ID)
		} else {
			require.Equal(t, 1, strings.Count(got, "paid "), "payment %s: %s", p.ID, got)
			require.Equal(t, d.Refunded, w.count(`SELECT coalesce(sum(amount), 0)::BIGINT FROM told WHERE payment_id = $1 AND what = 'refunded'`, p.ID), "payment %s: %s", p.ID, got)
			require.Zero(t, w.count(`SELECT count(*) FROM told WHERE payment_id = $1 AND what NOT IN ('paid', 'refunded')`, p.ID), got)
		}
	}
	t.Logf("%v, %d refunds came back", statuses, bounced)

	report, err := w.books.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Faults)
	got := map[owed]int64{}
	require.NoError(t, w.db.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		clear(got)
		for _, h := range report.Heads {
			balances, err := w.books.Balances(ctx, q, h.Book)
			if err != nil {
				return err
			}
			for _, b := range balances {
				got[owed{h.Book, b.Account, b.Money.Currency}] += b.Money.Amount
			}
		}
		return nil
	}))
	for _, m := range []map[owed]int64{got, want} {
		for k, v := range m {
			if v == 0 {
				delete(m, k)
			}
		}
	}
	require.Equal(t, want, got, "the ledger agrees")
}

// wasTold reports whether a refund's success was told before it failed.
func wasTold(w *world, p payments.Payment, amount int64) bool {
	return w.count(`SELECT count(*) FROM told WHERE payment_id = $1 AND what = 'refunded' AND amount = $2`, p.ID, amount) > 0
}
