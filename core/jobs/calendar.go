package jobs

import (
	"slices"
	"time"
	_ "time/tzdata" // a schedule's zone doesn't depend on the machine
)

// Calendar is a time of day on some days: of the month, of the week, or all.
type Calendar struct {
	Hour, Minute int
	// Days of the month, 1 to 31; in a month that has fewer the last is meant. With
	// Weekdays, either makes a day one of the calendar's; with neither all are.
	Days     []int
	Weekdays []time.Weekday
	Zone     *time.Location // nil: UTC
}

// Next returns the first instant of the calendar after t; zero if there is none.
//
// A time of day that is skipped when clocks go forward is taken by the offset
// before: 02:30 becomes 03:30. One that comes twice when they go back is the
// first (RFC 5545, section 3.3.5). So each day has exactly one.
func (c Calendar) Next(t time.Time) time.Time {
	zone := c.Zone
	if zone == nil {
		zone = time.UTC
	}
	local := t.In(zone)
	year, month, day := local.Date()
	// From the day before: its skipped time may come on this one.
	for i := -1; i <= 366; i++ {
		d := time.Date(year, month, day+i, 0, 0, 0, 0, time.UTC)
		if !c.on(d) {
			continue
		}
		if at := instant(d.Add(time.Duration(c.Hour)*time.Hour+time.Duration(c.Minute)*time.Minute), zone); at.After(t) {
			return at
		}
	}
	return time.Time{}
}

// on reports whether a day, given as its midnight in UTC, is one of the calendar's.
func (c Calendar) on(d time.Time) bool {
	if len(c.Days) == 0 && len(c.Weekdays) == 0 || slices.Contains(c.Weekdays, d.Weekday()) {
		return true
	}
	last := d.AddDate(0, 0, 1).Day() == 1
	return slices.ContainsFunc(c.Days, func(day int) bool { return day == d.Day() || last && day > d.Day() })
}

// instant is when clocks of the zone show what wall shows in UTC.
func instant(wall time.Time, zone *time.Location) time.Time {
	offset := func(t time.Time) time.Duration {
		_, s := t.In(zone).Zone()
		return time.Duration(s) * time.Second
	}
	before, after := offset(wall.Add(-24*time.Hour)), offset(wall.Add(24*time.Hour))
	first := wall.Add(-before)
	if offset(first) == before {
		return first.UTC()
	}
	if second := wall.Add(-after); offset(second) == after {
		return second.UTC()
	}
	return first.UTC()
}

// interval is a calendar of instants so far apart, counted from a Monday at
// midnight, UTC.
type interval time.Duration

func (i interval) Next(t time.Time) time.Time {
	return t.UTC().Truncate(time.Duration(i)).Add(time.Duration(i))
}
