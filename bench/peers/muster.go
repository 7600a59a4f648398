package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
)

// Member is a user of a Muster room.
type Member struct {
	Token string // access token
	WS    string // URL of the node
	JSON  bool   // in place of the binary form of the protocol
	// Dial, if set, makes the connection in place of a WebSocket of this package.
	Dial func(ctx context.Context) (client.Conn, error)
}

// muster is a room of a Muster node, with all that belongs to it: tokens,
// membership, presence.
type muster struct {
	room    string
	members []*musterMember
	serving sync.WaitGroup
}

type musterMember struct {
	index int
	line  line
	json  bool
	sink  *Sink
	fixes uint64
	over  chan struct{} // closed by Close
	in    chan error    // holds one: the answer to the join
	heard bool          // the room's snapshot came; the reader's

	mu   sync.Mutex // guards the following
	id   uint64
	done map[uint64]func(error)
}

// line is a connection that carries frames.
type line interface {
	// receive hands every frame over, without its prefix, until the connection ends.
	receive(each func(frame []byte)) error
	write(frame []byte) error
	close()
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
				l, err := openLine(ctx, users[i])
				if err != nil {
					return err
				}
				m := &musterMember{
					index: i, line: l, json: users[i].JSON, sink: &sink, id: 2,
					over: make(chan struct{}), in: make(chan error, 1), done: map[uint64]func(error){},
				}
				c.members[i] = m
				c.serving.Go(m.serve)
				return m.join(ctx, users[i].Token, room)
			})
		}
		if err := g.Wait(); err != nil {
			c.Close()
			return nil, fmt.Errorf("muster: %w", err)
		}
		for _, m := range c.members {
			c.serving.Go(m.ping)
		}
		return c, nil
	}
}

func openLine(ctx context.Context, u Member) (line, error) {
	if u.Dial != nil {
		conn, err := u.Dial(ctx)
		return dialed{conn}, err
	}
	kind := wire.Binary
	if u.JSON {
		kind = wire.JSON
	}
	s, err := dial(ctx, u.WS, kind)
	if u.JSON {
		return textLine{s}, err
	}
	return binaryLine{s}, err
}

// binaryLine has frames with their prefixes in binary messages.
type binaryLine struct{ *socket }

func (l binaryLine) write(b []byte) error { return l.socket.write(opBinary, b) }

func (l binaryLine) receive(each func([]byte)) error {
	for {
		b, err := l.read()
		for err == nil && len(b) > 0 {
			var one []byte
			if one, b, err = wire.Split(b, wire.MaxServerFrame); err == nil {
				each(one)
			}
		}
		if err != nil {
			return err
		}
	}
}

// textLine has frames as lines of JSON in text messages.
type textLine struct{ *socket }

func (l textLine) write(b []byte) error { return l.socket.write(opText, b) }

func (l textLine) receive(each func([]byte)) error {
	for {
		b, err := l.read()
		if err != nil {
			return err
		}
		for one := range bytes.Lines(b) {
			each(one)
		}
	}
}

// dialed is a connection of the Go SDK.
type dialed struct{ client.Conn }

func (l dialed) write(b []byte) error { return l.Write(context.Background(), b) }
func (l dialed) close()               { l.Close(wire.CloseNormal) }

func (l dialed) receive(each func([]byte)) error { return l.Receive(context.Background(), each) }

// join says hello and enters the room.
func (m *musterMember) join(ctx context.Context, token, room string) error {
	hello := &wire.Hello{Version: wire.Version, Token: token, Device: fmt.Sprintf("bench-%d", m.index), Sdk: "muster bench"}
	if err := m.write(&wire.ClientFrame{Id: 1, Body: &wire.ClientFrame_Hello{Hello: hello}}); err != nil {
		return err
	}
	if err := m.write(&wire.ClientFrame{Id: 2, Body: &wire.ClientFrame_Join{Join: &wire.Join{Room: room}}}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	select {
	case err := <-m.in:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// joining looks for the answer to the join.
func (m *musterMember) joining(b []byte) {
	var f *wire.ServerFrame
	var err error
	if m.json {
		f, err = wire.DecodeServerJSON(b)
	} else {
		f, err = wire.DecodeServer(b)
	}
	if err == nil {
		switch body := f.Body.(type) {
		case *wire.ServerFrame_Snapshot:
			if m.heard = f.Re == 2; !m.heard {
				return
			}
		case *wire.ServerFrame_Error:
			err = fmt.Errorf("refused: %s: %s", body.Error.Code, body.Error.Message)
		case *wire.ServerFrame_Close:
			err = fmt.Errorf("closed: %s: %s", body.Close.Code, body.Close.Message)
		default:
			return
		}
	}
	select {
	case m.in <- err:
	default:
	}
}

func (c *muster) Name() string { return "muster" }

func (m *musterMember) write(f *wire.ClientFrame) error {
	var b []byte
	var err error
	if m.json {
		b, err = wire.EncodeJSON(f)
	} else {
		b, err = wire.AppendFrame(nil, f)
	}
	if err != nil {
		return err
	}
	return m.line.write(b)
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
	err := m.line.receive(func(b []byte) {
		switch {
		case !m.heard:
			m.joining(b)
		case m.json:
			m.text(b)
		default:
			m.frame(b)
		}
	})
	select {
	case m.in <- err:
	default:
	}
	if m.heard {
		m.sink.Lost(m.index, err)
	}
}

var (
	eventMark   = []byte(`"event":`)
	messageMark = []byte(`"message":`)
	errorMark   = []byte(`"error":`)
	reMark      = []byte(`{"re":`)
	quotedTime  = []byte(`\"t\":\"`)
)

// text looks at a ServerFrame in JSON, which has re first, for messages and answers.
func (m *musterMember) text(b []byte) {
	if rest, ok := bytes.CutPrefix(b, reMark); ok {
		re, _ := strconv.ParseUint(string(digits(bytes.TrimLeft(rest, ` "`))), 10, 64)
		var refused []byte
		if bytes.Contains(b, errorMark) {
			refused = b
		}
		m.answered(re, refused)
		return
	}
	if !bytes.Contains(b, eventMark) || !bytes.Contains(b, messageMark) {
		return
	}
	var at time.Time
	if _, rest, ok := bytes.Cut(b, quotedTime); ok {
		ns, _ := strconv.ParseInt(string(digits(rest)), 10, 64)
		at = time.Unix(0, ns)
	}
	m.sink.Message(m.index, at)
}

func digits(b []byte) []byte {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return b[:n]
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
		why := string(refused)
		if !m.json {
			why = string(bytesIn(refused, 1))
		}
		done(errors.New("refused: " + why))
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
		if m != nil {
			_ = m.write(&wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
			m.line.close()
			close(m.over)
		}
	}
	c.serving.Wait()
}
