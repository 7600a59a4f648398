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
	rootRes   = 6
	baseCells = 122
	// pathBits are the digits of the resolutions below the root.
	pathBits = 3 * (geo.MaxResolution - rootRes)

	bucketMax = 96 // a bucket with more is divided
	bucketMin = 16 // a divided cell with fewer is made one bucket again
)

// Tree is what an Index is without its ids: for those who know their points by
// other means, and have an Entry in what they keep of each.
type Tree struct {
	base   [baseCells]atomic.Pointer[node]
	center *[baseCells]geo.Vec
	grow   sync.Mutex // held to link and unlink what is above roots, and roots
	len    atomic.Int64
	entry  func(number uint32) *Entry
}

// NewTree returns an empty tree of the entries that have these numbers. They must
// not be anywhere else as long as they are in it. entry is called all the time, and
// with locks held.
func NewTree(entry func(number uint32) *Entry) *Tree {
	x := new(Tree)
	x.init(entry)
	return x
}

func (x *Tree) init(entry func(uint32) *Entry) { x.center, x.entry = baseCenters(), entry }

// Entry is a point, 64 bytes. Whoever keeps it has a lock for it, held in Put and
// Take, which guards ID and root; its root's lock guards leaf and pos. The other
// fields are written with both held, and read with either.
type Entry struct {
	ID                uint64 // as hits have it; it is not changed in a tree
	p                 geo.Point
	captured, expires int64
	root              *root  // nil if the entry is in no tree
	leaf              *node  // its bucket
	pos               uint32 // where in it
	path              uint32 // the digits of its cell of resolution 15 below its root
}

// In reports whether an entry is in a tree.
func (e *Entry) In() bool { return e.root != nil }

// Point returns where it is.
func (e *Entry) Point() geo.Point { return e.p }

// Captured and Expires return what was given to Put.
func (e *Entry) Captured() int64 { return e.captured }

func (e *Entry) Expires() int64 { return e.expires }

func (e *Entry) hit(chord2 float64) Hit {
	return Hit{e.ID, e.p, geo.Chord2Distance(chord2), e.captured, e.expires}
}

// Place is a point with what is computed of it.
type Place struct {
	p    geo.Point
	v    geo.Vec
	cell geo.Cell
}

// Locate computes where a point is. The error says that it is none.
func Locate(p geo.Point) (Place, error) {
	if !p.Valid() {
		_, err := h3.CellOf(p, geo.MaxResolution)
		return Place{}, err
	}
	v := p.Vec()
	cell, err := h3.CellOfVec(v, p, geo.MaxResolution)
	return Place{p, v, cell}, err
}

// Cell returns the cell of resolution 15 that the place is in.
func (to *Place) Cell() geo.Cell { return to.cell }

// Put puts an entry into the tree, or moves it. set, if not nil, is called when
// queries don't see it: what it writes may be read with Options.See.
func (x *Tree) Put(e *Entry, number uint32, to *Place, captured, expires int64, set func()) {
	it := item{v: to.v, entry: number, expires: seconds(expires)}
	path, cell := pathOf(to.cell), to.cell.Parent(rootRes)
	old := e.root
	if old != nil && old.cell == cell {
		old.mu.Lock()
		if e.leaf.reaches(e.path, path) {
			e.leaf.items[e.pos], e.path = it, path
		} else {
			old.remove(x, e)
			old.insert(x, e, it, path)
		}
		e.p, e.captured, e.expires = to.p, captured, expires
		if set != nil {
			set()
		}
		old.mu.Unlock()
		return
	}
	r := x.lockRoots(cell, old)
	if old != nil {
		old.remove(x, e)
	} else {
		x.len.Add(1)
	}
	r.insert(x, e, it, path)
	e.p, e.captured, e.expires, e.root = to.p, captured, expires, r
	if set != nil {
		set()
	}
	r.mu.Unlock()
	if old != nil {
		empty := old.top.size() == 0
		old.mu.Unlock()
		if empty {
			x.prune(old)
		}
	}
}

// Extend is Put for an entry that stays where it is.
func (x *Tree) Extend(e *Entry, captured, expires int64, set func()) {
	e.root.mu.Lock()
	defer e.root.mu.Unlock()
	e.leaf.items[e.pos].expires = seconds(expires)
	e.captured, e.expires = captured, expires
	if set != nil {
		set()
	}
}

// Take takes an entry that is in the tree out of it.
func (x *Tree) Take(e *Entry) {
	r := e.root
	r.mu.Lock()
	r.remove(x, e)
	e.leaf = nil
	empty := r.top.size() == 0
	r.mu.Unlock()
	e.root = nil
	if empty {
		x.prune(r)
	}
	x.len.Add(-1)
}

// Len returns how many points there are, with those that have expired and were
// not taken away yet.
func (x *Tree) Len() int { return int(x.len.Load()) }

// item is a point as queries read it, 32 bytes: what decides whether it counts,
// so that the entry, which is somewhere else in memory, is read only if it does.
type item struct {
	v       geo.Vec
	entry   uint32 // by its number with the shard's
	expires uint32 // by seconds
}

// seconds returns the second in which a time is, Unix ms, but at least 1, and 0
// for 0. It is good until 2106; later ones are the last.
func seconds(ms int64) uint32 {
	if ms == 0 {
		return 0
	}
	return uint32(min(max(ms/1000, 1), math.MaxUint32))
}

func pathOf(cell geo.Cell) uint32 { return uint32(cell) & (1<<pathBits - 1) }

// below returns the number of the child that a path takes below a resolution.
func below(path uint32, res int8) int { return int(path >> (3 * (geo.MaxResolution - 1 - res)) & 7) }

