package roster

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

const (
	magic   = "MUSTERROSTER"
	format  = 2       // of a snapshot; 1 had no calls and floors
	maxPart = 1 << 20 // bytes of one message in it
	// freeChunk is how many free places stand in one message.
	freeChunk = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is returned by Restore for what is no whole snapshot.
var ErrCorrupt = errors.New("roster: snapshot is corrupt")

// snapshot takes the state as it is now, and returns what writes it, whatever
// is applied meanwhile: sessions are never changed, so copying the slice that
// points at them is enough. index is kept with it for the caller.
func (s *State) snapshot(index uint64) func(io.Writer) error {
	head := &peer.RosterHead{
		Index: index, Region: string(s.region), Order: s.order, Forgotten: uint64(s.forgotten), Issued: uint64(s.issued),
		Term: s.clock.term, TermStartMs: s.clock.start, UptimeMs: s.clock.now,
		SlotOwners: make([]uint32, regions.Slots), SlotEpochs: make([]uint64, regions.Slots),
		Places: uint64(len(s.devices.all)),
	}
	number := map[regions.NodeID]uint32{}
	for i, n := range s.Nodes() {
		number[n.ID] = uint32(i) + 1
		head.Nodes = append(head.Nodes, &peer.RosterNode{
			Node: string(n.ID), Incarnation: n.Incarnation, State: uint32(n.State), Capacity: n.Capacity, Media: n.Media,
			SinceMs: uint64(n.Since),
		})
	}
	for i, slot := range s.slots {
		head.SlotOwners[i], head.SlotEpochs[i] = number[slot.Owner], uint64(slot.Epoch)
	}
	all, free := slices.Clone(s.devices.all), slices.Clone(s.devices.free)
	calls, floors := slices.Collect(maps.Values(s.calls)), slices.Collect(maps.Values(s.floors))
	return func(w io.Writer) error {
		if err := write(w, head, all, free, calls, floors); err != nil {
			return fmt.Errorf("roster: write snapshot: %w", err)
		}
		return nil
	}
}

type message interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}

