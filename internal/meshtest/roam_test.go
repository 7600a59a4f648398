package meshtest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/regions/roster"
)

// hole is a device's way to the regions, some of which can be a black hole to
// it: dials hang, and connections neither close nor bring anything any more.
// The regions hear each other all the same.
type hole struct {
	dialer *client.Dialer
	mu     sync.Mutex
	lost   map[string]bool
}

func (h *hole) lose(region string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost[region] = true
}

func (h *hole) isLost(region string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost[region]
}

func (h *hole) dial(ctx context.Context, ep client.Endpoint) (client.Conn, error) {
	if h.isLost(ep.Region) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	c, err := h.dialer.Connect(ctx, ep)
	if err != nil {
		return nil, err
	}
	return &holed{Conn: c, hole: h, region: ep.Region}, nil
}

type holed struct {
	client.Conn
	hole   *hole
	region string
}

func (c *holed) Receive(ctx context.Context, handle func([]byte)) error {
	err := c.Conn.Receive(ctx, func(b []byte) {
		if !c.hole.isLost(c.region) {
			handle(b)
		}
	})
	if c.hole.isLost(c.region) {
		<-ctx.Done()
	}
	return err
}

func (c *holed) Write(ctx context.Context, b []byte) error {
	if c.hole.isLost(c.region) {
		return nil
	}
	return c.Conn.Write(ctx, b)
}

func (c *holed) Datagram(b []byte) error {
	if c.hole.isLost(c.region) {
		return nil
	}
	return c.Conn.Datagram(b)
}

func (c *holed) Close(number int) {
	if c.hole.isLost(c.region) {
		return // nobody hears of it; it ends with the mesh
	}
	c.Conn.Close(number)
}

// roamer is somebody whose device can go anywhere.
type roamer struct {
	*User
	*hole
	mu    sync.Mutex
	moves []client.Move
}

func (r *roamer) told() []client.Move {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]client.Move(nil), r.moves...)
}

// roam connects a user with the whole list, the given regions first.
func (u *User) roam(first ...string) *roamer {
	t := u.mesh.t
	t.Helper()
	pins, err := u.mesh.edge.Pins()
	require.NoError(t, err)
	r := &roamer{User: u, hole: &hole{dialer: &client.Dialer{CertSHA256: pins}, lost: map[string]bool{}}}
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	u.Session, err = client.Connect(ctx, client.Config{
		Endpoints: u.mesh.edge.Endpoints(first...), Tokens: u.API, Dialer: &client.Dialer{Dial: r.dial},
		OnMove: func(m client.Move) { r.mu.Lock(); r.moves = append(r.moves, m); r.mu.Unlock() },
	})
	require.NoError(t, err)
	t.Cleanup(u.Session.Close)
	return r
}

// sessionIn is what a region's roster has of a user's device.
func (m *Mesh) sessionIn(region int, u *User) (state roster.SessionState, epoch uint64, known bool) {
	for _, n := range m.Nodes {
		if n.Region() == m.Topology.Regions[region].Name && n.Cluster().Current() {
			n.Cluster().View(func(s *roster.State, _ uint64) {
				x, ok := s.Session(u.ID, u.Session.Device())
				if known = ok; ok {
					state, epoch = x.State, uint64(x.Epoch)
				}
			})
			return state, epoch, known
		}
	}
	return state, epoch, false
}

