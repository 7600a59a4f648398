package nemesis

import (
	"sync"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
)

// History is what was seen, in the order in which it was.
type History struct {
	mu     sync.Mutex // guards the following while the mesh runs
	start  time.Time
	frozen bool // what comes now is no part of it

	Runs    []*Run
	Spoken  []Spoken // by owners
	Stored  map[string]Kept
	Final   []Observer
	Truth   map[string]map[Key]Present // by room
	Settled bool                       // everybody agreed in time
	Grace   time.Duration

	Connected map[Key]Session                 // in the end
	Rosters   map[string]map[string][]Session // by region and node
}

// Session is a device's session, as the device or a node's roster has it.
type Session struct {
	Key
	Epoch     uint64
	Node      string
	Suspended bool
	Rooms     string
}

// Key names a device.
type Key struct{ User, Device string }

// Run is one life of an SDK session: from Connect to Close.
type Run struct {
	ID      int
	Key     Key
	Sights  []Sight
	Heard   []Heard
	Acked   []*Acked
	Revised []*Acked // revisions, each with the message as it was answered
}

// Sight is a frame on one of the run's connections, or a connection's end.
type Sight struct {
	At   time.Duration
	Conn int
	Node string
	In   *wire.ServerFrame // came
	Out  *wire.ClientFrame // was sent
	End  error             // the connection is over
}

// Heard is an event that the SDK gave to the application.
type Heard struct {
	At    time.Duration
	Room  string
	Event client.Event
}

// Acked is a message whose number the sender was told.
type Acked struct {
	At      time.Duration
	Room    string
	Message client.Message
}

// Spoken is what an owner said of devices of its own region, under a number.
type Spoken struct {
	At           time.Duration
	Node, Region string
	Room         string
	Epoch, Seq   uint64 // of the slot; seq 0: fixes
	Event        *wire.Event
	Devices      []Device
}

// Device is a device as an owner speaks of it.
type Device struct {
	Key
	Epoch    uint64
	State    wire.State    // 0: a fix
	Captured time.Duration // the fix
}

// Present is what should be seen of a device that is in a room.
type Present struct {
	Epoch uint64
	Fix   float64 // the latitude that names its last fix; 0: none
}

// Observer is what one client sees of a room in the end.
type Observer struct {
	Run      *Run
	Room     string
	Members  map[Key]Seen
	Fixes    map[Key]float64
	Last     uint64           // number of the last message
	Messages []client.Message // the last ones
	Receipts []client.Seen
	Offline  string // why it sees nothing, though it should
}

// Seen is a device as an observer sees it.
type Seen struct {
	Epoch uint64
	State wire.State
}

// NewHistory begins now.
func NewHistory(grace time.Duration) *History {
	return &History{start: time.Now(), Grace: grace, Stored: map[string]Kept{}, Truth: map[string]map[Key]Present{}}
}

// freeze ends the history: what is seen from now on is how it was taken down.
func (h *History) freeze() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frozen = true
}

func (h *History) now() time.Duration { return time.Since(h.start) }

func (h *History) run(k Key) *Run {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &Run{ID: len(h.Runs), Key: k}
	h.Runs = append(h.Runs, r)
	return r
}

func (h *History) saw(r *Run, s Sight) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.At = h.now()
	if !h.frozen {
		r.Sights = append(r.Sights, s)
	}
}

func (h *History) heard(r *Run, room string, e client.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.frozen {
		r.Heard = append(r.Heard, Heard{h.now(), room, e})
	}
}

func (h *History) acked(r *Run, room string, m client.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.frozen {
		r.Acked = append(r.Acked, &Acked{h.now(), room, m})
	}
}

func (h *History) revised(r *Run, room string, m client.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.frozen {
		r.Revised = append(r.Revised, &Acked{h.now(), room, m})
	}
}

func (h *History) spoke(s Spoken) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.At = h.now()
	if !h.frozen {
		h.Spoken = append(h.Spoken, s)
	}
}
