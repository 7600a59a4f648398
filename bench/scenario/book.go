package scenario

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// book is what was said in one room.
type book struct {
	room  string
	probe atomic.Pointer[probe]

	mu    sync.Mutex // guards the following
	acked []bool     // by number
}

// acknowledge notes that a message is stored.
func (b *book) acknowledge(number uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for uint64(len(b.acked)) <= number {
		b.acked = append(b.acked, false)
	}
	b.acked[number] = true
}

// now is what is stored by now, by number.
func (b *book) now() []bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.acked)
}

// ear is one user's application, as far as it hears messages.
type ear struct {
	u      *user
	book   *book
	orphan atomic.Bool // was connected to the node that is down

	mu    sync.Mutex // guards the following
	heard []uint8    // how often, by number of the message
	clean int        // of all up to here each was heard
}

// hear notes a message and reports whether it was heard before.
func (e *ear) hear(number uint64) (again bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for uint64(len(e.heard)) <= number {
		e.heard = append(e.heard, 0)
	}
	if e.heard[number] < 255 {
		e.heard[number]++
	}
	return e.heard[number] > 1
}

func (e *ear) missing(acked []bool) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := e.clean; i < len(acked); i++ {
		heard := i < len(e.heard) && e.heard[i] > 0
		if acked[i] && !heard {
			n++
		}
		if n == 0 {
			e.clean = i
		}
	}
	return n
}

// missing waits until everybody has heard all that was acknowledged by now, and
// returns how many deliveries are missing when the time is up.
func missing(ctx context.Context, books []*book, ears []*ear, limit time.Duration) (lost int, err error) {
	acked := map[*book][]bool{}
	for _, b := range books {
		acked[b] = b.now()
	}
	deadline := time.Now().Add(limit)
	for {
		lost = 0
		for _, e := range ears {
			lost += e.missing(acked[e.book])
		}
		if lost == 0 || time.Now().After(deadline) {
			return lost, nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return lost, err
		}
	}
}
