package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

// A region becomes a black hole: its connections neither close nor bring
// anything. Whoever looks or sends is live in the next one within three seconds,
// and who does neither within twenty, rooms and unanswered requests included;
// also if it is only one direction that does not work, and whenever it happens.
func TestBlackHole(t *testing.T) {
	type use int
	const (
		looks use = iota
		sends
		reports
		idles
		near = 90 * time.Millisecond
	)
	for _, c := range []struct {
		name string
		use  use
		ways way
		next time.Duration // round trip to the next region
		most time.Duration
	}{
		{"in the foreground", looks, both, near, 3 * time.Second},
		{"in the foreground, nothing gets there", looks, there, near, 3 * time.Second},
		{"in the foreground, nothing comes back", looks, back, near, 3 * time.Second},
		{"in the foreground, the next one is on another continent", looks, both, 230 * time.Millisecond, 3 * time.Second},
		{"sending in the background", sends, both, near, 3 * time.Second},
		{"sending in the background, nothing gets there", sends, there, near, 3 * time.Second},
		{"reporting fixes in the background", reports, both, near, 3 * time.Second},
		{"idle", idles, both, near, 20 * time.Second},
		{"idle, nothing gets there", idles, there, near, 20 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []time.Duration
			for seed := range uint64(50) {
				synctest.Test(t, func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, 3))
					w := newWAN(t, "eu", "us", "ap")
					w.rtt = map[string]time.Duration{"eu": 20 * time.Millisecond, "us": c.next, "ap": 300 * time.Millisecond}
					s, seen, r := w.enter(func(cfg *Config) { cfg.Background = c.use != looks })
					time.Sleep(20*time.Second + time.Duration(rng.Int64N(int64(10*time.Second))))
					require.Len(t, seen.phases(), 1)
					w.hold("eu", c.ways)
					began := time.Now()
					if c.use == sends {
						_, err := r.Send(t.Context(), "anybody there?")
						require.NoError(t, err)
					}
					if c.use == reports {
						require.NoError(t, s.Report(Fix{Point: geo.Point{Lat: 1, Lng: 2}}))
					}
					s.until(elsewhere("eu"))
					all = append(all, time.Since(began))
					require.Equal(t, "us", s.Status().Region, "the next one, not a farther one")
					time.Sleep(time.Second)
					require.Len(t, seen.told(), 1)
					require.Equal(t, MoveSilent, seen.told()[0].Reason)
					require.Zero(t, seen.told()[0].Unrecovered)
					if c.use != idles {
						require.Zero(t, seen.told()[0].Gap, "make before break")
						require.Equal(t, []Phase{Live, Live}, seen.phases())
					}
					// The region comes back: that is no reason to go back.
					w.hold("eu", 0)
					time.Sleep(5 * time.Minute)
					require.Equal(t, "us", s.Status().Region)
					require.Len(t, seen.told(), 1)
				})
			}
			slices.Sort(all)
			t.Logf("median %v, most %v", all[len(all)/2], all[len(all)-1])
			require.Less(t, all[len(all)-1], c.most)
		})
	}
}

// A node that dies without a word is left for another one of its region, though
// others could be reached.
func TestNodeDeathStaysInTheRegion(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			w := newWAN(t, "eu", "us")
			s, seen, _ := w.enter(nil)
			time.Sleep(20*time.Second + time.Duration(seed)*77*time.Millisecond)
			w.hold("eu-1", both)
			require.Less(t, s.until(elsewhere("eu-1")), 2200*time.Millisecond)
			require.Equal(t, "eu-2", s.Status().Node)
			require.Equal(t, []string{"eu-2"}, w.dialed())
			time.Sleep(time.Second)
			require.Equal(t, []Phase{Live, Live}, seen.phases())
		})
	}
}

