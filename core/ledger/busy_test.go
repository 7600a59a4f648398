package ledger_test

import (
	"context"
	"errors"
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

// storm posts entries of five lines by 16 goroutines, and returns how many were, how
// often a transaction had to be begun again, and how many it were per second.
func storm(t *testing.T, d *db.DB, books []ledger.Book, posts int, turns bool) (posted, again int, perSecond float64) {
	t.Helper()
	s := ledger.New(d, ledger.Config{})
	var attempts, contended, next atomic.Int64
	begun := time.Now()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= posts {
					return
				}
				book := books[n*7919%len(books)]
				e := ledger.Entry{ID: uuid.New(), Kind: "expense", Ref: uuid.New()}
				for range 5 {
					e.Lines = append(e.Lines, ledger.Line{Debtor: ledger.Member(core.UserID(uuid.New())), Creditor: ledger.Wallet, Money: core.Money{Amount: 248, Currency: "EUR"}})
				}
				post := func(ctx context.Context, tx pgx.Tx) error {
					attempts.Add(1)
					_, err := s.Post(ctx, tx, book, e)
					return err
				}
				var err error
				if turns {
					err = s.InTurn(t.Context(), book, post)
				} else {
					err = d.InTx(t.Context(), pgx.TxOptions{}, post)
				}
				if !turns && errors.Is(err, db.ErrContended) {
					contended.Add(1)
				} else if err != nil {
					t.Errorf("post: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	posted = posts - int(contended.Load())
	return posted, int(attempts.Load()) - posts, float64(posted) / time.Since(begun).Seconds()
}

func books(n int) []ledger.Book {
	list := make([]ledger.Book, n)
	for i := range list {
		list[i] = ledger.GroupBook(core.GroupID(uuid.New()))
	}
	return list
}

// Those who write to different books don't stand in each other's way, not even while
// the books are made; those of one book take turns.
func TestWritersDoNotConflict(t *testing.T) {
	const posts = 500
	for name, list := range map[string][]ledger.Book{"a thousand books": books(1000), "one book": books(1)} {
		t.Run(name, func(t *testing.T) {
			d := devdb.Connect(t, devdb.TestURL(t), db.Config{MaxConns: 16})
			posted, again, rate := storm(t, d, list, posts, true)
			t.Logf("%d of %d posts were made again, %.0f/s", again, posts, rate)
			require.Equal(t, posts, posted)
			require.Less(t, again, posts/100)
			more, again, rate := storm(t, d, list, posts/5, false)
			t.Logf("without turns: %d of %d posts were made again, %d given up, %.0f/s", again, posts/5, posts/5-more, rate)
			r, err := ledger.New(d, ledger.Config{}).Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, r.Faults)
			require.EqualValues(t, posted+more, r.Transactions)
			require.EqualValues(t, 5*(posted+more), r.Postings)
		})
	}
}
