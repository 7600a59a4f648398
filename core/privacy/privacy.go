package privacy

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about, beside those of the password.
var (
	ErrNotFound = errs.New(errs.NotFound, "user_not_found", "there is no such user")
	ErrNoExport = errs.New(errs.NotFound, "export_not_found", "there is no copy of your data, or not any more: ask for one")
)

// Accounts are the ways into an account: core/auth satisfies it. Retire closes all
// of them, and has all edges told once the transaction has committed.
type Accounts interface {
	Retire(ctx context.Context, tx pgx.Tx, user core.UserID) error
}

// Groups takes users out of groups: core/groups satisfies it. Depart returns once
// the user is in none; groups that they own are somebody else's then, or gone.
type Groups interface {
	Depart(ctx context.Context, user core.UserID) error
}

// Notifier tells people: core/notify satisfies it.
type Notifier interface {
	Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error
	Mail(ctx context.Context, tx pgx.Tx, address, language, template string, data map[string]any) error
}

// Config is what a Store is made of. The first group is needed.
type Config struct {
	Accounts Accounts
	Groups   Groups
	Objects  *objects.Catalog

	// Changed adds one to the version of what others see of a user: users.Changed.
	Changed func(ctx context.Context, tx pgx.Tx, user core.UserID) error
	// Gone is called by the job, before it erases, for what isn't in SQL or has
	// others who must be told: positions in memory, fleets. Each can be repeated.
	Gone []func(ctx context.Context, user core.UserID) error
	// Extra adds to an export what SQL has only sealed. Values become JSON.
	Extra map[string]func(ctx context.Context, user core.UserID, add func(value any) error) error

	Notify    Notifier         // nil: nobody is told
	TokenLife time.Duration    // for how long an access token may be valid; default 20 min
	Base      string           // of the URLs of downloads, such as https://app.example.org; default: a path
	Now       func() time.Time // default time.Now
	Log       *slog.Logger     // default: discard
}

// Store exports and deletes. It is safe for concurrent use.
type Store struct {
	db   *db.DB
	cfg  Config
	link []byte // key of download links
	now  func() time.Time
}

// New returns a Store. The secret is the deployment's, of at least 32 bytes.
func New(d *db.DB, secret []byte, cfg Config) (*Store, error) {
	if cfg.Accounts == nil || cfg.Groups == nil || cfg.Objects == nil {
		return nil, errors.New("privacy: Accounts, Groups and Objects are required")
	}
	link, err := hkdf.Key(sha256.New, secret, nil, "muster export links", 32)
	if err != nil {
		return nil, fmt.Errorf("privacy: derive key: %w", err)
	}
	cfg.TokenLife = cmp.Or(cfg.TokenLife, 20*time.Minute)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	now := cfg.Now
	return &Store{db: d, cfg: cfg, link: link, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}, nil
}

// Kinds of jobs.
const (
	eraseJob  = "privacy.erase"
	exportJob = "privacy.export"
)

// about is the payload of both. The jobs bear no user, or they would erase
// themselves; one that is done has no row.
type about struct {
	User   string `json:"user"`
	Export string `json:"export,omitempty"`
}

func decode(w jobs.Work) (user core.UserID, export string, err error) {
	var p about
	if err := w.Decode(&p); err != nil {
		return user, "", err
	}
	if user, err = core.ParseUserID(p.User); err != nil {
		return user, "", jobs.Permanent(err)
	}
	return user, p.Export, nil
}

// Handle gives a queue the work.
func (s *Store) Handle(q *jobs.Queue) {
	q.Handle(eraseJob, jobs.Handler{Timeout: 30 * time.Minute, Do: func(ctx context.Context, w jobs.Work) error {
		user, _, err := decode(w)
		if err != nil {
			return err
		}
		again, err := s.Erase(ctx, user)
		if err == nil && again > 0 {
			return jobs.Later(nil, again)
		}
		return err
	}})
	q.Handle(exportJob, jobs.Handler{Timeout: 30 * time.Minute, Do: func(ctx context.Context, w jobs.Work) error {
		user, export, err := decode(w)
		if err != nil {
			return err
		}
		return s.write(ctx, user, export)
	}})
}

