package share

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// subject is what this node knows of one user; see the package comment. Its
// effects go out while it is locked: the hub takes its own locks after it.
type subject struct {
	h    *Sharer
	user string
	due  atomic.Int64 // when something is to be done, in Unix nanoseconds
	at   place

	mu      sync.Mutex // guards the following
	over    bool       // it was forgotten
	name    string
	bucket  admit.Bucket
	used    time.Time // the last fix or change
	snapper *grant.Snapper
	raw     grant.Raw // the newest of all devices
	came    time.Time // when that arrived
	void    bool      // it was withdrawn
	from    *device   // whose that is; nil: it came without a session
	devices []*device
	since   time.Time // what was captured before is withdrawn

	// What they chose, as of the last read that succeeded.
	set     *grant.Set // never nil
	version uint64
	asOf    time.Time // when it began; zero: nothing is known
	track   bool
	hidden  bool
	hidAt   time.Time // when they said so last; a read that began before is older
	barred  map[string]bool
	need    uint64      // the version that is known to be there
	asked   time.Time   // since when it lags behind that; zero: it doesn't
	sweep   bool        // rooms that may have what other nodes told are to be looked at
	reading bool        // it is in the list of reads, or being read
	retry   time.Time   // not before
	kept    []grant.Raw // for the track, if there is one

	memories uint64 // the version of the snapper's memory that it recalled
	recalled bool   // it did, be there one or not
	unsaved  bool   // it gave one away that is not known to be stored

	entries []*entry
	listed  bool      // entries are those of set, until
	ends    time.Time // one of the grants ends; zero: never
	rooms   []string  // scratch
}

// device is one of the subject's with a session here. What is told as of a
// session is numbered with its fixes.
type device struct {
	id       string
	client   edge.Client
	n        uint64 // the client's number of its newest fix
	top      uint64 // the highest number that was told
	captured time.Time
	behind   grant.Raw // is to be told beside the newest, once what they chose is known
	waits    bool      // behind is set
}

// entry is an audience, and what it was told last.
type entry struct {
	audience grant.Audience
	room     string // "": whoever is near
	holds    bool   // a grant

	view    grant.View // zero if it was told nothing, or that was withdrawn
	until   time.Time  // when that lapses
	session bool       // it may have been told as a session's
	posted  bool       // or as a post
	n       uint64     // of the last post
	by      *device    // whose session told the view last
	as      uint64     // under which number; 0 once the session ended

	began, noted time.Time // since when it is told at this precision, and when that was last noted
}

const groupRoom = "group:"

// roomOf returns the room through which an audience is told; "" for those near.
func roomOf(user string, a grant.Audience) string {
	switch a.Kind {
	case grant.Group:
		return groupRoom + a.ID
	case grant.Person:
		return "direct:" + min(user, a.ID) + ":" + max(user, a.ID)
	case grant.Link:
		return "link:" + a.ID
	}
	return ""
}

func newSubject(h *Sharer, user string) *subject {
	s := &subject{h: h, user: user, snapper: grant.NewSnapper(h.cfg.Secret, user), used: time.Now(), void: true, set: nothing()}
	s.due.Store(time.Now().Add(tick).UnixNano())
	return s
}

// nothing is what somebody shares of whom nothing is known. It takes what posts
// name meanwhile.
func nothing() *grant.Set {
	set, err := grant.NewSet(nil, nil, false)
	if err != nil {
		panic("share: an empty set: " + err.Error())
	}
	return set
}

// ---------------------------------------------------------------- what comes in

