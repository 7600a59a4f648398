package steering

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// limiter bounds how many answers a network gets by UDP, since the source of a
// packet may be somebody else's address: a token bucket per /24 of IPv4 and /56
// of IPv6, as in BIND's and NSD's response rate limiting. Networks that fall
// into one bucket share it; nobody can make the table grow. It belongs to one
// socket's goroutine.
type limiter struct {
	rate, burst float64
	buckets     []bucket
	slip        uint32
}

type bucket struct {
	tokens float64
	at     time.Duration // since the limiter's beginning; 0: never
}

const (
	limitBuckets = 1 << 14
	slipEvery    = 2 // of the packets over the limit, one in so many gets a truncated answer
)

// verdict is what to do with a packet.
type verdict uint8

const (
	pass verdict = iota
	slip         // answer only that it be asked by TCP, where sources are true
	drop
)

// newLimiter allows rate answers a second and network; nil: any number.
func newLimiter(rate float64) *limiter {
	if rate <= 0 {
		return nil
	}
	return &limiter{rate: rate, burst: rate, buckets: make([]bucket, limitBuckets)}
}

func (l *limiter) check(from netip.Addr, now time.Duration) verdict {
	if l == nil {
		return pass
	}
	b := &l.buckets[networkHash(from, 24, 56)%limitBuckets]
	if b.at == 0 {
		b.tokens = l.burst
	} else {
		b.tokens = min(l.burst, b.tokens+(now-b.at).Seconds()*l.rate)
	}
	b.at = max(now, 1)
	if b.tokens >= 1 {
		b.tokens--
		return pass
	}
	if l.slip++; l.slip%slipEvery == 0 {
		return slip
	}
	return drop
}

// Key is what stands for a client in placement.Client: that of its network, so
// that all addresses of somebody get the same answers.
func Key(a netip.Addr) uint64 {
	if !a.IsValid() {
		return 0
	}
	return networkHash(a, 24, 48)
}

// networkHash spreads the networks of so many bits over all values.
func networkHash(a netip.Addr, v4, v6 int) uint64 {
	var h uint64
	if a.Is4() || a.Is4In6() {
		b := a.As4()
		h = uint64(binary.BigEndian.Uint32(b[:])) >> (32 - v4)
	} else {
		b := a.As16()
		h = 1<<63 | binary.BigEndian.Uint64(b[:8])>>(64-v6)
	}
	// MurmurHash3's finalizer.
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
