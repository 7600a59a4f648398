package grant_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/geo/h3"
)

var noon = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func rawAt(t testing.TB, p geo.Point, captured time.Time) grant.Raw {
	t.Helper()
	r, err := grant.NewRaw(p, 10, grant.Read(1.5), grant.Read(270), grant.Read(0.8), captured)
	require.NoError(t, err)
	return r
}

// TestRawShowsNothing prints, logs and encodes a fix in every way that somebody
// might by accident, also from inside of their own structs, whose unexported
// fields fmt reads without asking them.
func TestRawShowsNothing(t *testing.T) {
	raw := rawAt(t, geo.Point{Lat: 52.123456, Lng: 13.987654}, noon)
	snapper := grant.NewSnapper(nil, "ada")
	_, err := snapper.Take(raw, noon)
	require.NoError(t, err)
	set, err := grant.NewSet([]grant.Grant{{Audience: bob, Precision: grant.Exact}},
		[]grant.Zone{{Center: geo.Point{}, Radius: 100, Precision: grant.Cells(7)}}, false)
	require.NoError(t, err)
	_, ok := set.View(noon, snapper, bob)
	require.True(t, ok)
	cell, err := h3.CellOf(grant.Own(raw).Point, geo.MaxResolution)
	require.NoError(t, err)
	type session struct {
		raw     grant.Raw
		last    *grant.Raw
		snapper *grant.Snapper
		Raw     grant.Raw
		Snapper *grant.Snapper
		many    map[string]grant.Raw
		any     any
	}
	s := session{raw, &raw, snapper, raw, snapper, map[string]grant.Raw{"ada": raw}, raw}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%f", "%g"} {
		for _, x := range []any{raw, &raw, s, &s, snapper, []grant.Raw{raw}, fmt.Errorf("fix %v", raw)} {
			_, _ = fmt.Fprintf(&out, verb+"\n", x)
		}
	}
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(h).Info("fix", "raw", raw, "p", &raw, "session", s, "snapper", snapper, "group", slog.GroupValue(slog.Any("raw", raw)))
	}
	for _, x := range []any{raw, s, &s, snapper, map[string]any{"raw": raw}} {
		b, err := json.Marshal(x)
		require.NoError(t, err)
		out.Write(b)
	}
	require.NotRegexp(t, regexp.MustCompile(`52\.123|13\.987|5\.2123|1\.39876`), out.String())
	require.Contains(t, out.String(), "hidden")
	for _, f := range []string{"%d", "%x"} {
		require.NotContains(t, out.String(), fmt.Sprintf(f, uint64(cell)))
		require.NotContains(t, out.String(), fmt.Sprintf(f, math.Float64bits(52.123456)))
	}
	require.Equal(t, geo.Point{Lat: 52.123456, Lng: 13.987654}, grant.Own(raw).Point, "it was in there")
}

func TestRawRefusesNonsense(t *testing.T) {
	nan := float32(math.NaN())
	here, none := geo.Point{Lat: 1, Lng: 2}, grant.Reading{}
	for name, r := range map[string]struct {
		p                       geo.Point
		accuracy                float32
		speed, heading, battery grant.Reading
		at                      time.Time
	}{
		"latitude":          {geo.Point{Lat: 91}, 1, none, none, none, noon},
		"no number":         {geo.Point{Lat: math.NaN()}, 1, none, none, none, noon},
		"negative accuracy": {here, -1, none, none, none, noon},
		"accuracy NaN":      {here, nan, none, none, none, noon},
		"accuracy infinite": {here, float32(math.Inf(1)), none, none, none, noon},
		"speed":             {here, 1, grant.Read(-1), none, none, noon},
		"speed NaN":         {here, 1, grant.Read(nan), none, none, noon},
		"heading":           {here, 1, none, grant.Read(361), none, noon},
		"battery":           {here, 1, none, none, grant.Read(1.1), noon},
		"no time":           {here, 1, none, none, none, time.Time{}},
	} {
		_, err := grant.NewRaw(r.p, r.accuracy, r.speed, r.heading, r.battery, r.at)
		require.Error(t, err, name)
	}
	r, err := grant.NewRaw(here, 0, grant.Reading{Value: nan}, grant.Read(360), none, noon)
	require.NoError(t, err)
	require.Equal(t, grant.Read(0), grant.Own(r).Heading, "north has one name")
	require.Equal(t, grant.Reading{}, grant.Own(r).Speed, "what is not known is nothing")
	require.Zero(t, grant.Own(grant.Raw{}))
	require.True(t, grant.Raw{}.Captured().IsZero())
	require.NotPanics(t, func() { _, _ = fmt.Fprint(io.Discard, grant.Raw{}) })
}

func FuzzRawThroughTheGate(f *testing.F) {
	f.Add(52.5, 13.4, float32(10), 7, uint64(0))
	f.Add(90.0, 180.0, float32(0), 0, uint64(1))
	f.Add(-90.0, -180.0, float32(1e5), 10, uint64(2))
	f.Add(0.0, 180.0, float32(1), 10, uint64(1<<40))
	f.Add(58.2801375, 10.5362, float32(1), 9, uint64(77)) // near a pentagon
	f.Fuzz(func(t *testing.T, lat, lng float64, accuracy float32, res int, later uint64) {
		raw, err := grant.NewRaw(geo.Point{Lat: lat, Lng: lng}, accuracy, grant.Read(1), grant.Read(1), grant.Read(1), noon)
		precision := grant.Cells(res)
		if err != nil || precision == grant.None {
			t.Skip()
		}
		set, err := grant.NewSet([]grant.Grant{{Audience: grant.Audience{Kind: grant.Discoverable}, Precision: precision}}, nil, false)
		require.NoError(t, err)
		s := grant.NewSnapper([]byte("secret"), "ada")
		now := noon.Add(time.Duration(later % uint64(100*time.Hour)))
		_, err = s.Take(raw, now)
		require.NoError(t, err)
		v, ok := set.View(now, s, grant.Audience{Kind: grant.Discoverable})
		require.True(t, ok)
		require.True(t, v.Point.Valid())
		require.Equal(t, precision, v.Precision)
		require.True(t, v.Cell.Valid())
		require.Equal(t, res, v.Cell.Resolution())
		require.LessOrEqual(t, geo.Distance(v.Point, geo.Point{Lat: lat, Lng: lng}), geo.MaxRadius(res))
		require.Equal(t, []grant.Reading{{}, {}, {}}, []grant.Reading{v.Speed, v.Heading, v.Battery})
		require.False(t, v.Captured.After(noon))
		require.Equal(t, v.Captured, v.Captured.Truncate(time.Minute))
	})
}
