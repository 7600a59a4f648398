package grant

import "time"

// Ends returns when the first of the grants that hold now, and of what posts
// granted, is over; zero if none is to end.
func (s *Set) Ends(now time.Time) (first time.Time) {
	sooner := func(t time.Time) {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	for _, grants := range s.grants {
		for i := range grants {
			sooner(grants[i].Expires)
		}
	}
	for _, until := range s.posts {
		sooner(until)
	}
	return first
}
