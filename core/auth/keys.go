package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/run"
)

// RingConfig holds what is optional about the signing keys.
type RingConfig struct {
	Life    time.Duration // how long a key signs; default 30 days
	Ahead   time.Duration // how long before its end the successor is made; default 2 days
	Publish time.Duration // how long a new key waits until it signs; default 15 min, must exceed the verifiers' refresh
}

func (c RingConfig) withDefaults() RingConfig {
	if c.Life == 0 {
		c.Life = 30 * 24 * time.Hour
	}
	if c.Ahead == 0 {
		c.Ahead = 2 * 24 * time.Hour
	}
	if c.Publish == 0 {
		c.Publish = 15 * time.Minute
	}
	return c
}

// ring holds the signing keys of the deployment. All nodes share them through
// the database; each runs Rotate now and then, whoever is first makes the key.
type ring struct {
	db    *db.DB
	seal  cipher.AEAD
	cfg   RingConfig
	grace time.Duration // from retire_at until the last token is dead
	now   func() time.Time
	log   *slog.Logger
	life  run.Lifecycle

	mu   sync.RWMutex // guards keys
	keys []signingKey
}

type signingKey struct {
	id       string
	public   ed25519.PublicKey
	private  ed25519.PrivateKey // nil if it was sealed under another secret
	created  time.Time
	retireAt time.Time
}

// newRing derives the sealing key from the node secret, which has at least 32
// bytes and is the same on all nodes.
func newRing(d *db.DB, secret []byte, cfg RingConfig, grace time.Duration, now func() time.Time, log *slog.Logger) (*ring, error) {
	if len(secret) < 32 {
		return nil, errors.New("auth: the node secret needs at least 32 bytes")
	}
	k, err := hkdf.Key(sha256.New, secret, nil, "muster token signing keys", 32)
	if err != nil {
		return nil, fmt.Errorf("auth: derive sealing key: %w", err)
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, fmt.Errorf("auth: sealing cipher: %w", err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("auth: sealing cipher: %w", err)
	}
	return &ring{db: d, seal: gcm, cfg: cfg.withDefaults(), grace: grace, now: now, log: log}, nil
}

// Start makes sure that there is a key to sign with, and looks again every
// few minutes until Stop.
func (r *ring) Start(ctx context.Context) error {
	return r.life.Start(ctx, func(ctx context.Context) error {
		if err := r.rotate(ctx); err != nil {
			return err
		}
		r.life.Go(func() {
			tick := time.NewTicker(refreshEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					if err := r.rotate(ctx); err != nil && ctx.Err() == nil {
						r.log.WarnContext(ctx, "signing keys not rotated, trying again later", "err", err)
					}
				}
			}
		})
		return nil
	})
}

func (r *ring) Stop() { r.life.Stop(nil) }

