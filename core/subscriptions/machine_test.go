package subscriptions

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// The oracle knows days, of which it counts one after the other. For each it says
// what is paid for it; it has no spans, anchors or times.
type oracle struct {
	covered map[int]string // by day: the plan that it is paid, or tried, with
	from    int            // the first day of the present period
	end     int            // the first day that is not covered
	months  int            // of the present period: 0 for a trial

	plan, next string
	alive      bool // has a subscription
	first      bool // that never was paid
	late       bool // and wasn't paid in time
	ending     bool // and isn't wanted any more
	trial      bool // and costs nothing yet
	hadTrial   bool
	anchor     int
	paid       []*bill
	bill       *bill // that is open
	told       News
}

type bill struct {
	number   int
	plan     string
	amount   int64
	from, to int
	change   bool // to another plan, in days that are covered
	attempt  int  // that is under way; 0: none
	attempts int
	failed   int // the day, or never
	again    int // the day
	anchor   int
}

const never = -1 << 30

var dayZero = time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)

func at(d int) time.Time { return dayZero.AddDate(0, 0, d) }

// months is the day so many months after another one, found by looking at each.
func months(anchor, n int) int {
	want := at(anchor).Day()
	for d, left := anchor+1, n; ; d++ {
		t := at(d)
		last := t.AddDate(0, 0, 1).Day() == 1
		if t.Day() == want || last && t.Day() < want {
			if left--; left == 0 {
				return d
			}
		}
	}
}

var testPlans = map[string]Terms{
	"plus":  {Plan: "plus", Rank: 10, Price: core.Money{Amount: 399, Currency: "EUR"}, Months: 1},
	"pro":   {Plan: "pro", Rank: 20, Price: core.Money{Amount: 999, Currency: "EUR"}, Months: 1},
	"year":  {Plan: "year", Rank: 5, Price: core.Money{Amount: 4200, Currency: "EUR"}, Months: 12},
	"yearx": {Plan: "yearx", Rank: 15, Price: core.Money{Amount: 8001, Currency: "EUR"}, Months: 12},
	"gift":  {Plan: "gift", Rank: 30, Price: core.Money{Amount: 0, Currency: "EUR"}, Months: 1},
}

const trialDays = 14

func (o *oracle) cover(from, to int, plan string) {
	for d := from; d < to; d++ {
		o.covered[d] = plan
	}
	o.from, o.end = from, to
}

// ask has the open bill paid.
func (o *oracle) ask() {
	b := o.bill
	b.attempts++
	if b.attempt = b.attempts; b.amount == 0 {
		o.pay(b)
	}
}

func (o *oracle) subscribe(d int, plan string) error {
	p := testPlans[plan]
	switch {
	case !o.alive:
		o.alive, o.ending, o.late, o.next, o.plan = true, false, false, "", plan
		if !o.hadTrial && plan == "plus" {
			o.trial, o.hadTrial, o.first, o.months = true, true, false, 0
			o.cover(d, d+trialDays, plan)
			o.anchor = o.end
			return nil
		}
		o.first, o.trial, o.from, o.end = true, false, d, d
		o.bill = &bill{number: len(o.paid) + 1, plan: plan, amount: p.Price.Amount, from: d, to: months(d, p.Months), failed: never, anchor: d}
		o.ask()
		return nil
	case o.first:
		return ErrPending
	case plan == o.plan:
		o.ending, o.next = false, ""
		if o.bill != nil && o.bill.attempt == 0 {
			o.ask()
		}
		return nil
	case o.bill != nil && o.bill.attempt > 0:
		return ErrPending
	}
	o.ending, o.next = false, ""
	switch {
	case o.bill != nil:
		b := o.bill
		o.bill = &bill{number: b.number, plan: plan, amount: p.Price.Amount, from: b.from, to: months(b.from, p.Months), failed: b.failed, anchor: b.from}
		o.ask()
	case o.trial:
		o.plan = plan
	default:
		var rest int64
		if d < o.end {
			left, all := min(o.end-d, o.end-o.from), o.end-o.from
			for exact := new(big.Rat).Mul(big.NewRat(testPlans[o.plan].Price.Amount, 1), big.NewRat(int64(left), int64(all))); new(big.Rat).SetInt64(rest).Cmp(exact) < 0; {
				rest++
			}
		}
		if p.Rank < testPlans[o.plan].Rank || rest > p.Price.Amount {
			o.next = plan
			return nil
		}
		o.bill = &bill{number: len(o.paid) + 1, plan: plan, amount: p.Price.Amount - rest, from: d, to: months(d, p.Months), change: d < o.end, failed: never, anchor: d}
		o.ask()
	}
	return nil
}

