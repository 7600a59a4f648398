package media

import (
	"context"
	"sync"

	"github.com/pion/webrtc/v4"

	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// Direct is a call without a server: each participant who publishes has a connection to
// each of the others, in the same process. What a packet takes there is what the
// participants and the machine are the cause of: their encryption, the kernel, and the
// wait for a core.
type Direct struct {
	mu      sync.Mutex // guards the following
	members []*directClient
	conns   []*webrtc.PeerConnection
}

// OpenDirect makes one.
func OpenDirect() *Direct { return &Direct{} }

// PID says that there is none.
func (d *Direct) PID() int { return 0 }

// Close ends all connections.
func (d *Direct) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

type directClient struct {
	call *Direct
	on   Events

	tracks []sfutest.Track // guarded by call.mu
}

// Join takes part.
func (d *Direct) Join(_ context.Context, _ string, on Events) (Connection, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &directClient{call: d, on: on}
	for _, m := range d.members {
		if err := d.connectLocked(m, c); err != nil {
			return nil, err
		}
	}
	d.members = append(d.members, c)
	return c, nil
}

// connectLocked has one send what it publishes to another.
func (d *Direct) connectLocked(from, to *directClient) error {
	if len(from.tracks) == 0 {
		return nil
	}
	var ends [2]*webrtc.PeerConnection
	for i := range ends {
		c, err := (sfutest.Options{}).Connection()
		if err != nil {
			return err
		}
		ends[i] = c
		d.conns = append(d.conns, c)
	}
	for _, t := range from.tracks {
		tr, err := ends[0].AddTransceiverFromTrack(t.Layers[0], webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return err
		}
		go drain(tr.Sender())
	}
	ends[1].OnTrack(to.on.Track)
	offer, err := ends[0].CreateOffer(nil)
	if err != nil {
		return err
	}
	if offer, err = described(ends[0], offer); err != nil {
		return err
	}
	if err := ends[1].SetRemoteDescription(offer); err != nil {
		return err
	}
	answer, err := ends[1].CreateAnswer(nil)
	if err != nil {
		return err
	}
	if answer, err = described(ends[1], answer); err != nil {
		return err
	}
	return ends[0].SetRemoteDescription(answer)
}

// described sets a local description, and returns it with all candidates.
func described(c *webrtc.PeerConnection, d webrtc.SessionDescription) (webrtc.SessionDescription, error) {
	gathered := webrtc.GatheringCompletePromise(c)
	if err := c.SetLocalDescription(d); err != nil {
		return d, err
	}
	<-gathered
	return *c.LocalDescription(), nil
}

func (c *directClient) Publish(_ context.Context, tracks ...sfutest.Track) error {
	c.call.mu.Lock()
	defer c.call.mu.Unlock()
	c.tracks = tracks
	for _, m := range c.call.members {
		if m != c {
			if err := c.call.connectLocked(c, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close leaves its connections to the call.
func (c *directClient) Close() {}
