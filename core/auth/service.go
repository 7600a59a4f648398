package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth/google"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/run"
)

// Announcer tells the edges of this region that a login was ended. It returns
// when they have been told, so that a sign-out is acknowledged after the
// login's sessions are gone; it must bound its own time.
type Announcer interface {
	LoginRevoked(ctx context.Context, login core.LoginID)
}

// Notifier is how people are told: core/notify satisfies it. What it sends goes
// out when the transaction has committed.
type Notifier interface {
	Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error
	Mail(ctx context.Context, tx pgx.Tx, address, language, template string, data map[string]any) error
}

// Config holds what is optional about a Service; its zero value works.
type Config struct {
	VerifierConfig
	Hash HashConfig
	Ring RingConfig

	AccessTTL  time.Duration // default 15 min
	RefreshTTL time.Duration // since the last refresh; default 60 days

	// Attempts bounds sign-ins per mail address. Default: 20 at once, then one
	// every 3 s.
	Attempts Limit

	// Notify may be nil: then nobody is told anything.
	Notify Notifier
	// Google may be nil: then nobody signs in with it.
	Google *google.Provider
	// LinkBase is where the app is, such as https://app.example.org/: links in
	// mails lead there. Without it they are only what the app would be given.
	LinkBase string

	// ProfileChanged, if not nil, is told in the transaction that somebody's name or
	// address becomes another one.
	ProfileChanged func(ctx context.Context, tx pgx.Tx, user core.UserID) error

	// Reclaimed, if not nil, is told in the transaction in which whoever reads the mail
	// of an address that nobody had confirmed chooses a new password: until then the
	// account may have been somebody else's, and whatever shows others its user's
	// doings is to end.
	Reclaimed func(ctx context.Context, tx pgx.Tx, user core.UserID) error

	// Announce may be nil: then edges learn of ended logins by RevokedSince.
	Announce Announcer

	Metrics prometheus.Registerer // nil: not registered
}

// Service is the accounts and logins of the deployment. It is safe for
// concurrent use.
type Service struct {
	db       *db.DB
	ring     *ring
	verifier *Verifier
	hasher   *hasher
	attempts *Limiter // of passwords, by mail address and by user
	mails    *Limiter // that anybody may have sent to an address
	announce Announcer
	failures struct {
		perUser *Limiter
		queue   chan failure
	}
	region string // home region of the users made here
	cfg    Config
	now    func() time.Time
	log    *slog.Logger
	life   run.Lifecycle
	upkeep run.Group // of the keys
}

// New returns a Service for nodes of a region. secret seals the signing keys:
// at least 32 bytes, the same on all nodes of the deployment.
func New(d *db.DB, secret []byte, region string, cfg Config) (*Service, error) {
	cfg.VerifierConfig = cfg.VerifierConfig.withDefaults()
	cfg.AccessTTL = cmp.Or(cfg.AccessTTL, 15*time.Minute)
	cfg.RefreshTTL = cmp.Or(cfg.RefreshTTL, 60*24*time.Hour)
	r, err := newRing(d, secret, cfg.Ring, cfg.AccessTTL+leeway+LogoutGrace, cfg.Now, cfg.Log)
	if err != nil {
		return nil, err
	}
	s := &Service{
		db: d, ring: r, verifier: NewVerifier(r, cfg.VerifierConfig), hasher: newHasher(cfg.Hash),
		attempts: NewLimiter(cfg.Attempts.Or(Limit{Burst: 20, Every: 3 * time.Second}), cfg.Now),
		mails:    NewLimiter(Limit{Burst: 5, Every: 5 * time.Minute}, cfg.Now),
		announce: cfg.Announce, region: region, cfg: cfg, now: cfg.Now, log: cfg.Log,
	}
	s.failures.perUser = NewLimiter(Limit{Burst: 5, Every: time.Minute}, cfg.Now)
	s.failures.queue = make(chan failure, failuresQueued)
	if cfg.Metrics != nil {
		for _, c := range []prometheus.Collector{s.hasher.waited, s.hasher.refused} {
			if err := cfg.Metrics.Register(c); err != nil {
				return nil, fmt.Errorf("auth: register metrics: %w", err)
			}
		}
	}
	return s, nil
}

