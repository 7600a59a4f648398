package host

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/regions"
)

// counts are what /metrics shows of calls beside the SFU's own.
type counts struct {
	repaired, asked, lost  atomic.Uint64 // between nodes
	tooLarge, garbled      atomic.Uint64
	tails                  atomic.Uint64
	dropped                atomic.Uint64 // frames of other SFUs
	out, outBytes          atomic.Uint64 // packets to other nodes
	in, inBytes            atomic.Uint64
	floorAsks, floorGrants atomic.Uint64
	floorRefused           atomic.Uint64
}

func (c *counts) sent(n int) { c.out.Add(1); c.outBytes.Add(uint64(n)) }
func (c *counts) got(n int)  { c.in.Add(1); c.inBytes.Add(uint64(n)) }

func (c *counts) floor(a regions.FloorAnswer, err error) {
	c.floorAsks.Add(1)
	switch {
	case err != nil:
		c.floorRefused.Add(1)
	case a.Standing == regions.FloorYours:
		c.floorGrants.Add(1)
	}
}

// register shows them. reg may be nil.
func (h *Host) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	counter := func(name, help string, v *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(v.Load()) })
	}
	for _, c := range []prometheus.Collector{
		gauge("muster_media_calls", "Calls that this node is the SFU of.", func() float64 { return float64(h.Calls()) }),
		gauge("muster_media_participants", "Participants of calls at this node.", func() float64 {
			h.mu.RLock()
			defer h.mu.RUnlock()
			n := 0
			for _, of := range h.at {
				n += len(of)
			}
			return float64(n)
		}),
		gauge("muster_media_remote_tracks", "Tracks of other nodes that are had here.", func() float64 {
			h.mu.RLock()
			defer h.mu.RUnlock()
			return float64(len(h.remotes))
		}),
		counter("muster_media_cascade_sent_packets_total", "Media packets sent to other nodes.", &h.counts.out),
		counter("muster_media_cascade_sent_bytes_total", "Bytes of media sent to other nodes.", &h.counts.outBytes),
		counter("muster_media_cascade_received_packets_total", "Media packets of other nodes.", &h.counts.in),
		counter("muster_media_cascade_received_bytes_total", "Bytes of media of other nodes.", &h.counts.inBytes),
		counter("muster_media_cascade_repaired_total", "Datagrams of media that were sent to another node again.", &h.counts.repaired),
		counter("muster_media_cascade_tails_total", "Datagrams that told another node how far a track had come.", &h.counts.tails),
		counter("muster_media_cascade_asked_total", "Requests for such.", &h.counts.asked),
		counter("muster_media_cascade_lost_total", "Datagrams of media of other nodes that never came.", &h.counts.lost),
		counter("muster_media_cascade_oversized_total", "Packets that were too large for another node.", &h.counts.tooLarge),
		counter("muster_media_cascade_malformed_total", "Datagrams of other nodes that made no sense.", &h.counts.garbled),
		counter("muster_media_dropped_frames_total", "Frames of other SFUs that a busy call did not take.", &h.counts.dropped),
		counter("muster_media_floor_asked_total", "Times a talk floor was asked for, renewals included.", &h.counts.floorAsks),
		counter("muster_media_floor_held_total", "Times it was granted or renewed.", &h.counts.floorGrants),
		counter("muster_media_floor_failed_total", "Times the call's home region did not answer.", &h.counts.floorRefused),
	} {
		if err := reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}
