package interest

import (
	"time"

	"github.com/mustermesh/muster/api/wire"
)

const (
	// datagramBytes fit the 1,200 that every QUIC path carries (RFC 9000, section
	// 14), with the headers of the session's datagram.
	datagramBytes = 1100
	// keyBytes bounds a part of a key frame: small enough not to hold up what is
	// behind it.
	keyBytes = 16 << 10
)

// encoder makes frames of sights, in memory that it uses again.
type encoder struct {
	view  *View
	limit int
	key   bool // it is a part of a key frame
	size  int
	slots []*slot
	used  int

	frame wire.ServerFrame
	body  wire.ServerFrame_View
	inner wire.View
	list  []*wire.Sight
	buf   []byte
}

// slot is a sight with room for what it points to.
type slot struct {
	sight                         wire.Sight
	lat, lng                      int32
	accuracy, speed, heading, age uint32
}

// overhead of a frame: tags, lengths, and the fields of the View.
const overhead = 4 + 4 + 4*6

// begin starts a frame of at most limit bytes, or a few more of one sight.
func (e *encoder) begin(v *View, limit int, key bool) {
	e.view, e.limit, e.key, e.size, e.used = v, limit, key, overhead, 0
}

func (e *encoder) len() int { return e.used }

// add puts a sight into the frame. false: there is no room for it; the frame is
// to be ended first.
func (e *encoder) add(w *sight, now time.Time) bool {
	if e.used == len(e.slots) {
		e.slots = append(e.slots, new(slot))
	}
	s := e.slots[e.used]
	s.fill(w, now.UnixMilli(), e.key)
	n := s.sight.SizeVT()
	n += 1 + varintLen(n)
	if e.used > 0 && e.size+n > e.limit {
		return false
	}
	e.used++
	e.size += n
	return true
}

func varintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	}
	return 3
}

// fill says how a subject is: whole in a key frame and where the client doesn't
// have it in one, else what differs.
func (s *slot) fill(w *sight, now int64, key bool) {
	o := &s.sight
	o.Handle, o.User, o.Device, o.Gone, o.Cell = w.handle, "", "", w.gone, 0
	o.Lat, o.Lng, o.Accuracy, o.Speed, o.Heading, o.Age = nil, nil, nil, nil, nil, nil
	if w.gone {
		return
	}
	if !w.inKey {
		o.User, o.Device = w.subject.user, w.subject.device
	}
	cur, base := &w.subject.spot, &nothing
	if w.inKey && !key {
		base = &w.key
	}
	if s.lat = cur.lat - base.lat; s.lat != 0 {
		o.Lat = &s.lat
	}
	if s.lng = cur.lng - base.lng; s.lng != 0 {
		o.Lng = &s.lng
	}
	if s.accuracy = cur.accuracy; cur.accuracy != base.accuracy {
		o.Accuracy = &s.accuracy
	}
	if s.speed = cur.speed; cur.speed != base.speed {
		o.Speed = &s.speed
	}
	if s.heading = cur.heading; cur.heading != base.heading {
		o.Heading = &s.heading
	}
	if cur.cell != base.cell {
		o.Cell = cur.cell
	}
	if age := (now - w.subject.captured) / 1000; age > 0 {
		s.age = uint32(age)
		o.Age = &s.age
	}
}

var nothing = spot{speed: noSpeed, heading: noHeading, cell: noCell}

// end sends the frame and begins the next one.
func (e *encoder) end(more, lossy bool, st *Stats, emit func(*View, []byte, bool)) {
	v := e.view
	if e.key {
		v.n = 0
		st.Keys++
	} else {
		v.n++
		st.Deltas++
	}
	e.list = e.list[:0]
	for _, s := range e.slots[:e.used] {
		e.list = append(e.list, &s.sight)
	}
	e.inner.Watch, e.inner.Key, e.inner.N, e.inner.More, e.inner.Sights = v.number, v.key, v.n, more, e.list
	e.body.View = &e.inner
	e.frame.Body = &e.body
	n := e.frame.SizeVT()
	if n > cap(e.buf) {
		e.buf = make([]byte, n+n/2)
	}
	b := e.buf[:n]
	if _, err := e.frame.MarshalToSizedBufferVT(b); err != nil {
		panic("interest: encode view: " + err.Error()) // our own well-formed message
	}
	st.Bytes += uint64(n)
	emit(v, b, lossy)
	e.begin(v, e.limit, e.key)
}
