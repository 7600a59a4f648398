package cluster

import (
	"context"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

const (
	seenQueue = 4096  // of what is still to be told; more is told with the device's next sign of life
	seenKeep  = 65536 // of what was told, so that it is told once
	seenTries = 5
	seenLanes = 16 // under way at once
)

// seen is what another region said of a device.
type seen struct {
	regions.SessionID
	region regions.RegionID
}

// Seen notes that another region has, or had, a session of a device, so that one
// here gets a higher epoch, also if clocks differ and the device has forgotten
// what it had. It does not block, and may be called for the same again and again.
func (c *Cluster) Seen(id regions.SessionID, region regions.RegionID) {
	select {
	case c.seen <- seen{id, region}:
	default:
	}
}

// device is the key of what was told.
type device struct{ user, id string }

// noteSeen has the region know of them.
func (c *Cluster) noteSeen(ctx context.Context) {
	told := map[device]regions.Epoch{}
	free := make(chan struct{}, seenLanes)
	for {
		var s seen
		select {
		case s = <-c.seen:
		case <-ctx.Done():
			return
		}
		d := device{s.User, s.Device}
		if told[d] >= s.Epoch {
			continue
		}
		if len(told) >= seenKeep {
			clear(told)
		}
		told[d] = s.Epoch
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c.life.Go(func() {
			c.tellSeen(ctx, s)
			<-free
		})
	}
}

// tellSeen tells one; what fails for long is left to the device's next sign of
// life under another epoch.
func (c *Cluster) tellSeen(ctx context.Context, s seen) {
	command := &peer.RosterCommand{Body: &peer.RosterCommand_DeviceSeen{DeviceSeen: &peer.DeviceSeen{
		User: s.User, Device: s.Device, Region: string(s.region), Epoch: uint64(s.Epoch),
	}}}
	for range seenTries {
		attempt, cancel := context.WithTimeout(ctx, patience)
		_, err := c.ask(attempt, command)
		cancel()
		if err == nil || !pause(ctx, retryPause) {
			return
		}
	}
}
