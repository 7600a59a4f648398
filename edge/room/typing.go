package room

import (
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// typings is how many notes of who is typing a room passes on per second: in a
// crowd nobody could read them anyway.
const typings = 32

// typed counts them.
type typed struct {
	since time.Time
	n     int
}

// Typing passes on that somebody is typing: that of this region to all, that of
// another one to the nodes of this one. It has no number and nothing keeps it.
func (r *Room) Typing(now time.Time, from regions.RegionID, t *peer.Typing) []Effect {
	if now.Sub(r.typed.since) >= time.Second {
		r.typed = typed{since: now}
	}
	if r.typed.n++; r.typed.n > typings || t.GetTyping() == nil {
		r.Stats.Dropped++
		return r.take()
	}
	f := &peer.Frame{Body: &peer.Frame_Typing{Typing: t}}
	r.toNodes(f)
	if from == r.cfg.Region {
		r.toRegions(f)
	}
	return r.take()
}