// A region becomes a black hole to a device: it goes on in the next one, where
// it was in its rooms. The others see it move; the region that has still been
// waiting for it lets go of it at once, not after the grace time.
func TestADeviceRoams(t *testing.T) {
	t.Parallel()
	m := StartWith(t, node.MeshConfig{Regions: 3, Nodes: 2, Session: session.Config{Grace: time.Hour}})
	ana, bo, cy, dee := m.Guest(0, "Ana"), m.Guest(0, "Bo"), m.Guest(1, "Cy"), m.Guest(2, "Dee")
	group := m.Group(ana, bo, cy, dee)
	bo.Connect(0, 1, client.Auto)
	cy.Connect(1, 0, client.Auto)
	dee.Connect(2, 0, client.Auto)
	roaming := ana.roam(m.Region(0), m.Region(1))
	require.Equal(t, m.Region(0), ana.Session.Status().Region)
	atAna := ana.Join(group)
	others := map[string]*client.Room{"Bo": bo.Join(group), "Cy": cy.Join(group), "Dee": dee.Join(group)}
	at := geo.Point{Lat: 46.05, Lng: 14.5}
	require.NoError(t, atAna.Report(client.Fix{Point: at}))
	_, err := others["Dee"].Send(t.Context(), "before")
	require.NoError(t, err)
	for name, r := range others {
		m.Eventually(name+" knows where Ana is", func() bool { f, ok := FixOf(r, ana.ID); return ok && f.Point == at })
	}
	m.Eventually("Ana has it", func() bool { return len(atAna.Messages()) == 1 && len(atAna.Members()) == 4 })
	left := map[string]func() []client.PresenceChanged{}
	for name, r := range others {
		left[name] = watchForLeaves(t, r, ana.ID)
	}
	before := ana.Session.Status().Epoch

	roaming.lose(m.Region(0))
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	sent, err := atAna.Send(ctx, "still there?")
	require.NoError(t, err)
	t.Logf("answered in another region after %v", time.Since(began).Round(time.Millisecond))
	m.Eventually("Ana is elsewhere", func() bool { return len(roaming.told()) == 1 })
	move := roaming.told()[0]
	require.Equal(t, client.MoveSilent, move.Reason)
	require.Equal(t, m.Region(1), move.ToRegion)
	require.Zero(t, move.Unrecovered, "her position is good there")
	require.Greater(t, move.Epoch, before)

	for name, r := range others {
		m.Eventually(name+" sees her there", func() bool {
			a, ok := Member(r, ana.ID)
			return ok && a.Live() && len(a.Devices) == 1 && a.Devices[0].Region == m.Region(1)
		})
		m.Eventually(name+" has the message", func() bool {
			ms := r.Messages()
			return len(ms) == 2 && ms[1].ID == sent.ID
		})
		f, ok := FixOf(r, ana.ID)
		require.True(t, ok && f.Point == at, "and knows where she is")
	}
	m.Eventually("the region she was in has let her go", func() bool {
		state, epoch, known := m.sessionIn(0, ana)
		return !known || state != roster.Live && state != roster.Suspended || epoch > before
	})
	state, _, known := m.sessionIn(1, ana)
	require.True(t, known && state == roster.Live)
	for name, leaves := range left {
		require.Empty(t, leaves(), "for %s she never left", name)
	}
	require.Equal(t, []string{"before", "still there?"}, bodies(atAna))
	require.Len(t, atAna.Members(), 4)
	_, err = others["Bo"].Send(t.Context(), "after")
	require.NoError(t, err)
	m.Eventually("she hears what comes now", func() bool { return len(atAna.Messages()) == 3 })
}

