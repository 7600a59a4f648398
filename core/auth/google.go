package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth/google"
	"github.com/mustermesh/muster/core/db"
)

// GoogleStart is a sign-in at Google that was begun.
type GoogleStart struct {
	// URL is where the person goes now.
	URL string
	// State stays in the app that began, and finishes the sign-in. What Google
	// carries back is its hash: whoever sees the redirect, or makes somebody follow
	// one of their own, can't finish anything with it (RFC 9700 section 4.7).
	State   string
	Expires time.Time
}

// googleLife is how long a sign-in at Google may take.
const googleLife = 10 * time.Minute

// The verifier (RFC 7636) and the nonce are made of the state, which only the app
// has: the database holds nothing with which a stolen code could be used.
func googleSecrets(state string) (verifier, nonce string) {
	of := func(label string) string {
		m := hmac.New(sha256.New, []byte(state))
		m.Write([]byte(label))
		return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
	}
	return of("verifier"), of("nonce")
}

// HasGoogle reports whether one can sign in with Google here.
func (s *Service) HasGoogle() bool { return s.cfg.Google != nil }

// GoogleBegin begins a sign-in at Google.
func (s *Service) GoogleBegin(ctx context.Context) (GoogleStart, error) {
	return s.googleBegin(ctx, nil, func(context.Context, pgx.Tx) error { return nil })
}

// GoogleLinkBegin begins the linking of a Google account to the caller's. It can
// only be finished by the same login.
func (s *Service) GoogleLinkBegin(ctx context.Context, id Identity, password string) (GoogleStart, error) {
	if s.cfg.Google == nil {
		return GoogleStart{}, ErrGoogleOff
	}
	proof, err := s.Reauthenticate(ctx, id, password)
	if err != nil {
		return GoogleStart{}, err
	}
	if proof.guest {
		return GoogleStart{}, ErrGuest
	}
	return s.googleBegin(ctx, &id.Login, proof.Holds)
}

