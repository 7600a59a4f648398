package peers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
)

// Member is a user of a Muster room.
type Member struct {
	Token string // access token
	WS    string // URL of the node
}

// muster is a room of a Muster node, in the binary form of its protocol, with
// all that belongs to it: tokens, membership, presence.
type muster struct {
	room    string
	members []*musterMember
	serving sync.WaitGroup
}

type musterMember struct {
	index  int
	socket *socket
	sink   *Sink
	fixes  uint64
	over   chan struct{} // closed by Close

	mu   sync.Mutex // guards the following
	id   uint64
	done map[uint64]func(error)
}

// Muster opens a room for users who are its members.
func Muster(room string, users []Member) Opener {
	return func(ctx context.Context, n int, sink Sink) (Room, error) {
		if n > len(users) {
			return nil, fmt.Errorf("muster: %d of %d users", n, len(users))
		}
		c := &muster{room: room, members: make([]*musterMember, n)}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(openAtOnce)
		for i := range n {
			g.Go(func() error {
				m, err := openMuster(ctx, users[i], room, i, &sink)
				c.members[i] = m
				return err
			})
		}
		if err := g.Wait(); err != nil {
			c.Close()
			return nil, fmt.Errorf("muster: %w", err)
		}
		for _, m := range c.members {
			c.serving.Go(m.serve)
			c.serving.Go(m.ping)
		}
		return c, nil
	}
}

func openMuster(ctx context.Context, u Member, room string, i int, sink *Sink) (*musterMember, error) {
	s, err := dial(ctx, u.WS, wire.Binary)
	if err != nil {
		return nil, err
	}
	m := &musterMember{index: i, socket: s, sink: sink, id: 2, over: make(chan struct{}), done: map[uint64]func(error){}}
	hello := &wire.Hello{Version: wire.Version, Token: u.Token, Device: fmt.Sprintf("bench-%d", i), Sdk: "muster bench"}
	if err := m.write(&wire.ClientFrame{Id: 1, Body: &wire.ClientFrame_Hello{Hello: hello}}); err != nil {
		return m, err
	}
	if err := m.write(&wire.ClientFrame{Id: 2, Body: &wire.ClientFrame_Join{Join: &wire.Join{Room: room}}}); err != nil {
		return m, err
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	defer func() { _ = s.conn.SetReadDeadline(time.Time{}) }()
	for {
		b, err := s.read()
		if err != nil {
			return m, err
		}
		for len(b) > 0 {
			var one []byte
			if one, b, err = wire.Split(b, wire.MaxServerFrame); err != nil {
				return m, err
			}
			f, err := wire.DecodeServer(one)
			if err != nil {
				return m, err
			}
			switch body := f.Body.(type) {
			case *wire.ServerFrame_Snapshot:
				if f.Re == 2 {
					return m, nil
				}
			case *wire.ServerFrame_Error:
				return m, fmt.Errorf("refused: %s: %s", body.Error.Code, body.Error.Message)
			case *wire.ServerFrame_Close:
				return m, fmt.Errorf("closed: %s: %s", body.Close.Code, body.Close.Message)
			}
		}
	}
}

func (c *muster) Name() string { return "muster" }

func (m *musterMember) write(f *wire.ClientFrame) error {
	b, err := wire.AppendFrame(nil, f)
	if err != nil {
		return err
	}
	return m.socket.write(opBinary, b)
}

// ping keeps the session alive.
func (m *musterMember) ping() {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-m.over:
			return
		case <-tick.C:
		}
		if m.write(&wire.ClientFrame{Id: 1 << 60, Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}}) != nil {
			return
		}
	}
}

func (m *musterMember) serve() {
	for {
		b, err := m.socket.read()
		for err == nil && len(b) > 0 {
			var one []byte
			if one, b, err = wire.Split(b, wire.MaxServerFrame); err == nil {
				m.frame(one)
			}
		}
		if err != nil {
			m.sink.Lost(m.index, err)
			return
		}
	}
}

