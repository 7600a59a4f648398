package payments

import "time"

// step is a call to the gateway, or none.
type step string

const (
	stepNone      step = ""
	stepCreate    step = "create"
	stepConfirm   step = "confirm"
	stepGet       step = "get"
	stepCancel    step = "cancel"
	stepGiveUp    step = "give_up" // no call: there is nothing at the gateway
	stepExpire    step = "expire"  // no call: why it will be canceled is written down first
	stepRefund    step = "refund"
	stepGetRefund step = "get_refund"
)

const (
	// createWithin is shorter than gateways remember a key (Stripe: 24 h), so an intent
	// isn't made twice; and a payer who has waited for so long has given up, too.
	createWithin = 12 * time.Hour
	// actWithin is for how long a payer may take to do what their bank wants.
	actWithin = 24 * time.Hour
)

// Why the gateway was not even asked to take money, or no more.
const (
	reasonUnreachable = "gateway_unreachable"
	reasonExpired     = "action_expired"
)

// next says what a payment needs now; ask: something may have happened at the gateway.
// It is pure.
func (p *Payment) next(now time.Time, ask bool) (step, *Refund) {
	switch p.phase {
	case PhaseNone:
		if p.stop || now.Sub(p.CreatedAt) > createWithin {
			return stepGiveUp, nil
		}
		return stepCreate, nil
	case PhaseReady:
		switch {
		case p.stop:
			return stepCancel, nil
		case p.tries > 0: // the last call may have come through
			return stepGet, nil
		}
		return stepConfirm, nil
	case PhaseAction:
		switch {
		case p.tries > 0: // the last call may have come through
		case p.stop:
			return stepCancel, nil
		case now.Sub(p.CreatedAt) > actWithin:
			return stepExpire, nil
		}
	case PhaseWorking: // can't be stopped
	case PhaseRefused:
		if p.tries == 0 {
			return stepCancel, nil
		}
	case PhasePaid:
		for i := range p.refunds {
			r := &p.refunds[i]
			switch {
			case r.Status != RefundPending:
			case r.gatewayID == "":
				return stepRefund, r
			case ask:
				return stepGetRefund, r
			}
		}
		return stepNone, nil
	case PhaseStopped:
		return stepNone, nil
	}
	if ask {
		return stepGet, nil
	}
	return stepNone, nil
}

// again is when a payment is to be looked at again if nobody tells us anything: soon,
// while its payer waits for it, later, where a bank takes its days. nil: never.
func (p *Payment) again(now time.Time) *time.Time {
	waits := !p.phase.final()
	for _, r := range p.refunds {
		waits = waits || p.phase == PhasePaid && r.Status == RefundPending
	}
	if !waits {
		return nil
	}
	var wait time.Duration
	switch age := now.Sub(p.UpdatedAt); {
	case p.tries > 0:
		wait = min(5*time.Second<<min(p.tries, 8), 15*time.Minute)
	case age < 15*time.Minute:
		wait = time.Minute
	case age < 24*time.Hour:
		wait = 15 * time.Minute
	default:
		wait = 2 * time.Hour
	}
	return new(now.Add(wait))
}
