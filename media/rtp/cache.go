package rtp

import "sync"

// MaxPacket is the longest RTP packet that is handled, in bytes.
const MaxPacket = 1500

// Cache keeps the last packets of one source, so that those who lost one get it again.
// Its memory is one block whose size is fixed from the start: a ring of packets'
// places, and a ring of their bytes. It is safe for use by several goroutines.
type Cache struct {
	mu    sync.Mutex
	slots []cached // by sequence number modulo their count
	bytes []byte   // guarded by mu, as are slots
	// next is where the next packet's bytes go. It counts on and on: modulo
	// len(bytes) it is a place, and a packet is overwritten when next has come to
	// len(bytes) beyond it.
	next uint64
}

type cached struct {
	at   uint64
	size uint16 // 0: empty
	seq  uint16
}

// NewCache keeps the last `packets` packets (rounded up to a power of two, at most
// 32,768), as long as they are of `size` bytes on average: of larger ones fewer. The
// memory is packets × (size + 16) bytes.
func NewCache(packets, size int) *Cache {
	n := powerOfTwo(packets)
	return &Cache{slots: make([]cached, n), bytes: make([]byte, max(n*size, MaxPacket))}
}

// powerOfTwo is the lowest one that is at least n, from 16 to 32,768.
func powerOfTwo(n int) int {
	p := 16
	for p < n && p < 1<<15 {
		p *= 2
	}
	return p
}

// Put keeps a packet. Longer ones than MaxPacket, and empty ones, are not kept. A
// number that it has is overwritten.
func (c *Cache) Put(seq uint16, b []byte) {
	if len(b) == 0 || len(b) > MaxPacket {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.next % uint64(len(c.bytes))
	if rest := uint64(len(c.bytes)) - at; rest < uint64(len(b)) {
		c.next += rest // a packet is in one piece
		at = 0
	}
	copy(c.bytes[at:], b)
	c.slots[int(seq)&(len(c.slots)-1)] = cached{at: c.next, size: uint16(len(b)), seq: seq}
	c.next += uint64(len(b))
}

// Get appends the packet with this number to dst. It reports whether it is there.
func (c *Cache) Get(dst []byte, seq uint16) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[int(seq)&(len(c.slots)-1)]
	if s.size == 0 || s.seq != seq || c.next-s.at > uint64(len(c.bytes)) {
		return dst, false
	}
	at := int(s.at % uint64(len(c.bytes)))
	return append(dst, c.bytes[at:at+int(s.size)]...), true
}
