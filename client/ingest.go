package client

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
)

// SubjectFix says where a subject of a fleet is.
type SubjectFix struct {
	Subject string // as the fleet's gateways name it: 1-64 of [A-Za-z0-9-_.]
	Fix     Fix
	Gone    bool // nobody is to see it any more: of the fix only Captured counts
}

// Ingested is what came of an Ingest.
type Ingested struct {
	Taken   int
	Refused []IngestRefusal // in no order
}

// IngestRefusal is a fix that was not taken.
type IngestRefusal struct {
	Index int // in what was given to Ingest
	Err   *Error
}

// ingestsAtOnce is how many frames of one Ingest wait for answers: the node works
// while others are on the way.
const ingestsAtOnce = 8

// Ingest gives fixes of a fleet's subjects to all who may see them; the session is
// that of a gateway (FleetTokens). Any number of them goes in as many frames as it
// takes. Each is taken or refused by itself, and nothing is tried again: a refusal
// with a RetryAfter may be given again after that time. An error says that nothing
// more is known of some, which does no harm to be given again.
func (s *Session) Ingest(ctx context.Context, fixes []SubjectFix) (Ingested, error) {
	b := &ingestion{s: s, places: make(chan struct{}, ingestsAtOnce)}
	now := time.Now()
	for i, f := range fixes {
		if err := problem(wire.CheckSubject(f.Subject)); err != nil {
			refused, _ := errorsAs(err)
			b.refuse(refused, i)
			continue
		}
		w := &wire.SubjectFix{Subject: f.Subject}
		switch {
		case !f.Gone:
			w.Fix = f.Fix.wire(now)
		case !f.Fix.Captured.IsZero():
			w.Fix = &wire.Fix{Captured: timestamppb.New(f.Fix.Captured)}
		}
		const overhead = 32 // of the frame, and of the length of each fix below
		size := w.SizeVT() + 4
		if len(b.fixes) == wire.MaxIngest || b.size+size > wire.MaxClientFrame-overhead {
			b.send(ctx)
		}
		b.fixes, b.at, b.size = append(b.fixes, w), append(b.at, i), b.size+size
	}
	b.send(ctx)
	b.sent.Wait()
	return b.out, b.err
}

// ingestion is an Ingest under way: the frame that is being filled, and what came
// of the others.
type ingestion struct {
	s      *Session
	fixes  []*wire.SubjectFix
	at     []int // where they are in what was given
	size   int
	places chan struct{}
	sent   sync.WaitGroup

	mu  sync.Mutex // guards the following
	out Ingested
	err error
}

func (b *ingestion) send(ctx context.Context) {
	fixes, at := b.fixes, b.at
	b.fixes, b.at, b.size = nil, nil, 0
	b.mu.Lock()
	failed := b.err != nil
	b.mu.Unlock()
	if len(fixes) == 0 || failed {
		return
	}
	b.places <- struct{}{} // each comes back by the end of ctx
	b.sent.Go(func() {
		defer func() { <-b.places }()
		f, err := b.s.once(ctx, &wire.ClientFrame{Body: &wire.ClientFrame_Ingest{Ingest: &wire.Ingest{Fixes: fixes}}})
		switch refused, ok := errorsAs(err); {
		case ok && refused.passing():
			b.refuse(refused, at...)
			return
		case err != nil:
			b.mu.Lock()
			defer b.mu.Unlock()
			b.err = err
			return
		}
		b.mu.Lock()
		b.out.Taken += int(f.GetIngested().GetTaken())
		b.mu.Unlock()
		for _, r := range f.GetIngested().GetRefused() {
			if int(r.GetIndex()) < len(at) {
				b.refuse(&Error{Code: r.GetCode(), RetryAfter: millis(r.GetRetryAfterMs())}, at[r.GetIndex()])
			}
		}
	})
}

func (b *ingestion) refuse(err *Error, at ...int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range at {
		b.out.Refused = append(b.out.Refused, IngestRefusal{Index: i, Err: err})
	}
}
