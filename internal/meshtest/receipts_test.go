package meshtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
)

// People with two devices each write and read in two rooms; their connections
// break, devices move to another region, leave rooms and come again, and say again
// what they have said, all at random. On no device does anybody's receipt ever go
// back, and in the end all devices, and each region's API, have the same receipts
// and the same count of what is unread: what follows from what was read and written.
// `make prove-receipts` tells more stories.
func TestReceiptsNeverGoBack(t *testing.T) {
	seeds := 2
	if s := os.Getenv("MUSTER_RECEIPTS_SEEDS"); s != "" {
		var err error
		seeds, err = strconv.Atoi(s)
		require.NoError(t, err)
	} else {
		t.Parallel()
	}
	m := Start(t, 2, 2)
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed+1), func(t *testing.T) { tellReceipts(t, m, uint64(seed+1)) })
	}
}

// reader is a person of a story, with what must become of them.
type reader struct {
	id   string
	api  *client.API
	base string // of its nearest node
	mu   sync.Mutex
	read map[string]uint64 // per room: the most that was read or written on any device
}

func (r *reader) has(room string, n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read[room] = max(r.read[room], n)
}

// handset is one device of a reader.
type handset struct {
	*reader
	name    string
	session *client.Session
	region  atomic.Int64 // to which it can connect
	work    sync.WaitGroup

	mu    sync.Mutex // guards the following
	conns []client.Conn
	rooms map[string]*client.Room
	own   map[string]uint64 // read here, per room
	heard map[string]uint64 // the highest message
	seen  map[string]map[string]client.Seen
	back  []string
}

var errElsewhere = errors.New("not from here")

// dial connects as the story has it: to nodes of one region.
func (h *handset) dial(m *Mesh, plain *client.Dialer) func(context.Context, client.Endpoint) (client.Conn, error) {
	return func(ctx context.Context, ep client.Endpoint) (client.Conn, error) {
		if ep.Region != m.Region(int(h.region.Load())) {
			return nil, errElsewhere
		}
		c, err := plain.Connect(ctx, ep)
		if err == nil {
			h.mu.Lock()
			h.conns = append(h.conns, c)
			h.mu.Unlock()
		}
		return c, err
	}
}

// cut breaks the device's connections.
func (h *handset) cut() {
	h.mu.Lock()
	conns := h.conns
	h.conns = nil
	h.mu.Unlock()
	for _, c := range conns {
		c.Close(0)
	}
}

// enter joins a room with what the device knows of it already.
func (h *handset) enter(ctx context.Context, room string) error {
	r, err := h.session.Join(ctx, room)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.rooms[room] = r
	for _, s := range h.seen[room] {
		r.Learn(s)
	}
	if n := h.own[room]; n > 0 {
		r.Read(n) // it may not have been told before the device left
	}
	h.mu.Unlock()
	h.work.Go(func() {
		for e := range r.Events(context.Background()) {
			switch e := e.(type) {
			case client.MessageArrived:
				h.mu.Lock()
				h.heard[room] = max(h.heard[room], e.Message.Number)
				h.mu.Unlock()
			case client.ReceiptsChanged:
				h.take(room, e.Seen)
			}
		}
	})
	return nil
}

func (h *handset) take(room string, list []client.Seen) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen[room] == nil {
		h.seen[room] = map[string]client.Seen{}
	}
	for _, s := range list {
		had := h.seen[room][s.User]
		if s.Read < had.Read || s.Delivered < had.Delivered || s.Read > s.Delivered {
			h.back = append(h.back, fmt.Sprintf("%s: %s from %+v to %+v", h.name, room, had, s))
		}
		h.seen[room][s.User] = s
	}
}

func (h *handset) room(name string) *client.Room {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rooms[name]
}

func (h *handset) leave(ctx context.Context, room string) {
	h.mu.Lock()
	r := h.rooms[room]
	delete(h.rooms, room)
	h.mu.Unlock()
	if r != nil {
		_ = r.Leave(ctx)
	}
}

// readUpTo reads a random message and those before it: often again what was read.
func (h *handset) readUpTo(room string, r *rand.Rand) {
	h.mu.Lock()
	defer h.mu.Unlock()
	in, heard := h.rooms[room], h.heard[room]
	if in == nil || heard == 0 {
		return
	}
	n := 1 + r.Uint64N(heard)
	h.own[room] = max(h.own[room], n)
	h.has(room, n)
	in.Read(n)
}

