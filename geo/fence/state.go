package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/mustermesh/muster/geo"
)

// The first byte of a saved state says how to read the rest.
const stateVersion = 1

// ErrState is returned for a saved state that is none.
var ErrState = errors.New("not a state of fences")

// Save appends all that the engine knows of subjects and pairs; fences and pairs
// themselves are the caller's to keep. Of the events in the window nothing is
// saved: they follow from the fixes.
func (e *Engine) Save(dst []byte) []byte {
	w := writer{append(dst, stateVersion)}
	w.uint(uint64(len(e.subjects)))
	for _, id := range sortedKeys(e.subjects) {
		s := e.subjects[id]
		w.string(id)
		w.timeline(&s.timeline)
		w.track(s.base.(*track))
	}
	w.uint(uint64(len(e.pairs)))
	for _, id := range sortedKeys(e.pairs) {
		p := e.pairs[id]
		w.string(id)
		w.timeline(&p.timeline)
		w.meeting(p.base.(*meeting))
	}
	return w.b
}

// Load takes what Save returned into an engine that has the same fences and
// pairs, and the same Config, but has seen no fix. What is there of other fences
// and pairs is left out. After an error the engine knows nothing of subjects.
func (e *Engine) Load(data []byte) error {
	r := reader{b: data}
	if r.byte() != stateVersion {
		return fmt.Errorf("%w: version", ErrState)
	}
	e.plant()
	subjects := map[string]*subject{}
	for n := r.count(); n > 0 && r.err == nil; n-- {
		id := r.string()
		s := &subject{timeline: r.timeline()}
		if subjects[id] != nil || id == "" {
			r.fail("subject twice")
		}
		base := r.track(e.fences)
		s.base, s.head = base, &track{}
		subjects[id] = s
	}
	pairs := map[string]timeline{}
	for n := r.count(); n > 0 && r.err == nil; n-- {
		id := r.string()
		l := r.timeline()
		p := e.pairs[id]
		if p == nil {
			p = newPair(Pair{ID: id})
		}
		l.base, l.head = r.meeting(p), newMeeting(p)
		pairs[id] = l
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("something follows it")
	}
	if r.err != nil {
		return r.err
	}
	for id, s := range e.subjects {
		if o := subjects[id]; o != nil {
			o.pairs = s.pairs
		} else {
			subjects[id] = s
		}
	}
	e.subjects = subjects
	for id, p := range e.pairs {
		if l, ok := pairs[id]; ok {
			p.timeline = l
			t := p.teller(nil)
			p.told = append(p.told, p.fold(e, &t)...)
		}
	}
	for id, s := range e.subjects {
		if len(s.fixes) > 0 || s.hasDone {
			t := teller{subject: id}
			s.told = append(s.told, s.fold(e, &t)...)
		}
	}
	return nil
}

type writer struct{ b []byte }

func (w *writer) uint(v uint64)    { w.b = binary.AppendUvarint(w.b, v) }
func (w *writer) int(v int64)      { w.b = binary.AppendVarint(w.b, v) }
func (w *writer) float(v float64)  { w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(v)) }
func (w *writer) string(s string)  { w.uint(uint64(len(s))); w.b = append(w.b, s...) }
func (w *writer) vec(v geo.Vec)    { w.float(v.X); w.float(v.Y); w.float(v.Z) }
func (w *writer) sample(s *sample) { w.int(s.t); w.vec(s.v); w.float(s.acc) }

func (w *writer) bits(bs ...bool) {
	var v uint64
	for i, b := range bs {
		if b {
			v |= 1 << i
		}
	}
	w.uint(v)
}

func (w *writer) timeline(l *timeline) {
	w.bits(l.hasDone)
	w.int(l.done.t)
	w.uint(uint64(l.done.side))
	w.int(l.clock)
	w.uint(uint64(len(l.fixes)))
	for i := range l.fixes {
		w.sample(&l.fixes[i].sample)
		w.uint(uint64(l.fixes[i].side))
	}
}

func (w *writer) filter(f *filter) {
	w.bits(f.hasLast, f.hasAside)
	if f.hasLast {
		w.sample(&f.last)
	}
	if f.hasAside {
		w.sample(&f.aside)
	}
}

func (w *writer) track(k *track) {
	w.filter(&k.filter)
	w.uint(uint64(len(k.machines)))
	for i := range k.machines {
		w.string(k.machines[i].fence.ID)
		w.machine(&k.machines[i])
	}
}

func (w *writer) machine(m *machine) {
	w.uint(uint64(m.n))
	w.bits(m.inside, m.known, m.seen, m.told, m.first, m.crossed, m.dormant, m.peakByFix)
	for _, v := range m.floats() {
		w.float(*v)
	}
	for _, v := range m.times() {
		w.int(*v)
	}
}

func (m *machine) floats() [4]*float64 {
	return [...]*float64{&m.d, &m.evidence, &m.own, &m.peak}
}

func (m *machine) times() [7]*int64 {
	return [...]*int64{&m.over, &m.flipped, &m.unclear, &m.ownAt, &m.peakAt, &m.in, &m.out}
}