// A region that has lost its leader takes a second for a Welcome: it is given
// the time. If it takes much longer, the next region is asked as well; whichever
// Welcome has the higher epoch is the session's, whatever comes first.
func TestAHelloCommits(t *testing.T) {
	for _, c := range []struct {
		name  string
		late  time.Duration // of eu's Welcomes
		above bool          // eu issues its epoch late, too, so that it wins
		want  string
	}{
		{"a second", time.Second, true, "eu"},
		{"long, and the other supersedes it", 3 * time.Second, false, "us"},
		{"long, and it supersedes the other", 3 * time.Second, true, "eu"},
		{"never", time.Hour, false, "us"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWAN(t, "eu", "us")
				s, seen, _ := w.enter(nil)
				time.Sleep(20 * time.Second)
				var mu sync.Mutex
				var live *fakeConn
				for name, f := range w.nodes {
					if name[:2] != "eu" {
						f.greet(func(conn *fakeConn, cf *wire.ClientFrame) bool {
							mu.Lock()
							live = conn
							mu.Unlock()
							f.welcome(conn, cf.GetId())
							conn.send(resumed())
							return true
						})
						continue
					}
					f.greet(func(conn *fakeConn, cf *wire.ClientFrame) bool {
						epoch := f.epoch.Add(1)
						time.AfterFunc(c.late, func() {
							mu.Lock()
							defer mu.Unlock()
							f.mu.Lock()
							now := f.epoch
							f.mu.Unlock()
							if !c.above && live != nil {
								conn.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Welcome{Welcome: &wire.Welcome{
									Version: 1, User: "me", Epoch: epoch, Region: "eu", Node: f.ep.Node, PingMs: 10000,
								}}})
								return
							}
							f.welcome(conn, cf.GetId())
							conn.send(resumed())
							if live != nil {
								other, won := live, now.Load()
								time.AfterFunc(50*time.Millisecond, func() { other.closeWith(wire.CodeSuperseded, won, 0) })
							}
						})
						return true
					})
				}
				w.hold("eu-1", both)
				time.Sleep(15 * time.Second)
				require.Equal(t, c.want, s.Status().Region)
				require.NotContains(t, seen.phases(), Reconnecting, "never without a connection")
				require.Equal(t, Live, s.Status().Phase)
				require.Empty(t, s.greeting)
				if c.late == time.Second {
					require.Empty(t, w.nodes["us-1"].conns, "no hello there")
				}
				require.LessOrEqual(t, len(seen.told()), 2)
			})
		})
	}
}

// The old connection speaks before a new one is up: nobody notices but the
// counters.
func TestTheOldOneSpeaksFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		w.rtt = map[string]time.Duration{"eu": 300 * time.Millisecond, "us": 300 * time.Millisecond}
		s, seen, _ := w.enter(nil)
		time.Sleep(20 * time.Second)
		for range 5 {
			w.hold("eu", both)
			w.hold("us", both)
			before := s.Counters().Suspicions
			for s.Counters().Suspicions == before {
				time.Sleep(time.Millisecond)
			}
			w.hold("eu", 0)
			w.hold("us", 0)
			time.Sleep(2 * time.Minute)
		}
		require.Equal(t, "eu-1", s.Status().Node)
		require.EqualValues(t, 101, s.Status().Epoch, "no hello was said")
		require.Equal(t, []Phase{Live}, seen.phases())
		require.Empty(t, seen.told())
		require.NotEmpty(t, w.dialed())
	})
}

// A network that stutters does not make a session wander.
func TestFlapping(t *testing.T) {
	for _, what := range [][]string{{"eu"}, {"eu", "us", "ap"}} {
		t.Run(fmt.Sprint(what), func(t *testing.T) {
			for seed := range uint64(10) {
				synctest.Test(t, func(t *testing.T) {
					rng := rand.New(rand.NewPCG(seed, 5))
					w := newWAN(t, "eu", "us", "ap")
					s, seen, _ := w.enter(nil)
					time.Sleep(20 * time.Second)
					for range 60 { // some minutes
						for _, region := range what {
							w.hold(region, both)
						}
						time.Sleep(time.Second + time.Duration(rng.Int64N(int64(3*time.Second))))
						for _, region := range what {
							w.hold(region, 0)
						}
						time.Sleep(time.Second + time.Duration(rng.Int64N(int64(5*time.Second))))
					}
					time.Sleep(10 * time.Second)
					require.Equal(t, Live, s.Status().Phase)
					moves := seen.told()
					if len(what) == 1 {
						require.LessOrEqual(t, len(moves), 3, "it leaves, and stays away")
						require.Equal(t, "us", s.Status().Region)
					} else {
						// Everything fails at once: there is nowhere better, and
						// impatience must not make it worse.
						require.LessOrEqual(t, len(moves), 15, "%v", moves)
						require.Equal(t, "eu", s.Status().Region)
					}
				})
			}
		})
	}
}