// Sweep deletes exports that have expired; their objects go by the catalog.
func (s *Store) Sweep(ctx context.Context) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM exports WHERE expires_at < $1`, s.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("sweep exports: %w", err)
	}
	return nil
}

// Delete ends an account: nobody can use it any more, nor see its name, when
// that has committed. What it leaves is erased by a job. Proof is called in the
// transaction, and fails unless it is the user who wants it.
func (s *Store) Delete(ctx context.Context, user core.UserID, proof func(ctx context.Context, tx pgx.Tx) error) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if err := proof(ctx, tx); err != nil {
			return err
		}
		var name, email, language string
		err := tx.QueryRow(ctx,
			`SELECT u.username, coalesce(u.email, ''), coalesce(s.language, '') FROM users u
			 LEFT JOIN notify_settings s ON s.user_id = u.id WHERE u.id = $1 AND u.deleted_at IS NULL`, user).Scan(&name, &email, &language)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := s.cfg.Accounts.Retire(ctx, tx, user); err != nil {
			return err
		}
		// Two accounts must not have one name, so it gets one that is nobody's.
		nobody := "deleted-" + strings.ToLower(rand.Text()[:16])
		if _, err := tx.Exec(ctx,
			`UPDATE users SET username = $2, username_key = $2, email = NULL, email_key = NULL, password_hash = NULL,
			   profile_picture = '', settings = '{}', deleted_at = $3, updated_at = $3 WHERE id = $1`, user, nobody, s.now()); err != nil {
			return err
		}
		if s.cfg.Changed != nil {
			if err := s.cfg.Changed(ctx, tx, user); err != nil {
				return err
			}
		}
		if s.cfg.Notify != nil && email != "" {
			if err := s.cfg.Notify.Mail(ctx, tx, email, language, "account_deleted", map[string]any{"username": name}); err != nil {
				return err
			}
		}
		return jobs.Enqueue(ctx, tx, jobs.Job{Kind: eraseJob, Key: user.String(), Payload: about{User: user.String()}, MaxAttempts: 1000})
	})
	if err != nil {
		return fmt.Errorf("delete profile: %w", err)
	}
	return nil
}

// Erase leaves no trace of a user whose account has ended. It returns when it is
// to be called again for the last of it, 0 if nothing is left.
func (s *Store) Erase(ctx context.Context, user core.UserID) (again time.Duration, err error) {
	var deleted *time.Time
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT deleted_at FROM users WHERE id = $1`, user).Scan(&deleted)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("erase: %w", err)
	case deleted == nil:
		return 0, jobs.Permanent(errors.New("erase: the account has not ended"))
	}
	wait := deleted.Add(s.cfg.TokenLife).Sub(s.now())
	for _, gone := range s.cfg.Gone {
		if err := gone(ctx, user); err != nil {
			return 0, fmt.Errorf("erase: %w", err)
		}
	}
	if err := s.cfg.Groups.Depart(ctx, user); err != nil {
		return 0, fmt.Errorf("erase: leave groups: %w", err)
	}
	if err := s.cfg.Objects.Erase(ctx, user); err != nil {
		return 0, fmt.Errorf("erase: %w", err)
	}
	for _, t := range inventory {
		for _, step := range t.steps {
			if step.sql == "" || step.last && wait > 0 {
				continue
			}
			if err := s.step(ctx, step.sql, user); err != nil {
				return 0, fmt.Errorf("erase from %s: %w", t.name, err)
			}
		}
	}
	return max(wait, 0), nil
}

// step is a transaction of its own: what was erased stays so if a later step has
// to be repeated. READ COMMITTED, so that looking through a table does not
// conflict with those who work there.
func (s *Store) step(ctx context.Context, sql string, user core.UserID) error {
	return s.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, user)
		return err
	})
}
