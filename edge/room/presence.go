package room

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

const (
	pageDefault = 100
	pageMost    = 500
	eventMost   = 256 // devices in one event: many may time out at once, and frames are limited
)

// news is presence that waits to be told, since an event of it went out only
// just before. A device is in it once: as it is, or as it left.
type news struct {
	waiting map[key]*member
	from    time.Time // not before
}

func (x *news) due() time.Time {
	if len(x.waiting) == 0 {
		return time.Time{}
	}
	return x.from
}

// announce tells of members that are new, changed or gone: now, or together
// with what else happens until Merge after the last event.
func (r *Room) announce(now time.Time, told []*member) {
	if len(told) == 0 {
		return
	}
	if r.news.waiting == nil {
		r.news.waiting = map[key]*member{}
	}
	for _, m := range told {
		if old := r.news.waiting[m.key]; old != nil && old.dev.Epoch > m.dev.Epoch {
			r.tell(now) // or nobody would hear that the newer one is gone
		}
		r.news.waiting[m.key] = m
	}
	if !now.Before(r.news.from) {
		r.tell(now)
	}
}

// tell makes an event of what waits to be told. Other events call it first, so
// that nobody is heard before they are seen.
func (r *Room) tell(now time.Time) {
	if len(r.news.waiting) == 0 {
		return
	}
	told := slices.SortedFunc(maps.Values(r.news.waiting), compare)
	clear(r.news.waiting)
	told = slices.DeleteFunc(told, func(m *member) bool { return m.dev.State != wire.State_LEFT && (m.node == "" || m.hidden) })
	if len(told) == 0 {
		return
	}
	r.news.from = now.Add(r.cfg.Merge)
	for _, m := range told {
		m.announced = m.dev.Epoch
		m.shown = m.dev.State == wire.State_SUSPENDED
	}
	c := counts(r.seen(r.own))
	for some := range slices.Chunk(told, eventMost) {
		r.emit(&wire.Event{Body: &wire.Event_Presence{Presence: &wire.Presence{People: people(some), Counts: c}}})
	}
}

// left returns the member as it is told of when it is gone, or hides.
func (m *member) left(now time.Time, reason wire.Reason) *member {
	d := copyDevice(m.dev)
	d.State, d.Reason, d.Since = wire.State_LEFT, reason, stamp(now)
	return &member{key: m.key, name: m.name, region: m.region, dev: d}
}

// again returns a member of ours as it is told of when another region has an
// older session of the device. Of a hidden one that says only that the other
// session is over.
func (m *member) again(now time.Time) *member {
	if !m.hidden {
		return m
	}
	m.announced = m.dev.Epoch
	gone := m.left(now, wire.Reason_BYE)
	gone.dev.Node, gone.dev.Transport = "", 0
	return gone
}

// seen yields the members of a region that may be seen, or of all regions if
// none is given, in order.
func (r *Room) seen(g *region) iter.Seq[*member] {
	return func(yield func(*member) bool) {
		for _, m := range r.roll.sorted {
			if !m.hidden && (g == nil || m.region == g.id) && !yield(m) {
				return
			}
		}
	}
}

// counts counts people, not devices. A blip makes no event, so it must not
// change counts either: who is suspended and was shown to nobody counts as live.
func counts(ms iter.Seq[*member]) *wire.Counts {
	c := &wire.Counts{}
	user, live, first := "", false, true
	for m := range ms {
		if first || m.user != user {
			c.Suspended++
			user, live, first = m.user, false, false
		}
		if !live && (m.dev.State == wire.State_LIVE || m.node != "" && !m.shown) {
			live = true
			c.Suspended--
			c.Live++
		}
	}
	return c
}

// part is the present state of a region's members, with the first so many
// people; with all if most is 0.
func (r *Room) part(g *region, most int) *wire.Part {
	p := &wire.Part{At: g.position()}
	var shown []*member
	n, user := 0, ""
	for m := range r.seen(g) {
		if n == 0 || m.user != user {
			if most > 0 && n == most {
				p.Truncated = true
				break
			}
			n, user = n+1, m.user
		}
		shown = append(shown, m)
		m.show()
		if m.alive(r.used) {
			p.Fixes = append(p.Fixes, m.fix)
		}
	}
	posts := 0
	for _, x := range r.posts {
		if x.region != g.id || !x.alive(r.used) {
			continue
		}
		if posts++; most > 0 && posts > most {
			p.Truncated = true
			break
		}
		p.Fixes = append(p.Fixes, x.fix)
	}
	p.People, p.Counts = people(shown), counts(r.seen(g))
	return p
}

// cut returns a part with at most the first so many of its people.
func cut(p *wire.Part, most int) *wire.Part {
	if len(p.People) <= most {
		return p
	}
	first := &wire.Part{At: p.At, People: p.People[:most], Counts: p.Counts, Truncated: true}
	shown := map[string]bool{}
	for _, person := range first.People {
		shown[person.GetUser()] = true
	}
	posts := 0
	for _, f := range p.Fixes {
		post := f.GetDevice() == edge.PostDevice
		if post {
			posts++
		}
		if post && posts <= most || !post && shown[f.GetUser()] {
			first.Fixes = append(first.Fixes, f)
		}
	}
	return first
}

// show notes that somebody was shown the member as it is.
func (m *member) show() {
	if m.dev.State == wire.State_SUSPENDED {
		m.shown = true
	}
}

// People returns a page of the people of all regions by user id, after a user:
// up to limit (at most 500; 0: 100).
func (r *Room) People(after string, limit int) *wire.PeoplePage {
	if limit <= 0 {
		limit = pageDefault
	}
	limit = min(limit, pageMost)
	page := &wire.PeoplePage{Room: r.id}
	var shown []*member
	n, user := 0, ""
	for m := range r.seen(nil) {
		if strings.Compare(m.user, after) <= 0 {
			continue
		}
		if n == 0 || m.user != user {
			if n == limit {
				page.More = true
				break
			}
			n, user = n+1, m.user
		}
		shown = append(shown, m)
		m.show()
	}
	page.People, page.Counts = people(shown), counts(r.seen(nil))
	return page
}

// people groups members that are sorted by user into one entry per user.
func people(ms []*member) []*wire.Person {
	var out []*wire.Person
	for _, m := range ms {
		if n := len(out); n > 0 && out[n-1].User == m.user {
			out[n-1].Devices = append(out[n-1].Devices, m.dev)
			continue
		}
		out = append(out, &wire.Person{User: m.user, Name: m.name, Devices: []*wire.Device{m.dev}})
	}
	return out
}

func copyDevice(d *wire.Device) *wire.Device {
	return &wire.Device{
		Device: d.Device, Epoch: d.Epoch, State: d.State, Region: d.Region, Node: d.Node,
		Transport: d.Transport, Since: d.Since, Reason: d.Reason,
	}
}
