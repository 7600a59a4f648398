package host

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/call"
	"github.com/mustermesh/muster/regions"
)

// HandleAsk answers a node of the region for one of its sessions.
func (h *Host) HandleAsk(ctx context.Context, from regions.NodeID, a *peer.CallAsk) (*wire.ServerFrame, error) {
	s, r := a.GetSession(), a.GetRequest()
	who := media.Session{
		User: s.GetUser(), Device: s.GetDevice(), Epoch: regions.Epoch(s.GetEpoch()), Name: s.GetName(), Role: s.GetRole(), Node: from,
	}
	if r.GetBody() == nil || who.User == "" || who.Device == "" {
		return nil, media.ErrBadRequest
	}
	if j := r.GetJoin(); j != nil {
		l, err := h.open(ctx, r.GetCall(), a.GetRoom(), regions.Epoch(a.GetPlace()))
		if err != nil {
			return nil, err
		}
		select {
		case <-l.others:
		case <-l.done:
		case <-ctx.Done():
		}
		return l.join(ctx, who, j, a)
	}
	l := h.live(r.GetCall())
	if l == nil || l.room != a.GetRoom() {
		return nil, media.ErrRetry // its place is another one, of which the asker hears soon
	}
	switch b := r.Body.(type) {
	case *wire.CallRequest_Floor:
		return l.floor(ctx, who, b.Floor)
	case *wire.CallRequest_Moderate:
		return l.moderate(ctx, who, b.Moderate)
	}
	var err error
	if e := l.ask(ctx, func(now time.Time) { err = l.request(now, who, r) }); e != nil {
		return nil, e
	}
	return done(err)
}

func done(err error) (*wire.ServerFrame, error) {
	if err != nil {
		return nil, err
	}
	return &wire.ServerFrame{Body: &wire.ServerFrame_Done{Done: &wire.Done{}}}, nil
}

// request does what takes no time, by the goroutine of the call.
func (l *live) request(now time.Time, who media.Session, r *wire.CallRequest) error {
	id := who.ID()
	if err := l.m.In(id); err != nil {
		return err
	}
	k := call.Key{User: who.User, Device: who.Device}
	switch b := r.Body.(type) {
	case *wire.CallRequest_Leave:
		l.m.Leave(now, id, "left")
	case *wire.CallRequest_Set:
		if b.Set.Heading != nil {
			l.ears.turn(k, *b.Set.Heading)
		}
		return l.m.Set(id, b.Set)
	case *wire.CallRequest_Describe:
		if b.Describe.GetPlace() != 0 && b.Describe.GetPlace() != uint64(l.m.Place()) {
			return media.ErrRetry
		}
		a, err := l.attendee(k)
		if err != nil {
			return err
		}
		return a.peer.Describe(b.Describe)
	case *wire.CallRequest_Candidate:
		if a := l.attendees[k]; a != nil && (b.Candidate.GetPlace() == 0 || b.Candidate.GetPlace() == uint64(l.m.Place())) {
			return a.peer.Candidate(b.Candidate)
		}
	case *wire.CallRequest_Wants:
		return l.m.Wants(id, b.Wants)
	case *wire.CallRequest_Signal:
		return l.m.Signal(id, b.Signal)
	default:
		return media.ErrBadRequest
	}
	return nil
}

// join takes a session in.
func (l *live) join(ctx context.Context, who media.Session, j *wire.CallJoin, ask *peer.CallAsk) (*wire.ServerFrame, error) {
	var joined *wire.CallJoined
	var err error
	if e := l.ask(ctx, func(now time.Time) {
		k := call.Key{User: who.User, Device: who.Device}
		var fresh bool
		if ask.GetAgain() {
			l.m.Expect(now, ask.GetKnown())
		}
		if fresh, err = l.m.Join(now, who, j, ask.GetAgain()); err != nil {
			return
		}
		l.h.noteAt(k, l.id, true)
		if a := l.attendees[k]; a != nil && fresh {
			a.close()
			delete(l.attendees, k)
		}
		l.dirty = true
		joined = l.joined(k, who.User)
		l.offer(k, who)
	}); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	if !ask.GetAgain() {
		l.h.spawn(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			if err := l.h.cfg.Book.Joined(ctx, string(l.id), who.User); err != nil {
				l.log.InfoContext(ctx, "it was not stored who takes part in a call", "err", err)
			}
		})
	}
	return &wire.ServerFrame{Body: &wire.ServerFrame_CallJoined{CallJoined: joined}}, nil
}