// While nobody can be reached, dials go on in bounded number, and as soon as
// somebody can be the session is there.
func TestWholeListDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us", "ap")
		s, seen, r := w.enter(nil)
		time.Sleep(20 * time.Second)
		for _, region := range []string{"eu", "us", "ap"} {
			w.hold(region, both)
		}
		sent := make(chan error, 1)
		go func() {
			_, err := r.Send(t.Context(), "hello?")
			sent <- err
		}()
		time.Sleep(5 * time.Minute)
		require.Equal(t, []Phase{Live, Reconnecting}, seen.phases())
		dials := len(w.dialed())
		t.Logf("%d dials in five minutes", dials)
		require.Less(t, dials, 300)
		w.hold("ap", 0)
		require.Less(t, s.until(elsewhere("-")), 20*time.Second)
		require.Equal(t, "ap", s.Status().Region)
		require.NoError(t, <-sent, "the request has waited")
	})
}

// The device itself has no network for a while, and says so when it is back.
func TestNetworkChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		s, _, _ := w.enter(func(cfg *Config) { cfg.Background = true })
		// Another network: the old connection's packets lead nowhere, the nodes
		// answer.
		time.Sleep(time.Minute)
		w.hold("#1", both)
		s.NetworkChanged()
		require.Less(t, s.until(func(st Status) bool { return st.Epoch > 101 }), 2*time.Second)
		require.Equal(t, "eu-1", s.Status().Node, "the same node over the new network")

		// Without any connection, the wait for the next round is cut short.
		w.hold("eu", both)
		w.hold("us", both)
		time.Sleep(10 * time.Minute)
		w.hold("eu", 0)
		w.hold("us", 0)
		s.NetworkChanged()
		require.Less(t, s.until(elsewhere("-")), 11*time.Second)
	})
}

// A connection that is closed and can't be had again: all dials are under way
// within seconds, whatever hangs, but the more hang the slower new ones come.
func TestDialsDoNotQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		s, _, _ := w.enter(nil)
		c := w.nodes["eu-1"].next()
		time.Sleep(20 * time.Second)
		for _, name := range w.names[:5] {
			w.set(name, silent)
		}
		c.closing(0)
		require.InDelta(t, 4.5, s.until(elsewhere("eu")).Seconds(), 1)
		require.Equal(t, "us-3", s.Status().Node)
		require.Equal(t, []string{"eu-1", "eu-2", "us-1", "eu-3", "us-2", "us-3"}, w.dialed())
	})
}

// A Goaway comes while another node is tried since this one was silent.
func TestGoawayWhileSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		s, seen, _ := w.enter(nil)
		c := w.nodes["eu-1"].next()
		time.Sleep(20 * time.Second)
		w.hold("eu-1", there)
		w.hold("eu-2", both)
		w.hold("us", both)
		for s.Counters().Suspicions == 0 {
			time.Sleep(time.Millisecond)
		}
		w.goaway(c, 10*time.Second, "eu-3")
		s.until(elsewhere("eu-1"))
		require.Equal(t, "eu-3", s.Status().Node)
		time.Sleep(time.Second)
		require.Len(t, seen.told(), 1)
		require.Equal(t, []Phase{Live, Live}, seen.phases())
	})
}

// lists is a source of lists of nodes.
type lists struct {
	mu    sync.Mutex
	edge  Edge
	err   error
	asked int
}

func (l *lists) Edge(context.Context) (Edge, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	return l.edge, l.err
}

func (l *lists) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

func (l *lists) set(e Edge, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.edge, l.err = e, err
}

