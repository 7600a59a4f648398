package index

import (
	"cmp"
	"math"
	"slices"
	"sync"

	"github.com/mustermesh/muster/geo"
)

// Hit is a point that a query found.
type Hit struct {
	ID       uint64
	Point    geo.Point // as it was given to Upsert
	Distance float64   // metres from the query's centre; 0 from InCells
	Captured int64     // Unix ms
	Expires  int64     // Unix ms; 0 is never
}

// Options of a query. The zero value wants everything.
type Options struct {
	// Now leaves out what has expired by then, Unix ms; 0 leaves nothing out.
	Now int64
	// Keep, if set, is asked for each point that would be returned. It must be
	// quick, and must not use the index: it runs under a lock.
	Keep func(id uint64) bool
	// Limit stops Within and InCells after so many, whichever they are.
	// 0 is no limit.
	Limit int
}

// wants reports whether a query with the options wants a point. It reads the
// entry only if it must.
func (x *Tree) wants(o *Options, it *item) bool {
	if o.Now != 0 && it.expires != 0 {
		switch now := seconds(o.Now); {
		case it.expires < now:
			return false
		case it.expires == now && x.entry(it.entry).expires <= o.Now:
			return false
		}
	}
	return o.Keep == nil || o.Keep(x.entry(it.entry).ID)
}

// Within appends the points that are at most radius metres from center to dst,
// in no particular order. A center that is not valid or a radius that is no
// number finds nothing.
func (x *Tree) Within(dst []Hit, center geo.Point, radius float64, opt Options) []Hit {
	if !center.Valid() || !(radius >= 0) {
		return dst
	}
	q := within{x: x, opt: opt, dst: dst, most: len(dst) + opt.Limit, v: center.Vec(), limit: geo.Chord2(radius)}
	q.reach = math.Sqrt(q.limit)
	if opt.Limit <= 0 {
		q.most = math.MaxInt
	}
	for b := range x.base {
		if n := x.base[b].Load(); n != nil && q.reaches(&x.center[b], 0) && !q.visit(n) {
			break
		}
	}
	return q.dst
}

type within struct {
	x     *Tree
	opt   Options
	dst   []Hit
	most  int
	v     geo.Vec
	limit float64 // the square of reach
	reach float64
}

// reaches reports whether a cell can have a point that is near enough.
func (q *within) reaches(center *geo.Vec, res int8) bool {
	far := q.reach + maxChord[res]
	return q.v.Chord2(*center) <= far*far
}

// visit adds what is below a node and reports whether to go on.
func (q *within) visit(n *node) bool {
	if n.root != nil {
		n.root.mu.RLock()
		defer n.root.mu.RUnlock()
	}
	if n.kids != nil {
		for d := range n.kids.node {
			if k := n.kids.node[d].Load(); k != nil && q.reaches(&n.kids.center[d], n.res+1) && !q.visit(k) {
				return false
			}
		}
		return true
	}
	for i := range n.items {
		it := &n.items[i]
		c := q.v.Chord2(it.v)
		if c > q.limit || !q.x.wants(&q.opt, it) {
			continue
		}
		if len(q.dst) >= q.most {
			return false
		}
		q.dst = append(q.dst, q.x.entry(it.entry).hit(c))
	}
	return true
}

// Nearest appends the k points nearest to center that are at most maxRadius
// metres away to dst, nearest first, those equally far by id. A center that is
// not valid or a radius that is no number finds nothing.
func (x *Tree) Nearest(dst []Hit, center geo.Point, k int, maxRadius float64, opt Options) []Hit {
	q := newNearest(x, center, k, maxRadius, opt)
	if q == nil {
		return dst
	}
	defer q.free()
	q.hits = dst
	q.visitBases()
	hits := q.hits[len(dst):]
	// Bring the hits into order, in place: what was at a position that is already
	// taken was swapped to where its own hit came from.
	for i := range q.best {
		at := int(q.best[i].read)
		for at < i {
			at = int(q.best[at].read)
		}
		hits[i], hits[at] = hits[at], hits[i]
		hits[i].Distance = geo.Chord2Distance(q.best[i].chord2)
	}
	return q.hits[:len(dst)+len(q.best)]
}

// Near is an entry that a query found.
type Near struct {
	Look     int // which call of look was for it
	Distance float64
}

// NearestFunc is Nearest for those who keep the entries: look is called with the
// numbers of those that are returned, and maybe of some more, with what Put's set
// writes guarded. ahead is called with the numbers for which look will be: who reads
// there, too, has all of them come from memory at the same time.
func (x *Tree) NearestFunc(dst []Near, center geo.Point, k int, maxRadius float64, opt Options, ahead, look func(number uint32)) []Near {
	q := newNearest(x, center, k, maxRadius, opt)
	if q == nil {
		return dst
	}
	defer q.free()
	q.ahead, q.look = ahead, look
	q.visitBases()
	for i := range q.best {
		dst = append(dst, Near{int(q.best[i].read), geo.Chord2Distance(q.best[i].chord2)})
	}
	return dst
}

