// Package sfutest is the other end of media/sfu, for its tests and for the benchmark: a
// participant made of two connections of pion/webrtc.
package sfutest

import (
	"fmt"
	"net"
	"sync"

	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"github.com/mustermesh/muster/api/wire"
)

// Options say how a client connects. The zero value uses UDP on the loopback.
type Options struct {
	// Conn is the socket of each connection; nil: pion opens them.
	Conn func() net.PacketConn
	TCP  bool // only
	// Plain leaves out what pion does by itself for lost packets and feedback.
	Plain bool
}

// Client is a participant.
type Client struct {
	Up, Down *webrtc.PeerConnection
	send     func(*wire.CallDescription) error

	mu      sync.Mutex // guards the following
	n       uint64     // of the last offer for "up"
	media   []*wire.CallMedia
	ontrack func(*webrtc.TrackRemote, *webrtc.RTPReceiver)
}

// New makes one that gives its descriptions to send.
func New(o Options, send func(*wire.CallDescription) error) (*Client, error) {
	c := &Client{send: send}
	var err error
	if c.Up, err = o.Connection(); err != nil {
		return nil, err
	}
	if c.Down, err = o.Connection(); err != nil {
		return nil, err
	}
	c.Down.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		c.mu.Lock()
		f := c.ontrack
		c.mu.Unlock()
		if f != nil {
			f(t, r)
		}
	})
	return c, nil
}

// Connection makes one, of which a participant of another server can be made, too.
func (o Options) Connection() (*webrtc.PeerConnection, error) {
	var m webrtc.MediaEngine
	if err := m.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	// Browsers, too, ask for lost audio only when their descriptions say that they do.
	m.RegisterFeedback(webrtc.RTCPFeedback{Type: "nack"}, webrtc.RTPCodecTypeAudio)
	var se webrtc.SettingEngine
	logs := logging.NewDefaultLoggerFactory()
	logs.DefaultLogLevel = logging.LogLevelDisabled
	se.LoggerFactory = logs
	se.SetIncludeLoopbackCandidate(true)
	se.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if o.TCP {
		se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	} else if o.Conn != nil {
		se.SetICEUDPMux(webrtc.NewICEUDPMux(nil, o.Conn()))
	}
	var r interceptor.Registry
	if !o.Plain {
		if err := webrtc.RegisterDefaultInterceptors(&m, &r); err != nil {
			return nil, err
		}
	}
	if err := webrtc.ConfigureSimulcastExtensionHeaders(&m); err != nil {
		return nil, err
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(&m), webrtc.WithSettingEngine(se), webrtc.WithInterceptorRegistry(&r)).NewPeerConnection(webrtc.Configuration{})
}

// OnTrack has f called for what comes on "down".
func (c *Client) OnTrack(f func(*webrtc.TrackRemote, *webrtc.RTPReceiver)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ontrack = f
}

// Track is something to be sent: one track, or one per layer.
type Track struct {
	Source wire.CallSource
	Layers []*webrtc.TrackLocalStaticRTP
}

// Publish offers tracks for "up", with those before.
func (c *Client) Publish(tracks ...Track) error {
	var added []*webrtc.RTPTransceiver
	for _, t := range tracks {
		tr, err := c.Up.AddTransceiverFromTrack(t.Layers[0], webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return err
		}
		for _, l := range t.Layers[1:] {
			if err := tr.Sender().AddEncoding(l); err != nil {
				return err
			}
		}
		go drain(tr.Sender())
		added = append(added, tr)
	}
	return c.offer(nil, func() {
		for i, tr := range added {
			c.media = append(c.media, &wire.CallMedia{Mid: tr.Mid(), Source: tracks[i].Source})
		}
	})
}

// Restart restarts ICE of "up".
func (c *Client) Restart() error { return c.offer(&webrtc.OfferOptions{ICERestart: true}, func() {}) }

func drain(s *webrtc.RTPSender) {
	b := make([]byte, 1_500)
	for {
		if _, _, err := s.Read(b); err != nil {
			return
		}
	}
}

func (c *Client) offer(o *webrtc.OfferOptions, named func()) error {
	offer, err := c.Up.CreateOffer(o)
	if err != nil {
		return err
	}
	if err := c.Up.SetLocalDescription(offer); err != nil {
		return err
	}
	c.mu.Lock()
	named()
	c.n++
	d := &wire.CallDescription{Connection: wire.CallDescription_UP, N: c.n, Offer: true, Sdp: c.Up.LocalDescription().SDP, Media: c.media}
	c.mu.Unlock()
	return c.send(d)
}

// Receive takes a description of the server.
func (c *Client) Receive(d *wire.CallDescription) error {
	if d.GetConnection() == wire.CallDescription_UP {
		return c.Up.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: d.GetSdp()})
	}
	if err := c.Down.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: d.GetSdp()}); err != nil {
		return fmt.Errorf("the server's offer: %w", err)
	}
	answer, err := c.Down.CreateAnswer(nil)
	if err != nil {
		return err
	}
	if err := c.Down.SetLocalDescription(answer); err != nil {
		return err
	}
	return c.send(&wire.CallDescription{Connection: wire.CallDescription_DOWN, N: d.GetN(), Sdp: c.Down.LocalDescription().SDP})
}

// Close ends both connections.
func (c *Client) Close() {
	_ = c.Up.Close()
	_ = c.Down.Close()
}
