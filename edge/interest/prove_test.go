package interest

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client/viewstate"
)

const (
	simTick    = 100 * time.Millisecond
	lossShare  = 0.2
	maxDelay   = 1500 * time.Millisecond // of datagrams, which so overtake each other
	maxStream  = 800 * time.Millisecond  // of the stream, in order
	staleBound = keyEvery + simTick + maxStream
)

// envInt is how much of something to do: a twentieth, unless `make
// prove-interest` asks for more.
func envInt(name string, otherwise int) int {
	if n, _ := strconv.Atoi(os.Getenv(name)); n > 0 {
		return n
	}
	return otherwise
}

// TestViewersSeeWhatIsThere is 1,000 people on the move, watched by 50 viewers
// who lose a fifth of their datagrams, and get the others in any order.
func TestViewersSeeWhatIsThere(t *testing.T) {
	for seed := range envInt("MUSTER_INTEREST_SEEDS", 1) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			w := newWorld(t, uint64(seed)+1, 1000, 50)
			w.run(time.Duration(envInt("MUSTER_INTEREST_SECONDS", 10)) * time.Second)
			w.quiet()
			w.report()
		})
	}
}

type mover struct {
	user    string
	fix     *wire.Fix // the last one reported
	n       uint64
	next    time.Time // when it reports
	heading float64
	speed   float64
	silent  bool      // withdrawn or left: not to be seen
	since   time.Time // of that
	coarse  bool
	trail   []at // where it was told to be
}

type at struct {
	when time.Time
	spot spot
}

type viewer struct {
	view   *View
	state  *viewstate.State
	looks  []look // the latest last
	stream []post // in order
	loose  []post
	last   time.Time       // when the last of stream arrives
	in     map[string]bool // the oracle: whom it sees
	inAt   map[string]time.Time
	outAt  map[string]time.Time
	bytes  int
	json   int // of the fixes of those in its area alone
	ticked int // when it had one last
}

type look struct {
	when time.Time
	box  *wire.Box
}

type post struct {
	when  time.Time
	frame *wire.View
}

type world struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	scene   *Scene
	movers  []*mover
	byUser  map[string]*mover
	viewers []*viewer
	moving  bool
	ticks   int
	json    int // bytes of all fixes as JSON, for one viewer
	lost    int
	sent    int
}

// The town is 12 km wide and high.
const (
	town      = 0.1 // degrees of latitude
	townSouth = 52.45
	townWest  = 13.30
)

func newWorld(t *testing.T, seed uint64, movers, viewers int) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1_800_000_000, 0), scene: NewScene(),
		byUser: map[string]*mover{}, moving: true,
	}
	for i := range movers {
		m := &mover{
			user: fmt.Sprintf("5f0c1d3e-7d2c-4a0a-9a53-%012d", i), heading: w.rng.Float64() * 360, speed: w.rng.Float64() * 15,
			next: w.now.Add(time.Duration(w.rng.IntN(1000)) * time.Millisecond), coarse: i%20 == 0,
			fix: &wire.Fix{Point: &wire.Point{Lat: townSouth + w.rng.Float64()*town, Lng: townWest + w.rng.Float64()*town*1.6}},
		}
		w.movers = append(w.movers, m)
		w.byUser[m.user] = m
	}
	for range viewers {
		v := &viewer{
			view: NewView(1, 0), state: viewstate.New(), in: map[string]bool{}, inAt: map[string]time.Time{}, outAt: map[string]time.Time{},
		}
		w.viewers = append(w.viewers, v)
		w.scene.Add(v.view)
		w.look(v)
	}
	return w
}

// look has a viewer look elsewhere: a screen of about 2.5 by 2.5 km.
func (w *world) look(v *viewer) {
	side := 0.01 + w.rng.Float64()*0.02
	b := &wire.Box{South: townSouth + w.rng.Float64()*(town-side), West: townWest + w.rng.Float64()*(town*1.6-side*1.6)}
	b.North, b.East = b.South+side, b.West+side*1.6
	v.looks = append(v.looks, look{w.now, b})
	w.scene.Look(v.view, b)
	for user, m := range w.byUser {
		w.judge(v, user, m)
	}
}

// judge is the oracle of the border: in where inside the area, out where outside
// the margin, else as before. It counts as the server does, in micro-degrees, but
// by other means.
func (w *world) judge(v *viewer, user string, m *mover) {
	b := v.looks[len(v.looks)-1].box
	in := false
	if len(m.trail) > 0 && !m.silent {
		s := m.trail[len(m.trail)-1].spot
		margin := 0.0
		if v.in[user] {
			margin = 1.0 / 16
		}
		up, aside := math.Floor(micros(b.North-b.South)*margin), math.Floor(micros(b.East-b.West)*margin)
		lat, lng := float64(s.lat), float64(s.lng)
		in = lat >= micros(b.South)-up && lat <= micros(b.North)+up && lng >= micros(b.West)-aside && lng <= micros(b.East)+aside
	}
	if in != v.in[user] {
		v.in[user] = in
		if in {
			v.inAt[user] = w.now
		} else {
			v.outAt[user] = w.now
		}
	}
}

