package payments

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// there is an intent at a gateway, in short: what may become of what.
type there struct {
	State
	events []State // what it was, as webhooks say it
}

var leads = map[Phase][]Phase{
	PhaseReady:   {PhaseAction, PhaseWorking, PhaseRefused, PhasePaid, PhaseStopped},
	PhaseAction:  {PhaseWorking, PhaseRefused, PhasePaid, PhaseStopped},
	PhaseWorking: {PhaseRefused, PhasePaid},
	PhaseRefused: {PhaseAction, PhaseWorking, PhasePaid, PhaseStopped}, // by another method, or canceled
}

func (g *there) move(r *rand.Rand) bool {
	to := leads[g.Phase]
	if len(to) == 0 {
		return false
	}
	g.Phase = to[r.IntN(len(to))]
	if g.Phase == PhaseRefused {
		g.Reason = "card_declined"
	}
	g.events = append(g.events, g.State)
	return true
}

// Whatever order webhooks come in, however often, whichever of them are lost, and
// whenever somebody asks: what is believed never was wrong for good, what is over stays
// over, and once somebody has asked after the end, the payment is what the gateway says.
func TestWebhooksInAnyOrder(t *testing.T) {
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 0))
		m := core.Money{Amount: 1240, Currency: "EUR"}
		g := there{State: State{ID: "pi_1", Phase: PhaseReady, Money: m}}
		g.events = append(g.events, g.State)
		p := Payment{Charge: Charge{ID: uuid.New(), Money: m}, Status: Created}
		if r.IntN(2) == 0 { // the answer to the creation was lost: its event tells
			p.see(g.State, true)
		}
		told := 0
		check := func(do func()) {
			was := p
			do()
			if was.Status.Over() {
				require.Equal(t, was.Status, p.Status, "seed %d: what is over stays so", seed)
			} else if p.Status.Over() {
				told++
				require.True(t, g.Phase.final(), "seed %d: %s, and the intent is %s", seed, p.Status, g.Phase)
			}
		}
		for range 30 {
			switch what := r.IntN(10); {
			case what < 4:
				g.move(r)
			case what < 9: // any of what was, again and again
				check(func() { p.see(g.events[r.IntN(len(g.events))], false) })
			default:
				check(func() { p.see(g.State, true) })
			}
		}
		for g.move(r) {
		}
		check(func() { p.see(g.State, true) })
		require.Equal(t, 1, told, "seed %d", seed)
		switch {
		case g.Phase == PhasePaid:
			require.Equal(t, Succeeded, p.Status, "seed %d", seed)
		case g.Reason != "":
			require.Equal(t, Failed, p.Status, "seed %d", seed)
		default:
			require.Equal(t, Canceled, p.Status, "seed %d", seed)
		}
	}
}

// An event of a phase that doesn't last changes nothing, and is a reason to ask.
func TestWhatDoesNotLastIsAsked(t *testing.T) {
	p := Payment{Charge: Charge{Money: core.Money{Amount: 1, Currency: "EUR"}}, Status: Created, phase: PhaseReady, gatewayID: "pi_1"}
	require.True(t, p.see(State{ID: "pi_1", Phase: PhaseWorking}, false))
	require.Equal(t, PhaseReady, p.phase)
	require.False(t, p.see(State{ID: "pi_1", Phase: PhaseReady}, false), "that is no news")
	require.False(t, p.see(State{ID: "pi_2", Phase: PhasePaid}, false), "another intent is another's")
	require.Equal(t, Created, p.Status)
	require.False(t, p.see(State{ID: "pi_1", Phase: PhasePaid, Method: "pm_saved"}, false))
	require.Equal(t, Succeeded, p.Status)
	require.Equal(t, "pm_saved", p.Method)
}