func newNearest(x *Tree, center geo.Point, k int, maxRadius float64, opt Options) *nearest {
	if !center.Valid() || !(maxRadius >= 0) || k <= 0 {
		return nil
	}
	q := nearestPool.Get().(*nearest)
	*q = nearest{x: x, opt: opt, k: k, v: center.Vec(), limit: geo.Chord2(maxRadius), best: q.best[:0]}
	q.reach = math.Sqrt(q.limit)
	return q
}

func (q *nearest) free() {
	if cap(q.best) <= 16*few {
		*q = nearest{best: q.best[:0]}
		nearestPool.Put(q)
	}
}

// few is how many candidates most queries have at most.
const few = 64

var nearestPool = sync.Pool{New: func() any { return &nearest{best: make([]candidate, 0, few)} }}

type nearest struct {
	x   *Tree
	opt Options
	k   int
	v   geo.Vec
	// What is further than limit, the square of reach, doesn't count: at first
	// the greatest radius, and once there are k candidates the worst of them.
	limit, reach float64
	best         []candidate         // a heap with the worst first, when there are k
	ahead, look  func(number uint32) // nil: hits are made
	hits         []Hit
	reads        int32 // how many were looked at or made
	seen         int64 // of no meaning: makes entries be looked at
}

// candidate is a point that may be among the nearest. If they are few, its entry
// is read when all of its root was visited, and it still may.
type candidate struct {
	chord2 float64
	id     uint64 // if it was read
	entry  uint32
	read   int32 // which call of look that was, or -1
}

func (q *nearest) worse(a, b *candidate) bool {
	return a.chord2 > b.chord2 || a.chord2 == b.chord2 && q.id(a) > q.id(b)
}

func (q *nearest) id(c *candidate) uint64 {
	if c.read >= 0 {
		return c.id
	}
	return q.x.entry(c.entry).ID // in a root that is still locked
}

// visitBases visits the base cells, those with the nearest centres first.
func (q *nearest) visitBases() {
	var nodes [baseCells]*node
	var far [baseCells]float64
	n := 0
	reach := q.reach + maxChord[0]
	for b := range q.x.base {
		if k := q.x.base[b].Load(); k != nil {
			if c := q.v.Chord2(q.x.center[b]); c <= reach*reach {
				nodes[n], far[n] = k, c
				n++
			}
		}
	}
	q.visitAll(nodes[:n], far[:n], 0)
	if len(q.best) < q.k {
		q.heap()
	}
	for n := len(q.best) - 1; n > 0; n-- { // the worst goes to the end
		q.best[0], q.best[n] = q.best[n], q.best[0]
		q.sink(0, n)
	}
}

// visitAll visits nodes of one resolution, those with the nearest centres first,
// as long as they can hold something near enough.
func (q *nearest) visitAll(nodes []*node, far []float64, res int8) {
	for len(nodes) > 0 {
		first := 0
		for i := range far {
			if far[i] < far[first] {
				first = i
			}
		}
		if reach := q.reach + maxChord[res]; far[first] > reach*reach {
			return
		}
		q.visit(nodes[first])
		last := len(nodes) - 1
		nodes[first], far[first] = nodes[last], far[last]
		nodes, far = nodes[:last], far[:last]
	}
}

func (q *nearest) visit(n *node) {
	if n.root != nil {
		n.root.mu.RLock()
		defer q.leave(n.root)
	}
	if n.kids == nil {
		for i := range n.items {
			if c := q.v.Chord2(n.items[i].v); c <= q.limit {
				q.offer(c, &n.items[i])
			}
		}
		return
	}
	var nodes [7]*node
	var far [7]float64
	some := 0
	reach := q.reach + maxChord[n.res+1]
	for d := range n.kids.node {
		if k := n.kids.node[d].Load(); k != nil {
			if c := q.v.Chord2(n.kids.center[d]); c <= reach*reach {
				nodes[some], far[some] = k, c
				some++
			}
		}
	}
	q.visitAll(nodes[:some], far[:some], n.res+1)
}

// leave unlocks a root, after reading what it gave.
func (q *nearest) leave(r *root) {
	if q.k <= few {
		// Look at all of them first: then they come from memory at the same time, and
		// not one after the other.
		for i := range q.best {
			if c := &q.best[i]; c.read >= 0 {
				continue
			} else if q.ahead != nil {
				q.ahead(c.entry)
			} else {
				q.seen += q.x.entry(c.entry).captured
			}
		}
		for i := range q.best {
			if c := &q.best[i]; c.read < 0 {
				q.read(c)
			}
		}
	}
	r.mu.RUnlock()
}

func (q *nearest) read(c *candidate) {
	e := q.x.entry(c.entry)
	c.id, c.read = e.ID, q.reads
	q.reads++
	if q.look != nil {
		q.look(c.entry)
	} else {
		q.hits = append(q.hits, e.hit(0))
	}
}

