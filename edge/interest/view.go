package interest

import (
	"slices"
	"time"
)

const (
	// maxSights bounds a view. Who comes on top is shown when somebody has left.
	maxSights = 1000
	// maxOrder bounds the sights that a key frame has not sorted out yet.
	maxOrder = 2 * maxSights
	// keyEvery is how long what was told may be missing where a datagram got lost.
	keyEvery = 5 * time.Second
	// namedEvery is how soon a key frame may follow another for the sake of those
	// who are new: until they are in one, each frame about them has their names.
	namedEvery = time.Second
	// lookEvery is how soon one may follow another since the area changed.
	lookEvery = 250 * time.Millisecond
	// maxDatagrams a view and tick. What does not fit goes with the next tick.
	maxDatagrams = 8
)

// View is what one watch knows to have told of a scene; see the package comment.
// All it is called by is its scene.
type View struct {
	number uint32 // of the watch
	area   area
	hidden map[string]bool // users
	blind  bool            // everybody is

	sights map[*subject]*sight
	order  []*sight // those in sights, by handle, and those that are gone
	dirty  []*sight // to be told, the longest waiting first
	fresh  int      // told, and not in the key frame
	keyed  int      // in the key frame
	handle uint32   // the last one given
	key    uint32   // the last key frame
	n      uint32   // the last frame on top of it
	keyAt  time.Time
	again  bool   // a key frame is due: the area is new
	told   bool   // something since the key frame
	short  bool   // there are more than maxSights
	since  uint64 // how many fixes the scene had applied when it came
}

// sight is a subject that a view shows, or showed since the last key frame.
type sight struct {
	subject *subject
	handle  uint32
	key     spot // as in the key frame
	inKey   bool // it is in the key frame
	told    bool // since the key frame
	gone    bool
	sure    bool // that it is gone must arrive
	dirty   bool
	noted   int64 // Unix ms; when a receipt was given for it last
}

// NewView returns the view of a watch, whose key frames are numbered from above
// a number. Until it is given what to look at (Scene.Look) it shows nothing.
func NewView(number, above uint32) *View {
	return &View{number: number, key: above, sights: map[*subject]*sight{}}
}

// shown calls f with each subject that the client was told of, and that f was not
// called with since a moment.
func (v *View) shown(now time.Time, since time.Duration, f func(*subject)) {
	at := now.UnixMilli()
	for _, w := range v.order {
		if !w.gone && (w.inKey || w.told) && at-w.noted >= since.Milliseconds() {
			w.noted = at
			f(w.subject)
		}
	}
}

// look decides anew about everybody shown.
func (v *View) look() {
	for _, w := range v.order {
		if !w.gone {
			v.apply(w.subject)
		}
	}
	v.again = true
}

// wants reports whether a subject that is not shown is to be.
func (v *View) wants(s *subject) bool {
	w := v.sights[s]
	return (w == nil || w.gone) && v.may(s) && v.area.has(s.lat, s.lng, false)
}

func (v *View) may(s *subject) bool { return s.shown && !v.blind && !v.hidden[s.user] }

// apply takes a subject that is new, has moved, or is shown no more.
func (v *View) apply(s *subject) {
	w := v.sights[s]
	may := v.may(s)
	in := may && v.area.has(s.lat, s.lng, w != nil && !w.gone)
	switch {
	case in && w == nil:
		if len(v.sights) >= maxSights || len(v.order) >= maxOrder {
			v.short = true
			return
		}
		v.handle++
		w = &sight{subject: s, handle: v.handle}
		v.sights[s] = w
		v.order = append(v.order, w)
	case in:
		w.gone, w.sure = false, false
	case w == nil || w.gone && (may || w.sure):
		return
	default:
		w.gone, w.sure = true, !may
	}
	if !w.dirty {
		w.dirty = true
		v.dirty = append(v.dirty, w)
	}
	if !s.shown { // it comes back as another one, if at all
		delete(v.sights, s)
	}
}

// tick tells what is to be told; see Scene.Tick.
func (v *View) tick(now time.Time, e *encoder, st *Stats, emit func(*View, []byte, bool)) time.Time {
	if v.blind && v.keyAt.IsZero() {
		return timeOf(never) // nothing was said yet, and "nobody" would not be true
	}
	if at := v.keyDue(); !at.After(now) {
		v.tellKey(now, e, st, emit)
	} else if len(v.dirty) > 0 {
		v.tellChanges(now, e, st, emit)
	}
	if len(v.dirty) > 0 {
		return now
	}
	return v.keyDue()
}

// keyDue returns when the next key frame is due.
func (v *View) keyDue() time.Time {
	switch {
	case v.again:
		return v.keyAt.Add(lookEvery)
	case v.fresh > max(8, v.keyed/2), len(v.order) >= maxOrder:
		return v.keyAt.Add(namedEvery)
	case v.told:
		return v.keyAt.Add(keyEvery)
	}
	return timeOf(never)
}

func (v *View) tellKey(now time.Time, e *encoder, st *Stats, emit func(*View, []byte, bool)) {
	v.order = slices.DeleteFunc(v.order, func(w *sight) bool {
		if w.gone && v.sights[w.subject] == w {
			delete(v.sights, w.subject)
		}
		return w.gone
	})
	v.key++
	v.n = 0
	e.begin(v, keyBytes, true)
	for _, w := range v.order {
		for !e.add(w, now) {
			e.end(true, false, st, emit)
		}
		w.key, w.inKey, w.told, w.dirty = w.subject.spot, true, false, false
	}
	e.end(false, false, st, emit)
	v.keyAt, v.again, v.told = now, false, false
	v.fresh, v.keyed = 0, len(v.order)
	clear(v.dirty)
	v.dirty = v.dirty[:0]
}

// tellChanges sends who is gone for sure on the stream, and others by datagram.
func (v *View) tellChanges(now time.Time, e *encoder, st *Stats, emit func(*View, []byte, bool)) {
	kept, frames := v.dirty[:0], 0
	e.begin(v, keyBytes, false)
	for _, w := range v.dirty {
		switch {
		case w.gone && !w.inKey && !w.told:
			w.dirty = false // came and went: nobody knows
			if v.sights[w.subject] == w {
				delete(v.sights, w.subject)
			}
			v.told = true // the key frame forgets it
		case w.gone && w.sure:
			if !e.add(w, now) {
				e.end(false, false, st, emit)
				e.add(w, now)
			}
			v.tells(w)
		default:
			kept = append(kept, w)
		}
	}
	if e.len() > 0 {
		e.end(false, false, st, emit)
	}
	v.dirty = kept

	e.begin(v, datagramBytes, false)
	rest := 0
	for i, w := range v.dirty {
		if !e.add(w, now) {
			e.end(false, true, st, emit)
			if frames++; frames == maxDatagrams {
				rest = len(v.dirty) - i
				break
			}
			e.add(w, now)
		}
		v.tells(w)
	}
	if e.len() > 0 {
		e.end(false, true, st, emit)
	}
	copy(v.dirty, v.dirty[len(v.dirty)-rest:])
	clear(v.dirty[rest:])
	v.dirty = v.dirty[:rest]
}

func (v *View) tells(w *sight) {
	if !w.told && !w.inKey {
		v.fresh++
	}
	w.told, w.dirty = true, false
	v.told = true
}
