package call

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// world is several SFU nodes of one call, with links between them that are ordered
// each by itself, lose everything at once, and know nothing of each other; and beside
// it what is true.
type world struct {
	t      *testing.T
	rand   *rand.Rand
	now    time.Time
	nodes  map[regions.NodeID]*node
	sfu    map[regions.RegionID]*node // of the region
	links  map[[2]regions.NodeID][]*peer.CallFrame
	cut    map[regions.RegionID]bool // from all others
	place  regions.Epoch
	number uint32
	truth  map[Key]*person
	left   map[Key]regions.Epoch // the last session of who left for good
	words  []func()              // what nodes are yet to be told of sessions, in any order
	names  int
}

type node struct {
	*Machine
	id     regions.NodeID
	region regions.RegionID
	met    time.Time
	seen   map[Key]map[Key]bool // what each participant here was told: of whom
	told   map[Key]uint64       // version
}

type person struct {
	session media.Session
	region  regions.RegionID
	muted   bool
	tracks  []wire.CallSource
	p2p     bool
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_800_000_000, 0), nodes: map[regions.NodeID]*node{},
		sfu: map[regions.RegionID]*node{}, links: map[[2]regions.NodeID][]*peer.CallFrame{}, cut: map[regions.RegionID]bool{},
		truth: map[Key]*person{}, left: map[Key]regions.Epoch{},
	}
}

func (w *world) record() media.Record {
	return media.Record{Call: "c", Room: "group:g", Type: "video", StartedAt: time.Unix(1_800_000_000, 0), Version: 1}
}

// start makes another node the SFU of the region.
func (w *world) start(region regions.RegionID) *node {
	w.place++
	w.names++
	n := &node{id: regions.NodeID(fmt.Sprintf("%s-%d", region, w.names)), region: region, seen: map[Key]map[Key]bool{}, told: map[Key]uint64{}}
	n.Machine = New(w.now, Config{
		Self: n.id, Region: region, Place: w.place, Record: w.record(), Version: uint64(w.now.UnixMilli()), Max: 50, Silence: 30 * time.Second,
		Number: func() uint32 { w.number++; return w.number },
	})
	w.nodes[n.id], w.sfu[region] = n, n
	return n
}

// take carries out what a node wants done, and looks at what it tells.
func (w *world) take(n *node) {
	e := n.Take(w.now)
	for _, s := range e.Send {
		b, err := s.Frame.MarshalVT()
		require.NoError(w.t, err)
		f := new(peer.CallFrame)
		require.NoError(w.t, f.UnmarshalVT(b))
		link := [2]regions.NodeID{n.id, s.To}
		w.links[link] = append(w.links[link], f)
	}
	for _, k := range e.Gone {
		delete(n.seen, k)
		if p := w.truth[k]; p != nil {
			require.NotSame(w.t, w.sfu[p.region], n, "the connections of %v are closed, who is to go on with them", k)
		}
	}
	for _, t := range e.Tell {
		w.hear(n, keyOf(t.To.ID()), t.Event)
	}
}

// hear checks an event that a participant is told.
func (w *world) hear(n *node, who Key, e *wire.CallEvent) {
	seen, c := n.seen[who], e.GetChanged()
	if seen == nil || c == nil {
		return
	}
	require.Equal(w.t, n.told[who]+1, e.Version, "versions are dense")
	n.told[who] = e.Version
	for _, p := range c.Participants {
		seen[Key{p.User, p.Device}] = true
	}
	for _, g := range c.Gone {
		k := Key{g.User, g.Device}
		require.True(w.t, seen[k], "%v goes who was not there, at %s", k, n.id)
		require.GreaterOrEqual(w.t, uint64(w.left[k]), g.Epoch, "%v goes (%s) who has not left, at %s", k, g.Reason, n.id)
		delete(seen, k)
	}
}

// joined notes the answer to a join.
func (w *world) joined(n *node, k Key) {
	n.seen[k] = map[Key]bool{}
	s := n.State(k)
	n.told[k] = s.Version
	for _, p := range s.Participants {
		n.seen[k][Key{p.User, p.Device}] = true
	}
}