func (s *Service) googleBegin(ctx context.Context, login *core.LoginID, check func(context.Context, pgx.Tx) error) (GoogleStart, error) {
	if s.cfg.Google == nil {
		return GoogleStart{}, ErrGoogleOff
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	g := GoogleStart{State: "mgs_" + base64.RawURLEncoding.EncodeToString(b), Expires: s.now().Add(googleLife)}
	verifier, nonce := googleSecrets(g.State)
	hash := refreshHash(g.State)
	var err error
	if g.URL, err = s.cfg.Google.URL(ctx, base64.RawURLEncoding.EncodeToString(hash), verifier, nonce); err != nil {
		return GoogleStart{}, err
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := check(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO google_states (hash, login_id, expires_at) VALUES ($1, $2, $3)`, hash, login, g.Expires)
		return err
	})
	if err != nil {
		return GoogleStart{}, wrap("begin sign-in at Google", err)
	}
	return g, nil
}

// googlePerson finishes a sign-in at Google: the state is used up whatever comes of
// it. login is who began it to link an account, nil for who signs in.
func (s *Service) googlePerson(ctx context.Context, code, state string, login *core.LoginID) (google.Person, error) {
	if s.cfg.Google == nil {
		return google.Person{}, ErrGoogleOff
	}
	var by *core.LoginID
	var expires time.Time
	// Apart, so that no transaction is open while Google is asked.
	err := s.db.InTx(db.Apart(ctx), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `DELETE FROM google_states WHERE hash = $1 RETURNING login_id, expires_at`, refreshHash(state)).Scan(&by, &expires)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return google.Person{}, ErrGoogleState
	case err != nil:
		return google.Person{}, wrap("finish sign-in at Google", err)
	case !expires.After(s.now()), (by == nil) != (login == nil), by != nil && *by != *login:
		return google.Person{}, ErrGoogleState
	}
	verifier, nonce := googleSecrets(state)
	p, err := s.cfg.Google.Exchange(ctx, code, verifier, nonce)
	if err != nil {
		return google.Person{}, wrap("finish sign-in at Google", err)
	}
	return p, nil
}

// GoogleSignIn signs in whoever signed in at Google:
//
//	the Google account is linked             → as the user it is linked to
//	its address, confirmed there and here    → linked, as that user
//	its address, not confirmed on one side   → refused: whose account would it be?
//	nobody has its address                   → as a new user
func (s *Service) GoogleSignIn(ctx context.Context, code, state string, device any) (Tokens, error) {
	info, err := deviceInfo(device)
	if err != nil {
		return Tokens{}, err
	}
	p, err := s.googlePerson(ctx, code, state, nil)
	if err != nil {
		return Tokens{}, err
	}
	for n := 0; ; n++ {
		t, err := s.newLogin(ctx, info, func(ctx context.Context, tx pgx.Tx, login core.LoginID) (who, error) {
			return s.googleUser(ctx, tx, p, login, info, n)
		})
		// Somebody took the name or the address at the same moment: look again.
		if n < 5 && (errors.Is(err, ErrUsernameTaken) || errors.Is(err, ErrEmailTaken) || db.Violates(err, "")) {
			continue
		}
		return t, err
	}
}

func (s *Service) googleUser(ctx context.Context, tx pgx.Tx, p google.Person, login core.LoginID, info []byte, n int) (w who, err error) {
	err = tx.QueryRow(ctx, `SELECT u.id, u.username, u.guest FROM google_identities g JOIN users u ON u.id = g.user_id WHERE g.subject = $1`, p.Subject).
		Scan(&w.id, &w.name, &w.guest)
	if err == nil {
		return w, s.signedIn(ctx, tx, w.id, login, info, "google")
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return w, err
	}
	email, key, err := parseEmail(p.Email)
	if err != nil || !p.EmailVerified {
		return w, ErrGoogleEmail
	}
	var verified *time.Time
	err = tx.QueryRow(ctx, `SELECT id, username, guest, email_verified_at FROM users WHERE email_key = $1`, key).Scan(&w.id, &w.name, &w.guest, &verified)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s.googleNewUser(ctx, tx, p, email, key, login, n)
	case err != nil:
		return w, err
	case verified == nil:
		return w, ErrEmailUnverified
	}
	if err := s.googleLink(ctx, tx, p, w.id, login); err != nil {
		return w, err
	}
	return w, s.signedIn(ctx, tx, w.id, login, info, "google")
}

// googleNewUser makes an account without a password, under the name that Google
// tells, or one like it.
func (s *Service) googleNewUser(ctx context.Context, tx pgx.Tx, p google.Person, email, key string, login core.LoginID, n int) (who, error) {
	name, err := core.ParseUsername(p.Name)
	if err != nil {
		name, err = core.ParseUsername("user-" + strings.ToLower(rand.Text()[:8]))
	} else if n > 0 || s.nameTaken(ctx, tx, name) {
		short := []rune(name.Display)
		name, err = core.ParseUsername(string(short[:min(len(short), 26)]) + "-" + strings.ToLower(rand.Text()[:5]))
	}
	if err != nil {
		return who{}, err
	}
	w := who{id: newUser(), name: name.Display}
	_, err = tx.Exec(ctx,
		`INSERT INTO users (id, username, username_key, email, email_key, email_verified_at, guest, home_region, created_at, updated_at)
		 VALUES ($1, $2, $3, $4, $5, $6, false, $7, $6, $6)`,
		w.id, name.Display, name.Key, email, key, s.now(), s.region)
	if err != nil {
		return w, taken(err)
	}
	if err := s.Audit(ctx, tx, w.id, EventRegistered, login, map[string]any{"by": "google"}); err != nil {
		return w, err
	}
	return w, s.googleLink(ctx, tx, p, w.id, login)
}

// nameTaken is only asked so that the insert, which decides, seldom fails.
func (s *Service) nameTaken(ctx context.Context, tx pgx.Tx, name core.Username) bool {
	var one int
	return tx.QueryRow(ctx, `SELECT 1 FROM users WHERE username_key = $1`, name.Key).Scan(&one) == nil
}

// googleLink links a Google account to a user's. Linking again is a success.
func (s *Service) googleLink(ctx context.Context, tx pgx.Tx, p google.Person, user core.UserID, login core.LoginID) error {
	var owner core.UserID
	var subject string
	err := tx.QueryRow(ctx, `SELECT user_id, subject FROM google_identities WHERE subject = $1 OR user_id = $2 ORDER BY subject = $1 DESC LIMIT 1`, p.Subject, user).
		Scan(&owner, &subject)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
	case err != nil:
		return err
	case owner != user:
		return ErrGoogleTaken
	case subject != p.Subject:
		return ErrGoogleOther
	default:
		return nil
	}
	_, err = tx.Exec(ctx, `INSERT INTO google_identities (subject, user_id, email, created_at) VALUES ($1, $2, $3, $4)`, p.Subject, user, p.Email, s.now())
	if err != nil {
		return err
	}
	return s.Audit(ctx, tx, user, EventGoogleLinked, login, nil)
}

// GoogleLink finishes what GoogleLinkBegin began. Both sides must have confirmed
// their mail address: an account that nobody has shown to be theirs must not keep
// a way in for whoever made it.
func (s *Service) GoogleLink(ctx context.Context, id Identity, code, state string) error {
	p, err := s.googlePerson(ctx, code, state, &id.Login)
	if err != nil {
		return err
	}
	if !p.EmailVerified {
		return ErrGoogleEmail
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := alive(ctx, tx, id.Login); err != nil {
			return err
		}
		var verified *time.Time
		if err := tx.QueryRow(ctx, `SELECT email_verified_at FROM users WHERE id = $1`, id.User).Scan(&verified); err != nil {
			return err
		}
		if verified == nil {
			return ErrEmailUnverified
		}
		return s.googleLink(ctx, tx, p, id.User, id.Login)
	})
	if db.Violates(err, "") {
		return ErrGoogleTaken // at the same moment
	}
	if err != nil {
		return wrap("link Google account", err)
	}
	return nil
}

// GoogleLinked returns the address of the Google account that is linked to the
// user's, and since when; an empty address if none is.
func (s *Service) GoogleLinked(ctx context.Context, user core.UserID) (email string, since time.Time, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT email, created_at FROM google_identities WHERE user_id = $1`, user).Scan(&email, &since)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return "", time.Time{}, nil
	}
	if err != nil {
		return "", time.Time{}, wrap("read Google account", err)
	}
	return email, since, nil
}

// GoogleUnlink takes the link away, unless it is the only way in.
func (s *Service) GoogleUnlink(ctx context.Context, id Identity) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var locked bool
		if err := tx.QueryRow(ctx, `SELECT password_hash IS NULL FROM users WHERE id = $1`, id.User).Scan(&locked); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM google_identities WHERE user_id = $1`, id.User)
		switch {
		case err != nil || tag.RowsAffected() == 0:
			return err
		case locked:
			return ErrNoPassword
		}
		return s.Audit(ctx, tx, id.User, EventGoogleUnlinked, id.Login, nil)
	})
	if err != nil {
		return wrap("unlink Google account", err)
	}
	return nil
}
