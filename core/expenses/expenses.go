package expenses

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/ledger"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about, beside those of core and ErrBadSplit.
var (
	ErrNotMember     = errs.New(errs.NotFound, "not_member", "there is no such group, or you are no member of it")
	ErrNoSuchMember  = errs.New(errs.NotFound, "member_not_found", "somebody in it is no member of the group")
	ErrForbidden     = errs.New(errs.Forbidden, "role_required", "who it is about may do this, and admins")
	ErrNoExpense     = errs.New(errs.NotFound, "expense_not_found", "there is no such expense")
	ErrChanged       = errs.New(errs.Conflict, "expense_changed", "it was changed meanwhile: look at the present one, and send that version")
	ErrBadExpense    = errs.New(errs.Invalid, "bad_expense", "an expense has a title of 1 to 200 characters, a category of at most 32 (a-z, 0-9, _), a note of at most 2,000, a day from 1970 to 2999 and at most 10 receipts").At("body")
	ErrBadPayers     = errs.New(errs.Invalid, "bad_payers", "who paid is there once each, and what they paid comes to the amount").At("body.payers")
	ErrNoSettlement  = errs.New(errs.NotFound, "settlement_not_found", "there is no such settlement")
	ErrBadSettlement = errs.New(errs.Invalid, "bad_settlement", "a settlement is more than nothing, between two members, or one and the wallet; its note has at most 2,000 characters").At("body")
	ErrBadRate       = errs.New(errs.Invalid, "bad_rate", "a rate is a decimal above 0 with at most 12 digits on each side, between two currencies, by which something is left").At("body.rate")
	ErrNotPending    = errs.New(errs.Conflict, "settlement_not_pending", "this settlement does not wait for a payment")
	ErrNoRecurring   = errs.New(errs.NotFound, "recurring_expense_not_found", "there is no such recurring expense")
	ErrBadRecurring  = errs.New(errs.Invalid, "bad_recurrence", "it comes every day, week, month or year, from a day on, in an IANA time zone, and has a next time").At("body")
	ErrNoReceipts    = errs.New(errs.Invalid, "bad_expense", "files are off in this deployment").At("body.receipts")
)

// Changed is ErrChanged with the expense as it is.
type Changed struct{ Present Expense }

func (c *Changed) Error() string { return ErrChanged.Error() }
func (c *Changed) Unwrap() error { return ErrChanged }

