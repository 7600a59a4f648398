package roster

import (
	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

const (
	invalid = peer.RosterCode_ROSTER_INVALID

	// Version of the commands' meaning, for consensus: a node that meets a
	// higher one in the log can't know what the others do.
	Version = 2

	// MaxEpoch bounds what a command may bring into epochs: numbers that JSON
	// keeps exact, the clock until the year 287396. So none can ever overflow.
	MaxEpoch = 1 << 53

	MaxNodes   = 256     // of a region
	MaxDevices = 256     // of a user, those that ended lately included
	MaxRooms   = 64      // of a session, as in api/wire
	MaxCalls   = 1 << 16 // that have a place in the region; and floors of calls
	MaxKept    = 1024    // calls of one CallKeep
	MaxWaiting = 64      // who wait for a floor
	maxIdle    = 1 << 17 // devices without a session here that are remembered
	maxEarlier = 4       // connections of a device that are remembered
	maxSeen    = 16      // other regions of a device
	maxID      = 64      // bytes of a user, device, login, node or region
	maxName    = 256     // bytes of a name
	maxRoom    = 128     // bytes of a room's id
)

// State is the roster of one region. Make it with New. It is not safe for
// concurrent use: Machine adds the lock. What its methods return may be kept.
type State struct {
	region regions.RegionID
	clock  clock

	nodes map[regions.NodeID]Node
	slots [regions.Slots]Slot
	held  map[regions.NodeID]places // sessions by node
	rooms map[string]*room
	// inSlot is the rooms by slot, in no order.
	inSlot [regions.Slots][]*room

	devices table
	counts  Counts
	// order numbers what goes into the queues.
	order uint64
	// suspended and gone are queues of what ends by time, in order.
	suspended, gone queue[int32]
	// forgotten is the highest epoch of a device that is no longer known:
	// whoever is not known either is given a higher one.
	forgotten regions.Epoch

	calls  map[regions.CallID]*Call
	hosted map[regions.NodeID]int // calls by the node of their place
	floors map[regions.CallID]*Floor
	// issued is the highest number of a place or a grant.
	issued regions.Epoch
	// unheard and silent are queues of calls and floors, by when something was
	// heard of them.
	unheard, silent queue[regions.CallID]

	effects []Effect
}

// Counts says how much there is of everything.
type Counts struct {
	Live, Suspended int // sessions
	Gone            int // devices without a session here that are remembered
	Rooms           int // that somebody of this region is in
	Stays           int // pairs of a session and a room
}

// devices is how many devices are known.
func (c Counts) devices() int { return c.Live + c.Suspended + c.Gone }

// clock is the leader's monotonic clock, as the log tells it.
type clock struct {
	term, start, now uint64 // start: the first time that was heard of in this term
	wall             regions.Epoch
}

// New returns the empty roster of a region.
func New(region regions.RegionID) *State {
	return &State{
		region: region,
		nodes:  map[regions.NodeID]Node{},
		held:   map[regions.NodeID]places{},
		rooms:  map[string]*room{},
		calls:  map[regions.CallID]*Call{},
		hosted: map[regions.NodeID]int{},
		floors: map[regions.CallID]*Floor{},
		devices: table{
			users: map[string][]*Session{},
		},
	}
}

// Apply does one command, stamped by the leader, and returns its answer and
// what it caused. It reads nothing else.
func (s *State) Apply(stamp regions.Stamp, c *peer.RosterCommand) (*peer.RosterAnswer, []Effect) {
	s.effects = nil
	if stamp.ClockMs > MaxEpoch {
		return refuse(invalid, 0), nil
	}
	s.clock.tick(stamp)
	var a *peer.RosterAnswer
	switch b := c.GetBody().(type) {
	case *peer.RosterCommand_NodeUp:
		a = s.nodeUp(b.NodeUp)
	case *peer.RosterCommand_NodeDrain:
		a = s.nodeDrain(b.NodeDrain)
	case *peer.RosterCommand_NodeDown:
		a = s.nodeDown(b.NodeDown)
	case *peer.RosterCommand_NodeRemove:
		a = s.nodeRemove(b.NodeRemove)
	case *peer.RosterCommand_SlotBalance:
		a = s.balance(b.SlotBalance)
	case *peer.RosterCommand_SlotMove:
		a = s.moveSlot(b.SlotMove)
	case *peer.RosterCommand_SessionOpen:
		a = s.open(b.SessionOpen)
	case *peer.RosterCommand_SessionResume:
		a = s.resume(b.SessionResume)
	case *peer.RosterCommand_SessionSuspend:
		a = s.suspend(b.SessionSuspend)
	case *peer.RosterCommand_SessionClose:
		a = s.close(b.SessionClose)
	case *peer.RosterCommand_SessionExpire:
		a = s.expire(b.SessionExpire)
	case *peer.RosterCommand_RoomJoin:
		a = s.join(b.RoomJoin)
	case *peer.RosterCommand_RoomLeave:
		a = s.leave(b.RoomLeave)
	case *peer.RosterCommand_DeviceSeen:
		a = s.deviceSeen(b.DeviceSeen)
	case *peer.RosterCommand_CallPlace:
		a = s.callPlace(b.CallPlace)
	case *peer.RosterCommand_CallKeep:
		a = s.callKeep(b.CallKeep)
	case *peer.RosterCommand_CallGone:
		a = s.callGone(b.CallGone)
	case *peer.RosterCommand_CallLeft:
		a = s.callLeft(b.CallLeft)
	case *peer.RosterCommand_CallExpire:
		a = s.callExpire(b.CallExpire)
	case *peer.RosterCommand_FloorAsk:
		a = s.floorAsk(b.FloorAsk)
	case *peer.RosterCommand_FloorRelease:
		a = s.floorRelease(b.FloorRelease)
	case *peer.RosterCommand_FloorTake:
		a = s.floorTake(b.FloorTake)
	default:
		a = refuse(invalid, 0)
	}
	return a, s.effects
}

// tick takes the leader's time. A new term's clock has an origin of its own;
// within a term time never goes back, nor does it for what an old leader said.
func (c *clock) tick(stamp regions.Stamp) {
	switch c.wall = regions.Epoch(stamp.ClockMs); {
	case stamp.Term > c.term:
		c.term, c.start, c.now = stamp.Term, stamp.UptimeMs, stamp.UptimeMs
	case stamp.Term == c.term:
		c.now = max(c.now, stamp.UptimeMs)
	}
}

func (s *State) emit(e Effect) { s.effects = append(s.effects, e) }

func refuse(code peer.RosterCode, epoch regions.Epoch) *peer.RosterAnswer {
	return &peer.RosterAnswer{Code: code, Epoch: uint64(epoch)}
}

func granted(epoch regions.Epoch) *peer.RosterAnswer {
	return &peer.RosterAnswer{Epoch: uint64(epoch)}
}

// id reports whether a name may stand for somebody.
func id(names ...string) bool {
	for _, n := range names {
		if n == "" || len(n) > maxID {
			return false
		}
	}
	return true
}
