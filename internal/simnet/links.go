package simnet

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// Send queues a frame on the ordered link to a host; see peerlink.Links.Send.
func (h *Host) Send(to string, frame []byte) error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return ErrKilled
	}
	l := h.events[to]
	if l == nil {
		l = &eventsLink{host: h, to: to, accepting: true, overflow: make(chan struct{}, 1)}
		h.events[to] = l
		h.work.Go(l.keep)
	}
	h.mu.Unlock()
	return l.push(append([]byte(nil), frame...))
}

// eventsLink is the ordered link to one peer.
type eventsLink struct {
	host     *Host
	to       string
	overflow chan struct{} // the peer reads too slowly

	mu        sync.Mutex // guards the following
	accepting bool       // from the start until Down, from Up until Down
	waiting   [][]byte   // while it is dialled for the first time
	lane      *lane      // nil while down
}

func (l *eventsLink) push(frame []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.accepting:
		return ErrDown
	case l.lane == nil:
		l.waiting = append(l.waiting, frame)
	case !l.lane.push(frame, nil, laneBytes):
		signal(l.overflow)
		return ErrDown
	}
	return nil
}

// keep dials, serves, waits, again.
func (l *eventsLink) keep() {
	h := l.host
	for {
		l.serve()
		l.mu.Lock()
		was := l.accepting
		l.accepting, l.waiting, l.lane = false, nil, nil
		l.mu.Unlock()
		if h.ctx.Err() != nil {
			return
		}
		if was {
			h.handler.Down(l.to, ErrDown)
		}
		if !sleep(h.ctx, redialMin/2+h.net.random(redialMin)) || !h.probe(l.to) {
			return
		}
	}
}

// probe waits until a peer has answered a probe; false: this process is dead.
func (h *Host) probe(to string) bool {
	for {
		peer := h.find(h.ctx, to)
		if peer == nil || !sleep(h.ctx, h.net.random(probeEvery)+h.net.delay(h, peer)+h.net.delay(peer, h)) {
			return false
		}
		if open, _ := h.net.bothWays(h, peer); open {
			return true
		}
	}
}

// serve dials and uses one connection until it breaks.
func (l *eventsLink) serve() {
	h, f := l.host, l.host.net
	peer := h.dial(h.ctx, l.to, dialWait)
	if peer == nil {
		return
	}
	lane := newLane(f, h, peer)
	over := make(chan struct{})
	defer close(over)
	if !peer.arrive(h, lane) {
		return
	}
	defer lane.end(ErrReset)
	if !sleep(h.ctx, f.delay(peer, h)) {
		return
	}
	broken := make(chan struct{})
	h.work.Go(func() { f.watch(h, peer, eventsIdle, over, func() { close(broken) }) })
	// Up comes before anything that is sent from now on; what waited goes first.
	l.mu.Lock()
	for _, frame := range l.waiting {
		lane.push(frame, nil, laneBytes)
	}
	l.waiting = nil
	l.accepting, l.lane = true, lane
	l.mu.Unlock()
	h.handler.Up(peer.Peer)
	select {
	case <-broken:
	case <-lane.done:
	case <-l.overflow:
	case <-h.ctx.Done():
	}
}

// dial finds the peer and reaches it with the first packet after the handshake,
// nil if not in time.
func (h *Host) dial(ctx context.Context, to string, within time.Duration) *Host {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	peer := h.find(ctx, to)
	if peer == nil || !sleep(ctx, h.net.delay(h, peer)+h.net.delay(peer, h)+h.net.delay(h, peer)) {
		return nil
	}
	return peer
}

