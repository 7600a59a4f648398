package hub

import (
	"maps"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// posts are those of a room that this node keeps, by user: it took them, and
// says them again to whoever owns the room next.
type posts map[string]*peer.Post

// postBytes is how many bytes of posts go in one frame, which may have a few
// times that.
const postBytes = 512 << 10

// repost says the room's posts to its owner, in Attaches without members, and
// reports whether there were any.
func (t *turn) repost() bool {
	kept := t.sl.posts[t.room]
	a, size := &peer.Attach{Room: t.room}, 0
	say := func() { t.toOwner(&peer.Frame{Body: &peer.Frame_Attach{Attach: a}}) }
	for _, p := range kept {
		a.Posts = append(a.Posts, p)
		if size += p.SizeVT(); size >= postBytes {
			say()
			a, size = &peer.Attach{Room: t.room}, 0
		}
	}
	if size > 0 {
		say()
	}
	return len(kept) > 0
}

// Post spreads and keeps a post. See edge.Hub.
func (h *Hub) Post(p *peer.Post) {
	t := h.begin(p.Room)
	kept := t.sl.posts[p.Room]
	if kept == nil {
		kept = posts{}
		t.sl.posts[p.Room] = kept
	}
	kept[p.Fix.User] = p
	if until := p.Until.AsTime(); t.sl.lapsing.IsZero() || until.Before(t.sl.lapsing) {
		t.sl.lapsing = until
	}
	t.toOwner(&peer.Frame{Body: &peer.Frame_Post{Post: p}})
	now := t.now
	t.end()
	if p.Fix.Fix.Point != nil {
		h.cfg.Activity.Touch(p.Room, now)
	}
}

// expirePosts forgets those that have lapsed.
func (sl *slot) expirePosts(now time.Time) {
	if sl.lapsing.IsZero() || now.Before(sl.lapsing) {
		return
	}
	sl.lapsing = time.Time{}
	for room, kept := range sl.posts {
		maps.DeleteFunc(kept, func(_ string, p *peer.Post) bool {
			until := p.Until.AsTime()
			if now.Before(until) && (sl.lapsing.IsZero() || until.Before(sl.lapsing)) {
				sl.lapsing = until
			}
			return !now.Before(until)
		})
		if len(kept) == 0 {
			delete(sl.posts, room)
		}
	}
}

// Cross has a crossing that is stored numbered and spread in its room, by the
// room's owner.
func (h *Hub) Cross(room string, c *wire.Crossing) {
	t := h.begin(room)
	defer t.end()
	t.toOwner(&peer.Frame{Body: &peer.Frame_Crossing{Crossing: &peer.Crossing{Room: room, Crossing: c}}})
}

// Fixes returns the last fixes in a room if this node owns the room (here), else
// who is to be asked ("": nobody owns it).
func (h *Hub) Fixes(room string) (list *peer.FixList, owner regions.NodeID, here bool) {
	t := h.begin(room)
	defer t.end()
	switch o := t.owned(); {
	case o != nil:
		list = &peer.FixList{}
		fixes, names, heard := o.Located(t.now)
		list.Fixes, list.Names = fixes, names
		for _, g := range heard {
			list.Regions = append(list.Regions, string(g))
		}
		return list, t.sl.owner, true
	case t.sl.owner != h.cfg.Self:
		return nil, t.sl.owner, false
	case t.sl.rooms[room] == nil && t.sl.over == nil && t.current():
		return &peer.FixList{Regions: []string{string(h.cfg.Region)}}, t.sl.owner, true
	default: // it is about to be another node's
		return nil, "", false
	}
}

// OwnerIn returns the owner of a room in another region, as far as it is known.
func (h *Hub) OwnerIn(region regions.RegionID, room string) regions.NodeID {
	owner, _ := h.cfg.Roster.SlotIn(region, regions.SlotOf(room))
	return owner
}
