package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/roster"
)

const (
	seenQueue = 1 << 16 // devices of which something is still to be noted; of more it is with their next sign of life
	seenKeep  = 1 << 16 // devices of which it is remembered what was noted, so that it is noted once
	seenLanes = 16      // under way at once
)

// seen is what another region said of a device.
type seen struct {
	epoch  regions.Epoch
	region regions.RegionID
}

// device is the key of what was said.
type device struct{ user, id string }

// sightings is what other regions said of devices and the region is still to
// note: the highest epoch of each, so it is bounded by the number of devices.
type sightings struct {
	wake chan struct{}

	mu    sync.Mutex // guards the following
	of    map[device]seen
	queue []device // each once, but for those under way
	noted map[device]regions.Epoch
}

func (s *sightings) init() {
	s.wake, s.of, s.noted = make(chan struct{}, 1), map[device]seen{}, map[device]regions.Epoch{}
}

// Seen notes that another region has, or had, a session of a device, so that one
// here gets a higher epoch, also if clocks differ and the device has forgotten
// what it had; one here that is lower ends. It does not block, may be called for
// the same again and again, and is not given up.
func (c *Cluster) Seen(id regions.SessionID, region regions.RegionID) {
	d := device{id.User, id.Device}
	s := &c.sightings
	s.mu.Lock()
	defer s.mu.Unlock()
	was, waits := s.of[d]
	switch {
	case id.Epoch <= max(was.epoch, s.noted[d]):
		return
	case !waits && len(s.of) >= seenQueue:
		c.metrics.unseen.Inc()
		return
	case !waits:
		s.queue = append(s.queue, d)
		wake(s.wake)
	}
	s.of[d] = seen{id.Epoch, region}
}

// next takes a device off the queue.
func (s *sightings) next() (d device, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.queue = nil
		return d, false
	}
	d, s.queue = s.queue[0], s.queue[1:]
	return d, true
}

// Newest returns the epoch of the newest session that a device had in this
// region; 0 if it had none, or that was forgotten.
func (c *Cluster) Newest(user, device string) (epoch regions.Epoch) {
	c.View(func(s *roster.State, _ uint64) {
		if x := s.Device(user, device); x != nil {
			epoch = x.Epoch
		}
	})
	return epoch
}

// noteSeen has the region know of them.
func (c *Cluster) noteSeen(ctx context.Context) {
	free := make(chan struct{}, seenLanes)
	for {
		select {
		case <-c.sightings.wake:
		case <-ctx.Done():
			return
		}
		for d, ok := c.sightings.next(); ok; d, ok = c.sightings.next() {
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return
			}
			c.life.Go(func() {
				c.noteOne(ctx, d)
				<-free
			})
		}
	}
}

// noteOne has the region know of one.
func (c *Cluster) noteOne(ctx context.Context, d device) {
	s := &c.sightings
	for wait := retryPause; ; wait = min(2*wait, time.Second) {
		s.mu.Lock()
		now := s.of[d]
		s.mu.Unlock()
		attempt, cancel := context.WithTimeout(ctx, patience)
		_, err := c.deviceSeen(attempt, regions.SessionID{User: d.user, Device: d.id, Epoch: now.epoch}, now.region)
		cancel()
		if err != nil {
			if !pause(ctx, wait) {
				return
			}
			continue
		}
		s.mu.Lock()
		if len(s.noted) >= seenKeep {
			clear(s.noted)
		}
		s.noted[d] = now.epoch
		over := s.of[d] == now
		if over {
			delete(s.of, d)
		}
		s.mu.Unlock()
		if over {
			return
		}
	}
}

func (c *Cluster) deviceSeen(ctx context.Context, id regions.SessionID, region regions.RegionID) (*peer.RosterAnswer, error) {
	return c.ask(ctx, &peer.RosterCommand{Body: &peer.RosterCommand_DeviceSeen{DeviceSeen: &peer.DeviceSeen{
		User: id.User, Device: id.Device, Region: string(region), Epoch: uint64(id.Epoch),
	}}})
}

// Moved is Seen for a region that waits for the answer: the device went live
// there under this epoch, so its session here is over.
func (c *Cluster) Moved(ctx context.Context, id regions.SessionID, region regions.RegionID) error {
	a, err := c.deviceSeen(ctx, id, region)
	switch {
	case err != nil:
		return forClient(nil, err)
	case a.Code == peer.RosterCode_ROSTER_INVALID:
		return errs.New(errs.Invalid, "invalid_device", "no such device or epoch")
	case a.Code != peer.RosterCode_ROSTER_OK && a.Code != peer.RosterCode_ROSTER_TOO_MANY: // then there is no session here
		return fmt.Errorf("cluster: device seen: %v", a.Code)
	}
	return nil
}

// CameFrom returns the region where the device had its session before this one;
// "" if that was here, or nothing is known of another.
func (c *Cluster) CameFrom(id regions.SessionID) (from regions.RegionID) {
	c.View(func(s *roster.State, _ uint64) {
		if x := s.Device(id.User, id.Device); x != nil {
			from = x.Before(id.Epoch)
		}
	})
	return from
}
