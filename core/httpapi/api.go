package httpapi

import (
	"cmp"
	_ "embed" // of the description
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core/attachments"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/fleets"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/matching"
	"github.com/mustermesh/muster/core/presence"
	"github.com/mustermesh/muster/core/privacy"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/core/reports"
	"github.com/mustermesh/muster/core/subscriptions"
	"github.com/mustermesh/muster/core/users"
	"github.com/mustermesh/muster/internal/obs"
)

// Config is what the API is made of. The domains are required; the rest has
// defaults.
type Config struct {
	DB     *db.DB
	Auth   *auth.Service
	Users  *users.Store
	Groups *groups.Store
	// Secret seals what is kept of answers: at least 32 bytes, the same on all nodes
	// of the deployment.
	Secret []byte

	Messages Messages        // nil: no operations on messages
	Talks    *Talks          // nil: no operations on conversations; they need Messages
	Presence *presence.Store // nil: no operations on presence
	Live     Live            // nil: nobody's state is known
	Edges    Edges           // nil: no /api/v1/edge
	Location *Location       // nil: no operations on positions, fences and blocks
	Fleets   *fleets.Store   // nil: no operations on fleets

	Matching *matching.Store // nil: no operations on meeting people nearby

	Notifications *Notifications // nil: no operations on notifications and webhooks

	Pictures    *users.Pictures    // nil: nobody uploads pictures
	Attachments *attachments.Store // nil: messages have no files
	Cards       *users.Cards       // nil: no operation on other users
	Privacy     *privacy.Store     // nil: no exports, and nobody deletes their profile

	Payments *Payments      // nil: nobody pays by a gateway; they need Expenses
	Ratings  *ratings.Store // nil: no operations on ratings; they need Cards
	Reports  *reports.Store // nil: nobody reports anything

	Subscriptions *subscriptions.Store // nil: no operations on plans and subscriptions

	Expenses *expenses.Store // nil: no operations on money

	Calls *Calls // nil: no operations on calls; they need Messages and Talks

	Assets  fs.FS    // holds docs/swagger-ui.css and docs/swagger-ui-bundle.js; nil: /docs links to the document only
	Origins []string // of pages that may call the API, or "*"; default: none but its own
	Version string   // of the software, for the document

	MaxBody int64         // bytes, default 64 KiB
	Timeout time.Duration // of a request's work, default 20 s

	// AddressLimit bounds sign-ups, sign-ins, refreshes and joins, each, per
	// client address (per /64 of IPv6). Default: 1,000 at once, then 20 a second.
	AddressLimit auth.Limit
	// UserLimit bounds a user's requests. Default: 300 at once, then 50 a second.
	UserLimit auth.Limit
	// LoginLimit bounds those of one device. Default: two thirds of UserLimit.
	LoginLimit auth.Limit
	// ChangeLimit bounds those of a user's requests of which all nodes are told: who
	// sees where they are, and that they take it back. Default: 60 at once, then one
	// a second.
	ChangeLimit auth.Limit
	// ClientAddr tells the client's address, for those behind a proxy they
	// trust. Default: the connection's.
	ClientAddr func(*http.Request) netip.Addr

	Log     *slog.Logger          // default: discard
	Metrics prometheus.Registerer // nil: not registered
	Tracer  obs.Tracer            // nil: no spans
	Now     func() time.Time      // default time.Now
}

const prefix = "/api/v1"

//go:embed api.md
var description string

// api is what operations need.
type api struct {
	Config
	huma    huma.API
	limits  limits
	answers *answers
	larger  map[string]int64 // "METHOD path" of what takes more than MaxBody, and how much
}

