package notify

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Notice is something that a user is to be told.
type Notice struct {
	To   core.UserID
	Kind Kind
	Data map[string]any
	Once string // two for one user with the same are one; empty: each is its own
}

// Config holds what is optional about a Notifier; its zero value works.
type Config struct {
	// Channels are the ways by which users are told, in any order.
	Channels []Channel
	// Base is the URL of the web app, for links; empty: no links.
	Base string
	// Workers is how many deliveries of a channel a node makes at a time. Default 16:
	// with a mail server that takes 30 s for each, that is 32 mails a minute and node.
	Workers int
	Now     func() time.Time      // default time.Now
	Log     *slog.Logger          // default: discard
	Metrics prometheus.Registerer // nil: not registered
}

// Notifier is all of it. It is safe for concurrent use.
type Notifier struct {
	db       *db.DB
	cfg      Config
	seal     cipher.AEAD
	channels map[string]Channel
	texts    *texts
	metrics  *metrics
}

// New returns a Notifier. The secret has at least 32 bytes and is the same on
// all nodes.
func New(d *db.DB, secret []byte, cfg Config) (*Notifier, error) {
	seal, err := Sealer(secret)
	if err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Workers = cmp.Or(cfg.Workers, 16)
	n := &Notifier{db: d, cfg: cfg, seal: seal, channels: map[string]Channel{}}
	if n.texts, err = loadTexts(); err != nil {
		return nil, err
	}
	if n.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	for _, c := range cfg.Channels {
		n.channels[c.Name()] = c
	}
	return n, nil
}

// Sealer returns the cipher under which links, keys of browsers and secrets of
// webhooks are stored.
func Sealer(secret []byte) (cipher.AEAD, error) {
	if len(secret) < 32 {
		return nil, errors.New("notify: the node secret needs at least 32 bytes")
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "muster notifications", 32)
	if err != nil {
		return nil, fmt.Errorf("notify: derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("notify: sealing cipher: %w", err)
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("notify: sealing cipher: %w", err)
	}
	return seal, nil
}

// now is a time as the database keeps it.
func (n *Notifier) now() time.Time { return n.cfg.Now().UTC().Truncate(time.Microsecond) }

// Notify tells a user something once the caller's transaction has committed.
// Data names people and groups by id, under "user_id" and "group_id".
func (n *Notifier) Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error {
	return n.Send(ctx, tx, Notice{To: to, Kind: kind, Data: data})
}

// Send is Notify for several, and for what must not be told twice.
func (n *Notifier) Send(ctx context.Context, tx pgx.Tx, notices ...Notice) error {
	var ids []uuid.UUID
	for _, notice := range notices {
		k, ok := kinds[notice.Kind]
		if !ok || k.mailOnly {
			return fmt.Errorf("notify: %q is no kind of notification", notice.Kind)
		}
		data, about, err := encode(notice.Kind, k, notice.Data)
		if err != nil {
			return err
		}
		id := uuid.New()
		tag, err := tx.Exec(ctx,
			`INSERT INTO notifications (id, user_id, kind, data, about, once_key, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
			 ON CONFLICT (user_id, once_key) DO NOTHING`,
			id, notice.To, notice.Kind, data, about, orNull(notice.Once), n.now())
		if err != nil {
			return fmt.Errorf("notify: %w", err)
		}
		if tag.RowsAffected() == 1 {
			ids = append(ids, id)
		}
	}
	return n.plan(ctx, tx, ids)
}

// encode checks a notice's data and returns them as stored, and the user whom
// they name.
func encode(name Kind, k kind, data map[string]any) (encoded []byte, about *core.UserID, err error) {
	for _, key := range k.needs {
		if s, ok := data[key].(string); !ok || s == "" {
			return nil, nil, fmt.Errorf("notify: %s needs %q", name, key)
		}
	}
	if s, ok := data["user_id"].(string); ok {
		id, err := core.ParseUserID(s)
		if err != nil {
			return nil, nil, fmt.Errorf("notify: %s: user_id: %w", name, err)
		}
		about = &id
	}
	if data == nil {
		data = map[string]any{}
	}
	encoded, err = json.Marshal(data)
	if err != nil {
		return nil, nil, fmt.Errorf("notify: %s: %w", name, err)
	}
	return encoded, about, nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// letter is what is sealed of a mail.
type letter struct {
	Address  string         `json:"address"`
	Language string         `json:"language"`
	Data     map[string]any `json:"data"`
}

// Mail sends a mail to an address once the caller's transaction has committed.
// Language is a BCP 47 tag or an Accept-Language header; template is a kind.
// Data may hold secrets, such as a link that proves the address: what is stored
// is sealed, and gone once the mail was sent or given up.
func (n *Notifier) Mail(ctx context.Context, tx pgx.Tx, address, language, template string, data map[string]any) error {
	k, ok := kinds[template]
	if !ok {
		return fmt.Errorf("notify: %q is no kind of mail", template)
	}
	if _, _, err := encode(template, k, data); err != nil {
		return err
	}
	id := uuid.New()
	clear, err := json.Marshal(letter{address, language, data})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO mails (id, kind, sealed, state, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)`,
		id, template, n.seal.Seal(nil, nil, clear, id[:]), Queued, n.now()); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return n.enqueueMail(ctx, tx, id)
}