func tellReceipts(t *testing.T, m *Mesh, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r := rand.New(rand.NewPCG(11, seed))
	pins, err := m.edge.Pins()
	require.NoError(t, err)
	var readers []*reader
	var handsets []*handset
	for i := range 3 {
		p := &reader{read: map[string]uint64{}}
		p.api = client.NewAPI(m.Topology.Regions[0].Nodes[0].HTTP, client.APIConfig{})
		creds, err := p.api.Guest(ctx, fmt.Sprintf("reader %d of %d", i, seed), "meshtest")
		require.NoError(t, err)
		p.id, p.base = creds.UserID, m.Topology.Regions[i%2].Nodes[1].HTTP
		readers = append(readers, p)
	}
	var rooms []string
	for i := range 2 {
		g, err := readers[i].api.CreateGroup(ctx, client.GroupDraft{Name: fmt.Sprintf("Story %d", seed)})
		require.NoError(t, err)
		for j, p := range readers {
			if j != i {
				_, err := p.api.Join(ctx, g.InviteCode)
				require.NoError(t, err)
			}
		}
		rooms = append(rooms, client.GroupRoom(g.GroupID))
	}
	for i, p := range readers {
		for d := range 2 {
			h := &handset{reader: p, name: fmt.Sprintf("device %d of %d", d, i), rooms: map[string]*client.Room{},
				own: map[string]uint64{}, heard: map[string]uint64{}, seen: map[string]map[string]client.Seen{}}
			h.region.Store(int64((i + d) % 2))
			plain := &client.Dialer{Transport: client.Transport(r.IntN(3)), CertSHA256: pins}
			h.session, err = client.Connect(ctx, client.Config{
				Endpoints: m.edge.Endpoints(), Tokens: p.api, Dialer: &client.Dialer{Dial: h.dial(m, plain)}, QueueSize: 1 << 14,
			})
			require.NoError(t, err)
			t.Cleanup(func() { h.session.Close(); h.work.Wait() })
			for _, room := range rooms {
				require.NoError(t, h.enter(ctx, room))
			}
			handsets = append(handsets, h)
		}
	}

	var sends sync.WaitGroup
	for range 150 {
		h, room := handsets[r.IntN(len(handsets))], rooms[r.IntN(2)]
		switch n := r.IntN(20); {
		case n < 8:
			if in := h.room(room); in != nil {
				sends.Go(func() {
					if sent, err := in.Send(ctx, "as people write"); err == nil {
						h.has(room, sent.Number)
					}
				})
			}
		case n < 16:
			h.readUpTo(room, r)
		case n < 17:
			h.cut()
		case n < 18:
			h.region.Store(1 - h.region.Load())
			h.cut()
		case n < 19:
			h.leave(ctx, room)
		default:
			if h.room(room) == nil {
				require.NoError(t, h.enter(ctx, room))
			}
		}
		select {
		case <-time.After(time.Duration(r.IntN(30)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	sends.Wait()
	last := map[string]uint64{}
	for _, h := range handsets {
		for _, room := range rooms {
			if h.room(room) == nil {
				require.NoError(t, h.enter(ctx, room))
			}
			page, more, err := h.room(room).History(ctx, 0, 0, 200)
			require.NoError(t, err)
			require.False(t, more)
			last[room] = page[len(page)-1].Number
			// Who writes has read what was there, also where the answer was lost because
			// the device left the room.
			for _, m := range page {
				for _, p := range readers {
					if p.id == m.Sender {
						p.has(room, m.Number)
					}
				}
			}
		}
	}

	defer func() {
		for _, h := range handsets {
			for _, room := range rooms {
				if t.Failed() {
					t.Logf("%s of %s in %s (region %d) has heard %d, and shows %v", h.name, h.id, room, h.region.Load(), h.heard[room], h.room(room).Receipts())
				}
			}
		}
	}()
	for _, h := range handsets {
		for _, room := range rooms {
			require.Eventually(t, func() bool { return h.agrees(ctx, room, last[room], readers) }, Patience, 50*time.Millisecond,
				"%s of %s in %s, with %d messages", h.name, h.id, room, last[room])
		}
	}
	for _, p := range readers {
		for _, region := range m.Topology.Regions {
			for _, room := range rooms {
				require.Eventually(t, func() bool {
					n, err := unreadOf(ctx, region.Nodes[0].HTTP, p.api, room)
					return err == nil && n == last[room]-p.read[room]
				}, Patience, 50*time.Millisecond, "unread of %s in %s of %s", p.id, room, region.Name)
			}
		}
	}
	for _, h := range handsets {
		h.mu.Lock()
		require.Empty(t, h.back)
		h.mu.Unlock()
	}
}

// agrees reports whether a device shows what is so: who has read how much, and so
// how much its own user has not. What was told while it was away it asks for.
func (h *handset) agrees(ctx context.Context, room string, last uint64, readers []*reader) bool {
	var all struct {
		Receipts []client.Seen `json:"receipts"`
	}
	in := h.room(room)
	if err := get(ctx, h.base, h.api, "/conversations/"+url.PathEscape(room)+"/receipts", &all); err != nil {
		return false
	}
	in.Learn(all.Receipts...)
	now := map[string]client.Seen{}
	for _, s := range in.Receipts() {
		now[s.User] = s
	}
	for _, p := range readers {
		if s := now[p.id]; s.Read != p.read[room] || s.Delivered != last {
			return false
		}
	}
	return true
}

// unreadOf asks a node how much is unread.
func unreadOf(ctx context.Context, base string, api *client.API, room string) (uint64, error) {
	var one struct {
		Unread uint64 `json:"unread"`
	}
	err := get(ctx, base, api, "/conversations/"+url.PathEscape(room), &one)
	return one.Unread, err
}

func get(ctx context.Context, base string, api *client.API, path string, into any) error {
	token, err := api.Token(ctx, "")
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1"+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
