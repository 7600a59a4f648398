package nemesis

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/simnet"
)

// A message on a client's pipe begins with what it is.
const (
	onStream   byte = 's' // frames with their prefixes
	onDatagram byte = 'd' // one frame without
	hello      byte = 'h' // the first of all: the transport to be
)

// phone is the client's end of a connection in memory: a client.Conn.
type phone struct {
	pipe *simnet.Pipe
	kind wire.Transport
	lost func() bool // whether the next datagram is
}

func (p *phone) Kind() wire.Transport { return p.kind }

func (p *phone) Receive(ctx context.Context, handle func([]byte)) error {
	for {
		b, err := p.pipe.Receive(ctx)
		if err != nil {
			return err
		}
		if b[0] == onDatagram {
			handle(b[1:])
			continue
		}
		for rest := b[1:]; len(rest) > 0; {
			var body []byte
			if body, rest, err = wire.Split(rest, wire.MaxServerFrame); err != nil {
				return err
			}
			handle(body)
		}
	}
}

func (p *phone) Write(_ context.Context, frames []byte) error {
	if !p.pipe.Send(append([]byte{onStream}, frames...)) {
		return simnet.ErrReset
	}
	return nil
}

func (p *phone) Datagram(body []byte) error {
	if !p.lost() {
		p.pipe.Send(append([]byte{onDatagram}, body...))
	}
	return nil
}

func (p *phone) Close(int) { p.pipe.Finish(io.EOF) }

// server is the node's end: a transport.Conn.
type server struct {
	pipe *simnet.Pipe
	kind wire.Transport
	lost func() bool

	mu     sync.Mutex // guards the following, and keeps what is sent in order
	closed bool
}

// accept waits for the client's first words.
func accept(pipe *simnet.Pipe, lost func() bool) (*server, error) {
	b, err := pipe.Receive(context.Background())
	if err != nil {
		return nil, err
	}
	return &server{pipe: pipe, kind: wire.Transport(b[1]), lost: lost}, nil
}

var _ transport.Conn = (*server)(nil)

func (s *server) Transport() wire.Transport { return s.kind }
func (s *server) Remote() netip.Addr        { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func (s *server) Serve(handle transport.Handler) error {
	for {
		b, err := s.pipe.Receive(context.Background())
		if err != nil {
			return err
		}
		if b[0] == onDatagram {
			f, err := wire.DecodeClient(b[1:])
			handle(f, len(b), err)
			continue
		}
		for rest := b[1:]; len(rest) > 0 && !s.over(); {
			var body []byte
			if body, rest, err = wire.Split(rest, wire.MaxClientFrame); err != nil {
				return err
			}
			f, err := wire.DecodeClient(body)
			handle(f, len(body), err)
		}
	}
}

func (s *server) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *server) Send(f *edge.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
	case f.Lossy() && s.kind == wire.Transport_WEBTRANSPORT:
		for _, f := range f.Parts() {
			if !s.lost() {
				s.pipe.Send(append([]byte{onDatagram}, f.Body()...))
			}
		}
	case !s.pipe.Send(append([]byte{onStream}, f.Prefixed()...)):
		s.closed = true
		s.pipe.Break(errors.New("slow reader"))
	}
}

func (s *server) Close(c *wire.Close) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	number := wire.CloseNormal
	if c != nil {
		f := edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Close{Close: c}})
		s.pipe.Send(append([]byte{onStream}, f.Prefixed()...))
		n, _ := wire.CloseNumber(c.Code)
		number = int(n)
	}
	s.pipe.Finish(&client.ClosedError{Number: number, Reason: c.GetCode()})
}

// tap is a client's connection that the history sees.
type tap struct {
	client.Conn
	history *History
	run     *Run
	id      int
	node    string
	ended   sync.Once
}

func (t *tap) Receive(ctx context.Context, handle func([]byte)) error {
	err := t.Conn.Receive(ctx, func(body []byte) {
		if f, err := wire.DecodeServer(body); err == nil {
			t.history.saw(t.run, Sight{Conn: t.id, Node: t.node, In: f})
		}
		handle(body)
	})
	t.end(err)
	return err
}

func (t *tap) Write(ctx context.Context, frames []byte) error {
	for rest := frames; len(rest) > 0; {
		body, more, err := wire.Split(rest, wire.MaxClientFrame)
		if err != nil {
			break
		}
		rest = more
		if f, err := wire.DecodeClient(body); err == nil {
			t.history.saw(t.run, Sight{Conn: t.id, Node: t.node, Out: f})
		}
	}
	return t.Conn.Write(ctx, frames)
}

func (t *tap) Close(number int) {
	t.end(io.EOF)
	t.Conn.Close(number)
}

func (t *tap) end(err error) {
	t.ended.Do(func() { t.history.saw(t.run, Sight{Conn: t.id, Node: t.node, End: err}) })
}

// abandon: the phone has lost its network; the node finds out by silence.
func (p *phone) abandon() { p.pipe.Abandon(errNoNetwork) }