func (w *world) join(k Key, region regions.RegionID, epoch regions.Epoch) {
	n := w.sfu[region]
	if n == nil {
		n = w.start(region)
	}
	p := w.truth[k]
	if p == nil {
		p = &person{p2p: w.rand.IntN(2) == 0}
		w.truth[k] = p
	}
	before := p.region
	p.session = media.Session{User: k.User, Device: k.Device, Epoch: epoch, Name: "N"}
	if before != region {
		p.tracks = nil // its connections are new ones
	}
	p.region = region
	_, err := n.Join(w.now, p.session, &wire.CallJoin{MicMuted: p.muted, PeerToPeer: p.p2p, Fresh: before != region}, true)
	require.NoError(w.t, err)
	w.joined(n, k)
	w.connect(n, k)
	w.take(n)
}

// move has a session go to another node of its region. What that node and the one before
// tell the SFUs of it comes in any order.
func (w *world) move(k Key) {
	p := w.truth[k]
	before := p.session
	w.place++
	p.session.Epoch = w.place
	after, region := p.session, p.region
	for _, n := range w.sorted() {
		if n.region == region {
			w.words = append(w.words, func() {
				n.Leave(w.now, before.ID(), "moved")
				w.take(n)
			}, func() {
				if n.Resume(w.now, after) {
					w.joined(n, k)
				}
				w.take(n)
			})
		}
	}
	w.words = append(w.words, func() {
		if p := w.truth[k]; p != nil && p.session.ID() == after.ID() {
			n := w.sfu[region]
			_, err := n.Join(w.now, after, &wire.CallJoin{MicMuted: p.muted, PeerToPeer: p.p2p}, false)
			require.NoError(w.t, err)
			w.joined(n, k)
			w.take(n)
		}
	})
}

// say tells one of the words.
func (w *world) say() {
	if len(w.words) > 0 {
		i := w.rand.IntN(len(w.words))
		f := w.words[i]
		w.words = slices.Delete(w.words, i, i+1)
		f()
	}
}

// connect has media flow as the truth has it.
func (w *world) connect(n *node, k Key) {
	n.Connected(k, true)
	for _, s := range w.truth[k].tracks {
		n.Published(k, w.track(k, s))
	}
}

func (w *world) track(k Key, s wire.CallSource) media.Track {
	return media.Track{ID: media.TrackID("c", k.User, k.Device, s), Source: s, Video: s == wire.CallSource_CAMERA, Layers: 1, Codec: media.Codec{MIME: "x"}}
}

// leave is a leave, a timeout or a kick.
func (w *world) leave(k Key) {
	p := w.truth[k]
	delete(w.truth, k)
	w.left[k] = p.session.Epoch
	for _, n := range w.nodes {
		if n.region == p.region {
			n.Leave(w.now, p.session.ID(), "left")
			w.take(n)
		}
	}
}

// replace has another node become the SFU of a region. The former one drains, or is dead.
func (w *world) replace(region regions.RegionID, dead bool) {
	old := w.sfu[region]
	if old == nil {
		return
	}
	n := w.start(region)
	if dead {
		delete(w.nodes, old.id)
	} else {
		old.Supersede(w.now.Add(10 * time.Second))
		old.Meet(w.now, n.id, region)
		n.Meet(w.now, old.id, region)
		w.take(old)
	}
	for _, k := range sortedKeys(w.truth) {
		if p := w.truth[k]; p.region == region {
			_, err := n.Join(w.now, p.session, &wire.CallJoin{MicMuted: p.muted, PeerToPeer: p.p2p}, true)
			require.NoError(w.t, err)
			w.joined(n, k)
			if w.rand.IntN(3) > 0 {
				w.connect(n, k)
			}
		}
	}
	w.take(n)
}

func (w *world) reachable(a, b regions.NodeID) bool {
	x, y := w.nodes[a], w.nodes[b]
	return x != nil && y != nil && (x.region == y.region || !w.cut[x.region] && !w.cut[y.region])
}

// deliver brings the oldest frame of some link, or loses all of it.
func (w *world) deliver() bool {
	var full [][2]regions.NodeID
	for l, q := range w.links {
		if len(q) > 0 {
			full = append(full, l)
		}
	}
	if len(full) == 0 {
		return false
	}
	slices.SortFunc(full, func(a, b [2]regions.NodeID) int { return slices.Compare(a[:], b[:]) })
	l := full[w.rand.IntN(len(full))]
	f := w.links[l][0]
	w.links[l] = w.links[l][1:]
	if !w.reachable(l[0], l[1]) {
		w.links[l] = nil
		return true
	}
	to, from := w.nodes[l[1]], w.nodes[l[0]]
	switch b := f.Body.(type) {
	case *peer.CallFrame_Part:
		to.Part(w.now, from.id, from.region, b.Part)
	case *peer.CallFrame_Wanted:
		to.Wanted(w.now, from.id, b.Wanted)
	}
	w.take(to)
	return true
}

