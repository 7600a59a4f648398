package session

// State is where a session is in its life, and transitions is the whole of it:
//
//	              hello                 welcomed,            drain
//	connecting ──────────▶ authenticating ─resumed─▶ live ────────────▶ draining
//	    │                       │                     │                    │
//	    │ lost,                 │ lost, fenced,       ├──lost─▶ suspended ◀┤ lost
//	    │ ended                 │ ended               │            │       │
//	    │                       │                     │  expired,  │       │
//	    │                       │           replaced, │  replaced, │       │ replaced,
//	    │                       │             fenced, │  fenced,   │       │ fenced,
//	    ▼                       ▼               ended ▼  ended     ▼       ▼ ended
//	    └───────────────────────┴──────────────▶ closed ◀──────────┴───────┘
//
// What is not in it is refused, and counted.
type State uint8

const (
	Connecting     State = iota // there is a connection
	Authenticating              // who it is is being checked, and an epoch asked for
	Live
	Draining  // live, and told to go to another node
	Suspended // without a connection, until the region says that the grace time is over
	Closed
	states
)

var stateNames = [states]string{"connecting", "authenticating", "live", "draining", "suspended", "closed"}

func (s State) String() string { return stateNames[s] }

// connected reports whether a session has a connection that was welcomed.
func (s State) connected() bool { return s == Live || s == Draining }

// Event is what moves a session from one state to another.
type Event uint8

const (
	Hello    Event = iota // the first frame came, with a hello in it
	Welcomed              // who it is was checked, and it has an epoch
	Resumed               // the same, and the device had a session that goes on
	Lost                  // the connection is gone, by whoever's doing
	Drain                 // the node is about to go
	Expired               // the grace time is over
	Replaced              // a successor took over on this node
	Fenced                // the device is live elsewhere
	Ended                 // bye, sign-out, the region's word, or never welcomed
	events
)

var eventNames = [events]string{"hello", "welcomed", "resumed", "lost", "drain", "expired", "replaced", "fenced", "ended"}

func (e Event) String() string { return eventNames[e] }

// Suspended goes back to live through a successor: a hello of the same device
// opens a session with a higher epoch, which is Resumed as the suspended one
// is Replaced (on this node) or Fenced (by one elsewhere).
var transitions = [states]map[Event]State{
	Connecting:     {Hello: Authenticating, Lost: Closed, Ended: Closed},
	Authenticating: {Welcomed: Live, Resumed: Live, Lost: Closed, Fenced: Closed, Ended: Closed},
	Live:           {Lost: Suspended, Drain: Draining, Replaced: Closed, Fenced: Closed, Ended: Closed},
	Draining:       {Lost: Suspended, Replaced: Closed, Fenced: Closed, Ended: Closed},
	Suspended:      {Expired: Closed, Replaced: Closed, Fenced: Closed, Ended: Closed},
	Closed:         {},
}

// Next returns the state after an event; ok is false, and the state unchanged,
// if the event may not happen then.
func Next(from State, e Event) (to State, ok bool) {
	if to, ok = transitions[from][e]; !ok {
		return from, false
	}
	return to, true
}
