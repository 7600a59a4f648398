package auth

import (
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// Limit is a token bucket per key: Burst at once, then Every one more. The
// zero value takes the default of the place where it is used.
type Limit struct {
	Burst int
	Every time.Duration
}

// Or returns l, or d if l is the zero value.
func (l Limit) Or(d Limit) Limit {
	if l == (Limit{}) {
		return d
	}
	return l
}

// Limiter keeps a token bucket per key, for as many keys as have room: of a
// flood of keys the rarely seen ones are forgotten, and begin with a full
// bucket again.
type Limiter struct {
	limit   Limit
	now     func() time.Time
	buckets *otter.Cache[string, *rate.Limiter]
}

// maxBuckets bounds a Limiter's memory to about 20 MB.
const maxBuckets = 100_000

// NewLimiter returns a Limiter; now is the clock (time.Now).
func NewLimiter(limit Limit, now func() time.Time) *Limiter {
	return &Limiter{limit: limit, now: now, buckets: otter.Must(&otter.Options[string, *rate.Limiter]{
		MaximumSize: maxBuckets,
		Executor:    func(f func()) { f() }, // its upkeep runs in the caller: no goroutine without an owner
	})}
}

// Left is what a bucket holds after it was asked.
type Left struct {
	Limit  Limit
	Tokens int
	Full   time.Duration // until it is full again
}

// Allow takes a token from key's bucket, or returns ErrRateLimited with the
// time until there is one.
func (l *Limiter) Allow(key string) error {
	_, err := l.Take(key)
	return err
}

// Take is Allow that tells what is left.
func (l *Limiter) Take(key string) (Left, error) {
	bucket, _ := l.buckets.ComputeIfAbsent(key, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(rate.Every(l.limit.Every), l.limit.Burst), false
	})
	now := l.now()
	r := bucket.ReserveN(now, 1)
	if wait := r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return l.left(bucket, now), ErrRateLimited.After(wait)
	}
	return l.left(bucket, now), nil
}

func (l *Limiter) left(bucket *rate.Limiter, now time.Time) Left {
	tokens := max(0, bucket.TokensAt(now))
	return Left{Limit: l.limit, Tokens: int(tokens), Full: time.Duration((float64(l.limit.Burst) - tokens) * float64(l.limit.Every))}
}
