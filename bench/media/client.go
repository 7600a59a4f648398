package media

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// Load is what a publisher sends.
type Load struct {
	Audio     float64 // packets a second
	AudioSize int
	Frames    float64 // of video a second; 0: none
	PerFrame  int     // packets
	VideoSize int
}

// Bits are the payload's, a second.
func (l Load) Bits() float64 {
	return 8 * (l.Audio*float64(l.AudioSize) + l.Frames*float64(l.PerFrame*l.VideoSize))
}

// Meter is what all receivers of a run note.
type Meter struct {
	On       atomic.Bool
	Received atomic.Int64
	Delay    *loadgen.Latencies
}

// Call is one call on some server.
type Call interface {
	// Join takes part in it.
	Join(ctx context.Context, name string, on Events) (Connection, error)
	// PID is the server's process; 0: there is none.
	PID() int
	// Close ends it.
	Close()
}

// Events are what a participant is told. They come from any goroutine.
type Events struct {
	Track  func(*webrtc.TrackRemote, *webrtc.RTPReceiver) // something comes; it may return when that has ended
	Failed func(error)
}

// Connection is a participant's, to a server.
type Connection interface {
	// Publish sends tracks, once.
	Publish(ctx context.Context, tracks ...sfutest.Track) error
	Close()
}

// Client is a participant.
type Client struct {
	name    string
	meter   *Meter
	on      Connection
	failed  atomic.Pointer[error]
	flows   atomic.Int64 // tracks of which something came
	sent    *atomic.Int64
	senders sync.WaitGroup
}

// Join takes part in a call.
func Join(ctx context.Context, call Call, name string, m *Meter, sent *atomic.Int64) (c *Client, err error) {
	c = &Client{name: name, meter: m, sent: sent}
	if c.on, err = call.Join(ctx, name, Events{Track: c.receive, Failed: func(err error) { c.failed.CompareAndSwap(nil, &err) }}); err != nil {
		return nil, fmt.Errorf("join the call: %w", err)
	}
	return c, nil
}

// Err is what went wrong, if something did.
func (c *Client) Err() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Close leaves. What it published has to have ended.
func (c *Client) Close() {
	c.senders.Wait()
	c.on.Close()
}

// Flowing is of how many tracks something has come.
func (c *Client) Flowing() int { return int(c.flows.Load()) }

// Payloads begin with a VP8 descriptor and the first byte of a frame, then the time at
// which they were sent.
const stampAt = 2

func (c *Client) receive(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	b := make([]byte, 1_600)
	var h rtp.Header
	first := true
	for {
		n, _, err := t.Read(b)
		if err != nil {
			return
		}
		if first {
			c.flows.Add(1)
			first = false
		}
		if !c.meter.On.Load() {
			continue
		}
		at, err := h.Unmarshal(b[:n])
		if err != nil || n < at+stampAt+8 {
			continue
		}
		c.meter.Received.Add(1)
		c.meter.Delay.Record(time.Duration(time.Now().UnixNano() - int64(binary.BigEndian.Uint64(b[at+stampAt:]))))
	}
}

// Publish sends a load until ctx ends.
func (c *Client) Publish(ctx context.Context, l Load) error {
	audio, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48_000, Channels: 2}, "mic", c.name)
	if err != nil {
		return err
	}
	tracks := []sfutest.Track{{Source: wire.CallSource_MIC, Layers: []*webrtc.TrackLocalStaticRTP{audio}}}
	var video *webrtc.TrackLocalStaticRTP
	if l.Frames > 0 {
		if video, err = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90_000}, "camera", c.name); err != nil {
			return err
		}
		tracks = append(tracks, sfutest.Track{Source: wire.CallSource_CAMERA, Layers: []*webrtc.TrackLocalStaticRTP{video}})
	}
	if err := c.on.Publish(ctx, tracks...); err != nil {
		return err
	}
	c.senders.Go(func() { c.stream(ctx, audio, l.Audio, 1, l.AudioSize, 48_000) })
	if video != nil {
		c.senders.Go(func() { c.stream(ctx, video, l.Frames, l.PerFrame, l.VideoSize, 90_000) })
	}
	return nil
}

func (c *Client) stream(ctx context.Context, t *webrtc.TrackLocalStaticRTP, rate float64, burst, size int, clock float64) {
	p := &rtp.Packet{Header: rtp.Header{Version: 2}, Payload: make([]byte, size)}
	frame := 0
	_ = loadgen.Open(ctx, time.Now(), time.Duration(float64(time.Second)/rate), 1<<40, func(int, time.Time) {
		for i := range burst {
			p.Marker = i == burst-1
			p.Payload[0], p.Payload[1] = 0, 1
			if i == 0 {
				p.Payload[0] = 0x10
				if frame%30 == 0 {
					p.Payload[1] = 0 // a key frame
				}
			}
			binary.BigEndian.PutUint64(p.Payload[stampAt:], uint64(time.Now().UnixNano()))
			if t.WriteRTP(p) == nil && c.meter.On.Load() {
				c.sent.Add(1)
			}
			p.SequenceNumber++
		}
		frame++
		p.Timestamp += uint32(clock / rate)
	})
}