// The region is lost to the other regions, too, and comes back later. Whoever
// was there goes on elsewhere, without ever having left; when the region is back
// it lets go of them, and nobody goes back.
func TestARegionIsLost(t *testing.T) {
	t.Parallel()
	m := StartWith(t, node.MeshConfig{Regions: 3, Nodes: 2, Session: session.Config{Grace: time.Hour}})
	cy, dee := m.Guest(1, "Cy"), m.Guest(2, "Dee")
	group := m.Group(cy, dee)
	cy.Connect(1, 0, client.Auto)
	dee.Connect(2, 1, client.Auto)
	others := []*client.Room{cy.Join(group), dee.Join(group)}
	const many = 6
	var lost []*roamer
	var rooms []*client.Room
	for i := range many {
		u := m.Guest(1, fmt.Sprint("User ", i))
		cy.admit(group, u)
		lost = append(lost, u.roam(m.Region(0), m.Region(1)))
		rooms = append(rooms, u.Join(group))
		require.NoError(t, rooms[i].Report(client.Fix{Point: geo.Point{Lat: float64(i), Lng: 1}}))
	}
	for _, r := range others {
		m.Eventually("all are there", func() bool { return len(r.Members()) == many+2 && len(r.Fixes()) == many })
	}
	var left []func() []client.PresenceChanged
	for _, u := range lost {
		left = append(left, watchForLeaves(t, others[0], u.ID))
	}

	began := time.Now()
	m.Net.CutBoth(m.Region(0), m.Region(1))
	m.Net.CutBoth(m.Region(0), m.Region(2))
	for _, u := range lost {
		u.lose(m.Region(0))
	}
	for i, u := range lost {
		m.Eventually(u.Name+" is elsewhere", func() bool { return len(u.told()) == 1 })
		require.NotEqual(t, m.Region(0), u.Session.Status().Region)
		m.Eventually("all are there for "+u.Name, func() bool { return len(rooms[i].Members()) == many+2 })
	}
	t.Logf("all are back after %v", time.Since(began).Round(time.Millisecond))
	for _, r := range others {
		m.Eventually("they have moved", func() bool {
			for _, u := range lost {
				a, ok := Member(r, u.ID)
				if !ok || !a.Live() || a.Devices[0].Region != u.Session.Status().Region {
					return false
				}
			}
			return true
		})
		for i, u := range lost {
			f, ok := FixOf(r, u.ID)
			require.True(t, ok && f.Point.Lat == float64(i), "and are where they were")
		}
	}
	_, err := rooms[0].Send(t.Context(), "all here?")
	require.NoError(t, err)

	m.Net.Heal()
	for _, u := range lost {
		m.Eventually("the region that is back lets go of "+u.Name, func() bool {
			state, epoch, known := m.sessionIn(0, u.User)
			return !known || state != roster.Live && state != roster.Suspended || epoch >= u.told()[0].Epoch
		})
	}
	for _, r := range append(others, rooms...) {
		m.Eventually("everybody has it", func() bool { return fmt.Sprint(bodies(r)) == "[all here?]" })
		m.Eventually("and sees everybody", func() bool {
			for _, u := range lost {
				if a, ok := Member(r, u.ID); !ok || !a.Live() || len(a.Devices) != 1 || a.Devices[0].Region != u.Session.Status().Region {
					return false
				}
			}
			return len(r.Members()) == many+2
		})
	}
	for i, leaves := range left {
		require.Empty(t, leaves(), "%s never left", lost[i].Name)
		require.Len(t, lost[i].told(), 1)
	}
}

// A device that finds another region nearer goes there by itself, and nobody
// notices but those who look where it is.
func TestADeviceGoesHome(t *testing.T) {
	t.Parallel()
	m := StartWith(t, node.MeshConfig{Regions: 2, Nodes: 1})
	ana, bo := m.Guest(0, "Ana"), m.Guest(1, "Bo")
	group := m.Group(ana, bo)
	atBo := bo.Connect(1, 0, client.Auto).Join(group)
	moves := make(chan client.Move, 4)
	far := distances{"/" + m.Region(0): 300 * time.Millisecond, "/" + m.Region(1): 0}
	for _, r := range m.edge.Regions {
		u, err := url.Parse(r.Nodes[0].HTTP)
		require.NoError(t, err)
		far[u.Host] = far["/"+r.Name]
	}
	var err error
	ana.Session, err = client.Connect(t.Context(), client.Config{
		Endpoints: m.edge.Endpoints(m.Region(0)), Edges: ana.API, Tokens: ana.API,
		HTTP: &http.Client{Transport: far}, OnMove: func(m client.Move) { moves <- m },
	})
	require.NoError(t, err)
	t.Cleanup(ana.Session.Close)
	ana.Join(group)
	require.Equal(t, m.Region(0), ana.Session.Status().Region)
	m.Eventually("Bo sees her", func() bool { return len(atBo.Members()) == 2 })
	left := watchForLeaves(t, atBo, ana.ID)

	ana.Session.NetworkChanged()
	select {
	case move := <-moves:
		require.Equal(t, client.MoveNearer, move.Reason)
		require.Equal(t, m.Region(1), move.ToRegion)
		require.Zero(t, move.Unrecovered)
		require.Zero(t, move.Gap)
	case <-time.After(Patience):
		t.Fatal("she stays")
	}
	m.Eventually("Bo sees her there", func() bool {
		a, ok := Member(atBo, ana.ID)
		return ok && a.Live() && a.Devices[0].Region == m.Region(1)
	})
	require.Empty(t, left())
}

// distances makes nodes far away for whoever times them, by host.
type distances map[string]time.Duration

func (d distances) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(d[r.URL.Host]):
		return http.DefaultTransport.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}
