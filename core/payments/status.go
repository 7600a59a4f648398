package payments

import "cmp"

// Status is what is known of a payment.
type Status string

// The statuses of a payment.
const (
	Created        Status = "created"         // the gateway isn't done with it
	RequiresAction Status = "requires_action" // the payer's bank wants something of them
	Processing     Status = "processing"      // the gateway will tell
	Succeeded      Status = "succeeded"       // the money is there
	Failed         Status = "failed"          // the gateway, or the bank, said no; nothing was taken
	Canceled       Status = "canceled"        // before anything was taken
	Refunded       Status = "refunded"        // all of it went back; a part: it stays Succeeded
)

// Over reports whether nothing is expected any more, but refunds.
func (s Status) Over() bool { return s.Paid() || s == Failed || s == Canceled }

// Paid reports whether the money came.
func (s Status) Paid() bool { return s == Succeeded || s == Refunded }

// Phase is how far an intent is at the gateway.
type Phase string

// The phases of an intent. Only the last two are for good.
const (
	PhaseNone    Phase = ""        // there is no intent yet
	PhaseReady   Phase = "ready"   // to be confirmed
	PhaseAction  Phase = "action"  // waits for the payer
	PhaseWorking Phase = "working" // waits for the bank
	PhaseRefused Phase = "refused" // a method was declined; the intent would take another
	PhasePaid    Phase = "paid"
	PhaseStopped Phase = "stopped" // canceled
)

func (p Phase) final() bool { return p == PhasePaid || p == PhaseStopped }

// RefundStatus is how far a refund is.
type RefundStatus string

// The statuses of a refund. A bank may send back one that had succeeded: it fails then.
const (
	RefundPending   RefundStatus = "pending"
	RefundSucceeded RefundStatus = "succeeded"
	RefundFailed    RefundStatus = "failed"
)

// status follows from what is known of the intent.
func (p *Payment) status() Status {
	switch p.phase {
	case PhaseAction:
		return RequiresAction
	case PhaseWorking, PhaseRefused: // what was refused isn't over until it is stopped
		return Processing
	case PhasePaid:
		if p.Refunded >= p.Money.Amount {
			return Refunded
		}
		return Succeeded
	case PhaseStopped:
		if p.Reason != "" {
			return Failed
		}
		return Canceled
	}
	return Created
}

// see takes what is so at the gateway into a payment. now says that it is an answer to
// who asked just now, and nothing has changed since: only then phases count that don't
// last; else, where they are news, ask says that the gateway is to be asked.
func (p *Payment) see(s State, now bool) (ask bool) {
	if p.gatewayID == "" && !p.phase.final() {
		p.gatewayID = s.ID
	}
	switch {
	case p.phase.final():
		return false
	case s.ID != p.gatewayID: // a twin that was never confirmed: it takes no money
		return false
	case !now && !s.Phase.final():
		return s.Phase != p.phase
	}
	p.phase = s.Phase
	if s.Phase == PhasePaid {
		p.Reason = "" // of an earlier try
		p.Method = cmp.Or(s.Method, p.Method)
	} else {
		p.Reason = cmp.Or(s.Reason, p.Reason)
	}
	p.Status = p.status()
	return false
}

// odd reports a state that can't be this payment's: somebody has changed the intent at
// the gateway, and a person has to look at it.
func (p *Payment) odd(s State) bool { return s.Phase == PhasePaid && s.Money != p.Money }

// giveUp ends a payment of which the gateway knows nothing that could take money.
func (p *Payment) giveUp(reason string) {
	p.phase, p.Reason = PhaseStopped, reason
	p.Status = p.status()
}

// seeRefund takes what is so at the gateway into a refund. Its statuses have one order,
// pending, succeeded, failed, and none comes back, so it may come late or twice.
func (p *Payment) seeRefund(r *Refund, s RefundState) {
	if r.Status == RefundFailed || r.gatewayID != "" && r.gatewayID != s.ID {
		return
	}
	r.gatewayID = cmp.Or(r.gatewayID, s.ID)
	if s.Status == RefundPending || s.Status == r.Status {
		return
	}
	if s.Status == RefundSucceeded {
		p.Refunded += r.Money.Amount
	}
	// Where one fails that had succeeded, it stays counted: its purpose was told, and the
	// ledger says that the payer is owed the money (post.go).
	r.Status, r.Reason = s.Status, s.Reason
	p.Status = p.status()
}

// refundable is how much can still be given back.
func (p *Payment) refundable() int64 {
	left := p.Money.Amount - p.Refunded
	for _, r := range p.refunds {
		if r.Status == RefundPending {
			left -= r.Money.Amount
		}
	}
	return left
}
