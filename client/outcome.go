package client

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// strayFor is how long a hello may take that nobody waits for any more.
const strayFor = 30 * time.Second

// next is what follows the end of a connection.
type next struct {
	elsewhere bool // better try another node
	again     bool // the same one, at once
	wait      time.Duration
	policy    wire.Policy
	err       error
}

// outcome reads why a connection ended.
func (s *Session) outcome(c *connection) (n next) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.err = c.err
	if end, ok := errors.AsType[*ClosedError](n.err); ok {
		// A normal close that nobody asked for is some proxy's, not the end.
		if end.Number != wire.CloseNormal {
			n.policy = wire.PolicyOf(uint16(end.Number))
		}
		if code := wire.CloseCode(uint16(end.Number)); code != "" {
			n.err = &Error{Code: code, Message: end.Reason}
		}
	}
	if c.closing != nil {
		// The frame says it even if the number behind it was cut off.
		if number, ok := wire.CloseNumber(c.closing.GetCode()); ok {
			n.policy = wire.PolicyOf(number)
		}
		n.wait = millis(c.closing.GetRetryAfterMs())
		n.err = &Error{Code: c.closing.GetCode(), Message: c.closing.GetMessage(), RetryAfter: n.wait}
	}
	refused, ok := errors.AsType[*Error](n.err)
	switch {
	case errors.Is(n.err, errSilent):
		n.elsewhere = true // a dial would be answered by silence, too
	case !ok:
	case refused.Status == 401:
		n.policy = wire.Final // the token source itself was refused
	case refused.Code == wire.CodeDraining:
		n.elsewhere = true
	case refused.Code == wire.CodeBadTicket:
		// The token is not at fault.
		n.policy = wire.Reconnect
		n.again = c.ticket != nil
		if slices.Equal(s.ticket, c.ticket) {
			s.ticket = nil
		}
	}
	return n
}

// superseded reports whether the device is live elsewhere.
func (n next) superseded() bool { return IsCode(n.err, wire.CodeSuperseded) }

// mayGoAbove: a device that was superseded and has nothing newer itself (a
// Welcome may have been lost) goes above the winner. Two programs that share a
// device id would do so in turn for ever, hence only now and then; but a hello of
// our own that was given up and got through all the same is none of another's.
func (s *Session) mayGoAbove(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strays = slices.DeleteFunc(s.strays, func(t time.Time) bool { return now.Sub(t) > strayFor })
	if len(s.strays) > 0 {
		s.strays = s.strays[1:]
		return true
	}
	s.superseded = slices.DeleteFunc(s.superseded, func(t time.Time) bool { return now.Sub(t) > time.Minute })
	s.superseded = append(s.superseded, now)
	return len(s.superseded) <= 2
}

// renewal is the end of an attempt to get a fresh token.
type renewal struct{ err error }

// refresh gets a token other than the one that was refused, beside whatever
// else is going on.
func (s *Session) refresh(ctx context.Context, stale string) {
	s.conns.Go(func() {
		_, err := s.cfg.Tokens.Token(ctx, stale)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fresh = &renewal{err}
		s.poke()
	})
}

// forGood reports whether the source of tokens has refused, rather than failed.
func (r *renewal) forGood() bool {
	refused, ok := errorsAs(r.err)
	return ok && refused.Status != 0 && refused.Status < 500 && refused.Status != 429
}
