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
// there are more of them than it keeps, the rest share one meter.
type sources struct {
	table map[netip.Addr]*source
	rest  source
	sweep time.Time
}

type source struct {
	owed   float64 // bytes answered beyond what was sent, and not yet forgiven
	failed float64 // wrong signatures not yet forgiven
	at     time.Time
}

func newSources() *sources { return &sources{table: map[netip.Addr]*source{}} }

func (s *sources) of(now time.Time, ip netip.Addr) *source {
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			ip = p.Addr()
		}
	}
	x := s.table[ip]
	if x == nil {
		if len(s.table) >= maxSources {
			x = &s.rest
		} else {
			x = &source{at: now}
			s.table[ip] = x
		}
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
