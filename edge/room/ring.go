package room

import "github.com/mustermesh/muster/api/peer"

// ring holds a region's latest events, without holes, as the frames that were
// sent: giving them again costs nothing. It is bounded by count and by bytes.
type ring struct {
	frames []*peer.Frame // frames[head:] and then frames[:head], once it is full
	head   int           // the oldest
	bytes  int
}

func (g *ring) push(f *peer.Frame, cfg *Config) {
	g.bytes += size(f)
	for len(g.frames) > 0 && (len(g.frames) >= cfg.RingEvents || g.bytes > cfg.RingBytes) {
		if len(g.frames) == cfg.RingEvents && g.bytes-size(g.frames[g.head]) <= cfg.RingBytes {
			g.bytes -= size(g.frames[g.head])
			g.frames[g.head] = f
			g.head = (g.head + 1) % len(g.frames)
			return
		}
		g.dropOldest()
	}
	g.straighten()
	g.frames = append(g.frames, f)
}

func (g *ring) dropOldest() {
	g.straighten()
	g.bytes -= size(g.frames[0])
	g.frames[0] = nil
	g.frames = g.frames[1:]
}

// straighten moves the oldest frame to the front.
func (g *ring) straighten() {
	if g.head != 0 {
		g.frames = append(append(make([]*peer.Frame, 0, cap(g.frames)), g.frames[g.head:]...), g.frames[:g.head]...)
		g.head = 0
	}
}

// last returns the n newest frames, oldest first; n is at most len(frames).
func (g *ring) last(n int, each func(*peer.Frame)) {
	size := len(g.frames)
	for i := size - n; i < size; i++ {
		each(g.frames[(g.head+i)%size])
	}
}

// within returns how many of the n newest frames fit into so many bytes.
func (g *ring) within(n, most int) int {
	for i := range n {
		if most -= size(g.newest(i + 1)); most < 0 {
			return i
		}
	}
	return n
}

// newest returns the n-th newest frame, from 1.
func (g *ring) newest(n int) *peer.Frame {
	return g.frames[(g.head+len(g.frames)-n)%len(g.frames)]
}

func (g *ring) reset() { *g = ring{} }

func size(f *peer.Frame) int { return len(f.GetEvent().GetFrame()) }