// Start makes or reads the signing keys and keeps them fresh until Stop.
func (s *Service) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(ctx context.Context) error {
		s.upkeep.Add("signing keys", s.ring)
		s.upkeep.Add("token verifier", s.verifier)
		if err := s.upkeep.Start(ctx); err != nil {
			return err
		}
		s.life.Go(func() { s.writeFailures(ctx) })
		return nil
	})
}

// Stop ends the upkeep.
func (s *Service) Stop() { s.life.Stop(s.upkeep.Stop) }

// Verifier returns what checks this deployment's access tokens.
func (s *Service) Verifier() *Verifier { return s.verifier }

// JWKS returns the public keys (RFC 7517).
func (s *Service) JWKS(ctx context.Context) ([]JWK, error) {
	keys, err := s.ring.PublicKeys(ctx)
	if err != nil {
		return nil, err
	}
	set := make([]JWK, len(keys))
	for i, k := range keys {
		set[i] = jwk(k)
	}
	return set, nil
}

// Tokens are what a device signs in with from now on.
type Tokens struct {
	User            core.UserID
	Access, Refresh string
	Expires         time.Time // of Access
}

// Account is what somebody signs up with.
type Account struct {
	Username, Email, Password string
}

// checked is an Account whose fields have been validated and hashed.
type checked struct {
	name            core.Username
	email, emailKey string
	passwordHash    string
}

func (s *Service) check(ctx context.Context, a Account) (c checked, err error) {
	if c.name, err = core.ParseUsername(a.Username); err != nil {
		return c, atUsername(err)
	}
	if c.email, c.emailKey, err = parseEmail(a.Email); err != nil {
		return c, err
	}
	password, err := checkPassword(a.Password)
	if err != nil {
		return c, err
	}
	c.passwordHash, err = s.hasher.hash(ctx, password)
	return c, err
}

// Register makes an account and its first login.
func (s *Service) Register(ctx context.Context, a Account, device any) (Tokens, error) {
	info, err := deviceInfo(device)
	if err != nil {
		return Tokens{}, err
	}
	c, err := s.check(ctx, a)
	if err != nil {
		return Tokens{}, err
	}
	return s.newLogin(ctx, info, func(ctx context.Context, tx pgx.Tx, login core.LoginID) (who, error) {
		w := who{id: newUser(), name: c.name.Display}
		_, err := tx.Exec(ctx,
			`INSERT INTO users (id, username, username_key, email, email_key, password_hash, guest, home_region, created_at, updated_at)
			 VALUES ($1, $2, $3, $4, $5, $6, false, $7, $8, $8)`,
			w.id, c.name.Display, c.name.Key, c.email, c.emailKey, c.passwordHash, s.region, s.now())
		if err != nil {
			return w, taken(err)
		}
		if err := s.Audit(ctx, tx, w.id, EventRegistered, login, nil); err != nil {
			return w, err
		}
		return w, s.mailToken(ctx, tx, mailed{user: w.id, purpose: forVerify, email: c.email, key: c.emailKey})
	})
}

// Guest makes a user without mail and password. Without a username it gets a
// free one.
func (s *Service) Guest(ctx context.Context, username string, device any) (Tokens, error) {
	info, err := deviceInfo(device)
	if err != nil {
		return Tokens{}, err
	}
	chosen := username != ""
	for {
		if !chosen {
			username = "guest-" + strings.ToLower(rand.Text()[:8])
		}
		name, err := core.ParseUsername(username)
		if err != nil {
			return Tokens{}, atUsername(err)
		}
		t, err := s.newLogin(ctx, info, func(ctx context.Context, tx pgx.Tx, _ core.LoginID) (who, error) {
			w := who{id: newUser(), name: name.Display, guest: true}
			_, err := tx.Exec(ctx,
				`INSERT INTO users (id, username, username_key, guest, home_region, created_at, updated_at)
				 VALUES ($1, $2, $3, true, $4, $5, $5)`,
				w.id, name.Display, name.Key, s.region, s.now())
			return w, taken(err)
		})
		if chosen || !errors.Is(err, ErrUsernameTaken) {
			return t, err
		}
	}
}

