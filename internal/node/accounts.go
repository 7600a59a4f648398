package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/auth/google"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/notify/webhook"
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

// accountsConfig is what the accounts are made of on a node.
type accountsConfig struct {
	region    string
	told      auth.Notifier
	announce  auth.Announcer
	work      *work
	reclaimed func(ctx context.Context, tx pgx.Tx, user core.UserID) error
	log       *slog.Logger
}

// newAccounts makes the accounts and logins of a node, and has the queue do what they
// leave to others.
func newAccounts(cfg *Config, c accountsConfig) (*auth.Service, error) {
	app := appBase(cfg.InviteBase)
	provider, err := cfg.Google.provider(app, c.log)
	if err != nil {
		return nil, err
	}
	accounts, err := auth.New(cfg.DB, cfg.Secret, c.region, auth.Config{
		VerifierConfig: auth.VerifierConfig{Log: c.log}, Announce: c.announce, Notify: c.told, Google: provider, LinkBase: app,
		ProfileChanged: renamed, Reclaimed: c.reclaimed, Hash: cfg.Hash,
		Metrics: cfg.Metrics,
	})
	if err != nil {
		return nil, err
	}
	c.work.Handle(auth.RecoverJob, jobs.Handler{
		Do:      func(ctx context.Context, job jobs.Work) error { return accounts.Recover(ctx, job.Payload) },
		Timeout: recoverTimeout,
	})
	c.work.sweep("logins", accounts.Sweep)
	return accounts, nil
}

// reclaim returns what ends all that shows others where a user is or what they are
// told: links and grants of their position, fleets, and webhooks. Whoever had the
// account before its owner came may have made them.
func reclaim(places *location.Store, owned *fleets.Store, hooks *webhook.Channel) func(context.Context, pgx.Tx, core.UserID) error {
	return func(ctx context.Context, tx pgx.Tx, user core.UserID) error {
		ctx = db.Within(ctx, tx)
		links, err := places.Links(ctx, user)
		if err != nil {
			return err
		}
		for _, l := range links {
			if err := places.Revoke(ctx, user, l.ID); err != nil {
				return err
			}
		}
		grants, err := places.Grants(ctx, user)
		if err != nil {
			return err
		}
		for _, g := range grants {
			if err := places.EndGrant(ctx, user, g.ID, false); err != nil {
				return err
			}
		}
		if err := endFleets(ctx, owned, user); err != nil {
			return err
		}
		mine := webhook.Owner{User: user}
		list, err := hooks.List(ctx, mine)
		if err != nil {
			return err
		}
		for _, h := range list {
			if err := hooks.Delete(ctx, mine, h.ID); err != nil {
				return err
			}
		}
		return nil
	}
}
