package expenses_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
)

// bundle is a group with its owner, an admin and members, all in eu-west.
type bundle struct {
	t     *testing.T
	db    *db.DB
	books *ledger.Store
	*expenses.Store
	told  *told
	files *files
	group core.GroupID
	now   time.Time

	ana, ben, eve, kim core.UserID // owner, admin, members
}

// told are notifications.
type told struct {
	mu   sync.Mutex
	list []notice
}

type notice struct {
	to   core.UserID
	kind string
	data map[string]any
}

func (n *told) Notify(_ context.Context, _ pgx.Tx, to core.UserID, kind string, data map[string]any) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, notice{to, kind, data})
	return nil
}

func (n *told) take(kind string) (list []notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.list {
		if x.kind == kind {
			list = append(list, x)
		}
	}
	n.list = nil
	return list
}

// files are receipts.
type files struct {
	mu   sync.Mutex
	held map[uuid.UUID]string // in which room
}

func (f *files) Attach(_ context.Context, _ pgx.Tx, _ core.UserID, room string, ids []uuid.UUID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.held[id] = room
	}
	return nil
}

func (f *files) Detach(_ context.Context, _ pgx.Tx, ids []uuid.UUID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		delete(f.held, id)
	}
	return nil
}

func setup(t *testing.T) *bundle {
	b := &bundle{t: t, db: devdb.Test(t), told: &told{}, files: &files{held: map[uuid.UUID]string{}}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.books = ledger.New(b.db, ledger.Config{Now: b.clock})
	b.Store = expenses.New(b.db, b.books, expenses.Config{Now: b.clock, Notify: b.told, Receipts: b.files})
	b.group = b.newGroup()
	b.ana, b.ben, b.eve, b.kim = b.member("owner"), b.member("admin"), b.member("member"), b.member("member")
	return b
}

func (b *bundle) clock() time.Time { return b.now }

func (b *bundle) write(sql string, args ...any) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}))
}

func (b *bundle) newGroup() core.GroupID {
	id := core.GroupID(uuid.New())
	b.write(`INSERT INTO groups (id, name, home_region) VALUES ($1, 'trip', 'eu-west')`, id)
	return id
}

func (b *bundle) user() core.UserID {
	id := core.UserID(uuid.New())
	b.write(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, "user-"+id.String()[:8])
	return id
}

func (b *bundle) member(role string) core.UserID {
	id := b.user()
	b.join(id, role)
	return id
}

