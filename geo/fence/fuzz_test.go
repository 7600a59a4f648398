package fence

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// script reads numbers from fuzzed bytes; after their end it reads zeros.
type script struct{ b []byte }

func (s *script) byte() (c byte) {
	if len(s.b) > 0 {
		c, s.b = s.b[0], s.b[1:]
	}
	return c
}

func (s *script) short() float64 {
	return float64(int16(binary.LittleEndian.Uint16([]byte{s.byte(), s.byte()})))
}

// FuzzEngine plays any fixes in any order, with fences and pairs that come and
// go, saving and loading. What is told must always make sense, and a load must
// not change what comes after.
func FuzzEngine(f *testing.F) {
	f.Add([]byte{0, 1, 0, 2, 0, 3, 1, 4, 1})
	for i := range 20 {
		r := seeded(uint64(i))
		b := make([]byte, 600)
		for k := range b {
			b[k] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(fuzzEngine)
}

func fuzzEngine(t *testing.T, data []byte) {
	s := script{data}
	origin := origins[int(s.byte())%len(origins)]
	fences := []Fence{
		{ID: "f0", Shape: circle(origin, 100)},
		{ID: "f1", Shape: circle(xy{0, 500}.on(origin), 400), Dwell: 30 * time.Second},
		{ID: "f2", Shape: convex(seeded(1), xy{200, 0}.on(origin), 300, 5), From: at(50)},
		{ID: "f3", Shape: circle(origin, 5)},
	}
	pairs := []Pair{
		{ID: "p0", A: "s0", B: "s1", Radius: 200},
		{ID: "p1", A: "s1", B: "s2", Radius: 50, Dwell: 20 * time.Second},
	}
	e := engineOf(t, fences, pairs)
	heard := told{}
	now, removed := 0.0, 0
	for range 400 {
		if len(s.b) == 0 {
			break
		}
		who := fmt.Sprint("s", s.byte()%3)
		switch op := s.byte(); {
		case op < 200:
			now += float64(op) / 8
			fix := Fix{
				At:       at(now - max(0, s.short()/256)),
				Point:    xy{s.short() / 20, s.short() / 20}.on(origin),
				Accuracy: float64(s.byte()) / 4,
			}
			if op == 77 {
				fix.Point = geo.Point{Lat: -fix.Point.Lat, Lng: s.short() / 200}
			}
			if op == 78 {
				fix.Accuracy = 1e7
			}
			events, _, err := e.Observe(nil, who, fix)
			if fix.Point.Valid() {
				require.NoError(t, err)
			}
			heard.hear(t, events)
		case op < 215:
			heard.hear(t, e.Expire(nil, at(now+s.short()/100)))
		case op < 225:
			heard.hear(t, e.Drop(nil, who, at(now)))
		case op < 240:
			saved := e.Save(nil)
			e = engineOf(t, fences[removed:], pairs)
			require.NoError(t, e.Load(saved))
			require.Equal(t, saved, e.Save(nil))
		case op < 245 && removed < len(fences):
			e.Remove(fences[removed].ID)
			for _, ev := range heard.sorted() {
				if ev.Fence == fences[removed].ID {
					delete(heard, identity{ev.Fence, ev.Pair, ev.Subject, ev.N})
				}
			}
			removed++
		}
	}
	for _, f := range fences[removed:] {
		for _, who := range []string{"s0", "s1", "s2"} {
			n := 0
			for _, ev := range heard {
				if ev.Fence == f.ID && ev.Subject == who {
					n++
				}
			}
			inside := e.Standing(f.ID, who).State == Inside
			require.True(t, n%2 == 0 || inside)
			require.True(t, f.Dwell > 0 || inside == (n%2 == 1))
		}
	}
	heard.check(t)
}

// FuzzLoad loads anything, and goes on with what it takes.
func FuzzLoad(f *testing.F) {
	for i := range 5 {
		r := seeded(uint64(i))
		fences, pairs, reports := world(r, home)
		e := engineOf(f, fences, pairs)
		for n, p := range reports {
			if n < 60*i {
				_, _, _ = e.Observe(nil, p.who, p.Fix)
			}
		}
		f.Add(e.Save(nil))
	}
	fences, pairs, _ := world(seeded(0), home)
	f.Fuzz(func(t *testing.T, data []byte) {
		e := engineOf(t, fences, pairs)
		if err := e.Load(data); err != nil {
			require.ErrorIs(t, err, ErrState)
			require.Equal(t, engineOf(t, fences, pairs).Save(nil), e.Save(nil), "an error changes nothing")
			return
		}
		saved := e.Save(nil)
		for i := range 200 {
			_, _, err := e.Observe(nil, fmt.Sprint("s", i%3), Fix{At: at(float64(i * 20)), Point: xy{float64(i*37%900) - 450, 0}.on(home), Accuracy: 5})
			require.NoError(t, err)
		}
		e.Expire(nil, at(1e4))
		e.Drop(nil, "s0", at(1e4))
		again := engineOf(t, fences, pairs)
		require.NoError(t, again.Load(saved))
		require.Equal(t, saved, again.Save(nil))
	})
}
