package expenses

import (
	"context"
	"errors"
	"fmt"
	"time"
	_ "time/tzdata" // the same zones on every machine

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/internal/errs"
)

// Every is how often an expense comes again.
type Every string

// The intervals.
const (
	Day   Every = "day"
	Week  Every = "week"
	Month Every = "month"
	Year  Every = "year"
)

// Recurrence is when an expense comes again: on the first day, and every so often
// from there. What falls on a day that a month doesn't have comes on its last.
type Recurrence struct {
	Every  Every
	Zone   string    // IANA's name, where days begin; empty: UTC
	Starts time.Time // a day, midnight UTC
	Until  time.Time // the last day on which it comes; zero: it doesn't end
}

// on returns the day of period n, from 0.
func (r Recurrence) on(n int) time.Time {
	y, m, d := r.Starts.Date()
	switch r.Every {
	case Day:
		return r.Starts.AddDate(0, 0, n)
	case Week:
		return r.Starts.AddDate(0, 0, 7*n)
	case Year:
		n *= 12
	}
	first := time.Date(y, m+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	return first.AddDate(0, 0, min(d, first.AddDate(0, 1, -1).Day())-1)
}

// after returns its first day after one; zero if there is none.
func (r Recurrence) after(day time.Time) time.Time {
	n := 0
	if days := int(day.Sub(r.Starts) / (24 * time.Hour)); days > 0 { // not after the one that is looked for
		n = days / map[Every]int{Day: 1, Week: 7, Month: 31, Year: 366}[r.Every]
	}
	for !r.on(n).After(day) {
		n++
	}
	if next := r.on(n); r.Until.IsZero() || !next.After(r.Until) {
		return next
	}
	return time.Time{}
}

// begins is when a day begins in the zone.
func (r Recurrence) begins(day time.Time) time.Time {
	zone, err := time.LoadLocation(r.Zone)
	if err != nil { // checked when it was set; no zone goes away
		zone = time.UTC
	}
	y, m, d := day.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, zone).UTC()
}

func (r *Recurrence) check() error {
	r.Starts, r.Until = r.Starts.UTC().Truncate(24*time.Hour), r.Until.UTC().Truncate(24*time.Hour)
	switch r.Every {
	case Day, Week, Month, Year:
	default:
		return ErrBadRecurring.At("body.every")
	}
	if r.Zone == "" {
		r.Zone = "UTC"
	}
	if _, err := time.LoadLocation(r.Zone); err != nil || r.Zone == "Local" {
		return ErrBadRecurring.At("body.time_zone")
	}
	if y := r.Starts.Year(); y < 1970 || y > 2999 {
		return ErrBadRecurring.At("body.starts_on")
	}
	return nil
}

// Recurring is an expense that comes again.
type Recurring struct {
	ID      uuid.UUID
	Group   core.GroupID
	Version int64
	Recurrence
	Draft             // On and Receipts are not used; without parts it is split among all who are members then
	Next    time.Time // the day on which it comes next; zero: it doesn't
	Problem string    // why it stopped: the code of a failure, such as member_not_found

	CreatedBy            core.UserID
	CreatedAt, ChangedAt time.Time
}

func (r *Recurring) check(now time.Time) error {
	r.On, r.Receipts = time.Time{}, nil
	if err := r.Draft.check(now); err != nil {
		return err
	}
	return r.Recurrence.check()
}

const recurring = `id, group_id, version, every, zone, starts_on, until_on, next_on, problem, title, category, note, currency, amount,
	payers, paid, mode, members, parts, created_by, created_at, changed_at`

func scanRecurring(cr pgx.CollectableRow) (r Recurring, err error) {
	var until, next *time.Time
	var payers, parts []string
	var paid []int64
	var members []core.UserID
	err = cr.Scan(&r.ID, &r.Group, &r.Version, &r.Every, &r.Zone, &r.Starts, &until, &next, &r.Problem, &r.Title, &r.Category, &r.Note, &r.Money.Currency, &r.Money.Amount,
		&payers, &paid, &r.Mode, &members, &parts, &r.CreatedBy, &r.CreatedAt, &r.ChangedAt)
	if until != nil {
		r.Until = *until
	}
	if next != nil {
		r.Next = *next
	}
	r.Paid, r.CreatedAt, r.ChangedAt = staked(payers, paid), r.CreatedAt.UTC(), r.ChangedAt.UTC()
	for i, m := range members {
		r.Parts = append(r.Parts, Part{m, parts[i]})
	}
	return r, err
}

func oneRecurring(ctx context.Context, q db.Querier, id uuid.UUID) (Recurring, error) {
	rows, err := q.Query(ctx, `SELECT `+recurring+` FROM recurring_expenses WHERE id = $1`, id)
	if err != nil {
		return Recurring{}, err
	}
	r, err := pgx.CollectExactlyOneRow(rows, scanRecurring)
	if errors.Is(err, pgx.ErrNoRows) {
		return Recurring{}, ErrNoRecurring
	}
	return r, err
}

