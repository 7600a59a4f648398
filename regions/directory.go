package regions

import (
	"slices"
	"sync"
	"sync/atomic"
)

// maxMet bounds the nodes of a region that are known by their word alone.
const maxMet = 1024

// Directory is the present topology. The file says which regions there are, and
// is replaced as a whole while the process runs; nodes of these regions that it
// doesn't name are learned when they are met, or when their region names them.
// So a region can get nodes without a word to the others.
//
// A Directory is safe for concurrent use. What it returns is not to be changed.
type Directory struct {
	now atomic.Pointer[present]

	mu      sync.Mutex // guards the following, and who replaces now
	file    *Topology
	learned map[RegionID][]Node
	changed chan struct{} // closed and replaced with now
}

// present is a topology with its index.
type present struct {
	topology *Topology
	nodes    map[NodeID]place
	regions  map[RegionID]int // in topology.Regions
}

type place struct {
	Node
	region RegionID
}

// NewDirectory begins with a valid topology.
func NewDirectory(t *Topology) *Directory {
	d := &Directory{file: t, learned: map[RegionID][]Node{}, changed: make(chan struct{})}
	d.now.Store(index(t))
	return d
}

func index(t *Topology) *present {
	p := &present{topology: t, nodes: map[NodeID]place{}, regions: map[RegionID]int{}}
	for i, r := range t.Regions {
		p.regions[r.Name] = i
		for _, n := range r.Nodes {
			p.nodes[n.ID] = place{n, r.Name}
		}
	}
	return p
}

// Topology returns the present topology: the file's regions, with all nodes
// that are known of them, those of the file first.
func (d *Directory) Topology() *Topology { return d.now.Load().topology }

// Watch is Topology, with a channel that is closed when there is another one.
func (d *Directory) Watch() (*Topology, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Topology(), d.changed
}

// Node returns a node by id, and its region.
func (d *Directory) Node(id NodeID) (Node, RegionID, bool) {
	p, ok := d.now.Load().nodes[id]
	return p.Node, p.region, ok
}

// Region returns a region by name.
func (d *Directory) Region(name RegionID) (Region, bool) {
	now := d.now.Load()
	if i, ok := now.regions[name]; ok {
		return now.topology.Regions[i], true
	}
	return Region{}, false
}

// Replace makes t, which is valid, the present topology; what was learned of
// its regions stays.
func (d *Directory) Replace(t *Topology) error {
	if err := t.Validate(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.file = t
	for region := range d.learned {
		if _, ok := t.Region(region); !ok {
			delete(d.learned, region)
		}
	}
	d.put()
	return nil
}

// Met notes a node that a link was made with, and where it says that it is
// reached. Who is no node of a region of the file is not noted.
func (d *Directory) Met(region RegionID, n Node) {
	if has, in, _ := d.Node(n.ID); in == region && has == n || n.check() != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	met := slices.Clone(d.learned[region])
	if i := slices.IndexFunc(met, func(o Node) bool { return o.ID == n.ID }); i >= 0 {
		met[i] = n // it may have moved
	} else if len(met) < maxMet {
		met = append(met, n)
	}
	d.learn(region, met)
}

// Heard notes the nodes of a region, as its leader names them. Of those that
// the file has, the file's word counts.
func (d *Directory) Heard(region RegionID, nodes []Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(nodes) <= maxMet {
		d.learn(region, nodes)
	}
}

func (d *Directory) learn(region RegionID, nodes []Node) {
	file, ok := d.file.Region(region)
	if !ok {
		return
	}
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool {
		return slices.ContainsFunc(file.Nodes, func(f Node) bool { return f.ID == n.ID })
	})
	if !slices.Equal(nodes, d.learned[region]) {
		d.learned[region] = nodes
		d.put()
	}
}

// put makes the present topology of the file and what was learned. What would
// not be valid in the file is left out.
func (d *Directory) put() {
	t := d.file
	if len(d.learned) > 0 {
		next := *d.file
		next.Regions = slices.Clone(next.Regions)
		ids, peers := map[NodeID]bool{}, map[string]bool{}
		for _, r := range next.Regions {
			for _, n := range r.Nodes {
				ids[n.ID], peers[n.Peer] = true, true
			}
		}
		for i := range next.Regions {
			r := &next.Regions[i]
			r.Nodes = slices.Clip(r.Nodes)
			for _, n := range d.learned[r.Name] {
				if !ids[n.ID] && !peers[n.Peer] && n.check() == nil {
					r.Nodes = append(r.Nodes, n)
					ids[n.ID], peers[n.Peer] = true, true
				}
			}
		}
		t = &next
	}
	d.now.Store(index(t))
	close(d.changed)
	d.changed = make(chan struct{})
}
