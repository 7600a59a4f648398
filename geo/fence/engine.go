package fence

import "time"

// Engine tests the fixes of many subjects against many fences, and pairs of
// subjects against each other. It is for one goroutine at a time.
type Engine struct {
	cfg Config
}

// New returns an engine without fences.
func New(cfg Config) *Engine { return &Engine{cfg: cfg.withDefaults()} }

// Add adds a fence, and appends to dst the events that the fixes in the window
// make. A fence of that ID is an error.
func (e *Engine) Add(dst []Event, f Fence) ([]Event, error) { return dst, nil }

// Remove forgets a fence. Nothing is told.
func (e *Engine) Remove(id string) {}

// AddPair adds a pair. It counts fixes that are observed from now on.
func (e *Engine) AddPair(p Pair) error { return nil }

// RemovePair forgets a pair. Nothing is told.
func (e *Engine) RemovePair(id string) {}

// Observe takes a fix of a subject, and appends to dst the events that follow.
// An error says what is wrong with the fix, which then changed nothing.
func (e *Engine) Observe(dst []Event, subject string, f Fix) ([]Event, Verdict, error) {
	return dst, Taken, nil
}

// Expire ends the pairs of which one has not been heard of, at a time that the
// caller reads from its clock.
func (e *Engine) Expire(dst []Event, now time.Time) []Event { return dst }

// Drop forgets a subject that shares no more. Where it was inside, an exit is
// told with the reason Gone.
func (e *Engine) Drop(dst []Event, subject string, at time.Time) []Event { return dst }

// Standing says where a subject is to a fence.
func (e *Engine) Standing(fence, subject string) Standing { return Standing{} }

// PairStanding says whether two are near each other.
func (e *Engine) PairStanding(pair string) Standing { return Standing{} }

// Save appends all that the engine knows of subjects and pairs; fences and pairs
// themselves are the caller's to keep.
func (e *Engine) Save(dst []byte) []byte { return dst }

// Load takes what Save returned into an engine that has the same fences and
// pairs but has seen no fix. What is there of other fences and pairs is left out.
func (e *Engine) Load(data []byte) error { return nil }