// take takes a fix: of a device's session, its n-th, or of none.
func (s *subject) take(now time.Time, raw grant.Raw, d *device, n uint64, rooms []string) error {
	if wait := s.bucket.Take(now, s.h.cfg.Rate, 1); wait > 0 {
		s.h.metrics.limited.Inc()
		return errs.New(errs.RateLimited, edge.CodeRateLimited, "send fewer positions").After(wait)
	}
	s.used = now
	s.keep(raw)
	captured := raw.Captured()
	if now.Sub(captured) >= edge.FixLife || !captured.After(s.since) {
		s.h.metrics.late.Inc()
		s.plan(now) // it may be the first
		return nil
	}
	for _, room := range rooms {
		s.named(now, room, captured.Add(edge.FixLife))
	}
	take := s.snapper.Take
	if d != nil && n > d.n && s.from == d {
		take = s.snapper.Retake
	}
	newest, err := take(raw, now)
	if err != nil {
		return err
	}
	again, beside := false, false
	switch {
	case newest:
		s.raw, s.came, s.void, s.from = raw, now, false, d
		if d != nil {
			d.waits = false
		}
		s.h.metrics.taken.Inc()
	case d != nil && n >= d.n && captured.Equal(s.raw.Captured()) && !s.void && (s.from == d || s.from == nil):
		// Said again: perhaps to who was not there before, or a room lost it with
		// the device's last session, or with a join that was refused.
		s.from, again = d, true
	case d != nil && n >= d.n && !captured.Before(d.captured):
		beside = true
	default:
		s.h.metrics.late.Inc()
	}
	if d != nil && n > d.n {
		d.n = n
		if captured.After(d.captured) {
			d.captured = captured
		}
	}
	s.settle(now, again)
	if beside { // now that rooms which it names know of the user
		s.aside(now, raw, d, n)
	}
	return nil
}

// named notes that a fix named a room.
func (s *subject) named(now time.Time, room string, until time.Time) {
	group, ok := strings.CutPrefix(room, groupRoom)
	if !ok || !now.Before(until) {
		return
	}
	known := slices.ContainsFunc(s.entries, func(e *entry) bool { return e.room == room && e.holds })
	if !known && len(s.set.Posts()) >= maxNamed {
		return
	}
	s.set.Post(group, until)
	s.listed = s.listed && known
}

// keep has a fix kept if the user wants that, or as soon as it is known.
func (s *subject) keep(raw grant.Raw) {
	switch {
	case s.track:
		s.h.cfg.Sharing.Keep(s.user, raw)
	case s.asOf.IsZero() && len(s.kept) < unkept:
		s.kept = append(s.kept, raw)
	}
}

// device returns a client's; nil if the device is live under a higher epoch.
func (s *subject) device(c edge.Client) *device {
	id, epoch := c.Member().Device.Device, c.Member().Device.Epoch
	for _, d := range s.devices {
		switch {
		case d.id != id:
		case d.client == c:
			return d
		case d.client.Member().Device.Epoch > epoch:
			return nil
		default: // its next session, which counts anew
			d.client, d.n, d.top, d.waits, s.sweep = c, 0, 0, false, true
			for _, e := range s.entries {
				if e.by == d {
					e.as = 0
				}
			}
			return d
		}
	}
	d := &device{id: id, client: c}
	s.sweep = true // what they chose may have changed while it was between two nodes
	s.devices = append(s.devices, d)
	return d
}

func (s *subject) gone(c edge.Client) {
	m := c.Member().Device
	i := slices.IndexFunc(s.devices, func(d *device) bool { return d.id == m.Device && d.client.Member().Device.Epoch <= m.Epoch })
	if i < 0 {
		return
	}
	if s.from == s.devices[i] {
		s.from = nil
	}
	if s.devices = slices.Delete(s.devices, i, i+1); len(s.devices) == 0 {
		for _, e := range s.entries {
			e.session = false // what was told went with the session
		}
	}
}

// withdrawAll forgets where the subject was.
func (s *subject) withdrawAll(now, at time.Time) {
	s.used, s.void = now, true
	s.since = latest(s.since, at, s.raw.Captured())
	s.set, s.asOf, s.listed, s.sweep, s.kept = nothing(), time.Time{}, false, true, nil
	for _, e := range s.entries {
		s.withdraw(now, e)
	}
	s.swept(now)
	s.settle(now, false)
}

// missed forgets where the subject was up to a withdrawal that this node was not
// told of, if there was one. Of the newest fix that is what arrived until then too:
// clocks of devices may be ahead.
func (s *subject) missed(now, at time.Time) {
	if !at.After(s.since) {
		return
	}
	s.since = at
	if !s.came.After(at) {
		s.since = latest(at, s.raw.Captured())
	}
	s.void = !s.raw.Captured().After(s.since)
	for _, e := range s.entries { // what other devices told too: the rest is told again
		s.withdraw(now, e)
	}
	s.sweep = true
}

