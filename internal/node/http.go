package node

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/mustermesh/muster/internal/run"
)

// httpServer serves a handler on a listener. It is a run.Service.
type httpServer struct {
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
	life     run.Lifecycle
}

// httpDrain is how long requests under way may take after Stop.
const httpDrain = 5 * time.Second

func newHTTPServer(l net.Listener, t *tls.Config, h http.Handler, log *slog.Logger) *httpServer {
	if t != nil {
		l = tls.NewListener(l, t)
	}
	return &httpServer{listener: l, log: log, server: &http.Server{
		Handler: h,
		// Slow clients hold a connection for so long and no longer. Bodies are
		// bounded by the API itself; WebSocket connections are hijacked and
		// have limits of their own.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

func (s *httpServer) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(context.Context) error {
		s.life.Go(func() {
			if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				s.log.ErrorContext(ctx, "HTTP listener ended", "addr", s.listener.Addr(), "err", err)
			}
		})
		return nil
	})
}

func (s *httpServer) Stop() {
	s.life.Stop(func() {
		ctx, cancel := context.WithTimeout(context.Background(), httpDrain)
		defer cancel()
		if err := s.server.Shutdown(ctx); err != nil {
			_ = s.server.Close()
		}
	})
}
