package session

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// epochAhead is how far a client's epoch may be ahead of this node's clock:
// clocks differ, but an epoch that a client made up could leave no higher one.
const epochAhead = 24 * time.Hour

// devicesWait is when a user with too many devices may try again with one more.
const devicesWait = 30 * time.Second

// hello makes the session live, or closes it. It runs in the reader.
func (s *Session) hello(re uint64, h *wire.Hello) {
	if !s.move(Hello) {
		return
	}
	old, err := s.authenticate(h)
	if err != nil {
		e, known := errs.From(err)
		if !known {
			s.registry.deps.Log.Error("hello failed", "device", s.device, "err", err)
		}
		s.end(0, &wire.Close{Code: string(e.Code), Message: e.Message, RetryAfterMs: millis(e.RetryAfter)})
		return
	}
	previous, winner, draining, ok := s.registry.enter(s)
	if !ok {
		s.end(0, superseded(winner))
		return
	}
	if s.registry.isRevoked(s.identity.Login) { // since it was verified; from enter on, Revoke finds us
		s.end(0, signedOut())
	}
	welcomed := Welcomed
	if previous != nil {
		welcomed = Resumed
	}
	s.mu.Lock()
	ok = s.state == Authenticating && s.moveLocked(welcomed)
	if ok {
		s.expires = s.identity.Expires
	}
	s.mu.Unlock()
	var inherited map[string]edge.Membership
	if previous != nil {
		inherited = previous.replace(s.epoch)
	}
	if !ok { // it took too long or was signed out, and was closed meanwhile
		s.registry.forget(s)
		if previous != nil {
			s.relieve(previous, inherited, h.Follows)
		}
		return
	}
	s.timer.Reset(0) // the deadlines are other ones now
	s.registry.deps.Log.Debug("session is live", "user", s.identity.User, "device", s.device, "epoch", s.epoch,
		"transport", s.conn.Transport(), "sdk", printable(h.Sdk), "fallback", printable(h.Fallback), "resumed", old > 0 || previous != nil)

	welcome := s.welcome(s.conn.Transport())
	welcome.Re = re
	s.send(welcome)
	if old == 0 {
		// A client that was started anew (a page that was reloaded) has forgotten
		// its rooms and is about to join them: it leaves them by a time-out only.
		inherited = nil
	}
	s.follow(h.Follows, func() {
		if previous != nil {
			s.relieve(previous, inherited, h.Follows)
		}
	})
	if draining {
		s.drain()
	}
}

// authenticate checks a hello and gets the session's epoch. The result is the
// epoch that the client had before.
func (s *Session) authenticate(h *wire.Hello) (old regions.Epoch, err error) {
	if h.Version != wire.Version {
		return 0, errs.New(errs.Invalid, edge.CodeBadVersion, "this node speaks version %d", wire.Version)
	}
	if p := wire.CheckDevice(h.Device); p != nil {
		return 0, errs.New(errs.Invalid, errs.Code(p.Code), "%s", p.Message)
	}
	id, err := s.verify(h.Token)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	old = regions.Epoch(h.Epoch)
	if old > regions.ClockEpoch(now.Add(epochAhead)) {
		return 0, errs.New(errs.Invalid, edge.CodeBadRequest, "the epoch is the one of the last welcome")
	}
	s.identity, s.device = id, h.Device
	floor := old
	current, room := s.registry.current(s.key())
	if !room {
		return 0, errs.New(errs.RateLimited, edge.CodeRateLimited,
			"%d devices of yours are connected to this node: close one first", s.registry.config.Devices).After(devicesWait)
	}
	if current != nil {
		floor = max(floor, current.epoch)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.registry.config.Hello)
	defer cancel()
	opened, err := s.registry.deps.Roster.Open(ctx, regions.Opening{
		User: id.User, Device: h.Device, Login: id.Login, Name: id.Name,
		Transport: s.conn.Transport(), Floor: floor,
	})
	epoch := opened.Epoch
	if err != nil {
		s.registry.deps.Log.Warn("no epoch for a session", "device", s.device, "err", err)
		return 0, errs.New(errs.Unavailable, edge.CodeRetry, "this node can't take you now: connect again").After(time.Second)
	}
	s.epoch = epoch
	s.member = &peer.Member{
		User: id.User, Name: id.Name, Login: id.Login,
		Device: &wire.Device{
			Device: h.Device, Epoch: uint64(epoch), State: wire.State_LIVE,
			Region: string(s.registry.config.Region), Node: string(s.registry.config.Node),
			Transport: s.conn.Transport(), Since: timestamppb.New(now),
		},
	}
	return old, nil
}

// verify checks a token, and that its login was not ended here: a token stays
// valid by itself until it runs out.
func (s *Session) verify(token string) (edge.Identity, error) {
	if token == "" {
		return edge.Identity{}, errs.New(errs.Unauthorized, edge.CodeUnauthenticated, "send an access token")
	}
	id, err := s.registry.deps.Verifier.Verify(token)
	switch {
	case err != nil:
		return id, err
	case !id.Expires.After(time.Now()):
		return id, errs.New(errs.Unauthorized, edge.CodeTokenExpired, "get a fresh access token")
	case s.registry.isRevoked(id.Login):
		return id, errs.New(errs.Unauthorized, edge.CodeSignedOut, "you signed out: sign in again")
	}
	return id, nil
}

// follow joins the rooms that the client was in before, and calls then when
// all are done with.
func (s *Session) follow(follows []*wire.Follow, then func()) {
	var waiting atomic.Int64
	waiting.Store(1)
	finished := func() {
		if waiting.Add(-1) == 0 {
			then()
		}
	}
	seen := make(map[string]bool, min(len(follows), wire.MaxRooms))
	for _, f := range follows {
		room := f.GetRoom()
		p := wire.CheckRoom(room)
		switch {
		case p != nil:
			s.refuse(0, "", p)
			continue
		case seen[room]:
			continue
		case len(seen) == wire.MaxRooms:
			s.refuse(0, room, tooManyRooms)
			continue
		}
		if p := wire.CheckPositions(f.Positions); p != nil {
			s.refuse(0, room, p)
			continue
		}
		seen[room] = true
		waiting.Add(1)
		s.queue(room, func(ctx context.Context) {
			defer finished()
			s.join(ctx, 0, room, f.Positions)
		})
	}
	s.registry.run(finished) // may call the hub; never in the middle of a frame
}

var tooManyRooms = &wire.Problem{Code: wire.CodeTooManyRooms, Message: "leave a room first: a session is in at most 64"}

// printable is a client's own words, fit for a log.
func printable(v string) string {
	v = strings.Map(func(r rune) rune {
		if r < ' ' || r == '\ufffd' || r == 0x7f {
			return -1
		}
		return r
	}, v)
	return v[:min(len(v), 100)]
}
