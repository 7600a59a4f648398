package session

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
)

// A fleet's gateway has a session like everybody, by the token of its fleet: it
// brings fixes of many subjects, and asks who of a fleet is near. It is nobody who
// could be in a room, be seen or be missed.

var (
	forbidden = &wire.Problem{
		Code: wire.CodeForbidden, Message: "a fleet's gateway ingests, and asks for who of a fleet is near: the rest is for users, and that is not",
	}
	tooManyFixes = &wire.Problem{Code: wire.CodeBadRequest, Message: "an ingest has at most 1,000 fixes: send several"}
)

// fleet returns whose gateway the session is; "" if it is a user's.
func (s *Session) fleet() string { return edge.FleetOf(s.member.GetUser()) }

// limits are what the session may send.
func (s *Session) limits() *admit.Limits {
	if s.fleet() != "" {
		return &s.registry.config.Gateways
	}
	return &s.registry.config.Limits
}

// may reports whether a frame is for a session of this kind.
func (s *Session) may(f *wire.ClientFrame) bool {
	gateway := s.fleet() != ""
	switch f.Body.(type) {
	case *wire.ClientFrame_Ingest:
		return gateway
	case *wire.ClientFrame_Nearby: // people can find out who looked for them, so it is a user who does
		return !gateway || f.GetNearby().GetFleet() != ""
	case *wire.ClientFrame_Hello, *wire.ClientFrame_Reauth, *wire.ClientFrame_Ping, *wire.ClientFrame_Bye:
		return true
	}
	return !gateway
}

// ingest gives fixes of the fleet's subjects to the Sharer, each by itself. The
// frame's memory is used again after it.
func (s *Session) ingest(id uint64, fixes []*wire.SubjectFix) {
	if len(fixes) > wire.MaxIngest {
		s.refuse(id, "", tooManyFixes)
		return
	}
	fleet, now := s.fleet(), time.Now()
	out := &wire.Ingested{}
	var first error
	var gone withdrawals
	for i, f := range fixes {
		err := s.ingestOne(fleet, f, now, &gone)
		if err == nil {
			out.Taken++
			continue
		}
		if first == nil {
			first = err
		}
		if id != 0 {
			e := s.errorOf("", err)
			out.Refused = append(out.Refused, &wire.Refusal{Index: uint32(i), Code: e.Code, RetryAfterMs: e.RetryAfterMs})
		}
	}
	answer := func() {
		if id == 0 && first != nil {
			s.refuse(0, "", first)
			return
		}
		s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_Ingested{Ingested: out}})
	}
	forget := s.registry.deps.Forget
	if len(gone.subjects) == 0 || forget == nil {
		answer()
		return
	}
	told := func(ctx context.Context) {
		forget(ctx, fleet, gone.subjects, gone.at)
		answer()
	}
	s.mu.Lock()
	full := s.inFlight >= s.registry.config.InFlight
	s.mu.Unlock()
	if !full {
		s.queue("", told)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.registry.config.Request)
	defer cancel()
	told(ctx) // who takes back so much may wait
}

// withdrawals are the subjects of a frame that were taken back, and until when.
type withdrawals struct {
	subjects []string
	at       time.Time
}

func (s *Session) ingestOne(fleet string, f *wire.SubjectFix, now time.Time, gone *withdrawals) error {
	if p := wire.CheckSubjectFix(f, now); p != nil {
		return p
	}
	subject := edge.Subject(fleet, f.Subject)
	if f.Fix.GetPoint() == nil {
		at := now
		if f.Fix.GetCaptured() != nil {
			at = f.Fix.Captured.AsTime()
		}
		s.registry.deps.Sharer.Withdraw(subject, at)
		// They may have been told through another node before.
		gone.subjects = append(gone.subjects, f.Subject)
		if at.After(gone.at) {
			gone.at = at
		}
		return nil
	}
	raw, err := rawOf(f.Fix)
	if err != nil {
		return &wire.Problem{Code: wire.CodeBadFix, Message: err.Error()}
	}
	return s.registry.deps.Sharer.Post(subject, "", raw, nil)
}