func (b *bundle) join(id core.UserID, role string) {
	b.write(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, $3)`, b.group, id, role)
}

func (b *bundle) leave(id core.UserID) {
	b.write(`DELETE FROM group_members WHERE group_id = $1 AND user_id = $2`, b.group, id)
}

func eur(amount int64) core.Money { return core.Money{Amount: amount, Currency: "EUR"} }

func of(list ...core.UserID) (parts []expenses.Part) {
	for _, u := range list {
		parts = append(parts, expenses.Part{User: u})
	}
	return parts
}

// add adds an expense that by has paid, split equally.
func (b *bundle) add(by core.UserID, m core.Money, among ...core.UserID) expenses.Expense {
	b.t.Helper()
	e, err := b.Create(b.t.Context(), by, b.group, expenses.Draft{Title: "lunch", Money: m, Parts: of(among...)})
	require.NoError(b.t, err)
	return e
}

// balance is what somebody is owed.
func (b *bundle) balance(who ledger.Account, c core.Currency) (amount int64) {
	b.t.Helper()
	for _, p := range b.standing().Positions {
		for _, s := range p.Balances {
			if p.Currency == c && s.Who == who {
				amount = s.Amount
			}
		}
	}
	return amount
}

func (b *bundle) standing() expenses.Standing {
	b.t.Helper()
	st, err := b.Balances(b.t.Context(), b.ana, b.group)
	require.NoError(b.t, err)
	return st
}

func (b *bundle) spent(c core.Currency) int64 {
	b.t.Helper()
	for _, p := range b.standing().Positions {
		if p.Currency == c {
			return p.Spent
		}
	}
	return 0
}

// proves verifies the book, and that every pair's explanation comes to what is to be
// paid.
func (b *bundle) proves() {
	b.t.Helper()
	report, err := b.books.Verify(b.t.Context(), ledger.GroupBook(b.group))
	require.NoError(b.t, err)
	require.Empty(b.t, report.Faults)
	st := b.standing()
	for _, p := range st.Positions {
		var zero int64
		for _, s := range p.Balances {
			zero += s.Amount
		}
		require.Zero(b.t, zero)
		for _, x := range st.People {
			for _, y := range st.People {
				if x.Account != y.Account {
					b.explains(x.Account, y.Account, p)
				}
			}
		}
	}
}

func (b *bundle) explains(from, to ledger.Account, p expenses.Position) {
	b.t.Helper()
	var lines, sum int64
	var cursor string
	for {
		x, next, err := b.Explain(b.t.Context(), b.ana, b.group, from, to, p.Currency, cursor, 3)
		require.NoError(b.t, err)
		for _, l := range x.Lines {
			lines += l.Amount
		}
		if next != "" {
			cursor = next
			continue
		}
		require.Equal(b.t, x.Direct, lines, "lines of all pages come to what is owed directly")
		sum = x.Direct
		for _, c := range x.Circles {
			if c.Adds {
				sum += c.Amount
			} else {
				sum -= c.Amount
			}
		}
		require.Equal(b.t, x.Total, sum)
		require.Equal(b.t, owes(p.Transfers, from, to), sum)
		return
	}
}

func TestExpenseChangesAllAtOnce(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	receipt := uuid.New()
	e, err := b.Create(ctx, b.ana, b.group, expenses.Draft{
		Title: " Dinner ", Note: "with wine", Category: "food", Money: eur(1000), On: time.Date(2026, 2, 27, 0, 0, 0, 0, time.UTC), Parts: of(b.ana, b.ben, b.eve),
		Receipts: []uuid.UUID{receipt},
	})
	require.NoError(t, err)
	require.Equal(t, "Dinner", e.Title)
	require.EqualValues(t, 1, e.Version)
	require.Equal(t, []expenses.Stake{{Who: ledger.Member(b.ana), Amount: 1000}}, e.Paid)
	var sum int64
	for _, c := range e.Cuts {
		sum += c.Amount
	}
	require.EqualValues(t, 1000, sum)
	require.Equal(t, b.group.Room(), b.files.held[receipt])
	require.EqualValues(t, 1000, b.spent("EUR"))
	var mine int64
	for _, c := range e.Cuts {
		if c.User == b.ana {
			mine = c.Amount
		}
	}
	require.Equal(t, 1000-mine, b.balance(ledger.Member(b.ana), "EUR"))
	got, err := b.Get(ctx, b.kim, b.group, e.ID)
	require.NoError(t, err)
	require.Equal(t, e.Draft.Paid, got.Paid)
	require.Equal(t, e.Cuts, got.Cuts)
	require.Equal(t, e.On, got.On)
	require.Equal(t, "with wine", got.Note)

	// The events of the same transaction.
	var kinds []string
	require.NoError(t, b.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT last FROM outbox_keys WHERE key = $1`, b.group.Room())
		if err != nil {
			return err
		}
		last, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
		require.EqualValues(t, 2, last, "%v", kinds)
		return err
	}))
	b.proves()
}

// The odd cents of expenses that come one after the other go around.
func TestOddCentsTakeTurns(t *testing.T) {
	b := setup(t)
	for range 12 {
		b.add(b.ana, eur(1001), b.ana, b.ben, b.eve)
	}
	require.EqualValues(t, 12*1001-4*1001, b.balance(ledger.Member(b.ana), "EUR"))
	require.EqualValues(t, -4*1001, b.balance(ledger.Member(b.ben), "EUR"))
	require.EqualValues(t, -4*1001, b.balance(ledger.Member(b.eve), "EUR"))
	b.proves()
}

