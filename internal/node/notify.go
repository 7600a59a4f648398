package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/email"
	"github.com/mustermesh/muster/core/notify/inapp"
	"github.com/mustermesh/muster/core/notify/webhook"
	"github.com/mustermesh/muster/core/notify/webpush"
)

// NotifyConfig says how people are told things; its zero value works, without
// mails.
type NotifyConfig struct {
	Mail     email.Sender // nil: no mails; those that were to be sent wait for a node that sends them
	From     string       // what mails come from
	Contact  string       // at which push services reach whoever runs this; default: of From
	Private  bool         // webhooks and push services may be at private addresses
	Channels []notify.Channel
}

// notifications are the ways by which people are told. A new way is one more
// line here.
type notifications struct {
	*notify.Notifier
	push  *webpush.Channel
	hooks *webhook.Channel
}

func newNotifications(cfg *Config, log *slog.Logger) (*notifications, error) {
	c := cfg.Notify
	push, err := webpush.New(cfg.DB, cfg.Secret, webpush.Config{Contact: c.contact(), Private: c.Private})
	if err != nil {
		return nil, err
	}
	hooks, err := webhook.New(cfg.DB, cfg.Secret, webhook.Config{Private: c.Private})
	if err != nil {
		return nil, err
	}
	channels := append([]notify.Channel{inapp.New(cfg.DB, time.Now), push, hooks}, c.Channels...)
	if c.Mail != nil {
		mails, err := email.New(c.From, c.Mail)
		if err != nil {
			return nil, err
		}
		channels = append(channels, mails)
	}
	n, err := notify.New(cfg.DB, cfg.Secret, notify.Config{
		Channels: channels, Base: strings.TrimSuffix(cfg.InviteBase, "join/"), Log: log, Metrics: cfg.Metrics,
	})
	if err != nil {
		return nil, err
	}
	return &notifications{n, push, hooks}, nil
}

// contact is how RFC 8292 section 2.1 wants it.
func (c NotifyConfig) contact() string {
	if c.Contact != "" {
		return c.Contact
	}
	_, address, ok := strings.Cut(c.From, "<")
	if !ok {
		return c.From
	}
	return strings.TrimSuffix(address, ">")
}

// handle gives a queue the work.
func (n *notifications) handle(q *jobs.Queue) {
	n.Handle(q)
	n.hooks.Handle(q)
}

// Sweep deletes what is old.
func (n *notifications) Sweep(ctx context.Context) error {
	return errors.Join(n.Notifier.Sweep(ctx), n.hooks.Sweep(ctx))
}

// operations are what the API needs.
func (n *notifications) operations() *httpapi.Notifications {
	return &httpapi.Notifications{Notifier: n.Notifier, Push: n.push, Webhooks: n.hooks}
}

// MailConfig is the server that takes mails, as the configuration names it.
type MailConfig struct {
	From string `yaml:"from"` // such as "Muster <no-reply@example.org>"
	// Server is host:port; empty: no mails are sent.
	Server   string         `yaml:"server"`
	Security email.Security `yaml:"security"` // starttls (default), tls, none
	Username string         `yaml:"username"` // empty: no sign-in
	// PasswordFile holds the password; MUSTER_SMTP_PASSWORD takes its place.
	PasswordFile string `yaml:"password_file"`
	Password     string `yaml:"-"`
	// CAFile holds certificates that the server's is checked by; empty: the system's.
	CAFile string `yaml:"ca_file"`
}

// sender makes what sends the mails; nil if there is no server.
func (c MailConfig) sender() (email.Sender, error) {
	if c.Server == "" {
		return nil, nil
	}
	s := &email.SMTP{Addr: c.Server, Security: c.Security, Username: c.Username, Password: c.Password}
	if c.PasswordFile != "" && s.Password == "" {
		b, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("mail: %w", err)
		}
		s.Password = strings.TrimSpace(string(b))
	}
	if c.CAFile != "" {
		b, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("mail: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("mail: %s holds no certificates", c.CAFile)
		}
		s.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if c.From == "" {
		return nil, errors.New("mail: from is missing: what mails come from")
	}
	return s, s.Check()
}
