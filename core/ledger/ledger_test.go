package ledger_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/ledger"
)

var (
	ana = ledger.Member(core.UserID{1})
	bob = ledger.Member(core.UserID{2})
	eve = ledger.Member(core.UserID{3})
	me  = core.UserID{1}
)

type bundle struct {
	*ledger.Store
	t    *testing.T
	db   *db.DB
	book ledger.Book
	time time.Time
}

func setup(t *testing.T) *bundle {
	b := &bundle{t: t, db: devdb.Test(t), book: ledger.GroupBook(core.GroupID(uuid.New())), time: time.Date(2026, 11, 23, 8, 0, 0, 123456789, time.UTC)}
	b.Store = ledger.New(b.db, ledger.Config{Now: func() time.Time { return b.time }})
	return b
}

func eur(n int64) core.Money { return core.Money{Amount: n, Currency: "EUR"} }

func entry(lines ...ledger.Line) ledger.Entry {
	return ledger.Entry{ID: uuid.New(), Kind: "expense", Ref: uuid.New(), By: me, Lines: lines}
}

func (b *bundle) post(entries ...ledger.Entry) (list []ledger.Transaction, err error) {
	err = b.InTurn(b.t.Context(), b.book, func(ctx context.Context, tx pgx.Tx) (err error) {
		list, err = b.Post(ctx, tx, b.book, entries...)
		return err
	})
	return list, err
}

func (b *bundle) reverse(id uuid.UUID) (list []ledger.Transaction, err error) {
	err = b.InTurn(b.t.Context(), b.book, func(ctx context.Context, tx pgx.Tx) error {
		e, err := b.Reverse(ctx, tx, b.book, id, me)
		if err == nil {
			list, err = b.Post(ctx, tx, b.book, e)
		}
		return err
	})
	return list, err
}