func TestSeveralPayersAndTheWallet(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	_, err := b.Settle(ctx, b.eve, b.group, expenses.Settlement{From: ledger.Member(b.eve), To: ledger.Wallet, Money: eur(500)})
	require.NoError(t, err)
	e, err := b.Create(ctx, b.ana, b.group, expenses.Draft{
		Title: "Boat", Money: eur(900), Mode: expenses.Exact,
		Paid:  []expenses.Stake{{Who: ledger.Wallet, Amount: 300}, {Who: ledger.Member(b.ben), Amount: 600}},
		Parts: []expenses.Part{{User: b.ana, Value: "300"}, {User: b.ben, Value: "300"}, {User: b.eve, Value: "300"}},
	})
	require.NoError(t, err)
	require.Len(t, e.Paid, 2)
	require.EqualValues(t, -300, b.balance(ledger.Member(b.ana), "EUR"))
	require.EqualValues(t, 300, b.balance(ledger.Member(b.ben), "EUR"))
	require.EqualValues(t, 200, b.balance(ledger.Member(b.eve), "EUR"))
	for _, p := range b.standing().Positions {
		require.EqualValues(t, 200, p.Kitty)
	}
	b.proves()
}

func TestEditsReverseAndKeepHistory(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	e := b.add(b.eve, eur(900), b.ana, b.ben, b.eve)
	receipt := uuid.New()
	d := expenses.Draft{Title: "supper", Money: core.Money{Amount: 700, Currency: "JPY"}, Parts: of(b.ben, b.kim), Receipts: []uuid.UUID{receipt}}
	changed, err := b.Update(ctx, b.eve, b.group, e.ID, 1, d)
	require.NoError(t, err)
	require.EqualValues(t, 2, changed.Version)
	require.Zero(t, b.spent("EUR"))
	require.EqualValues(t, 700, b.spent("JPY"))
	require.Zero(t, b.balance(ledger.Member(b.ana), "EUR"))
	require.EqualValues(t, 700, b.balance(ledger.Member(b.eve), "JPY"))
	require.EqualValues(t, -350, b.balance(ledger.Member(b.kim), "JPY"))

	// What changes no money posts nothing.
	before, err := b.books.Since(ctx, b.reader(), ledger.GroupBook(b.group), 0, 100)
	require.NoError(t, err)
	d.Title, d.Receipts = "late supper", nil
	_, err = b.Update(ctx, b.ben, b.group, e.ID, 2, d) // an admin; who paid stays
	require.NoError(t, err)
	after, err := b.books.Since(ctx, b.reader(), ledger.GroupBook(b.group), 0, 100)
	require.NoError(t, err)
	require.Len(t, after, len(before))
	require.Empty(t, b.files.held)

	require.NoError(t, b.Delete(ctx, b.eve, b.group, e.ID, 3))
	require.NoError(t, b.Delete(ctx, b.eve, b.group, e.ID, 0), "again is a success")
	require.Zero(t, b.spent("JPY"))
	require.Zero(t, b.balance(ledger.Member(b.eve), "JPY"))
	versions, err := b.History(ctx, b.kim, b.group, e.ID)
	require.NoError(t, err)
	require.Len(t, versions, 4)
	var titles []string
	for i, v := range versions {
		require.EqualValues(t, 4-i, v.Version)
		require.Equal(t, i == 0, v.Deleted)
		titles = append(titles, v.Title)
	}
	require.Equal(t, []string{"late supper", "late supper", "supper", "lunch"}, titles)
	require.Equal(t, eur(900), versions[3].Money)
	list, _, err := b.List(ctx, b.ana, b.group, expenses.Filter{}, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
	b.proves()
}

// reader reads outside of a transaction.
func (b *bundle) reader() (q db.Querier) {
	require.NoError(b.t, b.db.Read(b.t.Context(), func(_ context.Context, r db.Querier) error {
		q = r
		return nil
	}))
	return q
}

func TestConcurrentEditsAreNotLost(t *testing.T) {
	b := setup(t)
	e := b.add(b.ana, eur(900), b.ana, b.ben)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 6 {
		wg.Go(func() {
			d := expenses.Draft{Title: fmt.Sprint("edit ", i), Money: eur(1000 + int64(i)), Parts: of(b.ana, b.ben)}
			_, err := b.Update(t.Context(), b.ana, b.group, e.ID, 1, d)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
				return
			}
			var changed *expenses.Changed
			if assertAs(t, err, &changed) {
				require.EqualValues(t, 2, changed.Present.Version)
				require.NotEqual(t, e.Title, changed.Present.Title)
			}
		})
	}
	wg.Wait()
	require.Equal(t, 1, won)
	b.proves()
}

