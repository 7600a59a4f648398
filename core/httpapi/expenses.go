package httpapi

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/internal/errs"
)

const tagExpenses = "expenses"

// ExpenseStake is what somebody paid: a member, or the group's wallet.
type ExpenseStake struct {
	UserID string `json:"user_id,omitempty" doc:"UUID of a member"`
	Wallet bool   `json:"wallet,omitempty" doc:"The group's wallet, instead of a member"`
	Amount int64  `json:"amount" doc:"In minor units"`
}

// ExpenseShare is what a member has to bear.
type ExpenseShare struct {
	UserID string `json:"user_id" doc:"UUID"`
	Amount int64  `json:"amount" doc:"In minor units"`
}

// SplitPart is one member's in a split. What it has beside the member is what the
// mode wants.
type SplitPart struct {
	UserID  string  `json:"user_id" doc:"UUID"`
	Amount  *int64  `json:"amount,omitempty" doc:"Of exact: minor units, which add up to the expense's"`
	Percent *string `json:"percent,omitempty" doc:"Of percent: a decimal with at most 4 places; they add up to 100" example:"33.34"`
	Shares  *int64  `json:"shares,omitempty" doc:"Of shares: a whole number" example:"2"`
	Weight  *string `json:"weight,omitempty" doc:"Of weights: a decimal with at most 4 places" example:"2.5"`
}

// ExpenseSplit is how an expense is split.
type ExpenseSplit struct {
	Mode  string      `json:"mode,omitempty" doc:"equal (the default), exact, percent, shares or weights"`
	Parts []SplitPart `json:"parts,omitempty" nullable:"false" doc:"Among whom; of equal without any: all members"`
}

// ExpenseDraft is what an expense is made of.
type ExpenseDraft struct {
	Title    string         `json:"title" doc:"1 to 200 characters"`
	Money    core.Money     `json:"money"`
	Category string         `json:"category,omitempty" doc:"A word of a-z, 0-9 and _; default general"`
	Note     string         `json:"note,omitempty" doc:"At most 2,000 characters"`
	SpentOn  string         `json:"spent_on,omitempty" doc:"A day; default today (UTC)" example:"2026-03-01"`
	Payers   []ExpenseStake `json:"payers,omitempty" nullable:"false" doc:"Who paid how much of it; default: who adds it paid all"`
	Split    ExpenseSplit   `json:"split,omitempty"`
	Receipts []string       `json:"receipts,omitempty" nullable:"false" doc:"Ids of uploads, at most 10; they are read as attachments of the group's room"`
}

// Expense is one as it is, or was.
type Expense struct {
	ExpenseID string `json:"expense_id" doc:"UUID"`
	GroupID   string `json:"group_id" doc:"UUID"`
	Version   int64  `json:"version" doc:"Counts changes, from 1; send it with the next one"`
	Ordinal   int64  `json:"ordinal" doc:"Counts the group's expenses of a currency, from 0: whose turn it is to bear a minor unit that can't be divided"`
	ExpenseDraft
	Shares      []ExpenseShare `json:"shares" nullable:"false" doc:"What each bears: they add up to the amount"`
	RecurringID string         `json:"recurring_id,omitempty" doc:"Of the recurring expense that made it"`
	CreatedBy   string         `json:"created_by" doc:"UUID of a user"`
	CreatedAt   time.Time      `json:"created_at"`
	ChangedBy   string         `json:"changed_by" doc:"UUID of a user"`
	ChangedAt   time.Time      `json:"changed_at"`
	Deleted     bool           `json:"deleted,omitempty"`
}

// ExpenseConflict is what a change of an older version gets: both sides.
type ExpenseConflict struct {
	Present Expense       `json:"present" doc:"The expense as it is"`
	Sent    *ExpenseDraft `json:"sent,omitempty" doc:"What was sent; absent: it was to be deleted"`
}

func userOrEmpty(id core.UserID) string {
	if id == (core.UserID{}) {
		return ""
	}
	return id.String()
}

func stakeOf(s expenses.Stake) ExpenseStake {
	user, ok := s.Who.Member()
	if !ok {
		return ExpenseStake{Wallet: true, Amount: s.Amount}
	}
	return ExpenseStake{UserID: user.String(), Amount: s.Amount}
}

func (s ExpenseStake) account(field string) (ledger.Account, error) {
	return account(s.UserID, s.Wallet, field)
}

