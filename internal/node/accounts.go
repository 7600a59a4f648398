package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/auth/google"
	"github.com/mustermesh/muster/core/jobs"
)

// GoogleConfig is how the deployment is registered at Google; without a client id
// nobody signs in with it.
type GoogleConfig struct {
	ClientID     string `yaml:"client_id"`
	ClientSecret string `yaml:"-"`                  // from the environment, or from
	SecretFile   string `yaml:"client_secret_file"` // this
	// RedirectURL is the app's page to which Google sends people back, as registered
	// there. Default: google in the app that invitations lead to.
	RedirectURL string `yaml:"redirect_url"`
	Issuer      string `yaml:"issuer"` // default: Google
}

// provider returns nil if nobody signs in with Google.
func (c GoogleConfig) provider(app string, log *slog.Logger) (*google.Provider, error) {
	if c.ClientID == "" {
		return nil, nil
	}
	if c.SecretFile != "" && c.ClientSecret == "" {
		b, err := os.ReadFile(c.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("google: client secret: %w", err)
		}
		c.ClientSecret = strings.TrimSpace(string(b))
	}
	if app != "" {
		c.RedirectURL = cmp.Or(c.RedirectURL, app+"google")
	}
	return google.New(google.Config{ClientID: c.ClientID, ClientSecret: c.ClientSecret, RedirectURL: c.RedirectURL, Issuer: c.Issuer, Log: log})
}

// Override puts what flags or the environment say in the place of what c says.
func (c *GoogleConfig) Override(o GoogleConfig) {
	c.ClientID, c.ClientSecret = cmp.Or(o.ClientID, c.ClientID), cmp.Or(o.ClientSecret, c.ClientSecret)
	c.RedirectURL, c.Issuer = cmp.Or(o.RedirectURL, c.RedirectURL), cmp.Or(o.Issuer, c.Issuer)
}

// appBase is where the app is, with a slash at the end, told by where invitations
// lead; empty: nobody knows.
func appBase(invites string) string {
	base, _ := strings.CutSuffix(invites, "join/")
	return base
}

// recoverTimeout bounds one look for who forgot a password.
const recoverTimeout = 20 * time.Second

// newAccounts makes the accounts and logins of a node, and has w do what they
// leave to others.
func newAccounts(cfg *Config, region string, told auth.Notifier, announce auth.Announcer, w *work, log *slog.Logger) (*auth.Service, error) {
	app := appBase(cfg.InviteBase)
	provider, err := cfg.Google.provider(app, log)
	if err != nil {
		return nil, err
	}
	accounts, err := auth.New(cfg.DB, cfg.Secret, region, auth.Config{
		VerifierConfig: auth.VerifierConfig{Log: log}, Announce: announce, Notify: told, Google: provider, LinkBase: app,
		ProfileChanged: renamed, Hash: cfg.Hash,
		Metrics: cfg.Metrics,
	})
	if err != nil {
		return nil, err
	}
	w.Handle(auth.RecoverJob, jobs.Handler{
		Do:      func(ctx context.Context, job jobs.Work) error { return accounts.Recover(ctx, job.Payload) },
		Timeout: recoverTimeout,
	})
	w.sweep("logins", accounts.Sweep)
	return accounts, nil
}
