package peers

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// centrifugo is a channel of a Centrifugo 6 server, in the JSON form of its
// protocol, without authentication: the server runs with client.insecure.
type centrifugo struct {
	members []*fugoMember
	serving sync.WaitGroup
}

type fugoMember struct {
	index  int
	socket *socket
	sink   *Sink

	mu   sync.Mutex // guards the following
	id   uint64
	done map[uint64]func(error)
}

const channel = "muster"

// Centrifugo opens a channel of the server at address ("127.0.0.1:8000").
func Centrifugo(address string) Opener {
	return func(ctx context.Context, n int, sink Sink) (Room, error) {
		c := &centrifugo{members: make([]*fugoMember, n)}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(openAtOnce)
		for i := range n {
			g.Go(func() error {
				m, err := openFugo(ctx, "ws://"+address+"/connection/websocket", i, &sink)
				c.members[i] = m
				return err
			})
		}
		if err := g.Wait(); err != nil {
			c.Close()
			return nil, fmt.Errorf("centrifugo: %w", err)
		}
		for _, m := range c.members {
			c.serving.Go(m.serve)
		}
		return c, nil
	}
}

func openFugo(ctx context.Context, url string, i int, sink *Sink) (*fugoMember, error) {
	s, err := dial(ctx, url, "")
	if err != nil {
		return nil, err
	}
	m := &fugoMember{index: i, socket: s, sink: sink, id: 2, done: map[uint64]func(error){}}
	_ = s.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	for id, ask := range []string{`{"id":1,"connect":{}}`, `{"id":2,"subscribe":{"channel":"` + channel + `"}}`} {
		if err := s.write(opText, []byte(ask)); err != nil {
			return m, err
		}
		for answered := false; !answered; {
			b, err := s.read()
			if err != nil {
				return m, err
			}
			for line := range bytes.Lines(b) {
				if bytes.HasPrefix(line, fmt.Appendf(nil, `{"id":%d`, id+1)) {
					if answered = true; bytes.Contains(line, []byte(`"error"`)) {
						return m, fmt.Errorf("refused: %s", bytes.TrimSpace(line))
					}
				}
			}
		}
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	return m, nil
}

func (c *centrifugo) Name() string { return "centrifugo" }

var (
	pubMark  = []byte(`"pub":`)
	timeMark = []byte(`"t":"`)
	idMark   = []byte(`{"id":`)
)

func (m *fugoMember) serve() {
	for {
		b, err := m.socket.read()
		if err != nil {
			m.sink.Lost(m.index, err)
			return
		}
		for line := range bytes.Lines(b) {
			switch {
			case bytes.Contains(line, pubMark):
				at := stampIn(line)
				if bytes.Contains(line, []byte(`"lat"`)) {
					m.sink.Moves(m.index, 1, at)
				} else {
					m.sink.Message(m.index, at)
				}
			case bytes.HasPrefix(line, idMark):
				m.answered(line)
			case len(bytes.TrimSpace(line)) == 2: // a ping is {}, and so is its answer
				_ = m.socket.write(opText, []byte("{}"))
			}
		}
	}
}

// stampIn finds the time that a message carries.
func stampIn(b []byte) time.Time {
	i := bytes.Index(b, timeMark)
	if i < 0 {
		return time.Time{}
	}
	b = b[i+len(timeMark):]
	var ns int64
	for i := 0; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
		ns = ns*10 + int64(b[i]-'0')
	}
	return time.Unix(0, ns)
}

func (m *fugoMember) answered(line []byte) {
	rest := line[len(idMark):]
	n := 0
	for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
		n++
	}
	id, _ := strconv.ParseUint(string(rest[:n]), 10, 64)
	m.mu.Lock()
	done := m.done[id]
	delete(m.done, id)
	m.mu.Unlock()
	if done == nil {
		return
	}
	if bytes.Contains(line, []byte(`"error"`)) {
		done(fmt.Errorf("refused: %s", bytes.TrimSpace(line)))
		return
	}
	done(nil)
}

func (m *fugoMember) publish(data string, done func(error)) error {
	m.mu.Lock()
	m.id++
	id := m.id
	if done != nil {
		m.done[id] = done
	}
	m.mu.Unlock()
	return m.socket.write(opText, fmt.Appendf(nil, `{"id":%d,"publish":{"channel":"%s","data":%s}}`, id, channel, data))
}

func (c *centrifugo) Send(i int, at time.Time, size int, done func(error)) error {
	return c.members[i].publish(body(at, size), done)
}

// Move publishes what a position takes in JSON.
func (c *centrifugo) Move(i, k int, at time.Time) error {
	return c.members[i].publish(fmt.Sprintf(`{"t":"%d","user":"%08d-0000-4000-8000-000000000000","lat":%.6f,"lng":%.6f,"accuracy":5,"n":%d}`,
		at.UnixNano(), i, 52.5+float64(k%100)/1e4, 13.4+float64(i)/1e4, k), nil)
}

// body is a JSON object of about size bytes.
func body(at time.Time, size int) string {
	b := `{"t":"` + strconv.FormatInt(at.UnixNano(), 10) + `","text":"`
	return b + strings.Repeat("x", max(1, size-len(b)-2)) + `"}`
}

func (c *centrifugo) Close() {
	for _, m := range c.members {
		if m != nil && m.socket != nil {
			m.socket.close()
		}
	}
	c.serving.Wait()
}
