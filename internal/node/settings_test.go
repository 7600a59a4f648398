package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/presence"
	"github.com/mustermesh/muster/edge"
)

var _ edge.Settings = (*settings)(nil)

func TestInvisibleIsCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, invisible, failure := 0, true, error(nil)
		var meanwhile func()
		s := &settings{known: map[string]known{}, read: func(context.Context, core.UserID) (presence.Settings, error) {
			reads++
			set := presence.Settings{Invisible: invisible}
			if meanwhile != nil {
				meanwhile()
			}
			return set, failure
		}}
		ana := uuid.NewString()
		is := func(want bool, wantReads int) {
			t.Helper()
			got, err := s.Invisible(t.Context(), ana)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.Equal(t, wantReads, reads)
		}
		is(true, 1)
		is(true, 1)
		invisible = false
		is(true, 1)
		require.False(t, s.Changed(t.Context(), ana, true), "not what was told: what holds")
		is(false, 2)
		time.Sleep(settingsFor)
		is(false, 3)

		// A change that comes while the database answers: that answer is not kept.
		time.Sleep(settingsFor)
		meanwhile = func() {
			meanwhile = nil
			invisible = true
			require.True(t, s.Changed(t.Context(), ana, true))
		}
		is(false, 5)
		is(true, 5)

		failure = errors.New("no database")
		require.False(t, s.Changed(t.Context(), ana, false), "what was told")
		_, err := s.Invisible(t.Context(), ana)
		require.ErrorIs(t, err, failure)
		_, err = s.Invisible(t.Context(), "nobody")
		require.Error(t, err)
	})
}

func TestSeenIsWrittenInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var writes []map[core.UserID]time.Time
		s := &settings{known: map[string]known{}, seen: newActivity(func(ctx context.Context, at map[string]time.Time) error {
			return writeSeen(ctx, func(_ context.Context, batch map[core.UserID]time.Time) error {
				mu.Lock()
				defer mu.Unlock()
				writes = append(writes, batch)
				return nil
			}, at)
		}, slog.New(slog.DiscardHandler))}
		require.NoError(t, s.Start(t.Context()))
		people := make([]string, seenBatch+1)
		for i := range people {
			people[i] = uuid.NewString()
			s.Seen(people[i], time.Now())
		}
		s.Seen("nobody", time.Now())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, writes, 2)
		require.Equal(t, len(people), len(writes[0])+len(writes[1]))
		s.Seen(people[0], time.Now())
		time.Sleep(touchEvery)
		synctest.Wait()
		require.Len(t, writes, 2, "written a moment ago")
		s.Seen(people[0], time.Now())
		s.Stop()
		require.Len(t, writes, 3, "what waits is written at the end")
	})
}
