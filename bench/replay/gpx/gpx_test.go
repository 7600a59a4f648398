package gpx_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/replay/gpx"
)

func TestRecordedTracks(t *testing.T) {
	for name, want := range map[string]struct{ points, timed int }{
		"around-visnjan-with-car.gpx": {104, 104},
		"cerknicko-jezero.gpx":        {296, 296},
		"korita-zbevnica.gpx":         {871, 871 - 358},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(filepath.Join("..", "testdata", name))
			require.NoError(t, err)
			defer func() { _ = f.Close() }()
			segments, err := gpx.Read(f)
			require.NoError(t, err)
			points, timed := 0, 0
			for _, s := range segments {
				require.NotEmpty(t, s)
				points += len(s)
				if s.Timed() {
					timed += len(s)
				}
			}
			require.Equal(t, want.points, points)
			require.Equal(t, want.timed, timed)
		})
	}
}

func TestRefuses(t *testing.T) {
	doc := func(inner string) string {
		return "<gpx><trk><trkseg>\n<trkpt lat=\"1\" lon=\"2\"/>\n" + inner + "\n</trkseg></trk></gpx>"
	}
	for name, c := range map[string]struct{ doc, says string }{
		"latitude out of range": {doc(`<trkpt lat="91" lon="2"/>`), "line 3: a track point"},
		"no longitude":          {doc(`<trkpt lat="1"/>`), "line 3"},
		"not a number":          {doc(`<trkpt lat="x" lon="2"/>`), `line 3: lat is no number: "x"`},
		"NaN":                   {doc(`<trkpt lat="NaN" lon="2"/>`), "line 3"},
		"a bad time":            {doc(`<trkpt lat="1" lon="2"><time>yesterday</time></trkpt>`), "line 3: time"},
		"cut off":               {`<gpx><trk><trkseg><trkpt lat="1" lon="2">`, "EOF"},
		"something else":        {`<html></html>`, "<html>"},
		"nothing":               {``, "no <gpx>"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := gpx.Read(strings.NewReader(c.doc))
			require.ErrorContains(t, err, c.says)
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`<gpx xmlns="http://www.topografix.com/GPX/1/1"><wpt lat="1" lon="2"/><trk><trkseg><trkpt lat="1" lon="2"><ele>3</ele><time>2020-01-01T00:00:00Z</time></trkpt></trkseg></trk></gpx>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		segments, err := gpx.Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, s := range segments {
			for _, p := range s {
				require.True(t, p.Valid())
			}
		}
	})
}
