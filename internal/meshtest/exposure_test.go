package meshtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
	"github.com/mustermesh/muster/internal/node"
)

// canary is where somebody is who tells it only coarsely: neither of its
// numbers is near that of a cell that they tell.
var canary = geo.Point{Lat: 46.05123, Lng: 14.50617}

// finest is the finest resolution that the canary's grants allow.
const finest = 8

// collected is what came out somewhere, by where.
type collected struct {
	mu   sync.Mutex
	text map[string]*bytes.Buffer
}

func (c *collected) add(where, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text[where] == nil {
		c.text[where] = &bytes.Buffer{}
	}
	c.text[where].WriteString(text + "\n")
}

func (c *collected) has(where, what string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text[where] != nil && strings.Contains(c.text[where].String(), what)
}

func (c *collected) writer(where string) io.Writer { return sink{c, where} }

type sink struct {
	c     *collected
	where string
}

func (s sink) Write(b []byte) (int, error) {
	s.c.add(s.where, string(b))
	return len(b), nil
}

var (
	decimals = regexp.MustCompile(`-?\d+\.\d+`)
	integers = regexp.MustCompile(`-?\d{7,20}`)
	words    = regexp.MustCompile(`[0-9a-f]{15,16}`)
	clocks   = regexp.MustCompile(`\d\d:\d\d:\d\d(\.\d+)?`) // of which one in a while is 46.051 s past the minute
)

// betrays returns what of a text tells more of the canary than the finest cell
// does: a number near one of its coordinates, in degrees or millionths, or a
// finer cell that it is in, as text or as a number.
func betrays(text string) string {
	near := func(v, of float64) bool { return math.Abs(v-of) < 0.0006 }
	text = clocks.ReplaceAllString(text, "")
	for _, s := range decimals.FindAllString(text, -1) {
		if v, err := strconv.ParseFloat(s, 64); err == nil && (near(v, canary.Lat) || near(v, canary.Lng)) {
			return s
		}
	}
	cells := map[string]bool{}
	for res := finest + 1; res <= geo.MaxResolution; res++ {
		c, err := h3.CellOf(canary, res)
		if err != nil {
			return err.Error()
		}
		cells[c.String()], cells[strconv.FormatUint(uint64(c), 10)] = true, true
	}
	for _, s := range integers.FindAllString(text, -1) {
		v, err := strconv.ParseFloat(s, 64)
		if err == nil && (near(v/1e6, canary.Lat) || near(v/1e6, canary.Lng) || near(v/1e7, canary.Lat) || near(v/1e7, canary.Lng)) || cells[s] {
			return s
		}
	}
	for _, s := range words.FindAllString(text, -1) {
		if cells[s] {
			return s
		}
	}
	return ""
}

