package obs

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

type fieldsKey struct{}

// With returns a context under which every line of a Logger has these fields:
// whose request or session it belongs to. Ids only, nothing personal.
func With(ctx context.Context, fields ...slog.Attr) context.Context {
	before, _ := ctx.Value(fieldsKey{}).([]slog.Attr)
	return context.WithValue(ctx, fieldsKey{}, append(before[:len(before):len(before)], fields...))
}

// WithRequest is With for the id of the request that began it all, which goes
// along to other nodes; see Carry.
func WithRequest(ctx context.Context, id string) context.Context {
	return With(context.WithValue(ctx, requestKey{}, id), slog.String("request", id))
}

type requestKey struct{}

// RequestID is what WithRequest was given; empty without one.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// Handler adds to each line what its context knows: the fields of With, and the
// trace's id.
func Handler(h slog.Handler) slog.Handler {
	if _, already := h.(contextual); already {
		return h
	}
	return contextual{h}
}

type contextual struct{ slog.Handler }

func (c contextual) Handle(ctx context.Context, r slog.Record) error {
	fields, _ := ctx.Value(fieldsKey{}).([]slog.Attr)
	span := trace.SpanContextFromContext(ctx)
	if len(fields) > 0 || span.IsValid() {
		r = r.Clone()
		r.AddAttrs(fields...)
		if span.IsValid() {
			r.AddAttrs(slog.String("trace", span.TraceID().String()))
		}
	}
	return c.Handler.Handle(ctx, r)
}

func (c contextual) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextual{c.Handler.WithAttrs(attrs)}
}

func (c contextual) WithGroup(name string) slog.Handler {
	return contextual{c.Handler.WithGroup(name)}
}
