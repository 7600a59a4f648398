package choice

import (
	"slices"
	"time"
)

// Voice is a participant's sound as it is now.
type Voice struct {
	ID      string
	Level   uint8 // smoothed, in -dBov; see Meter
	Talking bool  // see Meter.Talking
}

const (
	louder   = 6                      // dB by which another must be louder to be first
	takeOver = 500 * time.Millisecond // for so long
)

// Speakers keeps the list of who speaks in a call, the one who matters most first. Who
// is first stays so as long as he talks, unless another is clearly louder for a while;
// the others stay in the order in which they began. So two who take turns are a list of
// two that does not change. It belongs to one goroutine, or to its owner's lock.
type Speakers struct {
	list       []string
	before     []string
	challenger string
	since      time.Time // that it is louder
}

// Update returns the ids of those who speak, and whether the list is another one than
// before. It is valid until the next call.
func (s *Speakers) Update(now time.Time, voices []Voice) (ids []string, changed bool) {
	s.before = append(s.before[:0], s.list...)
	find := func(id string) *Voice {
		for i := range voices {
			if voices[i].ID == id {
				return &voices[i]
			}
		}
		return nil
	}
	s.list = slices.DeleteFunc(s.list, func(id string) bool {
		v := find(id)
		return v == nil || !v.Talking
	})
	known := len(s.list)
	for i := range voices { // new ones by loudness
		v := &voices[i]
		if !v.Talking || slices.Contains(s.list, v.ID) {
			continue
		}
		at := known
		for at < len(s.list) && find(s.list[at]).Level <= v.Level {
			at++
		}
		s.list = slices.Insert(s.list, at, v.ID)
	}
	s.challenge(now, find)
	return s.list, !slices.Equal(s.list, s.before)
}

func (s *Speakers) challenge(now time.Time, find func(string) *Voice) {
	if len(s.list) == 0 {
		s.challenger = ""
		return
	}
	loudest := find(s.list[0])
	limit := int(loudest.Level) - louder
	for _, id := range s.list[1:] {
		if v := find(id); v.Level < loudest.Level && int(v.Level) <= limit {
			loudest = v
		}
	}
	switch {
	case loudest.ID == s.list[0]:
		s.challenger = ""
	case loudest.ID != s.challenger:
		s.challenger, s.since = loudest.ID, now
	case now.Sub(s.since) >= takeOver:
		at := slices.Index(s.list, s.challenger)
		copy(s.list[1:at+1], s.list[:at])
		s.list[0] = loudest.ID
		s.challenger = ""
	}
}
