package roster

import (
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// Effect is something a command changed that others act on: plain data, the
// same on every node of the region. Whether it is one's own business, each node
// tells from the node named in it.
type Effect interface{ effect() }

// NodeChanged tells a node's new state; Removed: the roster knows it no more.
type NodeChanged struct {
	Node        regions.NodeID
	Incarnation uint64
	State       NodeState
	Removed     bool
}

// SlotMoved tells a slot's new owner and epoch. From or To is empty if there is
// nobody; they are the same after a restart of the owner.
type SlotMoved struct {
	Slot     int
	From, To regions.NodeID
	Epoch    regions.Epoch
}

// SessionOpened: the device is live at this node under this epoch.
type SessionOpened struct {
	User, Device string
	Node         regions.NodeID
	Epoch        regions.Epoch
	Resumed      bool // it goes on from a session it had
}

// SessionFenced: what this node has of the device under this epoch, live or
// suspended, is over without a word to the rooms, since a higher epoch won; in
// this region, or in the one that is named.
type SessionFenced struct {
	User, Device   string
	Node           regions.NodeID
	Epoch, Winning regions.Epoch
	Region         regions.RegionID
}

// SessionSuspended: the connection is gone; the grace time begins.
type SessionSuspended struct {
	User, Device string
	Node         regions.NodeID
	Epoch        regions.Epoch
	NodeLost     bool     // because its node is: nobody there will say so
	Rooms        []string // that it is in, in order
}

// SessionEnded: the device left its rooms, for this reason.
type SessionEnded struct {
	User, Device string
	Node         regions.NodeID
	Epoch        regions.Epoch
	Reason       wire.Reason
	Rooms        []string // that it was in, in order
}

// CallMoved: this node is not the call's SFU any more, but another one, under
// this epoch; or none, if To is empty: then Epoch is that of the place it had.
// Draining: it has its participants until they have moved.
type CallMoved struct {
	Call     regions.CallID
	Room     string
	From, To regions.NodeID
	Epoch    regions.Epoch
	Draining bool
}

// Restored: a snapshot replaced the state. Effects in between are lost; read
// what matters again.
type Restored struct{}

func (NodeChanged) effect()      {}
func (SlotMoved) effect()        {}
func (SessionOpened) effect()    {}
func (SessionFenced) effect()    {}
func (SessionSuspended) effect() {}
func (SessionEnded) effect()     {}
func (CallMoved) effect()        {}
func (Restored) effect()         {}
