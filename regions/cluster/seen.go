package cluster

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

const (
	seenQueue = 1024 // of what is still to be told; more is told with the device's next sign of life
	seenKeep  = 8192 // of what was told, so that it is told once
	seenTries = 5
)

// seen is what another region said of a device.
type seen struct {
	regions.SessionID
	region regions.RegionID
}

// Seen notes that another region issued an epoch for a device that is ahead of
// the clock, so that a session of that device here gets a higher one, also if
// the device has forgotten it. It does not block, and may be called for the same
// again and again.
func (c *Cluster) Seen(id regions.SessionID, region regions.RegionID) {
	select {
	case c.seen <- seen{id, region}:
	default:
	}
}

// noteSeen has the region know of them.
func (c *Cluster) noteSeen(ctx context.Context) {
	type device struct{ user, id string }
	told := map[device]regions.Epoch{}
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
		command := &peer.RosterCommand{Body: &peer.RosterCommand_DeviceSeen{DeviceSeen: &peer.DeviceSeen{
			User: s.User, Device: s.Device, Region: string(s.region), Epoch: uint64(s.Epoch),
		}}}
		for range seenTries {
			attempt, cancel := context.WithTimeout(ctx, time.Second)
			_, err := c.ask(attempt, command)
			cancel()
			if err == nil {
				if len(told) >= seenKeep {
					clear(told)
				}
				told[d] = s.Epoch
				break
			}
			if !pause(ctx, retryPause) {
				return
			}
		}
	}
}
