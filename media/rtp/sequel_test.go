package rtp

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// runs is how many seeds a test tries: MUSTER_PROVE_MEDIA times as many, if it is set.
func runs(n uint64) uint64 {
	times, err := strconv.ParseUint(os.Getenv("MUSTER_PROVE_MEDIA"), 10, 16)
	if err != nil {
		return n
	}
	return n * times
}

// stream is a source that counts in numbers that never wrap.
type stream struct {
	first  Numbers
	n      int // the next packet
	broken int // packets from this one on are sent
}

// numbers are those of a packet; a picture has three packets and 3,000 ticks.
func (s *stream) numbers(n int) Numbers {
	return Numbers{s.first.Seq + uint16(n), s.first.Time + uint32(n/3*3000), s.first.Picture + uint16(n/3), s.first.TL0 + uint8(n/3)}
}

// A receiver's numbers against a model that counts without end: packets that are lost and
// come late, pauses, and other sources, for much longer than there are numbers.
func TestSequel(t *testing.T) {
	for seed := range runs(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		last := Numbers{uint16(r.Uint32()), r.Uint32(), uint16(r.Uint32()), uint8(r.Uint32())}
		q := NewSequel(last)
		source := func() *stream {
			return &stream{first: Numbers{uint16(r.Uint32()), r.Uint32(), uint16(r.Uint32()), uint8(r.Uint32())}}
		}
		s := source()
		now := time.Duration(0)
		base, fresh := Numbers{}, true // of the packet s.broken; fresh: that is not sent yet
		first := last.Seq + 1
		newest := -1 // what was sent, counted from the first
		from := 0    // what s.broken is, so counted
		for range 100_000 {
			now += 10 * time.Millisecond
			x := r.IntN(1000)
			if seed%2 == 0 && x < 2 && r.IntN(80) > 0 { // half of the worlds go on for longer than there are numbers
				x = 1000
			}
			switch {
			case x == 0:
				s, fresh = source(), true
				q.Replace()
				continue
			case x == 1: // a pause
				q.Break()
				s.n += r.IntN(40_000)
				fresh = true
				continue
			case x < 30: // lost, or late
				s.n += r.IntN(50)
			}
			n := s.n
			late := !fresh && r.IntN(10) == 0
			if late {
				n -= 1 + r.IntN(300)
			} else {
				s.n++
			}
			if n < 0 {
				continue
			}
			got, ok := q.Next(s.numbers(n), now, 90_000)
			if fresh {
				require.True(t, ok)
				require.Equal(t, first+uint16(newest+1), got.Seq, "no hole where something was left out")
				if newest >= 0 {
					require.Less(t, got.Time-last.Time, uint32(1<<31), "time goes on")
					require.NotEqual(t, last.Time, got.Time)
					require.Equal(t, last.Picture+1, got.Picture)
					require.Equal(t, last.TL0+1, got.TL0)
				}
				s.broken, base, from, fresh = n, got, newest+1, false
			}
			require.Equal(t, n >= s.broken, ok, "seed %d: packet %d of a source that goes on at %d", seed, n, s.broken)
			if !ok {
				continue
			}
			a, b := s.numbers(s.broken), s.numbers(n)
			require.Equal(t, Numbers{base.Seq + b.Seq - a.Seq, base.Time + b.Time - a.Time, base.Picture + b.Picture - a.Picture, base.TL0 + b.TL0 - a.TL0}, got)
			q.Sent(got, now)
			if at := from + n - s.broken; at > newest {
				newest, last = at, got
			}
			require.Equal(t, last, q.Last())
		}
	}
}

// What comes while a gate is closed takes no number; what is too late is not placed wrongly.
func TestGate(t *testing.T) {
	for seed := range runs(4) {
		r := rand.New(rand.NewPCG(seed, 2))
		var g Gate
		first := uint16(r.Uint32())
		_, ok := g.Number(first, true)
		require.True(t, ok)
		open, n, taken, closed := true, 0, 0, 0 // the last packet, numbers taken out, the last one that was
		for range 100_000 {
			if r.IntN(500) == 0 {
				open = !open
			}
			if open && n > closed+2 && r.IntN(10) == 0 { // late
				late := n - 1 - r.IntN(min(n-closed-1, 200))
				got, ok := g.Number(first+uint16(late), true)
				require.True(t, ok)
				require.Equal(t, first+uint16(late-taken), got)
				continue
			}
			step := 1
			if r.IntN(50) == 0 {
				step += r.IntN(20) // lost
			}
			n += step
			got, ok := g.Number(first+uint16(n), open)
			require.True(t, ok)
			if !open {
				taken, closed = taken+step, n
				_, ok := g.Number(first+uint16(n-r.IntN(200)), open)
				require.False(t, ok, "it came before")
			}
			require.Equal(t, first+uint16(n-taken), got)
		}
	}
}

func FuzzSequel(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		q, now := NewSequel(Numbers{}), time.Duration(0)
		var g Gate
		for len(b) >= 8 {
			p := Numbers{binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:]), uint16(b[6]), b[7]}
			switch b[7] % 8 {
			case 0:
				q.Break()
			case 1:
				q.Replace()
			case 2:
				g.Restart()
			}
			now += time.Duration(b[6]) * time.Millisecond
			var ok bool
			if p.Seq, ok = g.Number(p.Seq, b[6]%4 > 0); ok {
				if out, ok := q.Next(p, now, 90_000); ok {
					q.Sent(out, now)
				}
			}
			b = b[8:]
		}
	})
}
