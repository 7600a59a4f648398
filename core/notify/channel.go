package notify

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// The names of the channels that this package itself has to know: mails about
// the safety of an account can't be muted.
const Email = "email"

// Channel is a way by which users are told. A new one is one package with this
// interface, and one line where a node is assembled.
type Channel interface {
	Name() string
	// Address returns where a user is reached by it: none, one, or several.
	Address(ctx context.Context, q db.Querier, user core.UserID) ([]Address, error)
	// Deliver sends a message to an address. It may be called again for one that
	// was sent, if a node ended before that was written down: the other side
	// knows it again by Message.ID, where it can. Errors made by Refused or Later
	// say what to do; any other is tried again after a while.
	Deliver(ctx context.Context, to Address, m Message) error
}

// Silent is for channels that disturb nobody: they ignore quiet hours.
type Silent interface{ Silent() }

// Transactional is for channels that only write to this database: they deliver in
// the transaction in which it is decided that they do, without a job, and so
// exactly once. Of the message they get ids, kind and data, and no texts.
type Transactional interface {
	DeliverIn(ctx context.Context, tx pgx.Tx, to Address, m Message) error
}

// Address is where a user is reached.
type Address struct {
	ID     string // names it among the user's of this channel, and is stored
	To     string // what the channel calls it; never stored or logged here
	Detail any    // the channel's own
	// Unproven: the user did not show that it is theirs, so it is told only what is
	// about the safety of their account.
	Unproven bool
}

// Message is a notification in the user's language.
type Message struct {
	ID           uuid.UUID // of the delivery: the same each time that it is tried
	Notification uuid.UUID // zero for a mail to an address that need not be a user's
	Kind         Kind
	User         core.UserID // likewise
	Data         map[string]any
	At           time.Time // when it was made
	Language     string

	Subject    string // one line
	Brief      string // one paragraph, for small screens
	Text, HTML string
	Link       string // where more is to be seen; may be empty
}

// State is what became of a delivery.
type State = string

// The states of a delivery.
const (
	Queued State = "queued" // not tried yet
	Failed State = "failed" // tried, and will be again
	Sent   State = "sent"
	Dead   State = "dead"  // given up
	Muted  State = "muted" // the user doesn't want it, or has read it elsewhere
)

// outcome is an error that says what to do.
type outcome struct {
	error
	permanent bool
	wait      time.Duration
}

func (o outcome) Unwrap() error { return o.error }

// Advice returns what an error of Deliver says: that no attempt will help, or when
// the next one should be; zero: not said.
func Advice(err error) (permanent bool, wait time.Duration) {
	o, _ := errors.AsType[outcome](err)
	return o.permanent, o.wait
}

// Refused says that this message will never be taken there, or nobody is.
func Refused(err error) error { return outcome{error: err, permanent: true} }

// Later says when it may be tried again.
func Later(err error, wait time.Duration) error { return outcome{error: err, wait: wait} }
