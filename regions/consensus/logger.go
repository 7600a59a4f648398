package consensus

import (
	"context"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// newHclog has raft log through slog. Raft tells of every failed request as an
// error and of each step of an election as information; what an operator has
// to know this package says itself, so all that is one level down.
func newHclog(log *slog.Logger) hclog.Logger {
	return hclogger{hclog.NewNullLogger(), log.With("part", "raft")}
}

type hclogger struct {
	hclog.Logger
	log *slog.Logger
}

func (h hclogger) Trace(string, ...any)           {}
func (h hclogger) Debug(msg string, args ...any)  { h.log.Debug(msg, args...) }
func (h hclogger) Info(msg string, args ...any)   { h.log.Debug(msg, args...) }
func (h hclogger) Warn(msg string, args ...any)   { h.log.Info(msg, args...) }
func (h hclogger) Error(msg string, args ...any)  { h.log.Info(msg, args...) }
func (h hclogger) With(args ...any) hclog.Logger  { return hclogger{h.Logger, h.log.With(args...)} }
func (h hclogger) Named(string) hclog.Logger      { return h }
func (h hclogger) ResetNamed(string) hclog.Logger { return h }
func (h hclogger) IsDebug() bool                  { return h.log.Enabled(context.Background(), slog.LevelDebug) }

func (h hclogger) Log(level hclog.Level, msg string, args ...any) {
	switch {
	case level >= hclog.Warn:
		h.Warn(msg, args...)
	case level >= hclog.Debug:
		h.Debug(msg, args...)
	}
}
