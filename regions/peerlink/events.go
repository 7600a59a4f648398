package peerlink

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/mustermesh/muster/regions"
)

// A chunk holds frames that leave in one write: large enough for quic-go to
// fill its batches, small enough that the queue's bound follows progress. An
// idle link holds none.
const chunkSize = 64 << 10

type chunk struct{ b []byte }

var chunks = sync.Pool{New: func() any { return &chunk{make([]byte, 0, chunkSize)} }}

// eventsLink is the ordered link to one peer: a queue of encoded frames, and
// the goroutine of Links.keep that empties it.
type eventsLink struct {
	links *Links
	node  regions.NodeID
	limit int
	wake  chan struct{}

	traffic traffic

	mu        sync.Mutex
	accepting bool               // from the start until Down, from Up until Down
	queue     []*chunk           // encoded frames, the last chunk being filled
	bytesHeld int                // in the queue, and taken from it but not yet written
	cancel    context.CancelFunc // ends the serving, while up
	overflow  bool               // why it was cancelled
	up        *dialled           // nil while down
	since     time.Time          // of being up or down
	downs     int
}

func newEventsLink(l *Links, node regions.NodeID, region regions.RegionID) *eventsLink {
	return &eventsLink{
		links: l, node: node, limit: l.cfg.QueueBytes, wake: make(chan struct{}, 1), accepting: true, since: time.Now(),
		traffic: l.metrics.traffic("out", events, region),
	}
}

func (e *eventsLink) push(frame []byte) error {
	e.mu.Lock()
	if !e.accepting {
		e.mu.Unlock()
		return ErrDown
	}
	size := len(frame) + binary.MaxVarintLen32 // at most
	if e.bytesHeld+size > e.limit {
		e.overflow, e.accepting = true, false
		e.queue = nil
		if e.cancel != nil { // else it is still dialling: serve will see it
			e.cancel()
		}
		e.mu.Unlock()
		return ErrOverflow
	}
	var last *chunk
	if n := len(e.queue); n > 0 {
		last = e.queue[n-1]
	}
	if last == nil || cap(last.b)-len(last.b) < size {
		if size <= chunkSize {
			last = chunks.Get().(*chunk)
		} else {
			last = &chunk{make([]byte, 0, size)}
		}
		e.queue = append(e.queue, last)
	}
	e.bytesHeld -= len(last.b)
	last.b = appendFrame(last.b, frame)
	e.bytesHeld += len(last.b)
	e.mu.Unlock()
	e.traffic.frames.Inc()
	select {
	case e.wake <- struct{}{}:
	default:
	}
	return nil
}

func (e *eventsLink) serve(ctx context.Context, c *dialled) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A write waits for the peer's flow control; this is what frees it.
	stop := context.AfterFunc(ctx, func() { c.stream.CancelWrite(0) })
	defer stop()

	e.mu.Lock()
	e.cancel = cancel
	if e.overflow { // while dialling
		e.mu.Unlock()
		return ErrOverflow
	}
	e.accepting, e.up, e.since = true, c, time.Now()
	e.mu.Unlock()
	e.links.cfg.Handler.Up(c.peer)

	for {
		for next := e.take(); next != nil; next = e.take() {
			n, err := c.stream.Write(next.b)
			e.traffic.bytes.Add(float64(n))
			if err != nil {
				return e.reason(c, err)
			}
			e.wrote(next)
		}
		select {
		case <-e.wake:
		case <-ctx.Done():
			return e.reason(c, ctx.Err())
		case <-c.Context().Done():
			return e.reason(c, context.Cause(c.Context()))
		}
	}
}

// take removes the first chunk, nil if there is none.
func (e *eventsLink) take() *chunk {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return nil
	}
	next := e.queue[0]
	e.queue[0] = nil
	if e.queue = e.queue[1:]; len(e.queue) == 0 {
		e.queue = nil // its array ends here
	}
	return next
}

func (e *eventsLink) wrote(done *chunk) {
	e.mu.Lock()
	e.bytesHeld -= len(done.b)
	e.mu.Unlock()
	if cap(done.b) == chunkSize {
		done.b = done.b[:0]
		chunks.Put(done)
	}
}

func (e *eventsLink) reason(c *dialled, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.overflow {
		return ErrOverflow
	}
	// What ended the connection says more than what that did to the stream.
	if cause := context.Cause(c.Context()); cause != nil {
		return cause
	}
	return err
}

// down loses the queue. Handler.Down is called on the way from accepting (or
// from an overflow) to down, so once per Up, and once if never up.
func (e *eventsLink) down(reason error) {
	e.mu.Lock()
	was := e.accepting || e.overflow
	e.accepting, e.overflow, e.cancel = false, false, nil
	e.queue, e.bytesHeld = nil, 0
	if was {
		e.since, e.downs = time.Now(), e.downs+1
	}
	e.up = nil
	e.mu.Unlock()
	if was {
		e.links.cfg.Handler.Down(e.node, reason)
	}
}
