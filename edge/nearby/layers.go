package nearby

import (
	"sync"
	"sync/atomic"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

// layers are what an owner has: people, who are always there, and each fleet of
// which it has subjects.
type layers struct {
	people layer
	fleets [shards]cells // of all of them
	most   int
	byNo   func(number uint32) *index.Entry

	mu      sync.RWMutex // guards the following, and their counts
	byFleet map[string]*layer
}

// layer is those who are shown together: people, or the subjects of one fleet.
// However many a fleet has, nobody waits for them who asks for others.
type layer struct {
	fleet string // "": people
	tree  *index.Tree
	cells *[shards]cells
	count int // of the points of a fleet
}

type cells struct {
	mu sync.Mutex // guards the following
	of map[cellKey]*cell
}

type cellKey struct {
	layer *layer
	cell  geo.Cell
}

func (l *layers) init(most int, entry func(uint32) *index.Entry) {
	l.byNo, l.most, l.byFleet = entry, most, map[string]*layer{}
	l.people = layer{tree: index.NewTree(entry), cells: new([shards]cells)}
	for i := range shards {
		l.people.cells[i].of, l.fleets[i].of = map[cellKey]*cell{}, map[cellKey]*cell{}
	}
}

// get returns the layer of a fleet ("": people); nil if nothing of it is here.
func (l *layers) get(fleet string) *layer {
	if fleet == "" {
		return &l.people
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.byFleet[fleet]
}

// enter returns the layer of a fleet, which has a point more from here on; nil if
// there are too many.
func (l *layers) enter(fleet string) *layer {
	if fleet == "" {
		return &l.people
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.byFleet[fleet]
	if in == nil {
		if len(l.byFleet) >= l.most {
			return nil
		}
		in = &layer{fleet: fleet, tree: index.NewTree(l.byNo), cells: &l.fleets}
		l.byFleet[fleet] = in
	}
	in.count++
	return in
}

// leave takes a point off a layer.
func (l *layers) leave(of *layer) {
	if of == &l.people {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if of.count--; of.count == 0 {
		delete(l.byFleet, of.fleet)
	}
}

func (l *layers) fleetCount() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.byFleet)
}

// at returns where a cell of the layer is.
func (l *layer) at(c geo.Cell) (*cells, cellKey) { return &l.cells[c.Hash()%shards], cellKey{l, c} }

// room takes one of so many places, of which fleets leave people a quarter.
func room(count *atomic.Int64, most int64, fleet string) bool {
	if fleet != "" {
		most -= most / 4
	}
	if count.Load() >= most {
		return false
	}
	count.Add(1)
	return true
}
