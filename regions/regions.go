// Package regions holds the nouns of the mesh: regions, their nodes, epochs,
// and the topology that says which exist and where they are.
//
// A region is a set of nodes near each other; a node is one server process.
// Regions know each other from the topology; everything dynamic (who is up,
// who owns which room) is the business of the packages below this one.
package regions

import (
	"errors"
	"hash/fnv"
	"time"
)

// RegionID names a region, such as "eu-west".
type RegionID string

// NodeID names a node, unique over all regions, such as "eu-west-1".
type NodeID string

// Epoch is a number that only grows and says who is current: of a session
// (per device) or of a room's slot (per region).
type Epoch uint64

// ClockEpoch is the lowest epoch that may be issued at t: Unix milliseconds.
// Epochs issued later are higher even if all memory of the earlier ones is
// lost, as long as clocks do not go back further than a restart takes.
func ClockEpoch(t time.Time) Epoch { return Epoch(t.UnixMilli()) }

// ErrUnsent is in the chain of an error of a peer link when the peer can't have
// seen the request: it may be made again, elsewhere too.
var ErrUnsent = errors.New("not sent")

// Slots is the number of hash buckets of a region. A slot has one owner, and
// with it all rooms that hash into it.
const Slots = 1024

// SlotOf returns the slot that owns room.
func SlotOf(room string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(room))
	return int(mix(h.Sum32()) % Slots)
}

// mix is the finalizer of MurmurHash3: FNV alone leaves the low bits of
// similar strings related.
func mix(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}