func (b *bundle) read(f func(ctx context.Context, q db.Querier) error) {
	b.t.Helper()
	require.NoError(b.t, b.db.Read(b.t.Context(), f))
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

func (b *bundle) debts() (list []ledger.Debt) {
	b.t.Helper()
	b.read(func(ctx context.Context, q db.Querier) (err error) {
		list, err = b.Debts(ctx, q, b.book)
		return err
	})
	return list
}

func (b *bundle) faults() []string {
	b.t.Helper()
	r, err := b.Verify(b.t.Context(), b.book)
	require.NoError(b.t, err)
	var out []string
	for _, f := range r.Faults {
		require.Equal(b.t, b.book, f.Book)
		out = append(out, f.What)
	}
	return out
}

func TestPost(t *testing.T) {
	b := setup(t)
	lunch := entry(ledger.Line{bob, ana, eur(1240)}, ledger.Line{eve, ana, eur(1240)})
	list, err := b.post(lunch, entry())
	require.NoError(t, err)
	require.Len(t, list, 2)
	require.Equal(t, []int64{1, 2}, []int64{list[0].Seq, list[1].Seq})
	require.Equal(t, lunch, list[0].Entry)
	require.Equal(t, b.time.Truncate(time.Microsecond), list[0].At)
	require.NotEqual(t, list[0].Hash, list[1].Hash)

	// Half of it is paid back, in another currency she owes something, and the kitty.
	_, err = b.post(entry(ledger.Line{ana, bob, eur(620)}, ledger.Line{ana, bob, core.Money{Amount: 7, Currency: "JPY"}}, ledger.Line{eve, ledger.Wallet, eur(1)}))
	require.NoError(t, err)
	require.Equal(t, []ledger.Debt{
		{ana, bob, eur(-620)}, {ana, eve, eur(-1240)}, {eve, ledger.Wallet, eur(1)}, {ana, bob, core.Money{Amount: 7, Currency: "JPY"}},
	}, b.debts())
	b.read(func(ctx context.Context, q db.Querier) error {
		balances, err := b.Balances(ctx, q, b.book)
		require.NoError(t, err)
		require.Equal(t, []ledger.Balance{
			{ana, eur(1860)}, {bob, eur(-620)}, {eve, eur(-1241)}, {ledger.Wallet, eur(1)},
			{ana, core.Money{Amount: -7, Currency: "JPY"}}, {bob, core.Money{Amount: 7, Currency: "JPY"}},
		}, balances)
		for who, want := range map[[2]ledger.Account]int64{{bob, ana}: 620, {ana, bob}: -620, {bob, eve}: 0} {
			m, err := b.Debt(ctx, q, b.book, who[0], who[1], "EUR")
			require.NoError(t, err)
			require.Equal(t, eur(want), m)
		}
		got, err := b.Get(ctx, q, b.book, lunch.ID)
		require.NoError(t, err)
		require.Equal(t, list[0], got)
		all, err := b.Since(ctx, q, b.book, 0, 2)
		require.NoError(t, err)
		require.Equal(t, list, all)
		all, err = b.Since(ctx, q, b.book, 2, 10)
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.Len(t, all[0].Lines, 3)
		_, err = b.Get(ctx, q, b.book, uuid.New())
		require.ErrorIs(t, err, ledger.ErrNoTransaction)
		_, err = b.Get(ctx, q, ledger.UserBook(me), lunch.ID)
		require.ErrorIs(t, err, ledger.ErrNoTransaction, "it is in another book")
		return nil
	})
	require.Empty(t, b.faults())
}

// What can't be is refused, and nothing of it is written.
func TestRefused(t *testing.T) {
	b := setup(t)
	_, err := b.post(entry(ledger.Line{bob, ana, eur(core.MaxAmount)}))
	require.NoError(t, err)
	for name, x := range map[string]struct {
		e    ledger.Entry
		want error
	}{
		"nothing":            {entry(ledger.Line{bob, ana, eur(0)}), core.ErrAmount},
		"less than nothing":  {entry(ledger.Line{bob, ana, eur(-1)}), core.ErrAmount},
		"too much":           {entry(ledger.Line{eve, ana, eur(core.MaxAmount + 1)}), core.ErrAmount},
		"too much in all":    {entry(ledger.Line{bob, ana, eur(1)}), core.ErrAmount},
		"too much at once":   {entry(ledger.Line{eve, ana, eur(core.MaxAmount)}, ledger.Line{eve, ana, eur(1)}), core.ErrAmount},
		"no such currency":   {entry(ledger.Line{bob, ana, core.Money{Amount: 1, Currency: "ABC"}}), core.ErrCurrency},
		"to oneself":         {entry(ledger.Line{bob, bob, eur(1)}), nil},
		"to nobody":          {entry(ledger.Line{bob, "", eur(1)}), nil},
		"without an id":      {ledger.Entry{Kind: "expense"}, nil},
		"without a kind":     {ledger.Entry{ID: uuid.New()}, nil},
		"a name too long":    {entry(ledger.Line{bob, ledger.Account(strings.Repeat("x", 101)), eur(1)}), nil},
		"the second is none": {entry(ledger.Line{eve, bob, eur(1)}, ledger.Line{bob, ana, eur(0)}), core.ErrAmount},
	} {
		_, err := b.post(x.e)
		require.Error(t, err, name)
		if x.want != nil {
			require.ErrorIs(t, err, x.want, name)
		}
	}
	require.Equal(t, []ledger.Debt{{ana, bob, eur(-core.MaxAmount)}}, b.debts())
	_, err = b.post(entry(ledger.Line{ana, bob, eur(1)}), entry(ledger.Line{bob, ana, eur(1)}))
	require.NoError(t, err, "what it comes to is in range")
	require.Empty(t, b.faults())

	// The database refuses by itself what would be half of something.
	for _, bad := range []string{`'x', 'x', 'EUR', 1`, `'x', 'y', 'EUR', 0`, `'x', 'y', 'EUR', -1`, `'x', NULL, 'EUR', 1`} {
		err := b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO ledger_postings (book, seq, line, debtor, creditor, currency, amount) VALUES ('b', 1, 0, `+bad+`)`)
			return err
		})
		require.Error(t, err, bad)
	}
}

func TestReverse(t *testing.T) {
	b := setup(t)
	lunch := entry(ledger.Line{bob, ana, eur(1240)}, ledger.Line{eve, ana, eur(620)})
	_, err := b.post(lunch)
	require.NoError(t, err)
	list, err := b.reverse(lunch.ID)
	require.NoError(t, err)
	require.Equal(t, &lunch.ID, list[0].Reverses)
	require.Equal(t, []ledger.Line{{ana, bob, eur(1240)}, {ana, eve, eur(620)}}, list[0].Lines)
	require.Equal(t, lunch.Ref, list[0].Ref)
	require.Empty(t, b.debts())

	_, err = b.reverse(lunch.ID)
	require.ErrorIs(t, err, ledger.ErrReversed)
	_, err = b.reverse(uuid.New())
	require.ErrorIs(t, err, ledger.ErrNoTransaction)
	_, err = b.reverse(list[0].ID)
	require.NoError(t, err, "what takes something back can be taken back")
	require.Equal(t, []ledger.Debt{{ana, bob, eur(-1240)}, {ana, eve, eur(-620)}}, b.debts())

	// Of many at once one takes it back.
	dinner := entry(ledger.Line{bob, ana, eur(1)})
	_, err = b.post(dinner)
	require.NoError(t, err)
	var wg sync.WaitGroup
	var done, refused atomic.Int32
	for range 8 {
		wg.Go(func() {
			_, err := b.reverse(dinner.ID)
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, ledger.ErrReversed):
				refused.Add(1)
			default:
				t.Errorf("reverse: %v", err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, []int32{1, 7}, []int32{done.Load(), refused.Load()})
	require.Empty(t, b.faults())
}

func TestLines(t *testing.T) {
	b := setup(t)
	var want []ledger.Line
	sum := int64(0)
	for i := range int64(25) {
		l := ledger.Line{bob, ana, eur(i + 1)}
		if i%3 == 0 {
			l.Debtor, l.Creditor = ana, bob
			sum -= i + 1
		} else {
			sum += i + 1
		}
		want = append(want, l)
	}
	for chunk := range slices.Chunk(want, 4) { // several lines of one transaction between the two
		_, err := b.post(entry(append(slices.Clone(chunk), ledger.Line{eve, ana, eur(9)}, ledger.Line{bob, ana, core.Money{Amount: 1, Currency: "USD"}})...))
		require.NoError(t, err)
	}
	slices.Reverse(want)
	b.read(func(ctx context.Context, q db.Querier) error {
		for _, pair := range [][2]ledger.Account{{ana, bob}, {bob, ana}} {
			var got []ledger.Line
			var at ledger.Place
			for {
				page, err := b.Lines(ctx, q, b.book, pair[0], pair[1], "EUR", at, 3)
				require.NoError(t, err)
				for _, x := range page {
					require.Equal(t, "expense", x.Kind)
					require.Equal(t, me, x.By)
					require.NotZero(t, x.ID)
					require.Equal(t, b.time.Truncate(time.Microsecond), x.At)
					got = append(got, x.Line)
				}
				if len(page) < 3 {
					break
				}
				at = ledger.Place{Seq: page[2].Seq, Line: page[2].Number}
			}
			require.Equal(t, want, got)
		}
		m, err := b.Debt(ctx, q, b.book, bob, ana, "EUR")
		require.NoError(t, err)
		require.Equal(t, eur(sum), m)
		return nil
	})
}

// Many at once, some fail, some take back: what is kept is what a replay makes.
func TestReplay(t *testing.T) {
	b := setup(t)
	people := []ledger.Account{ana, bob, eve, ledger.Wallet, ledger.Exchange}
	var mu sync.Mutex
	var posted []uuid.UUID
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, g))
			for range 40 {
				var lines []ledger.Line
				for range r.IntN(6) {
					i := r.IntN(len(people))
					j := (i + 1 + r.IntN(len(people)-1)) % len(people)
					lines = append(lines, ledger.Line{people[i], people[j], core.Money{Amount: 1 + r.Int64N(1000), Currency: []core.Currency{"EUR", "JPY", "KWD"}[r.IntN(3)]}})
				}
				e := entry(lines...)
				// Without turns, so that the database has to decide.
				err := b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
					_, err := b.Post(ctx, tx, b.book, e)
					return err
				})
				if err != nil {
					t.Errorf("post: %v", err)
					return
				}
				mu.Lock()
				posted = append(posted, e.ID)
				old := posted[r.IntN(len(posted))]
				mu.Unlock()
				if _, err := b.reverse(old); err != nil && !errors.Is(err, ledger.ErrReversed) {
					t.Errorf("reverse: %v", err)
				}
			}
		})
	}
	wg.Wait()
	require.Empty(t, b.faults())
	var all []ledger.Transaction
	b.read(func(ctx context.Context, q db.Querier) (err error) {
		all, err = b.Since(ctx, q, b.book, 0, 10_000)
		return err
	})
	require.Greater(t, len(all), 320)
	debts, err := ledger.Sum(all)
	require.NoError(t, err)
	require.Equal(t, debts, b.debts())
	balances, err := ledger.Balances(debts)
	require.NoError(t, err)
	sums := map[core.Currency]int64{}
	for _, x := range balances {
		sums[x.Money.Currency] += x.Money.Amount
	}
	require.Equal(t, map[core.Currency]int64{"EUR": 0, "JPY": 0, "KWD": 0}, sums)
}

func TestNames(t *testing.T) {
	id, err := core.ParseUserID("0d3b1a5e-8f0a-4c8e-9d63-2b9f3c1d7a10")
	require.NoError(t, err)
	require.Equal(t, ledger.Book("group:"+id.String()), ledger.GroupBook(core.GroupID(id)))
	require.Equal(t, ledger.Book("user:"+id.String()), ledger.UserBook(id))
	require.Equal(t, ledger.Account("gateway:stripe"), ledger.Gateway("stripe"))
	got, ok := ledger.Member(id).Member()
	require.True(t, ok)
	require.Equal(t, id, got)
	got, ok = ledger.User(id).User()
	require.True(t, ok)
	require.Equal(t, id, got)
	for _, a := range []ledger.Account{ledger.Wallet, ledger.User(id), "member:x", "member:" + ledger.Account(strings.ToUpper(id.String()))} {
		_, ok = a.Member()
		require.False(t, ok, a)
	}
}
