package share

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

func inWorld(t *testing.T, f func(t *testing.T, w *world, h *Sharer)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		cfg := w.config()
		cfg.Rate = admit.Rate{PerSecond: 5, Burst: 10}
		h := New(cfg)
		require.NoError(t, h.Start(t.Context()))
		f(t, w, h)
		h.Stop()
	})
}

func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

const g1 = groupRoom + "g1"

// A device that went to another node leaves its fix there. What it may not show
// any more is withdrawn by the node that has its session now, which never heard
// of that fix.
func TestAnotherNodeWithdraws(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		c := w.session("ann", "phone", 1, g1)
		require.NoError(t, h.Report(c, 1, at(48, 11, time.Now()), []string{g1}))
		settle(time.Second)
		require.NotNil(t, w.sees(g1, "ann"))

		other := New(w.config()) // its registry has the session now
		require.NoError(t, other.Start(t.Context()))
		w.session("ann", "phone", 2, g1)
		w.mu.Lock()
		w.versions["ann"]++
		w.grants["ann"] = []grant.Grant{{Audience: grant.Audience{Kind: grant.Group, ID: "g1"}, Precision: grant.Cells(7)}}
		w.mu.Unlock()
		other.Changed("ann", 1)
		settle(time.Second)
		require.Nil(t, w.sees(g1, "ann"))
		other.Changed("bob", 1) // of whom there is nothing here
		require.Nil(t, other.lock("bob", false))
		other.Stop()
	})
}

// If what somebody changed can't be read, nobody sees anything after a while.
func TestAChangeThatCantBeRead(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		c := w.session("ann", "phone", 1, g1)
		require.NoError(t, h.Report(c, 1, at(48, 11, time.Now()), []string{g1}))
		settle(time.Second)
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		require.NoError(t, h.Report(c, 2, at(48, 11.1, time.Now()), []string{g1}))
		settle(40 * time.Second)
		require.NotNil(t, w.sees(g1, "ann"), "nothing is known to have changed")
		require.NoError(t, h.Report(c, 3, at(48, 11.2, time.Now()), []string{g1}))
		settle(time.Second)
		require.EqualValues(t, 11.1, w.sees(g1, "ann").Point.Lng, "but nothing new is told")
		h.Changed("ann", 1)
		settle(20 * time.Second)
		require.NotNil(t, w.sees(g1, "ann"))
		settle(15 * time.Second)
		require.Nil(t, w.sees(g1, "ann"))
	})
}

// Of two fixes that a device captured at the same moment, as far as its clock
// tells, the one with the higher number is told.
func TestTwoFixesOfAMoment(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		w.grants["ann"] = []grant.Grant{{Audience: grant.Audience{Kind: grant.Discoverable}, Precision: grant.Exact}}
		c, now := w.session("ann", "phone", 1, g1), time.Now()
		require.NoError(t, h.Report(c, 1, at(48, 11, now), []string{g1}))
		settle(time.Second)
		require.NoError(t, h.Report(c, 3, at(48, 11.2, now), []string{g1}))
		require.NoError(t, h.Report(c, 2, at(48, 11.1, now), []string{g1})) // overtaken
		require.EqualValues(t, 11.2, w.sees(g1, "ann").Point.Lng)
		require.EqualValues(t, 11.2, w.near["ann"].Point.Lng)
		sent := w.sent
		require.NoError(t, h.Report(c, 4, at(48, 11.2, now), []string{g1})) // said again
		require.EqualValues(t, 3, w.sees(g1, "ann").N)
		require.EqualValues(t, sent+1, w.sent)
		require.NoError(t, h.Post("ann", "ann", at(48, 11.3, now), []string{g1})) // which has no number
		require.EqualValues(t, 11.2, w.sees(g1, "ann").Point.Lng)
	})
}