func (s *subject) setHidden(now time.Time, hidden bool) {
	s.hidAt = now
	if s.hidden = hidden; hidden {
		for _, e := range s.entries {
			s.withdraw(now, e)
		}
	}
	s.settle(now, false)
}

// changed has what they chose read anew.
func (s *subject) changed(now time.Time, version uint64) {
	s.used = now
	if s.need = max(s.need, version); s.version < s.need && s.asked.IsZero() {
		s.asked = now
	}
	s.sweep, s.retry = true, time.Time{}
	s.ask(now)
	s.plan(now)
}

// ask puts the subject on the list of reads.
func (s *subject) ask(now time.Time) {
	changed := !s.asked.IsZero()
	switch {
	case now.Before(s.retry):
	case !s.reading:
		s.reading = true
		s.h.reads.put(s, changed)
	case changed:
		s.h.reads.hurry(s)
	}
}

// found takes what a read found that began at a moment, for version need.
func (s *subject) found(now, began time.Time, need uint64, f found, err error) {
	s.reading = false
	if s.need == need { // else there is news to be read at once
		s.retry = now.Add(readAgain)
	}
	if err == nil && f.Version >= s.version { // else a replica is behind
		s.missed(now, f.Withdrawn)
		for group, until := range s.set.Posts() {
			if until.After(s.since.Add(edge.FixLife)) { // else a fix that was withdrawn named it
				f.Set.Post(group, until)
			}
		}
		s.set, s.version, s.asOf, s.listed = f.Set, f.Version, began, false
		s.set.Forget(now)
		s.track, s.barred = f.Track, f.barred
		s.recall(f.Choices)
		if began.After(s.hidAt) {
			s.hidden = f.hidden
		}
		if s.track {
			for _, raw := range s.kept {
				s.h.cfg.Sharing.Keep(s.user, raw)
			}
		}
		s.kept = nil
		if s.version >= s.need {
			s.asked = time.Time{}
		}
	}
	s.settle(now, false)
}

// ---------------------------------------------------------------- what goes out

// trusted reports whether what they chose is known well enough to tell more: it
// is not while a change of it is still to be read.
func (s *subject) trusted(now time.Time) bool {
	return !s.asOf.IsZero() && s.asked.IsZero() && now.Sub(s.asOf) < s.h.cfg.Lapse
}

// shows reports whether there is a fix that may be told at all.
func (s *subject) shows(now time.Time) bool {
	return !s.void && now.Sub(s.raw.Captured()) < edge.FixLife
}

// settle brings what audiences were told to what they should see. again: the
// newest fix came again under another number.
func (s *subject) settle(now time.Time, again bool) {
	switch {
	case s.trusted(now):
		s.list(now)
		s.tell(now, again)
		for _, d := range s.devices {
			if d.waits {
				s.aside(now, d.behind, d, d.n)
			}
		}
		s.remember()
		if s.sweep && s.version >= s.need {
			s.swept(now)
			s.sweep = false
		}
	case !s.asked.IsZero() && now.Sub(s.asked) >= s.h.cfg.Lapse:
		for _, e := range s.entries { // what they took back may be among it
			s.withdraw(now, e)
		}
		s.swept(now)
	default: // what ends by itself ends all the same
		s.expire(now)
	}
	if s.wants(now) {
		s.ask(now)
	}
	s.plan(now)
}

// expire withdraws what is told by grants that have ended meanwhile, as far as
// those are known.
func (s *subject) expire(now time.Time) {
	s.list(now)
	for _, e := range s.entries {
		if !e.told() {
			continue
		}
		if p, ok := s.set.For(now, s.snapper, e.audience); !e.holds || !ok || p < e.view.Precision {
			s.withdraw(now, e)
		}
	}
}

// wants reports whether what they chose is to be read.
func (s *subject) wants(now time.Time) bool {
	switch {
	case !s.asked.IsZero(), s.sweep, len(s.kept) > 0:
		return true
	case now.Sub(s.asOf) < s.h.cfg.Reread:
		return false
	}
	return s.shows(now) || s.unsaved || slices.ContainsFunc(s.entries, (*entry).told)
}

