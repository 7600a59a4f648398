package sfu

import (
	"time"

	"github.com/mustermesh/muster/media/rtp"
)

// losses follows the numbers of one stream that comes from a client: what is missing
// and to be asked for again (RFC 4585), and what RTCP reports say (RFC 3550 section 6.4).
type losses struct {
	begun    bool
	highest  uint16
	cycles   uint32
	first    uint32
	received uint32
	missing  []missing

	jitter  float64
	transit time.Duration

	expectedBefore, receivedBefore uint32
	senderNTP                      uint32        // middle of the last sender report's
	senderAt                       time.Duration // when it came
}

type missing struct {
	seq   uint16
	tries uint8
	since time.Duration
	next  time.Duration
}

const (
	maxMissing = 200 // packets; more is a break, not a loss
	maxTries   = 8
	askAfter   = 5 * time.Millisecond  // so that what was only overtaken is not asked for
	askAgain   = 60 * time.Millisecond // at first; twice as long at the third time
	giveUp     = 1_200 * time.Millisecond
)

// add notes a packet. fresh is false for what came before.
func (l *losses) add(seq uint16, ts uint32, clock uint32, now time.Duration) (fresh bool) {
	l.received++
	switch {
	case !l.begun:
		l.begun, l.highest, l.first = true, seq, uint32(seq)
	case rtp.Newer(seq, l.highest):
		if gap := seq - l.highest - 1; gap > 0 {
			if int(gap)+len(l.missing) > maxMissing {
				l.missing = l.missing[:0]
			} else {
				for s := l.highest + 1; s != seq; s++ {
					l.missing = append(l.missing, missing{seq: s, since: now, next: now + askAfter})
				}
			}
		}
		if seq < l.highest {
			l.cycles += 1 << 16
		}
		l.highest = seq
	default:
		for i := range l.missing {
			if l.missing[i].seq == seq {
				l.missing = append(l.missing[:i], l.missing[i+1:]...)
				return true
			}
		}
		// Before all that was seen, or a second time.
		return false
	}
	transit := now - time.Duration(float64(ts)/float64(clock)*float64(time.Second))
	if l.transit != 0 {
		d := transit - l.transit
		if d < 0 {
			d = -d
		}
		if d < time.Second { // else the timestamps wrapped
			l.jitter += (d.Seconds()*float64(clock) - l.jitter) / 16
		}
	}
	l.transit = transit
	return true
}

// due appends the numbers to be asked for now.
func (l *losses) due(now time.Duration, ask []uint16) []uint16 {
	kept := l.missing[:0]
	for _, m := range l.missing {
		if m.tries == maxTries || now-m.since > giveUp {
			continue
		}
		if now >= m.next {
			ask = append(ask, m.seq)
			m.tries++
			m.next = now + askAgain<<min(m.tries/2, 2)
		}
		kept = append(kept, m)
	}
	l.missing = kept
	return ask
}

// report is what the next receiver report says.
func (l *losses) report() (fraction uint8, lost uint32, highest uint32) {
	highest = l.cycles + uint32(l.highest)
	expected := highest - l.first + 1
	if expected > l.received {
		lost = min(expected-l.received, 0x7fffff)
	}
	de, dr := expected-l.expectedBefore, l.received-l.receivedBefore
	if de > dr && de > 0 {
		fraction = uint8(min((de-dr)<<8/de, 255))
	}
	l.expectedBefore, l.receivedBefore = expected, l.received
	return fraction, lost, highest
}
