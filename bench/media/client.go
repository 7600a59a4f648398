package media

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/media/sfu"
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

// Meter is what all receivers of a run note.
type Meter struct {
	On       atomic.Bool
	Received atomic.Int64
	Delay    *loadgen.Latencies
}

// Client is a participant.
type Client struct {
	base, name string
	meter      *Meter
	rtc        *sfutest.Client
	cancel     context.CancelFunc
	over       chan struct{}
	failed     atomic.Pointer[error]
	flows      atomic.Int64 // tracks of which something came
	sent       *atomic.Int64
	senders    sync.WaitGroup
}

// Join takes part in the call of a server.
func Join(ctx context.Context, base, name string, m *Meter, sent *atomic.Int64) (*Client, error) {
	c := &Client{base: base, name: name, meter: m, over: make(chan struct{}), sent: sent}
	ctx, c.cancel = context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/join?name="+url.QueryEscape(name), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("join the call: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("join the call: %s", resp.Status)
	}
	if c.rtc, err = sfutest.New(sfutest.Options{}, c.send); err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	c.rtc.OnTrack(c.receive)
	go func() {
		defer close(c.over)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var d wire.CallDescription
			err := protojson.Unmarshal(lines.Bytes(), &d)
			if err == nil {
				err = c.rtc.Receive(&d)
			}
			if err != nil {
				c.failed.CompareAndSwap(nil, &err)
			}
		}
	}()
	return c, nil
}

func (c *Client) send(d *wire.CallDescription) error {
	b, err := protojson.Marshal(d)
	if err != nil {
		return err
	}
	resp, err := http.Post(c.base+"/describe?name="+url.QueryEscape(c.name), "application/json", bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1_000))
		return errors.New(string(b))
	}
	return nil
}

// Err is what went wrong, if something did.
func (c *Client) Err() error {
	if err := c.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Close leaves.
func (c *Client) Close() {
	c.cancel()
	c.rtc.Close()
	<-c.over
	c.senders.Wait()
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
	if err := c.rtc.Publish(tracks...); err != nil {
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

// Stats asks the server what it did.
func Stats(ctx context.Context, base string) (s sfu.Stats, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/stats", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}