// node is a cell in the tree. Above the roots, nodes don't change and kids do only
// with the index's grow held. From the root on, the root's lock guards all of it.
type node struct {
	kids  *kids  // nil in a bucket
	items []item // nil elsewhere
	root  *root  // set in the root's own node
	count int32  // the points below, in a divided cell
	res   int8
}

// kids are the children of a cell. Their centres stand together here, not in the
// nodes, since a query reads many that it leaves out. They are set with the first
// node, and never again.
type kids struct {
	node   [7]atomic.Pointer[node]
	center [7]geo.Vec
}

// root is a cell of resolution 6 that has points.
type root struct {
	mu   sync.RWMutex
	gone bool // unlinked: whoever came late has to look again
	cell geo.Cell
	top  node
}

func (k *kids) link(d int, cell geo.Cell, n *node) {
	if k.center[d] == (geo.Vec{}) {
		k.center[d] = center(cell)
	}
	k.node[d].Store(n)
}

func center(cell geo.Cell) geo.Vec {
	p, err := h3.Center(cell)
	if err != nil {
		panic(fmt.Sprintf("index: a cell of a valid point has no centre: %v", err))
	}
	return p.Vec()
}

// baseCenters are the centres of the base cells.
var baseCenters = sync.OnceValue(func() *[baseCells]geo.Vec {
	all := new([baseCells]geo.Vec)
	for base := range all {
		all[base] = center(geo.Cell(1<<59 | uint64(base)<<45 | (1<<45 - 1)))
	}
	return all
})

func (n *node) size() int { return len(n.items) + int(n.count) }

// lockRoots returns the root of a cell of resolution 6, made if it isn't there,
// locked together with another one that has points, or none.
func (x *Tree) lockRoots(cell geo.Cell, other *root) *root {
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
func (x *Tree) find(cell geo.Cell) *root {
	n := x.base[cell.BaseCell()].Load()
	for res := 1; n != nil && res <= rootRes; res++ {
		n = n.kids.node[cell.Digit(res)].Load()
	}
	if n == nil {
		return nil
	}
	return n.root
}

// link makes a root and what is missing above it.
func (x *Tree) link(cell geo.Cell) *root {
	x.grow.Lock()
	defer x.grow.Unlock()
	n := x.base[cell.BaseCell()].Load()
	if n == nil {
		n = &node{kids: new(kids)}
		x.base[cell.BaseCell()].Store(n)
	}
	for res := 1; res < rootRes; res++ {
		d := cell.Digit(res)
		kid := n.kids.node[d].Load()
		if kid == nil {
			kid = &node{kids: new(kids), res: int8(res)}
			n.kids.link(d, cell.Parent(res), kid)
		}
		n = kid
	}
	if n := n.kids.node[cell.Digit(rootRes)].Load(); n != nil {
		return n.root // somebody was quicker
	}
	r := &root{cell: cell}
	r.top = node{root: r, res: rootRes}
	n.kids.link(cell.Digit(rootRes), cell, &r.top)
	return r
}

// prune unlinks a root that is empty, and what is above it as long as nothing
// else is below that.
func (x *Tree) prune(r *root) {
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
		at = &n.kids.node[r.cell.Digit(res+1)]
		for d := range n.kids.node {
			if k := &n.kids.node[d]; k != at && k.Load() != nil {
				last = at
			}
		}
	}
	last.Store(nil)
}

// reaches reports whether a path leads to the same bucket as another one that
// leads to n.
func (n *node) reaches(mine, path uint32) bool {
	return (mine^path)>>(3*(geo.MaxResolution-n.res)) == 0
}

// insert puts a point into the bucket where it belongs.
func (r *root) insert(x *Tree, e *Entry, it item, path uint32) {
	e.path = path
	n := &r.top
	for n.kids != nil {
		n.count++
		n = r.kid(n, path)
	}
	for len(n.items) >= bucketMax && n.res < geo.MaxResolution {
		r.divide(x, n)
		n.count++
		n = r.kid(n, path)
	}
	n.push(e, it)
}

// kid returns the child of a divided cell that a path leads to.
func (r *root) kid(n *node, path uint32) *node {
	d := below(path, n.res)
	k := n.kids.node[d].Load()
	if k == nil {
		k = &node{res: n.res + 1}
		finest := r.cell&^(15<<52|1<<pathBits-1) | geo.MaxResolution<<52 | geo.Cell(path)
		n.kids.link(d, finest.Parent(int(k.res)), k)
	}
	return k
}

// push appends to a bucket. Buckets grow by half, not to twice their size, which
// is what most of their memory would be.
func (n *node) push(e *Entry, it item) {
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
func (r *root) divide(x *Tree, n *node) {
	items := n.items
	n.items, n.kids, n.count = nil, new(kids), int32(len(items))
	for _, it := range items {
		e := x.entry(it.entry)
		r.kid(n, e.path).push(e, it)
	}
}

// remove takes a point out of its bucket.
func (r *root) remove(x *Tree, e *Entry) {
	n, last := e.leaf, len(e.leaf.items)-1
	if int(e.pos) != last {
		n.items[e.pos] = n.items[last]
		x.entry(n.items[last].entry).pos = e.pos
	}
	n.items = n.items[:last]
	if cap(n.items) > 8 && last < cap(n.items)/3 {
		n.resize(last * 3 / 2)
	}
	for n = &r.top; n.kids != nil; n = n.kids.node[below(e.path, n.res)].Load() {
		if n.count--; n.count < bucketMin {
			kids := n.kids
			n.kids, n.count = nil, 0
			n.resize(bucketMin)
			n.gather(x, kids)
			return
		}
	}
}

// gather moves all points below to a bucket.
func (n *node) gather(x *Tree, from *kids) {
	for d := range from.node {
		k := from.node[d].Load()
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