// Numbers of the fields that are looked at, as api/wire/wire.proto has them.
const (
	fieldRe, fieldSent, fieldError, fieldEvent, fieldFixes = 1, 5, 8, 9, 10
	fieldEventMessage, fieldMessageBody                    = 4, 6
	fieldFixesFixes, fieldMemberFixFix, fieldFixCaptured   = 2, 4, 5
)

// frame looks at a ServerFrame without decoding what it does not count.
func (m *musterMember) frame(b []byte) {
	var re uint64
	var event, fixes []byte
	var refused []byte
	fields(b, func(n protowire.Number, v uint64, sub []byte) {
		switch n {
		case fieldRe:
			re = v
		case fieldEvent:
			event = sub
		case fieldFixes:
			fixes = sub
		case fieldError:
			refused = sub
		}
	})
	switch {
	case re != 0 && re < 1<<60:
		m.answered(re, refused)
	case event != nil:
		fields(event, func(n protowire.Number, _ uint64, message []byte) {
			if n == fieldEventMessage {
				m.sink.Message(m.index, stampIn(bytesIn(message, fieldMessageBody)))
			}
		})
	case fixes != nil:
		count := 0
		var first []byte
		fields(fixes, func(n protowire.Number, _ uint64, fix []byte) {
			if n == fieldFixesFixes {
				if count++; first == nil {
					first = fix
				}
			}
		})
		captured := &timestamppb.Timestamp{}
		fields(bytesIn(bytesIn(first, fieldMemberFixFix), fieldFixCaptured), func(n protowire.Number, v uint64, _ []byte) {
			if n == 1 {
				captured.Seconds = int64(v)
			} else {
				captured.Nanos = int32(v)
			}
		})
		m.sink.Moves(m.index, count, captured.AsTime())
	}
}

// fields goes through a message: v is a varint's value, sub are the bytes of
// what has a length.
func fields(b []byte, each func(n protowire.Number, v uint64, sub []byte)) {
	for len(b) > 0 {
		n, kind, used := protowire.ConsumeTag(b)
		if used < 0 {
			return
		}
		b = b[used:]
		var v uint64
		var sub []byte
		switch kind {
		case protowire.VarintType:
			v, used = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			sub, used = protowire.ConsumeBytes(b)
		default:
			used = protowire.ConsumeFieldValue(n, kind, b)
		}
		if used < 0 {
			return
		}
		b = b[used:]
		each(n, v, sub)
	}
}

func bytesIn(b []byte, field protowire.Number) (found []byte) {
	fields(b, func(n protowire.Number, _ uint64, sub []byte) {
		if n == field {
			found = sub
		}
	})
	return found
}

func (m *musterMember) answered(re uint64, refused []byte) {
	m.mu.Lock()
	done := m.done[re]
	delete(m.done, re)
	m.mu.Unlock()
	switch {
	case done == nil:
	case refused != nil:
		done(errors.New("refused: " + string(bytesIn(refused, 1))))
	default:
		done(nil)
	}
}

func (c *muster) Send(i int, at time.Time, size int, done func(error)) error {
	m := c.members[i]
	m.mu.Lock()
	m.id++
	id := m.id
	if done != nil {
		m.done[id] = done
	}
	m.mu.Unlock()
	return m.write(&wire.ClientFrame{Id: id, Body: &wire.ClientFrame_Send{Send: &wire.Send{
		Room: c.room, ClientId: fmt.Sprintf("%d-%d", i, at.UnixNano()), Body: body(at, size),
	}}})
}

func (c *muster) Move(i, k int, at time.Time) error {
	m := c.members[i]
	m.fixes++
	return m.write(&wire.ClientFrame{Body: &wire.ClientFrame_Report{Report: &wire.Report{
		Fix: &wire.Fix{
			Point:    &wire.Point{Lat: 52.5 + float64(k%100)/1e4, Lng: 13.4 + float64(i)/1e4},
			Accuracy: 5, Captured: timestamppb.New(at), N: m.fixes,
		},
		Rooms: []string{c.room},
	}}})
}

func (c *muster) Close() {
	for _, m := range c.members {
		if m != nil && m.socket != nil {
			_ = m.write(&wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
			m.socket.close()
			close(m.over)
		}
	}
	c.serving.Wait()
}