// Refunds in any order: what went back is counted once, also if it comes back later.
func TestRefundsInAnyOrder(t *testing.T) {
	for seed := range uint64(5_000) {
		r := rand.New(rand.NewPCG(seed, 0))
		m := core.Money{Amount: 1000, Currency: "EUR"}
		p := Payment{Charge: Charge{Money: m}, phase: PhasePaid, Status: Succeeded}
		p.refunds = []Refund{{ID: uuid.New(), Money: core.Money{Amount: 400, Currency: "EUR"}, Status: RefundPending}, {ID: uuid.New(), Money: core.Money{Amount: 600, Currency: "EUR"}, Status: RefundPending}}
		require.Zero(t, p.refundable())
		events := []RefundStatus{RefundPending, RefundSucceeded}
		if r.IntN(2) == 0 {
			events = append(events, RefundFailed)
		}
		succeeded := 0
		for range 10 {
			was := p
			was.refunds = append([]Refund{}, p.refunds...)
			p.seeRefund(&p.refunds[0], RefundState{ID: "re_1", Status: events[r.IntN(len(events))]})
			for _, c := range refundChanges(was, p) {
				if c.succeeded {
					succeeded++
				}
			}
		}
		p.seeRefund(&p.refunds[0], RefundState{ID: "re_1", Status: events[len(events)-1]})
		require.Equal(t, events[len(events)-1], p.refunds[0].Status)
		require.LessOrEqual(t, succeeded, 1)
		require.True(t, p.Refunded == 400 || p.Refunded == 0 && p.refunds[0].Status == RefundFailed, "seed %d: %d", seed, p.Refunded)
		p.seeRefund(&p.refunds[1], RefundState{ID: "re_2", Status: RefundSucceeded})
		require.Equal(t, p.Refunded == 1000, p.Status == Refunded)
	}
}

// next takes each phase to its end, whatever fails.
func TestStepsOfAPayment(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		p    Payment
		ask  bool
		want step
	}{
		{"a new one", Payment{}, false, stepCreate},
		{"a creation that wasn't answered", Payment{tries: 3}, true, stepCreate},
		{"a new one that nobody wants any more", Payment{stop: true}, false, stepGiveUp},
		{"one that couldn't be created for long", Payment{Charge: Charge{}, CreatedAt: now.Add(-createWithin - 1)}, false, stepGiveUp},
		{"one that is created", Payment{phase: PhaseReady}, false, stepConfirm},
		{"a confirmation that wasn't answered", Payment{phase: PhaseReady, tries: 1}, false, stepGet},
		{"one that is created and not wanted", Payment{phase: PhaseReady, stop: true}, false, stepCancel},
		{"one that waits for its payer", Payment{phase: PhaseAction}, false, stepNone},
		{"of which something was heard", Payment{phase: PhaseAction}, true, stepGet},
		{"which has waited for too long", Payment{phase: PhaseAction, CreatedAt: now.Add(-actWithin - 1)}, false, stepExpire},
		{"which nobody wants any more", Payment{phase: PhaseAction, stop: true}, false, stepCancel},
		{"a bank that takes its time can't be stopped", Payment{phase: PhaseWorking, stop: true}, false, stepNone},
		{"a decline is made final", Payment{phase: PhaseRefused}, false, stepCancel},
		{"one that is over", Payment{phase: PhaseStopped}, true, stepNone},
		{"one that is paid", Payment{phase: PhasePaid}, true, stepNone},
		{"a refund", Payment{phase: PhasePaid, refunds: []Refund{{Status: RefundPending}}}, false, stepRefund},
		{"a refund that takes a while", Payment{phase: PhasePaid, refunds: []Refund{{Status: RefundPending, gatewayID: "re_1"}}}, false, stepNone},
		{"of which something may have happened", Payment{phase: PhasePaid, refunds: []Refund{{Status: RefundSucceeded}, {Status: RefundPending, gatewayID: "re_1"}}}, true, stepGetRefund},
	} {
		if c.p.CreatedAt.IsZero() {
			c.p.CreatedAt = now
		}
		got, _ := c.p.next(now, c.ask)
		require.Equal(t, c.want, got, c.name)
	}
}

// Methods are the gateway's ids: no number of a card comes here.
func TestMethods(t *testing.T) {
	for _, ok := range []string{"pm_card_visa", "pm_1Ab-c"} {
		require.True(t, method(ok), ok)
	}
	for _, bad := range []string{"", "pm", "4242424242424242", "4242-4242-4242-4242", "4242 4242 4242 4242", "pm_\n", "pm_é"} {
		require.False(t, method(bad), bad)
	}
}