func (o *oracle) tick(d int) {
	switch {
	case !o.alive || o.bill != nil && o.bill.attempt > 0:
	case o.bill != nil:
		if d >= o.bill.again {
			o.ask()
		}
	case d < o.end:
	case o.ending:
		o.over()
	default:
		plan, anchor := o.plan, o.anchor
		if o.next != "" {
			plan = o.next
			if testPlans[plan].Months != testPlans[o.plan].Months {
				anchor = o.end
			}
		}
		from, n := o.end, 0
		for m := 0; ; {
			m += testPlans[plan].Months
			if to := months(anchor, m); to > from {
				if d < to {
					n = to
					break
				}
				from = to
			}
		}
		o.bill = &bill{number: len(o.paid) + 1, plan: plan, amount: testPlans[plan].Price.Amount, from: from, to: n, failed: never, anchor: anchor}
		o.ask()
	}
}

func (o *oracle) over() {
	o.alive, o.ending, o.late, o.first, o.trial, o.next, o.bill = false, false, false, false, false, "", nil
	o.told = Ended
}

// pay is false for money that came for nothing.
func (o *oracle) pay(b *bill) bool {
	if o.bill != b || b == nil {
		return false
	}
	if !o.first && !b.change {
		o.told = Renewed
	}
	o.paid = append(o.paid, b)
	o.cover(b.from, b.to, b.plan)
	o.plan, o.next, o.anchor, o.months = b.plan, "", b.anchor, 1
	o.first, o.late, o.trial, o.bill = false, false, false, nil
	return true
}

func (o *oracle) fail(d int, b *bill, attempt int) {
	if o.bill != b || b == nil || b.attempt != attempt {
		return
	}
	b.attempt = 0
	switch {
	case b.change:
		o.bill, o.told = nil, PaymentFailed
		return
	case b.failed == never:
		b.failed = d
	}
	if o.ending || o.first || d >= b.failed+7 {
		o.over()
		return
	}
	o.late, o.told = true, PaymentFailed
	for _, days := range []int{7, 3, 1} {
		if b.failed+days > d {
			b.again = b.failed + days
		}
	}
}

func (o *oracle) cancel() error {
	switch {
	case !o.alive:
		return ErrNone
	case o.bill != nil && o.bill.attempt == 0:
		o.over()
		return nil
	}
	o.ending, o.next = true, ""
	return nil
}

func (o *oracle) resume(d int) error {
	if !o.alive || o.ending && o.bill == nil && d >= o.end {
		return ErrNone
	}
	o.ending = false
	return nil
}

func (o *oracle) refund(d, number int) {
	if o.alive && len(o.paid) == number && number > 0 && (o.bill == nil || o.bill.attempt == 0) {
		o.end = min(o.end, d)
		o.over()
	}
}

func (o *oracle) status() State {
	switch {
	case !o.alive && len(o.covered) == 0 && len(o.paid) == 0 && o.plan == "":
		return None
	case !o.alive:
		return Expired
	case o.ending:
		return Canceled
	case o.first:
		return Incomplete
	case o.late:
		return PastDue
	case o.trial:
		return Trialing
	}
	return Active
}

// payment is one that was begun.
type payment struct {
	charge, id uuid.UUID
	bill       *bill
	attempt    int
	over       bool
}

