package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Money is an amount in minor units of a currency of ISO 4217: 1240 of EUR are 12.40.
type Money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

// MoneyParty is somebody in a group's books: a member, who has left, or the group's
// wallet.
type MoneyParty struct {
	UserID   string `json:"user_id,omitempty"`
	Wallet   bool   `json:"wallet,omitempty"`
	Username string `json:"username,omitempty"` // in answers; empty: their account is gone
	Picture  string `json:"profile_picture,omitempty"`
	Left     bool   `json:"left,omitempty"` // they keep their debts
}

// Stake is what somebody paid of an expense.
type Stake struct {
	UserID string `json:"user_id,omitempty"`
	Wallet bool   `json:"wallet,omitempty"`
	Amount int64  `json:"amount"` // minor units
}

// Share is what a member bears of an expense.
type Share struct {
	UserID string `json:"user_id"`
	Amount int64  `json:"amount"` // minor units
}

// SplitPart is one member's in a split, with the one value that its mode wants.
type SplitPart struct {
	UserID  string  `json:"user_id"`
	Amount  *int64  `json:"amount,omitempty"`  // exact: minor units
	Percent *string `json:"percent,omitempty"` // percent: a decimal such as 33.34; they come to 100
	Shares  *int64  `json:"shares,omitempty"`  // shares: a whole number
	Weight  *string `json:"weight,omitempty"`  // weights: a decimal such as 2.5
}

// Split is how an expense is split.
type Split struct {
	Mode  string      `json:"mode,omitempty"`  // equal (the default), exact, percent, shares or weights
	Parts []SplitPart `json:"parts,omitempty"` // of equal without any: all members
}

// ExpenseDraft is what an expense is made of.
type ExpenseDraft struct {
	Title    string   `json:"title"`
	Money    Money    `json:"money"`
	Category string   `json:"category,omitempty"`
	Note     string   `json:"note,omitempty"`
	SpentOn  string   `json:"spent_on,omitempty"` // a day such as 2026-03-01; empty: today (UTC)
	Payers   []Stake  `json:"payers,omitempty"`   // empty: who adds it paid all of it
	Split    Split    `json:"split"`
	Receipts []string `json:"receipts,omitempty"` // ids of uploads
}

// Expense is one as it is, or was.
type Expense struct {
	ID      string `json:"expense_id"`
	GroupID string `json:"group_id"`
	Version int64  `json:"version"`
	Ordinal int64  `json:"ordinal"`
	ExpenseDraft
	Shares      []Share   `json:"shares"`
	RecurringID string    `json:"recurring_id"` // what made it; empty: somebody
	CreatedBy   string    `json:"created_by"`
	CreatedAt   time.Time `json:"created_at"`
	ChangedBy   string    `json:"changed_by"`
	ChangedAt   time.Time `json:"changed_at"`
	Deleted     bool      `json:"deleted"`
}

// ExpenseFilter chooses expenses; what is empty lets all pass.
type ExpenseFilter struct {
	Member   string // who paid or has a part
	Category string
	From, To string // days, both included
}

func expensePath(groupID, id string) string {
	return groupPath(groupID) + "/expenses/" + url.PathEscape(id)
}

// AddExpense adds an expense to a group: the group's wallet, the record and its
// members' debts change at once.
func (a *API) AddExpense(ctx context.Context, groupID string, d ExpenseDraft) (e Expense, err error) {
	err = a.call(ctx, http.MethodPost, groupPath(groupID)+"/expenses", d, &e)
	return e, err
}

// PreviewExpense splits a draft as AddExpense would, and writes nothing.
func (a *API) PreviewExpense(ctx context.Context, groupID string, d ExpenseDraft) ([]Share, error) {
	var out struct{ Shares []Share }
	err := a.call(ctx, http.MethodPost, groupPath(groupID)+"/expenses/preview", d, &out)
	return out.Shares, err
}

// Expenses lists a group's expenses, the latest day first.
func (a *API) Expenses(ctx context.Context, groupID string, f ExpenseFilter) ([]Expense, error) {
	q := url.Values{"limit": {"200"}}
	for name, value := range map[string]string{"member": f.Member, "category": f.Category, "from": f.From, "to": f.To} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return pages[Expense](ctx, a, groupPath(groupID)+"/expenses?"+q.Encode(), "expenses")
}

// Expense returns one, also if it is deleted.
func (a *API) Expense(ctx context.Context, groupID, id string) (e Expense, err error) {
	err = a.call(ctx, http.MethodGet, expensePath(groupID, id), nil, &e)
	return e, err
}

