package peerlink

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/regions"
)

const (
	// writeChunk is how much is written at once: large enough for quic-go to
	// fill its batches, small enough that the queue's bound follows progress.
	writeChunk = 256 << 10
	// keepBuffer is the largest buffer kept when the queue has drained.
	keepBuffer = 256 << 10
)

// eventsLink is the ordered link to one peer: a byte queue, and the goroutine
// of Links.keep that empties it.
type eventsLink struct {
	links *Links
	node  regions.NodeID
	limit int
	wake  chan struct{}

	frames, bytes prometheus.Counter

	mu        sync.Mutex
	accepting bool               // from the start until Down, from Up until Down
	pending   []byte             // encoded frames
	writing   int                // bytes taken from pending and not yet written
	cancel    context.CancelFunc // ends the serving, while up
	overflow  bool               // why it was cancelled
}

func newEventsLink(l *Links, node regions.NodeID) *eventsLink {
	return &eventsLink{
		links: l, node: node, limit: l.cfg.QueueBytes, wake: make(chan struct{}, 1), accepting: true,
		frames: l.metrics.frames.WithLabelValues("out", events.String()),
		bytes:  l.metrics.bytes.WithLabelValues("out", events.String()),
	}
}

func (e *eventsLink) push(frame []byte) error {
	e.mu.Lock()
	if !e.accepting {
		e.mu.Unlock()
		return ErrDown
	}
	if len(e.pending)+e.writing+len(frame)+binary.MaxVarintLen32 > e.limit {
		e.overflow, e.accepting = true, false
		e.pending = nil
		if e.cancel != nil { // else it is still dialling: serve will see it
			e.cancel()
		}
		e.mu.Unlock()
		return ErrOverflow
	}
	e.pending = appendFrame(e.pending, frame)
	e.mu.Unlock()
	e.frames.Inc()
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
	e.accepting = true
	e.mu.Unlock()
	e.links.cfg.Handler.Up(c.peer)

	var batch []byte
	for {
		batch = e.take(batch)
		for rest := batch; len(rest) > 0; {
			n, err := c.stream.Write(rest[:min(writeChunk, len(rest))])
			e.bytes.Add(float64(n))
			e.wrote(n)
			rest = rest[n:]
			if err != nil {
				return e.reason(c, err)
			}
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

// take swaps the queue for the empty buffer, or for none if that grew large.
func (e *eventsLink) take(spare []byte) []byte {
	if cap(spare) > keepBuffer {
		spare = nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	batch := e.pending
	e.pending, e.writing = spare[:0], len(batch)
	return batch
}

func (e *eventsLink) wrote(n int) {
	e.mu.Lock()
	e.writing -= n
	e.mu.Unlock()
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
	e.pending, e.writing = nil, 0
	e.mu.Unlock()
	if was {
		e.links.cfg.Handler.Down(e.node, reason)
	}
}
