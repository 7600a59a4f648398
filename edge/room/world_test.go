package room

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

var everyRegion = []regions.RegionID{"a", "b", "c"}

// world is three regions, each with a roster, an owner of the room and two
// nodes, and six devices that wander between the nodes, with links that break
// and owners that die, hand over or go on although they are owners no more. It
// knows the truth, and what each node's observer, following the client's rule,
// believes.
//
// Owners are named by region and slot epoch, "a@7", so that what goes to and
// comes from those of the past is told apart.
type world struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	cfg    map[regions.RegionID]*Config
	owners map[regions.RegionID]*Room
	former map[string]*Room // that have not noticed yet
	staged map[regions.RegionID]*peer.HandOver
	roster map[regions.RegionID][]roster // of the last second, the newest last
	heard  map[[2]regions.RegionID]uint64
	nodes  []*observer
	links  map[[2]string][]mail
	cut    map[[2]string]bool

	devices  []*traveller
	epoch    uint64
	messages uint64
	posts    uint64               // numbers them
	truth    map[string]*wire.Fix // the last post of each who posts
	checked  time.Time            // the rosters against the rooms
	bytes    map[string]string    // event number: its bytes, the same everywhere
	shy      map[uint64]bool      // session epochs that were hidden once
	rounds   uint64               // of digests
	stats    map[string]int
}

// roster is a region's sessions in the room, by user, as of a moment.
type roster struct {
	at    time.Time
	stays map[string]regions.Stay
}

type mail struct {
	at    time.Time
	f     *peer.Frame
	dgrm  *peer.Fixes
	epoch uint64 // of the slot; 0 between regions
}

// traveller is a device.
type traveller struct {
	user   string
	node   *observer // where its newest session is; nil: it left
	epoch  uint64
	n      uint64 // of its last fix
	hidden bool
}

func newWorld(t *testing.T, seed uint64, ring int, lost time.Duration) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_000_000, 0),
		cfg: map[regions.RegionID]*Config{}, owners: map[regions.RegionID]*Room{}, former: map[string]*Room{},
		staged: map[regions.RegionID]*peer.HandOver{}, roster: map[regions.RegionID][]roster{},
		heard: map[[2]regions.RegionID]uint64{}, links: map[[2]string][]mail{}, cut: map[[2]string]bool{},
		bytes: map[string]string{}, shy: map[uint64]bool{}, stats: map[string]int{}, truth: map[string]*wire.Fix{},
	}
	for _, g := range everyRegion {
		cfg := Config{Region: g, RingEvents: ring, RegionLost: lost, Others: slices.DeleteFunc(slices.Clone(everyRegion), func(o regions.RegionID) bool { return o == g })}.WithDefaults()
		w.cfg[g] = &cfg
		w.roster[g] = []roster{{w.now, map[string]regions.Stay{}}}
		w.owners[g] = New(&cfg, "r", 1, 0, w.now)
		for _, o := range everyRegion {
			w.heard[[2]regions.RegionID{o, g}] = 1
		}
	}
	for _, g := range everyRegion {
		for _, n := range []string{"1", "2"} {
			o := &observer{w: w, id: regions.NodeID(string(g) + n), region: g, knows: 1}
			o.start()
			w.nodes = append(w.nodes, o)
		}
	}
	for i := range 6 {
		w.devices = append(w.devices, &traveller{user: fmt.Sprintf("u%d", i)})
	}
	return w
}

func name(g regions.RegionID, epoch uint64) string { return fmt.Sprintf("%s@%d", g, epoch) }

// place returns where a node or owner is, for links that break.
func place(name string) string { place, _, _ := strings.Cut(name, "@"); return place }

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// room returns the owner of that name, if it believes to be one.
func (w *world) room(owner string) *Room {
	if r := w.owners[regions.RegionID(place(owner))]; r != nil && name(r.own.id, r.own.epoch) == owner {
		return r
	}
	return w.former[owner]
}

func (w *world) observer(id string) *observer {
	for _, o := range w.nodes {
		if string(o.id) == id {
			return o
		}
	}
	return nil
}

func (w *world) send(from, to string, m mail) {
	if w.cut[pair(place(from), place(to))] {
		return
	}
	m.at = w.now
	w.links[[2]string{from, to}] = append(w.links[[2]string{from, to}], m)
}