func TestWhoMayWhat(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	stranger := b.user()
	_, err := b.Create(ctx, stranger, b.group, expenses.Draft{Title: "x", Money: eur(1)})
	require.ErrorIs(t, err, expenses.ErrNotMember)
	_, err = b.Create(ctx, b.ana, b.group, expenses.Draft{Title: "x", Money: eur(1), Parts: of(b.ana, stranger)})
	require.ErrorIs(t, err, expenses.ErrNoSuchMember)
	_, err = b.Create(ctx, b.ana, b.group, expenses.Draft{Title: "x", Money: eur(1), Paid: []expenses.Stake{{Who: ledger.Member(stranger), Amount: 1}}})
	require.ErrorIs(t, err, expenses.ErrNoSuchMember)
	_, err = b.Create(ctx, b.ana, b.group, expenses.Draft{Title: "x", Money: eur(1), Paid: []expenses.Stake{{Who: ledger.Platform, Amount: 1}}})
	require.ErrorIs(t, err, expenses.ErrNoSuchMember)

	e := b.add(b.eve, eur(10), b.ana)
	d := expenses.Draft{Title: "y", Money: eur(20), Parts: of(b.ana)}
	_, err = b.Update(ctx, b.kim, b.group, e.ID, 1, d)
	require.ErrorIs(t, err, expenses.ErrForbidden)
	require.ErrorIs(t, b.Delete(ctx, b.kim, b.group, e.ID, 0), expenses.ErrForbidden)
	_, err = b.Update(ctx, b.eve, b.newGroup(), e.ID, 1, d)
	require.ErrorIs(t, err, expenses.ErrNotMember)
	_, err = b.Get(ctx, stranger, b.group, e.ID)
	require.ErrorIs(t, err, expenses.ErrNotMember)
	_, err = b.Settle(ctx, b.kim, b.group, expenses.Settlement{From: ledger.Member(b.ana), To: ledger.Member(b.eve), Money: eur(1)})
	require.ErrorIs(t, err, expenses.ErrForbidden)
	_, err = b.Settle(ctx, b.ben, b.group, expenses.Settlement{From: ledger.Member(b.ana), To: ledger.Member(b.eve), Money: eur(1)})
	require.NoError(t, err, "an admin")
	_, err = b.Settle(ctx, b.ana, b.group, expenses.Settlement{From: ledger.Member(b.ana), To: ledger.Member(stranger), Money: eur(1)})
	require.ErrorIs(t, err, expenses.ErrNoSuchMember)
}

// What is refused leaves nothing.
func TestRefusedExpensesLeaveNothing(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	long := string(make([]byte, 300))
	percent := func(x, y string) []expenses.Part {
		return []expenses.Part{{User: b.ana, Value: x}, {User: b.ben, Value: y}}
	}
	for name, d := range map[string]expenses.Draft{
		"no title":              {Money: eur(1)},
		"long title":            {Title: long, Money: eur(1)},
		"bad category":          {Title: "x", Category: "Food & co", Money: eur(1)},
		"unknown currency":      {Title: "x", Money: core.Money{Amount: 1, Currency: "XYZ"}},
		"no currency":           {Title: "x", Money: core.Money{Amount: 1}},
		"negative":              {Title: "x", Money: eur(-1)},
		"near 2^63":             {Title: "x", Money: eur(1<<63 - 1)},
		"a unit beyond":         {Title: "x", Money: eur(core.MaxAmount + 1)},
		"percent":               {Title: "x", Money: eur(100), Mode: expenses.Percent, Parts: percent("50", "49.99")},
		"payers short":          {Title: "x", Money: eur(100), Paid: []expenses.Stake{{Who: ledger.Member(b.ana), Amount: 99}}},
		"payers negative":       {Title: "x", Money: eur(100), Paid: []expenses.Stake{{Who: ledger.Member(b.ana), Amount: 101}, {Who: ledger.Member(b.ben), Amount: -1}}},
		"payers near 2^63":      {Title: "x", Money: eur(100), Paid: []expenses.Stake{{Who: ledger.Member(b.ana), Amount: 1<<63 - 1}, {Who: ledger.Member(b.ben), Amount: 1<<63 - 1}}},
		"a payer twice":         {Title: "x", Money: eur(100), Paid: []expenses.Stake{{Who: ledger.Member(b.ana), Amount: 50}, {Who: ledger.Member(b.ana), Amount: 50}}},
		"exact without anybody": {Title: "x", Money: eur(100), Mode: expenses.Exact},
		"a day long ago":        {Title: "x", Money: eur(100), On: time.Date(1820, 1, 1, 0, 0, 0, 0, time.UTC)},
		"more receipts than there": {Title: "x", Money: eur(100), Receipts: slices.Collect(func(yield func(uuid.UUID) bool) {
			for range 11 {
				yield(uuid.New())
			}
		})},
	} {
		_, err := b.Create(ctx, b.ana, b.group, d)
		require.True(t, refused(err), "%s: %v", name, err)
	}
	for _, table := range []string{"expenses", "expense_wallets", "ledger_books", "ledger_transactions", "ledger_postings", "outbox_keys"} {
		require.Zero(t, b.count(table), table)
	}

	// The sum of a wallet is bounded, too, and so is what one owes another.
	b.add(b.ana, eur(core.MaxAmount), b.ana)
	_, err := b.Create(ctx, b.ana, b.group, expenses.Draft{Title: "x", Money: eur(1), Parts: of(b.ana)})
	require.ErrorIs(t, err, core.ErrAmount)
	require.EqualValues(t, core.MaxAmount, b.spent("EUR"))
	usd := core.Money{Amount: core.MaxAmount, Currency: "USD"}
	e := b.add(b.ana, usd, b.ben)
	require.NoError(t, b.Delete(ctx, b.ana, b.group, e.ID, 0))
	b.add(b.ana, usd, b.ben)
	_, err = b.Settle(ctx, b.ana, b.group, expenses.Settlement{From: ledger.Member(b.ana), To: ledger.Member(b.ben), Money: core.Money{Amount: 1, Currency: "USD"}})
	require.ErrorIs(t, err, core.ErrAmount)
	require.EqualValues(t, 2, b.count("expenses")-1)
	b.proves()
}

