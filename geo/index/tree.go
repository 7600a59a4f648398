package index

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

const (
	// rootRes is the resolution of roots. It is also that by which a region's map
	// is spread over its nodes. A cell has 36 km².
	rootRes = 6
	// pathBits are the digits of the resolutions below the root.
	pathBits = 3 * (geo.MaxResolution - rootRes)

	bucketMax = 48 // a bucket with more is divided
	bucketMin = 16 // a divided cell with fewer is made one bucket again
)

// item is a point as queries read it.
type item struct {
	v     geo.Vec
	path  uint32 // the digits of its cell of resolution 15 below its root
	entry uint32 // by its number with the shard's
}

func pathOf(cell geo.Cell) uint32 { return uint32(cell) & (1<<pathBits - 1) }

// below returns the number of the child that a path takes below a resolution.
func below(path uint32, res int) int { return int(path >> (3 * (geo.MaxResolution - 1 - res)) & 7) }

// node is a cell in the tree. Above the roots the fields don't change, and kids
// do only with the index's grow held. From the root on, the root's lock guards
// all of it.
type node struct {
	center geo.Vec
	kids   *[7]atomic.Pointer[node] // nil in a bucket
	items  []item                   // nil elsewhere
	root   *root                    // set in the root's own node
	count  int32                    // the points below, in a divided cell
	res    int8
}

// root is a cell of resolution 6 that has points.
type root struct {
	mu   sync.RWMutex
	gone bool // unlinked: whoever came late has to look again
	cell geo.Cell
	top  node
}

func newNode(cell geo.Cell) node {
	center, err := h3.Center(cell)
	if err != nil {
		panic(fmt.Sprintf("index: a cell of a valid point has no centre: %v", err))
	}
	return node{center: center.Vec(), res: int8(cell.Resolution())}
}

func (n *node) size() int { return len(n.items) + int(n.count) }

// lockRoots returns the root of a cell of resolution 6, made if it isn't there,
// locked together with another one that has points, or none.
func (x *Index) lockRoots(cell geo.Cell, other *root) *root {
	for r := x.find(cell); ; r = nil {
		if r == nil {
			r = x.link(cell)
		}
		if other != nil && other.cell < cell {
			other.mu.Lock()
		}
		r.mu.Lock()
		if other != nil && other.cell > cell {
			other.mu.Lock()
		}
		if !r.gone {
			return r
		}
		r.mu.Unlock()
		if other != nil {
			other.mu.Unlock()
		}
	}
}

// find returns a root, or nil.
func (x *Index) find(cell geo.Cell) *root {
	n := x.base[cell.BaseCell()].Load()
	for res := 1; n != nil && res <= rootRes; res++ {
		n = n.kids[cell.Digit(res)].Load()
	}
	if n == nil {
		return nil
	}
	return n.root
}

// link makes a root and what is missing above it.
func (x *Index) link(cell geo.Cell) *root {
	x.grow.Lock()
	defer x.grow.Unlock()
	at := &x.base[cell.BaseCell()]
	for res := range rootRes {
		n := at.Load()
		if n == nil {
			made := newNode(cell.Parent(res))
			n = &made
			n.kids = new([7]atomic.Pointer[node])
			at.Store(n)
		}
		at = &n.kids[cell.Digit(res+1)]
	}
	if n := at.Load(); n != nil {
		return n.root // somebody was quicker
	}
	r := &root{cell: cell, top: newNode(cell)}
	r.top.root = r
	at.Store(&r.top)
	return r
}

// prune unlinks a root that is empty, and what is above it as long as nothing
// else is below that.
func (x *Index) prune(r *root) {
	x.grow.Lock()
	defer x.grow.Unlock()
	r.mu.Lock()
	if r.gone || r.top.size() > 0 {
		r.mu.Unlock()
		return
	}
	r.gone = true
	r.mu.Unlock()
	at := &x.base[r.cell.BaseCell()]
	last := at // the highest link below which there is nothing else
	for res := range rootRes {
		n := at.Load()
		at = &n.kids[r.cell.Digit(res+1)]
		for d := range n.kids {
			if k := &n.kids[d]; k != at && k.Load() != nil {
				last = at
			}
		}
	}
	last.Store(nil)
}