// New returns the handler of /api/v1/… and /docs.
func New(cfg Config) (http.Handler, error) {
	if cfg.DB == nil || cfg.Auth == nil || cfg.Users == nil || cfg.Groups == nil {
		return nil, errors.New("httpapi: DB, Auth, Users and Groups are required")
	}
	if len(cfg.Secret) < 32 {
		return nil, errors.New("httpapi: a secret has at least 32 bytes")
	}
	cfg.MaxBody = cmp.Or(cfg.MaxBody, 64<<10)
	cfg.Timeout = cmp.Or(cfg.Timeout, 20*time.Second)
	cfg.Version = cmp.Or(cfg.Version, "dev")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Log = slog.New(obs.Handler(cfg.Log.Handler()))
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.ClientAddr == nil {
		cfg.ClientAddr = connectionAddr
	}
	a := &api{
		Config: cfg,
		limits: newLimits(&cfg),
		larger: map[string]int64{},
	}
	var err error
	if a.answers, err = newAnswers(cfg.DB, cfg.Secret, cfg.Now); err != nil {
		return nil, err
	}
	observe, err := newObserver(cfg.Log, cfg.Metrics, cfg.Tracer)
	if err != nil {
		return nil, err
	}

	mux := chi.NewMux()
	mux.Use(observe.wrap, a.guard, chimiddleware.GetHead)
	mux.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		newProblem(http.StatusNotFound, "not_found", "there is nothing under this path").write(w)
	})
	mux.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", strings.Join(allowed(mux, r.URL.Path), ", "))
		newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "this path does not take "+r.Method).write(w)
	})

	hc := huma.DefaultConfig("Muster", cfg.Version)
	hc.Info.Description = description
	hc.CreateHooks = nil                                                  // no $schema in bodies: their keys are a contract
	hc.OpenAPIPath, hc.DocsPath, hc.SchemasPath = "", "", ""              // served below, from our own assets
	hc.Formats = map[string]huma.Format{"application/json": strictFormat} // "+json" finds it too
	hc.Formats["json"] = strictFormat
	hc.RejectUnknownQueryParameters = true
	hc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "An access token"},
	}
	a.huma = humachi.New(mux, hc)
	a.authOperations()
	a.userOperations()
	if cfg.Pictures != nil {
		a.pictureOperations()
	}
	if cfg.Cards != nil {
		a.cardOperations()
	}
	if cfg.Payments != nil && cfg.Expenses != nil {
		a.paymentOperations()
	}
	if cfg.Ratings != nil && cfg.Cards != nil {
		a.ratingOperations()
	}
	if cfg.Subscriptions != nil {
		a.subscriptionOperations()
	}
	if cfg.Reports != nil {
		a.abuseOperations()
	}
	if cfg.Privacy != nil {
		a.privacyOperations()
	}
	a.groupOperations()
	if cfg.Expenses != nil {
		a.expenseOperations()
	}
	if cfg.Messages != nil {
		a.messageOperations()
	}
	if cfg.Messages != nil && cfg.Talks != nil {
		a.conversationOperations()
	}
	if cfg.Calls != nil && cfg.Messages != nil && cfg.Talks != nil {
		a.callOperations()
	}
	if cfg.Attachments != nil && cfg.Messages != nil {
		a.attachmentOperations(mux)
	}
	if cfg.Presence != nil {
		a.presenceOperations()
	}
	if cfg.Location != nil {
		a.locationOperations()
	}
	if cfg.Fleets != nil {
		a.fleetOperations()
	}
	if cfg.Matching != nil {
		a.matchingOperations()
	}
	if cfg.Notifications != nil {
		a.notificationOperations()
		a.webhookOperations()
	}
	if cfg.Edges != nil {
		a.edgeOperations()
	}

	document, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("httpapi: OpenAPI document: %w", err)
	}
	mux.Get(prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json;version=3.1")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(document)
	})
	docsPages(mux, cfg.Assets)
	return mux, nil
}

// allowed returns the methods that a path takes.
func allowed(mux *chi.Mux, path string) []string {
	var methods []string
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		if mux.Match(chi.NewRouteContext(), m, path) || m == "HEAD" && slices.Contains(methods, "GET") {
			methods = append(methods, m)
		}
	}
	return methods
}