func write(to io.Writer, head *peer.RosterHead, all []*Session, free []int32, calls []*Call, floors []*Floor) error {
	sum := crc32.New(castagnoli)
	w := bufio.NewWriterSize(io.MultiWriter(to, sum), 64<<10)
	var buf []byte
	put := func(m message) error {
		size := m.SizeVT()
		buf = slices.Grow(buf[:0], size)[:size]
		if _, err := m.MarshalToSizedBufferVT(buf); err != nil {
			return err
		}
		if _, err := w.Write(binary.AppendUvarint(w.AvailableBuffer(), uint64(size))); err != nil {
			return err
		}
		_, err := w.Write(buf)
		return err
	}
	// What fails here is reported by Flush.
	_, _ = w.WriteString(magic)
	_ = w.WriteByte(format)
	if err := put(head); err != nil {
		return err
	}
	for chunk := range slices.Chunk(free, freeChunk) {
		f := &peer.RosterFree{Places: make([]uint32, len(chunk))}
		for i, place := range chunk {
			f.Places[i] = uint32(place)
		}
		if err := put(f); err != nil {
			return err
		}
	}
	_ = w.WriteByte(0)
	rooms := map[*room]uint32{}
	var d peer.RosterDevice
	for _, x := range all {
		if x == nil {
			continue
		}
		x.encode(&d, rooms)
		if err := put(&d); err != nil {
			return err
		}
	}
	_ = w.WriteByte(0)
	slices.SortFunc(calls, func(a, b *Call) int { return cmp.Compare(a.ID, b.ID) })
	for _, c := range calls {
		if err := put(c.encode()); err != nil {
			return err
		}
	}
	_ = w.WriteByte(0)
	slices.SortFunc(floors, func(a, b *Floor) int { return cmp.Compare(a.Call, b.Call) })
	for _, f := range floors {
		if err := put(f.encode()); err != nil {
			return err
		}
	}
	_ = w.WriteByte(0)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := to.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

func (x *Session) encode(d *peer.RosterDevice, rooms map[*room]uint32) {
	names, numbers := d.NewRooms[:0], d.Rooms[:0]
	d.Reset()
	for _, r := range x.rooms {
		n, ok := rooms[r]
		if !ok {
			n = uint32(len(rooms))
			rooms[r] = n
			names = append(names, r.name)
		}
		numbers = append(numbers, n)
	}
	d.NewRooms, d.Rooms = names, numbers
	d.Place, d.User, d.Device, d.State = uint32(x.place), x.User, x.Device, uint32(x.State)
	d.Epoch, d.Node, d.Incarnation, d.Connection = uint64(x.Epoch), string(x.Node), x.Incarnation, x.Connection
	d.Login, d.Name, d.Transport, d.SinceMs = x.Login, x.Name, uint32(x.Transport), uint64(x.Since)
	d.IdleTerm, d.IdleMs, d.Order = x.idle.term, x.idle.at, x.idle.order
	for _, o := range x.earlier {
		d.Earlier = append(d.Earlier, &peer.RosterOpened{
			Node: string(o.node), Incarnation: o.incarnation, Connection: o.connection, Epoch: uint64(o.epoch),
		})
	}
	for _, e := range x.seen {
		d.Seen = append(d.Seen, &peer.RosterSeen{Region: string(e.Region), Epoch: uint64(e.Epoch)})
	}
}

// restore reads a snapshot of this region's roster into a new state.
func restore(from io.Reader, region regions.RegionID) (*State, uint64, error) {
	r := &reader{r: bufio.NewReaderSize(from, 64<<10), sum: crc32.New(castagnoli)}
	start := make([]byte, len(magic)+1)
	r.full(start)
	switch {
	case r.err != nil || string(start[:len(magic)]) != magic:
		return nil, 0, corrupt("no roster", r.err)
	case start[len(magic)] < 1 || start[len(magic)] > format:
		return nil, 0, fmt.Errorf("roster: snapshot of format %d, this node knows %d", start[len(magic)], format)
	}
	var head peer.RosterHead
	if b := r.part(); r.err != nil || len(b) == 0 || head.UnmarshalVT(b) != nil {
		return nil, 0, corrupt("head", r.err)
	}
	s := New(region)
	if err := s.decodeHead(&head); err != nil {
		return nil, 0, err
	}
	for b := r.part(); len(b) > 0; b = r.part() {
		var f peer.RosterFree
		if err := f.UnmarshalVT(b); err != nil {
			return nil, 0, corrupt("free places", err)
		}
		for _, place := range f.Places {
			s.devices.free = append(s.devices.free, int32(place))
		}
	}
	var rooms []*room
	var d peer.RosterDevice
	for b := r.part(); len(b) > 0; b = r.part() {
		d.Reset()
		if err := d.UnmarshalVT(b); err != nil {
			return nil, 0, corrupt("device", err)
		}
		var err error
		if rooms, err = s.decode(&d, rooms); err != nil {
			return nil, 0, err
		}
	}
	if start[len(magic)] > 1 {
		if err := s.decodeCalls(r); err != nil {
			return nil, 0, err
		}
	}
	sum := r.sum.Sum32()
	var want [4]byte
	if r.full(want[:]); r.err != nil || binary.BigEndian.Uint32(want[:]) != sum {
		return nil, 0, corrupt("checksum", r.err)
	}
	if err := s.finish(&head); err != nil {
		return nil, 0, err
	}
	return s, head.Index, nil
}

func (s *State) decodeHead(h *peer.RosterHead) error {
	switch {
	case h.Region != string(s.region):
		return fmt.Errorf("roster: snapshot of region %q, not %q", h.Region, s.region)
	case len(h.SlotOwners) != regions.Slots || len(h.SlotEpochs) != regions.Slots || len(h.Nodes) > MaxNodes:
		return corrupt("slots", nil)
	}
	s.order, s.forgotten, s.issued = h.Order, regions.Epoch(h.Forgotten), regions.Epoch(h.Issued)
	s.clock = clock{term: h.Term, start: h.TermStartMs, now: h.UptimeMs}
	for _, n := range h.Nodes {
		if n.State > uint32(Draining) {
			return corrupt("node", nil)
		}
		s.nodes[regions.NodeID(n.Node)] = Node{regions.NodeID(n.Node), n.Incarnation, NodeState(n.State), n.Capacity, n.Media, int64(n.SinceMs)}
	}
	for i, owner := range h.SlotOwners {
		if int(owner) > len(h.Nodes) {
			return corrupt("slot", nil)
		}
		s.slots[i].Epoch = regions.Epoch(h.SlotEpochs[i])
		if owner > 0 {
			s.slots[i].Owner = regions.NodeID(h.Nodes[owner-1].Node)
		}
	}
	return nil
}

func (s *State) decode(d *peer.RosterDevice, rooms []*room) ([]*room, error) {
	t := &s.devices
	// Devices come by place, and there are no more holes than free places: a
	// wrong number allocates nothing.
	if d.State > uint32(Suspended) || int(d.Place) < len(t.all) || int(d.Place) > s.counts.devices()+len(t.free) ||
		len(d.Rooms) > MaxRooms || t.get(d.User, d.Device) != nil {
		return nil, corrupt("device", nil)
	}
	x := &Session{
		State: SessionState(d.State), Transport: wire.Transport(d.Transport), place: int32(d.Place),
		Epoch: regions.Epoch(d.Epoch), Node: s.intern(d.Node), Incarnation: d.Incarnation, Connection: d.Connection,
		Since: int64(d.SinceMs), idle: idle{moment{d.IdleTerm, d.IdleMs}, d.Order},
	}
	x.User, x.Device, x.Login, x.Name = packed(d.User, d.Device, d.Login, d.Name)
	for _, o := range d.Earlier {
		x.earlier = append(x.earlier, opened{s.intern(o.Node), o.Incarnation, o.Connection, regions.Epoch(o.Epoch)})
	}
	for _, e := range d.Seen {
		x.seen = append(x.seen, Seen{regions.RegionID(e.Region), regions.Epoch(e.Epoch)})
	}
	t.all = append(t.all, make([]*Session, int(x.place)-len(t.all))...)
	t.all = append(t.all, x)
	t.list(x)
	for _, name := range d.NewRooms {
		if s.rooms[name] != nil {
			return nil, corrupt("room", nil)
		}
		rooms = append(rooms, s.newRoom(name))
	}
	if len(d.Rooms) > 0 {
		x.rooms = make([]*room, 0, len(d.Rooms))
	}
	for _, n := range d.Rooms {
		if int(n) >= len(rooms) || (len(x.rooms) > 0 && x.rooms[len(x.rooms)-1].name >= rooms[n].name) {
			return nil, corrupt("room", nil)
		}
		x.rooms = append(x.rooms, s.enter(rooms[n].name, x.place))
	}
	s.count(x, 1)
	if x.State != Gone {
		s.held[x.Node] = s.held[x.Node].set(x.place)
	}
	return rooms, nil
}

// intern returns the one copy of a node's name.
func (s *State) intern(node string) regions.NodeID {
	n, ok := s.nodes[regions.NodeID(node)]
	if !ok {
		return regions.NodeID(node)
	}
	return n.ID
}

// finish puts free places and queues in order, and checks that all is there.
func (s *State) finish(h *peer.RosterHead) error {
	t := &s.devices
	total := s.counts.devices() + len(t.free)
	if h.Places != uint64(total) || len(t.all) > total {
		return corrupt("places", nil)
	}
	t.all = append(t.all, make([]*Session, total-len(t.all))...)
	free := make(places, (total+63)/64)
	for _, place := range t.free {
		if place < 0 || int(place) >= total || t.all[place] != nil || free[place/64]>>(place%64)&1 == 1 {
			return corrupt("free places", nil)
		}
		free.set(place)
	}
	for _, r := range s.rooms {
		if len(r.members) == 0 {
			return corrupt("room", nil)
		}
	}
	for _, x := range t.all {
		switch {
		case x == nil || x.State == Live:
		case x.State == Suspended:
			s.suspended.waiting = append(s.suspended.waiting, waiting[int32]{x.place, x.idle.order})
		default:
			s.gone.waiting = append(s.gone.waiting, waiting[int32]{x.place, x.idle.order})
		}
	}
	sortQueue(&s.suspended)
	sortQueue(&s.gone)
	sortQueue(&s.unheard)
	sortQueue(&s.silent)
	return nil
}

func sortQueue[K any](q *queue[K]) {
	slices.SortFunc(q.waiting, func(a, b waiting[K]) int { return cmp.Compare(a.order, b.order) })
}

func corrupt(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	return fmt.Errorf("%w: %s", ErrCorrupt, what)
}

// reader reads parts and sums what it reads.
type reader struct {
	r   *bufio.Reader
	sum hash.Hash32
	buf []byte
	err error // the first one
}

func (r *reader) full(b []byte) {
	if r.err == nil {
		if _, r.err = io.ReadFull(r.r, b); r.err == nil {
			_, _ = r.sum.Write(b)
		}
	}
}

func (r *reader) ReadByte() (byte, error) {
	b := r.buf[:1]
	r.full(b)
	return b[0], r.err
}

func (r *reader) part() []byte {
	if r.buf == nil {
		r.buf = make([]byte, 4096)
	}
	size, err := binary.ReadUvarint(r)
	if r.err == nil && (err != nil || size > maxPart) {
		r.err = errors.New("length of a part")
	}
	if r.err != nil {
		return nil
	}
	r.buf = slices.Grow(r.buf[:0], int(size))[:max(size, 1)]
	r.full(r.buf[:size])
	return r.buf[:size]
}