// moveWithinBucket puts a point elsewhere in the bucket that it is in, and
// reports whether it belongs there.
func (r *root) moveWithinBucket(e *entry, to item) bool {
	n := e.leaf
	it := &n.items[e.pos]
	if (it.path^to.path)>>(3*(geo.MaxResolution-int(n.res))) != 0 {
		return false
	}
	*it = to
	return true
}

// insert puts a point into the bucket where it belongs.
func (r *root) insert(x *Index, e *entry, it item) {
	n := &r.top
	for n.kids != nil {
		n.count++
		n = r.kid(n, it.path)
	}
	for len(n.items) >= bucketMax && n.res < geo.MaxResolution {
		r.divide(x, n)
		n.count++
		n = r.kid(n, it.path)
	}
	n.push(e, it)
}

// kid returns the child of a divided cell that a path leads to.
func (r *root) kid(n *node, path uint32) *node {
	at := &n.kids[below(path, int(n.res))]
	k := at.Load()
	if k == nil {
		full := r.cell&^(1<<pathBits-1) | geo.Cell(path)
		full = full&^(15<<52) | geo.MaxResolution<<52
		made := newNode(full.Parent(int(n.res) + 1))
		k = &made
		at.Store(k)
	}
	return k
}

// push appends to a bucket. Buckets grow by half, not to twice their size, which
// is what most of their memory would be.
func (n *node) push(e *entry, it item) {
	if len(n.items) == cap(n.items) {
		n.resize(max(2, len(n.items)*3/2))
	}
	e.leaf, e.pos = n, uint32(len(n.items))
	n.items = append(n.items, it)
}

func (n *node) resize(capacity int) {
	n.items = append(make([]item, 0, capacity), n.items...)
}

// divide makes a bucket's points those of its children.
func (r *root) divide(x *Index, n *node) {
	items := n.items
	n.items, n.kids, n.count = nil, new([7]atomic.Pointer[node]), int32(len(items))
	for _, it := range items {
		r.kid(n, it.path).push(x.entry(it.entry), it)
	}
}

// remove takes a point out of its bucket.
func (r *root) remove(x *Index, e *entry) {
	n, last := e.leaf, len(e.leaf.items)-1
	path := n.items[e.pos].path
	if int(e.pos) != last {
		n.items[e.pos] = n.items[last]
		x.entry(n.items[last].entry).pos = e.pos
	}
	n.items = n.items[:last]
	if cap(n.items) > 8 && last < cap(n.items)/4 {
		n.resize(last * 2)
	}
	for n = &r.top; n.kids != nil; n = n.kids[below(path, int(n.res))].Load() {
		if n.count--; n.count < bucketMin {
			r.unite(x, n)
			return
		}
	}
}

// unite makes a divided cell one bucket.
func (r *root) unite(x *Index, n *node) {
	kids := n.kids
	n.kids, n.count = nil, 0
	n.resize(bucketMin)
	n.gather(x, kids)
}

func (n *node) gather(x *Index, kids *[7]atomic.Pointer[node]) {
	for d := range kids {
		k := kids[d].Load()
		if k == nil {
			continue
		}
		for _, it := range k.items {
			n.push(x.entry(it.entry), it)
		}
		if k.kids != nil {
			n.gather(x, k.kids)
		}
	}
}

// maxChord is the chord of geo.MaxRadius: how far a point of a cell is from its
// centre at most.
var maxChord = func() (chord [geo.MaxResolution + 1]float64) {
	for res := range chord {
		chord[res] = math.Sqrt(geo.Chord2(geo.MaxRadius(res)))
	}
	return chord
}()
