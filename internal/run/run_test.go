package run_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/run"
)

// ticker is the smallest honest service: one goroutine that lives as long as
// the context.
type ticker struct {
	life    run.Lifecycle
	fail    error
	starts  atomic.Int32
	running atomic.Int32
	log     func(string)
}

func (s *ticker) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(ctx context.Context) error {
		s.starts.Add(1)
		if s.log != nil {
			s.log("start")
		}
		s.running.Add(1)
		s.life.Go(func() { defer s.running.Add(-1); <-ctx.Done() })
		return s.fail
	})
}

func (s *ticker) Stop() {
	s.life.Stop(func() {
		if s.log != nil {
			s.log("stop")
		}
	})
}

func TestStartAndStopAreSafeTwice(t *testing.T) {
	s := &ticker{}
	require.NoError(t, s.Start(t.Context()))
	require.NoError(t, s.Start(t.Context()))
	require.EqualValues(t, 1, s.starts.Load())
	s.Stop()
	s.Stop()
	require.Zero(t, s.running.Load())
	require.ErrorIs(t, s.Start(t.Context()), run.ErrStopped)
}

func TestStopBeforeStartPreventsIt(t *testing.T) {
	s := &ticker{}
	s.Stop()
	require.ErrorIs(t, s.Start(t.Context()), run.ErrStopped)
	require.Zero(t, s.starts.Load())
}

func TestFailedStartLeavesNothingRunning(t *testing.T) {
	boom := errors.New("boom")
	s := &ticker{fail: boom}
	require.ErrorIs(t, s.Start(t.Context()), boom)
	require.Zero(t, s.running.Load())
	require.ErrorIs(t, s.Start(t.Context()), boom, "a second Start says the same")
	s.Stop()
}

// Ten goroutines call Start and Stop in random order, as River's
// startstoptest.Stress does; run with -race.
func TestStress(t *testing.T) {
	for range 50 {
		s := &ticker{}
		g := &run.Group{}
		g.Add("one", s)
		g.Add("two", &ticker{})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 20 {
					if rand.IntN(2) == 0 {
						_ = g.Start(t.Context())
					} else {
						g.Stop()
					}
				}
			})
		}
		wg.Wait()
		g.Stop()
		require.Zero(t, s.running.Load())
		require.LessOrEqual(t, s.starts.Load(), int32(1))
	}
}

func TestGroupStartsInOrderAndStopsInReverse(t *testing.T) {
	var log []string
	note := func(name string) func(string) { return func(what string) { log = append(log, what+" "+name) } }
	g := &run.Group{}
	for _, name := range []string{"a", "b", "c"} {
		g.Add(name, &ticker{log: note(name)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, g.Start(ctx))
	cancel() // must not stop them out of order
	g.Stop()
	require.Equal(t, []string{"start a", "start b", "start c", "stop c", "stop b", "stop a"}, log)
}

func TestGroupUndoesAFailedStart(t *testing.T) {
	var log []string
	note := func(name string) func(string) { return func(what string) { log = append(log, what+" "+name) } }
	boom := errors.New("boom")
	g := &run.Group{}
	g.Add("a", &ticker{log: note("a")})
	g.Add("b", &ticker{log: note("b"), fail: boom})
	g.Add("c", &ticker{log: note("c")})
	err := g.Start(t.Context())
	require.ErrorIs(t, err, boom)
	require.ErrorContains(t, err, "start b")
	require.Equal(t, []string{"start a", "start b", "stop a"}, log)
}
