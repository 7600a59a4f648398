package consensus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// bubble runs f with a started group of the given size under fake time.
func bubble(t *testing.T, size int, change func(*Config), f func(t *testing.T, g *group)) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, size, change).startAll()
		defer g.stopAll()
		f(t, g)
	})
}

func TestProposeAndReadEverywhere(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			bubble(t, size, nil, func(t *testing.T, g *group) {
				g.leader()
				for i, id := range g.ids {
					eventually(t, func() bool { return len(g.nodes[id].Members()) == size }, "not all joined")
					require.NoError(t, g.put(g.nodes[id], 1, uint64(i+1), uint64(100+i)))
					for _, other := range g.ids {
						require.NoError(t, g.read(g.nodes[other]))
						require.EqualValues(t, 100+i, g.machines[other].get(1), "%s after %s", other, id)
					}
				}
			})
		})
	}
}

func TestWhoVotes(t *testing.T) {
	for size, want := range map[int]int{1: 1, 2: 1, 3: 3, 4: 3, 5: 3, 6: 3} {
		require.Equal(t, want, (&Config{Voters: 3}).voters(size))
	}
	require.Equal(t, 5, (&Config{Voters: 5}).voters(7))
	require.Equal(t, 3, (&Config{Voters: 5}).voters(4))
	bubble(t, 5, nil, func(t *testing.T, g *group) {
		eventually(t, func() bool { return len(g.nodes["n5"].Members()) == 5 }, "learners did not join")
		voters := 0
		for _, m := range g.nodes["n5"].Members() {
			if m.Voter {
				voters++
			}
		}
		require.Equal(t, 3, voters)
	})
}

func TestLeaderCutOff(t *testing.T) {
	bubble(t, 3, nil, func(t *testing.T, g *group) {
		old := g.leader()
		require.NoError(t, g.put(old, 1, 1, 1))
		g.net.isolate(old.cfg.Self, g.ids...)
		began := time.Now()
		// Before it knows, it must not show what may be old.
		require.Error(t, g.read(old))
		lead := g.leader(old.cfg.Self)
		require.Less(t, time.Since(began), 6*time.Second)
		require.NoError(t, g.put(lead, 1, 2, 2))
		require.Error(t, g.put(old, 1, 3, 3), "a minority acknowledges nothing")
		require.Less(t, old.Contact(), began.Add(100*time.Millisecond), "and knows that it is cut off")
		require.WithinDuration(t, time.Now(), lead.Contact(), 200*time.Millisecond)
		g.net.healAll()
		require.NoError(t, g.read(old))
		require.EqualValues(t, 2, g.machine(old).get(1))
		eventually(t, func() bool { return time.Since(old.Contact()) < 100*time.Millisecond }, "no contact")
	})
}

func TestFailoverIsShort(t *testing.T) {
	for seed := range 10 {
		bubble(t, 3, nil, func(t *testing.T, g *group) {
			time.Sleep(time.Duration(seed) * 37 * time.Millisecond)
			old := g.leader()
			asker := g.follower()
			require.NoError(t, g.put(asker, 1, 1, 1))
			began := time.Now()
			g.net.isolate(old.cfg.Self, g.ids...)
			for id := uint64(2); ; {
				err := g.put(asker, 1, id, 5)
				if err == nil {
					break
				}
				require.True(t, errors.Is(err, ErrUnknown) || errors.Is(err, ErrNoLeader), "%v", err)
			}
			took := time.Since(began)
			require.Less(t, took, time.Second)
			require.EqualValues(t, 2, g.machine(g.leader(old.cfg.Self)).count())
			t.Logf("%v", took)
		})
	}
}

func TestCutOneWay(t *testing.T) {
	for _, way := range []string{"leader is not heard", "leader does not hear"} {
		t.Run(way, func(t *testing.T) {
			bubble(t, 3, nil, func(t *testing.T, g *group) {
				old := g.leader()
				for _, id := range g.ids {
					if id == old.cfg.Self {
						continue
					}
					if way == "leader is not heard" {
						g.net.cut(old.cfg.Self, id)
					} else {
						g.net.cut(id, old.cfg.Self)
					}
				}
				lead := g.leader(old.cfg.Self)
				require.NoError(t, g.put(lead, 1, 1, 1))
				g.net.healAll()
				require.NoError(t, g.read(old))
				require.EqualValues(t, 1, g.machine(old).get(1))
			})
		})
	}
}