// The limit is of the user, whatever devices.
func TestLimit(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		phone, tablet := w.session("ann", "phone", 1, g1), w.session("ann", "tablet", 1, g1)
		var refused error
		for n := range uint64(20) {
			c := []*client{phone, tablet}[n%2]
			if err := h.Report(c, n+1, at(48, 11, time.Now().Add(time.Duration(n))), nil); err != nil {
				refused = err
			}
		}
		require.ErrorIs(t, refused, &errs.Error{Code: edge.CodeRateLimited})
		require.NoError(t, h.Report(w.session("bob", "phone", 1), 1, at(48, 11, time.Now()), nil))
	})
}

// A user keeps a track, or doesn't; late fixes are in it and nowhere else. What
// came before that was known is not lost.
func TestTrack(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		c, now := w.session("ann", "phone", 1, g1), time.Now()
		w.mu.Lock()
		w.tracks["ann"] = true
		w.mu.Unlock()
		require.NoError(t, h.Report(c, 1, at(48, 11, now), []string{g1}))
		require.NoError(t, h.Report(c, 2, at(48, 12, now.Add(-time.Hour)), []string{g1}))
		require.NoError(t, h.Post("ann", "Ann", at(48, 13, now.Add(-time.Minute)), []string{g1}))
		settle(time.Second)
		w.mu.Lock()
		require.Equal(t, 3, w.kept["ann"])
		w.mu.Unlock()
		require.EqualValues(t, 11, w.sees(g1, "ann").Point.Lng)
		own, ok := h.Own("ann")
		require.True(t, ok)
		require.True(t, own.Captured().Equal(now))
		h.Withdraw("ann", time.Now())
		_, ok = h.Own("ann")
		require.False(t, ok)
	})
}

// Who was told is noted when it begins, while it goes on and when it ends; and
// who says nothing any more is forgotten.
func TestReceiptsAndForgetting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		c := w.session("ann", "phone", 1, g1)
		require.NoError(t, h.Report(c, 1, at(48, 11, time.Now()), []string{g1}))
		settle(time.Second)
		require.Equal(t, []string{g1 + " ann exact"}, w.notes())
		settle(5 * time.Minute)
		require.Len(t, w.notes(), 1+5)
		settle(3 * time.Hour)
		require.LessOrEqual(t, len(w.notes()), 1+16, "nobody sees it any more")
		require.Zero(t, h.size.Load())
		w.mu.Lock()
		defer w.mu.Unlock()
		require.Less(t, w.asked, 60, "and nothing is read for nobody")
	})
}

func TestFull(t *testing.T) {
	w := newWorld()
	cfg := w.config()
	cfg.Most = 1
	h := New(cfg)
	require.NoError(t, h.Post("ann", "", at(1, 2, time.Now()), nil))
	require.ErrorIs(t, h.Post("bob", "", at(1, 2, time.Now()), nil), &errs.Error{Code: edge.CodeRetry})
	require.NoError(t, h.Post("ann", "", at(1, 2, time.Now()), nil))
}

// A grant that ends does so also while nothing can be read.
func TestAGrantEndsWithoutTheDatabase(t *testing.T) {
	for name, rest := range map[string][]grant.Grant{
		"none":   nil,
		"coarse": {{Audience: grant.Audience{Kind: grant.Group, ID: "g1"}, Precision: grant.Cells(6)}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world, h *Sharer) {
				c := w.session("ann", "phone", 1, g1)
				w.mu.Lock()
				w.grants["ann"] = append(rest, grant.Grant{
					Audience: grant.Audience{Kind: grant.Group, ID: "g1"}, Precision: grant.Exact, Expires: time.Now().Add(2 * time.Minute),
				})
				w.mu.Unlock()
				require.NoError(t, h.Report(c, 1, at(48, 11, time.Now()), nil))
				settle(time.Second)
				require.NotNil(t, w.sees(g1, "ann"))
				w.mu.Lock()
				w.down = true
				w.mu.Unlock()
				settle(110 * time.Second)
				require.NotNil(t, w.sees(g1, "ann"))
				settle(12 * time.Second)
				require.Nil(t, w.sees(g1, "ann"))
			})
		})
	}
}