// RecurringExpenses returns all of a group's, the oldest first. They are as many as
// people made, and at most maxRecurring.
func (s *Store) RecurringExpenses(ctx context.Context, user core.UserID, group core.GroupID) (list []Recurring, err error) {
	err = s.read(ctx, "list recurring expenses", user, group, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT `+recurring+` FROM recurring_expenses WHERE group_id = $1 ORDER BY created_at, id`, group)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanRecurring)
		return err
	})
	return list, err
}

const maxRecurring = 100

// ErrTooManyRecurring is for a group that has as many as it can.
var ErrTooManyRecurring = errs.New(errs.Conflict, "too_many_recurring_expenses", "a group has at most %d recurring expenses: end some", maxRecurring)

// Repeat has an expense come again. Every member may. Its first time may have been:
// then what has passed since comes at once, period by period.
func (s *Store) Repeat(ctx context.Context, user core.UserID, group core.GroupID, r Recurring) (Recurring, error) {
	if err := r.check(s.now()); err != nil {
		return Recurring{}, err
	}
	given := r
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		r = given
		if err := s.repeats(ctx, tx, user, group, &r); err != nil {
			return err
		}
		var count int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM recurring_expenses WHERE group_id = $1`, group).Scan(&count); err != nil {
			return err
		}
		if count >= maxRecurring {
			return ErrTooManyRecurring
		}
		r.ID, r.Group, r.Version, r.CreatedBy, r.CreatedAt, r.ChangedAt = uuid.New(), group, 1, user, s.now(), s.now()
		return s.plan(ctx, tx, &r, r.Starts.AddDate(0, 0, -1))
	})
	if err != nil {
		return Recurring{}, fmt.Errorf("repeat expense: %w", err)
	}
	return r, nil
}

// repeats checks that an expense could be made now, and fills in who pays it.
func (s *Store) repeats(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID, r *Recurring) error {
	var b pgx.Batch
	f := queueFacts(&b, user, group, &r.Draft)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return err
	}
	d := r.Draft
	if _, err := d.complete(user, f.members, nil, 0); err != nil {
		return err
	}
	r.Paid = d.Paid // the parts stay open, if they are
	return nil
}

// plan writes one whose next day is after another.
func (s *Store) plan(ctx context.Context, tx pgx.Tx, r *Recurring, day time.Time) error {
	r.Next = r.after(day)
	if r.Next.IsZero() || r.Next.Before(s.now().Add(-maxPast)) {
		return ErrBadRecurring.At("body.starts_on")
	}
	return s.write(ctx, tx, r)
}

// maxPast is how old the first period may be.
const maxPast = 366 * 24 * time.Hour

func (s *Store) write(ctx context.Context, tx pgx.Tx, r *Recurring) error {
	day := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	var at *time.Time
	if !r.Next.IsZero() {
		at = new(r.begins(r.Next))
	}
	payers, paid := stakes(r.Paid)
	members, parts := []core.UserID{}, []string{}
	for _, p := range r.Parts {
		members, parts = append(members, p.User), append(parts, p.Value)
	}
	_, err := tx.Exec(ctx, `INSERT INTO recurring_expenses (`+recurring+`, next_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
		ON CONFLICT (id) DO UPDATE SET version = excluded.version, every = excluded.every, zone = excluded.zone, starts_on = excluded.starts_on,
		  until_on = excluded.until_on, next_on = excluded.next_on, next_at = excluded.next_at, problem = excluded.problem, title = excluded.title,
		  category = excluded.category, note = excluded.note, currency = excluded.currency, amount = excluded.amount, payers = excluded.payers, paid = excluded.paid,
		  mode = excluded.mode, members = excluded.members, parts = excluded.parts, created_by = excluded.created_by, changed_at = excluded.changed_at`,
		r.ID, r.Group, r.Version, r.Every, r.Zone, r.Starts, day(r.Until), day(r.Next), r.Problem, r.Title, r.Category, r.Note, r.Money.Currency, r.Money.Amount,
		payers, paid, r.Mode, members, parts, r.CreatedBy, r.CreatedAt, r.ChangedAt, at)
	return err
}

// own reads a recurring expense that a user wants to change: who made it may, who
// pays it, and admins.
func (s *Store) own(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID, id uuid.UUID) (Recurring, error) {
	role, err := s.role(ctx, tx, user, group)
	if err != nil {
		return Recurring{}, err
	}
	r, err := oneRecurring(ctx, tx, id)
	switch {
	case err == nil && r.Group != group:
		err = ErrNoRecurring
	case err == nil && role == plain && r.CreatedBy != user && !r.paidBy(user):
		err = ErrForbidden
	}
	return r, err
}

