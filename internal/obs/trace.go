package obs

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mustermesh/muster/internal/errs"
)

// Traces sends the spans of a process to a collector. It is off unless there is
// one: a nil *Traces gives a nil Tracer, with which nothing is begun, and what has
// no span above it begins none. Names and attributes of spans are ids, operations
// and the text of SQL without its arguments; never what people wrote, who they are
// by mail address, where they are, or what proves them.
type Traces struct {
	spans   sdktrace.SpanProcessor
	share   float64
	version string
}

// Tracer begins the spans that have none above them; nil: it begins none.
type Tracer = trace.Tracer

// NewTraces exports to an OTLP endpoint over HTTP, such as
// http://127.0.0.1:4318: of so many traces in one (0 to 1). The spans of traces
// that began elsewhere follow what was decided there. When the collector is slow
// or down, spans are dropped beyond a bounded queue; nobody waits.
func NewTraces(ctx context.Context, endpoint string, share float64, version string) (*Traces, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("OTLP endpoint %q: write it as http://host:4318", endpoint)
	}
	if share < 0 || share > 1 {
		return nil, fmt.Errorf("share of traces %g: choose 0 to 1", share)
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(5*time.Second))
	if err != nil {
		return nil, fmt.Errorf("OTLP exporter: %w", err)
	}
	return TracesTo(sdktrace.NewBatchSpanProcessor(exporter), share, version), nil
}

// TracesTo is NewTraces for another destination, in tests.
func TracesTo(spans sdktrace.SpanProcessor, share float64, version string) *Traces {
	return &Traces{spans: spans, share: share, version: version}
}

// Tracer begins the spans of one node.
func (t *Traces) Tracer(region, node string) Tracer {
	if t == nil {
		return nil
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(t.spans),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(t.share))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "muster"), attribute.String("service.version", t.version),
			attribute.String("service.instance.id", node), attribute.String("cloud.region", region))),
	).Tracer("github.com/mustermesh/muster")
}

// Stop sends what is left, for a few seconds at most.
func (t *Traces) Stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = t.spans.Shutdown(ctx) // a collector that is down is no reason to stay
}

// Root begins a span for something that this node was asked to do, below that of
// ctx if there is one. Without a tracer it begins none.
func Root(ctx context.Context, t Tracer, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if t == nil {
		return ctx, noop.Span{}
	}
	return t.Start(ctx, name, opts...)
}

// Traced reports whether ctx has a span. What it costs to describe one is saved
// otherwise.
func Traced(ctx context.Context) bool { return trace.SpanContextFromContext(ctx).IsValid() }

// Span begins a span below that of ctx, or none if there is none.
func Span(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	above := trace.SpanFromContext(ctx)
	if !above.SpanContext().IsValid() {
		return ctx, above
	}
	return above.TracerProvider().Tracer("github.com/mustermesh/muster").Start(ctx, name, opts...)
}

// End ends a span. Of an error it has the code that clients see, or what kind of
// error it is: its text may hold what somebody sent.
func End(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		kind := fmt.Sprintf("%T", err)
		if known, ok := errs.From(err); ok {
			kind = string(known.Code)
		}
		span.SetStatus(codes.Error, kind)
		span.SetAttributes(attribute.String("error.type", kind))
	}
	span.End()
}

var w3c = propagation.TraceContext{} // has no state

// Carry writes down which request and which trace ctx belongs to, for another
// node or a later time; empty without either.
func Carry(ctx context.Context) string {
	id := RequestID(ctx)
	if !Traced(ctx) {
		return id
	}
	m := propagation.MapCarrier{}
	w3c.Inject(ctx, m)
	return id + " " + m["traceparent"]
}

// MaxCarried bounds what Carry returns.
const MaxCarried = 160

// Resume is the other end of Carry: a context whose lines belong to the same
// request, and whose spans to the same trace.
func Resume(ctx context.Context, carried string) context.Context {
	if carried == "" || len(carried) > MaxCarried {
		return ctx
	}
	id, parent, _ := strings.Cut(carried, " ")
	if id != "" {
		ctx = WithRequest(ctx, id)
	}
	return ResumeTrace(ctx, parent)
}

// ResumeTrace takes a traceparent (W3C Trace Context).
func ResumeTrace(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return w3c.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
}
