package fence

import (
	"cmp"
	"math"
	"slices"

	"github.com/mustermesh/muster/geo"
)

// box is a box in space, in Earth radii: unlike one of latitudes and longitudes
// it has no trouble with the poles and the antimeridian.
type box struct{ min, max geo.Vec }

func boxOf(v geo.Vec) box { return box{v, v} }

func (b box) join(c box) box {
	return box{
		geo.Vec{X: min(b.min.X, c.min.X), Y: min(b.min.Y, c.min.Y), Z: min(b.min.Z, c.min.Z)},
		geo.Vec{X: max(b.max.X, c.max.X), Y: max(b.max.Y, c.max.Y), Z: max(b.max.Z, c.max.Z)},
	}
}

func (b box) grow(by float64) box {
	return box{
		geo.Vec{X: b.min.X - by, Y: b.min.Y - by, Z: b.min.Z - by},
		geo.Vec{X: b.max.X + by, Y: b.max.Y + by, Z: b.max.Z + by},
	}
}

func (b *box) meets(c *box) bool {
	return b.min.X <= c.max.X && c.min.X <= b.max.X &&
		b.min.Y <= c.max.Y && c.min.Y <= b.max.Y &&
		b.min.Z <= c.max.Z && c.min.Z <= b.max.Z
}

// tree finds boxes that meet a box: a bounding volume hierarchy, the boxes split
// in the middle of the widest axis until few are left. It is built anew when
// fences change, which is rare.
type tree struct {
	nodes   []node
	entries []*entry
}

type node struct {
	box         box
	right       int32 // of a branch, whose left child is the next node
	first, last int32 // of a leaf
}

const leafSize = 4

func newTree(entries []*entry) tree {
	t := tree{entries: entries}
	if len(entries) > 0 {
		t.build(0, len(entries))
	}
	return t
}

func (t *tree) build(first, last int) {
	part := t.entries[first:last]
	b := part[0].box
	middles := boxOf(part[0].area.center)
	for _, e := range part[1:] {
		b, middles = b.join(e.box), middles.join(boxOf(e.area.center))
	}
	at := len(t.nodes)
	t.nodes = append(t.nodes, node{box: b, first: int32(first), last: int32(last)})
	if len(part) <= leafSize {
		return
	}
	x, y, z := middles.max.X-middles.min.X, middles.max.Y-middles.min.Y, middles.max.Z-middles.min.Z
	slices.SortFunc(part, func(e, f *entry) int {
		v, w := e.area.center, f.area.center
		switch {
		case x >= y && x >= z:
			return cmp.Or(cmp.Compare(v.X, w.X), cmp.Compare(e.seq, f.seq))
		case y >= z:
			return cmp.Or(cmp.Compare(v.Y, w.Y), cmp.Compare(e.seq, f.seq))
		default:
			return cmp.Or(cmp.Compare(v.Z, w.Z), cmp.Compare(e.seq, f.seq))
		}
	})
	middle := (first + last) / 2
	t.build(first, middle)
	t.nodes[at].right = int32(len(t.nodes))
	t.build(middle, last)
}

// search appends the fences whose boxes meet b.
func (t *tree) search(b box, dst []*entry) []*entry {
	if len(t.nodes) == 0 {
		return dst
	}
	var stack [64]int32 // deeper than half of 2^31 fences, split in two each time
	depth, at := 0, int32(0)
	for {
		n := &t.nodes[at]
		if n.box.meets(&b) {
			if n.right != 0 {
				stack[depth], depth = n.right, depth+1
				at++
				continue
			}
			for _, e := range t.entries[n.first:n.last] {
				if e.box.meets(&b) {
					dst = append(dst, e)
				}
			}
		}
		if depth == 0 {
			return dst
		}
		depth--
		at = stack[depth]
	}
}

// entry is a fence of an engine.
type entry struct {
	Fence
	area *area
	from int64
	box  box
	seq  uint64 // fences are gone through in the order in which they were added
}

func newEntry(f Fence, a *area, seq uint64) *entry {
	e := &entry{Fence: f, area: a, from: noTime, seq: seq}
	if !f.From.IsZero() {
		e.from = f.From.UnixMilli()
	}
	// Points within the radius are within its chord of the centre, up to rounding.
	e.box = boxOf(a.center).grow(2*math.Sin(min(a.radius/geo.Radius, math.Pi)/2) + 1e-9)
	return e
}
