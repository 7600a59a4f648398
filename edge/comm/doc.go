// Package comm is the language of /ws/communication: the events of calls as JSON text,
// one object a line, for clients that know of calls alone. It is another form of the
// session protocol (api/wire): each event of a client becomes one frame, and frames
// become events, so the session behind it (edge/session), its limits, its epochs and its
// grace time are those of every other client. docs/protocol.md lists the events.
//
// What a participant is comes in frames as a whole; events say what is new about it, so
// a Speaker remembers who is in the calls of its connection.
package comm

import (
	"encoding/json"
	"sync"

	"github.com/mustermesh/muster/api/wire"
)

// Speaker translates for one connection. It is a transport.Dialect.
type Speaker struct {
	mu     sync.Mutex // guards the following
	last   uint64     // id of the last request
	asked  map[uint64]asked
	calls  map[string]*call // that were joined, by id
	device string
}

// asked is a request that has no answer yet.
type asked struct {
	event   string
	id      json.RawMessage // the client's own; nil: it wants no answer
	session string
}

// call is what was told of a call.
type call struct{ people map[who]*wire.CallParticipant }

type who struct{ user, device string }

// maxAsked is more than a session lets wait for answers.
const maxAsked = 256

// New returns one for a new connection.
func New() *Speaker {
	return &Speaker{asked: map[uint64]asked{}, calls: map[string]*call{}}
}
