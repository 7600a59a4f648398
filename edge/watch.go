package edge

import "github.com/mustermesh/muster/api/wire"

// Areas is what sessions use of areas of interest (edge/interest). What a watch
// tells comes as Views through the Client. None of its methods blocks on
// anything but a lock.
type Areas interface {
	// Watch begins a watch, or changes the client's one of the same number. The
	// client is answered by whoever calls. Its errors are CodeBadRequest,
	// CodeNotJoined and CodeRateLimited.
	Watch(c Client, w *wire.Watch) error
	// Unwatch ends a watch, if there is one.
	Unwatch(c Client, watch uint32)
	// Choose tells that whom a client must not see has changed: see Choosy.
	Choose(c Client)
	// Gone ends all watches of a client, whose connection is gone. Nothing of it
	// is left then; it may be called again.
	Gone(c Client)
}

// Tap hears what a room tells its clients on this node, in the same order. It is
// called with locks of the hub held: it must neither block nor call the hub, and
// not change what it is given.
type Tap interface {
	// Fixes takes a server frame with Fixes.
	Fixes(frame []byte)
	// Event takes a server frame with an Event.
	Event(frame []byte)
	// Anew says that something was missed, or may have been, as at the start: what
	// is known of the room is to be read again.
	Anew()
	// Out says that a client no longer gets what the room tells.
	Out(c Client)
}

// Taps is what edge/interest uses of rooms (edge/hub).
type Taps interface {
	// Tap has the fixes of a room go to a tap instead of to the client; nil: to
	// the client again. Of a room's clients all that are tapped have the same tap.
	// false: the client is not in the room.
	Tap(c Client, room string, to Tap) bool
}