func (w *world) effects(r *Room, out []Effect) {
	from := name(r.own.id, r.own.epoch)
	for _, e := range out {
		w.hides(r, e)
		if e.Fixes != nil && w.rng.IntN(4) == 0 {
			continue // datagrams get lost
		}
		m := mail{f: e.Frame, dgrm: e.Fixes, epoch: r.own.epoch}
		if e.Region != "" {
			w.send(from, name(e.Region, w.heard[[2]regions.RegionID{r.own.id, e.Region}]), m)
		} else {
			w.send(from, string(e.Node), m)
		}
	}
}

// hides checks that what a room shows has nobody in it who hides.
func (w *world) hides(r *Room, e Effect) {
	shown := func(user string, epoch uint64) {
		m := r.roll.index[key{user, "d"}]
		require.False(w.t, m != nil && m.hidden && m.dev.Epoch == epoch, "%s@%d is shown", user, epoch)
	}
	parts := e.Frame.GetParts().GetParts()
	bodies := e.Frame.GetJoined().GetFrames()
	for _, f := range []*peer.Fixes{e.Fixes, e.Frame.GetFixes()} {
		if f.GetRegion() == string(r.own.id) { // others' may be of before
			bodies = append(bodies, f.Frame)
		}
	}
	for _, body := range bodies {
		var f wire.ServerFrame
		require.NoError(w.t, f.UnmarshalVT(body))
		parts = append(parts, f.GetSnapshot().GetParts()...)
		for _, fix := range f.GetFixes().GetFixes() {
			if fix.Device == edge.PostDevice {
				continue
			}
			shown(fix.User, fix.Epoch)
		}
	}
	for _, p := range parts {
		for _, person := range p.People {
			shown(person.User, person.Devices[0].Epoch)
		}
	}
}

// deliver hands over the first frame of a link.
func (w *world) deliver(l [2]string) {
	m := w.links[l][0]
	w.links[l] = w.links[l][1:]
	if o := w.observer(l[1]); o != nil {
		switch {
		case m.epoch < o.knows:
			w.stats["refused"]++
		case m.epoch == o.knows:
			o.take(m)
		}
		return
	}
	from, r := regions.RegionID(place(l[0])), w.room(l[1])
	if r == nil { // it answers that it is not the owner, and passes messages on
		switch owner := w.owners[regions.RegionID(place(l[1]))]; {
		case len(from) == 1:
			w.hear(from, owner.own.id)
		case m.f.GetPublish() != nil:
			w.effects(owner, w.input(owner, from, m))
		}
		return
	}
	w.effects(r, w.input(r, from, m))
}

func (w *world) input(r *Room, from regions.RegionID, m mail) []Effect {
	node := regions.NodeID(from)
	if m.dgrm != nil {
		return r.Fixes(w.now, from, m.dgrm)
	}
	switch b := m.f.Body.(type) {
	case *peer.Frame_Join:
		return r.Join(w.now, node, b.Join)
	case *peer.Frame_Attach:
		return r.Attach(w.now, node, b.Attach, w.stays(r.own.id, false))
	case *peer.Frame_Change:
		return r.Change(w.now, node, b.Change)
	case *peer.Frame_Report:
		return r.Report(w.now, node, b.Report.Fix)
	case *peer.Frame_Post:
		return r.Post(w.now, node, b.Post)
	case *peer.Frame_Publish:
		return r.Publish(w.now, b.Publish.Message)
	case *peer.Frame_Subscribe:
		return r.Subscribe(w.now, from, b.Subscribe)
	case *peer.Frame_Unsubscribe:
		return r.Unsubscribe(w.now, from)
	case *peer.Frame_Digest:
		return w.compare(r, from, b.Digest)
	case *peer.Frame_DigestAnswer:
		return r.Answered(w.now, from, b.DigestAnswer.Round, len(b.DigestAnswer.Differ) == 0)
	case *peer.Frame_Event:
		return r.Event(w.now, from, m.f)
	case *peer.Frame_Parts:
		return r.Parts(w.now, from, m.f)
	case *peer.Frame_Fixes:
		return r.SettledFixes(w.now, from, m.f)
	}
	return nil
}

