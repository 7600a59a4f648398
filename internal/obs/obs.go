// Package obs is what an operator sees of a process: structured logs, metrics,
// traces, health and profiles. Nothing here is global: many nodes run in one test
// process, each with a registry of its own.
//
// # What belongs together
//
// A context knows which request or session it serves (With), and which trace
// (Span). Every line that is logged with it says so, here and on the nodes that
// the request calls (Carry, Resume):
//
//	HTTP ──▶ request=R trace=T ──▶ SQL     span below T
//	                           ──▶ peer    request=R trace=T, a span there
//	                           ──▶ job     later, a trace of its own with a link to T
//
// Lines and spans have ids, names of operations and figures. What proves somebody,
// mail addresses and positions are in neither.
package obs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Logger returns a structured logger. format is "text" or "json"; level is
// "debug", "info", "warn" or "error".
func Logger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: use debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(Handler(slog.NewTextHandler(w, opts))), nil
	case "json":
		return slog.New(Handler(slog.NewJSONHandler(w, opts))), nil
	default:
		return nil, fmt.Errorf("log format %q: use text or json", format)
	}
}

// ProcessRegistry returns a registry with the metrics of the Go runtime and
// the process, to which nodes add their own (see Labelled).
func ProcessRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Labelled returns a registerer that adds region and node to each metric, so
// that several nodes share the process's registry.
func Labelled(r prometheus.Registerer, region, node string) prometheus.Registerer {
	return prometheus.WrapRegistererWith(prometheus.Labels{"region": region, "node": node}, r)
}

// Admin returns the handler of the admin address: /healthz (the process
// lives), /readyz (it takes traffic; 503 with the reason otherwise), /metrics
// and /debug/pprof. It has no authentication: bind it to loopback or to a
// private network.
func Admin(g prometheus.Gatherer, ready func(context.Context) error) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := ready(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ready\n")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
