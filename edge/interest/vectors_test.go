package interest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/viewstate"
)

var rewrite = flag.Bool("rewrite", false, "write the vectors of the SDKs anew")

const vectors = "../../client/viewstate/testdata/views.json"

type vectorStory struct {
	Name  string       `json:"name"`
	Steps []vectorStep `json:"steps"`
}

type vectorStep struct {
	Now    int64              `json:"now"`
	Reset  bool               `json:"reset,omitempty"`
	Frame  json.RawMessage    `json:"frame,omitempty"`
	Sights []shown            `json:"sights"`
	Ready  bool               `json:"ready"`
	Counts viewstate.Counters `json:"counts"`
}

// The vectors that both SDKs pass are what this says, frame by frame. With
// -rewrite they are written anew: read the difference then.
func TestVectorsOfTheSDKs(t *testing.T) {
	var stories []vectorStory
	for seed := range uint64(6) {
		stories = append(stories, randomStory(t, seed))
	}
	stories = append(stories, oddStory(t))
	var b bytes.Buffer
	b.WriteString("[\n")
	for i, s := range stories {
		if i > 0 {
			b.WriteString(",\n")
		}
		name, _ := json.Marshal(s.Name)
		fmt.Fprintf(&b, `{"name": %s, "steps": [`+"\n", name)
		for j, step := range s.Steps {
			line, err := json.Marshal(step)
			require.NoError(t, err)
			b.Write(line)
			if j+1 < len(s.Steps) {
				b.WriteByte(',')
			}
			b.WriteByte('\n')
		}
		b.WriteString("]}")
	}
	b.WriteString("\n]\n")
	if *rewrite {
		require.NoError(t, os.WriteFile(vectors, b.Bytes(), 0o644))
	}
	had, err := os.ReadFile(vectors)
	require.NoError(t, err)
	require.JSONEq(t, string(had), b.String(), "see the flag -rewrite")
}

// teller writes a story down.
type teller struct {
	t     *testing.T
	story vectorStory
	state *viewstate.State
	now   time.Time
}

func (w *teller) tell(v *wire.View) {
	w.state.Apply(w.now, v)
	b, err := wire.EncodeJSON(v)
	require.NoError(w.t, err)
	var tight bytes.Buffer // protojson puts spaces in at random
	require.NoError(w.t, json.Compact(&tight, b))
	w.step(vectorStep{Frame: tight.Bytes()})
}

func (w *teller) step(s vectorStep) {
	s.Now, s.Sights, s.Ready, s.Counts = w.now.UnixMilli(), shownOf(w.state), w.state.Ready(), w.state.Counters()
	w.story.Steps = append(w.story.Steps, s)
}

// randomStory is a dozen people, some at the antimeridian, and a viewer who loses
// frames and gets them late, moves to another connection, and looks elsewhere.
func randomStory(t *testing.T, seed uint64) vectorStory {
	rng := rand.New(rand.NewPCG(seed, 3))
	w := &teller{t: t, story: vectorStory{Name: fmt.Sprint("random ", seed)}, state: viewstate.New(), now: time.UnixMilli(1_800_000_000_000)}
	west := 179.99
	if seed%2 == 0 {
		west = -0.01
	}
	scene, view, others := NewScene(), NewView(1, 0), uint32(0)
	scene.Add(view)
	look := func() {
		s := rng.Float64() * 0.01
		b := &wire.Box{South: 1 + s, West: west + s/2, North: 1.015 + s, East: west + s + 0.01}
		if b.East > 180 {
			b.East -= 360
		}
		scene.Look(view, b)
	}
	look()
	type person struct {
		lat, lng float64
		n        uint64
	}
	people := make([]person, 12)
	for i := range people {
		people[i] = person{lat: 1 + rng.Float64()*0.03, lng: west + rng.Float64()*0.03}
	}
	var late []*wire.View
	for range 90 {
		w.now = w.now.Add(200 * time.Millisecond)
		for i := range people {
			p := &people[i]
			if rng.IntN(4) > 0 {
				continue
			}
			p.n++
			p.lat, p.lng = p.lat+(rng.Float64()-0.5)*0.002, p.lng+(rng.Float64()-0.5)*0.002
			lng := p.lng
			if lng > 180 {
				lng -= 360
			}
			f := &wire.Fix{Point: &wire.Point{Lat: p.lat, Lng: lng}, N: p.n, Accuracy: float32(rng.IntN(3) * 5),
				Captured: timestamppb.New(w.now.Add(-time.Duration(rng.IntN(3)) * time.Second))}
			switch rng.IntN(8) {
			case 0:
				f.Point = nil
			case 1:
				f.Cell = 0x881f1d4a00000000 + p.n<<8
			case 2, 3:
				f.Speed, f.Heading = new(float32(rng.IntN(40))/2), new(float32(rng.IntN(360)))
			}
			scene.Apply(w.now, &wire.MemberFix{User: fmt.Sprintf("user-%02d", i), Device: fmt.Sprint("d", i%2), Epoch: 1, Fix: f}, time.Time{})
		}
		switch rng.IntN(30) {
		case 0:
			look()
		case 1: // another connection: another view of the same
			scene.Remove(view)
			others++
			view = NewView(1, others%2*7)
			scene.Add(view)
			look()
			late = nil
			w.state.Reset()
			w.step(vectorStep{Reset: true})
		}
		scene.Tick(w.now, func(_ *View, frame []byte, lossy bool) {
			f, err := wire.DecodeServer(bytes.Clone(frame))
			require.NoError(t, err)
			switch {
			case !lossy:
				w.tell(f.GetView())
			case rng.IntN(5) == 0: // lost
			case rng.IntN(3) == 0:
				late = append(late, f.GetView())
			default:
				w.tell(f.GetView())
				if rng.IntN(10) == 0 {
					w.tell(f.GetView())
				}
			}
		})
		if len(late) > 0 && rng.IntN(3) == 0 {
			w.tell(late[len(late)-1])
			late = late[:len(late)-1]
		}
	}
	return w.story
}

