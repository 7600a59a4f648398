package host

import (
	"time"

	"github.com/mustermesh/muster/media/call"
)

// ears is who speaks and who is heard in a call, by the goroutine of the call.
type ears struct {
	headings   map[call.Key]float32
	floorAsked chan struct{} // closed when the floor's last answer has come; nil: none was asked
}

func (e *ears) turn(k call.Key, degrees float32) {
	if e.headings == nil {
		e.headings = map[call.Key]float32{}
	}
	e.headings[k] = degrees
}

// hears reports whether a participant hears a track.
func (e *ears) hears(call.Key, call.Subscription) bool { return true }

func (l *live) hear(time.Time) {}
