package peerlink

import (
	"context"
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/quic-go/quic-go"

	"github.com/mustermesh/muster/regions"
)

// datagramsLink is the lossy link to one peer. Its queue stands before
// quic-go's own (32 frames, and adding to a full one blocks): here the oldest
// frame makes room, since a newer fix is worth more.
type datagramsLink struct {
	wake    chan struct{}
	traffic traffic
	dropped prometheus.Counter

	mu        sync.Mutex
	accepting bool     // the link is up: a frame that waits for a dial is old when it leaves
	ring      [][]byte // buffers, reused
	head, len int
}

func newDatagramsLink(l *Links, region regions.RegionID) *datagramsLink {
	return &datagramsLink{
		wake: make(chan struct{}, 1), ring: make([][]byte, l.cfg.QueueDatagrams),
		traffic: l.metrics.traffic("out", datagrams, region),
		dropped: l.metrics.dropped,
	}
}

func (d *datagramsLink) push(frame []byte) error {
	d.mu.Lock()
	if !d.accepting {
		d.mu.Unlock()
		d.dropped.Inc()
		return ErrDown
	}
	if d.len == len(d.ring) {
		d.head, d.len = (d.head+1)%len(d.ring), d.len-1
		d.dropped.Inc()
	}
	slot := &d.ring[(d.head+d.len)%len(d.ring)]
	*slot = append((*slot)[:0], frame...)
	d.len++
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

// pop takes the oldest frame and leaves spare in its place.
func (d *datagramsLink) pop(spare []byte) ([]byte, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.len == 0 {
		return spare, false
	}
	frame := d.ring[d.head]
	d.ring[d.head] = spare
	d.head, d.len = (d.head+1)%len(d.ring), d.len-1
	return frame, true
}

func (d *datagramsLink) serve(ctx context.Context, c *dialled) error {
	d.mu.Lock()
	d.accepting = true
	d.mu.Unlock()
	var frame []byte
	var ok bool
	for {
		if frame, ok = d.pop(frame); !ok {
			select {
			case <-d.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			case <-c.Context().Done():
				return context.Cause(c.Context())
			}
		}
		err := c.SendDatagram(frame)
		var large *quic.DatagramTooLargeError
		switch {
		case errors.As(err, &large): // the path got narrower: the next may fit
			d.dropped.Inc()
		case err != nil:
			return err
		default:
			d.traffic.count(len(frame))
		}
	}
}

func (d *datagramsLink) down(error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropped.Add(float64(d.len))
	d.accepting, d.head, d.len = false, 0, 0
}