func TestTheListIsRefreshed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us", "ap")
		short := w.list("eu")
		short.Regions, short.TTL = short.Regions[:1], 60
		source := &lists{edge: short}
		s, _, _ := w.enter(func(cfg *Config) { cfg.Endpoints, cfg.Edges = nil, source })
		require.Equal(t, "eu-1", s.Status().Node)
		time.Sleep(10*time.Minute + time.Second)
		require.Equal(t, 11, source.count(), "once a minute")
		source.set(Edge{}, errors.New("not now"))
		time.Sleep(10*time.Minute + time.Second)
		require.Less(t, source.count(), 25)

		// The region is lost, and with it all that the session knows.
		w.hold("eu", both)
		time.Sleep(time.Minute)
		require.Equal(t, Reconnecting, s.Status().Phase)
		source.set(w.list("ap"), nil)
		require.Less(t, s.until(elsewhere("eu")), 45*time.Second, "a new list is asked for after each round")
		require.Equal(t, "ap", s.Status().Region)
	})
}

func TestConnectWithoutAList(t *testing.T) {
	_, err := Connect(t.Context(), Config{Tokens: StaticToken("x"), Edges: &lists{}})
	require.ErrorContains(t, err, "no edge node")
	_, err = Connect(t.Context(), Config{Tokens: StaticToken("x"), Edges: &lists{err: errors.New("away")}})
	require.ErrorContains(t, err, "away")
}

// Another region is nearer, clearly and steadily: the session moves there
// without a gap, and not back at once.
func TestMovesHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us", "ap")
		source := &lists{edge: w.list("us", "eu", "ap")}
		s, seen, _ := w.enter(func(cfg *Config) { cfg.Endpoints, cfg.Edges = nil, source })
		require.Equal(t, "us", s.Status().Region)
		time.Sleep(4 * time.Minute)
		require.Equal(t, "us", s.Status().Region, "not at the first sight")
		for range 15 * 60 {
			if time.Sleep(time.Second); s.Status().Region != "us" {
				break
			}
		}
		time.Sleep(time.Second)
		require.Equal(t, "eu", s.Status().Region)
		require.Equal(t, []Phase{Live, Live}, seen.phases())
		require.Equal(t, MoveNearer, seen.told()[0].Reason)
		require.Zero(t, seen.told()[0].Gap)
		require.Zero(t, seen.told()[0].Unrecovered)

		// Now us is nearer; but it has only just come here.
		w.mu.Lock()
		w.rtt = map[string]time.Duration{"eu": 90 * time.Millisecond, "us": 20 * time.Millisecond, "ap": 200 * time.Millisecond}
		w.mu.Unlock()
		s.NetworkChanged()
		time.Sleep(30 * time.Second)
		require.Equal(t, "eu", s.Status().Region)
		time.Sleep(20 * time.Minute)
		require.Equal(t, "us", s.Status().Region)
	})
}

func TestMovesHomeSoonAfterANetworkChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		s, _, _ := w.enter(func(cfg *Config) { cfg.Endpoints, cfg.Edges = nil, &lists{edge: w.list("us")} })
		s.NetworkChanged()
		time.Sleep(15 * time.Second)
		require.Equal(t, "eu", s.Status().Region)
	})
}

// Reasons to stay.
func TestStaysHome(t *testing.T) {
	for name, change := range map[string]func(w *wan, cfg *Config, l *lists){
		"told to":                  func(_ *wan, cfg *Config, _ *lists) { cfg.StayPut = true },
		"in the background":        func(_ *wan, cfg *Config, _ *lists) { cfg.Background = true },
		"not by much":              func(w *wan, _ *Config, _ *lists) { w.rtt = map[string]time.Duration{"eu": 75e6, "us": 90e6} },
		"by a share, but not much": func(w *wan, _ *Config, _ *lists) { w.rtt = map[string]time.Duration{"eu": 10e6, "us": 28e6} },
		"the other one is full": func(_ *wan, _ *Config, l *lists) {
			i := slices.IndexFunc(l.edge.Regions, func(r EdgeRegion) bool { return r.Name == "eu" })
			l.edge.Regions[i].State = "draining"
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWAN(t, "eu", "us")
				source := &lists{edge: w.list("us")}
				s, seen, _ := w.enter(func(cfg *Config) {
					cfg.Endpoints, cfg.Edges = nil, source
					change(w, cfg, source)
				})
				time.Sleep(time.Hour)
				require.Equal(t, "us", s.Status().Region)
				require.Empty(t, seen.told())
			})
		})
	}
}

