package media

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/pion/webrtc/v4"

	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// LiveKit is a server of LiveKit that somebody started, and a key that it knows. On the
// loopback it needs rtc.enable_loopback_candidate.
type LiveKit struct {
	URL         string // ws://HOST:PORT
	ServerPID   int
	Key, Secret string
}

// Open makes a call: a room of a new name, which is made when somebody joins.
func (l LiveKit) Open() Call { return &liveKitRoom{LiveKit: l, name: "bench-" + uuid.NewString()} }

type liveKitRoom struct {
	LiveKit
	name string
}

func (r *liveKitRoom) PID() int { return r.ServerPID }

// Close leaves the room to the server, which drops it when it has been empty for a while.
func (r *liveKitRoom) Close() {}

// token is an access token: a JWT (RFC 7519) of HS256 whose claim "video" is the grant.
func (r *liveKitRoom) token(name string, now time.Time) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": r.Key, "sub": name, "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
		"video": map[string]any{"room": r.name, "roomJoin": true, "canPublish": true, "canSubscribe": true},
	}).SignedString([]byte(r.Secret))
}

const (
	liveKitProtocol = 15               // from which on a server's offers come by themselves (subscriber first)
	liveKitPing     = 5 * time.Second  // it takes a participant for lost after 15 s
	liveKitAnswer   = 20 * time.Second // until something that is waited for
)

// Join takes part over the WebSocket /rtc, with two connections: the participant offers
// the publisher's, the server the subscriber's.
func (r *liveKitRoom) Join(ctx context.Context, name string, on Events) (Connection, error) {
	token, err := r.token(name, time.Now())
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("%s/rtc?auto_subscribe=1&sdk=go&protocol=%d", strings.TrimSuffix(r.URL, "/"), liveKitProtocol)
	dialing, stop := context.WithTimeout(ctx, liveKitAnswer)
	defer stop()
	ws, _, err := websocket.Dial(dialing, at, &websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + token}}})
	if err != nil {
		return nil, fmt.Errorf("LiveKit: %w", err)
	}
	ws.SetReadLimit(1 << 20)
	c := &liveKitClient{ws: ws, on: on, joined: make(chan struct{}), answered: make(chan struct{}, 1), published: make(chan string, 8)}
	c.ctx, c.cancel = context.WithCancel(ctx)
	for _, p := range []*liveKitPeer{&c.up, &c.down} {
		if p.PeerConnection, err = (sfutest.Options{}).Connection(); err != nil {
			c.Close()
			return nil, err
		}
	}
	c.down.OnTrack(on.Track)
	c.work.Go(c.read)
	c.work.Go(c.ping)
	if err := c.wait(ctx, c.joined); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

type liveKitClient struct {
	ws        *websocket.Conn
	on        Events
	ctx       context.Context // ends with the participant
	cancel    context.CancelFunc
	up, down  liveKitPeer
	joined    chan struct{}
	answered  chan struct{}
	published chan string
	work      sync.WaitGroup
}

// liveKitPeer is a connection, with the candidates that came before a description.
type liveKitPeer struct {
	*webrtc.PeerConnection

	mu    sync.Mutex // guards the following
	ready bool
	early []webrtc.ICECandidateInit
}

func (p *liveKitPeer) candidate(i webrtc.ICECandidateInit) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ready {
		p.early = append(p.early, i)
		return nil
	}
	return p.AddICECandidate(i)
}

func (p *liveKitPeer) remote(d webrtc.SessionDescription) error {
	if err := p.SetRemoteDescription(d); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = true
	for _, i := range p.early {
		if err := p.AddICECandidate(i); err != nil {
			return err
		}
	}
	p.early = nil
	return nil
}

func wait[T any](ctx, own context.Context, what <-chan T) (v T, err error) {
	select {
	case v = <-what:
		return v, nil
	case <-ctx.Done():
		return v, ctx.Err()
	case <-own.Done():
		return v, errors.New("LiveKit ended the participation")
	case <-time.After(liveKitAnswer):
		return v, errors.New("LiveKit does not answer")
	}
}

