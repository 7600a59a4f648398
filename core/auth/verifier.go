package auth

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/internal/run"
)

// PublicKey verifies access tokens.
type PublicKey struct {
	ID  string
	Key ed25519.PublicKey
}

// KeySource is where a Verifier reads the keys that may verify now.
type KeySource interface {
	PublicKeys(ctx context.Context) ([]PublicKey, error)
}

// Verifier checks access tokens by the public keys it holds. It reads them
// when it starts, every few minutes, and when a token names one that it doesn't
// know, but then at most every few seconds: forged kids must not become
// database load. When the source can't be reached it goes on with what it has.
type Verifier struct {
	source           KeySource
	issuer, audience string
	now              func() time.Time
	log              *slog.Logger
	life             run.Lifecycle

	keys atomic.Pointer[map[string]ed25519.PublicKey]

	mu   sync.Mutex // one refresh at a time; guards the following
	last time.Time  // when a refresh was last tried
}

const (
	refreshEvery = 5 * time.Minute
	refreshAfter = 5 * time.Second // soonest, for an unknown kid
	refreshLimit = 3 * time.Second // how long one may take
)

// VerifierConfig holds what is optional about a Verifier.
type VerifierConfig struct {
	Issuer, Audience string           // default "muster"
	Now              func() time.Time // default time.Now
	Log              *slog.Logger     // default: discard
}

func (c VerifierConfig) withDefaults() VerifierConfig {
	if c.Issuer == "" {
		c.Issuer = "muster"
	}
	if c.Audience == "" {
		c.Audience = "muster"
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// NewVerifier returns a Verifier that reads its keys from source.
func NewVerifier(source KeySource, cfg VerifierConfig) *Verifier {
	cfg = cfg.withDefaults()
	v := &Verifier{source: source, issuer: cfg.Issuer, audience: cfg.Audience, now: cfg.Now, log: cfg.Log}
	v.keys.Store(&map[string]ed25519.PublicKey{})
	return v
}

// Start reads the keys, and again every few minutes until Stop.
func (v *Verifier) Start(ctx context.Context) error {
	return v.life.Start(ctx, func(ctx context.Context) error {
		if err := v.Refresh(ctx); err != nil {
			return err
		}
		v.life.Go(func() {
			tick := time.NewTicker(refreshEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					if err := v.Refresh(ctx); err != nil && ctx.Err() == nil {
						v.log.WarnContext(ctx, "token keys not refreshed, keeping those known", "err", err)
					}
				}
			}
		})
		return nil
	})
}

// Stop ends the refreshing.
func (v *Verifier) Stop() { v.life.Stop(nil) }

// Refresh reads the keys now.
func (v *Verifier) Refresh(ctx context.Context) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.refreshLocked(ctx)
}

func (v *Verifier) refreshLocked(ctx context.Context) error {
	v.last = v.now()
	ctx, cancel := context.WithTimeout(ctx, refreshLimit)
	defer cancel()
	list, err := v.source.PublicKeys(ctx)
	if err != nil {
		return fmt.Errorf("read token keys: %w", err)
	}
	keys := make(map[string]ed25519.PublicKey, len(list))
	for _, k := range list {
		keys[k.ID] = k.Key
	}
	v.keys.Store(&keys)
	return nil
}

// key returns the public key of kid, after a refresh if it isn't known.
func (v *Verifier) key(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	if k, ok := (*v.keys.Load())[kid]; ok {
		return k, nil
	}
	if kid == "" {
		return nil, ErrUnauthenticated
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if k, ok := (*v.keys.Load())[kid]; ok { // somebody else refreshed meanwhile
		return k, nil
	}
	if v.now().Sub(v.last) >= refreshAfter {
		if err := v.refreshLocked(ctx); err != nil {
			v.log.WarnContext(ctx, "token keys not refreshed for an unknown key", "err", err)
		}
	}
	if k, ok := (*v.keys.Load())[kid]; ok {
		return k, nil
	}
	return nil, ErrUnauthenticated
}
