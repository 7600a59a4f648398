package replay

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const track = `<gpx><trk>
<trkseg><trkpt lat="9" lon="9"/></trkseg>
<trkseg>
<trkpt lat="0" lon="0"><time>2020-01-01T00:00:00Z</time></trkpt>
<trkpt lat="0" lon="0.001"><time>2020-01-01T00:00:10Z</time></trkpt>
<trkpt lat="0" lon="0.5"><time>2020-01-01T00:00:05Z</time></trkpt>
<trkpt lat="0.001" lon="0.001"><time>2020-01-01T01:00:10Z</time></trkpt>
</trkseg></trk></gpx>`

func TestPlan(t *testing.T) {
	tr, err := Load("t", strings.NewReader(track))
	require.NoError(t, err)
	require.Equal(t, 1, tr.Untimed)
	require.Equal(t, 1, tr.Backward)
	require.Len(t, tr.Points, 3)

	steps := plan(tr.Points, 5)
	require.Equal(t, []time.Duration{0, 2 * time.Second, 12 * time.Second}, []time.Duration{steps[0].at, steps[1].at, steps[2].at})
	require.InDelta(t, 11.12, steps[1].speed, 0.01, "as recorded, not as replayed")
	require.InDelta(t, 90, steps[1].heading, 0.1)
	require.InDelta(t, 0, steps[2].heading, 0.1)

	home := back(steps)
	require.Equal(t, steps[2].point, home[0].point)
	require.Equal(t, []time.Duration{0, 10 * time.Second, 12 * time.Second}, []time.Duration{home[0].at, home[1].at, home[2].at})
	require.InDelta(t, 180, home[1].heading, 0.1)
	require.InDelta(t, 270, home[2].heading, 0.1)

	_, err = Load("none", strings.NewReader(`<gpx><trk><trkseg><trkpt lat="9" lon="9"/></trkseg></trk></gpx>`))
	require.ErrorContains(t, err, "no points with times")
}

func TestDemo(t *testing.T) {
	tracks, err := LoadFS(Demo())
	require.NoError(t, err)
	require.Len(t, tracks, 3)
	require.Equal(t, 358, tracks[2].Untimed)
}