// The nearer region can be timed but not moved to: the session stays, unharmed,
// and does not try again and again.
func TestMovesHomeInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		for n := range 3 {
			w.set(fmt.Sprint("eu-", n+1), down)
		}
		s, seen, _ := w.enter(func(cfg *Config) { cfg.Endpoints, cfg.Edges = nil, &lists{edge: w.list("us")} })
		time.Sleep(time.Hour)
		require.Equal(t, "us", s.Status().Region)
		require.Empty(t, seen.told())
		require.Equal(t, []Phase{Live}, seen.phases())
		require.LessOrEqual(t, len(w.dialed()), 18)
	})
}

// Which regions can't be heard is what the session's own connection says, not
// one that it has replaced.
func TestReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		s, _, r := w.enter(nil)
		c := w.nodes["eu-1"].next()
		since := time.Now().Add(-time.Minute).UTC()
		reach := func(list ...*wire.RegionReach) *wire.ServerFrame {
			return &wire.ServerFrame{Body: &wire.ServerFrame_Reach{Reach: &wire.Reach{Room: room, Unreached: list}}}
		}
		away := &wire.RegionReach{Region: "eu-west", UnknownSince: timestamppb.New(since)}
		c.send(reach(away))
		require.Equal(t, RegionReach{Region: "eu-west", UnknownSince: since}, expect[RegionChanged](t, r).Reach)
		require.Equal(t, []RegionReach{{Region: "eu-west", UnknownSince: since}}, r.Unreached())
		require.True(t, r.Members()[0].Unknown())

		other := w.nodes["us-1"]
		other.greet(func(*fakeConn, *wire.ClientFrame) bool { return true })
		w.goaway(c, 10*time.Second, "us-1")
		next := other.next()
		other.welcome(next, next.re)
		time.Sleep(time.Second)
		c.send(reach(away, &wire.RegionReach{Region: "us", Lost: true}))
		time.Sleep(time.Second)
		require.Len(t, r.Unreached(), 1)
		next.send(resumed())
		require.Equal(t, RegionReach{Region: "eu-west"}, expect[RegionChanged](t, r).Reach)
		require.Empty(t, r.Unreached())
		require.False(t, r.Members()[0].Unknown())
		require.Equal(t, "us", s.Status().Region)
	})
}

// lostTokens is a source of tokens that can be lost.
type lostTokens struct {
	mu   sync.Mutex
	lost bool
}

func (l *lostTokens) Token(ctx context.Context, _ string) (string, error) {
	l.mu.Lock()
	lost := l.lost
	l.mu.Unlock()
	if lost {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return "token", nil
}

// The region that is lost is also where tokens come from: the last one has to do.
func TestTokensAreLostToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		tokens := new(lostTokens)
		s, _, _ := w.enter(func(cfg *Config) { cfg.Tokens = tokens })
		time.Sleep(time.Minute)
		tokens.mu.Lock()
		tokens.lost = true
		tokens.mu.Unlock()
		w.hold("eu", both)
		require.Less(t, s.until(elsewhere("eu")), 4*time.Second)
	})
}

// Hellos that were given up get through late, one after the other, and supersede
// what has become of the session: that is no other program with the same device.
func TestStrayHellos(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, "a")
		s, _ := m.connect("a")
		a := m.nodes["a"]
		c := a.next()
		for epoch := range uint64(4) {
			time.Sleep(steady + time.Second)
			m.hold("a")
			c.closing(0)
			a.next().closing(0)
			a.greet(nil)
			a.next().closeWith(wire.CodeSuperseded, 1000+epoch, 0)
			c = a.next()
			require.Equal(t, 1000+epoch, c.hello.GetEpoch())
			synctest.Wait()
			require.Equal(t, Live, s.Status().Phase)
		}
	})
}
