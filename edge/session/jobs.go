package session

import (
	"cmp"
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/internal/obs"
)

// traced gives a job a span, named after the frame that asks for it.
func (s *Session) traced(j job) job {
	t, name := s.registry.deps.Tracer, "session "+s.frameKind
	if t == nil {
		return j
	}
	return func(ctx context.Context, next func()) {
		ctx, span := obs.Root(ctx, t, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("muster.session", s.id().String())))
		defer span.End()
		j(ctx, next)
	}
}

// belongs returns a context whose lines say that they are this session's.
func (s *Session) belongs(ctx context.Context) context.Context {
	return obs.With(ctx, slog.Any("session", s))
}

// LogValue is the session's name, made only for a line that is written.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.id().String()) }

// ask has core asked when it has a place for that.
func (r *Registry) ask(ctx context.Context, f func() error) error {
	select {
	case r.core <- struct{}{}:
		defer func() { <-r.core }()
		return f()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// still tells whether the session may be in a room that it joined. The hub knows
// as a rule, no older than the join and never for longer than it may; else core
// is asked.
func (s *Session) still(ctx context.Context, room string) (as edge.Membership, err error) {
	st, joined := s.in(room)
	if !joined {
		return as, notJoined
	}
	d := &s.registry.deps
	if as, ok := d.Hub.Membership(s, room); ok && as.Version >= st.version {
		return as, nil
	}
	err = s.registry.ask(ctx, func() error {
		as, err = d.Members.Member(ctx, s.member.User, room, st.version)
		return err
	})
	return as, err
}

// message stores and spreads a message. next is called when it has its place: the
// one after it need not wait until it is stored, so that what somebody sends
// without waiting for answers is stored by one transaction.
func (s *Session) message(ctx context.Context, id uint64, m *wire.Send, next func()) {
	d := &s.registry.deps
	var stored *wire.Message
	var spread bool
	as, err := s.still(ctx, m.Room)
	if err == nil {
		err = may(as, edge.Talks)
	}
	if err == nil {
		stored, spread, err = d.Messages.Store(ctx, edge.Draft{
			Room: m.Room, Sender: s.member.User, SenderName: cmp.Or(as.Name, s.member.Name), ClientID: m.ClientId, Body: m.Body,
			ReplyTo: m.ReplyTo, Mentions: m.Mentions, Attachments: m.Attachments, Queued: next,
		})
	}
	if err != nil {
		s.refuse(id, m.Room, err)
		return
	}
	if spread {
		d.Hub.Publish(m.Room, stored)
	}
	s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: stored}}})
}

const defaultHistory = 50

func (s *Session) history(ctx context.Context, id uint64, h *wire.History) {
	d := &s.registry.deps
	limit := int(min(h.Limit, wire.MaxHistory))
	if limit == 0 {
		limit = defaultHistory
	}
	var ms []*wire.Message
	var more bool
	err := s.registry.ask(ctx, func() error {
		as, err := d.Members.Member(ctx, s.member.User, h.Room, 0)
		if err == nil {
			err = may(as, edge.Listens)
		}
		if err == nil {
			ms, more, err = d.Messages.History(ctx, s.member.User, h.Room, edge.Page{
				Before: h.Before, After: h.After, Revised: h.ChangedAfter != nil, ChangedAfter: h.GetChangedAfter(), Limit: limit,
			})
		}
		return err
	})
	if err != nil {
		s.refuse(id, h.Room, err)
		return
	}
	ms, cut := fit(ms, h.After != 0 || h.ChangedAfter != nil)
	s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_Page{Page: &wire.Page{Room: h.Room, Messages: ms, More: more || cut}}})
}

const (
	maxPeople     = 500
	defaultPeople = 100
)

func (s *Session) people(ctx context.Context, id uint64, l *wire.ListPeople) {
	d := &s.registry.deps
	limit := int(min(l.Limit, maxPeople))
	if limit == 0 {
		limit = defaultPeople
	}
	_, err := s.still(ctx, l.Room)
	if err == nil && d.People == nil {
		err = errs.New(errs.Unavailable, edge.CodeRetry, "this node keeps no lists of people")
	}
	var page *wire.PeoplePage
	if err == nil {
		page, err = d.People(ctx, s.member.User, l.Room, l.After, limit)
	}
	if err != nil {
		s.refuse(id, l.Room, err)
		return
	}
	some, cut := fit(page.People, true)
	s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_PeoplePage{PeoplePage: &wire.PeoplePage{
		Room: l.Room, People: some, More: page.More || cut, Counts: page.Counts,
	}}})
}

// fit cuts a page to what a frame holds, at the end that the client asks for
// next.
func fit[T interface{ SizeVT() int }](all []T, forward bool) (some []T, cut bool) {
	const room = wire.MaxServerFrame - 1024
	size := 0
	for i := range all {
		at := i
		if !forward {
			at = len(all) - 1 - i
		}
		if size += all[at].SizeVT() + 8; size > room {
			if forward {
				return all[:at], true
			}
			return all[at+1:], true
		}
	}
	return all, false
}
