package fences

import (
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
)

// person is a subject.
type person struct {
	id      string
	devices []device
	lead    string // the device that the person is with
	own     bool   // this region told where it is

	// The last fix of it that counts.
	seen   bool
	at     time.Time
	point  geo.Point
	vec    geo.Vec
	acc    float64
	coarse bool

	entries []*entry         // where there were crossings; of two members, both have it
	near    map[*person]bool // with whom it is watched as one of a pair
	forget  bool             // stands nowhere, which is to be stored before anything else
	busy    bool             // it is being stored
	tries   int
	retry   time.Time
}

type device struct {
	name   string
	at     time.Time // of its newest fix
	lapses time.Time
	own    bool
	anchor geo.Point // where it was when it moved last
	acc    float64
	moved  time.Time // when that was; zero: it never did
}

// moveLeast is how far beyond the accuracy of both fixes a device must be from
// where it was, to have moved.
const moveLeast = 30

// takes notes a device's fix of a time, and reports whether the person is there.
func (p *person) takes(at time.Time, f *wire.MemberFix, own bool) bool {
	point, acc := pointOf(f.Fix), float64(f.Fix.Accuracy)
	d := p.device(f.Device)
	if d == nil {
		p.devices = append(p.devices, device{name: f.Device, anchor: point, acc: acc})
		d = &p.devices[len(p.devices)-1]
	}
	d.own = own
	if at.After(d.at) {
		d.at, d.lapses = at, edge.Lapses(f.Fix)
		if geo.Distance(d.anchor, point) > d.acc+acc+moveLeast {
			d.anchor, d.acc, d.moved = point, acc, at
		}
	}
	p.follow(at)
	return p.lead == f.Device
}

func (p *person) device(name string) *device {
	for i := range p.devices {
		if p.devices[i].name == name {
			return &p.devices[i]
		}
	}
	return nil
}

// follow decides with which device the person is.
func (p *person) follow(now time.Time) {
	best := p.device(p.lead)
	if best != nil && now.After(best.lapses) {
		best = nil
	}
	for i := range p.devices {
		d := &p.devices[i]
		if !now.After(d.lapses) && (best == nil || d.moved.After(best.moved)) {
			best = d
		}
	}
	if best != nil {
		p.lead, p.own = best.name, best.own
	}
}

// without takes a device away whose position was withdrawn. It reports what that
// means for the person: lapsed, if it would not be shown any more anyway; gone,
// if it was withdrawn and no other device tells where they are.
func (p *person) without(name string, now time.Time) (gone bool) {
	d := p.device(name)
	if d == nil {
		return len(p.devices) == 0
	}
	lapsed := !now.Add(lapseSlack).Before(d.lapses)
	*d = p.devices[len(p.devices)-1]
	p.devices = p.devices[:len(p.devices)-1]
	p.follow(now)
	return !lapsed && len(p.devices) == 0
}

// lapseSlack is how much earlier than we think a node may think that a position
// has lapsed.
const lapseSlack = 5 * time.Second

func pointOf(f *wire.Fix) geo.Point { return geo.Point{Lat: f.Point.GetLat(), Lng: f.Point.GetLng()} }