func (c *liveKitClient) wait(ctx context.Context, what <-chan struct{}) error {
	_, err := wait(ctx, c.ctx, what)
	return err
}

func (c *liveKitClient) write(b []byte) error {
	ctx, cancel := context.WithTimeout(c.ctx, liveKitAnswer)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageBinary, b)
}

func (c *liveKitClient) ping() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case now := <-time.After(liveKitPing):
			if c.write(lkPing(now.UnixMilli())) != nil {
				return // read says why
			}
		}
	}
}

func (c *liveKitClient) read() {
	defer c.cancel()
	for {
		_, b, err := c.ws.Read(c.ctx)
		if err == nil {
			err = c.take(b)
		}
		if c.ctx.Err() != nil {
			return
		}
		if err != nil {
			c.on.Failed(fmt.Errorf("LiveKit: %w", err))
			return
		}
	}
}

// take does what a message of the server asks for.
func (c *liveKitClient) take(b []byte) error {
	r, err := parseLiveKit(b)
	switch {
	case err != nil:
		return err
	case r.left:
		return fmt.Errorf("it ended the participation, reason %d", r.reason)
	case r.reason != 0:
		return fmt.Errorf("it refused a request, reason %d: %s", r.reason, r.message)
	case r.joined:
		select {
		case <-c.joined:
		default:
			close(c.joined)
		}
	case r.published != "":
		select {
		case c.published <- r.published:
		default: // nobody published that much
		}
	case r.trickle != nil:
		var i webrtc.ICECandidateInit
		if err := json.Unmarshal([]byte(r.trickle.candidate), &i); err != nil {
			return fmt.Errorf("candidate: %w", err)
		}
		if r.trickle.subscriber {
			return c.down.candidate(i)
		}
		return c.up.candidate(i)
	case r.answer != nil:
		if err := c.up.remote(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: r.answer.sdp}); err != nil {
			return err
		}
		select {
		case c.answered <- struct{}{}:
		default:
		}
	case r.offer != nil:
		if err := c.down.remote(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: r.offer.sdp}); err != nil {
			return err
		}
		answer, err := c.down.CreateAnswer(nil)
		if err != nil {
			return err
		}
		if answer, err = described(c.down.PeerConnection, answer); err != nil {
			return err
		}
		return c.write(lkSession{kind: "answer", sdp: answer.SDP, id: r.offer.id}.request())
	}
	return nil
}

// Publish announces the tracks, and offers them when the server has said that it knows
// of all.
func (c *liveKitClient) Publish(ctx context.Context, tracks ...sfutest.Track) error {
	for _, t := range tracks {
		tr, err := c.up.AddTransceiverFromTrack(t.Layers[0], webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return err
		}
		go drain(tr.Sender())
		if err := c.write(lkAddTrack(t.Layers[0].ID(), t.Layers[0].Kind() == webrtc.RTPCodecTypeVideo)); err != nil {
			return err
		}
	}
	for range tracks {
		if _, err := wait(ctx, c.ctx, c.published); err != nil {
			return err
		}
	}
	offer, err := c.up.CreateOffer(nil)
	if err != nil {
		return err
	}
	if offer, err = described(c.up.PeerConnection, offer); err != nil {
		return err
	}
	if err := c.write(lkSession{kind: "offer", sdp: offer.SDP, id: 1}.request()); err != nil {
		return err
	}
	return c.wait(ctx, c.answered)
}

// drain reads the reports about what is sent, which pion answers while somebody does.
func drain(s *webrtc.RTPSender) {
	b := make([]byte, 1_500)
	for {
		if _, _, err := s.Read(b); err != nil {
			return
		}
	}
}

func (c *liveKitClient) Close() {
	_ = c.write(lkLeave())
	c.cancel()
	_ = c.ws.CloseNow()
	c.work.Wait()
	for _, p := range []*liveKitPeer{&c.up, &c.down} {
		if p.PeerConnection != nil {
			_ = p.PeerConnection.Close()
		}
	}
}