// account is that of a member, or of the wallet.
func account(user string, wallet bool, field string) (ledger.Account, error) {
	if wallet {
		if user != "" {
			return "", errs.New(errs.Invalid, "bad_request", "this is a member or the wallet").At(field)
		}
		return ledger.Wallet, nil
	}
	id, err := userID(user, field)
	return ledger.Member(id), err
}

func draftOf(d expenses.Draft) ExpenseDraft {
	out := ExpenseDraft{Title: d.Title, Money: d.Money, Category: d.Category, Note: d.Note, Split: ExpenseSplit{Mode: string(d.Mode)}}
	if !d.On.IsZero() {
		out.SpentOn = d.On.Format(time.DateOnly)
	}
	for _, p := range d.Paid {
		out.Payers = append(out.Payers, stakeOf(p))
	}
	for _, p := range d.Parts {
		part := SplitPart{UserID: p.User.String()}
		n, _ := strconv.ParseInt(p.Value, 10, 64)
		switch d.Mode {
		case expenses.Exact:
			part.Amount = &n
		case expenses.Shares:
			part.Shares = &n
		case expenses.Percent:
			part.Percent = &p.Value
		case expenses.Weights:
			part.Weight = &p.Value
		}
		out.Split.Parts = append(out.Split.Parts, part)
	}
	for _, id := range d.Receipts {
		out.Receipts = append(out.Receipts, id.String())
	}
	return out
}

func expenseOf(e expenses.Expense) Expense {
	out := Expense{
		ExpenseID: e.ID.String(), GroupID: e.Group.String(), Version: e.Version, Ordinal: e.Ordinal, ExpenseDraft: draftOf(e.Draft), Shares: sharesOf(e.Cuts),
		CreatedBy: e.CreatedBy.String(), CreatedAt: e.CreatedAt, ChangedBy: e.ChangedBy.String(), ChangedAt: e.ChangedAt, Deleted: e.Deleted,
	}
	if e.Recurring != nil {
		out.RecurringID = e.Recurring.String()
	}
	return out
}

func sharesOf(cuts []expenses.Cut) []ExpenseShare {
	out := make([]ExpenseShare, len(cuts))
	for i, c := range cuts {
		out[i] = ExpenseShare{c.User.String(), c.Amount}
	}
	return out
}

// value is what a part has for a mode; what it has for others is refused.
func (p SplitPart) value(mode expenses.Mode) (string, error) {
	values := map[expenses.Mode]string{}
	if p.Amount != nil {
		values[expenses.Exact] = strconv.FormatInt(*p.Amount, 10)
	}
	if p.Percent != nil {
		values[expenses.Percent] = *p.Percent
	}
	if p.Shares != nil {
		values[expenses.Shares] = strconv.FormatInt(*p.Shares, 10)
	}
	if p.Weight != nil {
		values[expenses.Weights] = *p.Weight
	}
	value := values[mode]
	if delete(values, mode); len(values) > 0 {
		return "", errs.New(errs.Invalid, expenses.ErrBadSplit.Code, "a part has what its mode wants, and nothing else").At("body.split.parts")
	}
	return value, nil
}

func (d ExpenseDraft) draft() (out expenses.Draft, err error) {
	out = expenses.Draft{Title: d.Title, Category: d.Category, Note: d.Note, Money: d.Money, Mode: expenses.Mode(d.Split.Mode)}
	if out.Mode == "" {
		out.Mode = expenses.Equal
	}
	if out.On, err = day(d.SpentOn, "body.spent_on"); err != nil {
		return out, err
	}
	for _, p := range d.Payers {
		who, err := p.account("body.payers")
		if err != nil {
			return out, err
		}
		out.Paid = append(out.Paid, expenses.Stake{Who: who, Amount: p.Amount})
	}
	for _, p := range d.Split.Parts {
		user, err := userID(p.UserID, "body.split.parts")
		if err != nil {
			return out, err
		}
		value, err := p.value(out.Mode)
		if err != nil {
			return out, err
		}
		out.Parts = append(out.Parts, expenses.Part{User: user, Value: value})
	}
	for _, r := range d.Receipts {
		id, err := uuid.Parse(r)
		if err != nil {
			return out, errs.New(errs.Invalid, "bad_request", "a receipt is the id of an upload").At("body.receipts")
		}
		out.Receipts = append(out.Receipts, id)
	}
	return out, nil
}

// day reads a day; empty: none.
func day(s, field string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return t, errs.New(errs.Invalid, "bad_request", "a day is written as 2026-03-01").At(field)
	}
	return t, nil
}

// ExpenseOf is the path of one expense.
type ExpenseOf struct {
	Group   string `path:"group_id"`
	Expense string `path:"expense_id"`
}