// ErrRecurringChanged is for a version that isn't the present one.
var ErrRecurringChanged = errs.New(errs.Conflict, "recurring_expense_changed", "it was changed meanwhile: look at the present one, and send that version")

// Replan replaces a recurring expense. What it made stays; it goes on after the last
// day on which it came. Who made it goes on to add it, and pays it unless it says so;
// if they have left, whoever changes it does from now on.
func (s *Store) Replan(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID, version int64, r Recurring) (Recurring, error) {
	if err := r.check(s.now()); err != nil {
		return Recurring{}, err
	}
	given := r
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		was, err := s.own(ctx, tx, user, group, id)
		switch {
		case err != nil:
			return err
		case was.Version != version:
			return ErrRecurringChanged
		}
		r = given
		r.ID, r.Group, r.CreatedBy, r.CreatedAt = id, group, was.CreatedBy, was.CreatedAt
		r.Version, r.ChangedAt, r.Problem = version+1, s.now(), ""
		if _, err := s.role(ctx, tx, was.CreatedBy, group); errors.Is(err, ErrNotMember) {
			r.CreatedBy = user
		} else if err != nil {
			return err
		}
		if err := s.repeats(ctx, tx, r.CreatedBy, group, &r); err != nil {
			return err
		}
		var last *time.Time
		if err := tx.QueryRow(ctx, `SELECT max(period) FROM expenses WHERE recurring_id = $1`, id).Scan(&last); err != nil {
			return err
		}
		after := r.Starts.AddDate(0, 0, -1)
		if last != nil && last.After(after) {
			after = *last
		}
		return s.plan(ctx, tx, &r, after)
	})
	if err != nil {
		return Recurring{}, fmt.Errorf("replan expense: %w", err)
	}
	return r, nil
}

// End deletes a recurring expense; what it made stays. Again is ErrNoRecurring.
func (s *Store) End(ctx context.Context, user core.UserID, group core.GroupID, id uuid.UUID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.own(ctx, tx, user, group, id); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM recurring_expenses WHERE id = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("end recurring expense: %w", err)
	}
	return nil
}

// DueEvery is how often Due is called.
const DueEvery = time.Minute

const dueAtOnce = 100

// Due makes the expenses whose day has begun, each period exactly once, however many
// call it. One that can't be made, because somebody in it has left, stops and says
// why.
func (s *Store) Due(ctx context.Context) error {
	for {
		var due []Recurring
		err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
			rows, err := q.Query(ctx, `SELECT `+recurring+` FROM recurring_expenses WHERE next_at <= $1 ORDER BY next_at LIMIT $2`, s.now(), dueAtOnce)
			if err != nil {
				return err
			}
			due, err = pgx.CollectRows(rows, scanRecurring)
			return err
		})
		if err != nil {
			return fmt.Errorf("recurring expenses: %w", err)
		}
		if len(due) == 0 {
			return nil
		}
		var failed error // one holds up no other
		for _, r := range due {
			if err := s.comeAgain(ctx, r.ID, r.Group, r.Next); err != nil {
				failed = errors.Join(failed, fmt.Errorf("recurring expense %s: %w", r.ID, err))
			}
		}
		if failed != nil {
			return failed
		}
	}
}

// comeAgain makes a period of a recurring expense, if it still is the next one.
func (s *Store) comeAgain(ctx context.Context, id uuid.UUID, group core.GroupID, period time.Time) error {
	var version int64
	err := s.ledger.InTurn(ctx, ledger.GroupBook(group), func(ctx context.Context, tx pgx.Tx) error {
		r, err := oneRecurring(ctx, tx, id)
		version = r.Version
		switch {
		case errors.Is(err, ErrNoRecurring):
			return nil
		case err != nil:
			return err
		case !r.Next.Equal(period): // another node was faster
			return nil
		}
		d := r.Draft
		d.On = r.Next
		if _, err = s.create(ctx, tx, r.CreatedBy, group, d, &again{r.ID, r.Next}); err != nil {
			return err
		}
		r.Next = r.after(r.Next)
		return s.write(ctx, tx, &r)
	})
	if refused, told := errs.From(err); err != nil && told && refused.Kind != errs.Unavailable {
		return s.stop(ctx, id, version, refused.Code)
	}
	return err
}

// stop notes why a recurring expense doesn't come any more, until somebody changes it:
// unless they just have.
func (s *Store) stop(ctx context.Context, id uuid.UUID, version int64, problem errs.Code) error {
	return s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE recurring_expenses SET next_on = NULL, next_at = NULL, problem = $2, version = version + 1, changed_at = $3 WHERE id = $1 AND version = $4`,
			id, problem, s.now(), version)
		return err
	})
}
