package subscriptions

import (
	"encoding/binary"
	"math/big"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
)

// State is where a subscription stands, whether it is canceled or not.
type State string

// The states.
const (
	None       State = "free"       // never had one; no row
	Incomplete State = "incomplete" // the first charge is under way
	Trialing   State = "trialing"
	Active     State = "active"
	PastDue    State = "past_due" // the renewal failed, and is tried again
	Expired    State = "expired"

	// Canceled is what a live one is called that ends with its period: see Status.
	Canceled State = "canceled"
)

// Terms are what is paid for a period.
type Terms struct {
	Plan   string
	Rank   int64 // of plans: a higher one is dearer and begins at once
	Price  core.Money
	Months int // that a period has
}

// Span is a period in time. Ends is Months after Anchor: counted from one day, a
// period that began on the 31st is back there after February.
type Span struct {
	Starts, Ends time.Time
	Anchor       time.Time
	Months       int
}

// next is the period of so many months that follows.
func (s Span) next(months int) Span {
	return Span{s.Ends, addMonths(s.Anchor, s.Months+months), s.Anchor, s.Months + months}
}

func begin(at time.Time, months int) Span { return Span{at, addMonths(at, months), at, months} }

// addMonths is the same day and time n months later, or the last day of that month
// if it has fewer.
func addMonths(t time.Time, n int) time.Time {
	t = t.UTC()
	first := time.Date(t.Year(), t.Month()+time.Month(n), 1, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(t.Day(), last)-1)
}

// Charge is what is to be paid for a period that is not paid for.
type Charge struct {
	ID     uuid.UUID
	Period int64
	Terms  Terms
	Amount core.Money // the price, less what an upgrade takes off it
	Span   Span

	Attempts int64     // begun so far
	Trying   uuid.UUID // the attempt that is under way; zero: none
	FailedAt time.Time // the first attempt; zero: none has
	NextTry  time.Time // if none is under way
}

// Subscription is what one user has.
type Subscription struct {
	User     core.UserID
	State    State
	Cancel   bool // it ends with the period
	Terms    Terms
	Next     *Terms // from the next period on; nil: the same
	Method   string // how it is paid, as the gateway calls it
	Saved    bool   // it has paid, and pays again while its owner is away
	Period   int64  // the number of the newest that was paid for; 0: none
	Span     Span   // of the present period, or of the trial
	Trialed  bool   // has had a trial
	Charge   *Charge
	Version  uint64
	Features Features // of the plan, as it is offered now
}

// Status is how a subscription is called before others.
func (s Subscription) Status() State {
	switch {
	case s.State == "":
		return None
	case s.Cancel && s.State != Expired:
		return Canceled
	}
	return s.State
}

// live is one that has not ended.
func (s Subscription) live() bool { return s.State != "" && s.State != Expired }

func (s Subscription) trying() bool { return s.Charge != nil && s.Charge.Trying != uuid.Nil }

// retries are when a renewal is tried again, after the first attempt failed. The
// last one's failure ends the subscription.
var retries = [...]time.Duration{1 * day, 3 * day, 7 * day}

const (
	day = 24 * time.Hour
	// grace is for how long features stay while a renewal is late or tried again: as
	// long as that takes, and a day for whoever does it to come back.
	grace = 8 * day
)

// Due is when Tick has something to do; zero: not by itself.
func (s Subscription) Due() time.Time {
	switch {
	case !s.live() || s.trying():
		return time.Time{}
	case s.Charge != nil:
		return s.Charge.NextTry
	}
	return s.Span.Ends
}

// PaidUntil is until when the features of the plan are the user's, as far as is
// known; zero: they are not.
func (s Subscription) PaidUntil() time.Time {
	switch {
	case !s.live() || s.State == Incomplete:
		return time.Time{}
	case s.State == PastDue && s.Charge != nil:
		if until := s.Charge.FailedAt.Add(grace); until.After(s.Span.Ends) { // else a clock was set back
			return until
		}
		return s.Span.Ends
	case s.Cancel && s.Charge == nil:
		return s.Span.Ends
	}
	return s.Span.Ends.Add(grace)
}

// News is what a decision asks to be told to the user.
type News string

// What users are told.
const (
	Renewed       News = "renewed"
	PaymentFailed News = "payment_failed"
	Ended         News = "ended"
)

