package ledger

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turns
		release, err := ts.take(t.Context(), "a")
		require.NoError(t, err)
		other, err := ts.take(t.Context(), "b")
		require.NoError(t, err, "another book is another turn")
		other()

		var order []int
		releases := make(chan func(), 4)
		for i := range 4 {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			go func() {
				release, err := ts.take(ctx, "a")
				if err != nil {
					order = append(order, -i)
					return
				}
				order = append(order, i)
				releases <- release
			}()
			synctest.Wait()
			if i == 1 { // goes before it came
				cancel(errors.New("gone"))
				synctest.Wait()
			}
		}
		require.Equal(t, []int{-1}, order)
		release()
		for range 3 {
			synctest.Wait()
			(<-releases)()
		}
		require.Equal(t, []int{-1, 0, 2, 3}, order, "as they came")
		require.Empty(t, ts.books)
	})
}

// A turn that comes to who has just gone goes to the next one.
func TestTurnIsPassedOn(t *testing.T) {
	for range 200 {
		var ts turns
		release, err := ts.take(t.Context(), "a")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 2)
		for _, ctx := range []context.Context{ctx, t.Context()} {
			go func() {
				release, err := ts.take(ctx, "a")
				if err == nil {
					release()
				}
				got <- err
			}()
		}
		go cancel()
		release()
		<-got
		<-got
		cancel()
		require.Empty(t, ts.books)
	}
}

func TestTurnsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ts turns
		release, err := ts.take(t.Context(), "a")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		for range maxWaiting {
			go func() { _, _ = ts.take(ctx, "a") }()
		}
		synctest.Wait()
		_, err = ts.take(t.Context(), "a")
		require.ErrorIs(t, err, ErrBusy)
		cancel()
		synctest.Wait()
		release()
		require.Empty(t, ts.books)
	})
}