// runStory drives a subscription and the oracle through what may happen, and compares
// them after each step.
func runStory(t *testing.T, seed uint64, steps int) (charges int) {
	r := rand.New(rand.NewPCG(seed, 8))
	o := &oracle{covered: map[int]string{}}
	s := Subscription{User: core.UserID{1}}
	day := 0
	var payments []*payment
	var story []string
	kept := map[int64]uuid.UUID{} // by period: what paid it
	names := []string{"plus", "pro", "year", "yearx", "gift"}

	took := func(after Subscription, e Effects) {
		if e.Try {
			for _, p := range payments {
				require.True(t, p.over || p.charge != after.Charge.ID, "seed %d: two payments of a charge at once: %v", seed, story)
			}
			payments = append(payments, &payment{after.Charge.ID, after.Charge.Trying, o.bill, o.bill.attempt, false})
		}
		if e.Paid != nil {
			require.NotContains(t, kept, e.Paid.Period, "seed %d: a period is paid twice: %v", seed, story)
			kept[e.Paid.Period] = e.Paid.ID
		}
		s = after
		s.Version++
	}
	for n := range steps {
		o.told = ""
		var e Effects
		var err, wrong error
		var after Subscription
		what := ""
		switch k := r.IntN(100); {
		case k < 30: // time goes on; now and then a clock is set
			d := r.IntN(6)
			switch r.IntN(12) {
			case 0:
				d = 25 + r.IntN(20)
			case 1:
				d = -r.IntN(20)
			case 2:
				if r.IntN(4) == 0 {
					d = r.IntN(900) - 400
				}
			}
			day += d
			story = append(story, fmt.Sprintf("day %d", day))
			continue
		case k < 55:
			what = "tick"
			o.tick(day)
			after, e = s.Tick(at(day))
		case k < 65:
			plan := names[r.IntN(len(names))]
			what = "subscribe " + plan
			trial := time.Duration(0)
			if plan == "plus" {
				trial = trialDays * day1
			}
			wrong = o.subscribe(day, plan)
			after, e, err = s.Subscribe(at(day), testPlans[plan], "pm_"+plan, trial)
		case k < 69:
			what = "cancel"
			wrong = o.cancel()
			after, e, err = s.CancelAtEnd(at(day))
		case k < 72:
			what = "resume"
			wrong = o.resume(day)
			after, e, err = s.Resume(at(day))
		case k < 73:
			period := max(0, len(o.paid)-r.IntN(2))
			what = fmt.Sprint("refund ", period)
			o.refund(day, period)
			after, e = s.Refunded(at(day), int64(period))
		case len(payments) == 0:
			continue
		default: // mostly of what was begun last; now and then what is over is told again
			p := payments[len(payments)-1-min(len(payments)-1, r.IntN(12)/8*r.IntN(6))]
			if r.IntN(100) < 60 {
				what = fmt.Sprint("paid ", p.bill.number, "/", p.attempt)
				p.over = true
				back := !o.pay(p.bill)
				after, e = s.Paid(at(day), p.charge)
				require.Equal(t, back, e.Refund, "seed %d: %v, %s", seed, story, what)
			} else {
				what = fmt.Sprint("failed ", p.bill.number, "/", p.attempt)
				p.over = true
				o.fail(day, p.bill, p.attempt)
				after, e = s.Failed(at(day), p.id)
			}
		}
		story = append(story, what)
		require.Equal(t, wrong, err, "seed %d, step %d: %v", seed, n, story)
		if err != nil {
			continue
		}
		took(after, e)
		compare(t, s, o, e, day, func() string { return fmt.Sprintf("seed %d, step %d: %v", seed, n, story) })
	}
	require.Len(t, kept, int(s.Period), "each period has one charge")
	for i := range kept {
		require.LessOrEqual(t, i, s.Period)
	}
	return len(kept)
}

const day1 = 24 * time.Hour

