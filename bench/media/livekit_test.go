package media

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// SignalResponses as LiveKit encodes them.
func lkSays(n protowire.Number, message []byte) []byte { return lkRequest(n, message) }

func lkSaysSession(n protowire.Number, s lkSession) []byte {
	return lkSays(n, lkUint(lkString(lkString(nil, 1, s.kind), 2, s.sdp), 3, s.id))
}

func TestLiveKitMessages(t *testing.T) {
	offer := lkSession{kind: "offer", sdp: "v=0", id: 300}
	for _, c := range []struct {
		b    []byte
		want lkResponse
	}{
		{lkSays(1, lkString(nil, 4, "1.13")), lkResponse{joined: true}},
		{lkSaysSession(2, lkSession{kind: "answer", sdp: "v=0", id: 1}), lkResponse{answer: &lkSession{"answer", "v=0", 1}}},
		{lkSaysSession(3, offer), lkResponse{offer: &offer}},
		{lkSays(4, lkUint(lkString(nil, 1, "{}"), 2, 1)), lkResponse{trickle: &lkTrickle{"{}", true}}},
		{lkSays(4, lkString(nil, 1, "{}")), lkResponse{trickle: &lkTrickle{"{}", false}}},
		{lkSays(6, lkString(nil, 1, "mic")), lkResponse{published: "mic"}},
		{lkSays(8, lkUint(nil, 2, 4)), lkResponse{left: true, reason: 4}},
		{lkSays(22, lkString(lkUint(nil, 2, 2), 3, "no")), lkResponse{reason: 2, message: "no"}},
		{lkSays(10, lkString(nil, 1, "speakers")), lkResponse{}},
		{protowire.AppendFixed64(protowire.AppendTag(nil, 99, protowire.Fixed64Type), 1), lkResponse{}},
		{nil, lkResponse{}},
	} {
		got, err := parseLiveKit(c.b)
		require.NoError(t, err)
		assert.Equal(t, c.want, got)
	}
	_, err := parseLiveKit([]byte{0x1a, 5, 'x'})
	require.ErrorIs(t, err, errLiveKitMessage)

	// Bytes as protoc's encoder has them: fields in order, tags by hand.
	assert.Equal(t, []byte("\x0a\x0e\x0a\x05offer\x12\x03v=0\x18\x07"), lkSession{"offer", "v=0", 7}.request())
	assert.Equal(t, []byte("\x12\x0f\x0a\x06answer\x12\x03v=0\x18\x02"), lkSession{"answer", "v=0", 2}.request())
	assert.Equal(t, []byte("\x22\x0e\x0a\x03mic\x12\x03mic\x18\x00\x40\x02"), lkAddTrack("mic", false))
	assert.Equal(t, []byte("\x22\x0e\x0a\x03cam\x12\x03cam\x18\x01\x40\x01"), lkAddTrack("cam", true))
	assert.Equal(t, []byte("\x82\x01\x02\x08\x05"), lkPing(5))
	assert.Equal(t, []byte("\x42\x02\x10\x01"), lkLeave())
}

func FuzzLiveKit(f *testing.F) {
	f.Add(lkSaysSession(3, lkSession{kind: "offer", sdp: "v=0", id: 1}))
	f.Add(lkSays(22, lkString(lkUint(nil, 2, 2), 3, "no")))
	f.Add([]byte{0x1a, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseLiveKit(b)
		if err != nil {
			require.Zero(t, r)
		}
	})
}

func TestLiveKitToken(t *testing.T) {
	now := time.Now()
	r := &liveKitRoom{LiveKit: LiveKit{Key: "key", Secret: "0123456789abcdef0123456789abcdef"}, name: "room"}
	token, err := r.token("me", now)
	require.NoError(t, err)
	assert.NotContains(t, token, r.Secret)
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return []byte(r.Secret), nil }, jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer("key"), jwt.WithSubject("me"), jwt.WithExpirationRequired())
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"room": "room", "roomJoin": true, "canPublish": true, "canSubscribe": true}, claims["video"])
}