// oddStory is what no server of ours says, or seldom.
func oddStory(t *testing.T) vectorStory {
	w := &teller{t: t, story: vectorStory{Name: "odd"}, state: viewstate.New(), now: time.UnixMilli(1_800_000_000_000)}
	i := func(v int32) *int32 { return &v }
	u := func(v uint32) *uint32 { return &v }
	s := func(all ...*wire.Sight) []*wire.Sight { return all }
	for _, v := range []*wire.View{
		// Before its key frame; a key frame in parts, one of which is begun anew.
		{Watch: 1, Key: 3, N: 2, Sights: s(&wire.Sight{Handle: 1, Lat: i(5)})},
		{Watch: 1, Key: 2, More: true, Sights: s(&wire.Sight{Handle: 9, User: "nobody"})},
		{Watch: 1, Key: 3, More: true, Sights: s(&wire.Sight{Handle: 1, User: "ann", Device: "a", Lat: i(100), Lng: i(-100), Age: u(7)})},
		{Watch: 1, Key: 3, Sights: s(&wire.Sight{Handle: 2, User: "bob", Device: "b", Speed: u(120), Heading: u(359), Cell: 0x8928308280fffff}, &wire.Sight{Handle: 8})},
		// Speed, heading and cell end, and begin again as in the key frame.
		{Watch: 1, Key: 3, N: 3, Sights: s(&wire.Sight{Handle: 2, Speed: u(noSpeed), Heading: u(noHeading), Cell: noCell})},
		{Watch: 1, Key: 3, N: 4, Sights: s(&wire.Sight{Handle: 2})},
		// Late; gone; late again.
		{Watch: 1, Key: 3, N: 1, Sights: s(&wire.Sight{Handle: 2, Lat: i(1)})},
		{Watch: 1, Key: 3, N: 6, Sights: s(&wire.Sight{Handle: 2, Gone: true})},
		{Watch: 1, Key: 3, N: 5, Sights: s(&wire.Sight{Handle: 2, Lat: i(1)})},
		{Watch: 1, Key: 3, N: 7, Sights: s(&wire.Sight{Handle: 2, Lat: i(2)})},
		// Gone before it was heard of; unknown and unnamed; off the globe.
		{Watch: 1, Key: 3, N: 9, Sights: s(&wire.Sight{Handle: 4, Gone: true})},
		{Watch: 1, Key: 3, N: 8, Sights: s(&wire.Sight{Handle: 4, User: "cid", Lat: i(1)})},
		{Watch: 1, Key: 3, N: 10, Sights: s(&wire.Sight{Handle: 4, User: "cid", Lat: i(1)}, &wire.Sight{Handle: 5, Lat: i(1)}, &wire.Sight{Handle: 1, Lat: i(95_000_000)})},
		// A second handle for one device; then the end of the first.
		{Watch: 1, Key: 3, N: 12, Sights: s(&wire.Sight{Handle: 6, User: "ann", Device: "a", Lat: i(700)})},
		{Watch: 1, Key: 3, N: 11, Sights: s(&wire.Sight{Handle: 1, Gone: true})},
		{Watch: 1, Key: 3, N: 13, Sights: s(&wire.Sight{Handle: 1, Lat: i(1)})},
		// The next key frame: by handle alone, one of them unknown. An old one.
		{Watch: 1, Key: 4, Sights: s(&wire.Sight{Handle: 6, Lat: i(700), Age: u(1)}, &wire.Sight{Handle: 77})},
		{Watch: 1, Key: 3, N: 14, Sights: s(&wire.Sight{Handle: 6, Lat: i(1)})},
		{Watch: 1, Key: 4, Sights: s(&wire.Sight{Handle: 6, Lat: i(1)})},
		{Watch: 1, Key: 5},
		// What the area before still says, between the parts of the new one's.
		{Watch: 1, Key: 9, More: true, Sights: s(&wire.Sight{Handle: 1, User: "ann"})},
		{Watch: 1, Key: 6, Sights: s(&wire.Sight{Handle: 2, User: "bob"})},
		{Watch: 1, Key: 9, Sights: s(&wire.Sight{Handle: 2, User: "cid"})},
	} {
		w.now = w.now.Add(time.Second)
		w.tell(v)
	}
	w.state.Reset()
	w.step(vectorStep{Reset: true})
	for _, v := range []*wire.View{
		{Watch: 1, Key: 1, N: 1, Sights: s(&wire.Sight{Handle: 1, User: "ann", Lat: i(3)})},
		{Watch: 1, Key: 1, Sights: s(&wire.Sight{Handle: 6})},
		{Watch: 1, Key: 2, Sights: s(&wire.Sight{Handle: 6, User: "bob"})},
	} {
		w.now = w.now.Add(time.Second)
		w.tell(v)
	}
	return w.story
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
