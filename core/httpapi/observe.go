package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"runtime/debug"
	"strconv"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
)

// exchange is what log and metrics learn about a request on its way in.
type exchange struct {
	id        string
	operation string // "unknown" for what the router refused
	user      string
	bearer    string     // the token of the Authorization header, never logged
	client    netip.Addr // for operations that ask for it, never logged
}

type exchangeKey struct{}

// exchangeOf returns the request's exchange; one that nobody reads outside of
// a request.
func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return &exchange{}
}

// observer writes one log line and one observation per request.
type observer struct {
	log      *slog.Logger
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newObserver(log *slog.Logger, metrics prometheus.Registerer) (*observer, error) {
	o := &observer{
		log: log,
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
// address, invite code or position gets there.
func (o *observer) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		x := &exchange{id: r.Header.Get("X-Request-Id"), operation: "unknown", bearer: bearer(r.Header.Get("Authorization"))}
		if !requestID.MatchString(x.id) {
			x.id = rand.Text()
		}
		w.Header().Set("X-Request-Id", x.id)
		ww := chimiddleware.NewWrapResponseWriter(w, r.ProtoMajor)
		o.inFlight.Inc()
		defer func() {
			o.inFlight.Dec()
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
					panic(p)
				}
				o.log.Error("panic in a request", "request", x.id, "operation", x.operation, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
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
			o.log.LogAttrs(r.Context(), level, "request", slog.String("request", x.id), slog.String("method", r.Method),
				slog.String("operation", x.operation), slog.Int("status", status), slog.Duration("took", took),
				slog.Int("bytes", ww.BytesWritten()), slog.String("user", x.user))
		}()
		next.ServeHTTP(ww, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
	})
}