// digest has an owner ask another region by digest, as after a cut.
func (w *world) digest(r *Room, from regions.RegionID) {
	w.rounds++
	hash, in, out := r.Ask(w.now, from, w.rounds)
	if w.effects(r, out); in {
		w.effects(r, []Effect{{Region: from, Frame: &peer.Frame{Body: &peer.Frame_Digest{Digest: &peer.Digest{
			Round: w.rounds, Slots: []uint32{0}, Hashes: []uint64{hash},
		}}}}})
	}
}

func (w *world) compare(r *Room, from regions.RegionID, d *peer.Digest) []Effect {
	a := &peer.DigestAnswer{Round: d.Round}
	var out []Effect
	if hash, in := r.Followed(from); in && hash == d.Hashes[0] {
		w.stats["digests agree"]++
		out = slices.Clone(r.Resume(w.now, from))
	} else {
		w.stats["digests differ"]++
		r.Differed(from)
		a.Differ = d.Slots
	}
	return append(out, Effect{Region: from, Frame: &peer.Frame{Body: &peer.Frame_DigestAnswer{DigestAnswer: a}}})
}

// ---------------------------------------------------------------- rosters

// stays returns a region's sessions: as they are, or as a copy that is up to a
// second behind has them.
func (w *world) stays(g regions.RegionID, fresh bool) []regions.Stay {
	h := w.roster[g]
	for len(h) > 1 && (fresh || w.now.Sub(h[1].at) > time.Second) {
		h = h[1:] // it was outdated then
	}
	v := h[w.rng.IntN(len(h))]
	var out []regions.Stay
	for _, user := range slices.Sorted(maps.Keys(v.stays)) {
		out = append(out, v.stays[user])
	}
	return out
}

func (w *world) stay(g regions.RegionID, user string) (regions.Stay, bool) {
	h := w.roster[g]
	s, ok := h[len(h)-1].stays[user]
	return s, ok
}

// note changes a region's roster; nobody: the session ends.
func (w *world) note(g regions.RegionID, user string, s *regions.Stay) {
	h := w.roster[g]
	next := maps.Clone(h[len(h)-1].stays)
	if delete(next, user); s != nil {
		next[user] = *s
	}
	for len(h) > 1 && w.now.Sub(h[1].at) > time.Second {
		h = h[1:]
	}
	w.roster[g] = append(h, roster{w.now, next})
}

// suspend has the roster suspend a session.
func (w *world) suspend(g regions.RegionID, user string, epoch uint64) {
	if s, ok := w.stay(g, user); ok && uint64(s.Epoch) == epoch && !s.Suspended {
		s.Suspended, s.Since = true, w.now
		w.note(g, user, &s)
		w.effects(w.owners[g], w.owners[g].Suspend(w.now, s.SessionID))
	}
}

// end has the roster end a session.
func (w *world) end(g regions.RegionID, user string, epoch uint64, why wire.Reason) {
	if s, ok := w.stay(g, user); ok && uint64(s.Epoch) == epoch {
		w.note(g, user, nil)
		w.effects(w.owners[g], w.owners[g].End(w.now, s.SessionID, why))
	}
}

// ---------------------------------------------------------------- time

func (w *world) busy() [][2]string {
	var ls [][2]string
	for l, q := range w.links {
		if len(q) > 0 {
			ls = append(ls, l)
		}
	}
	slices.SortFunc(ls, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	return ls
}

func (w *world) rooms() []*Room {
	var rs []*Room
	for _, g := range everyRegion {
		rs = append(rs, w.owners[g])
	}
	for _, n := range slices.Sorted(maps.Keys(w.former)) {
		rs = append(rs, w.former[n])
	}
	return rs
}

// pass lets time go by; nothing is on the way for longer than 2 s.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(50 * time.Millisecond)
		for _, l := range w.busy() {
			for len(w.links[l]) > 0 && w.now.Sub(w.links[l][0].at) > 2*time.Second {
				w.deliver(l)
			}
		}
		for _, r := range w.rooms() {
			if next := r.Next(); due(next, w.now) {
				w.effects(r, r.Tick(w.now))
			}
		}
		for _, g := range everyRegion {
			for _, s := range w.stays(g, true) {
				if s.Suspended && w.now.Sub(s.Since) >= 30*time.Second {
					w.end(g, s.User, uint64(s.Epoch), wire.Reason_TIMED_OUT)
					w.observer(string(s.Node)).over(s.User, uint64(s.Epoch))
				}
			}
			if w.now.Sub(w.checked) >= 5*time.Second {
				r := w.owners[g]
				w.effects(r, r.Reconcile(w.now, w.stays(g, false)))
			}
		}
		if w.now.Sub(w.checked) >= 5*time.Second {
			w.checked = w.now
		}
		w.doubts()
	}
}

