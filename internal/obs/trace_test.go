package obs

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mustermesh/muster/internal/errs"
)

func TestLinesSayWhatTheyBelongTo(t *testing.T) {
	var out strings.Builder
	log := slog.New(Handler(Handler(slog.NewTextHandler(&out, nil)))).With("node", "a-1")
	ctx := With(WithRequest(t.Context(), "r-1"), slog.String("session", "s-1"))
	log.InfoContext(ctx, "hello")
	require.Contains(t, out.String(), `msg=hello node=a-1 request=r-1 session=s-1`)
	require.NotContains(t, out.String(), "trace=")
	require.Equal(t, "r-1", RequestID(ctx))

	out.Reset()
	tracer := TracesTo(tracetest.NewSpanRecorder(), 1, "").Tracer("a", "a-1")
	ctx, span := Root(ctx, tracer, "x")
	defer span.End()
	log.InfoContext(ctx, "hello")
	require.Contains(t, out.String(), "trace="+span.SpanContext().TraceID().String())
}

func TestCarry(t *testing.T) {
	require.Empty(t, Carry(t.Context()))
	ctx := WithRequest(t.Context(), "r-1")
	require.Equal(t, "r-1", Carry(ctx))
	require.Equal(t, "r-1", RequestID(Resume(t.Context(), "r-1")))

	spans := tracetest.NewSpanRecorder()
	ctx, above := Root(ctx, TracesTo(spans, 1, "").Tracer("a", "a-1"), "above")
	carried := Carry(ctx)
	require.LessOrEqual(t, len(carried), MaxCarried)
	there := Resume(t.Context(), carried)
	require.True(t, Traced(there))
	_, below := Root(there, TracesTo(spans, 0, "").Tracer("b", "b-1"), "below") // its share is of those that begin there
	End(below, errs.New(errs.Conflict, "taken", "secret words"))
	End(above, errors.New("more secret words"))
	ended := spans.Ended()
	require.Len(t, ended, 2)
	require.Equal(t, above.SpanContext().SpanID(), ended[0].Parent().SpanID())
	require.Equal(t, "taken", ended[0].Status().Description)
	require.Equal(t, "*errors.errorString", ended[1].Status().Description)

	for _, garbage := range []string{" ", " x", " 00-x", strings.Repeat("x", 1000), "r 00-" + strings.Repeat("0", 32) + "-" + strings.Repeat("0", 16) + "-01"} {
		require.False(t, Traced(Resume(t.Context(), garbage)), garbage)
	}
}

// Without a tracer nothing is begun, and nothing allocated.
func TestOffCostsNothing(t *testing.T) {
	var none *Traces
	require.Nil(t, none.Tracer("a", "a-1"))
	none.Stop()
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		ctx, span := Root(ctx, nil, "x")
		_, below := Span(ctx, "y")
		End(below, nil)
		End(span, nil)
		if Traced(ctx) {
			panic("traced")
		}
	}))
}

func TestSpansReachACollector(t *testing.T) {
	var got atomic.Int32
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/traces" && r.Header.Get("Content-Type") == "application/x-protobuf" {
			got.Add(1)
		}
	}))
	defer collector.Close()
	traces, err := NewTraces(t.Context(), collector.URL, 1, "test")
	require.NoError(t, err)
	_, span := Root(context.Background(), traces.Tracer("a", "a-1"), "x")
	span.End()
	traces.Stop()
	require.Equal(t, int32(1), got.Load())

	for _, wrong := range []string{"127.0.0.1:4318", "grpc://x", ""} {
		_, err := NewTraces(t.Context(), wrong, 1, "test")
		require.ErrorContains(t, err, "http://host:4318")
	}
	_, err = NewTraces(t.Context(), collector.URL, 2, "test")
	require.ErrorContains(t, err, "0 to 1")
}