// ask sends a request and collects the answer.
func (c *collected) ask(t *testing.T, who string, u *User, base, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	if u != nil {
		token, err := u.Token(t.Context(), "")
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	c.add(who+": "+method+" "+path, fmt.Sprint(res.Header)+string(b))
	return res.StatusCode, string(b)
}

// listen opens a session of a user in the JSON form, and collects all that a
// node says in it. Its requests are sent as they are.
func (c *collected) listen(t *testing.T, where string, u *User, ws string) (say func(frame string, args ...any)) {
	t.Helper()
	token, err := u.Token(t.Context(), "")
	require.NoError(t, err)
	conn, _, err := websocket.Dial(t.Context(), ws, &websocket.DialOptions{Subprotocols: []string{wire.JSON}})
	require.NoError(t, err)
	conn.SetReadLimit(-1)
	over := make(chan struct{})
	t.Cleanup(func() { _ = conn.CloseNow(); <-over })
	go func() {
		defer close(over)
		for {
			_, b, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			c.add(where, string(b))
		}
	}()
	say = func(frame string, args ...any) {
		require.NoError(t, conn.Write(t.Context(), websocket.MessageText, fmt.Appendf(nil, frame, args...)))
	}
	say(`{"id": 1, "hello": {"version": 1, "token": %q, "device": "ears", "sdk": "test"}}`, token)
	return say
}

// Somebody shares where they are coarsely, with a group, a person, those near
// and by a link, and with nobody else; and says it exactly in every way there is.
// So does a gateway of a subject of a fleet that shows its subjects coarsely.
// Whatever anybody else can get out of the nodes, by any operation of the HTTP
// API, in any frame of a session, in logs, metrics, the answers to operators and
// the database, tells no more than the cells.
func TestNothingTellsMoreThanTheCell(t *testing.T) {
	out := &collected{text: map[string]*bytes.Buffer{}}
	m := StartWith(t, node.MeshConfig{
		Regions: 2, Nodes: 1, Log: slog.New(slog.NewTextHandler(out.writer("log"), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	ana, bo, cy := m.Guest(0, "Ana"), m.Guest(1, "Bo"), m.Guest(0, "Cy")
	group := m.Group(ana, bo)
	api := m.API + "/api/v1"
	post := func(path, body string, args ...any) map[string]any {
		t.Helper()
		status, answer := out.ask(t, "Ana, setting up", ana, m.API, http.MethodPost, "/api/v1"+path, fmt.Sprintf(body, args...))
		require.Less(t, status, 300, answer)
		var v map[string]any
		require.NoError(t, json.Unmarshal([]byte(answer), &v))
		return v
	}
	grant := post("/location/grants", `{"audience": {"kind": "group", "id": %q}, "precision": "r7"}`, group)["grant_id"]
	post("/location/grants", `{"audience": {"kind": "person", "id": %q}, "precision": "r6"}`, bo.ID)
	post("/location/grants", `{"audience": {"kind": "discoverable"}, "precision": "r%d"}`, finest)
	link := post("/location/links", `{"precision": "r7", "expires_in": 3600}`)
	token := fmt.Sprint(link["token"])
	fence := post("/groups/"+group+"/fences", `{"name": "Town", "shape": {"circle": {"center": {"lat": 46.02, "lng": 14.53}, "radius": 9000}}}`)["fence_id"]
	status, answer := out.ask(t, "Ana, setting up", ana, m.API, http.MethodPut, "/api/v1/location/track", `{"enabled": true}`)
	require.Equal(t, http.StatusOK, status, answer)
	// The numbers of the cells are none that betray: else this test could not tell.
	for res := range finest + 1 {
		c, err := h3.CellOf(canary, res)
		require.NoError(t, err)
		p, err := h3.Center(c)
		require.NoError(t, err)
		require.Empty(t, betrays(fmt.Sprintf("%v %v", p.Lat, p.Lng)), "cell of resolution %d", res)
	}
	require.NotEmpty(t, betrays(fmt.Sprintf(`{"lat":%.4f}`, canary.Lat)))
	require.NotEmpty(t, betrays(fmt.Sprintf(`lng: %d`, int(canary.Lng*1e6)+1)))

	ears := out.listen(t, "Bo's session", bo, m.edge.Regions[1].Nodes[0].WS)
	room, direct := client.GroupRoom(group), "direct:"+min(ana.ID, bo.ID)+":"+max(ana.ID, bo.ID)
	ears(`{"id": 2, "join": {"room": %q}}`, room)
	ears(`{"id": 3, "join": {"room": %q}}`, direct)
	m.Eventually("Bo has joined", func() bool { return out.has("Bo's session", room) && out.has("Bo's session", direct) })
	const box = `{"south": 45.5, "west": 14, "north": 46.5, "east": 15}`
	watcher := out.listen(t, "Cy's session", cy, m.edge.Regions[0].Nodes[0].WS)
	watcher(`{"id": 4, "watch": {"watch": 1, "area": %s}}`, box)

	ana.Connect(0, 0, client.Auto)
	atAna := ana.Join(group)
	fleet, key := ana.fleet("r7")
	gate := m.gateway(key, 0, client.Auto)
	step := 0
	move := func() {
		step++
		at := geo.Destination(canary, float64(step*67%360), 9)
		f := client.Fix{Point: at, Accuracy: 4, Speed: new(1.5), Heading: new(90.0)}
		require.NoError(t, atAna.Report(f))
		require.NoError(t, ana.Session.Report(f))
		_, err := gate.Ingest(t.Context(), []client.SubjectFix{{Subject: "bus", Fix: f}})
		require.NoError(t, err)
		out.ask(t, "Ana, moving", ana, m.API, http.MethodPost, "/api/v1/location/update",
			fmt.Sprintf(`{"group_id": %q, "coordinates": {"lat": %v, "lng": %v}, "accuracy": 4, "speed": 1.5}`, group, at.Lat, at.Lng))
	}
	m.Eventually("Bo sees Ana in both rooms, and Cy on the map", func() bool {
		move()
		_, body := out.ask(t, "Cy", cy, m.API, http.MethodGet, "/api/v1/location/nearby?lat=46.05&lng=14.5&radius=5000", "")
		return strings.Count(func() string { out.mu.Lock(); defer out.mu.Unlock(); return out.text["Bo's session"].String() }(), `"cell"`) >= 2 && strings.Contains(body, ana.ID)
	})
	ears(`{"id": 5, "watch": {"watch": 1, "room": %q, "area": %s}}`, room, box)
	ears(`{"id": 6, "nearby": {"center": {"lat": 46.05, "lng": 14.5}, "radius": 20000, "limit": 50}}`)
	ears(`{"id": 7, "list_people": {"room": %q}}`, room)
	ears(`{"id": 8, "send": {"room": %q, "client_id": "a", "body": "hi"}}`, room)
	ears(`{"id": 9, "history": {"room": %q}}`, room)
	ears(`{"id": 10, "report": {"fix": {"point": {"lat": 46, "lng": 14}, "captured": "2001-01-01T00:00:00Z", "n": 1}}}`)
	move()
	m.Eventually("Bo's answers", func() bool {
		return out.has("Bo's session", `"neighbours"`) && out.has("Bo's session", `"view"`) && out.has("Bo's session", `"page"`)
	})
	m.Eventually("Cy watches", func() bool { return out.has("Cy's session", `"view"`) })
	m.Eventually("Bo finds the bus, and Cy, too", func() bool {
		move()
		ears(`{"id": 11, "nearby": {"center": {"lat": 46.05, "lng": 14.5}, "radius": 20000, "fleet": %q}}`, fleet)
		_, body := out.ask(t, "Cy", cy, m.API, http.MethodGet, "/api/v1/location/nearby?lat=46.05&lng=14.5&radius=5000&fleet="+fleet, "")
		return out.has("Bo's session", "fleet:"+fleet+":bus") && strings.Contains(body, `"bus"`)
	})

	// Distances are to the cell, not to where Ana is.
	here := geo.Point{Lat: 46.2, Lng: 14.4}
	out.ask(t, "Bo, moving", bo, m.API, http.MethodPost, "/api/v1/location/update", fmt.Sprintf(`{"coordinates": {"lat": %v, "lng": %v}, "accuracy": 4}`, here.Lat, here.Lng))
	status, answer = out.ask(t, "Bo", bo, m.API, http.MethodGet, "/api/v1/location/proximity/"+group, "")
	require.Equal(t, http.StatusOK, status, answer)
	var near struct {
		Proximities []struct {
			UserID   string  `json:"user_id"`
			Distance float64 `json:"distance"`
		} `json:"proximities"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &near))
	i := slices.IndexFunc(near.Proximities, func(p struct {
		UserID   string  `json:"user_id"`
		Distance float64 `json:"distance"`
	}) bool {
		return p.UserID == ana.ID
	})
	require.GreaterOrEqual(t, i, 0, answer)
	cell, err := h3.CellOf(canary, 7)
	require.NoError(t, err)
	center, err := h3.Center(cell)
	require.NoError(t, err)
	require.InDelta(t, geo.Distance(here, center), near.Proximities[i].Distance, 2)

	// Every operation of the document, by who may see a little and by who may not.
	ids := map[string]string{
		"group_id": group, "user_id": ana.ID, "link": token, "grant_id": fmt.Sprint(grant), "fence_id": fmt.Sprint(fence), "fleet_id": fleet,
	}
	path := func(p string) string {
		return regexp.MustCompile(`\{(\w+)\}`).ReplaceAllStringFunc(p, func(name string) string {
			if id := ids[name[1:len(name)-1]]; id != "" {
				return id
			}
			return "00000000-0000-4000-8000-000000000000"
		})
	}
	walked := 0
	doc := openAPI(t, m.API)
	for _, reads := range []bool{true, false} { // what changes things comes last
		for p, methods := range doc.Paths {
			for method := range methods {
				if (method == "get") != reads || strings.HasSuffix(p, "/auth/logout") {
					continue
				}
				walked++
				full := strings.TrimPrefix(path(p), "/api/v1")
				for who, u := range map[string]*User{"Bo": bo, "Cy": cy, "nobody": nil} {
					query := ""
					if strings.HasSuffix(p, "/nearby") {
						query = "?lat=46.05&lng=14.5&radius=20000&fleet=" + []string{"", fleet}[walked%2]
					}
					out.ask(t, who, u, api, strings.ToUpper(method), full+query, "{}")
				}
			}
		}
	}
	require.Greater(t, walked, 60)
	_, opened := out.ask(t, "whoever has the link", nil, m.API, http.MethodGet, "/api/v1/location/links/"+token, "")
	require.Contains(t, opened, "cell")

	admin := httptest.NewServer(m.Admin(nil, nil))
	defer admin.Close()
	for _, p := range []string{"/metrics", "/healthz", "/readyz", "/ctl/roster", "/ctl/sessions?user=" + ana.ID, "/ctl/room?id=" + room, "/ctl/room?id=" + direct, "/debug/pprof/goroutine?debug=1"} {
		out.ask(t, "operator", nil, admin.URL, http.MethodGet, p, "")
	}
	for _, n := range m.Nodes {
		for _, r := range []string{room, direct, "link:" + fmt.Sprint(link["link_id"])} {
			if list, _, here := n.Hub().Fixes(r); here {
				out.add("rooms of "+string(n.ID()), list.String())
			}
		}
	}
	dump(t, m, out)

	// Ana alone gets her track back, so the search would have found it.
	status, own := out.ask(t, "Ana's own", ana, m.API, http.MethodGet, "/api/v1/location/track/points", "")
	require.Equal(t, http.StatusOK, status, own)
	m.Eventually("Ana's own track has it", func() bool {
		_, own := out.ask(t, "Ana's own", ana, m.API, http.MethodGet, "/api/v1/location/track/points", "")
		return betrays(own) != ""
	})
	out.mu.Lock() // sessions go on
	defer out.mu.Unlock()
	for where, text := range out.text {
		if where != "Ana's own: GET /api/v1/location/track/points" {
			require.Empty(t, betrays(text.String()), "%s:\n%.2000s", where, text)
		}
	}
}

// dump collects all rows of all tables.
func dump(t *testing.T, m *Mesh, out *collected) {
	t.Helper()
	require.NoError(t, m.DB.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT table_name::TEXT FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`)
		if err != nil {
			return err
		}
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, name := range tables {
			rows, err := q.Query(ctx, "SELECT t::TEXT FROM "+pgx.Identifier{name}.Sanitize()+" AS t")
			if err != nil {
				return err
			}
			all, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			out.add("table "+name, strings.Join(all, "\n"))
		}
		return nil
	}))
}