// ExpenseHistory returns all versions of an expense, the latest first.
func (a *API) ExpenseHistory(ctx context.Context, groupID, id string) ([]Expense, error) {
	var out struct{ Versions []Expense }
	err := a.call(ctx, http.MethodGet, expensePath(groupID, id)+"/history", nil, &out)
	return out.Versions, err
}

// EditExpense replaces an expense's draft. If the version isn't the present one, the
// refusal has the code expense_changed, and PresentExpense finds the expense as it is.
func (a *API) EditExpense(ctx context.Context, groupID, id string, version int64, d ExpenseDraft) (e Expense, err error) {
	in := struct {
		Version int64 `json:"version"`
		ExpenseDraft
	}{version, d}
	err = a.call(ctx, http.MethodPut, expensePath(groupID, id), in, &e)
	return e, err
}

// DeleteExpense takes an expense back.
func (a *API) DeleteExpense(ctx context.Context, groupID, id string) error {
	return a.call(ctx, http.MethodDelete, expensePath(groupID, id), nil, nil)
}

// PresentExpense is the expense as it is, in a refusal to change an older version.
func PresentExpense(err error) (e Expense, ok bool) {
	refused, ok := errorsAs(err)
	if !ok || refused.conflict == nil {
		return e, false
	}
	var c struct{ Present Expense }
	return c.Present, json.Unmarshal(refused.conflict, &c) == nil
}

// Balances is how a group stands.
type Balances struct {
	Simplified bool            `json:"simplified"` // transfers are the fewest; else debts as they are
	Balances   []PartyBalance  `json:"balances"`   // those of a currency come to zero
	Transfers  []MoneyTransfer `json:"transfers"`  // who is to pay whom
	Wallets    []GroupWallet   `json:"wallets"`
}

// PartyBalance is what a party is owed, or owes if it is negative.
type PartyBalance struct {
	MoneyParty
	Money Money `json:"money"`
}

// MoneyTransfer is what one is to pay another.
type MoneyTransfer struct {
	From  MoneyParty `json:"from"`
	To    MoneyParty `json:"to"`
	Money Money      `json:"money"`
}

// GroupWallet is what a group has spent in a currency, and what its wallet holds, in
// minor units.
type GroupWallet struct {
	Currency string `json:"currency"`
	Spent    int64  `json:"spent"`
	Kitty    int64  `json:"kitty"`
}

// Balances says who owes whom in a group.
func (a *API) Balances(ctx context.Context, groupID string) (b Balances, err error) {
	err = a.call(ctx, http.MethodGet, groupPath(groupID)+"/balances", nil, &b)
	return b, err
}

// Wallet stands for the group's wallet where Explain wants a user.
const Wallet = "wallet"

// Explanation is why one is to pay another so much: Direct is what its lines come to,
// and Total is that with its circles.
type Explanation struct {
	From       MoneyParty   `json:"from"`
	To         MoneyParty   `json:"to"`
	Simplified bool         `json:"simplified"`
	Total      Money        `json:"total"` // negative: the other way around
	Direct     Money        `json:"direct"`
	Circles    []DebtCircle `json:"circles"`
	Lines      []DebtLine   `json:"lines"` // all, the newest first
}

// DebtLine is something that changed what one owes the other.
type DebtLine struct {
	Seq           int64     `json:"seq"`
	TransactionID string    `json:"transaction_id"`
	Kind          string    `json:"kind"` // expense, settlement, conversion or refund
	Reverses      string    `json:"reverses"`
	Ref           string    `json:"ref"` // the expense or settlement
	Title         string    `json:"title"`
	By            string    `json:"by"`
	At            time.Time `json:"at"`
	Money         Money     `json:"money"`
}

// DebtCircle is a debt that simplifying sends around: each owes the next one more.
type DebtCircle struct {
	People []MoneyParty `json:"people"`
	Money  Money        `json:"money"` // what it adds to the total
}

// Explain says why from is to pay to so much in a currency. Each is the id of a user, or
// Wallet.
func (a *API) Explain(ctx context.Context, groupID, from, to, currency string) (x Explanation, err error) {
	q := url.Values{"from": {from}, "to": {to}, "currency": {currency}, "limit": {"200"}}
	for path := groupPath(groupID) + "/debts/explain?" + q.Encode(); path != ""; {
		p := page{}
		if err := a.call(ctx, http.MethodGet, path, nil, &p); err != nil {
			return x, err
		}
		before := x.Lines
		b, err := json.Marshal(p.fields)
		if err == nil {
			err = json.Unmarshal(b, &x)
		}
		if err != nil {
			return x, err
		}
		x.Lines, path = append(before, x.Lines...), p.next
	}
	return x, nil
}

