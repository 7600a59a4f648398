package ledger

import (
	"context"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/db"
)

// turns are who of this process writes to which book, one after the other, in the
// order in which they came. At SERIALIZABLE two that write to one book at once can't
// both go on, and the one that loses has done its work in vain: a busy group would
// melt into retries. Other processes still may come between: then SERIALIZABLE decides.
//
// Who waits holds neither a connection nor a lock: see db.Hold.
type turns struct {
	mu    sync.Mutex               // guards the following
	books map[Book][]chan struct{} // of a book that somebody writes to: who waits
}

// maxWaiting bounds who waits for a book; whoever comes then gets ErrBusy.
const maxWaiting = 500

// take waits for a turn. It is given back by release.
func (t *turns) take(ctx context.Context, book Book) (release func(), err error) {
	t.mu.Lock()
	release = func() { t.release(book) }
	waiting, busy := t.books[book]
	switch {
	case !busy:
		if t.books == nil {
			t.books = map[Book][]chan struct{}{}
		}
		t.books[book] = nil
		t.mu.Unlock()
		return release, nil
	case len(waiting) >= maxWaiting:
		t.mu.Unlock()
		return nil, ErrBusy
	}
	mine := make(chan struct{})
	t.books[book] = append(waiting, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return release, nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	waiting = t.books[book]
	if i := slices.Index(waiting, mine); i >= 0 {
		t.books[book] = slices.Delete(waiting, i, i+1)
		t.mu.Unlock()
	} else { // it came at the same moment
		t.mu.Unlock()
		release()
	}
	return nil, context.Cause(ctx)
}

func (t *turns) release(book Book) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := t.books[book]
	if len(waiting) == 0 {
		delete(t.books, book)
		return
	}
	t.books[book] = waiting[1:]
	close(waiting[0])
}

// Turn waits until it is this caller's turn to write to a book, and keeps the turn until
// the outermost transaction that ctx belongs to has ended. It waits only where nothing
// can wait for the caller: outside of a transaction, in one that has begun, or that has
// another turn, it returns at once, and SERIALIZABLE alone decides.
func (s *Store) Turn(ctx context.Context, book Book) error {
	_, err := db.Hold(ctx, func() (func(), error) { return s.turns.take(ctx, book) })
	return err
}

// InTurn is db.InTx, SERIALIZABLE, for who writes to a book: it begins when it is this
// caller's turn, also when it is tried again.
func (s *Store) InTurn(ctx context.Context, book Book, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if db.Inside(ctx) {
		if err := s.Turn(ctx, book); err != nil {
			return err
		}
		return s.db.InTx(ctx, pgx.TxOptions{}, fn)
	}
	release, err := s.turns.take(ctx, book)
	if err != nil {
		return err
	}
	defer release()
	return s.db.InTx(ctx, pgx.TxOptions{}, fn)
}
