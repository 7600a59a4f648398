package node

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/presence"
	"github.com/mustermesh/muster/edge"
)

// settings is core/presence as the edge sees it: who is invisible, from a cache
// that Changed and time keep true, and when people were here, written in
// batches. It is a run.Service.
type settings struct {
	read func(context.Context, core.UserID) (presence.Settings, error)
	seen *activity

	mu      sync.Mutex // guards the following
	known   map[string]known
	changes uint64 // counts calls of Changed
}

// known is an answer of the database.
type known struct {
	invisible bool
	at        time.Time
}

const (
	settingsFor  = 30 * time.Second // an answer is good for so long, if a change was not heard of
	settingsMost = 50_000           // answers are kept
	seenBatch    = 1000             // users in a statement
)

func newSettings(store *presence.Store, log *slog.Logger) *settings {
	write := func(ctx context.Context, at map[string]time.Time) error { return writeSeen(ctx, store.Seen, at) }
	return &settings{read: store.Get, seen: newActivity(write, log), known: map[string]known{}}
}

func writeSeen(ctx context.Context, write func(context.Context, map[core.UserID]time.Time) error, at map[string]time.Time) error {
	for users := range slices.Chunk(slices.Collect(maps.Keys(at)), seenBatch) {
		batch := make(map[core.UserID]time.Time, len(users))
		for _, u := range users {
			if id, err := core.ParseUserID(u); err == nil {
				batch[id] = at[u]
			}
		}
		if err := write(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// Invisible satisfies edge.Settings.
func (s *settings) Invisible(ctx context.Context, user string) (bool, error) {
	if edge.FleetOf(user) != "" { // it chooses otherwise who sees its subjects
		return false, nil
	}
	now := time.Now()
	s.mu.Lock()
	k, ok := s.known[user]
	changes := s.changes
	s.mu.Unlock()
	if ok && now.Sub(k.at) < settingsFor {
		return k.invisible, nil
	}
	id, err := core.ParseUserID(user)
	if err != nil {
		return false, err
	}
	set, err := s.read(ctx, id)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes == changes { // else the answer may be from before the change
		if len(s.known) >= settingsMost {
			maps.DeleteFunc(s.known, func(_ string, k known) bool { return now.Sub(k.at) >= settingsFor })
		}
		if len(s.known) < settingsMost {
			s.known[user] = known{set.Invisible, now}
		}
	}
	return set.Invisible, nil
}

// Changed hears that a user chose anew, and returns what holds now. Two changes
// may be told in the wrong order, so what was told is believed only when it
// can't be read.
func (s *settings) Changed(ctx context.Context, user string, told bool) (invisible bool) {
	s.mu.Lock()
	delete(s.known, user)
	s.changes++
	s.mu.Unlock()
	now, err := s.Invisible(ctx, user)
	if err != nil {
		return told
	}
	return now
}

// Seen satisfies edge.Settings.
func (s *settings) Seen(user string, at time.Time) {
	if edge.FleetOf(user) == "" {
		s.seen.Touch(user, at)
	}
}

// Start begins writing.
func (s *settings) Start(ctx context.Context) error { return s.seen.Start(ctx) }

// Stop writes what waits.
func (s *settings) Stop() { s.seen.Stop() }
