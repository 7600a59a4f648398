package client

import (
	"context"
	"iter"
	"sync"
)

// queue holds the events of a room for the application. It is bounded: when
// full it is emptied into one Missed, since the room's state says where things
// stand and a slow reader catches up faster by looking there.
type queue struct {
	limit int
	more  chan struct{} // something was pushed, or end

	mu     sync.Mutex
	events []Event
	missed uint64
	ended  bool
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, more: make(chan struct{}, 1)}
}

func (q *queue) push(events ...Event) {
	if len(events) == 0 {
		return
	}
	q.mu.Lock()
	if !q.ended {
		for _, e := range events {
			if len(q.events) >= q.limit {
				q.missed += uint64(len(q.events))
				clear(q.events)
				q.events = append(q.events[:0], Missed{})
			}
			q.events = append(q.events, e)
		}
	}
	q.mu.Unlock()
	q.signal()
}

// end lets the reader take what is left, and nothing more.
func (q *queue) end(last Event) {
	q.push(last)
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// take waits for events and returns all there are, in place of buf; ok is false
// at the end.
func (q *queue) take(ctx context.Context, buf []Event) (events []Event, ok bool) {
	for {
		q.mu.Lock()
		if len(q.events) > 0 {
			events, q.events = q.events, buf[:0]
			q.mu.Unlock()
			return events, true
		}
		ended := q.ended
		q.mu.Unlock()
		if ended {
			q.signal() // for another reader
			return nil, false
		}
		select {
		case <-q.more:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// all yields the events as they come, until the end or ctx is over.
func (q *queue) all(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		var buf []Event
		for {
			events, ok := q.take(ctx, buf)
			if !ok {
				return
			}
			for _, e := range events {
				if !yield(e) {
					return
				}
			}
			clear(events)
			buf = events
		}
	}
}
