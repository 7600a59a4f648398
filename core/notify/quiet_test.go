package notify

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestQuietHours(t *testing.T) {
	night := Quiet{22 * 60, 7*60 + 30}
	for name, c := range map[string]struct {
		zone, now, until string // RFC 3339; until empty: not quiet
		quiet            Quiet
	}{
		"none":                        {"Europe/Berlin", "2026-06-01T23:00:00Z", "", Quiet{}},
		"evening":                     {"Europe/Berlin", "2026-06-01T20:30:00Z", "2026-06-02T05:30:00Z", night},
		"before":                      {"Europe/Berlin", "2026-06-01T19:59:59Z", "", night},
		"after midnight":              {"Europe/Berlin", "2026-06-02T00:30:00Z", "2026-06-02T05:30:00Z", night},
		"over":                        {"Europe/Berlin", "2026-06-02T05:30:00Z", "", night},
		"another zone, the same time": {"Asia/Kolkata", "2026-06-01T20:30:00Z", "2026-06-02T02:00:00Z", night},
		"a zone that is unknown":      {"Mars/Olympus", "2026-06-01T22:00:00Z", "2026-06-02T07:30:00Z", night},
		"within a day":                {"", "2026-06-01T13:00:00Z", "2026-06-01T14:00:00Z", Quiet{12 * 60, 14 * 60}},
		"last of the month":           {"", "2026-01-31T23:00:00Z", "2026-02-01T07:30:00Z", night},
		// In Berlin the clock jumps from 2:00 to 3:00 on 29 March, and back from 3:00
		// to 2:00 on 25 October.
		"a night of 23 hours":               {"Europe/Berlin", "2026-03-28T21:00:00Z", "2026-03-29T05:30:00Z", night},
		"a night of 25 hours":               {"Europe/Berlin", "2026-10-24T20:00:00Z", "2026-10-25T06:30:00Z", night},
		"ends in the hour that isn't":       {"Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", Quiet{0, 150}},
		"ends in the hour that comes twice": {"Europe/Berlin", "2026-10-24T23:00:00Z", "2026-10-25T01:30:00Z", Quiet{0, 150}},
		"the second time":                   {"Europe/Berlin", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z", Quiet{0, 150}},
	} {
		t.Run(name, func(t *testing.T) {
			now, err := time.Parse(time.RFC3339, c.now)
			require.NoError(t, err)
			got := Settings{Zone: c.zone, Quiet: c.quiet}.over(now)
			if c.until == "" {
				require.Zero(t, got)
				return
			}
			until, err := time.Parse(time.RFC3339, c.until)
			require.NoError(t, err)
			require.WithinDuration(t, until, got, 0, "%s", got.UTC())
		})
	}
}

// Whatever the zone and the hours: quiet ends after now, and when it is over, it
// is over (or the hour comes again).
func TestQuietEnds(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"} {
		for from := 0; from < 24*60; from += 210 {
			for until := 15; until < 24*60; until += 195 {
				s := Settings{Zone: zone, Quiet: Quiet{from, until}}
				for now := time.Date(2026, 1, 1, 0, 7, 0, 0, time.UTC); now.Year() == 2026; now = now.Add(17*time.Hour + 13*time.Minute) {
					end := s.over(now)
					if end.IsZero() {
						continue
					}
					require.True(t, end.After(now))
					require.LessOrEqual(t, end.Sub(now), 25*time.Hour)
					if again := s.over(end); !again.IsZero() {
						require.LessOrEqual(t, again.Sub(end), time.Hour, "%s %v %s", zone, s.Quiet, now)
					}
				}
			}
		}
	}
}

// Each kind has a text in each language; the words that are looked up stand in it.
func TestEveryKindInEveryLanguage(t *testing.T) {
	texts, err := loadTexts()
	require.NoError(t, err)
	require.Equal(t, []string{"en", "de", "fr"}, texts.languages)
	require.Len(t, texts.byKind, len(kinds))
	data := map[string]any{"link": "https://example.org/#/verify/abc?x=1&y=2", "device": "Pixel <9>", "role": "admin", "title": "News", "plan": "plus", "until": "2026-03-01", "again": "2026-02-02", "count": 3.0, "status": "recorded", "kind": "payment", "text": "First.\n\nSecond."}
	seen := map[string]string{}
	for k := range kinds {
		for _, l := range texts.languages {
			m := Message{Kind: k, Language: l, Data: data, Link: data["link"].(string)}
			require.NoError(t, texts.write(&m, map[string]string{"user": "Ana & Bob", "group": "Crew <1>"}), "%s %s", k, l)
			require.Equal(t, l, m.Language)
			for _, s := range []string{m.Subject, m.Brief, m.Text, m.HTML} {
				require.NotEmpty(t, s)
				require.NotContains(t, s, "no value", "%s %s", k, l)
			}
			require.Contains(t, m.Text, data["link"])
			require.Contains(t, m.HTML, `href="https://example.org/#/verify/abc?x=1&amp;y=2"`)
			require.NotContains(t, m.HTML, "<1>")
			require.NotContains(t, m.HTML, "<9>")
			if k != Announcement {
				require.Empty(t, seen[m.Text], "%s: %s is not translated", k, l)
			}
			seen[m.Text] = k + l
		}
	}
	for wish, want := range map[string]string{"": "en", "de-AT": "de", "fr-CA,en;q=0.5": "fr", "ja": "en", "ja, de;q=0.3": "de", "nonsense!": "en"} {
		require.Equal(t, want, texts.pick(wish), wish)
	}
	// Who is gone has no name, and a subject is one line.
	m := Message{Kind: FriendRequest, Language: "de"}
	require.NoError(t, texts.write(&m, nil))
	require.Equal(t, "Jemand möchte mit dir befreundet sein", m.Subject)
	m = Message{Kind: Announcement, Data: map[string]any{"title": "a\r\nBcc: eve@example.org", "text": "x"}}
	require.NoError(t, texts.write(&m, nil))
	require.Equal(t, "a Bcc: eve@example.org", m.Subject)
}

func TestWaits(t *testing.T) {
	var all time.Duration
	for n := 1; n < attempts; n++ {
		d := wait(n)
		require.LessOrEqual(t, d, time.Hour)
		require.Greater(t, d, 10*time.Second)
		all += d
	}
	require.Greater(t, all, 36*time.Hour)
}