func (e *entry) told() bool { return e.view != (grant.View{}) }

// list makes the entries those of the grants that hold.
func (s *subject) list(now time.Time) {
	if s.listed && (s.ends.IsZero() || now.Before(s.ends)) {
		return
	}
	for _, e := range s.entries {
		e.holds = false
	}
	for _, a := range s.set.Audiences(now) {
		room := roomOf(s.user, a)
		if s.barred[room] {
			continue
		}
		i := slices.IndexFunc(s.entries, func(e *entry) bool { return e.audience == a })
		if i < 0 {
			i = len(s.entries)
			s.entries = append(s.entries, &entry{audience: a, room: room})
		}
		s.entries[i].holds = true
	}
	s.listed, s.ends = true, s.set.Ends(now)
}

// tell goes through the audiences.
func (s *subject) tell(now time.Time, again bool) {
	shows := s.shows(now) && !s.hidden
	s.rooms = s.rooms[:0]
	var exact grant.View
	repeats := false
	for _, e := range s.entries {
		if e.told() && !now.Before(e.until) { // nobody shows it any more
			s.ended(now, e)
			e.view, e.session, e.posted = grant.View{}, false, false
		}
		var v grant.View
		ok := false
		if e.holds && shows {
			v, ok = s.set.View(now, s.snapper, e.audience)
		}
		switch {
		case !ok && (!e.holds || s.hidden || s.void):
			s.withdraw(now, e)
		case !ok, !now.Before(lapses(v)): // it lapses by itself
		case v == e.view && !(again && e.room != "" && v.Precision == grant.Exact):
			s.goesOn(now, e)
		case e.room == "":
			s.begun(now, e, v)
			if s.h.cfg.Map != nil {
				s.h.cfg.Map.Put(s.user, s.name, v, e.until)
			}
		case v == e.view && e.by == s.from && e.as > 0:
			repeats = true
			s.goesOn(now, e)
		case v.Precision == grant.Exact && s.from != nil:
			s.rooms, exact = append(s.rooms, e.room), v
			s.begun(now, e, v)
		default:
			s.begun(now, e, v)
			s.post(e, v)
			if v.Precision != grant.Exact {
				s.unsay(now, e)
			}
		}
	}
	if len(s.rooms) > 0 {
		s.report(now, s.from, exact, s.rooms)
	}
	if repeats {
		s.repeat()
	}
	s.entries = slices.DeleteFunc(s.entries, func(e *entry) bool {
		return !e.holds && !e.told() && now.Sub(e.noted) > edge.FixLife+edge.CoarseLife
	})
}

// report tells a device's exact position as its session's. Rooms that the
// session is not in get a post.
func (s *subject) report(now time.Time, d *device, v grant.View, rooms []string) {
	d.top = max(d.n, d.top+1)
	missing := s.h.cfg.Hub.Report(d.client, fixOf(v, d.top), rooms)
	for _, e := range s.entries {
		switch {
		case !slices.Contains(rooms, e.room):
		case slices.Contains(missing, e.room):
			e.as = 0
			s.post(e, v)
		default:
			e.session, e.by, e.as = true, d, d.top
			s.unpost(now, e)
		}
	}
}

// repeat tells the newest fix again under the number that it was told under: to
// rooms that lost it that is news, to the others it is not.
func (s *subject) repeat() {
	for _, e := range s.entries {
		if e.by == s.from && e.as > 0 && e.session {
			if missing := s.h.cfg.Hub.Report(s.from.client, fixOf(e.view, e.as), []string{e.room}); len(missing) > 0 {
				e.as = 0
				s.post(e, e.view)
			}
		}
	}
}