func TestAFollowerThatReturnsDisturbsNobody(t *testing.T) {
	bubble(t, 3, nil, func(t *testing.T, g *group) {
		lead, follower := g.leader(), g.follower()
		term := lead.raft.CurrentTerm()
		g.net.isolate(follower.cfg.Self, g.ids...)
		time.Sleep(5 * time.Second)
		g.net.healAll()
		time.Sleep(2 * time.Second)
		require.Same(t, lead, g.leader())
		require.Equal(t, term, lead.raft.CurrentTerm(), "pre-vote")
	})
}

func TestNoMajority(t *testing.T) {
	bubble(t, 3, nil, func(t *testing.T, g *group) {
		g.leader()
		g.stop("n1")
		g.stop("n2")
		n := g.nodes["n3"]
		err := g.put(n, 1, 1, 1)
		require.True(t, errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUnknown), "%v", err)
		err = g.put(n, 1, 1, 1)
		require.ErrorIs(t, err, ErrNoLeader)
		require.ErrorIs(t, g.read(n), ErrNoLeader)
		require.Greater(t, time.Since(n.Contact()), 2*time.Second)
		g.start("n1")
		g.leader()
		require.NoError(t, g.put(n, 1, 1, 1))
	})
}

func TestRestartKeepsWhatWasAcknowledged(t *testing.T) {
	bubble(t, 3, func(c *Config) { c.SnapshotEvery = 64 }, func(t *testing.T, g *group) {
		for i := range uint64(300) {
			require.NoError(t, g.put(g.leader(), byte(i%7), i, i))
		}
		for _, id := range g.ids {
			g.stop(id)
		}
		for _, id := range g.ids {
			g.start(id)
		}
		g.leader()
		for _, n := range g.nodes {
			require.NoError(t, g.read(n))
			require.EqualValues(t, 300, g.machine(n).count())
			require.EqualValues(t, 299, g.machine(n).get(299%7))
		}
	})
}

func TestSnapshotReachesWhoWasAway(t *testing.T) {
	bubble(t, 3, func(c *Config) { c.SnapshotEvery = 64 }, func(t *testing.T, g *group) {
		away := g.follower().cfg.Self
		g.stop(away)
		for i := range uint64(500) {
			require.NoError(t, g.put(g.leader(), 1, i, i))
		}
		time.Sleep(time.Minute) // snapshots are taken now and then
		first, err := g.disks[g.leader().cfg.Self].logs.FirstIndex()
		require.NoError(t, err)
		require.Greater(t, first, uint64(100), "the log was not cut")
		g.start(away)
		require.NoError(t, g.read(g.nodes[away]))
		require.EqualValues(t, 500, g.machines[away].count())
	})
}

func TestTransferLeadership(t *testing.T) {
	bubble(t, 3, nil, func(t *testing.T, g *group) {
		for i := range 10 {
			old := g.leader()
			began := time.Now()
			require.NoError(t, old.TransferLeadership(t.Context()))
			require.NoError(t, old.TransferLeadership(t.Context()), "it leads no more")
			lead := g.leader()
			require.NotSame(t, old, lead)
			require.Less(t, time.Since(began), 100*time.Millisecond)
			require.NoError(t, g.put(old, 1, uint64(i), 1))
		}
	})
}

func TestRemovalPromotesALearner(t *testing.T) {
	for _, who := range []string{"follower", "leader", "dead"} {
		t.Run(who, func(t *testing.T) {
			bubble(t, 4, nil, func(t *testing.T, g *group) {
				lead := g.leader()
				eventually(t, func() bool { return len(lead.Members()) == 4 }, "learner did not join")
				victim, asker := lead, g.nodes["n4"]
				if who != "leader" {
					victim = g.follower()
				}
				time.Sleep(200 * time.Millisecond)
				if who == "dead" {
					g.stop(victim.cfg.Self)
				}
				require.NoError(t, asker.RemoveNode(t.Context(), victim.cfg.Self))
				require.NoError(t, asker.RemoveNode(t.Context(), victim.cfg.Self), "idempotent")
				eventually(t, func() bool {
					members := asker.Members()
					for _, m := range members {
						if !m.Voter || m.Node == victim.cfg.Self {
							return false
						}
					}
					return len(members) == 3
				}, "three voters")
				require.NoError(t, g.put(asker, 1, 1, 1))
				require.NoError(t, asker.AddNode(t.Context(), victim.cfg.Self))
				eventually(t, func() bool { return len(asker.Members()) == 4 }, "added again")
			})
		})
	}
}