func compare(t *testing.T, s Subscription, o *oracle, e Effects, day int, story func() string) {
	if want := o.status(); s.Status() != want {
		require.Equal(t, want, s.Status(), story())
	}
	if o.told != e.Tell {
		require.Equal(t, o.told, e.Tell, story())
	}
	if int64(len(o.paid)) != s.Period {
		require.Equal(t, int64(len(o.paid)), s.Period, story())
	}
	if !o.alive {
		require.True(t, s.PaidUntil().IsZero() && s.Charge == nil && s.Due().IsZero(), story())
		return
	}
	if !s.Span.Ends.Equal(at(o.end)) || o.plan != s.Terms.Plan && !o.first || (o.next != "") != (s.Next != nil) {
		require.Equal(t, at(o.end), s.Span.Ends, story())
		require.Equal(t, o.plan, s.Terms.Plan, story())
		require.Equal(t, o.next != "", s.Next != nil, story())
	}
	if (o.bill != nil) != (s.Charge != nil) {
		require.Equal(t, o.bill, s.Charge, story())
	}
	// What is paid for is there, and what isn't goes.
	if !o.first && o.covered[day] == o.plan && day < o.end {
		require.True(t, s.PaidUntil().After(at(day)), story())
	}
	require.False(t, s.PaidUntil().After(at(max(o.end, 0)).Add(grace)) && !o.late, story())
	b, c := o.bill, s.Charge
	if b == nil {
		return
	}
	same := c.Period == int64(b.number) && c.Terms.Plan == b.plan && c.Amount.Amount == b.amount &&
		c.Span.Starts.Equal(at(b.from)) && c.Span.Ends.Equal(at(b.to)) && s.trying() == (b.attempt > 0) &&
		(b.attempt > 0 || c.NextTry.Equal(at(b.again)))
	if !same {
		require.Fail(t, "the charge differs", "%+v\n%+v\n%s", *b, *c, story())
	}
}

// Any story: renewals, declines, changes of plan, cancellations, clocks that jump,
// news that comes late or twice, workers that don't look for months.
func TestAgainstOracle(t *testing.T) {
	stories := 1000
	if s := os.Getenv("MUSTER_PROVE_SUBSCRIPTIONS"); s != "" {
		stories, _ = strconv.Atoi(s)
	}
	charges := 0
	for seed := range stories {
		charges += runStory(t, uint64(seed), 120)
	}
	t.Logf("%d stories, %d periods were paid, each once", stories, charges)
	require.Greater(t, charges, stories)
}

// A period that began on a 31st.
func TestMonths(t *testing.T) {
	span := begin(time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), 1)
	var days []string
	for range 5 {
		days = append(days, span.Ends.Format("01-02"))
		span = span.next(1)
	}
	require.Equal(t, []string{"02-28", "03-31", "04-30", "05-31", "06-30"}, days)
	require.Equal(t, "2029-02-28", addMonths(time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC), 12).Format(time.DateOnly))
	require.Equal(t, "2032-02-29", addMonths(time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC), 48).Format(time.DateOnly))
}

// What an upgrade takes off the price: never less than what is left is worth, and no
// more than a minor unit above it, also for amounts near the largest.
func TestRest(t *testing.T) {
	s := Subscription{State: Active, Period: 1, Terms: Terms{Price: core.Money{Amount: 999, Currency: "EUR"}},
		Span: Span{Starts: at(0), Ends: at(31)}}
	for minute := range 31 * 24 * 60 {
		left := int64(31*24*60 - minute)
		rest := s.rest(at(0).Add(time.Duration(minute) * time.Minute))
		require.True(t, rest*31*24*60 >= 999*left && (rest-1)*31*24*60 < 999*left)
	}
	s.Terms.Price.Amount = core.MaxAmount
	require.Equal(t, int64(core.MaxAmount), s.rest(at(0)))
	require.Equal(t, int64(core.MaxAmount), s.rest(at(-5)), "a clock was set back")
	require.Zero(t, s.rest(at(31)))
}
