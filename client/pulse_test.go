package client

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// story plays a pulse second by second from t0 and says when what happened.
type story struct {
	p          pulse
	foreground bool
	rtt        time.Duration
	alarms     int
}

var t0 = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func (s *story) play(until time.Duration, happens map[time.Duration]func(now time.Time)) (pings, alarms, dead []time.Duration) {
	for at := time.Duration(0); at <= until; at += 10 * time.Millisecond {
		now := t0.Add(at)
		if do := happens[at]; do != nil {
			do(now)
		}
		b := s.p.tick(now, s.rtt, s.foreground, s.alarms)
		if b.ping {
			pings = append(pings, at)
		}
		if b.alarm {
			alarms = append(alarms, at)
		}
		if b.dead {
			return pings, alarms, append(dead, at)
		}
	}
	return pings, alarms, dead
}

func TestPulse(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	fresh := func(rtt time.Duration) *story {
		return &story{p: pulse{every: 10 * s, heard: t0, pinged: t0}, rtt: rtt}
	}
	t.Run("idle in the background", func(t *testing.T) {
		st := fresh(30 * ms)
		pings, alarms, dead := st.play(20*s, nil)
		require.Equal(t, []time.Duration{5 * s, 6 * s, 7 * s, 8 * s}, pings)
		require.Empty(t, alarms, "for its own sake only")
		require.Equal(t, []time.Duration{9 * s}, dead)
	})
	t.Run("in the foreground", func(t *testing.T) {
		st := fresh(30 * ms)
		st.foreground = true
		pings, alarms, dead := st.play(20*s, nil)
		require.Equal(t, 1*s, pings[0])
		require.Equal(t, []time.Duration{1750 * ms}, alarms)
		require.Equal(t, []time.Duration{5 * s}, dead)
	})
	t.Run("after a request", func(t *testing.T) {
		st := fresh(30 * ms)
		pings, alarms, dead := st.play(20*s, map[time.Duration]func(time.Time){2 * s: st.p.ask})
		require.Equal(t, 2250*ms, pings[0], "is it the node, or only what was asked?")
		require.Equal(t, []time.Duration{2750 * ms}, alarms)
		require.Equal(t, []time.Duration{6 * s}, dead)
	})
	t.Run("after a fix", func(t *testing.T) {
		st := fresh(30 * ms)
		pings, alarms, _ := st.play(4*s, map[time.Duration]func(time.Time){2 * s: func(now time.Time) { st.p.said = now }})
		require.Equal(t, 2*s, pings[0])
		require.Equal(t, []time.Duration{2750 * ms}, alarms)
	})
	t.Run("far away", func(t *testing.T) {
		st := fresh(500 * ms)
		_, alarms, dead := st.play(30*s, map[time.Duration]func(time.Time){2 * s: st.p.ask})
		require.Equal(t, []time.Duration{3500 * ms}, alarms)
		require.Equal(t, []time.Duration{10 * s}, dead)
	})
	t.Run("after false alarms", func(t *testing.T) {
		st := fresh(30 * ms)
		st.alarms = 2
		_, alarms, dead := st.play(30*s, map[time.Duration]func(time.Time){2 * s: st.p.ask})
		require.Equal(t, []time.Duration{5 * s}, alarms)
		require.Equal(t, []time.Duration{6 * s}, dead, "which is no reason to wait longer for the dead")
	})
	t.Run("a slow request", func(t *testing.T) {
		st := fresh(30 * ms)
		happens := map[time.Duration]func(time.Time){2 * s: st.p.ask}
		for at := 2280 * ms; at < 20*s; at += time.Second { // each ping is answered, the request is not
			happens[at] = func(now time.Time) { st.p.hear(now); st.p.answer(true) }
		}
		pings, alarms, dead := st.play(15*s, happens)
		require.Empty(t, alarms)
		require.Empty(t, dead)
		require.LessOrEqual(t, len(pings), 14)
	})
	t.Run("heard, and never answered", func(t *testing.T) {
		st := fresh(30 * ms)
		st.foreground = true
		happens := map[time.Duration]func(time.Time){2 * s: st.p.ask}
		for at := 100 * ms; at < 20*s; at += 100 * ms {
			happens[at] = st.p.hear
		}
		happens[2*s] = st.p.ask
		_, alarms, dead := st.play(10*s, happens)
		require.Equal(t, []time.Duration{2250*ms + 1500*ms}, alarms, "one direction does not work")
		require.Equal(t, deaf, st.p.doubt)
		require.Empty(t, dead)
		st.p.hear(t0.Add(11 * s))
		require.Equal(t, deaf, st.p.doubt)
		st.p.answer(false)
		require.Equal(t, trusted, st.p.doubt)
	})
	t.Run("heard again", func(t *testing.T) {
		st := fresh(30 * ms)
		_, alarms, _ := st.play(3*s, map[time.Duration]func(time.Time){2 * s: st.p.ask})
		require.Len(t, alarms, 1)
		require.Equal(t, mute, st.p.doubt)
		st.p.hear(t0.Add(3 * s))
		require.Equal(t, trusted, st.p.doubt)
	})
	t.Run("stopped for a while", func(t *testing.T) {
		st := fresh(30 * ms)
		st.p.ask(t0)
		require.False(t, st.p.tick(t0.Add(time.Minute), st.rtt, false, 0).alarm, "it may have come meanwhile")
		require.False(t, st.p.tick(t0.Add(time.Minute+100*ms), st.rtt, false, 0).alarm)
		require.True(t, st.p.tick(t0.Add(time.Minute+leastPatience), st.rtt, false, 0).alarm)
	})
}

// What attention costs: a ping a second where nothing is heard, and none where
// there is something to hear.
func TestCostOfAttention(t *testing.T) {
	for _, c := range []struct {
		name              string
		background, heard bool
		most              uint64
	}{
		{"foreground", false, false, 63},
		{"foreground, in a busy room", false, true, 8},
		{"background", true, false, 14},
		{"background, in a busy room", true, true, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWAN(t, "eu")
				s, seen, _ := w.enter(func(cfg *Config) { cfg.Background = c.background })
				conn := w.nodes["eu-1"].next()
				time.Sleep(10 * time.Second)
				before := s.Counters()
				sent := uint64(0)
				for range 240 {
					time.Sleep(250 * time.Millisecond)
					if c.heard {
						conn.send(&wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: room}}})
						sent++
					}
				}
				require.LessOrEqual(t, s.Counters().FramesIn-before.FramesIn-sent, c.most)
				require.Equal(t, []Phase{Live}, seen.phases())
				require.Zero(t, s.Counters().Suspicions)
			})
		})
	}
}