func (p ExpenseOf) ids() (core.GroupID, uuid.UUID, error) {
	return groupAnd(p.Group, p.Expense, expenses.ErrNoExpense)
}

// groupAnd reads a path's group, and something of it; a malformed id is nobody's.
func groupAnd(group, of string, missing error) (core.GroupID, uuid.UUID, error) {
	g, err := groupID(group)
	if err != nil {
		return g, uuid.Nil, err
	}
	id, err := uuid.Parse(of)
	if err != nil || id.String() != of {
		return g, uuid.Nil, missing
	}
	return g, id, nil
}

// versionIn is the version that a change is of: of If-Match, or the body's.
func versionIn(ifMatch string, body int64) (int64, error) {
	if ifMatch == "" {
		return body, nil
	}
	n, err := strconv.ParseInt(strings.Trim(ifMatch, `"`), 10, 64)
	if err != nil || n <= 0 {
		return 0, errs.New(errs.Invalid, "bad_request", `If-Match is a version, such as "3"`).At("header.If-Match")
	}
	return n, nil
}

func tagOf(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// conflict shows who changed an older version both sides.
func conflict(err error, sent *ExpenseDraft) error {
	changed, ok := errors.AsType[*expenses.Changed](err)
	if !ok {
		return err
	}
	p := newProblem(http.StatusConflict, expenses.ErrChanged.Code, expenses.ErrChanged.Message)
	p.Conflict = &ExpenseConflict{Present: expenseOf(changed.Present), Sent: sent}
	return p
}

// ExpenseAnswer is an expense with its version as a tag.
type ExpenseAnswer struct {
	ETag string `header:"ETag" doc:"Its version, for If-Match"`
	Body Expense
}

func expenseAnswer(e expenses.Expense, err error) (*ExpenseAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &ExpenseAnswer{tagOf(e.Version), expenseOf(e)}, nil
}

func (a *api) expenseOperations() {
	store := a.Expenses

	type draftInput struct {
		Group string `path:"group_id"`
		Body  ExpenseDraft
	}
	register(a, operation{id: "create-expense", method: http.MethodPost, path: "/groups/{group_id}/expenses", tag: tagExpenses, status: http.StatusCreated,
		summary: "Add an expense: the group's wallet, the record and the members' debts change at once"},
		func(ctx context.Context, in *draftInput) (*ExpenseAnswer, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			d, err := in.Body.draft()
			if err != nil {
				return nil, err
			}
			return expenseAnswer(store.Create(ctx, caller(ctx).User, group, d))
		})

	type previewOutput struct {
		Body struct {
			Shares []ExpenseShare `json:"shares" nullable:"false"`
		}
	}
	register(a, operation{id: "preview-expense", method: http.MethodPost, path: "/groups/{group_id}/expenses/preview", tag: tagExpenses,
		summary: "How an expense would be split, if nobody adds another one before; nothing is written"},
		func(ctx context.Context, in *draftInput) (*previewOutput, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			d, err := in.Body.draft()
			if err != nil {
				return nil, err
			}
			e, err := store.Preview(ctx, caller(ctx).User, group, d)
			if err != nil {
				return nil, err
			}
			out := &previewOutput{}
			out.Body.Shares = sharesOf(e.Cuts)
			return out, nil
		})

	type listExpensesInput struct {
		Group    string `path:"group_id"`
		Member   string `query:"member" doc:"UUID: who paid, or has a part"`
		Category string `query:"category" maxLength:"32"`
		From     string `query:"from" doc:"A day" example:"2026-03-01"`
		To       string `query:"to" doc:"A day, included"`
		Limit    int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor   string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type listExpensesOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Expenses []Expense `json:"expenses" nullable:"false"`
		}
	}
	register(a, operation{id: "list-expenses", method: http.MethodGet, path: "/groups/{group_id}/expenses", tag: tagExpenses, summary: "A group's expenses, the latest day first"},
		func(ctx context.Context, in *listExpensesInput) (*listExpensesOutput, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			f := expenses.Filter{Category: in.Category}
			if in.Member != "" {
				if f.Member, err = userID(in.Member, "query.member"); err != nil {
					return nil, err
				}
			}
			if f.From, err = day(in.From, "query.from"); err != nil {
				return nil, err
			}
			if f.To, err = day(in.To, "query.to"); err != nil {
				return nil, err
			}
			list, next, err := store.List(ctx, caller(ctx).User, group, f, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &listExpensesOutput{Link: nextPage("/groups/"+in.Group+"/expenses", in.Limit, next, "member", in.Member, "category", in.Category, "from", in.From, "to", in.To)}
			out.Body.Expenses = expensesOf(list)
			return out, nil
		})

	register(a, operation{id: "get-expense", method: http.MethodGet, path: "/groups/{group_id}/expenses/{expense_id}", tag: tagExpenses, summary: "An expense, also if it is deleted"},
		func(ctx context.Context, in *ExpenseOf) (*ExpenseAnswer, error) {
			group, id, err := in.ids()
			if err != nil {
				return nil, err
			}
			return expenseAnswer(store.Get(ctx, caller(ctx).User, group, id))
		})

	type updateExpenseInput struct {
		ExpenseOf
		IfMatch string `header:"If-Match" doc:"The version that is changed, as in ETag; or version in the body"`
		Body    struct {
			Version int64 `json:"version,omitempty" doc:"The version that is changed"`
			ExpenseDraft
		}
	}
	register(a, operation{id: "update-expense", method: http.MethodPut, path: "/groups/{group_id}/expenses/{expense_id}", tag: tagExpenses,
		summary: "Change an expense as a whole: who added or paid it, and admins; 409 with both sides if it was changed meanwhile"},
		func(ctx context.Context, in *updateExpenseInput) (*ExpenseAnswer, error) {
			group, id, err := in.ids()
			if err != nil {
				return nil, err
			}
			version, err := versionIn(in.IfMatch, in.Body.Version)
			if err != nil {
				return nil, err
			}
			d, err := in.Body.draft()
			if err != nil {
				return nil, err
			}
			e, err := store.Update(ctx, caller(ctx).User, group, id, version, d)
			return expenseAnswer(e, conflict(err, &in.Body.ExpenseDraft))
		})

	type deleteExpenseInput struct {
		ExpenseOf
		IfMatch string `header:"If-Match" doc:"The version that is deleted; default: the present one"`
	}
	register(a, operation{id: "delete-expense", method: http.MethodDelete, path: "/groups/{group_id}/expenses/{expense_id}", tag: tagExpenses,
		summary: "Take an expense back, by a reversal: who added or paid it, and admins"},
		func(ctx context.Context, in *deleteExpenseInput) (*Success, error) {
			group, id, err := in.ids()
			if err != nil {
				return nil, err
			}
			version, err := versionIn(in.IfMatch, 0)
			if err != nil {
				return nil, err
			}
			return success(conflict(store.Delete(ctx, caller(ctx).User, group, id, version), nil))
		})

	type historyOutput struct {
		Body struct {
			Versions []Expense `json:"versions" nullable:"false" doc:"The latest first"`
		}
	}
	register(a, operation{id: "get-expense-history", method: http.MethodGet, path: "/groups/{group_id}/expenses/{expense_id}/history", tag: tagExpenses, summary: "All versions of an expense"},
		func(ctx context.Context, in *ExpenseOf) (*historyOutput, error) {
			group, id, err := in.ids()
			if err != nil {
				return nil, err
			}
			list, err := store.History(ctx, caller(ctx).User, group, id)
			if err != nil {
				return nil, err
			}
			out := &historyOutput{}
			out.Body.Versions = expensesOf(list)
			return out, nil
		})

	type csvInput struct {
		Group string `path:"group_id"`
	}
	register(a, operation{id: "export-expenses", media: "text/csv", method: http.MethodGet, path: "/groups/{group_id}/expenses.csv", tag: tagExpenses,
		summary: "Expenses, settlements and conversions as a table, with what each changed for whom"},
		func(ctx context.Context, in *csvInput) (*huma.StreamResponse, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			write, err := store.CSV(ctx, caller(ctx).User, group)
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				hc.SetHeader("Content-Type", "text/csv; charset=utf-8; header=present") // RFC 4180
				hc.SetHeader("Content-Disposition", `attachment; filename="expenses.csv"`)
				w := bufio.NewWriter(hc.BodyWriter())
				err := write(hc.Context(), w)
				if err == nil {
					err = w.Flush()
				}
				if err != nil {
					if hc.Context().Err() == nil {
						a.Log.WarnContext(hc.Context(), "export of expenses ended early", "err", err)
					}
					panic(http.ErrAbortHandler) // so that nobody takes half a file for all of it
				}
			}}, nil
		})
	a.balanceOperations()
	a.settlementOperations()
	a.recurringOperations()
}

func expensesOf(list []expenses.Expense) []Expense {
	out := make([]Expense, len(list))
	for i, e := range list {
		out[i] = expenseOf(e)
	}
	return out
}
