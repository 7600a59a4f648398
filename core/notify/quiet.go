package notify

import (
	"time"
)

// Settings are how a user wants to be told.
type Settings struct {
	Language string // BCP 47; empty: the default
	Zone     string // of the IANA database; empty: UTC
	Quiet    Quiet
}

// Quiet are the hours in which a user is not to be disturbed: minutes after
// midnight in their zone. They may span midnight; equal ones are none.
type Quiet struct{ From, Until int }

// over returns when the quiet hours that now lies in are over; zero if it lies
// in none. It goes by the clock on the wall: on a day that changes it, an hour
// that doesn't exist ends when the clock jumps over it (package time), and of one
// that comes twice both are quiet.
func (s Settings) over(now time.Time) time.Time {
	if s.Quiet.From == s.Quiet.Until {
		return time.Time{}
	}
	zone, err := time.LoadLocation(s.Zone)
	if err != nil { // it was checked when it was chosen; zones are renamed seldom
		zone = time.UTC
	}
	local := now.In(zone)
	minute := local.Hour()*60 + local.Minute()
	day := local.Day()
	switch q := s.Quiet; {
	case q.From < q.Until && (minute < q.From || minute >= q.Until),
		q.From > q.Until && minute >= q.Until && minute < q.From:
		return time.Time{}
	case q.From > q.Until && minute >= q.From:
		day++
	}
	end := time.Date(local.Year(), local.Month(), day, 0, s.Quiet.Until, 0, 0, zone)
	if !end.After(now) { // the hour comes twice, and this is the second time
		end = now.Add(time.Duration(s.Quiet.Until-minute) * time.Minute).Truncate(time.Minute)
	}
	return end
}
