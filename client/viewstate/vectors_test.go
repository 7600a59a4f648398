package viewstate_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/viewstate"
)

// The vectors that both SDKs pass: frames as edge/interest made them, some lost,
// late or made up, and what is known after each (see edge/interest/vectors_test.go).
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/views.json")
	require.NoError(t, err)
	var stories []struct {
		Name  string
		Steps []struct {
			Now    int64 // Unix ms
			Reset  bool
			Frame  json.RawMessage
			Sights []shown
			Ready  bool
			Counts viewstate.Counters
		}
	}
	require.NoError(t, json.Unmarshal(b, &stories))
	require.NotEmpty(t, stories)
	for _, story := range stories {
		t.Run(story.Name, func(t *testing.T) {
			s := viewstate.New()
			known := map[string]viewstate.Sight{}
			for i, step := range story.Steps {
				if step.Reset {
					s.Reset()
				} else {
					v := new(wire.View)
					require.NoError(t, protojson.Unmarshal(step.Frame, v))
					for _, e := range s.Apply(time.UnixMilli(step.Now), v) {
						switch e := e.(type) {
						case viewstate.SightChanged:
							known[e.Sight.User+"/"+e.Sight.Device] = e.Sight
						case viewstate.SightGone:
							delete(known, e.User+"/"+e.Device)
						}
					}
				}
				require.Equal(t, step.Sights, shownOf(s), "step %d", i)
				require.Equal(t, step.Ready, s.Ready(), "step %d", i)
				require.Equal(t, step.Counts, s.Counters(), "step %d", i)
				// The events tell the same story.
				require.Len(t, known, len(step.Sights), "step %d", i)
				for _, x := range s.Sights() {
					require.Equal(t, x, known[x.User+"/"+x.Device], "step %d", i)
				}
			}
		})
	}
}

// A part of an older key frame between those of a newer one does not take away
// what the newer one has said.
func TestAnOlderKeyFrameBetweenParts(t *testing.T) {
	s, now := viewstate.New(), time.UnixMilli(1_800_000_000_000)
	at := func(handle uint32, user string) *wire.Sight {
		return &wire.Sight{Handle: handle, User: user, Lat: new(int32(handle))}
	}
	s.Apply(now, &wire.View{Key: 1, Sights: []*wire.Sight{at(1, "ann")}})
	s.Apply(now, &wire.View{Key: 9, More: true, Sights: []*wire.Sight{at(1, "ann")}})
	s.Apply(now, &wire.View{Key: 2, Sights: []*wire.Sight{at(1, ""), at(2, "bob")}})
	s.Apply(now, &wire.View{Key: 9, Sights: []*wire.Sight{at(2, "cid")}})
	var users []string
	for _, x := range s.Sights() {
		users = append(users, x.User)
	}
	require.Equal(t, []string{"ann", "cid"}, users)
}

// Whatever a server sends, the state stays bounded and whole.
func FuzzApply(f *testing.F) {
	add := func(frames ...*wire.View) {
		var all []byte
		for _, v := range frames {
			b, err := v.MarshalVT()
			require.NoError(f, err)
			all = append(append(all, byte(len(b))), b...)
		}
		f.Add(all)
	}
	lat := func(v int32) *int32 { return &v }
	add(&wire.View{Key: 1, Sights: []*wire.Sight{{Handle: 1, User: "a", Lat: lat(1)}}},
		&wire.View{Key: 1, N: 2, Sights: []*wire.Sight{{Handle: 1, Gone: true}}},
		&wire.View{Key: 2, More: true}, &wire.View{Key: 2, Sights: []*wire.Sight{{Handle: 2, User: "a", Lat: lat(90e6)}}})
	add(&wire.View{Key: 9, N: 1, Sights: []*wire.Sight{{Handle: 7}}}, &wire.View{Key: 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := viewstate.New()
		now := time.UnixMilli(1_800_000_000_000)
		known := map[string]viewstate.Sight{}
		for len(b) > 0 {
			n := min(int(b[0]), len(b)-1)
			v := new(wire.View)
			err := v.UnmarshalVT(b[1 : 1+n])
			b = b[1+n:]
			if err != nil {
				s.Reset()
				continue
			}
			now = now.Add(100 * time.Millisecond)
			for _, e := range s.Apply(now, v) {
				switch e := e.(type) {
				case viewstate.SightChanged:
					known[e.Sight.User+"/"+e.Sight.Device] = e.Sight
				case viewstate.SightGone:
					delete(known, e.User+"/"+e.Device)
				}
			}
		}
		sights := s.Sights()
		require.Len(t, known, len(sights))
		for _, x := range sights {
			require.NotEmpty(t, x.User)
			require.LessOrEqual(t, x.Point.Lat, 90.0)
			require.GreaterOrEqual(t, x.Point.Lat, -90.0)
			require.LessOrEqual(t, x.Point.Lng, 180.0)
			require.GreaterOrEqual(t, x.Point.Lng, -180.0)
			require.Equal(t, x, known[x.User+"/"+x.Device])
			require.GreaterOrEqual(t, x.Age(now), time.Duration(0))
		}
	})
}

// shown is a sight as the vectors have it: as frames say it, in whole numbers.
type shown struct {
	User     string `json:"user"`
	Device   string `json:"device"`
	Lat      int64  `json:"lat"` // 1e-6 degrees
	Lng      int64  `json:"lng"`
	Accuracy int64  `json:"accuracy"`
	Speed    int64  `json:"speed"`    // cm/s; -1: unknown
	Heading  int64  `json:"heading"`  // -1: unknown
	Cell     string `json:"cell"`     // hexadecimal; "0": none
	Captured int64  `json:"captured"` // Unix ms
}

func shownOf(s *viewstate.State) []shown {
	whole := func(f *float64, times float64) int64 {
		if f == nil {
			return -1
		}
		return int64(math.Round(*f * times))
	}
	all := []shown{}
	for _, x := range s.Sights() {
		all = append(all, shown{
			x.User, x.Device, whole(&x.Point.Lat, 1e6), whole(&x.Point.Lng, 1e6), int64(x.Accuracy),
			whole(x.Speed, 100), whole(x.Heading, 1), x.Cell.String(), x.Captured.UnixMilli(),
		})
	}
	return all
}