// rotate reads the keys, makes a successor if it is time, and deletes those
// whose last token is dead.
func (r *ring) rotate(ctx context.Context) error {
	ctx = db.Apart(ctx) // the keys are remembered: they must be there
	now := r.now()
	fresh, err := r.generate(now) // before the transaction: fn may run twice
	if err != nil {
		return err
	}
	var keys []signingKey
	err = r.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		if keys, err = r.read(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM signing_keys WHERE retire_at < $1`, now.Add(-r.grace)); err != nil {
			return err
		}
		if !successorDue(keys, now, r.cfg.Ahead) {
			return nil
		}
		keys = append(keys, fresh)
		_, err = tx.Exec(ctx,
			`INSERT INTO signing_keys (kid, private_key, public_key, created_at, retire_at) VALUES ($1, $2, $3, $4, $5)`,
			fresh.id, r.seal.Seal(nil, nil, fresh.private.Seed(), []byte(fresh.id)), []byte(fresh.public), fresh.created, fresh.retireAt)
		return err
	})
	if err != nil {
		return fmt.Errorf("rotate signing keys: %w", err)
	}
	r.mu.Lock()
	r.keys = keys
	r.mu.Unlock()
	return nil
}

func (r *ring) generate(now time.Time) (signingKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return signingKey{}, fmt.Errorf("generate signing key: %w", err)
	}
	return signingKey{id: thumbprint(public), public: public, private: private, created: now, retireAt: now.Add(r.cfg.Life)}, nil
}

// read returns the stored keys, oldest first.
func (r *ring) read(ctx context.Context, q db.Querier) ([]signingKey, error) {
	rows, err := q.Query(ctx, `SELECT kid, private_key, public_key, created_at, retire_at FROM signing_keys ORDER BY created_at, kid`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (signingKey, error) {
		var k signingKey
		var sealed, public []byte
		if err := row.Scan(&k.id, &sealed, &public, &k.created, &k.retireAt); err != nil {
			return k, err
		}
		if len(public) != ed25519.PublicKeySize {
			return k, fmt.Errorf("signing key %s: public part has %d bytes", k.id, len(public))
		}
		k.public = public
		// A key under another secret still verifies. It is replaced as a
		// signer, so a changed secret is a rotation, not an outage.
		seed, err := r.seal.Open(nil, nil, sealed, []byte(k.id))
		if err == nil && len(seed) == ed25519.SeedSize {
			k.private = ed25519.NewKeyFromSeed(seed)
		} else {
			r.log.WarnContext(ctx, "signing key is sealed under another node secret, it only verifies", "kid", k.id)
		}
		return k, nil
	})
}

// successorDue reports whether no key is left that will sign for longer than
// ahead.
func successorDue(keys []signingKey, now time.Time, ahead time.Duration) bool {
	return !slices.ContainsFunc(keys, func(k signingKey) bool {
		return k.private != nil && k.retireAt.After(now.Add(ahead))
	})
}

// pickSigner returns the newest key that everybody has had time to read; if
// there is none (the first start), the oldest that is left.
func pickSigner(keys []signingKey, now time.Time, publish time.Duration) (signingKey, bool) {
	var best signingKey
	found := false
	for _, k := range keys { // oldest first
		if k.private == nil || !k.retireAt.After(now) {
			continue
		}
		if !found || !k.created.After(now.Add(-publish)) {
			best, found = k, true
		}
	}
	return best, found
}

// sign returns the access token of id, which ends at id.Expires.
func (r *ring) sign(ctx context.Context, issuer, audience string, id Identity, now time.Time) (string, error) {
	k, ok := r.signer(now)
	if !ok { // after an outage as long as Ahead
		if err := r.rotate(ctx); err != nil {
			return "", err
		}
		if k, ok = r.signer(now); !ok {
			return "", errors.New("auth: no signing key")
		}
	}
	return sign(k.private, k.id, issuer, audience, id, now)
}

func (r *ring) signer(now time.Time) (signingKey, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return pickSigner(r.keys, now, r.cfg.Publish)
}

// PublicKeys reads the keys with which a live token may be signed.
func (r *ring) PublicKeys(ctx context.Context) (public []PublicKey, err error) {
	err = r.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT kid, public_key FROM signing_keys WHERE retire_at >= $1 ORDER BY created_at, kid`,
			r.now().Add(-r.grace))
		if err != nil {
			return err
		}
		public, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (k PublicKey, err error) {
			err = row.Scan(&k.ID, (*[]byte)(&k.Key))
			return k, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read public keys: %w", err)
	}
	return public, nil
}

// JWK is a public key as RFC 7517 and RFC 8037 write it.
type JWK struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
}

func jwk(k PublicKey) JWK {
	return JWK{KeyType: "OKP", Curve: "Ed25519", X: base64.RawURLEncoding.EncodeToString(k.Key), ID: k.ID, Algorithm: "EdDSA", Use: "sig"}
}

// thumbprint names a key by RFC 7638 (with the members that RFC 8037 section 2
// requires, in lexical order), so that two keys never share a kid.
func thumbprint(public ed25519.PublicKey) string {
	b, _ := json.Marshal(struct { // of strings: cannot fail
		Crv string `json:"crv"`
		Kty string `json:"kty"`
		X   string `json:"x"`
	}{"Ed25519", "OKP", base64.RawURLEncoding.EncodeToString(public)})
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
