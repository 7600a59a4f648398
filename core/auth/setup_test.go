package auth

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth/google"
	"github.com/mustermesh/muster/core/auth/googletest"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// sentMail is a mail that was committed.
type sentMail struct{ address, language, template, token string }

// postbox satisfies Notifier. Like an outbox it has only what was committed.
type postbox struct {
	mu      sync.Mutex
	mails   []sentMail
	notices []string // "user kind"
}

func (p *postbox) Notify(ctx context.Context, _ pgx.Tx, to core.UserID, kind string, _ map[string]any) error {
	db.AfterCommit(ctx, func(context.Context) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.notices = append(p.notices, to.String()+" "+kind)
	})
	return nil
}

func (p *postbox) Mail(ctx context.Context, _ pgx.Tx, address, language, template string, data map[string]any) error {
	link, _ := data["link"].(string)
	db.AfterCommit(ctx, func(context.Context) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mails = append(p.mails, sentMail{address, language, template, link[strings.LastIndexByte(link, '/')+1:]})
	})
	return nil
}

// take returns what was mailed since it was last asked.
func (p *postbox) take() []sentMail {
	p.mu.Lock()
	defer p.mu.Unlock()
	mails := p.mails
	p.mails = nil
	return mails
}

// one is take for a single mail.
func (p *postbox) one(t *testing.T, address, template string) string {
	t.Helper()
	mails := p.take()
	require.Len(t, mails, 1)
	require.Equal(t, address, mails[0].address)
	require.Equal(t, template, mails[0].template)
	return mails[0].token
}

func (p *postbox) told(t *testing.T, user core.UserID, kind string) int {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, s := range p.notices {
		if s == user.String()+" "+kind {
			n++
		}
	}
	return n
}

type accounts struct {
	*bundle
	post   *postbox
	google *googletest.Server
}

// setupAccounts is setup with mail and Google.
func setupAccounts(t *testing.T) *accounts {
	b := &accounts{bundle: &bundle{db: devdb.Test(t), clock: newClock(), told: &told{}}, post: &postbox{}}
	b.google = googletest.New(t, b.clock.now)
	provider, err := google.New(google.Config{
		ClientID: googletest.ClientID, ClientSecret: googletest.ClientSecret, RedirectURL: googletest.RedirectURL,
		Issuer: b.google.URL, Client: b.google.Client, Now: b.clock.now,
	})
	require.NoError(t, err)
	s, err := New(b.db, []byte(testSecret), "eu-west", Config{
		VerifierConfig: VerifierConfig{Now: b.clock.now}, Hash: cheap, Announce: b.told,
		Notify: b.post, Google: provider, LinkBase: "https://app.example.org/",
	})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(s.Stop)
	b.Service = s
	return b
}

// register signs somebody up and returns their login and the token that was mailed.
func (b *accounts) register(t *testing.T, a Account) (Identity, Tokens, string) {
	t.Helper()
	tok, err := b.Register(t.Context(), a, nil)
	require.NoError(t, err)
	return b.identity(t, tok), tok, b.post.one(t, a.Email, "verify_email")
}

// forgot asks for a new password, does the job, and returns what was mailed.
func (b *accounts) forgot(t *testing.T, email string) []sentMail {
	t.Helper()
	require.NoError(t, b.Forgot(t.Context(), email))
	var payload []byte
	require.NoError(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `DELETE FROM jobs WHERE kind = $1 RETURNING payload`, RecoverJob).Scan(&payload)
	}))
	require.NotContains(t, string(payload), "example", "the address is sealed")
	require.NoError(t, b.Recover(t.Context(), payload))
	return b.post.take()
}

func (b *accounts) verifiedAddress(t *testing.T, user core.UserID) (email string, verified bool) {
	t.Helper()
	require.NoError(t, b.db.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT email, email_verified_at IS NOT NULL FROM users WHERE id = $1`, user).Scan(&email, &verified)
	}))
	return email, verified
}

func (b *accounts) kinds(t *testing.T, user core.UserID) (kinds []EventKind) {
	t.Helper()
	list, _, err := b.Events(t.Context(), user, "", 200)
	require.NoError(t, err)
	for _, e := range list {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}