func micros(d float64) float64 { return math.Round(d * 1e6) }

func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.step()
	}
}

// quiet stops everybody, waits, and compares all with the truth.
func (w *world) quiet() {
	w.moving = false
	w.run(keyEvery + 2*time.Second)
	for i, v := range w.viewers {
		want := map[string]spot{}
		for user, in := range v.in {
			if m := w.byUser[user]; in {
				want[user] = m.trail[len(m.trail)-1].spot
			}
		}
		got := map[string]spot{}
		for _, s := range v.state.Sights() {
			got[s.User] = spotShown(s)
			require.InDelta(w.t, w.byUser[s.User].fix.Captured.AsTime().Unix(), s.Captured.Unix(), 3)
		}
		require.Equal(w.t, want, got, "viewer %d", i)
		require.Zero(w.t, v.state.Counters().Bad)
	}
}

func spotShown(s viewstate.Sight) spot {
	p := spot{
		lat: degrees(s.Point.Lat), lng: degrees(s.Point.Lng), accuracy: uint32(s.Accuracy), speed: noSpeed, heading: noHeading, cell: noCell,
	}
	if s.Speed != nil {
		p.speed = uint32(math.Round(*s.Speed * 100))
	}
	if s.Heading != nil {
		p.heading = uint32(*s.Heading)
	}
	if s.Cell != 0 {
		p.cell = uint64(s.Cell)
	}
	return p
}

func (w *world) step() {
	w.now = w.now.Add(simTick)
	w.ticks++
	var moved []*wire.MemberFix
	for _, m := range w.movers {
		if !w.moving || m.next.After(w.now) {
			continue
		}
		m.next = m.next.Add(time.Second)
		if f := w.move(m); f != nil {
			moved = append(moved, f)
		}
	}
	w.count(moved)
	if w.moving {
		for _, v := range w.viewers {
			if w.rng.IntN(200) == 0 { // every 20 s
				w.look(v)
			}
		}
	}
	by := map[*View]*viewer{}
	for _, v := range w.viewers {
		by[v.view] = v
	}
	w.scene.Tick(w.now, func(x *View, frame []byte, lossy bool) { w.post(by[x], frame, lossy) })
	for _, v := range w.viewers {
		w.deliver(v)
		if w.ticks%5 == 0 {
			w.check(v)
		}
	}
}

// move reports a fix, or the end of it.
func (w *world) move(m *mover) *wire.MemberFix {
	if m.silent && w.rng.IntN(10) != 0 {
		return nil
	}
	m.n++
	mf := &wire.MemberFix{User: m.user, Device: "phone", Epoch: 1, Fix: &wire.Fix{N: m.n}}
	if w.rng.IntN(120) == 0 {
		m.silent, m.since = true, w.now
		w.scene.Apply(w.now, mf, time.Time{})
	} else {
		m.silent = false
		m.heading = math.Mod(m.heading+w.rng.NormFloat64()*20+360, 360)
		const metre = 1 / 111_195.0
		rad := m.heading * math.Pi / 180
		p := &wire.Point{
			Lat: m.fix.Point.Lat + m.speed*metre*math.Cos(rad), Lng: m.fix.Point.Lng + m.speed*metre*math.Sin(rad)/0.61,
		}
		if p.Lat < townSouth || p.Lat > townSouth+town || p.Lng < townWest || p.Lng > townWest+town*1.6 {
			m.heading = math.Mod(m.heading+180, 360)
			p = m.fix.Point
		}
		f := mf.Fix
		f.Point, f.Accuracy, f.Captured = p, float32(5+w.rng.IntN(3)), timestamppb.New(w.now)
		switch {
		case m.coarse:
			f.Accuracy, f.Cell = 461, 0x881f1d4a00000000|m.n/30<<20
		case w.rng.IntN(10) != 0:
			f.Speed, f.Heading = new(float32(m.speed)), new(float32(m.heading))
		}
		m.fix = f
		m.trail = append(m.trail, at{w.now, spotOf(f)})
		if len(m.trail) > 30 {
			m.trail = slices.Delete(m.trail, 0, 1)
		}
		w.scene.Apply(w.now, mf, time.Time{})
	}
	for _, v := range w.viewers {
		w.judge(v, m.user, m)
	}
	return mf
}

