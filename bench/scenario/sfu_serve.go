package scenario

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/media"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/media/sfu"
)

// ServeTarget starts a fleet of one node with the role media. Its calls are of a group:
// sessions, tokens, memberships, events, metrics and SQL are all there, and in its CPU
// time.
func ServeTarget(ctx context.Context, f *fleet.Fleet, progress func(string, ...any)) (t SFUTarget, err error) {
	if err := f.Start(ctx); err != nil {
		return t, err
	}
	most := 0
	for _, c := range sfuCases {
		most = max(most, c.publishers+c.receivers)
	}
	pool := f.Client()
	defer pool.CloseIdleConnections()
	crowd := newCrowd(most, most, progress)
	progress("signing up %d users", most)
	if err := crowd.signUp(ctx, f.API(), pool); err != nil {
		return t, err
	}
	return SFUTarget{Name: report.SFUServe, Most: sfu.DefaultBitrate, Open: func(ctx context.Context, participants int) (media.Call, error) {
		return crowd.call(ctx, f, participants)
	}}, nil
}

// call starts one, with sessions for the first few of the first room.
func (c *crowd) call(ctx context.Context, f *fleet.Fleet, participants int) (media.Call, error) {
	if participants > c.roomSize {
		return nil, fmt.Errorf("%d participants of a room of %d", participants, c.roomSize)
	}
	users := c.users[:participants]
	call := &media.Served{Process: f.Nodes[0].PID()}
	call.End = func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if call.ID != "" {
			_ = users[0].api.EndCall(ending, call.ID) // the next one would be this one
		}
		c.leave()
		for _, u := range users {
			u.session, u.room = nil, nil
		}
	}
	g, opening := errgroup.WithContext(ctx)
	g.SetLimit(setupAtOnce)
	dialer := &client.Dialer{Transport: client.WebSocketOnly}
	for _, u := range users {
		g.Go(func() (err error) {
			u.session, err = client.Connect(opening, client.Config{Endpoints: f.Endpoints(0), Tokens: u.api, Dialer: dialer, QueueSize: 4 * c.roomSize})
			if err == nil {
				u.room, err = u.session.Join(opening, c.roomOf(u))
			}
			return err
		})
	}
	err := g.Wait()
	if err == nil {
		var started client.StartedCall
		started, err = users[0].api.StartCall(ctx, client.CallDraft{GroupID: c.groups[0], Type: "video"})
		call.ID = started.ID
	}
	if err != nil {
		call.End()
		return nil, err
	}
	for _, u := range users {
		call.Rooms = append(call.Rooms, u.room)
	}
	return call, nil
}
