package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/expenses"
)

// RecurringDraft is what comes again, and when.
type RecurringDraft struct {
	Title    string         `json:"title" doc:"1 to 200 characters"`
	Money    core.Money     `json:"money"`
	Category string         `json:"category,omitempty"`
	Note     string         `json:"note,omitempty"`
	Payers   []ExpenseStake `json:"payers,omitempty" nullable:"false" doc:"Default: who makes it pays all"`
	Split    ExpenseSplit   `json:"split,omitempty"`
	Every    string         `json:"every" doc:"day, week, month or year"`
	StartsOn string         `json:"starts_on" doc:"The first day; not more than a year ago" example:"2026-03-01"`
	UntilOn  string         `json:"until_on,omitempty" doc:"The last day"`
	TimeZone string         `json:"time_zone,omitempty" doc:"IANA's name of where its days begin; default UTC" example:"Europe/Berlin"`
}

// RecurringExpense is an expense that comes again.
type RecurringExpense struct {
	RecurringID string `json:"recurring_id" doc:"UUID"`
	Version     int64  `json:"version"`
	RecurringDraft
	NextOn    string    `json:"next_on,omitempty" doc:"The day on which it comes next; absent: it doesn't"`
	Problem   string    `json:"problem,omitempty" doc:"Why it stopped: the code of a failure, such as member_not_found. A change lets it go on"`
	CreatedBy string    `json:"created_by" doc:"UUID of a user"`
	CreatedAt time.Time `json:"created_at"`
	ChangedAt time.Time `json:"changed_at"`
}

func recurringOf(r expenses.Recurring) RecurringExpense {
	d := draftOf(r.Draft)
	out := RecurringExpense{
		RecurringID: r.ID.String(), Version: r.Version, Problem: r.Problem, CreatedBy: r.CreatedBy.String(), CreatedAt: r.CreatedAt, ChangedAt: r.ChangedAt,
		RecurringDraft: RecurringDraft{
			Title: d.Title, Money: d.Money, Category: d.Category, Note: d.Note, Payers: d.Payers, Split: d.Split,
			Every: string(r.Every), StartsOn: r.Starts.Format(time.DateOnly), TimeZone: r.Zone,
		},
	}
	if !r.Until.IsZero() {
		out.UntilOn = r.Until.Format(time.DateOnly)
	}
	if !r.Next.IsZero() {
		out.NextOn = r.Next.Format(time.DateOnly)
	}
	return out
}

func (d RecurringDraft) recurring() (r expenses.Recurring, err error) {
	draft := ExpenseDraft{Title: d.Title, Money: d.Money, Category: d.Category, Note: d.Note, Payers: d.Payers, Split: d.Split}
	if r.Draft, err = draft.draft(); err != nil {
		return r, err
	}
	r.Every, r.Zone = expenses.Every(d.Every), d.TimeZone
	if r.Starts, err = day(d.StartsOn, "body.starts_on"); err == nil {
		r.Until, err = day(d.UntilOn, "body.until_on")
	}
	return r, err
}

// RecurringAnswer is a recurring expense.
type RecurringAnswer struct{ Body RecurringExpense }

func recurringAnswer(r expenses.Recurring, err error) (*RecurringAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &RecurringAnswer{recurringOf(r)}, nil
}

func (a *api) recurringOperations() {
	type listRecurringInput struct {
		Group string `path:"group_id"`
	}
	type listRecurringOutput struct {
		Body struct {
			Recurring []RecurringExpense `json:"recurring_expenses" nullable:"false"`
		}
	}
	register(a, operation{id: "list-recurring-expenses", method: http.MethodGet, path: "/groups/{group_id}/recurring-expenses", tag: tagExpenses, summary: "A group's recurring expenses"},
		func(ctx context.Context, in *listRecurringInput) (*listRecurringOutput, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			list, err := a.Expenses.RecurringExpenses(ctx, caller(ctx).User, group)
			if err != nil {
				return nil, err
			}
			out := &listRecurringOutput{}
			out.Body.Recurring = make([]RecurringExpense, len(list))
			for i, r := range list {
				out.Body.Recurring[i] = recurringOf(r)
			}
			return out, nil
		})

	type repeatInput struct {
		Group string `path:"group_id"`
		Body  RecurringDraft
	}
	register(a, operation{id: "create-recurring-expense", method: http.MethodPost, path: "/groups/{group_id}/recurring-expenses", tag: tagExpenses, status: http.StatusCreated,
		summary: "Have an expense come again: once in each period, whatever happens"},
		func(ctx context.Context, in *repeatInput) (*RecurringAnswer, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			r, err := in.Body.recurring()
			if err != nil {
				return nil, err
			}
			return recurringAnswer(a.Expenses.Repeat(ctx, caller(ctx).User, group, r))
		})

	type replanInput struct {
		Group     string `path:"group_id"`
		Recurring string `path:"recurring_id"`
		Body      struct {
			Version int64 `json:"version" doc:"The version that is changed"`
			RecurringDraft
		}
	}
	register(a, operation{id: "update-recurring-expense", method: http.MethodPut, path: "/groups/{group_id}/recurring-expenses/{recurring_id}", tag: tagExpenses,
		summary: "Change a recurring expense as a whole: who made or pays it, and admins. What it made stays"},
		func(ctx context.Context, in *replanInput) (*RecurringAnswer, error) {
			group, id, err := groupAnd(in.Group, in.Recurring, expenses.ErrNoRecurring)
			if err != nil {
				return nil, err
			}
			r, err := in.Body.recurring()
			if err != nil {
				return nil, err
			}
			return recurringAnswer(a.Expenses.Replan(ctx, caller(ctx).User, group, id, in.Body.Version, r))
		})

	type endRecurringInput struct {
		Group     string `path:"group_id"`
		Recurring string `path:"recurring_id"`
	}
	register(a, operation{id: "delete-recurring-expense", method: http.MethodDelete, path: "/groups/{group_id}/recurring-expenses/{recurring_id}", tag: tagExpenses,
		summary: "End a recurring expense: who made or pays it, and admins. What it made stays"},
		func(ctx context.Context, in *endRecurringInput) (*Success, error) {
			group, id, err := groupAnd(in.Group, in.Recurring, expenses.ErrNoRecurring)
			if err != nil {
				return nil, err
			}
			return success(a.Expenses.End(ctx, caller(ctx).User, group, id))
		})
}
