package media

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mustermesh/muster/api/wire"
	calls "github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sfu"
)

// Ready is the line that the server writes when it serves.
type Ready struct {
	HTTP string `json:"http"`
}

// room is the one call.
type room struct {
	sfu     *sfu.Server
	changed chan struct{} // who sends what is another

	mu      sync.Mutex // guards the following
	members map[string]*member
}

type member struct {
	room *room
	name string
	peer calls.Peer
	out  chan *wire.CallDescription
	has  map[string]calls.Source // guarded by room.mu
}

// Serve runs the server until ctx ends.
func Serve(ctx context.Context, out io.Writer) error {
	s, err := sfu.New(sfu.Options{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Bitrate: 100_000_000})
	if err != nil {
		return err
	}
	if err := s.Start(ctx); err != nil {
		return err
	}
	defer s.Stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for signalling: %w", err)
	}
	r := &room{sfu: s, changed: make(chan struct{}, 1), members: map[string]*member{}}
	ctx, end := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer end()
	work.Go(func() { // one alone: what is true later comes later
		for {
			select {
			case <-r.changed:
				r.subscribe()
			case <-ctx.Done():
				return
			}
		}
	})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /join", r.join)
	mux.HandleFunc("POST /describe", r.describe)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(s.Stats()) })
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.Handle("GET /debug/pprof/heap", pprof.Handler("heap"))
	mux.Handle("GET /debug/pprof/goroutine", pprof.Handler("goroutine"))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := json.NewEncoder(out).Encode(Ready{HTTP: "http://" + l.Addr().String()}); err != nil {
		return err
	}
	_ = server.Serve(l) // until it is closed
	return nil
}

// join answers with a line of JSON per description, until the client goes.
func (r *room) join(w http.ResponseWriter, req *http.Request) {
	m := &member{room: r, name: req.FormValue("name"), out: make(chan *wire.CallDescription, 64), has: map[string]calls.Source{}}
	peer, err := r.sfu.Join(calls.PeerConfig{
		Name: m.name, Events: m,
		TrackID: func(source wire.CallSource) string { return calls.TrackID("bench", m.name, "", source) },
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer peer.Close()
	r.mu.Lock()
	m.peer = peer
	r.members[m.name] = m
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.members, m.name)
		r.mu.Unlock()
		r.change()
	}()
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	r.change()
	for {
		select {
		case <-req.Context().Done():
			return
		case d := <-m.out:
			b, err := protojson.Marshal(d)
			if err != nil {
				return
			}
			if _, err := w.Write(append(b, '\n')); err != nil {
				return
			}
			_ = flush.Flush()
		}
	}
}

func (r *room) describe(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	m := r.members[req.FormValue("name")]
	r.mu.Unlock()
	b, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	var d wire.CallDescription
	if err == nil {
		err = protojson.Unmarshal(b, &d)
	}
	if m == nil || err != nil {
		http.Error(w, "not in the call, or no description", http.StatusBadRequest)
		return
	}
	if err := m.peer.Describe(&d); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

func (r *room) change() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// subscribe has everybody get what the others send.
func (r *room) subscribe() {
	r.mu.Lock()
	lists := map[calls.Peer][]calls.Subscription{}
	for _, m := range r.members {
		list := []calls.Subscription{}
		for _, o := range r.members {
			for _, src := range o.has {
				if o != m {
					list = append(list, calls.Subscription{Source: src, Height: 720, Flow: true})
				}
			}
		}
		lists[m.peer] = list
	}
	r.mu.Unlock()
	for p, list := range lists {
		p.Subscribe(list)
	}
}

// Describe has the client told.
func (m *member) Describe(d *wire.CallDescription) {
	select {
	case m.out <- d:
	default: // it doesn't read: its call is over
	}
}

// Published has everybody get it.
func (m *member) Published(s calls.Source) {
	m.room.mu.Lock()
	m.has[s.Track().ID] = s
	m.room.mu.Unlock()
	m.room.change()
}

// Unpublished takes it from everybody.
func (m *member) Unpublished(track string) {
	m.room.mu.Lock()
	delete(m.has, track)
	m.room.mu.Unlock()
	m.room.change()
}

// Quality is nobody's concern here.
func (m *member) Quality(*wire.CallQuality) {}

// Connected is not, either.
func (m *member) Connected(wire.CallDescription_Connection, bool) {}
