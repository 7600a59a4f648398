package simnet

import (
	"context"
	"io"
	"sync"
	"time"
)

// lane carries messages one way, in order, each as late as the network has it.
// While the way is cut or an end is held they wait.
type lane struct {
	net      *Fabric
	from, to *Host

	more chan struct{} // a message came, or the end; for the one reader
	room chan struct{} // a message was taken; for a writer that waits
	done chan struct{} // closed with err

	mu    sync.Mutex // guards the following
	queue []message
	bytes int
	last  time.Time // when the last one is due: none overtakes another
	deaf  bool      // the sender has left without a word
	err   error
}

type message struct {
	due  time.Time
	data []byte
	err  error // the last one: what next returns from then on
}

func newLane(f *Fabric, from, to *Host) *lane {
	return &lane{
		net: f, from: from, to: to,
		more: make(chan struct{}, 1), room: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// push queues a message; false: there is too much, or the lane is over. The
// bytes are the lane's.
func (l *lane) push(data []byte, last error, limit int) bool {
	due := time.Now().Add(l.net.delay(l.from, l.to))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || last == nil && l.bytes > 0 && l.bytes+len(data) > limit {
		return false
	}
	if due.Before(l.last) {
		due = l.last
	}
	l.last = due
	l.queue = append(l.queue, message{due, data, last})
	l.bytes += len(data)
	signal(l.more)
	return true
}

// next waits for the next message that arrived.
func (l *lane) next(ctx context.Context) ([]byte, error) {
	for {
		open, changed := l.net.open(l.from, l.to)
		var due <-chan time.Time
		var timer *time.Timer
		l.mu.Lock()
		if l.err != nil {
			err := l.err
			l.mu.Unlock()
			return nil, err
		}
		if open && !l.deaf && len(l.queue) > 0 {
			m := l.queue[0]
			wait := time.Until(m.due)
			if wait <= 0 {
				l.queue[0] = message{}
				l.queue = l.queue[1:]
				l.bytes -= len(m.data)
				if m.err != nil {
					l.endLocked(m.err)
				}
				l.mu.Unlock()
				signal(l.room)
				return m.data, m.err
			}
			timer = time.NewTimer(wait)
			due = timer.C
		}
		l.mu.Unlock()
		var err error
		select {
		case <-l.more:
		case <-due:
		case <-changed:
		case <-l.done:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if timer != nil {
			timer.Stop()
		}
		if err != nil {
			return nil, err
		}
	}
}

// end loses what is under way; next returns err from now on.
func (l *lane) end(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endLocked(err)
}

func (l *lane) endLocked(err error) {
	if l.err == nil {
		l.err, l.queue, l.bytes = err, nil, 0
		close(l.done)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Pipe is one end of a connection: messages in order, both ways.
type Pipe struct {
	Local, Remote Peer
	in, out       *lane
	rest          []byte // of the message that Read is at
}

// connect makes both ends of a connection.
func connect(a, b *Host) (*Pipe, *Pipe) {
	there, back := newLane(a.net, a, b), newLane(a.net, b, a)
	mine := &Pipe{Local: a.Peer, Remote: b.Peer, in: back, out: there}
	theirs := &Pipe{Local: b.Peer, Remote: a.Peer, in: there, out: back}
	return mine, theirs
}

// Dial connects a client to a node, whose handler accepts.
func (h *Host) Dial(ctx context.Context, to string) (*Pipe, error) {
	ctx, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	peer := h.net.find(to)
	if peer == nil { // the kernel refuses for a process that is gone
		sleep(ctx, 2*h.net.cfg.Local)
		return nil, ErrReset
	}
	if !h.net.await(ctx, h, peer) || !sleep(ctx, h.net.delay(h, peer)+h.net.delay(peer, h)) {
		return nil, ErrDown
	}
	mine, theirs := connect(h, peer)
	peer.mu.Lock()
	defer peer.mu.Unlock()
	if peer.closed {
		return nil, ErrReset
	}
	peer.conns[theirs] = struct{}{}
	peer.work.Go(func() {
		peer.handler.Accept(theirs)
		if peer.ctx.Err() == nil { // else it is reset
			theirs.Finish(io.EOF)
		}
		peer.mu.Lock()
		defer peer.mu.Unlock()
		delete(peer.conns, theirs)
	})
	return mine, nil
}

// Send queues a message. It never blocks; false: the connection is over, or
// the other end reads too slowly.
func (c *Pipe) Send(b []byte) bool { return c.out.push(append([]byte(nil), b...), nil, laneBytes) }

// Receive waits for a message.
func (c *Pipe) Receive(ctx context.Context) ([]byte, error) { return c.in.next(ctx) }

// Finish ends the connection in an orderly way: what was sent arrives, then
// err; nothing more is received.
func (c *Pipe) Finish(err error) {
	c.out.push(nil, err, 0)
	c.in.end(err)
}

// Break ends both directions at once.
func (c *Pipe) Break(err error) {
	c.in.end(err)
	c.out.end(err)
}

// Abandon ends this end and lets the other know nothing, as a phone does that
// lost its network.
func (c *Pipe) Abandon(err error) {
	c.in.end(err)
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.deaf, c.out.queue = true, nil
}

// reset is what the other end gets of a killed process, if it can be reached.
func (c *Pipe) reset() {
	c.in.end(ErrKilled)
	f := c.out.net
	if f.blocked(c.out.from.Name, c.out.to.Name) {
		return
	}
	// The lane's sender is dead, so the reset comes another way.
	time.AfterFunc(f.delay(c.out.from, c.out.to), func() { c.out.end(ErrReset) })
}

// Read makes a stream of the connection.
func (c *Pipe) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		next, err := c.in.next(context.Background())
		if err != nil {
			return 0, err
		}
		c.rest = next
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write waits while the reader is slow.
func (c *Pipe) Write(b []byte) (int, error) {
	data := append([]byte(nil), b...)
	for !c.out.push(data, nil, streamBytes) {
		select {
		case <-c.out.done:
			return 0, c.out.reason()
		case <-c.out.room:
		}
	}
	return len(b), nil
}

func (l *lane) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