// offer takes a point as a candidate if it is better than the worst.
func (q *nearest) offer(chord2 float64, it *item) {
	c := candidate{chord2, 0, it.entry, -1}
	full := len(q.best) == q.k
	if full && c.chord2 == q.limit && q.worse(&c, &q.best[0]) || !q.x.wants(&q.opt, it) {
		return
	}
	if q.k > few { // else it is cheaper to see first who remains
		q.read(&c)
	}
	if full {
		q.best[0] = c
		q.sink(0, q.k)
	} else {
		q.best = append(q.best, c)
		if len(q.best) < q.k {
			return
		}
		q.heap()
	}
	q.limit = q.best[0].chord2
	q.reach = math.Sqrt(q.limit)
}

func (q *nearest) heap() {
	for i := len(q.best)/2 - 1; i >= 0; i-- {
		q.sink(i, len(q.best))
	}
}

// sink brings the i-th of the first n to its place in the heap.
func (q *nearest) sink(i, n int) {
	for {
		worst := i
		for k := 2*i + 1; k <= 2*i+2 && k < n; k++ {
			if a, b := &q.best[k], &q.best[worst]; a.chord2 > b.chord2 || a.chord2 == b.chord2 && q.worse(a, b) {
				worst = k
			}
		}
		if worst == i {
			return
		}
		q.best[i], q.best[worst] = q.best[worst], q.best[i]
		i = worst
	}
}

// InCells appends the points in any of the cells to dst, in no particular order
// and each once. Cells may be of different resolutions.
func (x *Tree) InCells(dst []Hit, cells []geo.Cell, opt Options) []Hit {
	q := inCells{x: x, opt: opt, dst: dst, most: len(dst) + opt.Limit}
	if opt.Limit <= 0 {
		q.most = math.MaxInt
	}
	var few [64]geo.Cell
	var last geo.Cell
	for _, cell := range sorted(append(few[:0], cells...)) {
		if last != 0 && last.Contains(cell) {
			continue
		}
		if last = cell; !q.cell(cell) {
			break
		}
	}
	return q.dst
}

// sorted sorts cells, those that are valid, so that each comes right before what
// is in it: by their digits, with 0 for those that a cell doesn't reach.
func sorted(cells []geo.Cell) []geo.Cell {
	cells = slices.DeleteFunc(cells, func(c geo.Cell) bool { return !c.Valid() })
	slices.SortFunc(cells, func(a, b geo.Cell) int {
		return cmp.Or(cmp.Compare(first(a), first(b)), cmp.Compare(a.Resolution(), b.Resolution()))
	})
	return cells
}

func first(c geo.Cell) uint64 {
	return uint64(c) & (1<<52 - 1) &^ (1<<(3*(geo.MaxResolution-c.Resolution())) - 1)
}

type inCells struct {
	x    *Tree
	opt  Options
	dst  []Hit
	most int
}

// cell adds what is in a cell and reports whether to go on.
func (q *inCells) cell(cell geo.Cell) bool {
	n := q.x.base[cell.BaseCell()].Load()
	for res := 1; n != nil && res <= min(cell.Resolution(), rootRes); res++ {
		n = n.kids.node[cell.Digit(res)].Load()
	}
	if n == nil {
		return true
	}
	if n.root == nil {
		return q.visit(n)
	}
	n.root.mu.RLock()
	defer n.root.mu.RUnlock()
	path := pathOf(cell)
	for n.kids != nil && int(n.res) < cell.Resolution() {
		if n = n.kids.node[below(path, n.res)].Load(); n == nil {
			return true
		}
	}
	return q.below(n, path, 3*(geo.MaxResolution-cell.Resolution()))
}

// visit adds all that is below a node.
func (q *inCells) visit(n *node) bool {
	if n.root != nil {
		n.root.mu.RLock()
		defer n.root.mu.RUnlock()
		return q.below(n, 0, pathBits)
	}
	for d := range n.kids.node {
		if k := n.kids.node[d].Load(); k != nil && !q.visit(k) {
			return false
		}
	}
	return true
}

// below adds what is below a node whose root is locked, and has the given path
// but for its lowest bits.
func (q *inCells) below(n *node, path uint32, free int) bool {
	if n.kids != nil {
		for d := range n.kids.node {
			if k := n.kids.node[d].Load(); k != nil && !q.below(k, path, free) {
				return false
			}
		}
		return true
	}
	for i := range n.items {
		e := q.x.entry(n.items[i].entry)
		if (e.path^path)>>free != 0 || !q.x.wants(&q.opt, &n.items[i]) {
			continue
		}
		if len(q.dst) >= q.most {
			return false
		}
		q.dst = append(q.dst, e.hit(0))
	}
	return true
}

// Occupied appends the cells of resolution 6 that hold points to dst.
func (x *Tree) Occupied(dst []geo.Cell) []geo.Cell {
	for b := range x.base {
		if n := x.base[b].Load(); n != nil {
			dst = n.occupied(dst)
		}
	}
	return dst
}

func (n *node) occupied(dst []geo.Cell) []geo.Cell {
	if n.root != nil {
		return append(dst, n.root.cell)
	}
	for d := range n.kids.node {
		if k := n.kids.node[d].Load(); k != nil {
			dst = k.occupied(dst)
		}
	}
	return dst
}
