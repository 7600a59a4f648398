package regions

import "time"

// NodeState is how a region has one of its nodes.
type NodeState uint8

// States of a node.
const (
	NodeDown     NodeState = iota // not heard of
	NodeUp                        //
	NodeDraining                  // serves what it has, takes nothing new
)

func (s NodeState) String() string { return [...]string{"down", "up", "draining"}[s] }

// NodeStanding is how one node stands.
type NodeStanding struct {
	Node     Node // as its region has it
	State    NodeState
	Sessions int
	Capacity int // its share of the region's slots, relative to the other nodes'
}

// Standing is how a region stands, as its leader says every second.
type Standing struct {
	Region RegionID
	Nodes  []NodeStanding
	Heard  time.Time // when that was said last, by the clock of this node; zero: never
}