func (w *writer) meeting(k *meeting) {
	w.bits(k.has[0], k.has[1], k.at != noTime)
	for side := range k.has {
		w.filter(&k.filters[side])
		w.int(k.heard[side])
		if k.has[side] {
			w.sample(&k.last[side])
		}
	}
	w.uint(uint64(k.lead))
	w.uint(uint64(len(k.ahead)))
	for i := range k.ahead {
		w.sample(&k.ahead[i])
	}
	if k.at != noTime {
		w.int(k.at)
		w.vec(k.moment[0])
		w.vec(k.moment[1])
		w.float(k.acc)
	}
	w.machine(&k.machine)
}

// reader reads what writer wrote. After the first error it reads zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrState, what)
	}
	r.b = nil
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail("it ends early")
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many things follow, each of which takes at least a byte.
func (r *reader) count() int {
	v := r.uint()
	if v > uint64(len(r.b)) {
		r.fail("count")
		return 0
	}
	return int(v)
}

func (r *reader) bits(bs ...*bool) {
	v := r.uint()
	for i, b := range bs {
		*b = v>>i&1 != 0
	}
	if v>>len(bs) != 0 {
		r.fail("flags")
	}
}

func (r *reader) string() string {
	n := r.count()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) float() float64 {
	if len(r.b) < 8 {
		r.fail("it ends early")
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	if math.IsNaN(v) || math.Abs(v) > 1e9 {
		r.fail("number")
		return 0
	}
	return v
}

func (r *reader) time() int64 {
	t := r.int()
	if t < -maxTime || t > maxTime {
		r.fail("time")
		return 0
	}
	return t
}

// timeOrNone also takes noTime.
func (r *reader) timeOrNone() int64 {
	t := r.int()
	if t != noTime && (t < -maxTime || t > maxTime) {
		r.fail("time")
		return 0
	}
	return t
}

func (r *reader) vec() geo.Vec {
	v := geo.Vec{X: r.float(), Y: r.float(), Z: r.float()}
	if r.err == nil && math.Abs(dot(v, v)-1) > 1e-9 {
		r.fail("place")
	}
	return v
}

func (r *reader) accuracy() float64 {
	acc := r.float()
	if acc < minAccuracy || acc > 2*maxAccuracy {
		r.fail("accuracy")
	}
	return acc
}

func (r *reader) sample() sample {
	return sample{r.time(), r.vec(), r.accuracy()}
}

func (r *reader) side() uint8 {
	v := r.uint()
	if v > 1 {
		r.fail("side")
		return 0
	}
	return uint8(v)
}

func (r *reader) timeline() timeline {
	var l timeline
	r.bits(&l.hasDone)
	l.done.t = r.time()
	l.done.side = r.side()
	l.clock = r.timeOrNone()
	for n := r.count(); n > 0 && r.err == nil; n-- {
		s := stamped{r.sample(), r.side()}
		if k := len(l.fixes); k > 0 && s.compare(&l.fixes[k-1]) <= 0 || l.hasDone && s.compare(&l.done) <= 0 {
			r.fail("order")
		}
		l.fixes = append(l.fixes, s)
	}
	if len(l.fixes) > MaxWindow {
		r.fail("too many fixes")
	}
	return l
}

func (r *reader) filter() (f filter) {
	r.bits(&f.hasLast, &f.hasAside)
	if f.hasLast {
		f.last = r.sample()
	}
	if f.hasAside {
		f.aside = r.sample()
	}
	return f
}

func (r *reader) track(fences map[string]*entry) *track {
	k := &track{filter: r.filter()}
	for n := r.count(); n > 0 && r.err == nil; n-- {
		f := fences[r.string()]
		m := r.machine()
		if m.fence = f; f == nil {
			continue
		}
		i, twice := k.find(f)
		if twice {
			r.fail("fence twice")
		}
		k.machines = slices.Insert(k.machines, i, m)
	}
	return k
}

func (r *reader) machine() (m machine) {
	n := r.uint()
	if m.n = uint32(n); n > math.MaxUint32 {
		r.fail("count of events")
	}
	r.bits(&m.inside, &m.known, &m.seen, &m.told, &m.first, &m.crossed, &m.dormant, &m.peakByFix)
	for _, v := range m.floats() {
		*v = r.float()
	}
	for _, v := range m.times() {
		*v = r.timeOrNone()
	}
	if m.told != (m.n%2 == 1) || m.told && !m.inside || m.inside && (!m.seen || m.dormant || m.flipped == noTime) {
		r.fail("inside and not")
	}
	return m
}

func (r *reader) meeting(p *pair) *meeting {
	k := newMeeting(p)
	var at bool
	r.bits(&k.has[0], &k.has[1], &at)
	for side := range k.has {
		k.filters[side] = r.filter()
		k.heard[side] = r.time()
		if k.has[side] {
			k.last[side] = r.sample()
		}
	}
	k.lead = int(r.side())
	for n := r.count(); n > 0 && r.err == nil; n-- {
		k.ahead = append(k.ahead, r.sample())
	}
	if len(k.ahead) > maxAhead || len(k.ahead) > 0 && !(k.has[0] && k.has[1]) {
		r.fail("fixes that wait")
	}
	if at {
		k.at = r.time()
		k.moment = [2]geo.Vec{r.vec(), r.vec()}
		k.acc = r.accuracy()
	}
	k.machine = r.machine()
	return k
}
