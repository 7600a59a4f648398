package session

import (
	"context"
	"strings"
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
	var gone []string
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
	if len(gone) > 0 && s.registry.deps.Forget != nil {
		s.takenBack(fleet, gone, now)
	}
	if id == 0 && first != nil {
		s.refuse(0, "", first)
		return
	}
	s.answer(id, &wire.ServerFrame{Body: &wire.ServerFrame_Ingested{Ingested: out}})
}

func (s *Session) ingestOne(fleet string, f *wire.SubjectFix, now time.Time, gone *[]string) error {
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
		*gone = append(*gone, strings.Clone(f.Subject)) // which is part of all the frame's
		return nil
	}
	raw, err := rawOf(f.Fix)
	if err != nil {
		return &wire.Problem{Code: wire.CodeBadFix, Message: err.Error()}
	}
	return s.registry.deps.Sharer.Post(subject, "", raw, nil)
}

// What is taken back here may have been told through another node before. All are
// told, not too often, of many at a time.
const (
	forgetMost  = 100_000 // subjects that wait; the others lapse by themselves
	forgetBatch = 1000
	forgetLast  = 25_000 // of a node that ends
	forgetEvery = 100 * time.Millisecond
)

// withdrawals are subjects that other nodes are to forget, until when.
type withdrawals struct {
	subjects []string
	at       time.Time
}

func (s *Session) takenBack(fleet string, subjects []string, at time.Time) {
	s.mu.Lock()
	first := s.gone == nil
	if first {
		s.gone = &withdrawals{}
	}
	s.gone.at = at
	s.gone.subjects = append(s.gone.subjects, subjects[:min(len(subjects), forgetMost-len(s.gone.subjects))]...)
	s.mu.Unlock()
	if first {
		s.registry.run(func() { s.tellGone(fleet) })
	}
}

func (s *Session) tellGone(fleet string) {
	for {
		most, over := forgetBatch, s.registry.over()
		if over {
			most = forgetLast
		}
		s.mu.Lock()
		n := min(len(s.gone.subjects), most)
		batch, at := s.gone.subjects[:n], s.gone.at
		s.gone.subjects = s.gone.subjects[n:]
		if n == 0 {
			s.gone = nil
		}
		s.mu.Unlock()
		if n == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.registry.config.Request)
		s.registry.deps.Forget(ctx, fleet, batch, at)
		cancel()
		if !over {
			time.Sleep(forgetEvery)
		}
	}
}
