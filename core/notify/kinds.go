package notify

import (
	"maps"
	"slices"

	"github.com/mustermesh/muster/internal/errs"
)

// Kind is what a notification is about. Each has a folder of templates.
type Kind = string

// The kinds. Their data names people and groups by id ("user_id", "group_id"):
// names are looked up when a text is made of it.
const (
	VerifyEmail     Kind = "verify_email"     // mail only; link
	ResetPassword   Kind = "reset_password"   // mail only; link
	EmailChanged    Kind = "email_changed"    // mail only, to the old address
	AccountDeleted  Kind = "account_deleted"  // mail only
	PasswordChanged Kind = "password_changed" //
	NewLogin        Kind = "new_login"        // device
	ExportReady     Kind = "export_ready"     // export_id
	FriendRequest   Kind = "friend_request"   // user_id asks
	FriendAccepted  Kind = "friend_accepted"  // user_id accepted
	TalkRequest     Kind = "talk_request"     // user_id asks to talk
	TalkAccepted    Kind = "talk_accepted"    // user_id accepted
	NewMessage      Kind = "message"          // user_id wrote in room, where it is no group's
	CallMissed      Kind = "call_missed"      // user_id called in room, and the reader did not come; session_id, type
	Mention         Kind = "mention"          // user_id mentioned the reader in group_id
	GroupInvite     Kind = "group_invite"     // user_id, group_id
	GroupRole       Kind = "group_role"       // group_id, role: the reader's own
	GroupRemoved    Kind = "group_removed"    // group_id
	Expense         Kind = "expense"          // user_id changed what the reader owes in group_id, by count expenses; expense_id if it is one
	Settlement      Kind = "settlement"       // user_id did something about money between them and the reader in group_id: kind, status

	SubscriptionRenewed       Kind = "subscription_renewed"        // plan, until
	SubscriptionPaymentFailed Kind = "subscription_payment_failed" // plan, until; again: a day, or empty
	SubscriptionEnded         Kind = "subscription_ended"          // plan

	Announcement Kind = "announcement" // title, text: of whoever runs the deployment
)

// kind is what holds for all notifications of one kind.
type kind struct {
	mailOnly bool     // told to an address that need not be a user's
	security bool     // in quiet hours, too; the mail of it can't be muted
	noMail   bool     // no mail unless the user wants it
	needs    []string // keys that the data must have
}

var kinds = map[Kind]kind{
	VerifyEmail:     {mailOnly: true, security: true, needs: []string{"link"}},
	ResetPassword:   {mailOnly: true, security: true, needs: []string{"link"}},
	EmailChanged:    {mailOnly: true, security: true},
	AccountDeleted:  {mailOnly: true, security: true},
	PasswordChanged: {security: true},
	NewLogin:        {security: true},
	ExportReady:     {},
	FriendRequest:   {needs: []string{"user_id"}},
	FriendAccepted:  {noMail: true, needs: []string{"user_id"}},
	TalkRequest:     {noMail: true, needs: []string{"user_id"}},
	TalkAccepted:    {noMail: true, needs: []string{"user_id"}},
	NewMessage:      {noMail: true, needs: []string{"user_id", "room"}},
	CallMissed:      {noMail: true, needs: []string{"user_id", "room"}},
	Mention:         {noMail: true, needs: []string{"user_id", "group_id"}},
	GroupInvite:     {needs: []string{"user_id", "group_id"}},
	GroupRole:       {noMail: true, needs: []string{"group_id", "role"}},
	GroupRemoved:    {noMail: true, needs: []string{"group_id"}},
	Expense:         {noMail: true, needs: []string{"user_id", "group_id"}},
	Settlement:      {noMail: true, needs: []string{"user_id", "group_id", "status"}},

	SubscriptionRenewed:       {needs: []string{"plan", "until"}},
	SubscriptionPaymentFailed: {needs: []string{"plan"}},
	SubscriptionEnded:         {needs: []string{"plan"}},

	Announcement: {needs: []string{"title", "text"}},
}

// Kinds returns those that users choose about, sorted.
func Kinds() []Kind {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(kinds)), func(k Kind) bool { return kinds[k].mailOnly })
}

// ErrCantMute is for a choice that would keep somebody's changes to an account
// from its owner.
var ErrCantMute = errs.New(errs.Invalid, "cannot_mute", "mails about the safety of your account are always sent")

// wanted decides whether a notification of a kind goes by a channel; chosen is
// what the user said, nil for nothing.
func wanted(k Kind, channel string, chosen *bool) bool {
	switch {
	case kinds[k].security && channel == Email:
		return true
	case chosen != nil:
		return *chosen
	}
	return channel != Email || !kinds[k].noMail
}