func TestTheLastVoterStays(t *testing.T) {
	bubble(t, 1, nil, func(t *testing.T, g *group) {
		require.ErrorIs(t, g.leader().RemoveNode(t.Context(), "n1"), ErrLastVoter)
		require.Error(t, g.leader().AddNode(t.Context(), "No Name"))
	})
}

func TestPeersUpAndDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var lines []string
		took := map[regions.NodeID]time.Time{}
		add := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, fmt.Sprintf(format, args...))
		}
		g := newGroup(t, 3, func(c *Config) {
			c.PeerUp = func(_ uint64, n regions.NodeID) { add("%s: up %s", c.Self, n) }
			c.PeerDown = func(_ uint64, n regions.NodeID, since time.Time) {
				add("%s: down %s", c.Self, n)
				mu.Lock()
				took[n] = time.Now()
				mu.Unlock()
			}
			c.Lead = func(ctx context.Context, _ uint64) { add("%s: leads", c.Self); <-ctx.Done(); add("%s: done", c.Self) }
		}).startAll()
		defer g.stopAll()
		has := func(line string) bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(strings.Join(lines, "\n")+"\n", line+"\n")
		}
		lead, follower := g.leader(), g.follower().cfg.Self
		a := lead.cfg.Self
		eventually(t, func() bool { return has(fmt.Sprintf("%s: up %s", a, follower)) }, "up")
		began := time.Now()
		g.stop(follower)
		eventually(t, func() bool { return has(fmt.Sprintf("%s: down %s", a, follower)) }, "down")
		require.InDelta(t, 1.0, time.Since(began).Seconds(), 0.2)
		g.start(follower)
		time.Sleep(time.Second)
		require.False(t, has(fmt.Sprintf("%s: done", a)))

		// A dead leader is down soon after its successor is elected.
		began = time.Now()
		g.stop(a)
		next := g.leader().cfg.Self
		eventually(t, func() bool { return has(fmt.Sprintf("%s: down %s", next, a)) }, "old leader down")
		t.Logf("old leader down after %v", time.Since(began))
		require.Less(t, time.Since(began), 900*time.Millisecond)
		require.True(t, has(fmt.Sprintf("%s: done", a)))
	})
}

func TestDiskFailureEndsOneNodeOnly(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			failed := make(chan error, 3)
			bubble(t, 3, func(c *Config) { c.Failed = func(err error) { failed <- err } }, func(t *testing.T, g *group) {
				victim := g.leader()
				if who == "follower" {
					victim = g.follower()
				}
				require.NoError(t, g.put(victim, 1, 1, 1))
				full := errors.New("no space left on device")
				g.disks[victim.cfg.Self].Fail(full)
				err := g.put(victim, 1, 2, 2)
				if who == "leader" {
					require.True(t, errors.Is(err, ErrUnknown) || errors.Is(err, ErrStopped), "%v", err)
				}
				require.ErrorIs(t, <-failed, full)
				require.ErrorIs(t, victim.Err(), full)
				require.ErrorIs(t, g.put(victim, 1, 3, 3), ErrStopped)
				require.ErrorIs(t, g.read(victim), ErrStopped)
				require.False(t, victim.IsLeader())
				lead := g.leader(victim.cfg.Self)
				require.NoError(t, g.put(lead, 1, 4, 4))

				// With room again, a restart is all it takes.
				id := victim.cfg.Self
				g.stop(id)
				g.disks[id].Fail(nil)
				g.start(id)
				require.NoError(t, g.read(g.nodes[id]))
				require.EqualValues(t, 4, g.machines[id].get(1))
			})
		})
	}
}

// What raft has in its queues when it ends is never answered by it: nobody waits
// for that for ever.
func TestStopsWithCommandsUnderWay(t *testing.T) {
	bubble(t, 3, nil, func(t *testing.T, g *group) {
		lead := g.leader()
		m := g.machines[lead.cfg.Self]
		m.mu.Lock()
		m.slow = time.Second
		m.mu.Unlock()
		answers := make(chan error, 4)
		for i := range uint64(4) {
			go func() { answers <- g.put(lead, 1, i, i) }()
			time.Sleep(20 * time.Millisecond) // each its own entry
		}
		began := time.Now()
		g.stop(lead.cfg.Self)
		for range 4 {
			<-answers
		}
		require.Less(t, time.Since(began), 10*time.Second)
	})
}