// Settlement is money that one gave another, or a debt that was converted.
type Settlement struct {
	ID        string     `json:"settlement_id"`
	Kind      string     `json:"kind"`   // payment or conversion
	Status    string     `json:"status"` // recorded, pending, settled, failed, undone
	Version   int64      `json:"version"`
	From      MoneyParty `json:"from"`
	To        MoneyParty `json:"to"`
	Money     Money      `json:"money"`
	Refunded  int64      `json:"refunded"`
	Into      *Money     `json:"into"`
	Rate      string     `json:"rate"`
	Method    string     `json:"method"` // cash, transfer, other, card
	Note      string     `json:"note"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ChangedAt time.Time  `json:"changed_at"`
}

// SettlementDraft is a settlement that is to be recorded.
type SettlementDraft struct {
	From   *MoneyParty `json:"from,omitempty"` // nil: the user
	To     MoneyParty  `json:"to"`
	Money  Money       `json:"money"`
	Method string      `json:"method,omitempty"` // cash is the default; card waits for PaySettlement
	Note   string      `json:"note,omitempty"`
}

// Settle records that one pays another.
func (a *API) Settle(ctx context.Context, groupID string, d SettlementDraft) (s Settlement, err error) {
	err = a.call(ctx, http.MethodPost, groupPath(groupID)+"/settlements", d, &s)
	return s, err
}

// ConversionDraft is a debt that is to be one in another currency.
type ConversionDraft struct {
	From  *MoneyParty `json:"from,omitempty"` // who owes; nil: the user
	To    MoneyParty  `json:"to"`
	Money Money       `json:"money"` // what is not owed any more
	Into  string      `json:"into"`  // currency
	Rate  string      `json:"rate"`  // so many of it for one: a decimal
	Note  string      `json:"note,omitempty"`
}

// ConvertDebt makes a debt one in another currency.
func (a *API) ConvertDebt(ctx context.Context, groupID string, d ConversionDraft) (s Settlement, err error) {
	err = a.call(ctx, http.MethodPost, groupPath(groupID)+"/conversions", d, &s)
	return s, err
}

// Settlements lists a group's settlements and conversions, the latest first.
func (a *API) Settlements(ctx context.Context, groupID string) ([]Settlement, error) {
	return pages[Settlement](ctx, a, groupPath(groupID)+"/settlements?limit=200", "settlements")
}

// UndoSettlement takes a settlement or conversion back.
func (a *API) UndoSettlement(ctx context.Context, groupID, id string) (s Settlement, err error) {
	err = a.call(ctx, http.MethodDelete, groupPath(groupID)+"/settlements/"+url.PathEscape(id), nil, &s)
	return s, err
}

// RecurringDraft is an expense that comes again, and when.
type RecurringDraft struct {
	Title    string  `json:"title"`
	Money    Money   `json:"money"`
	Category string  `json:"category,omitempty"`
	Note     string  `json:"note,omitempty"`
	Payers   []Stake `json:"payers,omitempty"`
	Split    Split   `json:"split"`
	Every    string  `json:"every"`              // day, week, month or year
	StartsOn string  `json:"starts_on"`          // a day
	UntilOn  string  `json:"until_on,omitempty"` // the last day; empty: none
	TimeZone string  `json:"time_zone,omitempty"`
}

// RecurringExpense is one that is kept.
type RecurringExpense struct {
	ID      string `json:"recurring_id"`
	Version int64  `json:"version"`
	RecurringDraft
	NextOn    string    `json:"next_on"` // empty: it doesn't come any more
	Problem   string    `json:"problem"` // why it stopped: the code of a failure
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	ChangedAt time.Time `json:"changed_at"`
}

func recurringPath(groupID, id string) string {
	return groupPath(groupID) + "/recurring-expenses/" + url.PathEscape(id)
}

// RecurringExpenses lists a group's.
func (a *API) RecurringExpenses(ctx context.Context, groupID string) ([]RecurringExpense, error) {
	var out struct {
		List []RecurringExpense `json:"recurring_expenses"`
	}
	err := a.call(ctx, http.MethodGet, groupPath(groupID)+"/recurring-expenses", nil, &out)
	return out.List, err
}

// RepeatExpense has an expense come again, once in each period.
func (a *API) RepeatExpense(ctx context.Context, groupID string, d RecurringDraft) (r RecurringExpense, err error) {
	err = a.call(ctx, http.MethodPost, groupPath(groupID)+"/recurring-expenses", d, &r)
	return r, err
}

// EditRecurringExpense replaces a recurring expense's draft.
func (a *API) EditRecurringExpense(ctx context.Context, groupID, id string, version int64, d RecurringDraft) (r RecurringExpense, err error) {
	in := struct {
		Version int64 `json:"version"`
		RecurringDraft
	}{version, d}
	err = a.call(ctx, http.MethodPut, recurringPath(groupID, id), in, &r)
	return r, err
}

// StopRecurringExpense ends it; what it has made stays.
func (a *API) StopRecurringExpense(ctx context.Context, groupID, id string) error {
	return a.call(ctx, http.MethodDelete, recurringPath(groupID, id), nil, nil)
}

// Payment is money that a gateway moves.
type Payment struct {
	ID        string    `json:"payment_id"`
	UserID    string    `json:"user_id"` // who pays
	To        string    `json:"to"`      // empty: whoever runs the deployment
	Kind      string    `json:"kind"`    // settlement or subscription
	Ref       string    `json:"ref"`
	Money     Money     `json:"money"`
	Status    string    `json:"status"` // created, requires_action, processing, succeeded, failed, canceled, refunded
	Reason    string    `json:"reason"`
	Refunded  int64     `json:"refunded"`
	Gateway   string    `json:"gateway"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// PaySettlement pays a settlement that waits for a card. method is what the gateway
// calls what the user gave to the gateway itself, such as pm_…
func (a *API) PaySettlement(ctx context.Context, groupID, settlementID, method string) (p Payment, err error) {
	err = a.call(ctx, http.MethodPost, groupPath(groupID)+"/settlements/"+url.PathEscape(settlementID)+"/payment",
		map[string]string{"payment_method": method}, &p)
	return p, err
}

// Payments lists what the user paid or was paid by a gateway, the latest first.
func (a *API) Payments(ctx context.Context) ([]Payment, error) {
	return pages[Payment](ctx, a, "/api/v1/payments?limit=200", "payments")
}

// Payment returns one.
func (a *API) Payment(ctx context.Context, id string) (p Payment, err error) {
	err = a.call(ctx, http.MethodGet, "/api/v1/payments/"+url.PathEscape(id), nil, &p)
	return p, err
}

// CancelPayment takes a payment back that was not made yet.
func (a *API) CancelPayment(ctx context.Context, id string) (p Payment, err error) {
	err = a.call(ctx, http.MethodPost, "/api/v1/payments/"+url.PathEscape(id)+"/cancel", nil, &p)
	return p, err
}

// RefundPayment has so many minor units go back; 0: all that is left.
func (a *API) RefundPayment(ctx context.Context, id string, amount int64) error {
	return a.call(ctx, http.MethodPost, "/api/v1/payments/"+url.PathEscape(id)+"/refund", map[string]int64{"amount": amount}, nil)
}

// Plan can be subscribed to.
type Plan struct {
	ID        string         `json:"plan_id"`
	Name      string         `json:"name"`
	Months    int            `json:"months"` // of a period
	TrialDays int            `json:"trial_days"`
	Prices    []Money        `json:"prices"` // of a period, in each currency
	Features  map[string]any `json:"features"`
}

// Plans lists them, the cheapest first.
func (a *API) Plans(ctx context.Context) ([]Plan, error) {
	var out struct{ Plans []Plan }
	err := a.call(ctx, http.MethodGet, "/api/v1/plans", nil, &out)
	return out.Plans, err
}

// Subscription is what the user has subscribed to, and may do for it.
type Subscription struct {
	Status   string         `json:"subscription_status"` // free, incomplete, trialing, active, past_due, canceled, expired
	Expiry   *time.Time     `json:"subscription_expiry"` // nil: nothing ever was paid for
	Features map[string]any `json:"features"`
}

// Subscription returns it.
func (a *API) Subscription(ctx context.Context) (s Subscription, err error) {
	err = a.call(ctx, http.MethodGet, "/api/v1/users/subscription", nil, &s)
	return s, err
}

// Subscribe takes a plan, or changes to it.
func (a *API) Subscribe(ctx context.Context, planID, method string) (s Subscription, err error) {
	var out struct{ Subscription Subscription }
	err = a.call(ctx, http.MethodPost, "/api/v1/users/subscription", map[string]string{"plan_id": planID, "payment_method": method}, &out)
	return out.Subscription, err
}

// EndSubscription ends it with what is paid for.
func (a *API) EndSubscription(ctx context.Context) error {
	return a.call(ctx, http.MethodDelete, "/api/v1/users/subscription", nil, nil)
}