func (l *live) joined(k call.Key, user string) *wire.CallJoined {
	return &wire.CallJoined{Place: uint64(l.m.Place()), State: l.m.State(k), IceServers: l.h.cfg.ICE(user)}
}

// offer tells a session again what it may not have got.
func (l *live) offer(k call.Key, who media.Session) {
	a := l.attendees[k]
	if a == nil {
		return
	}
	if d := a.peer.Offer(); d != nil {
		d.Place = uint64(l.m.Place())
		l.h.tell(who, &wire.CallEvent{Call: string(l.id), Place: uint64(l.m.Place()), Body: &wire.CallEvent_Describe{Describe: d}})
	}
}

// stays takes what a node of the region says of a session's connection.
func (h *Host) stays(from regions.NodeID, id string, s *peer.CallStay) {
	p := s.GetSession()
	who := media.Session{User: p.GetUser(), Device: p.GetDevice(), Epoch: regions.Epoch(p.GetEpoch()), Name: p.GetName(), Role: p.GetRole(), Node: from}
	switch s.GetState() {
	case peer.CallStay_RESUMED:
		h.resumed(who)
	case peer.CallStay_SUSPENDED:
		if l := h.live(id); l != nil {
			l.do(func(time.Time) { l.m.Suspend(who.ID()) })
		}
	case peer.CallStay_GONE:
		if l := h.live(id); l != nil {
			l.do(func(now time.Time) { l.m.Leave(now, who.ID(), s.GetReason()) })
		}
	}
}

// resumed tells a session that has a connection again all of the calls that it is in
// here.
func (h *Host) resumed(who media.Session) {
	k := call.Key{User: who.User, Device: who.Device}
	for _, l := range h.here(k) {
		l.do(func(now time.Time) {
			if !l.m.Resume(now, who) {
				return
			}
			l.h.tell(who, &wire.CallEvent{Call: string(l.id), Place: uint64(l.m.Place()), Body: &wire.CallEvent_Joined{Joined: l.joined(k, who.User)}})
			l.offer(k, who)
		})
	}
}

// moderate does what is for admins and owners.
func (l *live) moderate(ctx context.Context, who media.Session, r *wire.CallModerate) (*wire.ServerFrame, error) {
	var err error
	var grant uint64
	stored := false
	if e := l.ask(ctx, func(now time.Time) {
		l.m.Stands(who)
		switch b := r.GetWhat().(type) {
		case *wire.CallModerate_Mute:
			err = l.m.Mute(now, who.ID(), b.Mute)
		case *wire.CallModerate_Kick:
			err = l.m.Kick(now, who.ID(), b.Kick)
		case *wire.CallModerate_TakeFloor:
			grant, err = l.m.TakeFloor(who.ID(), b.TakeFloor)
		case *wire.CallModerate_Lock, *wire.CallModerate_End:
			err, stored = l.m.Moderates(who.ID()), true
		default:
			err = media.ErrBadRequest.At("moderate")
		}
	}); e != nil {
		return nil, e
	}
	switch {
	case err != nil:
		return nil, err
	case grant != 0:
		return l.takeFloor(ctx, grant)
	case !stored:
		return done(nil)
	}
	if b, ok := r.GetWhat().(*wire.CallModerate_Lock); ok {
		err = l.h.cfg.Book.Lock(ctx, string(l.id), who, b.Lock)
	} else {
		err = l.h.cfg.Book.End(ctx, string(l.id), who)
	}
	if err != nil {
		return nil, err
	}
	l.h.reread(string(l.id))
	return done(nil)
}
