package rtp

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLossesAreAskedForUntilTheyAreOld(t *testing.T) {
	l := NewLosses(LossConfig{Tries: 3, Age: 500 * time.Millisecond})
	now := start
	after := func(d time.Duration) time.Time { now = now.Add(d); return now }
	ms := time.Millisecond
	assert.Equal(t, Newest, l.Came(65534, now))
	assert.Equal(t, Newest, l.Came(2, now))
	assert.Empty(t, l.Ask(nil, now, 40*ms), "they may just be late")
	assert.Equal(t, []uint16{65535, 0, 1}, l.Ask(nil, after(5*ms), 40*ms))
	assert.Empty(t, l.Ask(nil, after(40*ms), 40*ms), "the answer is under way")
	assert.Equal(t, Filled, l.Came(0, now))
	assert.Equal(t, Duplicate, l.Came(0, now))
	assert.Equal(t, Duplicate, l.Came(2, now))
	assert.Equal(t, []uint16{65535, 1}, l.Ask(nil, after(20*ms), 40*ms))
	assert.Equal(t, []uint16{65535, 1}, l.Ask(nil, after(50*ms), 40*ms))
	assert.Empty(t, l.Ask(nil, after(100*ms), 40*ms), "three times is enough")
	assert.Zero(t, l.Missing())
	assert.EqualValues(t, 2, l.Lost())
	assert.Equal(t, Filled, l.Came(1, now))
	assert.EqualValues(t, 1, l.Lost(), "here after all")

	l.Sent(4, now)
	assert.Equal(t, []uint16{3, 4}, l.Ask(nil, after(5*ms), 0), "the last of a burst")
	l.Ask(nil, after(500*ms), time.Hour)
	assert.EqualValues(t, 3, l.Lost(), "too old")
}

// Against a plain model: whatever comes in whatever order.
func TestLosses(t *testing.T) {
	for seed := range runs(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := NewLosses(LossConfig{Age: time.Hour, Tries: 1000, Most: 128})
		first := uint16(r.Uint32())
		came := map[int]bool{0: true}
		highest, now := 0, start
		l.Came(first, now)
		for range 3000 {
			n := highest + 1
			switch r.IntN(20) {
			case 0:
				n += r.IntN(10)
			case 1:
				n += r.IntN(400)
			case 2, 3, 4:
				n = max(highest-r.IntN(300), 0)
			}
			want := Newest
			if n <= highest {
				want = Filled
				if came[n] {
					want = Duplicate
				}
			}
			if got := l.Came(first+uint16(n), now); got != want {
				t.Fatalf("seed %d: %d is %d, want %d", seed, n, got, want)
			}
			came[n] = true
			highest = max(highest, n)
			now = now.Add(time.Millisecond)
		}
		missing := 0
		for n := range highest {
			if !came[n] {
				missing++
			}
		}
		assert.EqualValues(t, missing, l.Lost()+uint64(l.Missing()))
		assert.LessOrEqual(t, l.Missing(), 128)
		for _, seq := range l.Ask(nil, now.Add(time.Second), 0) {
			n := highest - int(first+uint16(highest)-seq)
			assert.False(t, came[n])
		}
	}
}

func TestLossesGoOnElsewhere(t *testing.T) {
	l := NewLosses(LossConfig{})
	l.Came(50000, start)
	assert.Equal(t, Outdated, l.Came(30000, start))
	assert.Equal(t, Newest, l.Came(30001, start), "two in a row")
	assert.Equal(t, Newest, l.Came(30002, start))
	assert.Zero(t, l.Missing())
	l.Came(30002+32000, start)
	assert.Equal(t, 256, l.Missing(), "bounded")
}

func FuzzLosses(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0xff, 0xff, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, now := NewLosses(LossConfig{Most: 16}), start
		for ; len(b) > 2; b = b[3:] {
			seq := uint16(b[1])<<8 | uint16(b[2])
			if b[0]&1 == 0 {
				l.Came(seq, now)
			} else {
				l.Sent(seq, now)
			}
			now = now.Add(time.Duration(b[0]) * time.Millisecond)
			if n := len(l.Ask(nil, now, 0)); n > 16 || l.Missing() > 16 {
				t.Fatal("more than is remembered")
			}
			if l.Lost() > 1<<40 {
				t.Fatal("fewer than none")
			}
		}
	})
}