// Effects are what is to be done in the transaction that keeps a decision.
type Effects struct {
	Open   *Charge   // is new
	Void   uuid.UUID // this charge is not wanted any more
	Try    bool      // the attempt Charge.Trying begins
	Away   bool      // while the user isn't there
	Paid   *Charge   // is paid: it goes into the user's book
	Refund bool      // the money came for nothing: it goes back
	Tell   News
}

// try begins an attempt. Nothing to pay is paid at once.
func (s Subscription) try(now time.Time, e Effects) (Subscription, Effects) {
	c := *s.Charge
	c.Attempts++
	c.Trying, c.NextTry = attemptID(c.ID, c.Attempts), time.Time{}
	s.Charge = &c
	if e.Open != nil {
		e.Open = &c
	}
	if c.Amount.Amount > 0 {
		e.Try = true
		return s, e
	}
	paid, more := s.Paid(now, c.ID)
	more.Open, more.Void = e.Open, e.Void
	return paid, more
}

// chargeID follows from the decision: a version comes once.
func (s Subscription) chargeID() uuid.UUID {
	return uuid.NewSHA1(uuid.UUID(s.User), binary.BigEndian.AppendUint64(nil, s.Version))
}

// attemptID follows from the charge and the number of the attempt.
func attemptID(charge uuid.UUID, n int64) uuid.UUID {
	return uuid.NewSHA1(charge, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// open makes the charge of a period.
func (s Subscription) open(terms Terms, amount core.Money, span Span) (Subscription, Effects) {
	s.Charge = &Charge{ID: s.chargeID(), Period: s.Period + 1, Terms: terms, Amount: amount, Span: span}
	return s, Effects{Open: s.Charge}
}

// Subscribe begins a subscription, changes the plan of one, or how it is paid.
func (s Subscription) Subscribe(now time.Time, terms Terms, method string, trial time.Duration) (Subscription, Effects, error) {
	switch {
	case !s.live():
		s.Cancel, s.Next, s.Terms = false, nil, terms
		s = s.payBy(method)
		if trial > 0 && !s.Trialed {
			end := now.Add(trial)
			s.State, s.Trialed, s.Span = Trialing, true, Span{Starts: now, Ends: end, Anchor: end}
			return s, Effects{}, nil
		}
		s.State, s.Span = Incomplete, Span{Starts: now, Ends: now, Anchor: now}
		s, e := s.open(terms, terms.Price, begin(now, terms.Months))
		s, e = s.try(now, e)
		return s, e, nil
	case s.State == Incomplete:
		return s, Effects{}, ErrPending
	case terms.Plan == s.Terms.Plan:
		// The plan that it has: another way to pay, and it goes on.
		s.Cancel, s.Next = false, nil
		s = s.payBy(method)
		if s.Charge != nil && !s.trying() {
			s, e := s.try(now, Effects{})
			return s, e, nil
		}
		return s, Effects{}, nil
	case s.trying():
		return s, Effects{}, ErrPending
	case terms.Price.Currency != s.Terms.Price.Currency && s.State != Trialing:
		return s, Effects{}, ErrOtherCurrency
	}
	s.Cancel, s.Next = false, nil
	s = s.payBy(method)
	switch {
	case s.State == Trialing && s.Charge == nil: // nothing is paid yet
		s.Terms = terms
		return s, Effects{}, nil
	case s.Charge != nil: // for the period that is due the other plan is asked for, in its place
		before := s.Charge
		span := Span{before.Span.Starts, addMonths(before.Span.Starts, terms.Months), before.Span.Starts, terms.Months}
		s, e := s.open(terms, terms.Price, span)
		s.Charge.FailedAt, e.Void = before.FailedAt, before.ID
		s, e = s.try(now, e)
		return s, e, nil
	}
	rest := s.rest(now)
	if terms.Rank <= s.Terms.Rank || rest > terms.Price.Amount {
		s.Next = &terms
		return s, Effects{}, nil
	}
	amount := terms.Price
	amount.Amount -= rest
	s, e := s.open(terms, amount, begin(now, terms.Months))
	s, e = s.try(now, e)
	return s, e, nil
}

// payBy names another way to pay, or the same.
func (s Subscription) payBy(method string) Subscription {
	if s.Method != method {
		s.Method, s.Saved = method, false
	}
	return s
}

// rest is what of the present period's price is not used up, rounded in the user's
// favour.
func (s Subscription) rest(now time.Time) int64 {
	left, whole := s.Span.Ends.Sub(now), s.Span.Ends.Sub(s.Span.Starts)
	if s.State != Active || s.Period == 0 || left <= 0 || whole <= 0 {
		return 0
	}
	rest := new(big.Int).Mul(big.NewInt(s.Terms.Price.Amount), big.NewInt(int64(min(left, whole))))
	rest.Add(rest, big.NewInt(int64(whole-1)))
	return rest.Quo(rest, big.NewInt(int64(whole))).Int64()
}

// upgrade is a charge of another plan, in a period that is paid for.
func (s Subscription) upgrade() bool {
	return s.Charge != nil && s.State == Active && s.Charge.Span.Starts.Before(s.Span.Ends)
}

// Tick does what has come due.
func (s Subscription) Tick(now time.Time) (Subscription, Effects) {
	due := s.Due()
	switch {
	case due.IsZero() || now.Before(due):
		return s, Effects{}
	case s.Charge != nil:
		return s.try(now, Effects{Away: true})
	case s.Cancel:
		return s.expire()
	}
	terms := s.Terms
	span := s.Span.next(terms.Months)
	if s.Next != nil {
		terms = *s.Next
		if span = s.Span.next(terms.Months); terms.Months != s.Terms.Months {
			span = begin(s.Span.Ends, terms.Months)
		}
	}
	for !now.Before(span.Ends) { // nobody was there to renew: what has passed isn't charged
		span = span.next(terms.Months)
	}
	s, e := s.open(terms, terms.Price, span)
	e.Away = true
	return s.try(now, e)
}

func (s Subscription) expire() (Subscription, Effects) {
	s.State, s.Cancel, s.Next, s.Method, s.Saved = Expired, false, nil, "", false
	e := Effects{Tell: Ended}
	if s.Charge != nil {
		e.Void, s.Charge = s.Charge.ID, nil
	}
	return s, e
}

// Paid hears that an attempt at a charge has succeeded.
func (s Subscription) Paid(now time.Time, charge uuid.UUID) (Subscription, Effects) {
	if s.Charge == nil || s.Charge.ID != charge {
		return s, Effects{Refund: true}
	}
	c := *s.Charge
	e := Effects{Paid: &c}
	if !s.upgrade() && s.State != Incomplete {
		e.Tell = Renewed
	}
	s.State, s.Terms, s.Next, s.Period, s.Span, s.Charge = Active, c.Terms, nil, c.Period, c.Span, nil
	return s, e
}

// Failed hears that the attempt at a charge that was under way has failed.
func (s Subscription) Failed(now time.Time, attempt uuid.UUID) (Subscription, Effects) {
	if !s.trying() || s.Charge.Trying != attempt {
		return s, Effects{}
	}
	if s.upgrade() { // it stays as it was
		e := Effects{Void: s.Charge.ID, Tell: PaymentFailed}
		s.Charge = nil
		return s, e
	}
	c := *s.Charge
	c.Trying = uuid.Nil
	if c.FailedAt.IsZero() {
		c.FailedAt = now
	}
	s.Charge = &c
	if s.Cancel || s.State == Incomplete {
		s, e := s.expire()
		return s, e
	}
	for _, after := range retries {
		if at := c.FailedAt.Add(after); at.After(now) {
			c.NextTry, s.State = at, PastDue
			return s, Effects{Tell: PaymentFailed}
		}
	}
	return s.expire()
}

// Refunded hears that all that was paid for a period went back: if that is the
// present one, it ends now.
func (s Subscription) Refunded(now time.Time, period int64) (Subscription, Effects) {
	if !s.live() || period == 0 || s.Period != period || s.trying() {
		return s, Effects{}
	}
	if now.Before(s.Span.Ends) {
		s.Span.Ends = now
	}
	return s.expire()
}

// CancelAt the end of what is paid for.
func (s Subscription) CancelAtEnd(now time.Time) (Subscription, Effects, error) {
	if !s.live() {
		return s, Effects{}, ErrNone
	}
	s.Cancel, s.Next = true, nil
	if s.Charge != nil && !s.trying() { // nothing is paid for: it has ended
		s, e := s.expire()
		return s, e, nil
	}
	return s, Effects{}, nil
}

// Resume takes a cancellation back.
func (s Subscription) Resume(now time.Time) (Subscription, Effects, error) {
	if !s.live() || s.Cancel && s.Charge == nil && !now.Before(s.Span.Ends) {
		return s, Effects{}, ErrNone
	}
	s.Cancel = false
	return s, Effects{}, nil
}
