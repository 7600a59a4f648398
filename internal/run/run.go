// Package run is the one shape of everything that lives long: a Service has
// Start and Stop, both safe to call twice and in any order. The idea is
// River's startstop; ours is smaller, since a stopped service stays stopped.
//
// # The contract
//
//   - Start returns once the service works, or with the reason why it cannot;
//     after a failed Start nothing is left running. A second Start returns
//     what the first one did.
//   - Stop ends everything the service started and returns when it is gone. A
//     second Stop waits for the first. Stop before Start means it never starts:
//     a later Start returns ErrStopped.
//   - When the context given to Start is cancelled the goroutines end early;
//     Stop still has to be called. (A Group shields its services from that, to
//     keep the reverse order.)
//
// A service embeds a Lifecycle and writes its two halves as plain functions:
//
//	func (s *Server) Start(ctx context.Context) error {
//		return s.life.Start(ctx, func(ctx context.Context) error {
//			s.life.Go(func() { s.accept(ctx) })
//			return nil
//		})
//	}
//
//	func (s *Server) Stop() { s.life.Stop(func() { s.listener.Close() }) }
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrStopped is what Start returns after Stop.
var ErrStopped = errors.New("run: already stopped")

// Service is a long-lived thing. See the package comment for the contract.
type Service interface {
	Start(ctx context.Context) error
	Stop()
}

// Lifecycle implements the contract for the service that embeds or holds it.
// The zero value is ready.
type Lifecycle struct {
	mu       sync.Mutex // serialises Start and Stop, held while they work
	started  bool
	stopped  bool
	startErr error
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// Start runs start once, with a context that ends at Stop. If start fails,
// the context is cancelled and the goroutines are waited for.
func (l *Lifecycle) Start(ctx context.Context, start func(context.Context) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.stopped:
		return ErrStopped
	case l.started:
		return l.startErr
	}
	l.started = true
	ctx, l.cancel = context.WithCancel(ctx)
	if l.startErr = start(ctx); l.startErr != nil {
		l.cancel()
		l.wg.Wait()
	}
	return l.startErr
}

// Go runs f in a goroutine that Stop waits for. Call it from within start or
// from another goroutine begun by Go, nowhere else: then it can't race Stop.
func (l *Lifecycle) Go(f func()) { l.wg.Go(f) }

// Stop cancels the context, runs stop (which unblocks what the context does
// not reach, such as reads; it may be nil) and waits for all goroutines.
// stop does not run if Start never succeeded.
func (l *Lifecycle) Stop(stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return
	}
	l.stopped = true
	if !l.started || l.startErr != nil {
		return
	}
	l.cancel()
	if stop != nil {
		stop()
	}
	l.wg.Wait()
}

// Group is several services that live and die together: started in the order
// they were added, stopped in reverse, so that each may lean on those before
// it. A Group is a Service.
type Group struct {
	life     Lifecycle
	services []named
}

type named struct {
	name string
	Service
}

// Add appends a service under a name that errors show. Add everything before
// Start.
func (g *Group) Add(name string, s Service) {
	g.services = append(g.services, named{name, s})
}

// Start starts the services in order. When one fails, those already started
// are stopped in reverse and its error is returned.
func (g *Group) Start(ctx context.Context) error {
	return g.life.Start(ctx, func(ctx context.Context) error {
		// The services outlive this context's cancellation until their own
		// turn to stop: cancelling all at once would undo the reverse order.
		ctx = context.WithoutCancel(ctx)
		for i, s := range g.services {
			if err := s.Start(ctx); err != nil {
				stopReverse(g.services[:i])
				return fmt.Errorf("start %s: %w", s.name, err)
			}
		}
		return nil
	})
}

// Stop stops the services in reverse order.
func (g *Group) Stop() { g.life.Stop(func() { stopReverse(g.services) }) }

func stopReverse(services []named) {
	for i := len(services) - 1; i >= 0; i-- {
		services[i].Stop()
	}
}
