package peers

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// fake is what of Centrifugo's protocol (JSON, several commands or replies on
// lines of a message) the benchmark uses.
type fake struct {
	mu      sync.Mutex
	clients []*websocket.Conn
}

func (s *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	say := func(to *websocket.Conn, lines string) {
		_ = to.Write(r.Context(), websocket.MessageText, []byte(lines))
	}
	for {
		_, b, err := c.Read(r.Context())
		if err != nil {
			return
		}
		var id int
		_, _ = fmt.Sscanf(string(b), `{"id":%d`, &id)
		s.mu.Lock()
		switch {
		case bytes.Contains(b, []byte(`"connect"`)):
			say(c, `{"id":1,"connect":{"client":"x","ping":25}}`)
		case bytes.Contains(b, []byte(`"subscribe"`)):
			s.clients = append(s.clients, c)
			say(c, "{}\n"+`{"id":2,"subscribe":{}}`)
		case bytes.Contains(b, []byte(`"refuse me`)):
			say(c, fmt.Sprintf(`{"id":%d,"error":{"code":103}}`, id))
		case bytes.Contains(b, []byte(`"publish"`)):
			_, data, _ := bytes.Cut(b, []byte(`"data":`))
			for _, to := range s.clients {
				push := fmt.Sprintf(`{"push":{"channel":"muster","pub":{"data":%s}}`, data)
				say(to, push+"\n"+push)
			}
			say(c, fmt.Sprintf(`{"id":%d,"publish":{}}`, id))
		}
		s.mu.Unlock()
	}
}

func TestCentrifugo(t *testing.T) {
	server := httptest.NewServer(&fake{})
	defer server.Close()
	type got struct {
		member, n int
		at        time.Time
	}
	all := make(chan got, 100)
	room, err := Centrifugo(strings.TrimPrefix(server.URL, "http://"))(t.Context(), 3, Sink{
		Message: func(m int, at time.Time) { all <- got{m, 0, at} },
		Moves:   func(m, n int, at time.Time) { all <- got{m, n, at} },
		Lost:    func(int, error) {},
	})
	require.NoError(t, err)
	defer room.Close()
	at := time.Unix(1_800_000_000, 123)
	answer := make(chan error, 1)
	require.NoError(t, room.Send(1, at, 128, func(err error) { answer <- err }))
	require.NoError(t, <-answer)
	for range 6 {
		m := <-all
		require.Zero(t, m.n)
		require.True(t, m.at.Equal(at))
	}
	require.NoError(t, room.Move(2, 7, at))
	for range 6 {
		require.Equal(t, 1, (<-all).n)
	}
	require.NoError(t, room.(*centrifugo).members[0].publish(`"refuse me"`, func(err error) { answer <- err }))
	require.ErrorContains(t, <-answer, "103")
}

func TestNobodyThere(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := Centrifugo("127.0.0.1:1")(ctx, 2, Sink{})
	require.Error(t, err)
}

func TestBodySize(t *testing.T) {
	require.Len(t, body(time.Unix(1_800_000_000, 0), 128), 128)
	require.Equal(t, time.Unix(1_800_000_000, 5), stampIn([]byte(body(time.Unix(1_800_000_000, 5), 10))))
}
