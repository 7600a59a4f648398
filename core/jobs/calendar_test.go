package jobs

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func zone(t *testing.T, name string) *time.Location {
	z, err := time.LoadLocation(name)
	require.NoError(t, err)
	return z
}

func TestCalendars(t *testing.T) {
	berlin, hcm := zone(t, "Europe/Berlin"), zone(t, "Asia/Ho_Chi_Minh")
	for _, c := range []struct {
		name  string
		cal   calendar
		after string
		want  []string
	}{
		{"each day, UTC", Calendar{Hour: 3}, "2026-03-01T03:00:00Z", []string{"2026-03-02T03:00:00Z", "2026-03-03T03:00:00Z"}},
		{"the 1st and the 26th, in Vietnam", Calendar{Days: []int{1, 26}, Hour: 0, Minute: 5, Zone: hcm}, "2026-02-10T00:00:00Z",
			[]string{"2026-02-25T17:05:00Z", "2026-02-28T17:05:00Z", "2026-03-25T17:05:00Z"}},
		{"the 31st", Calendar{Days: []int{31}}, "2026-01-31T00:00:00Z", []string{"2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z", "2026-04-30T00:00:00Z"}},
		{"Mondays", Calendar{Weekdays: []time.Weekday{time.Monday}, Hour: 9, Zone: berlin}, "2026-03-22T00:00:00Z",
			[]string{"2026-03-23T08:00:00Z", "2026-03-30T07:00:00Z"}},
		{"02:30 does not exist: 03:30 is it", Calendar{Hour: 2, Minute: 30, Zone: berlin}, "2026-03-28T01:30:00Z",
			[]string{"2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"}},
		{"02:30 comes twice: the first is it", Calendar{Hour: 2, Minute: 30, Zone: berlin}, "2026-10-24T00:30:00Z",
			[]string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"every quarter of an hour", interval(15 * time.Minute), "2026-03-29T00:52:10Z", []string{"2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"}},
		{"every day", interval(24 * time.Hour), "2026-03-29T00:52:10Z", []string{"2026-03-30T00:00:00Z", "2026-03-31T00:00:00Z"}},
		{"never", Calendar{Days: []int{0}}, "2026-03-29T00:00:00Z", []string{"0001-01-01T00:00:00Z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, c.after)
			require.NoError(t, err)
			for _, want := range c.want {
				at = c.cal.Next(at)
				require.Equal(t, want, at.UTC().Format(time.RFC3339))
			}
		})
	}
}

// In every zone, each day has one instant of a daily calendar: on days on which
// clocks change, too. The oracle goes through the minutes of five years.
func TestEachDayHasExactlyOne(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Auckland", "Asia/Tehran"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			z := zone(t, name)
			hour, minute := rand.IntN(4), 5*rand.IntN(12)
			t.Logf("at %02d:%02d", hour, minute)
			cal := Calendar{Hour: hour, Minute: minute, Zone: z}
			begin := time.Date(2019, 12, 31, 12, 0, 0, 0, z)
			end := time.Date(2025, 1, 1, 12, 0, 0, 0, z)
			shown := map[string]time.Time{} // day: when clocks first showed the time of day
			for at := begin; at.Before(end); at = at.Add(5 * time.Minute) {
				if l := at.In(z); l.Hour() == hour && l.Minute() == minute {
					if day := l.Format(time.DateOnly); shown[day].IsZero() {
						shown[day] = at
					}
				}
			}
			days, at := 0, begin
			for {
				next := cal.Next(at)
				require.True(t, next.After(at))
				if !next.Before(end) {
					break
				}
				at = next
				days++
				day := at.In(z).Format(time.DateOnly)
				if want, ok := shown[day]; ok {
					require.True(t, at.Equal(want), "%s: %s, not %s", day, at.In(z), want.In(z))
				} else { // clocks skipped it
					require.Greater(t, at.In(z).Hour()*60+at.In(z).Minute(), hour*60+minute, day)
				}
				require.True(t, cal.Next(at.Add(-time.Nanosecond)).Equal(at))
			}
			require.Equal(t, 1828, days, "2020 to 2024, and the first day of 2025")
		})
	}
}
