package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/auth/google"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
)

// GoogleConfig is how the deployment is registered at Google; without a client id
// nobody signs in with it.
type GoogleConfig struct {
	ClientID     string `yaml:"client_id"`
	ClientSecret string `yaml:"-"`             // from the environment, or from
	SecretFile   string `yaml:"client_secret"` // a file
	// RedirectURL is the app's page to which Google sends people back, as registered
	// there. Default: signin/google of the app that invitations lead to.
	RedirectURL string `yaml:"redirect_url"`
	Issuer      string `yaml:"issuer"` // default: Google
}

// provider returns nil if nobody signs in with Google.
func (c GoogleConfig) provider(app string, log *slog.Logger) (*google.Provider, error) {
	if c.ClientID == "" {
		return nil, nil
	}
	if c.SecretFile != "" {
		b, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("google: client secret: %w", err)
		}
		c.ClientSecret = strings.TrimSpace(string(b))
	}
	if app != "" {
		c.RedirectURL = cmp.Or(c.RedirectURL, app+"signin/google")
	}
	return google.New(google.Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret, RedirectURL: c.RedirectURL, Issuer: c.Issuer, Log: log})
}

// appBase is where the app is, with a slash at the end, told by where invitations
// lead; empty: nobody knows.
func appBase(invites string) string {
	base, _ := strings.CutSuffix(invites, "join/")
	return base
}

// accountsConfig is what auth is made of on a node.
type accountsConfig struct {
	db       *db.DB
	secret   []byte
	region   string
	app      string // see appBase
	google   GoogleConfig
	notify   auth.Notifier // nil: nobody is told
	announce auth.Announcer
	log      *slog.Logger
	metrics  prometheus.Registerer
}

func newAccounts(c accountsConfig) (*auth.Service, error) {
	provider, err := c.google.provider(c.app, c.log)
	if err != nil {
		return nil, err
	}
	return auth.New(c.db, c.secret, c.region, auth.Config{
		VerifierConfig: auth.VerifierConfig{Log: c.log}, Announce: c.announce, Notify: c.notify, Google: provider, LinkBase: c.app,
		ProfileChanged: renamed,
		Metrics: c.metrics,
	})
}

// recoverTimeout bounds one look for who forgot a password.
const recoverTimeout = 20 * time.Second

// handleAccounts has q do what auth leaves to jobs.
func handleAccounts(q *jobs.Queue, accounts *auth.Service) {
	q.Handle(auth.RecoverJob, jobs.Handler{
		Do:      func(ctx context.Context, w jobs.Work) error { return accounts.Recover(ctx, w.Payload) },
		Timeout: recoverTimeout,
	})
}