// scriptedLiveKit answers a participant as LiveKit does, and sends a track of its own
// once it was offered something.
func scriptedLiveKit(t *testing.T, r *http.Request, ws *websocket.Conn) error {
	ctx := r.Context()
	say := func(b []byte) error { return ws.Write(ctx, websocket.MessageBinary, b) }
	if err := say(lkSays(1, nil)); err != nil {
		return err
	}
	var up, down *webrtc.PeerConnection
	defer func() {
		for _, c := range []*webrtc.PeerConnection{up, down} {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	for {
		_, b, err := ws.Read(ctx)
		if err != nil {
			return nil // it left
		}
		err = lkFields(b, func(n protowire.Number, _ uint64, b []byte) error {
			switch n {
			case 4:
				return say(lkSays(6, b)) // both have the cid first
			case 1:
				offer, err := parseLiveKitSession(b)
				require.NoError(t, err)
				up, err = sfutest.Options{}.Connection()
				require.NoError(t, err)
				require.NoError(t, up.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer.sdp}))
				answer, err := up.CreateAnswer(nil)
				require.NoError(t, err)
				answer, err = described(up, answer)
				require.NoError(t, err)
				if err := say(lkSaysSession(2, lkSession{"answer", answer.SDP, offer.id})); err != nil {
					return err
				}
				down, err = sfutest.Options{}.Connection()
				require.NoError(t, err)
				track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48_000, Channels: 2}, "mic", "other")
				require.NoError(t, err)
				up.OnTrack(func(in *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { // and back
					for {
						p, _, err := in.ReadRTP()
						if err != nil || track.WriteRTP(p) != nil {
							return
						}
					}
				})
				_, err = down.AddTrack(track)
				require.NoError(t, err)
				d, err := down.CreateOffer(nil)
				require.NoError(t, err)
				d, err = described(down, d)
				require.NoError(t, err)
				return say(lkSaysSession(3, lkSession{"offer", d.SDP, 41}))
			case 2:
				answer, err := parseLiveKitSession(b)
				require.NoError(t, err)
				assert.EqualValues(t, 41, answer.id)
				return down.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer.sdp})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

func TestAParticipantOfLiveKit(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/rtc" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		assert.NoError(t, scriptedLiveKit(t, r, ws))
	}))
	defer server.Close()
	room := LiveKit{URL: "ws" + strings.TrimPrefix(server.URL, "http"), ServerPID: 1, Key: "key", Secret: "secret"}.Open()
	defer room.Close()
	echoes(t, room)
}

// echoes has somebody publish in a call, and get something.
func echoes(t *testing.T, call Call, others ...string) {
	ctx, cancel := context.WithCancel(t.Context())
	m, sent := &Meter{Delay: loadgen.NewLatencies()}, &atomic.Int64{}
	m.On.Store(true)
	c, err := Join(ctx, call, "me", m, sent)
	require.NoError(t, err)
	defer c.Close()
	defer cancel()
	gets := c
	for _, name := range others {
		gets, err = Join(ctx, call, name, m, sent)
		require.NoError(t, err)
		defer gets.Close()
	}
	require.NoError(t, c.Publish(ctx, Load{Audio: 50, AudioSize: 80}))
	require.Eventually(t, func() bool { return gets.Flowing() == 1 && m.Received.Load() > 5 }, time.Minute, 10*time.Millisecond)
	require.NoError(t, c.Err())
	assert.Positive(t, m.Delay.Count())
	assert.Positive(t, sent.Load())
}

func TestWithoutAServer(t *testing.T) {
	d := OpenDirect()
	defer d.Close()
	echoes(t, d, "other")
}

func TestLiveKitRefuses(t *testing.T) {
	c := &liveKitClient{}
	require.ErrorContains(t, c.take(lkSays(8, lkUint(nil, 2, 4))), "reason 4")
	require.ErrorContains(t, c.take(lkSays(22, lkString(lkUint(nil, 2, 3), 3, "too many"))), "too many")
	require.Error(t, c.take(lkSays(4, lkString(nil, 1, "x"))))
	require.Error(t, c.take([]byte{0x0a}))
}
