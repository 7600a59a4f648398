package roomstate

import "slices"

// maxHeard bounds for how long an update is known again.
const maxHeard = 256

// Heard knows which updates of a room, or notices of a user, were heard. The zero
// value is ready.
type Heard struct {
	ids []string // the last ones, oldest first
	n   uint64   // the highest
}

// News takes one: whether it was not heard before, and whether others before it
// were missed.
func (h *Heard) News(u Update) (news, missed bool) {
	if slices.Contains(h.ids, u.ID) {
		return false, false
	}
	if len(h.ids) == maxHeard {
		h.ids = slices.Delete(h.ids, 0, 1)
	}
	h.ids = append(h.ids, u.ID)
	missed = h.n != 0 && u.N > h.n+1
	h.n = max(h.n, u.N)
	return true, missed
}
