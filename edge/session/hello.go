package session

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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

// hello makes the session live, or closes it. It runs in the reader.
func (s *Session) hello(re uint64, h *wire.Hello) {
	if !s.move(Hello) {
		return
	}
	r := s.registry
	id, from, err := s.authenticate(h)
	var opened regions.Opened
	var losses int
	if err == nil {
		opened, losses, err = s.open(h.Device, id, from.epoch)
	}
	if err != nil {
		e, known := errs.From(err)
		if !known {
			r.deps.Log.Error("hello failed", "device", printable(h.Device), "err", err)
		}
		s.end(0, &wire.Close{Code: string(e.Code), Message: e.Message, RetryAfterMs: millis(e.RetryAfter)})
		return
	}
	previous, over, plan := r.enter(s, losses)
	if over != nil {
		if s.finish(Fenced, wire.Reason_MOVED, over); over.Code == wire.CodeRetry {
			r.deps.Roster.Suspend(s.id()) // in case it is live all the same
		}
		if previous != nil {
			previous.finish(Fenced, wire.Reason_MOVED, superseded(s.epoch()))
		}
		return
	}
	if r.isRevoked(id.Login) { // since it was verified; from enter on, Revoke finds us
		s.end(wire.Reason_SIGNED_OUT, signedOut())
	}
	e := Welcomed
	if previous != nil || opened.PreviousEpoch != 0 {
		e = Resumed
	}
	s.mu.Lock()
	ok := s.state == Authenticating && s.moveLocked(e)
	if ok {
		s.since = r.now()
		s.expires = s.since + time.Until(id.Expires)
		s.pendLocked(opened.Rooms...)
		s.timer.Reset(0) // the deadlines are other ones now
	}
	s.mu.Unlock()
	if previous != nil {
		previous.replace(s.epoch())
	}
	if !ok { // signed out, or superseded
		if previous != nil {
			previous.relieve(wire.Reason_MOVED)
		}
		return
	}
	s.log(slog.LevelDebug, "session is live", "transport", s.conn.Transport(), "sdk", printable(h.Sdk), "fallback", printable(h.Fallback), "resumed", e == Resumed)

	welcome := s.welcome(id.Expires)
	welcome.Re = re
	s.send(welcome)
	s.mu.Lock()
	s.welcomed = true
	s.mu.Unlock()
	s.resumeCalls()
	if left := notFollowed(h, opened.Rooms); len(left) > 0 {
		time.AfterFunc(notFollowedFor, func() { r.run(func() { s.abandon(s.notJoined(left)) }) })
	}
	follows := h.Follows
	if s.fleet() != "" && len(follows) > 0 {
		s.refuse(0, "", forbidden)
		follows = nil
	}
	s.follow(follows, func() {
		if previous != nil {
			previous.relieve(wire.Reason_MOVED)
		}
		if r.deps.Arrived != nil && (from.region != "" || opened.PreviousEpoch == 0) {
			r.deps.Arrived(s.id(), from.region, len(follows) > 0)
		}
	})
	if plan != nil { // since the hello
		s.goaway(plan)
	}
}

// notFollowedFor is how long a device stays in rooms that its hello does not
// follow. It has left them, but for one: whose Join it asked for when its
// connection broke, and asks for again now.
const notFollowedFor = 5 * time.Second

// notFollowed returns the rooms that a client seems to have left. One that was
// started anew (a page that was reloaded) has forgotten its rooms and is about
// to join them: it has the whole grace time for that.
func notFollowed(h *wire.Hello, rooms []string) (left []string) {
	if h.Epoch == 0 && len(h.Ticket) == 0 {
		return nil
	}
	for _, room := range rooms {
		if !slices.ContainsFunc(h.Follows, func(f *wire.Follow) bool { return f.GetRoom() == room }) {
			left = append(left, room)
		}
	}
	return left
}

// origin is what a client knows of its device: the highest epoch, and the other
// region that its ticket is of, if it is.
type origin struct {
	epoch  regions.Epoch
	region regions.RegionID
}

// authenticate checks a hello.
func (s *Session) authenticate(h *wire.Hello) (id edge.Identity, from origin, err error) {
	if h.Version != wire.Version {
		return id, from, errs.New(errs.Invalid, edge.CodeBadVersion, "this node speaks version %d", wire.Version)
	}
	if p := wire.CheckDevice(h.Device); p != nil {
		return id, from, errs.New(errs.Invalid, errs.Code(p.Code), "%s", p.Message)
	}
	if id, err = s.verify(h.Token); err != nil {
		return id, from, err
	}
	now := time.Now()
	if len(h.Ticket) > 0 {
		t, err := unseal(s.registry.config.TicketKey, h.Ticket, now)
		if err == nil && (t.user != id.User || t.device != h.Device) {
			err = fmt.Errorf("%w: of another device", errTicket)
		}
		if err != nil {
			s.registry.deps.Log.Debug("ticket refused", "user", id.User, "device", h.Device, "err", err)
			return id, from, errs.New(errs.Invalid, edge.CodeBadTicket, "connect again without the ticket")
		}
		from.epoch = t.epoch
		if region := regions.RegionID(t.region); region != s.registry.config.Region {
			from.region = region
		}
	}
	if told := regions.Epoch(h.Epoch); told > from.epoch {
		if told > regions.ClockEpoch(now.Add(epochAhead)) {
			return id, from, errs.New(errs.Invalid, edge.CodeBadRequest, "the epoch is the one of the last welcome")
		}
		from.epoch = told
	}
	return id, from, nil
}

// open has the region open the session.
func (s *Session) open(dev string, id edge.Identity, floor regions.Epoch) (opened regions.Opened, losses int, err error) {
	r := s.registry
	if !r.deps.Roster.Current() {
		return opened, 0, errs.New(errs.Unavailable, edge.CodeRetry, "this node has no contact to its region: connect to another one").
			After(time.Duration(spread(0)) * time.Millisecond)
	}
	key := device{id.User, dev}
	here, losses, err := r.expect(key)
	if err != nil {
		return opened, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.config.Hello)
	defer cancel()
	opened, err = r.deps.Roster.Open(ctx, regions.Opening{
		User: id.User, Device: dev, Login: id.Login, Name: id.Name,
		Transport: s.conn.Transport(), Floor: max(floor, here), Connection: r.connection.Add(1),
	})
	if err != nil {
		r.unexpect(key)
		if _, known := errs.From(err); !known {
			r.deps.Log.Warn("no epoch for a session", "device", dev, "err", err)
			err = errs.New(errs.Unavailable, edge.CodeRetry, "this node can't take you now: connect again").After(time.Second)
		}
		return opened, 0, err
	}
	s.member = &peer.Member{
		User: id.User, Name: id.Name, Login: id.Login,
		Device: &wire.Device{
			Device: dev, Epoch: uint64(opened.Epoch), State: wire.State_LIVE,
			Region: string(r.config.Region), Node: string(r.config.Node),
			Transport: s.conn.Transport(), Since: timestamppb.Now(),
		},
	}
	return opened, losses, nil
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
	case edge.SubjectOf(id.User) != "":
		return id, errs.New(errs.Unauthorized, edge.CodeUnauthenticated, "the subject of a fleet has no session")
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
