package subscriptions

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/internal/errs"
)

// People do whatever they like, clocks jump, several nodes renew at once and are
// killed in the middle of it, connections break between a COMMIT and its answer, and
// the gateway answers late, twice, and the other way around: each period that was
// begun has exactly one charge that was paid, all other money went back, and the
// books say so.
func TestOneChargePerPeriod(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("MUSTER_PROVE_SUBSCRIPTIONS"))
	n = cmp.Or(n, 600)
	seed := rand.Uint64()
	t.Logf("%d operations, seed %d", n, seed)
	var armed atomic.Bool
	faults := &devdb.Faults{Decide: func(commit bool) devdb.Cut {
		switch {
		case !armed.Load() || !commit:
		case rand.IntN(20) == 0:
			return devdb.CutAnswered
		case rand.IntN(40) == 0:
			return devdb.CutLost
		}
		return devdb.Spare
	}}
	w := setupOn(t, devdb.Connect(t, devdb.TestURL(t), db.Config{Dial: faults.Dial}))
	var people []core.UserID
	for range 12 {
		people = append(people, w.user())
	}
	plans := []string{"plus", "pro", "yearly", "free"}
	fine := func(err error) {
		if err == nil || errors.Is(err, context.Canceled) {
			return
		}
		e, told := errs.From(err)
		assert.True(t, told, "%v", err)
		assert.NotEqual(t, errs.Internal, e.Kind)
	}
	act := func(r *rand.Rand) {
		user := people[r.IntN(len(people))]
		ctx := context.WithoutCancel(t.Context())
		switch k := r.IntN(100); {
		case k < 12:
			_, err := w.Subscribe(ctx, user, plans[r.IntN(len(plans))], "pm_"+strconv.Itoa(k), "")
			fine(err)
		case k < 15:
			_, err := w.Cancel(ctx, user)
			fine(err)
		case k < 18:
			_, err := w.Resume(ctx, user)
			fine(err)
		case k < 30: // time goes on; now and then a clock is set
			d := time.Duration(r.IntN(72)) * time.Hour
			switch r.IntN(15) {
			case 0:
				d = -30 * day
			case 1:
				d = 120 * day
			}
			w.advance(d)
		case k < 50: // a node renews; some are killed meanwhile
			ctx, kill := context.WithCancel(ctx)
			defer kill()
			if r.IntN(3) == 0 {
				time.AfterFunc(time.Duration(r.IntN(20))*time.Millisecond, kill)
			}
			fine(w.RenewDue(ctx))
		default: // the gateway tells of a payment; mostly of one that is open
			fine(w.tx(func(ctx context.Context, tx pgx.Tx) error {
				p, state := Payment{}, ""
				err := tx.QueryRow(ctx, `SELECT id, charge, user_id, state FROM test_payments WHERE state = 'open' OR $1 ORDER BY random() LIMIT 1`, r.IntN(5) == 0).
					Scan(&p.ID, &p.Charge, &p.User, &state)
				switch {
				case errors.Is(err, pgx.ErrNoRows):
					return nil
				case err != nil:
					return err
				case state == "paid" || state == "returned": // told again
					return w.Paid(ctx, tx, p)
				}
				return w.outcome(ctx, tx, p, r.IntN(3) > 0) // one that had failed, too
			}))
		}
	}
	armed.Store(true)
	var wg sync.WaitGroup
	for i := range 6 {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for range n / 6 {
				act(r)
			}
		})
	}
	wg.Wait()
	armed.Store(false)

	paid := w.number(`SELECT count(*) FROM test_payments WHERE state = 'paid'`)
	t.Logf("%d connections were cut; %d payments, %d paid, %d returned, %d failed", faults.Cuts(), w.number(`SELECT count(*) FROM test_payments`),
		paid, w.number(`SELECT count(*) FROM test_payments WHERE state = 'returned'`), w.number(`SELECT count(*) FROM test_payments WHERE state = 'failed'`))
	require.Greater(t, paid, int64(n/60))
	require.Positive(t, faults.Cuts())
	require.Equal(t, paid, w.number(`SELECT count(*) FROM subscription_charges WHERE state = 'paid' AND amount > 0`), "money that is kept is for a charge, and each charge was paid once")
	require.Zero(t, w.number(`SELECT count(*) FROM test_payments p WHERE p.state = 'paid'
		AND NOT EXISTS (SELECT 1 FROM subscription_charges c WHERE c.payment_id = p.id AND c.amount = p.amount AND c.id = p.charge AND c.state = 'paid')`))
	require.Zero(t, w.number(`SELECT count(*) FROM subscriptions s
		WHERE s.period <> (SELECT count(*) FROM subscription_charges c WHERE c.user_id = s.user_id AND c.state = 'paid')
		   OR s.period <> (SELECT coalesce(max(c.period), 0) FROM subscription_charges c WHERE c.user_id = s.user_id AND c.state = 'paid')`), "periods are dense, and each has its charge")
	require.Zero(t, w.number(`SELECT count(*) FROM test_payments p WHERE p.state = 'open' AND NOT EXISTS (SELECT 1 FROM subscription_charges c WHERE c.trying = p.id)
		AND EXISTS (SELECT 1 FROM subscription_charges c WHERE c.id = p.charge AND c.state = 'open')`), "what is under way is known")
	// A period begins where the one before it ends, or later; an upgrade ends that one.
	require.Zero(t, w.number(`SELECT count(*) FROM subscription_charges a JOIN subscription_charges b ON b.user_id = a.user_id AND b.period = a.period + 1
		WHERE a.state = 'paid' AND b.state = 'paid' AND b.starts_at < a.ends_at AND b.amount = b.price AND b.price > 0 AND b.created_at >= a.ends_at`))
	for _, user := range people {
		require.Equal(t, w.number(`SELECT coalesce(sum(amount), 0)::BIGINT FROM test_payments WHERE user_id = $1 AND state = 'paid'`, user), w.owed(user).Amount)
	}
	report, err := w.books.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Faults)
}
