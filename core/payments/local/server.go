package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mustermesh/muster/internal/run"
)

// Chaos is what goes wrong, as shares of 1.
type Chaos struct {
	Lose    float64 // of events: never sent
	Double  float64 // of events: sent twice
	Reorder float64 // of events: held back
	Fail    float64 // of calls: 500, without an effect
	Cut     float64 // of calls: carried out, and the connection breaks

	Delay time.Duration // of an event, at most; of one that is held back, five times as much
	Seed  uint64
}

// Config holds what is optional about a Server; its zero value works.
type Config struct {
	Key     string        // that calls must have. Default "sk_local"
	Secret  string        // that webhooks are signed with. Default "whsec_local"
	Webhook string        // URL. Default: nobody is told
	File    string        // keeps everything from one run to the next. Default: nothing is kept
	Slow    time.Duration // what takes a while. Default 2 s
	Resend  time.Duration // before an event that wasn't taken is sent again, doubled each time. Default 1 s
	Chaos   Chaos
	Log     *slog.Logger // default: discard
}

// Server is the gateway. It is safe for concurrent use.
type Server struct {
	cfg    Config
	listen net.Listener
	http   *http.Server
	client *http.Client
	life   run.Lifecycle

	mu    sync.Mutex // guards the following
	chaos *mathrand.Rand
	books
	tasks tasks
	woken chan struct{} // of 1: a task is there that may be the next
}

// books are all objects, as they are kept in the file.
type books struct {
	Last      int64                `json:"last"` // number of the newest object
	Intents   map[string]*Intent   `json:"intents"`
	Refunds   map[string]*Refund   `json:"refunds"`
	Customers map[string]*customer `json:"customers"`
	Answers   map[string]answer    `json:"answers"` // by idempotency key
	Events    []*event             `json:"events"`  // the oldest first
}

// Bounds of what is kept: a server of tests isn't Stripe.
const (
	maxAnswers = 100_000
	maxEvents  = 20_000
)

// answer is what is replayed to a call with the same key.
type answer struct {
	Call   string          `json:"call"` // path and form
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// New returns a Server that takes calls at l, which it owns.
func New(l net.Listener, cfg Config) (*Server, error) {
	cfg.Key, cfg.Secret = cmp.Or(cfg.Key, "sk_local"), cmp.Or(cfg.Secret, "whsec_local")
	cfg.Slow, cfg.Resend = cmp.Or(cfg.Slow, 2*time.Second), cmp.Or(cfg.Resend, time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cfg: cfg, listen: l, client: &http.Client{Timeout: 10 * time.Second},
		chaos: mathrand.New(mathrand.NewPCG(cfg.Chaos.Seed, 0)), woken: make(chan struct{}, 1),
	}
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	if err := s.open(); err != nil {
		return nil, err
	}
	return s, nil
}

// URL is where calls go.
func (s *Server) URL() string { return "http://" + s.listen.Addr().String() }

// Key is the one that calls must have.
func (s *Server) Key() string { return s.cfg.Key }

// Secret is the one that webhooks are signed with.
func (s *Server) Secret() string { return s.cfg.Secret }

// Start implements run.Service.
func (s *Server) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(ctx context.Context) error {
		s.life.Go(func() {
			if err := s.http.Serve(s.listen); !errors.Is(err, http.ErrServerClosed) {
				s.cfg.Log.ErrorContext(ctx, "the local payment gateway ends", "err", err)
			}
		})
		s.life.Go(func() { s.work(ctx) })
		return nil
	})
}

// Stop implements run.Service. What was to be sent is not: the next run of the same
// file lists it as missed.
func (s *Server) Stop() {
	s.life.Stop(func() {
		_ = s.http.Close()
		_ = s.listen.Close() // if it was never served
		s.client.CloseIdleConnections()
	})
}

func (s *Server) open() error {
	s.books = books{Intents: map[string]*Intent{}, Refunds: map[string]*Refund{}, Customers: map[string]*customer{}, Answers: map[string]answer{}}
	if s.cfg.File == "" {
		return nil
	}
	b, err := os.ReadFile(s.cfg.File)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s.books)
	}
	if err != nil {
		return fmt.Errorf("local payment gateway: %w", err)
	}
	for _, i := range s.Intents { // what was under way
		if i.Status == processing {
			s.later(s.cfg.Slow, func() { s.settle(i) })
		}
	}
	return nil
}

// keep writes the file. It is small: this is for one developer.
func (s *Server) keepLocked() {
	if s.cfg.File == "" {
		return
	}
	b, err := json.Marshal(s.books)
	if err == nil {
		tmp := s.cfg.File + ".new"
		err = errors.Join(os.MkdirAll(filepath.Dir(tmp), 0o700), os.WriteFile(tmp, b, 0o600))
		if err == nil {
			err = os.Rename(tmp, s.cfg.File)
		}
	}
	if err != nil {
		s.cfg.Log.Error("the local payment gateway can't keep its file", "err", err)
	}
}

// happensLocked draws whether something of a share happens.
func (s *Server) happensLocked(share float64) bool { return share > 0 && s.chaos.Float64() < share }

func (s *Server) idLocked(prefix string) string {
	s.Last++
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%s_%d%s", prefix, s.Last, hex.EncodeToString(b[:]))
}