// Receipts are files of expenses. core/attachments is one.
type Receipts interface {
	// Attach gives a user's uploads to a room, Detach deletes them, in the caller's transaction.
	Attach(ctx context.Context, tx pgx.Tx, user core.UserID, room string, ids []uuid.UUID) error
	Detach(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error
}

// Notifier tells people what they may want to know while they are away, in the
// caller's transaction. core/notify satisfies it.
type Notifier interface {
	Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Now      func() time.Time // default time.Now
	Receipts Receipts         // nil: there are none
	Notify   Notifier         // may be nil
	// NoticeAfter is how long after an expense its people are notified, of it and
	// of what came since. Default 10 s.
	NoticeAfter time.Duration
}

// Store is all of it. It is safe for concurrent use.
type Store struct {
	db     *db.DB
	ledger *ledger.Store
	cfg    Config
}

// New returns a Store.
func New(d *db.DB, l *ledger.Store, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.NoticeAfter = cmp.Or(cfg.NoticeAfter, 10*time.Second)
	return &Store{db: d, ledger: l, cfg: cfg}
}

// now is a time as the database keeps it.
func (s *Store) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// Draft is what an expense is made of.
type Draft struct {
	Title, Category, Note string
	On                    time.Time // its day, midnight UTC; zero: today
	Money                 core.Money
	Paid                  []Stake // empty: who adds it paid all of it
	Mode                  Mode
	Parts                 []Part // empty, with Equal: all members
	Receipts              []uuid.UUID
}

// Expense is one as it is, or was.
type Expense struct {
	ID      uuid.UUID
	Group   core.GroupID
	Version int64
	// Ordinal counts the expenses of its group and currency, from 0. It is the turn of
	// Split.
	Ordinal int64
	Draft
	Cuts      []Cut
	Recurring *uuid.UUID // what made it
	CreatedBy core.UserID
	CreatedAt time.Time
	ChangedBy core.UserID
	ChangedAt time.Time
	Deleted   bool

	at     time.Time // On, and the time of day at which it was added
	posted uuid.UUID
}

const (
	maxReceipts     = 10
	defaultCategory = "general"
)

// check normalizes what needs no database.
func (d *Draft) check(now time.Time) error {
	var ok [3]bool
	d.Title, ok[0] = core.CleanText(d.Title, 1, 200, false)
	d.Note, ok[1] = core.CleanText(d.Note, 0, 2000, true)
	d.Category = cmp.Or(d.Category, defaultCategory)
	ok[2] = len(d.Category) <= 32 && strings.Trim(d.Category, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
	for i, field := range []string{"body.title", "body.note", "body.category"} {
		if !ok[i] {
			return ErrBadExpense.At(field)
		}
	}
	if d.On.IsZero() {
		d.On = now
	}
	d.On = d.On.UTC().Truncate(24 * time.Hour)
	if y := d.On.Year(); y < 1970 || y > 2999 {
		return ErrBadExpense.At("body.spent_on")
	}
	d.Receipts = slices.Clone(d.Receipts)
	slices.SortFunc(d.Receipts, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	if d.Receipts = slices.Compact(d.Receipts); len(d.Receipts) > maxReceipts {
		return ErrBadExpense.At("body.receipts")
	}
	if err := checkMoney(d.Money); err != nil {
		return err
	}
	d.Mode = cmp.Or(d.Mode, Equal)
	return d.checkPayers()
}

// checkMoney wants what can be paid.
func checkMoney(m core.Money) error {
	err := m.Check()
	switch {
	case errors.Is(err, core.ErrCurrency):
		return core.ErrCurrency.At("body.currency")
	case err != nil:
		return core.ErrAmount.At("body.amount")
	case m.Amount < 0:
		return errs.New(errs.Invalid, core.ErrAmount.Code, "an amount is not negative").At("body.amount")
	}
	return nil
}

func (d *Draft) checkPayers() error {
	d.Paid = slices.Clone(d.Paid)
	slices.SortFunc(d.Paid, func(a, b Stake) int { return cmp.Compare(a.Who, b.Who) })
	left := d.Money.Amount
	for i, p := range d.Paid {
		if p.Amount < 0 || p.Amount > left || i > 0 && p.Who == d.Paid[i-1].Who {
			return ErrBadPayers
		}
		left -= p.Amount
	}
	if left != 0 && len(d.Paid) > 0 || len(d.Paid) > MaxParts {
		return ErrBadPayers
	}
	return nil
}

// people are the members that a draft names.
func (d *Draft) people() []core.UserID {
	list := make([]core.UserID, 0, len(d.Parts)+len(d.Paid))
	for _, p := range d.Parts {
		list = append(list, p.User)
	}
	for _, p := range d.Paid {
		if user, ok := p.Who.Member(); ok {
			list = append(list, user)
		}
	}
	slices.SortFunc(list, compareUsers)
	return slices.Compact(list)
}

// paidBy reports whether a member paid of it.
func (d *Draft) paidBy(user core.UserID) bool {
	return slices.ContainsFunc(d.Paid, func(p Stake) bool { return p.Who == ledger.Member(user) })
}

// everybody reports whether a draft is split among all members, whoever they are.
func (d *Draft) everybody() bool { return len(d.Parts) == 0 && d.Mode == Equal }

// complete fills in what a draft leaves open, once it is known who is a member, and
// splits it. It may name members, and also others.
func (d *Draft) complete(by core.UserID, members, also []core.UserID, turn int64) ([]Cut, error) {
	if len(d.Paid) == 0 {
		d.Paid = []Stake{{ledger.Member(by), d.Money.Amount}}
	}
	if d.everybody() {
		for _, m := range members {
			d.Parts = append(d.Parts, Part{User: m})
		}
	}
	d.Parts = slices.SortedStableFunc(slices.Values(d.Parts), func(a, b Part) int { return compareUsers(a.User, b.User) })
	known := slices.Concat(members, also)
	for _, p := range d.Parts {
		if !slices.Contains(known, p.User) {
			return nil, ErrNoSuchMember.At("body.split")
		}
	}
	for _, p := range d.Paid {
		if user, ok := p.Who.Member(); ok && !slices.Contains(known, user) || !ok && p.Who != ledger.Wallet {
			return nil, ErrNoSuchMember.At("body.payers")
		}
	}
	return Split(d.Mode, d.Money.Amount, turn, d.Parts)
}

// lines are the postings of an expense.
func (d *Draft) lines(cuts []Cut) []ledger.Line {
	borne := make([]Stake, len(cuts))
	for i, c := range cuts {
		borne[i] = Stake{ledger.Member(c.User), c.Amount}
	}
	debts := Settle(d.Paid, borne)
	lines := make([]ledger.Line, len(debts))
	for i, t := range debts {
		lines[i] = ledger.Line{Debtor: t.From, Creditor: t.To, Money: core.Money{Amount: t.Amount, Currency: d.Money.Currency}}
	}
	return lines
}
