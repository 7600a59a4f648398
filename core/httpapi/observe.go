package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"strconv"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/obs"
)

// exchange is what log and metrics learn about a request on its way in.
type exchange struct {
	id        string
	operation string // "unknown" for what the router refused
	user      string
	bearer    string     // the token of the Authorization header, never logged
	client    netip.Addr // for operations that ask for it, never logged
	header    http.Header
	age       *db.Age // of what is read for the answer
}

type exchangeKey struct{}

// exchangeOf returns the request's exchange; one that nobody reads outside of
// a request.
func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{header: http.Header{}, age: &db.Age{}}
}

// dated says in the answer how old it may be (RFC 9111 section 5.1), if it is not
// current.
func (x *exchange) dated() {
	if age := x.age.Most(); age > 0 {
		x.header.Set("Age", strconv.Itoa(int(math.Ceil(age.Seconds()))))
	}
}

// observer writes one log line, one observation and, with a tracer, one span per
// request.
type observer struct {
	log      *slog.Logger
	tracer   obs.Tracer
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newObserver(log *slog.Logger, metrics prometheus.Registerer, tracer obs.Tracer) (*observer, error) {
	o := &observer{
		log:    log,
		tracer: tracer,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "muster_http_request_duration_seconds", Help: "Time to answer an HTTP request.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"operation", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "muster_http_requests_in_flight", Help: "HTTP requests being answered.",
		}),
	}
	if metrics != nil {
		for _, c := range []prometheus.Collector{o.duration, o.inFlight} {
			if err := metrics.Register(c); err != nil {
				return nil, fmt.Errorf("httpapi: register metrics: %w", err)
			}
		}
	}
	return o, nil
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// wrap gives a request its id and watches how it ends. The log has the
// operation instead of the path and nothing of header or body: no token, mail
// address, invite code or position gets there, nor into the span. A trace begins
// here: one that a client claims to be in is not taken over, since that would
// decide what is kept.
func (o *observer) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		x := &exchange{id: r.Header.Get("X-Request-Id"), operation: "unknown", bearer: bearer(r.Header.Get("Authorization"))}
		if !requestID.MatchString(x.id) {
			x.id = rand.Text()
		}
		w.Header().Set("X-Request-Id", x.id)
		x.header = w.Header()
		ctx := context.WithValue(obs.WithRequest(r.Context(), x.id), exchangeKey{}, x)
		ctx, x.age = db.NoteAge(ctx)
		ctx, span := obs.Root(ctx, o.tracer, "HTTP", trace.WithSpanKind(trace.SpanKindServer))
		ww := chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor)
		o.inFlight.Inc()
		defer func() {
			o.inFlight.Dec()
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
					panic(p)
				}
				o.log.ErrorContext(ctx, "panic in a request", "operation", x.operation, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if ww.Status() == 0 {
					newProblem(http.StatusInternalServerError, "internal", "something went wrong on our side; try again").write(ww)
				}
			}
			status := ww.Status()
			if status == 0 {
				status = http.StatusOK
			}
			took := time.Since(begin)
			o.duration.WithLabelValues(x.operation, strconv.Itoa(status)).Observe(took.Seconds())
			level := slog.LevelInfo
			if status >= 500 {
				level = slog.LevelWarn
			}
			o.log.LogAttrs(ctx, level, "request", slog.String("method", r.Method),
				slog.String("operation", x.operation), slog.Int("status", status), slog.Duration("took", took),
				slog.Int("bytes", ww.BytesWritten()), slog.String("user", x.user))
			if span.IsRecording() {
				span.SetName(x.operation)
				span.SetAttributes(attribute.String("http.request.method", r.Method), attribute.Int("http.response.status_code", status),
					attribute.String("muster.request", x.id), attribute.String("muster.user", x.user))
				if status >= 500 {
					span.SetStatus(codes.Error, strconv.Itoa(status))
				}
			}
			span.End()
		}()
		next.ServeHTTP(ww, r.WithContext(ctx))
	})
}