// Upgrade turns the guest into an account. The user and the login stay; the
// tokens are replaced.
func (s *Service) Upgrade(ctx context.Context, id Identity, a Account) (Tokens, error) {
	c, err := s.check(ctx, a)
	if err != nil {
		return Tokens{}, err
	}
	now, fresh := s.now(), newRefresh()
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := alive(ctx, tx, id.Login); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx,
			`UPDATE users SET username = $2, username_key = $3, email = $4, email_key = $5, password_hash = $6, guest = false, updated_at = $7
			 WHERE id = $1 AND guest`,
			id.User, c.name.Display, c.name.Key, c.email, c.emailKey, c.passwordHash, now)
		if err != nil {
			return taken(err)
		}
		if tag.RowsAffected() == 0 {
			return ErrNotGuest
		}
		if err := s.Audit(ctx, tx, id.User, EventRegistered, id.Login, nil); err != nil {
			return err
		}
		if err := s.profileChanged(ctx, tx, id.User); err != nil {
			return err
		}
		if err := s.mailToken(ctx, tx, mailed{user: id.User, purpose: forVerify, email: c.email, key: c.emailKey}); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE refresh_tokens SET used_at = $2 WHERE login_id = $1 AND used_at IS NULL`, id.Login, now); err != nil {
			return err
		}
		return s.storeRefresh(ctx, tx, id.Login, fresh, now)
	})
	if err != nil {
		return Tokens{}, wrap("upgrade guest", err)
	}
	return s.tokens(ctx, who{id: id.User, name: c.name.Display}, id.Login, fresh, now)
}

func (s *Service) profileChanged(ctx context.Context, tx pgx.Tx, user core.UserID) error {
	if s.cfg.ProfileChanged == nil {
		return nil
	}
	return s.cfg.ProfileChanged(ctx, tx, user)
}

// Login signs in by mail and password on a device.
func (s *Service) Login(ctx context.Context, email, password string, device any) (Tokens, error) {
	info, err := deviceInfo(device)
	if err != nil {
		return Tokens{}, err
	}
	_, key, err := parseEmail(email)
	if err != nil || len(password) > 256 {
		return Tokens{}, ErrInvalidCredentials
	}
	if err := s.attempts.Allow(key); err != nil {
		return Tokens{}, err
	}
	for range 3 {
		var t Tokens
		if t, err = s.login(ctx, key, password, info); !errors.Is(err, errMoved) {
			return t, err
		}
	}
	return Tokens{}, errBusy
}

// errMoved: the password, or only its hash, was changed while it was checked.
var errMoved = errors.New("the password was changed meanwhile")

func (s *Service) login(ctx context.Context, key, password string, info []byte) (Tokens, error) {
	var w who
	var stored string
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		w, stored = who{}, "" // as if there were no account
		err := q.QueryRow(ctx, `SELECT id, username, guest, password_hash FROM users WHERE email_key = $1 AND password_hash IS NOT NULL`, key).
			Scan(&w.id, &w.name, &w.guest, &stored)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	if err != nil {
		return Tokens{}, wrap("log in", err)
	}
	if normal, err := checkPassword(password); err == nil {
		password = normal
	}
	ok, outdated, err := s.hasher.verify(ctx, stored, password)
	if err != nil {
		return Tokens{}, wrap("log in", err)
	}
	if !ok {
		if stored != "" {
			s.failed(ctx, w.id)
		}
		return Tokens{}, ErrInvalidCredentials
	}
	renewed := stored
	if outdated {
		if renewed, err = s.hasher.hash(ctx, password); err != nil {
			return Tokens{}, wrap("log in", err)
		}
	}
	return s.newLogin(ctx, info, func(ctx context.Context, tx pgx.Tx, login core.LoginID) (who, error) {
		var current string
		err := tx.QueryRow(ctx, `SELECT coalesce(password_hash, '') FROM users WHERE id = $1`, w.id).Scan(&current)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && current != stored {
			return w, errMoved
		}
		if err == nil && renewed != stored {
			_, err = tx.Exec(ctx, `UPDATE users SET password_hash = $2 WHERE id = $1`, w.id, renewed)
		}
		if err != nil {
			return w, err
		}
		return w, s.signedIn(ctx, tx, w.id, login, info, "password")
	})
}

// signedIn notes a sign-in and tells the user, who may not have been the one.
func (s *Service) signedIn(ctx context.Context, tx pgx.Tx, user core.UserID, login core.LoginID, device []byte, by string) error {
	if err := s.Audit(ctx, tx, user, EventSignedIn, login, map[string]any{"by": by}); err != nil || s.cfg.Notify == nil {
		return err
	}
	data := map[string]any{"login_id": login.String()}
	if name := deviceName(device); name != "" {
		data["device"] = name
	}
	return s.cfg.Notify.Notify(ctx, tx, user, "new_login", data)
}

// who is a user as access tokens describe it.
type who struct {
	id    core.UserID
	name  string
	guest bool
}

// newLogin begins a login for the user that find returns, in one transaction.
func (s *Service) newLogin(ctx context.Context, device []byte, find func(context.Context, pgx.Tx, core.LoginID) (who, error)) (Tokens, error) {
	now, login, fresh := s.now(), core.LoginID(uuid.New()), newRefresh()
	var w who
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		if w, err = find(ctx, tx, login); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO logins (id, user_id, device_info, network, created_at) VALUES ($1, $2, $3, $4, $5)`,
			login, w.id, device, originOf(ctx).Network, now); err != nil {
			return err
		}
		return s.storeRefresh(ctx, tx, login, fresh, now)
	})
	if err != nil {
		return Tokens{}, wrap("begin login", err)
	}
	return s.tokens(ctx, w, login, fresh, now)
}

