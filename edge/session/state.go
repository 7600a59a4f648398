package session

// State is where a session is in its life.
type State uint8

const (
	Connecting State = iota
	Authenticating
	Live
	Draining // live, but told to go elsewhere
	Suspended
	Closed
	states
)

var stateNames = [states]string{"connecting", "authenticating", "live", "draining", "suspended", "closed"}

func (s State) String() string { return stateNames[s] }

// Event is what moves a session from one state to another.
type Event uint8

const (
	Hello    Event = iota // the first frame came, with a hello in it
	Welcomed              // who it is was checked, and it has an epoch
	Resumed               // the same, and it takes over from a suspended or live predecessor
	Lost                  // the connection is gone, by whoever's doing
	Drain                 // the node shuts down
	Expired               // the grace time is over
	Replaced              // a successor took over
	Ended                 // bye, sign-out, fenced, or never welcomed
	events
)

var eventNames = [events]string{"hello", "welcomed", "resumed", "lost", "drain", "expired", "replaced", "ended"}

func (e Event) String() string { return eventNames[e] }

// transitions is the whole of a session's life. What is not in it is refused.
// Suspended goes back to live through a successor: a hello of the same device
// opens a session with a higher epoch, which is Resumed as the suspended one
// is Replaced.
var transitions = [states]map[Event]State{
	Connecting:     {Hello: Authenticating, Lost: Closed, Ended: Closed},
	Authenticating: {Welcomed: Live, Resumed: Live, Lost: Closed, Ended: Closed},
	Live:           {Lost: Suspended, Drain: Draining, Replaced: Closed, Ended: Closed},
	Draining:       {Lost: Suspended, Replaced: Closed, Ended: Closed},
	Suspended:      {Expired: Closed, Replaced: Closed, Ended: Closed},
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