func (w *world) breakLink() {
	for _, l := range sortedLinks(w.links) {
		if w.rand.IntN(4) == 0 {
			w.links[l], w.links[[2]regions.NodeID{l[1], l[0]}] = nil, nil
			if w.rand.IntN(2) == 0 { // a loss of which they hear
				for i := range l {
					if n := w.nodes[l[i]]; n != nil {
						n.LinkReset(l[1-i])
						w.take(n)
					}
				}
			}
		}
	}
}

func sortedLinks(of map[[2]regions.NodeID][]*peer.CallFrame) (l [][2]regions.NodeID) {
	for k := range of {
		l = append(l, k)
	}
	slices.SortFunc(l, func(a, b [2]regions.NodeID) int { return slices.Compare(a[:], b[:]) })
	return l
}

func (w *world) sorted() (l []*node) {
	for _, n := range w.nodes {
		l = append(l, n)
	}
	slices.SortFunc(l, func(a, b *node) int { return slices.Compare([]byte(a.id), []byte(b.id)) })
	return l
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for _, n := range w.sorted() {
		n.Tick(w.now)
		if n.Len() > 0 && w.now.Sub(n.met) >= time.Second {
			n.met = w.now
			for region, other := range w.sfu {
				if region != n.region && other != nil && !n.Knows(w.now, region) && w.reachable(n.id, other.id) {
					n.Meet(w.now, other.id, other.region)
					other.Meet(w.now, n.id, n.region)
					w.take(other)
				}
			}
		}
		w.take(n)
		if n.Superseded() && n.Len() == 0 {
			for _, s := range n.Close() {
				link := [2]regions.NodeID{n.id, s.To}
				w.links[link] = append(w.links[link], s.Frame)
			}
			for w.linksOf(n) {
				w.deliver()
			}
			delete(w.nodes, n.id)
		}
	}
}

func (w *world) linksOf(n *node) bool {
	for l, q := range w.links {
		if l[0] == n.id && len(q) > 0 {
			return true
		}
	}
	return false
}

func (w *world) step() {
	keys := sortedKeys(w.truth)
	regionsOf := []regions.RegionID{"ap", "eu", "us"}
	region := regionsOf[w.rand.IntN(3)]
	switch x := w.rand.IntN(100); {
	case x < 12 && len(keys) < 9:
		k := Key{fmt.Sprint("u", w.rand.IntN(6)), fmt.Sprint("d", w.rand.IntN(2))}
		if w.truth[k] == nil {
			w.place++
			w.join(k, region, w.place)
		}
	case x < 18 && len(keys) > 0:
		w.leave(keys[w.rand.IntN(len(keys))])
	case x < 26 && len(keys) > 0: // reconnects, perhaps in another region
		k := keys[w.rand.IntN(len(keys))]
		if p := w.truth[k]; !w.cut[p.region] && !w.cut[region] {
			w.place++
			w.join(k, region, w.place)
		}
	case x < 34 && len(keys) > 0:
		k := keys[w.rand.IntN(len(keys))]
		p := w.truth[k]
		p.muted = !p.muted
		n := w.sfu[p.region]
		if n.In(p.session.ID()) == nil {
			require.NoError(w.t, n.Set(p.session.ID(), &wire.CallSet{MicMuted: &p.muted}))
			w.take(n)
		}
	case x < 44 && len(keys) > 0:
		k := keys[w.rand.IntN(len(keys))]
		p := w.truth[k]
		n := w.sfu[p.region]
		s := []wire.CallSource{wire.CallSource_MIC, wire.CallSource_CAMERA}[w.rand.IntN(2)]
		if i := slices.Index(p.tracks, s); i >= 0 {
			p.tracks = slices.Delete(slices.Clone(p.tracks), i, i+1)
			for _, n := range w.nodes { // at all that it is connected to
				n.Unpublished(k, w.track(k, s).ID)
				w.take(n)
			}
		} else {
			p.tracks = append(slices.Clone(p.tracks), s)
			w.connect(n, k)
			w.take(n)
		}
	case x < 48:
		w.breakLink()
	case x < 50:
		w.replace(region, false)
	case x < 52:
		w.replace(region, true)
	case x < 54:
		w.cut[region] = true
	case x < 60:
		clear(w.cut) // long before anybody is given up
	case x < 66 && len(keys) > 0:
		w.move(keys[w.rand.IntN(len(keys))])
	case x < 79:
		w.pass(100 * time.Millisecond)
	default:
		for range w.rand.IntN(8) {
			w.deliver()
			w.say()
		}
	}
}

