// Package email is the channel of mails: one message per recipient, as text and
// as HTML, over SMTP (RFC 5321).
//
// # Once, as far as SMTP goes
//
// A server takes a mail when it answers the end of DATA with 250. If the
// connection breaks after the end was sent and before that answer, nobody can
// know, and the mail is sent again: better twice than never. Both have the same
// Message-ID, by which mail systems know that they are one. In no other case is a
// mail that was taken sent again: what fails after the answer (RSET, QUIT) is no
// failure.
//
// # What a refusal means
//
// A server that refuses the recipient or the content for good (5xx to RCPT or
// DATA) is believed. All else is tried again: 4xx, which greylisting answers at
// first; refusals of us rather than of the recipient (of the sender, of the
// sign-in, for policy: 5.7.x), since whoever runs the node can mend those; and
// whatever breaks.
//
// Errors carry no addresses and no words of the server, which like to repeat
// them: they are stored and logged.
package email

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/wneessen/go-mail"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/notify"
)

// Sender takes a mail to where mails go: an SMTP server, or a mailbox on this
// machine.
type Sender interface {
	Send(ctx context.Context, m *mail.Msg) error
}

// Channel sends mails. It is a notify.Channel.
type Channel struct {
	from   *netmail.Address
	domain string
	sender Sender
}

// New returns the channel; from is what mails come from, such as
// "Muster <no-reply@example.org>".
func New(from string, s Sender) (*Channel, error) {
	a, err := netmail.ParseAddress(from)
	if err != nil {
		return nil, fmt.Errorf("email: the sender's address %q: %w", from, err)
	}
	_, domain, _ := strings.Cut(a.Address, "@")
	return &Channel{a, domain, s}, nil
}

// Name satisfies notify.Channel.
func (*Channel) Name() string { return notify.Email }

// Address returns the address of the user's account. Guests have none.
func (*Channel) Address(ctx context.Context, q db.Querier, user core.UserID) ([]notify.Address, error) {
	var to string
	var proven bool
	err := q.QueryRow(ctx, `SELECT email, email_verified_at IS NOT NULL FROM users WHERE id = $1 AND email IS NOT NULL`, user).Scan(&to, &proven)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return []notify.Address{{ID: "account", To: to, Unproven: !proven}}, err
}

// Deliver sends a mail.
func (c *Channel) Deliver(ctx context.Context, to notify.Address, m notify.Message) error {
	msg, err := c.write(to.To, m)
	if err != nil {
		return notify.Refused(err)
	}
	return c.sender.Send(ctx, msg)
}

func (c *Channel) write(to string, m notify.Message) (*mail.Msg, error) {
	msg := mail.NewMsg()
	msg.FromMailAddress(c.from)
	if err := msg.To(to); err != nil {
		return nil, errors.New("this is no mail address")
	}
	msg.SetMessageIDWithValue(m.ID.String() + "@" + c.domain)
	msg.SetDateWithValue(m.At)
	msg.Subject(m.Subject)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no replies by machines
	msg.SetGenHeader(mail.HeaderContentLang, m.Language)
	msg.SetUserAgent("Muster")
	msg.SetBodyString(mail.TypeTextPlain, m.Text)
	msg.AddAlternativeString(mail.TypeTextHTML, m.HTML)
	return msg, nil
}

// Security says how the connection to a server is protected.
type Security string

// What a server may want.
const (
	TLS      Security = "tls"      // from the first byte, port 465 (RFC 8314)
	STARTTLS Security = "starttls" // required, port 587
	Plain    Security = "none"     // only for a server on this machine or network
)

// SMTP is a server that takes mails. It is a Sender.
type SMTP struct {
	Addr     string   // host or host:port
	Security Security // default STARTTLS
	Username string   // empty: no sign-in
	Password string
	Helo     string        // name of this node; default: the machine's
	TLS      *tls.Config   // optional
	Timeout  time.Duration // of a connection, from dialling to the last answer; default 4 min
}

const dialTime = 30 * time.Second

// Check says what is wrong with it.
func (s *SMTP) Check() error {
	_, err := s.client(context.Background(), func(net.Conn) {})
	return err
}