// count adds what telling everybody everything as JSON would take: a frame of all
// who moved in the tick.
func (w *world) count(moved []*wire.MemberFix) {
	envelope := len(`{"fixes":{"room":"group:0b9e2c1e-7f5d-4b3a-9c55-1a2b3c4d5e6f","fixes":[]}}`)
	for i, f := range moved {
		b, err := wire.EncodeJSON(f)
		require.NoError(w.t, err)
		size := len(bytes.ReplaceAll(b, []byte(", "), []byte(","))) + 1
		if i == 0 {
			w.json += envelope
		}
		w.json += size
		for _, v := range w.viewers {
			if !v.in[f.User] {
				continue
			}
			if v.ticked != w.ticks {
				v.ticked, v.json = w.ticks, v.json+envelope
			}
			v.json += size
		}
	}
}

func (w *world) post(v *viewer, frame []byte, lossy bool) {
	v.bytes += len(frame)
	f, err := wire.DecodeServer(frame)
	require.NoError(w.t, err)
	p := post{w.now, f.GetView()}
	if lossy {
		require.LessOrEqual(w.t, len(frame), datagramBytes)
		w.sent++
		if w.rng.Float64() < lossShare {
			w.lost++
			return
		}
		p.when = w.now.Add(time.Duration(w.rng.Int64N(int64(maxDelay))))
		v.loose = append(v.loose, p)
		return
	}
	p.when = w.now.Add(time.Duration(w.rng.Int64N(int64(maxStream))))
	if p.when.Before(v.last) {
		p.when = v.last
	}
	v.last = p.when
	v.stream = append(v.stream, p)
}

func (w *world) deliver(v *viewer) {
	var due []post
	take := func(from []post) []post {
		return slices.DeleteFunc(from, func(p post) bool {
			if p.when.After(w.now) {
				return false
			}
			due = append(due, p)
			return true
		})
	}
	v.stream, v.loose = take(v.stream), take(v.loose)
	slices.SortStableFunc(due, func(a, b post) int { return cmp.Compare(a.when.UnixNano(), b.when.UnixNano()) })
	for _, p := range due {
		v.state.Apply(w.now, p.frame)
	}
}

// check is what must hold at any time.
func (w *world) check(v *viewer) {
	seen := map[string]bool{}
	for _, s := range v.state.Sights() {
		m := w.byUser[s.User]
		require.NotNil(w.t, m)
		seen[s.User] = true
		shown := spotShown(s)
		// Never outside of its area and the margin: the present one, or, as long as
		// it may not know better, one before.
		inside := false
		for i := len(v.looks) - 1; i >= 0 && !inside; i-- {
			if i+1 < len(v.looks) && w.now.Sub(v.looks[i+1].when) > lookEvery+simTick+maxStream {
				break
			}
			a := areaOf(v.looks[i].box)
			inside = a.outer.has(shown.lat, shown.lng)
		}
		require.True(w.t, inside, "%s is shown outside of the area", s.User)
		// Never without a grant, but for the time that the word takes.
		if m.silent {
			require.LessOrEqual(w.t, w.now.Sub(m.since), simTick+maxStream, "%s is shown without a grant", s.User)
			continue
		}
		// Where it was, at most the bound ago.
		ok := slices.ContainsFunc(m.trail, func(a at) bool { return a.spot == shown })
		last := time.Time{}
		for i, a := range m.trail {
			if a.spot != shown {
				continue
			}
			if last = w.now; i+1 < len(m.trail) {
				last = m.trail[i+1].when
			}
		}
		require.True(w.t, ok, "%s was never there", s.User)
		require.LessOrEqual(w.t, w.now.Sub(last), staleBound, "%s is shown where it was", s.User)
		if out := v.outAt[s.User]; !v.in[s.User] {
			require.LessOrEqual(w.t, w.now.Sub(out), staleBound, "%s is still shown", s.User)
		}
	}
	for user, in := range v.in {
		if in && !seen[user] {
			require.LessOrEqual(w.t, w.now.Sub(v.inAt[user]), staleBound, "%s is not shown", user)
		}
	}
}

func (w *world) report() {
	var views, json, most int
	for i, v := range w.viewers {
		w.t.Logf("viewer %2d: %2d people now, %7d bytes as Views, %8d as JSON to all (%.0f times), %7d as JSON of the area (%.1f times)",
			i, len(v.state.Sights()), v.bytes, w.json, float64(w.json)/float64(v.bytes), v.json, float64(v.json)/float64(v.bytes))
		views += v.bytes
		json += v.json
		most = max(most, v.bytes)
	}
	n := len(w.viewers)
	w.t.Logf("datagrams lost: %d of %d; frames: %d keys, %d others", w.lost, w.sent, w.scene.Stats.Keys, w.scene.Stats.Deltas)
	w.t.Logf("bytes per viewer: %d as Views (at most %d), %d as JSON to all (%.0f times), %d as JSON of the area alone (%.1f times)",
		views/n, most, w.json, float64(w.json*n)/float64(views), json/n, float64(json)/float64(views))
	require.GreaterOrEqual(w.t, w.json, 5*most, "of any viewer")
}
