package transport

import (
	"sync"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
)

// link is the transport below an outbox.
type link interface {
	// write sends frames in one go.
	write(frames []*edge.Frame, s *scratch, deadline time.Time) error
	// writeNow writes as much of a frame as goes without waiting. None: the frame
	// is to be queued. If it is only a part, more says that a write has to follow,
	// with or without frames.
	writeNow(f *edge.Frame) (taken, more bool)
	// shut ends the connection in an orderly way, after the last write.
	shut(number uint16, reason string)
	// kill breaks the connection now: reads and writes return.
	kill()
}

// scratch is what a writer needs while it works, shared by all connections of
// a server.
type scratch struct {
	frames []*edge.Frame
	parts  [][]byte
	buf    []byte
}

// release forgets the frames, so that the pool keeps none alive, and doesn't
// keep a buffer that only a rare large frame needs.
func (s *scratch) release(p *sync.Pool) {
	clear(s.frames[:cap(s.frames)])
	clear(s.parts[:cap(s.parts)])
	if cap(s.buf) > 128<<10 {
		s.buf = nil
	}
	p.Put(s)
}

// outbox is the queue in front of a connection, and its only writer. See the
// package comment for what happens when it is full.
type outbox struct {
	link   link
	config *Config
	pool   *sync.Pool
	writer sync.WaitGroup // at most one

	mu       sync.Mutex // guards the following
	reliable fifo
	lossy    fifo
	bytes    int
	writing  bool // a writer runs
	more     bool // what writeNow began is to be ended
	closing  bool // nothing more is accepted
	done     bool // nothing more is written
	last     *wire.Close
	deadline *time.Timer // kills the connection if closing takes too long
}

// Send queues a frame.
func (o *outbox) Send(f *edge.Frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return
	}
	if !o.writing && !o.done && o.bytes == 0 { // nothing waits: to write costs less than to have it written
		taken, more := o.link.writeNow(f)
		if more {
			o.more = true
			o.wakeLocked()
		}
		if taken {
			return
		}
	}
	size := len(f.Prefixed())
	for o.bytes+size > o.config.Queue && o.lossy.len() > 0 {
		o.bytes -= len(o.lossy.pop().Prefixed())
	}
	// A reliable frame that nothing waits in front of is never too much.
	full := o.bytes+size > o.config.Queue
	switch {
	case f.Lossy() && full:
		return
	case full && o.reliable.len() > 0:
		o.reliable = fifo{}
		o.closeLocked(&wire.Close{Code: wire.CodeSlow, Message: "read faster: too much waited for you"}, o.config.WriteTimeout)
		return
	case f.Lossy():
		o.lossy.push(f)
	default:
		o.reliable.push(f)
	}
	o.bytes += size
	o.wakeLocked()
}

// Close ends the connection after what waits; nil is a normal close.
func (o *outbox) Close(c *wire.Close) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing {
		o.closeLocked(c, o.config.CloseTimeout)
	}
}

func (o *outbox) closeLocked(c *wire.Close, within time.Duration) {
	o.closing, o.last = true, c
	o.lossy = fifo{}
	if c != nil {
		o.reliable.push(edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Close{Close: c}}))
	}
	o.deadline = time.AfterFunc(within, o.link.kill)
	o.wakeLocked()
}

func (o *outbox) wakeLocked() {
	if !o.writing && !o.done {
		o.writing = true
		o.writer.Go(o.write)
	}
}

// write drains the queue and returns when it is empty.
func (o *outbox) write() {
	s := o.pool.Get().(*scratch)
	defer s.release(o.pool)
	for {
		o.mu.Lock()
		frames := o.takeLocked(s.frames[:0])
		more := o.more
		o.more = false
		if len(frames) == 0 && !more || o.done {
			o.writing = false
			shut := o.closing && !o.done
			o.done = o.done || shut
			o.mu.Unlock()
			if shut {
				o.link.shut(closeNumber(o.last), o.last.GetCode())
			}
			return
		}
		o.mu.Unlock()
		s.frames = frames
		if err := o.link.write(frames, s, time.Now().Add(o.config.WriteTimeout)); err != nil {
			o.mu.Lock()
			o.writing, o.done, o.closing = false, true, true
			o.reliable, o.lossy = fifo{}, fifo{}
			o.mu.Unlock()
			o.link.kill()
			return
		}
	}
}

// takeLocked moves up to one batch of frames out of the queue.
func (o *outbox) takeLocked(to []*edge.Frame) []*edge.Frame {
	size := 0
	for _, q := range []*fifo{&o.reliable, &o.lossy} {
		for q.len() > 0 {
			n := len(q.head().Prefixed())
			if len(to) > 0 && size+n > o.config.Batch {
				return to
			}
			size += n
			o.bytes -= n
			to = append(to, q.pop())
		}
	}
	return to
}

// finish is called when the reader has ended: it waits for an orderly close
// that is under way, or breaks the connection.
func (o *outbox) finish() {
	o.mu.Lock()
	broken := !o.closing
	if broken {
		o.closing, o.done = true, true
		o.reliable, o.lossy = fifo{}, fifo{}
	}
	o.mu.Unlock()
	if broken {
		o.link.kill() // a write may be under way that nobody reads
	}
	o.writer.Wait()
	o.link.kill()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.deadline != nil {
		o.deadline.Stop()
	}
}

// ended reports whether what still arrives is to be ignored.
func (o *outbox) ended() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closing
}

// closeNumber is the number of a close; CloseNormal for none.
func closeNumber(c *wire.Close) uint16 {
	if c == nil {
		return wire.CloseNormal
	}
	if n, ok := wire.CloseNumber(c.Code); ok {
		return n
	}
	n, _ := wire.CloseNumber(wire.CodeInternal)
	return n
}

// fifo is a queue of frames that gives its memory back when it is empty.
type fifo struct {
	items []*edge.Frame
	first int
}

func (q *fifo) len() int          { return len(q.items) - q.first }
func (q *fifo) head() *edge.Frame { return q.items[q.first] }

func (q *fifo) push(f *edge.Frame) {
	if q.first > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, f)
}

func (q *fifo) pop() *edge.Frame {
	f := q.items[q.first]
	q.items[q.first] = nil
	q.first++
	if q.first == len(q.items) {
		q.first = 0
		if q.items = q.items[:0]; cap(q.items) > 8 {
			q.items = nil
		}
	}
	return f
}