func (s *Service) tokens(ctx context.Context, w who, login core.LoginID, refresh string, now time.Time) (Tokens, error) {
	id := Identity{User: w.id, Login: login, Name: w.name, Guest: w.guest, Expires: now.Add(s.cfg.AccessTTL)}
	access, err := s.ring.sign(ctx, s.cfg.Issuer, s.cfg.Audience, id, now)
	if err != nil {
		return Tokens{}, err
	}
	return Tokens{User: w.id, Access: access, Refresh: refresh, Expires: id.Expires}, nil
}

// Gateway returns an access token for a gateway of a fleet. Its key was checked by
// the caller (core/fleets), and stands where a user's token has the login: who
// revokes it announces that like the end of a login.
func (s *Service) Gateway(ctx context.Context, fleet core.FleetID, key core.LoginID, name string) (token string, expires time.Time, err error) {
	now := s.now()
	id := Identity{Fleet: fleet, Login: key, Name: name, Expires: now.Add(s.cfg.AccessTTL)}
	token, err = s.ring.sign(ctx, s.cfg.Issuer, s.cfg.Audience, id, now)
	return token, id.Expires, err
}

func newUser() core.UserID { return core.UserID(uuid.New()) }

// parseEmail returns the address and the form under which it is unique. It
// wants a bare address: no name, no comment, no quotes.
func parseEmail(s string) (email, key string, err error) {
	s = strings.TrimSpace(s)
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsAny(s, "\"<>() \x00") {
		return "", "", ErrBadEmail
	}
	return s, strings.ToLower(s), nil
}

// deviceInfo is what the app says about the device, any JSON: kept, not
// interpreted.
func deviceInfo(device any) ([]byte, error) {
	if device == nil {
		return []byte("{}"), nil
	}
	b, err := json.Marshal(device)
	if err != nil || len(b) > 2048 {
		return nil, ErrBadDeviceInfo
	}
	return b, nil
}

// deviceName is what a device_info says in a few words, if it does.
func deviceName(info []byte) string {
	var v any
	if json.Unmarshal(info, &v) != nil {
		return ""
	}
	if m, ok := v.(map[string]any); ok {
		for _, key := range []string{"name", "model", "platform"} {
			if text, ok := m[key].(string); ok {
				v = text
				break
			}
		}
	}
	name, _ := v.(string)
	name, ok := core.CleanText(name, 1, 64, false)
	if !ok {
		return ""
	}
	return strings.Map(func(r rune) rune { // a mail shows it: nothing that makes a link
		if strings.ContainsRune(":/<>@\\", r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, name)
}

// taken names the uniqueness that a row broke.
func taken(err error) error {
	switch {
	case db.Violates(err, "users_username_unique"):
		return ErrUsernameTaken
	case db.Violates(err, "users_email_unique"):
		return ErrEmailTaken
	}
	return err
}

func atUsername(err error) error {
	if errors.Is(err, core.ErrBadUsername) {
		return core.ErrBadUsername.At("body.username")
	}
	return err
}

func wrap(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