// find waits until there is such a process and the ways to it and back are open.
func (h *Host) find(ctx context.Context, to string) *Host {
	for ctx.Err() == nil {
		h.net.mu.Lock()
		peer, changed := h.net.hosts[to], h.net.changed
		h.net.mu.Unlock()
		if peer != nil {
			if open, _ := h.net.bothWays(h, peer); open {
				return peer
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// arrival is the receiving end of a peer's events link.
type arrival struct {
	incarnation uint64
	lane        *lane
	gone        chan struct{} // Left was told
}

// arrive takes a peer's new events link, in place of an older one. False: this
// process is dead, or the peer's successor is here already.
func (h *Host) arrive(from *Host, l *lane) bool {
	a := &arrival{from.Incarnation, l, make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.reading[from.Name]
	if h.closed || old != nil && old.incarnation > from.Incarnation {
		return false
	}
	h.reading[from.Name] = a
	h.work.Go(func() {
		if old != nil {
			old.lane.end(ErrReset)
			<-old.gone
		}
		defer close(a.gone)
		h.receive(from, a)
	})
	return true
}

func (h *Host) receive(from *Host, a *arrival) {
	if h.ctx.Err() != nil {
		return
	}
	over := make(chan struct{})
	defer close(over)
	h.work.Go(func() { // a peer that was killed ends nothing by itself
		h.net.watch(h, from, eventsIdle, over, func() { a.lane.end(ErrReset) })
	})
	h.handler.Joined(from.Peer)
	for {
		frame, err := a.lane.next(h.ctx)
		if h.ctx.Err() != nil {
			return
		}
		if err != nil {
			h.late(from.Name, a)
			if h.ctx.Err() == nil {
				h.handler.Left(from.Peer)
			}
			return
		}
		h.handler.Frame(from.Peer, frame)
	}
}

// late: the two ends of a link notice its end at different times, unless a new
// link has taken its place.
func (h *Host) late(from string, a *arrival) {
	deadline := time.Now().Add(h.net.random(500 * time.Millisecond))
	for time.Now().Before(deadline) {
		h.mu.Lock()
		replaced := h.reading[from] != a
		h.mu.Unlock()
		if replaced || !sleep(h.ctx, 10*time.Millisecond) {
			return
		}
	}
}

// SendDatagram sends what may be lost; see peerlink.Links.SendDatagram.
func (h *Host) SendDatagram(to string, frame []byte) error {
	h.mu.Lock()
	first := !h.known[to]
	h.known[to] = true
	h.mu.Unlock()
	peer := h.net.find(to)
	if first || peer == nil {
		return ErrDown
	}
	if h.net.lost() {
		return nil
	}
	frame = append([]byte(nil), frame...)
	peer.run(func() {
		if !sleep(peer.ctx, h.net.delay(h, peer)) || !h.net.unheld(peer.ctx, h, peer) {
			return
		}
		if open, _ := h.net.open(h, peer); open {
			peer.handler.Datagram(h.Peer, frame)
		}
	})
	return nil
}

// unheld waits while an end is held: what the kernel has stays there.
func (f *Fabric) unheld(ctx context.Context, a, b *Host) bool {
	for {
		f.mu.Lock()
		held, changed := f.held[a.Name] || f.held[b.Name], f.changed
		f.mu.Unlock()
		if !held {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// control is the control link to one peer: what calls and streams live on.
type control struct {
	// dialling is full while somebody dials: others wait for that. It is no
	// mutex, since under synctest time stands still while one is waited for.
	dialling chan struct{}
	peer     *Host
	ctx      context.Context // ends with the link
}

// reach returns the control link to a peer, dialled once if it is down.
func (h *Host) reach(ctx context.Context, to string) (*Host, context.Context, error) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil, nil, ErrKilled
	}
	c := h.controls[to]
	if c == nil {
		c = &control{dialling: make(chan struct{}, 1)}
		h.controls[to] = c
	}
	h.mu.Unlock()
	select {
	case c.dialling <- struct{}{}:
		defer func() { <-c.dialling }()
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("%w: %w: %s: %w", ErrDown, ErrUnsent, to, ctx.Err())
	}
	if c.ctx != nil && c.ctx.Err() == nil {
		return c.peer, c.ctx, nil
	}
	began := time.Now()
	peer := h.dial(ctx, to, controlIdle)
	if peer == nil {
		sleep(ctx, controlRedial-time.Since(began))
		return nil, nil, fmt.Errorf("%w: %w: %s", ErrDown, ErrUnsent, to)
	}
	life, cancel := context.WithCancel(h.ctx)
	if !h.run(func() {
		defer cancel()
		idle := controlIdle
		if h.Place != peer.Place {
			idle = eventsIdle
		}
		h.net.watch(h, peer, idle, life.Done(), cancel)
	}) {
		cancel()
		return nil, nil, ErrKilled
	}
	c.peer, c.ctx = peer, life
	return peer, life, nil
}

// Open opens a stream to a peer, whose handler serves it; see
// peerlink.Links.Open.
func (h *Host) Open(ctx context.Context, to string) (io.ReadWriteCloser, error) {
	peer, life, err := h.reach(ctx, to)
	if err != nil {
		return nil, err
	}
	mine, theirs := connect(h, peer)
	s := &stream{Pipe: mine}
	serving, cancel := context.WithCancel(peer.ctx)
	stop := []func() bool{
		context.AfterFunc(life, func() { mine.Break(ErrDown) }),
		context.AfterFunc(ctx, func() { mine.Break(context.Cause(ctx)) }),
	}
	s.stop = func() {
		for _, f := range stop {
			f()
		}
	}
	ok := peer.run(func() {
		defer cancel()
		gone := context.AfterFunc(serving, func() { theirs.Break(ErrDown) })
		defer gone()
		over := context.AfterFunc(life, cancel) // the link's end is that of what it carries
		defer over()
		if err := peer.handler.Stream(serving, h.Peer, theirs); err != nil {
			theirs.Break(err)
			return
		}
		theirs.Finish(io.EOF)
	})
	if !ok {
		cancel()
		s.stop()
		return nil, fmt.Errorf("%w: %w: %s", ErrDown, ErrUnsent, to)
	}
	return s, nil
}

// stream is what Open returns.
type stream struct {
	*Pipe
	stop func()
}

// Close ends the stream: what was written still arrives.
func (s *stream) Close() error {
	s.stop()
	s.Finish(io.EOF)
	return nil
}

// Call sends a request and waits for the answer; see peerlink.Links.Call.
func (h *Host) Call(ctx context.Context, to string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	peer, life, err := h.reach(ctx, to)
	if err != nil {
		return nil, err
	}
	mine, theirs := connect(h, peer)
	defer mine.Break(io.EOF)
	defer context.AfterFunc(life, func() { mine.Break(ErrDown) })()
	var refused error // written before the answer is sent
	mine.Send(request)
	ok := peer.run(func() {
		ctx, cancel := context.WithCancel(peer.ctx)
		defer cancel()
		request, err := theirs.Receive(ctx)
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { theirs.Break(ErrKilled) })
		defer stop()
		peer.work.Go(func() {
			select {
			case <-theirs.out.done: // the caller gave up
			case <-ctx.Done():
			}
			cancel()
		})
		answer, err := peer.handler.Call(ctx, h.Peer, request)
		refused = err
		theirs.Send(answer)
	})
	if !ok {
		return nil, fmt.Errorf("%w: %w: %s", ErrDown, ErrUnsent, to)
	}
	answer, err := mine.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return answer, refused
}