// aside tells a fix that is the newest of its device but not of the user, where
// the exact position may be seen: both there, where the user is, and here.
func (s *subject) aside(now time.Time, raw grant.Raw, d *device, n uint64) {
	s.h.metrics.aside.Inc()
	if d.waits = !s.trusted(now); d.waits {
		d.behind = raw
	}
	if d.waits || s.hidden || s.void {
		return
	}
	s.list(now)
	at := grant.NewSnapper(s.h.cfg.Secret, s.user)
	if _, err := at.Take(raw, now); err != nil {
		return
	}
	var rooms []string
	var v grant.View
	for _, e := range s.entries {
		if !e.holds || e.room == "" || e.view.Precision != grant.Exact {
			continue
		}
		here, ok := s.set.View(now, at, e.audience)
		if there, _ := s.set.For(now, s.snapper, e.audience); ok && here.Precision == grant.Exact && there == grant.Exact {
			rooms, v = append(rooms, e.room), here
		}
	}
	if len(rooms) == 0 {
		return
	}
	d.top = max(n, d.top+1)
	missing := s.h.cfg.Hub.Report(d.client, fixOf(v, d.top), rooms)
	for _, e := range s.entries {
		if slices.Contains(rooms, e.room) && !slices.Contains(missing, e.room) {
			e.session = true
		}
	}
}

// withdraw has an audience forget what it was told.
func (s *subject) withdraw(now time.Time, e *entry) {
	if e.told() {
		s.ended(now, e)
		e.view = grant.View{}
		if e.room == "" && s.h.cfg.Map != nil {
			s.h.cfg.Map.Gone(s.user)
		}
	}
	s.unpost(now, e)
	s.unsay(now, e)
}

// unsay withdraws what sessions told in an entry's room.
func (s *subject) unsay(now time.Time, e *entry) {
	if !e.session {
		return
	}
	e.session, e.as = false, 0
	s.rebind()
	for _, d := range s.devices {
		d.top++
		s.h.cfg.Hub.Report(d.client, withdrawn(now, d.top), []string{e.room})
	}
}

// swept withdraws, from the rooms of the user's sessions, what other nodes may
// have told there and what they chose does not allow.
func (s *subject) swept(now time.Time) {
	s.rebind()
	for _, d := range s.devices {
		var rooms []string
		for _, room := range s.h.cfg.Hub.Rooms(d.client) {
			i := slices.IndexFunc(s.entries, func(e *entry) bool { return e.room == room })
			if i < 0 || !s.entries[i].session && s.entries[i].view.Precision != grant.Exact {
				rooms = append(rooms, room)
			}
		}
		if len(rooms) > 0 {
			d.top++
			s.h.cfg.Hub.Report(d.client, withdrawn(now, d.top), rooms)
		}
	}
}

// rebind looks for the user's sessions of now.
func (s *subject) rebind() {
	if s.h.cfg.Clients != nil {
		for _, c := range s.h.cfg.Clients(s.user) {
			s.device(c)
		}
	}
}

// ---------------------------------------------------------------- receipts, and when to look again

func (s *subject) begun(now time.Time, e *entry, v grant.View) {
	if e.view.Precision != v.Precision {
		s.ended(now, e)
		e.began = now
	}
	e.view, e.until = v, lapses(v)
	if e.noted.Before(e.began) || now.Sub(e.noted) >= noteEvery {
		s.note(now, e)
	}
}

func (s *subject) goesOn(now time.Time, e *entry) {
	if (e.session || e.posted) && now.Sub(e.noted) >= noteEvery {
		s.note(now, e)
	}
}

func (s *subject) ended(now time.Time, e *entry) {
	if e.told() && (e.session || e.posted) {
		s.note(now, e)
	}
}

func (s *subject) note(now time.Time, e *entry) {
	e.noted = now
	if s.h.cfg.Receipts != nil && e.room != "" {
		s.h.cfg.Receipts.Told(e.room, s.user, e.view.Precision, e.began, now)
	}
}

// plan says when the subject is to be looked at.
func (s *subject) plan(now time.Time) {
	due := now.Add(s.h.cfg.Reread)
	sooner := func(t time.Time) {
		if t.After(now) && t.Before(due) {
			due = t
		}
	}
	if s.wants(now) {
		sooner(now.Add(tick))
	}
	sooner(s.ends)
	for _, e := range s.entries {
		if e.told() {
			sooner(e.until)
		}
	}
	s.due.Store(due.UnixNano())
}

// idle reports whether the subject can be forgotten.
func (s *subject) idle(now time.Time) bool {
	return now.Sub(s.used) >= s.h.cfg.Remember && !s.reading && !slices.ContainsFunc(s.entries, (*entry).told)
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }
