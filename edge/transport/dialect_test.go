package transport

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// shout is a dialect: a client's number is a ping, a pong is told in capitals.
type shout struct{}

func (shout) Read(line []byte) (*wire.ClientFrame, error) {
	var id uint64
	if _, err := fmt.Sscan(string(line), &id); err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrBadFrame, err)
	}
	return &wire.ClientFrame{Id: id, Body: &wire.ClientFrame_Ping{}}, nil
}

func (shout) Write(f *wire.ServerFrame) []byte {
	switch {
	case f.GetPong() != nil:
		return fmt.Appendf(nil, "PONG %d\n", f.Re)
	case f.GetClose() != nil:
		return []byte(strings.ToUpper(f.GetClose().Code) + "\n")
	}
	return nil
}

func TestConnectionsSpeakADialect(t *testing.T) {
	n := start(t, Config{})
	web := httptest.NewServer(n.Speaking(func() Dialect { return shout{} }))
	t.Cleanup(web.Close)
	c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(web.URL, "http"), nil)
	require.NoError(t, err)
	defer func() { _ = c.CloseNow() }()
	a := receive(t, n.conns)
	require.NotNil(t, a.Conn.(Speaks).Dialect())
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte("7\n\n8\nx")))
	for _, want := range []uint64{7, 8} {
		require.Equal(t, want, receive(t, a.frames).frame.Id)
	}
	require.ErrorIs(t, receive(t, a.frames).err, wire.ErrBadFrame)
	a.Send(pong(7))
	a.Send(fixes(1, 10)) // nothing in this dialect
	a.Send(pong(8))
	var got string
	for got != "PONG 7\nPONG 8\n" {
		kind, b, err := c.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, websocket.MessageText, kind)
		got += string(b)
		require.True(t, strings.HasPrefix("PONG 7\nPONG 8\n", got), got)
	}
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, make([]byte, 1<<17)))
	_, b, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, "TOO_LARGE\n", string(b))
	_, _, err = c.Read(t.Context())
	number, _ := wire.CloseNumber(wire.CodeTooLarge)
	require.EqualValues(t, number, websocket.CloseStatus(err))

	plain, accepted := n.dialWS(t, wire.JSON)
	defer func() { _ = plain.CloseNow() }()
	require.Nil(t, accepted.Conn.(Speaks).Dialect())
}