// client is one for one connection. go-mail bounds a connection's time and knows
// no context after it was dialled; opened hears of the connection, so that ending
// ctx can end it.
func (s *SMTP) client(ctx context.Context, opened func(net.Conn)) (*mail.Client, error) {
	host, port, err := net.SplitHostPort(s.Addr)
	if !strings.Contains(s.Addr, ":") {
		err = nil
		host, port = s.Addr, map[Security]string{TLS: "465", Plain: "25"}[s.Security]
		port = cmp.Or(port, "587")
	}
	n, bad := strconv.Atoi(port)
	if err != nil || bad != nil || host == "" {
		return nil, fmt.Errorf("email: the server %q is no host:port", s.Addr)
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if s.TLS != nil {
		config = s.TLS.Clone()
		config.ServerName = cmp.Or(config.ServerName, host)
	}
	options := []mail.Option{
		mail.WithPort(n), mail.WithTimeout(cmp.Or(s.Timeout, 4*time.Minute)), mail.WithTLSConfig(config),
		mail.WithoutNoop(), mail.WithoutRset(),
		mail.WithDialContextFunc(func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTime)
			defer cancel()
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			opened(c)
			if s.Security == TLS {
				secure := tls.Client(c, config)
				if err := secure.HandshakeContext(ctx); err != nil {
					_ = c.Close()
					return nil, err
				}
				return secure, nil
			}
			return c, nil
		}),
	}
	switch cmp.Or(s.Security, STARTTLS) {
	case TLS:
		options = append(options, mail.WithSSL())
	case STARTTLS:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case Plain:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		return nil, fmt.Errorf("email: security %q is none of tls, starttls and none", s.Security)
	}
	if s.Username != "" { // these refuse to tell a password over a connection in clear, but to this machine
		options = append(options, mail.WithUsername(s.Username), mail.WithPassword(s.Password),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	if s.Helo != "" {
		options = append(options, mail.WithHELO(s.Helo))
	}
	c, err := mail.NewClient(host, options...)
	if err != nil {
		return nil, fmt.Errorf("email: %w", err)
	}
	return c, nil
}

// Send sends a mail on a connection of its own.
func (s *SMTP) Send(ctx context.Context, m *mail.Msg) error {
	stop := func() bool { return false }
	c, err := s.client(ctx, func(conn net.Conn) {
		stop = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	})
	if err != nil {
		return err
	}
	defer func() { stop() }()
	conn, err := c.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return meaning(err)
	}
	err = c.SendWithSMTPClient(conn, m)
	// The answer to the farewell is not waited for: what was taken is to be written
	// down before anything can happen to this node.
	_ = conn.Text.PrintfLine("QUIT")
	_ = conn.Close()
	if m.IsDelivered() { // whatever came after that
		return nil
	}
	return meaning(err)
}

// meaning is what a failure says about what to do, without addresses.
func meaning(err error) error {
	sent, ok := errors.AsType[*mail.SendError](err)
	if !ok {
		if _, network := errors.AsType[net.Error](err); network {
			return errors.New("the mail server does not answer")
		}
		return errors.New("the mail server did not let us in")
	}
	code, enhanced := sent.ErrorCode(), sent.EnhancedStatusCode()
	said := fmt.Errorf("the mail server answered %s", strings.TrimSpace(fmt.Sprint(code, " ", enhanced)))
	switch sent.Reason {
	case mail.ErrSMTPRcptTo:
		said = fmt.Errorf("%w to the recipient", said)
	case mail.ErrSMTPMailFrom:
		said = fmt.Errorf("%w to the sender", said)
	case mail.ErrGetRcpts, mail.ErrGetSender, mail.ErrNoUnencoded:
		return notify.Refused(errors.New("the mail server can't take mail for this address"))
	}
	switch {
	case code == 0:
		return errors.New("the connection to the mail server broke")
	case code >= 500 && !strings.HasPrefix(enhanced, "5.7.") &&
		(sent.Reason == mail.ErrSMTPRcptTo || sent.Reason == mail.ErrSMTPData || sent.Reason == mail.ErrSMTPDataClose):
		return notify.Refused(said)
	}
	return said
}