// settle heals everything and waits.
func (w *world) settle() {
	clear(w.cut)
	for len(w.words) > 0 {
		w.say()
	}
	for _, k := range sortedKeys(w.truth) { // clients connect to the present SFU in the end
		n := w.sfu[w.truth[k].region]
		w.connect(n, k)
		w.take(n)
	}
	for _, n := range w.sorted() { // and regions end the sessions that are elsewhere now
		for _, who := range n.Locals() {
			k := keyOf(who.ID())
			if p := w.truth[k]; p == nil {
				n.Leave(w.now, who.ID(), "timed_out")
			} else if p.region != n.region {
				n.Leave(w.now, who.ID(), "moved")
			}
		}
		w.take(n)
	}
	for range 450 { // 45 s: longer than a dead node is waited for
		w.pass(100 * time.Millisecond)
		for w.deliver() {
		}
	}
}

func (w *world) check() {
	for _, n := range w.sorted() {
		if n.Len() == 0 {
			continue
		}
		require.False(w.t, n.Superseded(), "%s has somebody still", n.id)
		require.Len(w.t, n.view, len(w.truth), "at %s", n.id)
		for k, p := range w.truth {
			v := n.view[k]
			require.NotNil(w.t, v, "%v at %s", k, n.id)
			require.Equal(w.t, uint64(p.session.Epoch), v.Epoch)
			require.Equal(w.t, string(p.region), v.Region)
			require.Equal(w.t, p.muted, v.MicMuted)
			var ids []string
			for _, s := range p.tracks {
				ids = append(ids, w.track(k, s).ID)
			}
			slices.Sort(ids)
			var have []string
			for _, t := range v.Tracks {
				have = append(have, t.Id)
			}
			require.Equal(w.t, ids, have, "tracks of %v (of %s) at %s", k, p.region, n.id)
		}
		require.Equal(w.t, n.direct, w.anyNode().direct)
		// Every track of another region is asked for once, of the node that has it; and that
		// node has it flow.
		if n.direct {
			require.Empty(w.t, n.Remotes())
			continue
		}
		asked := map[string]int{}
		for _, r := range n.Remotes() {
			asked[r.Track.ID]++
			owner := w.sfu[w.truth[n.sources[r.Track.ID].of].region]
			require.Equal(w.t, owner.id, r.Node)
			taps := 0
			for _, tap := range owner.Taps() {
				if tap.Node == n.id && tap.Number == r.Number {
					taps++
				}
			}
			require.Equal(w.t, 1, taps)
		}
		for _, c := range asked {
			require.Equal(w.t, 1, c)
		}
		for k := range n.locals {
			want := 0
			for other, p := range w.truth {
				if other != k {
					want += len(p.tracks)
				}
			}
			require.Len(w.t, n.Subscriptions(k), want)
		}
	}
	for k, p := range w.truth {
		require.NoError(w.t, w.sfu[p.region].In(p.session.ID()), "%v", k)
	}
}

func (w *world) anyNode() *node {
	for _, n := range w.sorted() {
		if n.Len() > 0 {
			return n
		}
	}
	return nil
}

// MUSTER_PROVE_CALLS is how many worlds are played; make prove-calls says 20,000.
func proofs(t *testing.T, short int) int {
	if s := os.Getenv("MUSTER_PROVE_CALLS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		return n
	}
	return short
}

func TestNodesAgree(t *testing.T) {
	for seed := range uint64(proofs(t, 60)) {
		ok := t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for range 150 {
				w.step()
			}
			w.settle()
			w.check()
		})
		if !ok {
			return
		}
	}
}
