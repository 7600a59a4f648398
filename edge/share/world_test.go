package share

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// world is a Sharer's surroundings: rooms that keep fixes as rooms do, a map,
// and what users chose.
type world struct {
	edge.Hub
	mu       sync.Mutex
	rooms    map[string]map[key]*wire.MemberFix
	in       map[edge.Client][]string
	clients  map[string][]edge.Client
	near     map[string]grant.View
	told     []string
	kept     map[string]int
	grants   map[string][]grant.Grant
	zones    map[string][]grant.Zone
	ghosts   map[string]bool
	versions map[string]uint64
	tracks   map[string]bool
	tookBack map[string]time.Time
	hidden   map[string]bool
	out      map[string]bool // "user room": no member
	memories map[string]memory
	lossy    bool // memories are taken and come to nothing
	down     bool // the database is
	asked    int  // reads
	sent     int  // frames to rooms
	puts     int  // on the map
}

// memory is a stored one.
type memory struct {
	sealed  []byte
	version uint64
}

type key struct{ user, device string }

func newWorld() *world {
	return &world{
		rooms: map[string]map[key]*wire.MemberFix{}, in: map[edge.Client][]string{}, clients: map[string][]edge.Client{},
		near: map[string]grant.View{}, kept: map[string]int{}, grants: map[string][]grant.Grant{}, zones: map[string][]grant.Zone{},
		ghosts: map[string]bool{}, versions: map[string]uint64{}, tracks: map[string]bool{}, tookBack: map[string]time.Time{}, hidden: map[string]bool{}, out: map[string]bool{}, memories: map[string]memory{},
	}
}

func (w *world) config() Config {
	return Config{
		Hub: w, Sharing: w, Members: w, Settings: w, Map: people{w: w}, Receipts: w, Secret: []byte("s"),
		Clients: func(user string) []edge.Client {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.clients[user]
		},
	}
}

// client is a session.
type client struct {
	edge.Client
	member *peer.Member
}

func (c *client) Member() *peer.Member { return c.member }

func (w *world) session(user, device string, epoch uint64, rooms ...string) *client {
	c := &client{member: &peer.Member{User: user, Name: user, Device: &wire.Device{Device: device, Epoch: epoch}}}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in[c] = rooms
	var now []edge.Client
	for _, old := range w.clients[user] {
		if old.Member().Device.Device == device { // its place is taken
			delete(w.in, old)
		} else {
			now = append(now, old)
		}
	}
	w.clients[user] = append(now, c)
	return c
}

func (w *world) put(room string, f *wire.MemberFix) {
	w.sent++
	if w.rooms[room] == nil {
		w.rooms[room] = map[key]*wire.MemberFix{}
	}
	k := key{f.User, f.Device}
	if old := w.rooms[room][k]; old == nil || f.Epoch > old.Epoch || f.Epoch == old.Epoch && f.Fix.N > old.Fix.N {
		w.rooms[room][k] = f
	}
}

// sees is what members of a room see of a user: the newest capture, unless it
// has lapsed.
func (w *world) sees(room, user string) *wire.Fix {
	w.mu.Lock()
	defer w.mu.Unlock()
	var best *wire.Fix
	for k, f := range w.rooms[room] {
		if k.user != user || f.Fix.Point == nil || !time.Now().Before(edge.Lapses(f.Fix)) {
			continue
		}
		if best == nil || f.Fix.Captured.AsTime().After(best.Captured.AsTime()) {
			best = f.Fix
		}
	}
	return best
}

func (w *world) Report(c edge.Client, f *wire.Fix, rooms []string) (missing []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := c.Member()
	for _, room := range rooms {
		found := false
		for _, in := range w.in[c] {
			found = found || in == room
		}
		if !found {
			missing = append(missing, room)
			continue
		}
		w.put(room, &wire.MemberFix{User: m.User, Device: m.Device.Device, Epoch: m.Device.Epoch, Fix: f})
	}
	return missing
}

func (w *world) Post(p *peer.Post) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.put(p.Room, p.Fix)
}

func (w *world) Rooms(c edge.Client) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.in[c]
}

func (w *world) Sharing(_ context.Context, user string, min uint64) (edge.Choices, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.down || w.versions[user] < min {
		return edge.Choices{}, errors.New("the database burns")
	}
	set, err := grant.NewSet(w.grants[user], w.zones[user], w.ghosts[user])
	return edge.Choices{Set: set, Version: w.versions[user], Track: w.tracks[user], Withdrawn: w.tookBack[user], Memory: w.memories[user].sealed, Memories: w.memories[user].version}, err
}

func (w *world) Remember(user string, sealed []byte, version uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.lossy && w.memories[user].version == version {
		w.memories[user] = memory{sealed, version + 1}
	}
}

func (w *world) Keep(user string, raw grant.Raw) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept[user]++
}

func (w *world) Member(_ context.Context, user, room string, _ uint64) (edge.Membership, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out[user+" "+room] {
		return edge.Membership{}, errs.New(errs.Forbidden, edge.CodeNotMember, "no member")
	}
	return edge.Membership{}, nil
}

func (w *world) Membership(edge.Client, string) (edge.Membership, bool) {
	return edge.Membership{}, false
}

func (w *world) Invisible(_ context.Context, user string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hidden[user], nil
}

func (w *world) Seen(string, time.Time) {}

func (w *world) notes() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

func (w *world) note(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, s)
}

func (w *world) Told(room, subject string, p grant.Precision, from, until time.Time) {
	w.note(room + " " + subject + " " + p.String())
}
func (w *world) Saw(string, string, time.Time, time.Time)                {}
func (w *world) Read(string, string, string, grant.Precision, time.Time) {}

// people is the map.
type people struct {
	edge.Map
	w *world
}

func (p people) Put(user, _ string, v grant.View, _ time.Time) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.near[user] = v
	p.w.puts++
}

func (p people) Gone(user string) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	delete(p.w.near, user)
}

func at(lat, lng float64, captured time.Time) grant.Raw {
	raw, err := grant.NewRaw(geo.Point{Lat: lat, Lng: lng}, 5, grant.Read(1), grant.Reading{}, grant.Reading{}, captured)
	if err != nil {
		panic(err)
	}
	return raw
}
