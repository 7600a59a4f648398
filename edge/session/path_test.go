package session

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/webtransport-go"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// BenchmarkRequest is what a small request costs from socket to socket: eight
// gateways send one, wait for the answer, and repeat.
func BenchmarkRequest(b *testing.B) {
	requests := map[string]*wire.ClientFrame{
		"ping":   {Id: 3, Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}},
		"ingest": {Id: 3, Body: &wire.ClientFrame_Ingest{Ingest: &wire.Ingest{Fixes: []*wire.SubjectFix{subject("scooter-17")}}}},
		"nearby": {Id: 3, Body: &wire.ClientFrame_Nearby{Nearby: &wire.Nearby{Center: &wire.Point{Lat: 1}, Radius: 9, Limit: 10, Fleet: fleet}}},
	}
	for _, name := range []string{"ping", "ingest", "nearby"} {
		for way, open := range map[string]func(testing.TB, *server) io.ReadWriter{"ws": openWS, "wt": openWT} {
			b.Run(way+"/"+name, func(b *testing.B) {
				s := serve(b, Config{})
				s.Registry.deps.Sharer, s.Registry.deps.Roster, s.Registry.deps.Hub = silent{}, nowhere{seat{s.region, "n1"}}, nobody{s.hub}
				b.SetParallelism(4) // of two processors
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					c := open(b, s)
					say := func(f *wire.ClientFrame) []byte {
						frame, err := wire.AppendFrame(nil, f)
						require.NoError(b, err)
						if way == "ws" {
							return message(frame)
						}
						return frame
					}
					buf := make([]byte, 64<<10)
					ask := func(frame []byte) {
						_, err := c.Write(frame)
						require.NoError(b, err)
						_, err = c.Read(buf) // an answer comes in one piece
						require.NoError(b, err)
					}
					ask(say(hello(gateway("key"), randomDevice())))
					frame := say(requests[name])
					for pb.Next() {
						ask(frame)
					}
				})
			})
		}
	}
}

func randomDevice() string {
	return strings.ReplaceAll(time.Now().Format("150405.000000000"), ".", "-")
}

// message is a binary one of a WebSocket client, masked with nothing.
func message(b []byte) []byte {
	head := []byte{0x82, 0x80 | byte(len(b))}
	if len(b) > 125 {
		head = []byte{0x82, 0x80 | 126, byte(len(b) >> 8), byte(len(b))}
	}
	return append(append(head, 0, 0, 0, 0), b...)
}

func openWS(tb testing.TB, s *server) io.ReadWriter {
	c, err := net.Dial("tcp", strings.Split(s.ws, "/")[2])
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = c.Close() })
	_, err = io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: muster.v1\r\n\r\n")
	require.NoError(tb, err)
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	require.NoError(tb, err)
	require.Equal(tb, http.StatusSwitchingProtocols, answer.StatusCode)
	require.Zero(tb, r.Buffered())
	return c
}

func openWT(tb testing.TB, s *server) io.ReadWriter {
	d := &webtransport.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.pool, NextProtos: []string{http3.NextProtoH3}},
		QUICConfig:      &quic.Config{EnableDatagrams: true, EnableStreamResetPartialDelivery: true},
	}
	tb.Cleanup(func() { _ = d.Close() })
	_, session, err := d.Dial(tb.Context(), s.wt, http.Header{})
	require.NoError(tb, err)
	stream, err := session.OpenStreamSync(tb.Context())
	require.NoError(tb, err)
	return stream
}