// doubts checks that owners doubt a region exactly as long as they should.
func (w *world) doubts() {
	for _, r := range w.owners {
		for _, g := range r.regions[1:] {
			silent := w.now.Sub(g.since)
			switch {
			case !g.following():
				require.Zero(w.t, g.since)
			case w.cut[pair(string(r.own.id), string(g.id))]:
				require.NotZero(w.t, g.since, "%s can't hear %s", r.own.id, g.id)
			}
			require.Equal(w.t, !g.since.IsZero() && silent >= r.cfg.Unknown, g.told)
			require.Equal(w.t, !g.since.IsZero() && silent >= r.cfg.RegionLost, g.lost)
			if g.lost {
				require.False(w.t, slices.ContainsFunc(r.roll.sorted, func(m *member) bool { return m.region == g.id }))
			}
		}
	}
}

func (w *world) drain() {
	for ls := w.busy(); len(ls) > 0; ls = w.busy() {
		w.deliver(ls[w.rng.IntN(len(ls))])
	}
}

// ---------------------------------------------------------------- faults

func (w *world) breakLink(a, b string) {
	if w.cut[pair(a, b)] {
		return
	}
	w.stats["cuts"]++
	w.cut[pair(a, b)] = true
	for l := range w.links {
		if pair(place(l[0]), place(l[1])) == pair(a, b) {
			delete(w.links, l)
		}
	}
	for _, s := range [][2]string{{a, b}, {b, a}} {
		for _, r := range w.rooms() {
			switch {
			case string(r.own.id) != s[0]:
			case len(s[1]) > 1:
				w.effects(r, r.NodeLost(w.now, regions.NodeID(s[1])))
			default:
				w.effects(r, r.Cut(w.now, regions.RegionID(s[1])))
			}
		}
	}
}

func (w *world) mend(a, b string) {
	if !w.cut[pair(a, b)] {
		return
	}
	delete(w.cut, pair(a, b))
	for _, s := range [][2]string{{a, b}, {b, a}} {
		switch r := w.owners[regions.RegionID(s[0])]; {
		case r == nil || len(s[1]) > 1:
		case w.rng.IntN(4) == 0:
			w.effects(r, r.Refollow(w.now, regions.RegionID(s[1])))
		default:
			w.digest(r, regions.RegionID(s[1]))
		}
	}
	for _, o := range w.nodes {
		if string(o.id) == a || string(o.id) == b {
			o.attach()
		}
	}
}

func (w *world) pairs() [][2]string {
	ps := [][2]string{{"a", "b"}, {"a", "c"}, {"b", "c"}}
	for _, o := range w.nodes {
		ps = append(ps, pair(string(o.region), string(o.id)))
	}
	return ps
}

// fail gives a region a new owner. The old one may go on for a while.
func (w *world) fail(g regions.RegionID) {
	w.stats["fail-overs"]++
	old := w.owners[g]
	if w.rng.IntN(2) == 0 {
		w.former[name(g, old.own.epoch)] = old
	}
	r := New(w.cfg[g], "r", old.Epoch()+1, 0, w.now)
	w.owners[g] = r
	delete(w.staged, g)
	w.effects(r, r.Adopt(w.now, w.stays(g, true)))
}

// handOver does the first or the second half of a hand-over.
func (w *world) handOver(g regions.RegionID) {
	old := w.owners[g]
	if w.staged[g] == nil {
		w.staged[g] = copied(w.t, old.Export(nil))
		return
	}
	w.stats["hand-overs"]++
	tail := copied(w.t, old.Export(w.staged[g]))
	r, out, err := Import(w.cfg[g], w.staged[g], tail, old.Epoch()+1, w.stays(g, true), w.now)
	require.NoError(w.t, err)
	w.owners[g] = r
	delete(w.staged, g)
	w.effects(r, out)
}