// From the moment that a change is told nothing more goes out by what was chosen
// before.
func TestNothingIsToldBetweenAChangeAndItsReading(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		c := w.session("ann", "phone", 1, g1)
		require.NoError(t, h.Report(c, 1, at(48, 11, time.Now()), []string{g1}))
		settle(time.Second)
		w.mu.Lock()
		w.down = true
		w.mu.Unlock()
		h.Changed("ann", 1)
		require.NoError(t, h.Report(c, 2, at(48, 12, time.Now()), []string{g1}))
		settle(time.Second)
		require.EqualValues(t, 11, w.sees(g1, "ann").Point.Lng)
		w.mu.Lock()
		w.down, w.versions["ann"] = false, 1
		w.mu.Unlock()
		settle(2 * time.Second)
		require.EqualValues(t, 12, w.sees(g1, "ann").Point.Lng, "it is told once the change is known")
	})
}

// slow holds back what reads of settings found.
type slow struct {
	*world
	begun, end chan struct{}
}

func (s slow) Invisible(ctx context.Context, user string) (bool, error) {
	hidden, err := s.world.Invisible(ctx, user)
	s.begun <- struct{}{}
	<-s.end
	return hidden, err
}

// Who wants to be seen by nobody is not shown again by a read that began before.
func TestAnOlderReadDoesNotShowWhoHides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		cfg, settings := w.config(), slow{w, make(chan struct{}), make(chan struct{})}
		cfg.Settings = settings
		h := New(cfg)
		require.NoError(t, h.Start(t.Context()))
		c := w.session("ann", "phone", 1, g1)
		require.NoError(t, h.Report(c, 1, at(48, 11, time.Now()), []string{g1}))
		<-settings.begun
		h.SetInvisible("ann", true)
		settings.end <- struct{}{}
		settle(2 * time.Second)
		require.Nil(t, w.sees(g1, "ann"))
		h.Stop()
	})
}

// What somebody took back while their device was between two nodes is withdrawn
// by the next one, which heard nothing of it.
func TestAChangeBetweenTwoNodes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		c := w.session("ann", "phone", 1, g1)
		require.NoError(t, h.Report(c, 1, at(48, 11, time.Now()), []string{g1}))
		settle(time.Second)
		require.NotNil(t, w.sees(g1, "ann"))
		w.mu.Lock()
		w.versions["ann"]++
		w.grants["ann"] = []grant.Grant{{Audience: grant.Audience{Kind: grant.Group, ID: "g1"}, Precision: grant.Exact, Expires: time.Now()}}
		w.mu.Unlock()

		other := New(w.config())
		require.NoError(t, other.Start(t.Context()))
		next := w.session("ann", "phone", 2, g1)
		require.NoError(t, other.Report(next, 1, at(48, 12, time.Now()), nil))
		settle(2 * time.Second)
		require.Nil(t, w.sees(g1, "ann"))
		other.Stop()
	})
}

// crawling is a database that answers nothing until it is told to.
type crawling struct {
	*world
	asked  chan string
	answer chan struct{}
}

func (c crawling) Sharing(ctx context.Context, user string, min uint64) (edge.Choices, error) {
	c.asked <- user
	<-c.answer
	return c.world.Sharing(ctx, user, min)
}

