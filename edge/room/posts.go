package room

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// postsMost bounds the posts of a room; more users than that are not taken.
const postsMost = 16_384

// post is where somebody is of whom no session in the room says so. One that was
// withdrawn stays, without its point, until it would have lapsed: whoever hears
// of the older one later must not believe it.
type post struct {
	mover
	user   string
	region regions.RegionID
	node   regions.NodeID // that keeps it; "": of another region
	until  time.Time
	orphan bool // its node is lost, and it goes sooner
}

func (r *Room) findPost(user string) (int, bool) {
	return slices.BinarySearchFunc(r.posts, user, func(x *post, user string) int { return strings.Compare(x.user, user) })
}

// postOf returns a user's post, a new one if there is none; nil: there are too
// many.
func (r *Room) postOf(user string) *post {
	i, ok := r.findPost(user)
	if ok {
		return r.posts[i]
	}
	if len(r.posts) >= postsMost {
		return nil
	}
	x := &post{user: user}
	r.posts = slices.Insert(r.posts, i, x)
	return x
}

// Post takes a post from a node of this region, which keeps it until it lapses.
func (r *Room) Post(now time.Time, from regions.NodeID, p *peer.Post) []Effect {
	r.used = now
	if !r.post(now, from, p) {
		r.Stats.Dropped++
	}
	r.flushFixes(now)
	return r.take()
}

func (r *Room) post(now time.Time, from regions.NodeID, p *peer.Post) bool {
	f, until := p.GetFix(), p.GetUntil().AsTime()
	if !isPost(f) || !now.Before(until) {
		return false
	}
	x := r.postOf(f.User)
	switch {
	case x == nil:
		return false
	case x.remember(f):
		r.keep(x, r.own, from, until)
		r.took(now, &x.mover)
		return true
	case x.fix.Fix.N == f.Fix.N && x.region == r.own.id: // said again, to be sure
		r.keep(x, r.own, from, until)
		return true
	}
	return false
}

func isPost(f *wire.MemberFix) bool {
	return f.GetUser() != "" && f.GetDevice() == edge.PostDevice && f.GetEpoch() == 0 && f.GetFix() != nil
}

func (r *Room) keep(x *post, g *region, node regions.NodeID, until time.Time) {
	x.region, x.node, x.until, x.orphan = g.id, node, until, false
	r.lapses(until)
}

// lapses has Tick look when a post's time is over.
func (r *Room) lapses(until time.Time) {
	if r.lapsing.IsZero() || until.Before(r.lapsing) {
		r.lapsing = until
	}
}

func (r *Room) relayedPost(g *region, f *wire.MemberFix) {
	until := edge.Lapses(f.GetFix())
	if !isPost(f) || !r.used.Before(until) {
		return
	}
	if x := r.postOf(f.User); x != nil && x.remember(f) {
		x.clear()
		r.keep(x, g, "", until)
		r.observe(f, false)
	}
}

// orphan has the posts of a lost node go soon: nobody would say that they are
// withdrawn, since only the node knew what was granted. If it comes back it
// attaches, with its posts.
func (r *Room) orphan(now time.Time, node regions.NodeID) {
	for _, x := range r.posts {
		if x.node == node && !x.orphan && x.fix.Fix.Point != nil {
			x.orphan = true
			if soon := now.Add(r.cfg.Orphan); soon.Before(x.until) {
				x.until = soon
				r.lapses(soon)
			}
		}
	}
}

// lapse drops the posts whose time is over. If it is not over yet for those who
// show them, by the fix itself, they are withdrawn, once: until then the older one
// is remembered not to be believed.
func (r *Room) lapse(now time.Time) {
	if !due(r.lapsing, now) {
		return
	}
	for _, x := range r.posts {
		if left := edge.Lapses(x.fix.Fix); !now.Before(x.until) && now.Before(left) && x.fix.Fix.Point != nil {
			x.fix = Withdrawn(x.fix, now)
			x.until, x.orphan = left, false
			r.took(now, &x.mover)
		}
	}
	r.unpost(func(x *post) bool { return !now.Before(x.until) })
	r.lapsing = time.Time{}
	for _, x := range r.posts {
		r.lapses(x.until)
	}
}

// Withdrawn returns what has everybody forget a fix.
func Withdrawn(f *wire.MemberFix, now time.Time) *wire.MemberFix {
	return &wire.MemberFix{User: f.User, Device: f.Device, Epoch: f.Epoch, Fix: &wire.Fix{
		Captured: timestamppb.New(now.Truncate(time.Second)), N: f.Fix.N + 1,
	}}
}

func (r *Room) unpost(which func(*post) bool) {
	r.posts = slices.DeleteFunc(r.posts, func(x *post) bool {
		if !which(x) {
			return false
		}
		x.clear()
		return true
	})
}

func (x *post) export() *peer.HandOverPost {
	p := &peer.HandOverPost{Node: string(x.node), Post: &peer.Post{Fix: x.fix, Until: stamp(x.until)}, Unsettled: x.unsettled}
	if x.node == "" {
		p.Region = string(x.region)
	}
	return p
}

// importPosts goes on with a former owner's.
func (r *Room) importPosts(h *peer.HandOver) {
	for _, p := range h.Posts {
		f, until := p.GetPost().GetFix(), p.GetPost().GetUntil().AsTime()
		g := r.own
		if p.GetNode() == "" {
			g = r.region(regions.RegionID(p.GetRegion()))
		}
		if g == nil || !g.known || (g == r.own) != (p.GetNode() != "") || !isPost(f) || !r.used.Before(until) {
			continue
		}
		x := r.postOf(f.User)
		if x == nil || !x.remember(f) {
			continue
		}
		r.keep(x, g, regions.NodeID(p.Node), until)
		r.observe(f, g == r.own)
		if p.Unsettled && g == r.own {
			r.unsettle(r.used, &x.mover)
		}
	}
}

// Located returns the last fixes of all regions that this one hears, without those
// that lapsed or were withdrawn; names are those of their users, "" where the
// room knows none.
func (r *Room) Located(now time.Time) (fixes []*wire.MemberFix, names []string, heard []regions.RegionID) {
	r.used = now
	for _, g := range r.regions {
		if !g.known || g.told {
			continue
		}
		heard = append(heard, g.id)
		for _, f := range r.fixesOf(g) {
			if f.Fix.Point == nil {
				continue
			}
			name := ""
			if m := r.roll.index[key{f.User, f.Device}]; m != nil {
				name = m.name
			}
			fixes, names = append(fixes, f), append(names, name)
		}
	}
	return fixes, names, heard
}