func (b *bundle) count(table string) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.reader().QueryRow(b.t.Context(), `SELECT count(*) FROM `+table).Scan(&n))
	return n
}

func TestPreviewWritesNothing(t *testing.T) {
	b := setup(t)
	p, err := b.Preview(t.Context(), b.ana, b.group, expenses.Draft{Title: "x", Money: eur(1001), Parts: of(b.ana, b.ben)})
	require.NoError(t, err)
	require.Zero(t, b.count("expenses")+b.count("ledger_books"))
	e := b.add(b.ana, eur(1001), b.ana, b.ben)
	require.Equal(t, p.Cuts, e.Cuts)
}

func TestListsArePagedAndFiltered(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	var want []uuid.UUID
	for i := range 7 {
		b.now = b.now.Add(time.Minute)
		e, err := b.Create(ctx, b.ana, b.group, expenses.Draft{Title: fmt.Sprint(i), Category: []string{"food", "fuel"}[i%2], Money: eur(10),
			On: time.Date(2026, 2, 1+i/2, 0, 0, 0, 0, time.UTC), Parts: of([]core.UserID{b.ben, b.eve, b.kim}[i%3])})
		require.NoError(t, err)
		want = append(want, e.ID)
	}
	slices.Reverse(want)
	ids := func(f expenses.Filter, limit int) (got []uuid.UUID) {
		for cursor := ""; ; {
			page, next, err := b.List(ctx, b.kim, b.group, f, cursor, limit)
			require.NoError(t, err)
			for _, e := range page {
				got = append(got, e.ID)
			}
			if cursor = next; next == "" {
				return got
			}
		}
	}
	require.Equal(t, want, ids(expenses.Filter{}, 2))
	require.Equal(t, want, ids(expenses.Filter{Member: b.ana}, 50), "who paid is in it")
	require.Equal(t, []uuid.UUID{want[0], want[3], want[6]}, ids(expenses.Filter{Member: b.ben}, 1))
	require.Equal(t, []uuid.UUID{want[0], want[2], want[4], want[6]}, ids(expenses.Filter{Category: "food"}, 3))
	day := func(d int) time.Time { return time.Date(2026, 2, d, 0, 0, 0, 0, time.UTC) }
	require.Equal(t, want[1:5], ids(expenses.Filter{From: day(2), To: day(3)}, 50))
	_, _, err := b.List(ctx, b.ana, b.group, expenses.Filter{}, "nonsense", 10)
	require.ErrorIs(t, err, core.ErrBadCursor)
}
