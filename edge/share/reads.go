package share

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// reads is the list of subjects whose choices are to be read. Each is in it at
// most once, so it is bounded by the subjects.
type reads struct {
	mu    sync.Mutex
	queue []*subject
	wake  chan struct{}
}

func (r *reads) put(s *subject) {
	r.mu.Lock()
	r.queue = append(r.queue, s)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // every reader was told
	}
}

func (r *reads) take() *subject {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil
	}
	s := r.queue[0]
	r.queue[0] = nil
	if r.queue = r.queue[1:]; len(r.queue) == 0 {
		r.queue = nil
	}
	return s
}

func (h *Sharer) runReads(ctx context.Context) {
	for {
		s := h.reads.take()
		if s == nil {
			select {
			case <-ctx.Done():
				return
			case <-h.reads.wake:
			}
			continue
		}
		h.read(ctx, s)
	}
}

// found is what a read found.
type found struct {
	edge.Choices
	hidden bool
	barred map[string]bool // rooms of groups that the subject is no member of
}

func (h *Sharer) read(ctx context.Context, s *subject) {
	s.mu.Lock()
	need, named := s.need, s.set.Posts()
	s.mu.Unlock()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, readWait)
	f, err := h.find(ctx, s.user, need, named)
	cancel()
	h.metrics.reads.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		h.cfg.Log.Debug("what a user shares can't be read", "err", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		s.found(time.Now(), began, need, f, err)
	}
}

func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return "done"
}

func (h *Sharer) find(ctx context.Context, user string, need uint64, named map[string]time.Time) (f found, err error) {
	if f.Choices, err = h.cfg.Sharing.Sharing(ctx, user, need); err != nil {
		return f, err
	}
	if h.cfg.Settings != nil {
		if f.hidden, err = h.cfg.Settings.Invisible(ctx, user); err != nil {
			return f, err
		}
	}
	f.barred = map[string]bool{}
	check := func(group string) error {
		room := groupRoom + group
		if _, done := f.barred[room]; done {
			return nil
		}
		if h.isIn(user, room) {
			f.barred[room] = false
			return nil
		}
		_, err := h.cfg.Members.Member(ctx, user, room, 0)
		if out := errors.Is(err, &errs.Error{Code: edge.CodeNotMember}); out || err == nil {
			f.barred[room] = out
			return nil
		}
		return err
	}
	for _, a := range f.Set.Audiences(time.Now()) {
		if a.Kind == grant.Group {
			if err := check(a.ID); err != nil {
				return f, err
			}
		}
	}
	for g := range named {
		if err := check(g); err != nil {
			return f, err
		}
	}
	return f, nil
}

// isIn reports whether a session of the user is known to be in a room, of which
// the hub makes sure by itself.
func (h *Sharer) isIn(user, room string) bool {
	if h.cfg.Clients == nil {
		return false
	}
	return slices.ContainsFunc(h.cfg.Clients(user), func(c edge.Client) bool {
		_, in := h.cfg.Hub.Membership(c, room)
		return in
	})
}

type metrics struct {
	subjects prometheus.Gauge
	fixes    *prometheus.CounterVec
	reads    *prometheus.CounterVec
	recalls  *prometheus.CounterVec
	full     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "muster", Subsystem: "share", Name: name, Help: help}
	}
	m := &metrics{
		subjects: prometheus.NewGauge(prometheus.GaugeOpts(opts("subjects", "Users whose positions this node took of late."))),
		fixes:    prometheus.NewCounterVec(prometheus.CounterOpts(opts("fixes_total", "Fixes by what came of them.")), []string{"outcome"}),
		reads:    prometheus.NewCounterVec(prometheus.CounterOpts(opts("reads_total", "Reads of what users chose.")), []string{"outcome"}),
		recalls:  prometheus.NewCounterVec(prometheus.CounterOpts(opts("recalls_total", "Memories of the cells that were told of users.")), []string{"outcome"}),
		full:     prometheus.NewCounter(prometheus.CounterOpts(opts("full_total", "Fixes refused because there are too many users."))),
	}
	reg.MustRegister(m.subjects, m.fixes, m.reads, m.recalls, m.full)
	return m
}
