package client

import "time"

const (
	// Another region is worth a move if it is nearer by both of these.
	nearerBy    = 20 * time.Millisecond
	nearerShare = 4 // a quarter
	// steadily is in how many rounds in a row it has to be the nearest.
	steadily = 3
	// settle is how long a session stays in a region it has come to.
	settle = 10 * time.Minute
)

// homing decides from measured round trips whether a session would be better off
// in another region: one that is clearly and steadily nearer, and not soon
// after it has come where it is.
type homing struct {
	candidate string
	rounds    int       // in a row in which it was nearer
	home      int       // rounds in a row in which no other one was
	until     time.Time // stay where we are
}

// forget drops what was measured: it is of another network.
func (h *homing) forget() { h.candidate, h.rounds, h.home = "", 0, 0 }

// settled reports whether as many rounds as it takes in a row have said the same. One
// that a busy device has spoiled says something else.
func (h *homing) settled() bool { return h.rounds >= steadily || h.home >= steadily }

// moved notes that the session is in another region now.
func (h *homing) moved(now time.Time) { *h = homing{until: now.Add(settle)} }

// round takes the round trips of one round of measurements, and returns where
// to move, or "".
func (h *homing) round(now time.Time, here string, rtts map[string]time.Duration) string {
	own, measured := rtts[here]
	best := ""
	for region, rtt := range rtts {
		if region != here && (best == "" || rtt < rtts[best] || rtt == rtts[best] && region < best) {
			best = region
		}
	}
	if !measured || best == "" {
		h.forget()
		return ""
	}
	if own-rtts[best] <= nearerBy || own-rtts[best] <= own/nearerShare {
		h.candidate, h.rounds = "", 0
		h.home++
		return ""
	}
	if best != h.candidate {
		h.candidate, h.rounds = best, 0
	}
	h.rounds++
	h.home = 0
	if h.rounds < steadily || now.Before(h.until) {
		return ""
	}
	return best
}
