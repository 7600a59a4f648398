package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"

	"github.com/mustermesh/muster/core/auth/hashers"
)

// HashConfig sets the cost of a password hash. The zero value is OWASP's
// recommendation for argon2id: 19 MiB, two passes, one lane (Password Storage
// Cheat Sheet).
type HashConfig struct {
	MemoryKiB uint32
	Passes    uint32
	// Parallel bounds how many hashes are computed at once; default: one per two
	// cores. A hash in this process holds its core for some 20 ms and nothing that
	// waits for that core moves meanwhile: with one hash per core, events of rooms
	// take eight times as long (docs/adr/0106). Waiting bounds how many callers may queue
	// for that; default 64. Those beyond are turned away.
	Parallel, Waiting int
	// Elsewhere computes a hash in another process, if not nil: see
	// core/auth/hashers.
	Elsewhere func(ctx context.Context, password, salt []byte, c hashers.Cost) ([]byte, error)
}

// hasher computes argon2id hashes in the PHC string format.
type hasher struct {
	memory, passes uint32
	running        chan struct{} // one token per hash being computed
	admitted       chan struct{} // one token per caller, running or waiting
	decoy          string        // what is checked when there is no account
	elsewhere      func(ctx context.Context, password, salt []byte, c hashers.Cost) ([]byte, error)
	waited         prometheus.Histogram
	refused        prometheus.Counter
}

const (
	saltLen = 16
	hashLen = 32
)

func newHasher(cfg HashConfig) *hasher {
	h := &hasher{memory: cfg.MemoryKiB, passes: cfg.Passes, elsewhere: cfg.Elsewhere}
	if h.memory == 0 {
		h.memory = 19 * 1024
	}
	if h.passes == 0 {
		h.passes = 2
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if cfg.Waiting == 0 {
		cfg.Waiting = 64
	}
	h.running = make(chan struct{}, cfg.Parallel)
	h.admitted = make(chan struct{}, cfg.Parallel+cfg.Waiting)
	h.decoy = h.format(make([]byte, saltLen), make([]byte, hashLen))
	h.waited = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "muster_auth_hash_wait_seconds", Help: "How long passwords waited for their turn to be hashed.",
		Buckets: []float64{.0001, .001, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	})
	h.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "muster_auth_hashes_refused_total", Help: "Passwords that were not hashed, since too many waited for that.",
	})
	return h
}

// checkPassword normalizes a password (OpaqueString of RFC 8265, so that the
// same letters typed on another system are the same password) and bounds it:
// below eight bytes it can be guessed, above 256 it is work for nothing.
func checkPassword(password string) (string, error) {
	if len(password) < 8 || len(password) > 256 || !utf8.ValidString(password) {
		return "", ErrBadPassword
	}
	p, err := precis.OpaqueString.String(password)
	if err != nil {
		return "", ErrBadPassword
	}
	return p, nil
}

// hash returns the PHC string of a checked password.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, saltLen)
	_, _ = rand.Read(salt) // never fails since Go 1.24
	sum, err := h.compute(ctx, password, salt, h.memory, h.passes, 1)
	if err != nil {
		return "", err
	}
	return h.format(salt, sum), nil
}

// verify reports whether password gives the stored hash, and whether that was
// made with other parameters than today's. An empty stored hash stands for "no
// such account": it costs the same and is always false.
func (h *hasher) verify(ctx context.Context, stored, password string) (ok, outdated bool, err error) {
	nobody := stored == ""
	if nobody {
		stored = h.decoy
	}
	memory, passes, lanes, salt, want, err := parsePHC(stored)
	if err != nil {
		return false, false, err
	}
	got, err := h.compute(ctx, password, salt, memory, passes, lanes)
	if err != nil {
		return false, false, err
	}
	same := subtle.ConstantTimeCompare(got, want) == 1
	return same && !nobody, memory != h.memory || passes != h.passes || lanes != 1, nil
}

// compute runs argon2id when it is this caller's turn. More callers than may
// wait are turned away at once.
func (h *hasher) compute(ctx context.Context, password string, salt []byte, memory, passes uint32, lanes uint8) ([]byte, error) {
	select {
	case h.admitted <- struct{}{}:
		defer func() { <-h.admitted }()
	default:
		h.refused.Inc()
		return nil, errBusy
	}
	since := time.Now()
	select {
	case h.running <- struct{}{}:
		defer func() { <-h.running }()
		h.waited.Observe(time.Since(since).Seconds())
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	cost := hashers.Cost{Passes: passes, MemoryKiB: memory, Lanes: lanes, Length: hashLen}
	if h.elsewhere != nil {
		return h.elsewhere(ctx, []byte(password), salt, cost)
	}
	return hashers.Here([]byte(password), salt, cost), nil
}

func (h *hasher) format(salt, sum []byte) string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, h.memory, h.passes, b64(salt), b64(sum))
}

// parsePHC reads "$argon2id$v=19$m=…,t=…,p=…$salt$hash". It refuses parameters
// that no configuration of ours writes, so that a tampered row can't make a
// login take minutes.
func parsePHC(s string) (memory, passes uint32, lanes uint8, salt, sum []byte, err error) {
	parts := strings.Split(s, "$")
	version := 0
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return 0, 0, 0, nil, nil, fmt.Errorf("stored password hash: not argon2id")
	}
	if _, err = fmt.Sscanf(parts[2], "v=%d", &version); err == nil {
		_, err = fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &passes, &lanes)
	}
	if err == nil {
		salt, err = base64.RawStdEncoding.DecodeString(parts[4])
	}
	if err == nil {
		sum, err = base64.RawStdEncoding.DecodeString(parts[5])
	}
	if err != nil {
		return 0, 0, 0, nil, nil, fmt.Errorf("stored password hash: %w", err)
	}
	if version != argon2.Version || memory > 1<<20 || passes < 1 || passes > 16 || lanes < 1 || len(salt) < 8 || len(sum) != hashLen {
		return 0, 0, 0, nil, nil, fmt.Errorf("stored password hash: parameters out of range")
	}
	return memory, passes, lanes, salt, sum, nil
}