// All replicas are told the same time of a command: its leader's.
func TestStampsAreTheLeaders(t *testing.T) {
	bubble(t, 3, nil, func(t *testing.T, g *group) {
		for i := range uint64(20) {
			if i == 10 {
				require.NoError(t, g.leader().TransferLeadership(t.Context()))
			}
			time.Sleep(7 * time.Millisecond)
			require.NoError(t, g.put(g.follower(), 1, i, i))
		}
		lead := g.leader()
		require.NoError(t, g.read(lead))
		stamps := g.machine(lead).stamps
		require.Len(t, stamps, 20)
		last := stamps[19]
		require.Equal(t, lead.raft.CurrentTerm(), last.Term)
		require.InDelta(t, time.Now().UnixMilli(), last.ClockMs, 100)
		require.InDelta(t, time.Since(lead.origin).Milliseconds(), last.UptimeMs, 100)
		require.Greater(t, last.Term, stamps[0].Term)
		for i, s := range stamps[1:] {
			require.GreaterOrEqual(t, s.Term, stamps[i].Term)
			require.Greater(t, s.ClockMs, stamps[i].ClockMs)
		}
		for _, n := range g.nodes {
			require.NoError(t, g.read(n))
			require.Equal(t, stamps, g.machine(n).stamps)
		}
	})
}

// A node that is too old for a command leaves, the others go on.
func TestNewerCommandsEndAnOlderNode(t *testing.T) {
	bubble(t, 3, func(c *Config) {
		if c.Self != "n3" {
			c.Version = 7
		}
	}, func(t *testing.T, g *group) {
		lead := g.leader()
		if lead.cfg.Self == "n3" { // what it writes, the others can read
			require.NoError(t, lead.TransferLeadership(t.Context()))
			lead = g.leader("n3")
		}
		require.NoError(t, g.put(lead, 1, 1, 1))
		eventually(t, func() bool { return g.nodes["n3"].Err() != nil }, "it goes on")
		require.ErrorIs(t, g.nodes["n3"].Err(), errTooNew)
		require.Zero(t, g.machines["n3"].count())
		require.NoError(t, g.put(g.leader("n3"), 1, 2, 2))
	})
}

func TestQueueAndRateAreBounded(t *testing.T) {
	bubble(t, 3, func(c *Config) { c.Queue = 10; c.Rate = 1 << 20 }, func(t *testing.T, g *group) {
		lead := g.leader()
		g.machine(lead).slow = 100 * time.Millisecond
		var busy, ok int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range uint64(100) {
			wg.Go(func() {
				err := g.put(lead, 1, i, i)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					ok++
				} else if errors.Is(err, ErrBusy) {
					busy++
				}
			})
		}
		wg.Wait()
		require.Equal(t, 100, ok+busy)
		require.Positive(t, busy)
		require.Positive(t, ok)
	})
	bubble(t, 1, func(c *Config) { c.Rate = 10 }, func(t *testing.T, g *group) {
		lead := g.leader()
		var err error
		for i := uint64(0); err == nil; i++ {
			err = g.put(lead, 1, i, i)
		}
		require.ErrorIs(t, err, ErrBusy)
	})
	bubble(t, 1, nil, func(t *testing.T, g *group) {
		_, err := g.leader().Propose(t.Context(), make([]byte, MaxCommand+1))
		require.ErrorIs(t, err, ErrTooLarge)
	})
}

func TestStopIsCleanAnyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 3, nil)
		defer g.stopAll()
		for i := range 10 {
			g.startAll()
			time.Sleep(time.Duration(i) * 60 * time.Millisecond)
			n := g.nodes["n1"]
			go func() { _ = g.put(n, 1, 1, 1) }()
			for _, id := range g.ids {
				g.stop(id)
			}
		}
		n, err := New(Config{Self: "x", Nodes: []regions.NodeID{"x"}, Machine: newRegisters(), Links: endpoint{g.net, "x"}})
		require.NoError(t, err)
		require.ErrorIs(t, n.Read(t.Context()), ErrStopped)
		_, err = n.Propose(t.Context(), nil)
		require.ErrorIs(t, err, ErrStopped)
		n.Stop()
		require.Error(t, n.Start(t.Context()))
	})
}
