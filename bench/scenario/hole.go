package scenario

import (
	"context"
	"sync"

	"github.com/mustermesh/muster/client"
)

// holes are regions that clients can't reach any more: what they send vanishes,
// nothing comes back, and no connection is closed, as in a network that drops
// everything.
type holes struct {
	mu  sync.Mutex               // guards the following
	way map[string]chan struct{} // by region: closed once it is a hole
}

func newHoles(regions []string) *holes {
	h := &holes{way: map[string]chan struct{}{}}
	for _, r := range regions {
		h.way[r] = make(chan struct{})
	}
	return h
}

// dig makes a region a hole.
func (h *holes) dig(region string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.way[region])
}

func (h *holes) of(region string) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.way[region]
}

// around returns a Dialer whose connections can fall into the holes.
func (h *holes) around(d *client.Dialer) *client.Dialer {
	return &client.Dialer{Dial: func(ctx context.Context, ep client.Endpoint) (client.Conn, error) {
		gone := h.of(ep.Region)
		dialed := make(chan client.Conn, 1)
		failed := make(chan error, 1)
		dialing, cancel := context.WithCancel(ctx)
		defer cancel() // of no consequence to a connection that is up
		go func() {
			c, err := d.Connect(dialing, ep)
			if err != nil {
				failed <- err
			} else {
				dialed <- c
			}
		}()
		select {
		case <-gone: // silence, until the dialler gives up
			<-ctx.Done()
		case c := <-dialed:
			return &perishable{Conn: c, gone: gone}, nil
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
		}
		cancel()
		select { // it ends by the cancel
		case c := <-dialed:
			c.Close(0)
		case <-failed:
		}
		return nil, context.Cause(ctx)
	}}
}

// perishable is a connection that can fall into a hole.
type perishable struct {
	client.Conn
	gone <-chan struct{}
}

func (c *perishable) lost() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

// Receive hands on what comes until the region is lost; then nothing comes.
func (c *perishable) Receive(ctx context.Context, handle func([]byte)) error {
	err := c.Conn.Receive(ctx, func(body []byte) {
		if !c.lost() {
			handle(body)
		}
	})
	if c.lost() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return err
}

// Write gives the frames to the network, which has buffers.
func (c *perishable) Write(ctx context.Context, frames []byte) error {
	if c.lost() {
		return nil
	}
	return c.Conn.Write(ctx, frames)
}

func (c *perishable) Datagram(body []byte) error {
	if c.lost() {
		return nil
	}
	return c.Conn.Datagram(body)
}

// Close closes it here. A server that is lost hears nothing of it; that is so if
// its connection breaks, too, which it tells nobody who can be reached.
func (c *perishable) Close(number int) {
	if c.lost() {
		number = 0
	}
	c.Conn.Close(number)
}
