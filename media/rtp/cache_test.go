package rtp

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What the cache has is what was put, and it has at least as much as it promises.
func TestCache(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const packets, size = 64, 100
	for range 4 {
		c := NewCache(packets, size)
		type put struct{ n, size int }
		var all []put
		kept := map[uint16]put{}
		seq := uint16(r.Uint32())
		for n := range 1000 {
			b := make([]byte, 8+r.IntN(2*size))
			if r.IntN(50) == 0 {
				b = make([]byte, MaxPacket)
			}
			binary.BigEndian.PutUint64(b, uint64(n))
			s := seq
			if r.IntN(5) == 0 { // late
				s -= uint16(r.IntN(10))
			} else {
				seq++
			}
			c.Put(s, b)
			kept[s] = put{n, len(b)}
			all = append(all, put{n, len(b)})

			for s, p := range kept {
				got, ok := c.Get([]byte("x"), s)
				if ok {
					if len(got) != p.size+1 || binary.BigEndian.Uint64(got[1:]) != uint64(p.n) {
						t.Fatalf("%d is not what was put", s)
					}
				}
				// Those put since then have place within the memory, with the end of the
				// ring that a packet did not fit into.
				after := 0
				for _, q := range all[p.n:] {
					after += q.size
				}
				newer := int16(seq-s) >= packets-1
				if !ok && !newer && after+MaxPacket <= packets*size {
					t.Fatalf("%d is gone after %d bytes", p.n, after)
				}
				if newer && !ok {
					delete(kept, s)
				}
			}
		}
	}
	c := NewCache(1, 1)
	c.Put(1, nil)
	c.Put(1, make([]byte, MaxPacket+1))
	_, ok := c.Get(nil, 1)
	assert.False(t, ok)
	_, ok = c.Get(nil, 0)
	assert.False(t, ok, "an empty slot is no packet 0")
}

func BenchmarkCache(b *testing.B) {
	c, packet, buf := NewCache(512, 1200), make([]byte, 1200), make([]byte, 0, MaxPacket)
	b.Run("put", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			c.Put(uint16(i), packet)
		}
	})
	b.Run("get", func(b *testing.B) {
		for i := range 400 {
			c.Put(uint16(i), packet)
		}
		b.ReportAllocs()
		for i := range b.N {
			c.Get(buf, uint16(i%400))
		}
	})
}
