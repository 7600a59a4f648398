package ledger

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about.
var (
	ErrNoTransaction = errs.New(errs.NotFound, "transaction_not_found", "there is no such transaction")
	ErrReversed      = errs.New(errs.Conflict, "already_reversed", "somebody has taken this back already: read again")
	ErrBusy          = errs.New(errs.Unavailable, "contention", "too many are writing here at once; try again").After(time.Second)
)

// Book is what is kept together: the money of a group, or of a user with us.
type Book string

// GroupBook is a group's.
func GroupBook(id core.GroupID) Book { return Book(id.Room()) }

// UserBook is a user's.
func UserBook(id core.UserID) Book { return Book(id.Key()) }

// Account is a party in a book.
type Account string

// The accounts that are nobody's.
const (
	Wallet   Account = "wallet"   // a group's kitty
	Platform Account = "platform" // whoever runs the deployment
	Exchange Account = "exchange" // where a currency becomes another
)

// Member is a member's account in a group's book.
func Member(id core.UserID) Account { return Account("member:" + id.String()) }

// User is a user's account in their own book.
func User(id core.UserID) Account { return Account("user:" + id.String()) }

// Gateway is the account of whoever moves money for us.
func Gateway(name string) Account { return Account("gateway:" + name) }

// Member returns whose account it is in a group's book.
func (a Account) Member() (core.UserID, bool) { return a.owner("member:") }

// User returns whose account it is in a user's book.
func (a Account) User() (core.UserID, bool) { return a.owner("user:") }

func (a Account) owner(prefix string) (core.UserID, bool) {
	s, ok := strings.CutPrefix(string(a), prefix)
	if !ok {
		return core.UserID{}, false
	}
	id, err := core.ParseUserID(s)
	return id, err == nil
}

// Line is a posting: from now on Debtor owes Creditor so much more.
type Line struct {
	Debtor, Creditor Account
	Money            core.Money // positive
}

// Entry is a transaction that is to be posted. It may have no lines: it happened, and
// nobody owes anything for it.
type Entry struct {
	ID       uuid.UUID
	Kind     string      // a word of its author's
	Ref      uuid.UUID   // of what it is about
	Reverses *uuid.UUID  // the transaction that it takes back
	By       core.UserID // zero: nobody, the software
	Lines    []Line
}

// Transaction is an entry that is in a book.
type Transaction struct {
	Entry
	Book Book
	Seq  int64 // dense, from 1
	At   time.Time
	Hash Hash
}

// Head is how far a book's chain goes.
type Head struct {
	Book Book
	Seq  int64 // of its newest transaction; 0: there is none
	Hash Hash
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Now func() time.Time // default time.Now
}

// Store is all books. It is safe for concurrent use.
type Store struct {
	db    *db.DB
	cfg   Config
	turns turns
}

// New returns a Store.
func New(d *db.DB, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, cfg: cfg}
}

// Post writes entries into a book, one after the other, in the caller's transaction,
// which must be SERIALIZABLE: what is owed, and the chain, change with them. It takes
// two trips; who has something else to read and to write sends it along by Lock and
// Append.
func (s *Store) Post(ctx context.Context, tx pgx.Tx, book Book, entries ...Entry) ([]Transaction, error) {
	var reads, writes pgx.Batch
	head := s.Lock(&reads, book)
	if err := tx.SendBatch(ctx, &reads).Close(); err != nil {
		return nil, fmt.Errorf("lock book: %w", err)
	}
	list, err := s.Append(&writes, head, entries...)
	if err != nil {
		return nil, err
	}
	if err := tx.SendBatch(ctx, &writes).Close(); err != nil {
		return nil, fmt.Errorf("post: %w", err)
	}
	return list, nil
}

// Reverse makes the entry that takes a transaction back: the same postings the other
// way around. It is not posted yet. That one is taken back only once is found out by
// whoever posts it: ErrReversed.
func (s *Store) Reverse(ctx context.Context, tx pgx.Tx, book Book, id uuid.UUID, by core.UserID) (Entry, error) {
	t, err := s.Get(ctx, tx, book, id)
	if err != nil {
		return Entry{}, err
	}
	return t.Reversal(by), nil
}

// Reversal is the entry that takes a transaction back, of the same kind and about the
// same thing.
func (t Transaction) Reversal(by core.UserID) Entry {
	r := Entry{ID: uuid.New(), Kind: t.Kind, Ref: t.Ref, Reverses: &t.ID, By: by, Lines: make([]Line, len(t.Lines))}
	for i, l := range t.Lines {
		r.Lines[i] = Line{Debtor: l.Creditor, Creditor: l.Debtor, Money: l.Money}
	}
	return r
}
