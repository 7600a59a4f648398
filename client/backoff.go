package client

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"
)

// backoff is a doubling interval from low to high.
type backoff struct{ low, high time.Duration }

var (
	reconnectRetry = backoff{200 * time.Millisecond, 15 * time.Second}
	requestRetry   = backoff{100 * time.Millisecond, 5 * time.Second}
)

// jitter draws from the whole interval of an attempt ("full jitter": Marc
// Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so
// that the clients of a lost node don't come back in waves.
func jitter(attempt int, b backoff) time.Duration {
	top := b.high
	if attempt < 16 {
		top = min(b.low<<attempt, b.high)
	}
	return rand.N(top)
}

// sleep waits; it returns early with the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Patiently repeats a call of the API that a limit refuses, when the server
// says so, until it succeeds, fails for another reason, or ctx ends. It is for
// programs that sign up many users from one address.
func Patiently(ctx context.Context, call func() error) error {
	for {
		err := call()
		refused, ok := errorsAs(err)
		if !ok || refused.Status != http.StatusTooManyRequests && refused.Status != http.StatusServiceUnavailable {
			return err
		}
		if sleep(ctx, max(refused.RetryAfter, requestRetry.low)) != nil {
			return err
		}
	}
}

// anyOf draws from an interval.
func anyOf(most time.Duration) time.Duration { return rand.N(most) }