// learn has a node's copy of the roster catch up with who owns the room.
func (w *world) learn(o *observer) {
	if e := w.owners[o.region].own.epoch; e > o.knows {
		o.knows = e
		o.attach()
	}
}

// hear has a region hear who owns the room in another.
func (w *world) hear(g, from regions.RegionID) {
	l := [2]regions.RegionID{g, from}
	if e := w.owners[from].own.epoch; g != from && e > w.heard[l] {
		w.heard[l] = e
		w.effects(w.owners[g], w.owners[g].Refollow(w.now, from))
	}
}

// crash restarts a node: its sessions are gone, its observer begins anew.
func (w *world) crash(o *observer) {
	w.stats["crashes"]++
	w.breakLink(string(o.id), string(o.region))
	for _, s := range w.stays(o.region, true) {
		if s.Node == o.id {
			w.suspend(o.region, s.User, uint64(s.Epoch))
		}
	}
	for _, d := range w.devices {
		if d.node == o {
			d.node = nil
		}
	}
	delete(w.cut, pair(string(o.id), string(o.region)))
	o.start()
}

// ---------------------------------------------------------------- life

// step does one random thing: without faults, only what may lose nothing.
func (w *world) step(faults bool) {
	ps := w.pairs()
	switch k := w.rng.IntN(100); {
	case k < 53:
		if ls := w.busy(); len(ls) > 0 {
			w.deliver(ls[w.rng.IntN(len(ls))])
		}
	case k < 68:
		w.pass(time.Duration(w.rng.IntN(20)) * 50 * time.Millisecond)
	case k < 71:
		w.learn(w.nodes[w.rng.IntN(len(w.nodes))])
		w.hear(everyRegion[w.rng.IntN(3)], everyRegion[w.rng.IntN(3)])
	case k < 74 && faults:
		p := ps[w.rng.IntN(len(ps))]
		w.breakLink(p[0], p[1])
	case k < 79:
		p := ps[w.rng.IntN(len(ps))]
		w.mend(p[0], p[1])
	case k < 84:
		w.messages++
		o := w.nodes[w.rng.IntN(len(w.nodes))]
		o.tell(&peer.Frame{Body: &peer.Frame_Publish{Publish: &peer.Publish{Message: &wire.Message{Number: w.messages}}}})
	case k < 87:
		w.nodes[w.rng.IntN(len(w.nodes))].post(fmt.Sprintf("p%d", w.rng.IntN(4)), w.rng.IntN(4) == 0)
	default:
		w.travel(w.devices[w.rng.IntN(len(w.devices))])
	}
	if w.rng.IntN(50) == 0 {
		w.handOver(everyRegion[w.rng.IntN(3)])
	}
	if !faults {
		return
	}
	if w.rng.IntN(500) == 0 {
		w.fail(everyRegion[w.rng.IntN(3)])
	}
	if w.rng.IntN(500) == 0 {
		w.crash(w.nodes[w.rng.IntN(len(w.nodes))])
	}
	if w.rng.IntN(20) == 0 {
		for _, n := range slices.Sorted(maps.Keys(w.former)) {
			delete(w.former, n) // it noticed
			break
		}
	}
}

func (w *world) travel(d *traveller) {
	switch k := w.rng.IntN(11); {
	case d.node == nil, k < 2: // (re)join somewhere; the old session is cut off
		if d.node != nil {
			d.node.suspend(d.user, d.epoch)
		}
		d.hidden = w.rng.IntN(5) == 0
		d.node = w.nodes[w.rng.IntN(len(w.nodes))]
		d.epoch, d.n = d.node.join(d.user, d.hidden), 0
	case k < 4: // a blip
		d.node.suspend(d.user, d.epoch)
		d.epoch, d.n = d.node.join(d.user, d.hidden), 0
	case k < 5:
		d.node.leave(d.user, d.epoch, wire.Reason_BYE)
		d.node = nil
	case k < 6:
		d.hidden = !d.hidden
		d.node.hide(d.user, d.epoch, d.hidden)
	default:
		d.n++
		d.node.report(d)
	}
}
