package media

import (
	"context"
	"errors"
	"sync"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// Served is a call on a node, which people join through their sessions, as all clients
// do.
type Served struct {
	Process int
	ID      string         // of the call
	Rooms   []*client.Room // of those who are going to join, each with a session of its own
	End     func()         // ends the call, and the sessions

	mu     sync.Mutex // guards the following
	joined int
}

// PID is the node's process.
func (s *Served) PID() int { return s.Process }

// Close ends the call.
func (s *Served) Close() { s.End() }

// Join has the next one take part.
func (s *Served) Join(ctx context.Context, _ string, on Events) (Connection, error) {
	s.mu.Lock()
	if s.joined == len(s.Rooms) {
		s.mu.Unlock()
		return nil, errors.New("there is nobody else to join")
	}
	room := s.Rooms[s.joined]
	s.joined++
	s.mu.Unlock()
	call, joined, err := room.JoinCall(ctx, s.ID, &wire.CallJoin{Fresh: true})
	if err != nil {
		return nil, err
	}
	c := &servedClient{call: call, over: make(chan struct{})}
	ctx, c.cancel = context.WithCancel(ctx)
	if c.rtc, err = sfutest.New(sfutest.Options{}, func(d *wire.CallDescription) error {
		d.Place = joined.GetPlace()
		return call.Describe(ctx, d)
	}); err != nil {
		c.cancel()
		return nil, err
	}
	c.rtc.OnTrack(on.Track)
	go func() {
		defer close(c.over)
		for e := range call.Events(ctx) {
			switch e := e.(type) {
			case client.Ended:
				if ctx.Err() == nil {
					on.Failed(e.Err)
				}
			case *client.CallEvent:
				if e.GetJoined() != nil && e.GetPlace() != joined.GetPlace() {
					on.Failed(errors.New("the call moved to another media server"))
				}
				if d := e.GetDescribe(); d != nil && ctx.Err() == nil {
					if err := c.rtc.Receive(d); err != nil && ctx.Err() == nil {
						on.Failed(err)
					}
				}
			}
		}
	}()
	return c, nil
}

type servedClient struct {
	call   *client.Call
	rtc    *sfutest.Client
	cancel context.CancelFunc
	over   chan struct{}
}

func (c *servedClient) Publish(_ context.Context, tracks ...sfutest.Track) error {
	return c.rtc.Publish(tracks...)
}

func (c *servedClient) Close() {
	c.cancel()
	c.rtc.Close()
	<-c.over
}
