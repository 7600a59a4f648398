package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
)

// Idle is what sessions cost that do nothing but be there: people in rooms who
// see each other, over WebSocket without TLS, on one server process.
type Idle struct {
	Fleet    *fleet.Fleet // of one node, not started
	Sessions int          // in whole rooms
	RoomSize int
	AtOnce   int           // connections that are opened at the same time
	Quiet    time.Duration // how long nothing happens
	Progress func(format string, args ...any)
}

// Run measures. The users sign up at a process of their own: what that leaves
// in the server's heap is not what sessions cost, nor may it hide that.
func (s Idle) Run(ctx context.Context) (*report.Idle, error) {
	if s.Sessions < 2 || s.RoomSize < 2 || s.Sessions%s.RoomSize != 0 || s.AtOnce < 1 || s.Quiet <= 0 {
		return nil, errors.New("bench: sessions come in whole rooms of at least two, and idle for a while")
	}
	r, err := s.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return r, nil
}

func (s Idle) run(ctx context.Context) (*report.Idle, error) {
	defer s.Fleet.Stop()
	if err := s.Fleet.Start(ctx); err != nil {
		return nil, err
	}
	server := s.Fleet.Nodes[0]
	pool := s.Fleet.Client()
	defer pool.CloseIdleConnections()
	c := newCrowd(s.Sessions, s.RoomSize, s.Progress)
	defer c.leave()
	s.Progress("signing up %d users", s.Sessions)
	if err := c.signUp(ctx, s.Fleet.API(), pool); err != nil {
		return nil, err
	}
	pool.CloseIdleConnections()
	if err := server.Restart(ctx); err != nil {
		return nil, err
	}

	type usage struct {
		rss int64
		cpu time.Duration
		at  time.Time
	}
	var failed error
	measure := func() usage {
		rss, err := loadgen.RSS(server.PID())
		cpu, err2 := loadgen.CPU(server.PID())
		failed = errors.Join(failed, err, err2)
		return usage{rss, cpu, time.Now()}
	}
	if err := pause(ctx, 2*time.Second); err != nil { // until the start's work is done
		return nil, err
	}
	before := measure()
	s.Progress("opening %d sessions", s.Sessions)
	g, opening := errgroup.WithContext(ctx)
	g.SetLimit(s.AtOnce)
	dialer := &client.Dialer{Transport: client.WebSocketOnly}
	for _, u := range c.users {
		g.Go(func() (err error) {
			u.session, err = client.Connect(opening, client.Config{Endpoints: s.Fleet.Endpoints(0), Tokens: u.api, Dialer: dialer, QueueSize: 2 * c.roomSize, Background: true})
			if err == nil {
				u.room, err = u.session.Join(opening, c.roomOf(u))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := c.together(ctx); err != nil {
		return nil, err
	}
	open := measure()
	s.Progress("all see each other after %.1f s; idle for %s", open.at.Sub(before.at).Seconds(), s.Quiet)
	if err := pause(ctx, 2*time.Second); err != nil { // until the last answers are out
		return nil, err
	}
	quiet := measure()
	if err := pause(ctx, s.Quiet); err != nil {
		return nil, err
	}
	after := measure()
	if failed != nil {
		return nil, failed
	}
	r := &report.Idle{
		Head: report.NewHead("idle"), Sessions: s.Sessions, Rooms: c.rooms(), RoomSize: s.RoomSize,
		OpenSeconds: open.at.Sub(before.at).Seconds(), QuietSeconds: after.at.Sub(quiet.at).Seconds(),
		RSSBefore: before.rss, RSSAfter: after.rss,
		KiBPerSession:       float64(after.rss-before.rss) / 1024 / float64(s.Sessions),
		CPUMicrosPerConnect: float64((open.cpu - before.cpu).Microseconds()) / float64(s.Sessions),
		IdleCores:           (after.cpu - quiet.cpu).Seconds() / after.at.Sub(quiet.at).Seconds(),
	}
	for _, u := range c.users {
		r.Reconnects += int64(u.session.Counters().Connections) - 1
	}
	return r, nil
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
