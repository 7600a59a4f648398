package allocation

import (
	"net/netip"
	"time"
)

const (
	allowance   = 4096 // bytes answered beyond what was sent, a minute
	failures    = 100  // wrong signatures at once
	failureRate = 10   // and a second
	maxSources  = 1 << 16
)

// sources meters those who have not shown who they are, see the package comment. When
// there are more of them than it keeps, any one is forgotten: whoever makes up sources
// keeps nobody out, and directs no more to any of them than a table of them costs.
type sources struct {
	table map[netip.Addr]*source
	sweep time.Time
}

type source struct {
	owed   float64 // bytes answered beyond what was sent, and not yet forgiven
	failed float64 // wrong signatures not yet forgiven
	at     time.Time
}

func newSources() *sources { return &sources{table: map[netip.Addr]*source{}} }

// Source is what an address is metered as: itself, or of IPv6 its /64, all of which is one
// host's as often as not.
func Source(ip netip.Addr) netip.Addr {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}

func (s *sources) of(now time.Time, ip netip.Addr) *source {
	ip = Source(ip)
	x := s.table[ip]
	if x == nil {
		for any := range s.table {
			if len(s.table) < maxSources {
				break
			}
			delete(s.table, any)
		}
		x = &source{at: now}
		s.table[ip] = x
	}
	x.forgive(now)
	return x
}

func (x *source) forgive(now time.Time) {
	if d := now.Sub(x.at).Seconds(); d > 0 {
		x.owed = max(0, x.owed-d*allowance/60)
		x.failed = max(0, x.failed-d*failureRate)
		x.at = now
	}
}

// sent counts what the source sent. It cannot save up.
func (x *source) sent(n int) { x.owed = max(0, x.owed-float64(n)) }

// answer reports whether an answer of n bytes may be sent to a source of which nothing
// is known.
func (x *source) answer(n int) bool {
	if x.owed+float64(n) > allowance {
		return false
	}
	x.owed += float64(n)
	return true
}

func (x *source) fail()      { x.failed++ }
func (x *source) deaf() bool { return x.failed+1 > failures }

// forget drops those of whom nothing is to be remembered.
func (s *sources) forget(now time.Time) {
	if now.Before(s.sweep) {
		return
	}
	s.sweep = now.Add(10 * time.Second)
	for ip, x := range s.table {
		if x.forgive(now); x.owed == 0 && x.failed == 0 {
			delete(s.table, ip)
		}
	}
}
