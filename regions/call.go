package regions

import "time"

// CallID names a call: a media session in a room.
type CallID string

// CallPlace says which node is a region's SFU of a call. The epoch only grows,
// per call and region, and names the place.
type CallPlace struct {
	Call  CallID
	Room  string
	Node  NodeID
	Epoch Epoch
	// Where it moves from, while somebody may be there still: its node drains.
	Former      NodeID
	FormerEpoch Epoch
}

// CallMove is a call that got another place, or lost the one it had: then To is
// "" and Epoch is that of the place it had.
type CallMove struct {
	Call     CallID
	Room     string
	From, To NodeID
	Epoch    Epoch
	// Draining: From is alive and has its participants until they have moved.
	Draining bool
}

// FloorLease is for how long an answer gives the floor of a call: from before it
// was asked for, by the asker's own monotonic clock.
const FloorLease = 2 * time.Second

// FloorAsk asks for the floor of a call on behalf of a session, or has what the
// session has of it, floor or place in the queue, go on.
type FloorAsk struct {
	Call     CallID
	Session  SessionID
	Region   RegionID      // of the SFU
	Node     NodeID        // the SFU, which forwards
	Priority uint8         // who waits with a higher one is first
	MaxTalk  time.Duration // then others' turn comes, if any wait; 0: 60 s, at most 1 h
	// Released is the last grant of the session that the SFU gave back; 0 for
	// none. Answers that name it, or a lower one, are void: the region may not have
	// heard that it is given back, and end it when it does.
	Released uint64
}

// FloorRelease gives the floor back, or a place in the queue.
type FloorRelease struct {
	Call    CallID
	Session SessionID
	Node    NodeID
	// Grant is that of the last answer that gave the floor to the session; 0 if
	// there was none. Its SFU has ceased to forward, and takes no answer any more
	// to what it asked before; what it asks from now on has it as Released.
	Grant uint64
}

// FloorStanding is how a session stands to a floor.
type FloorStanding uint8

// Standings. Over: its talk time was up, or a moderator took the floor, so it
// is others' turn first.
const (
	FloorNone FloorStanding = iota
	FloorYours
	FloorWaiting
	FloorOver
)

func (s FloorStanding) String() string { return [...]string{"none", "yours", "waiting", "over"}[s] }

// FloorAnswer is a floor as the one who asked stands to it.
type FloorAnswer struct {
	Standing FloorStanding
	// Lease, if it is yours: the SFU may forward for so long from before it asked,
	// by its own monotonic clock. Else: until the present lease ends unless it is
	// renewed; to ask sooner than that gains nothing but the place in the queue.
	Lease    time.Duration
	Position int // in the queue, if waiting; 1 is next
	Waiting  int // how many do
	// Who has it; Grant is 0 for nobody. A higher grant of a call is a later one.
	Holder SessionID
	Region RegionID // of the holder's SFU
	Grant  uint64
}