// What somebody takes back is read before all that only is to be looked at again,
// however much that is and however slow: nothing is between it and its own read.
func TestARevocationOvertakes(t *testing.T) {
	const others = 100_000
	w := newWorld()
	cfg := w.config()
	slow := crawling{w, make(chan string), make(chan struct{})}
	cfg.Sharing, cfg.Members, cfg.Readers = slow, w, 4
	h := New(cfg)
	w.grants["ann"], w.versions["ann"] = []grant.Grant{to(grant.Exact)}, 1
	require.NoError(t, h.Post("ann", "", at(48, 11, time.Now()), nil))
	require.NoError(t, h.Start(t.Context()))
	require.Equal(t, "ann", <-slow.asked)
	slow.answer <- struct{}{}
	require.Eventually(t, func() bool { _, ok := w.onMap("ann"); return ok }, 10*time.Second, time.Millisecond)

	for i := range others {
		require.NoError(t, h.Post(fmt.Sprint(i), "", at(48, 11, time.Now()), nil))
	}
	for range cfg.Readers { // all are stuck
		require.NotEqual(t, "ann", <-slow.asked)
	}
	ann := h.lock("ann", false) // she waits for her own turn, too, behind them
	ann.asOf = ann.asOf.Add(-25 * time.Second)
	ann.settle(time.Now(), false)
	require.True(t, ann.reading)
	ann.mu.Unlock()

	w.mu.Lock()
	w.grants["ann"], w.versions["ann"] = nil, 2
	w.mu.Unlock()
	h.Changed("ann", 2)
	require.Equal(t, "ann", <-slow.asked)
	slow.answer <- struct{}{}
	for ok := true; ok; _, ok = w.onMap("ann") { // one of the stuck ones may have got the answer
		select {
		case slow.answer <- struct{}{}:
		case <-slow.asked:
		case <-time.After(time.Millisecond):
		}
	}
	h.reads.mu.Lock()
	require.Greater(t, len(h.reads.rest), others*9/10)
	require.Empty(t, h.reads.first)
	h.reads.mu.Unlock()
	go func() { // the others may end
		for range slow.asked {
		}
	}()
	close(slow.answer)
	h.Stop()
	close(slow.asked)
}

// Who took their position back is shown by no node that was not told of it, once
// it read that: neither what it had, nor what groups were named then, nor what a
// device says again. What the device says next is shown again.
func TestAWithdrawalThatWasMissed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world, h *Sharer) {
		w.mu.Lock()
		w.grants["ann"] = []grant.Grant{to(grant.Exact), {Audience: grant.Audience{Kind: grant.Person, ID: "bob"}, Precision: grant.Cells(7)}}
		w.mu.Unlock()
		const g2, bob = groupRoom + "g2", "direct:ann:bob"
		phone, tablet := w.session("ann", "phone", 1, g1, g2), w.session("ann", "tablet", 1, g1, g2)
		sees := func(yes bool) {
			t.Helper()
			_, near := w.onMap("ann")
			require.Equal(t, []bool{yes, yes, yes}, []bool{w.sees(g1, "ann") != nil, w.sees(bob, "ann") != nil, near})
		}
		last := at(48, 12, time.Now().Add(5*time.Second)) // its clock is ahead
		require.NoError(t, h.Report(tablet, 1, at(48, 11, time.Now()), []string{g1}))
		require.NoError(t, h.Report(phone, 1, last, []string{g1}))
		settle(time.Second)
		sees(true)

		w.mu.Lock()
		w.tookBack["ann"], w.versions["ann"] = time.Now(), 1
		w.mu.Unlock()
		settle(30 * time.Second)
		sees(false)
		require.Nil(t, w.sees(g1, "ann"))
		_, ok := h.Own("ann")
		require.False(t, ok)

		require.NoError(t, h.Report(phone, 2, last, []string{g1}))
		other := New(w.config()) // and by one that knew nothing of the user
		require.NoError(t, other.Start(t.Context()))
		require.NoError(t, other.Post("ann", "Ann", at(48, 13, time.Now().Add(-time.Minute)), []string{g1}))
		settle(time.Second)
		sees(false)
		other.Stop()
		require.NoError(t, h.Report(phone, 3, at(48, 14, time.Now().Add(5*time.Second)), []string{g2}))
		settle(time.Second)
		require.Nil(t, w.sees(g1, "ann"), "it is not named by what came since")
		require.NotNil(t, w.sees(g2, "ann"))
		require.NotNil(t, w.sees(bob, "ann"))
	})
}
