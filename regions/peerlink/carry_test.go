package peerlink

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/mustermesh/muster/internal/obs"
)

// A call belongs to its caller's request and trace, if the peer's version knows of
// that; without either it is sent as ever.
func TestCallsCarryWhatTheyBelongTo(t *testing.T) {
	m := newMesh(t, nil)
	spans := tracetest.NewSpanRecorder()
	tracer := obs.TracesTo(spans, 1, "test").Tracer("b", "b-1")
	a := m.start("a-1", 1)
	b := m.start("b-1", 1, func(c *Config) { c.Tracer = tracer })
	b.recorder.onCall = func(ctx context.Context, _ Peer, _ []byte) ([]byte, error) {
		return []byte(obs.RequestID(ctx) + " " + trace.SpanContextFromContext(ctx).TraceID().String()), nil
	}
	ask := func(ctx context.Context) string {
		answer, err := a.Call(ctx, "b-1", []byte("?"))
		require.NoError(t, err)
		return string(answer)
	}
	const none = "00000000000000000000000000000000"
	require.Equal(t, " "+none, ask(t.Context()))
	ctx := obs.WithRequest(t.Context(), "request-1")
	require.Equal(t, "request-1 "+none, ask(ctx))
	require.Empty(t, spans.Ended())

	ctx, root := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("").Start(ctx, "root")
	require.Equal(t, "request-1 "+root.SpanContext().TraceID().String(), ask(ctx))
	root.End()
	eventually(t, func() bool { return len(spans.Ended()) == 3 }, "spans")
	for _, s := range spans.Ended() {
		require.Equal(t, root.SpanContext().TraceID(), s.SpanContext().TraceID(), s.Name())
	}

	a.Links.mu.RLock()
	old := a.Links.peers["b-1"].calls
	a.Links.mu.RUnlock()
	old.mu.Lock()
	old.carries = false // as an older version's hello says
	old.mu.Unlock()
	require.Equal(t, " "+none, ask(ctx))
}
