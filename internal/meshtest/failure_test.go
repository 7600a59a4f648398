package meshtest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/edge/session"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/internal/simnet"
)

// hasty is a mesh in which a dead connection and a dead node are soon noticed.
func hasty(t *testing.T, regions, nodes int) *Mesh {
	return StartWith(t, node.MeshConfig{
		Regions: regions, Nodes: nodes,
		Session: session.Config{Ping: 500 * time.Millisecond, Grace: 6 * time.Second},
	})
}

// owner returns the number of the node that owns the group's room in a region.
func (m *Mesh) owner(region int, group string) int {
	id := m.OwnerOf(region, group)
	for i, n := range m.Topology.Regions[region].Nodes {
		if n.ID == id {
			return i
		}
	}
	m.t.Fatalf("no node %s", id)
	return 0
}

// nodeAt is a place in Mesh.Nodes.
func (m *Mesh) nodeAt(region, number int) int {
	return region*len(m.Topology.Regions[0].Nodes) + number
}

// admit makes others members of a group.
func (u *User) admit(group string, others ...*User) {
	u.mesh.t.Helper()
	i, err := u.Invite(u.mesh.t.Context(), group)
	require.NoError(u.mesh.t, err)
	for _, o := range others {
		_, err = o.API.Join(u.mesh.t.Context(), i.InviteCode)
		require.NoError(u.mesh.t, err)
	}
}

func bodies(r *client.Room) (all []string) {
	for _, m := range r.Messages() {
		all = append(all, m.Body)
	}
	return all
}

// A node that dies takes nobody with it who can go elsewhere: such a session
// moves to another node of its region without a leave. One that can't is gone
// for everybody once the grace time is over.
func TestAKilledNode(t *testing.T) {
	t.Parallel()
	m := hasty(t, 2, 3)
	watcher := m.Guest(0, "Watcher")
	far := m.Guest(1, "Far").Connect(1, 0, client.Auto)
	group := m.Group(watcher, far)
	dies := (m.owner(0, group) + 1) % 3 // not the owner
	stays := (dies + 1) % 3
	watcher.Connect(0, stays, client.Auto)
	mover, stuck := m.Guest(0, "Mover"), m.Guest(0, "Stuck")
	watcher.admit(group, mover, stuck)
	mover.ConnectTo(client.WebTransportOnly, m.Endpoint(0, dies), m.Endpoint(0, stays))
	stuck.ConnectTo(client.WebSocketOnly, m.Endpoint(0, dies))
	rooms := []*client.Room{watcher.Join(group), far.Join(group), mover.Join(group)}
	stuck.Join(group)
	for _, r := range rooms {
		m.Eventually("all are there", func() bool { return len(r.Members()) == 4 })
	}
	at := geo.Point{Lat: 46.05, Lng: 14.5}
	require.NoError(t, rooms[2].Report(client.Fix{Point: at}))
	for _, r := range rooms {
		m.Eventually("all know where Mover is", func() bool { f, ok := FixOf(r, mover.ID); return ok && f.Point == at })
	}
	left := watchForLeaves(t, rooms[1], mover.ID)

	m.Kill(m.nodeAt(0, dies))
	for i, r := range rooms {
		m.Eventually(fmt.Sprintf("Mover is elsewhere, says room %d", i), func() bool {
			got, ok := Member(r, mover.ID)
			return ok && got.Live() && len(got.Devices) == 1 && got.Devices[0].Node == string(m.Topology.Regions[0].Nodes[stays].ID)
		})
		m.Eventually("Stuck has left", func() bool { _, ok := Member(r, stuck.ID); return !ok })
	}
	require.Empty(t, left(), "Mover never left")
	for _, r := range rooms {
		f, ok := FixOf(r, mover.ID)
		require.True(t, ok && f.Point == at, "and is where it was")
	}
	_, err := rooms[2].Send(t.Context(), "still here")
	require.NoError(t, err)
	for _, r := range rooms {
		m.Eventually("it is heard", func() bool { return fmt.Sprint(bodies(r)) == "[still here]" })
	}
}

// The owner of a room dies and comes back as a new incarnation that knows
// nothing. What was acknowledged meanwhile is heard by everybody, once.
func TestAnOwnerThatRestarts(t *testing.T) {
	t.Parallel()
	t.Run("with a session on it", func(t *testing.T) { ownerRestarts(t, true) })
	t.Run("without", func(t *testing.T) { ownerRestarts(t, false) })
}

func ownerRestarts(t *testing.T, onIt bool) {
	m := hasty(t, 2, 3)
	ana := m.Guest(0, "Ana")
	group := m.Group(ana)
	owner := m.owner(0, group)
	a, b := (owner+1)%3, (owner+2)%3
	ana.Connect(0, a, client.Auto)
	bo, far := m.Guest(0, "Bo").Connect(0, b, client.Auto), m.Guest(1, "Far").Connect(1, 0, client.Auto)
	users := []*User{ana, bo, far}
	if onIt {
		users = append(users, m.Guest(0, "Cy").ConnectTo(client.Auto, m.Endpoint(0, owner), m.Endpoint(0, a)))
	}
	for _, u := range users[1:] {
		ana.admit(group, u)
	}
	rooms := make([]*client.Room, len(users))
	for i, u := range users {
		rooms[i] = u.Join(group)
	}
	for i, r := range rooms {
		m.Eventually("all are there", func() bool { return len(r.Members()) == len(users) })
		require.NoError(t, r.Report(client.Fix{Point: geo.Point{Lat: float64(i + 1), Lng: 1}}))
	}
	_, err := rooms[0].Send(t.Context(), "before")
	require.NoError(t, err)
	for _, r := range rooms {
		m.Eventually("all know all", func() bool { return len(r.Messages()) == 1 && len(r.Fixes()) == len(users) })
	}

	atAna, atFar := watchForLeaves(t, rooms[0], bo.ID), watchForLeaves(t, rooms[2], ana.ID)
	m.Kill(m.nodeAt(0, owner))
	_, err = rooms[0].Send(t.Context(), "while the owner is away")
	require.NoError(t, err, "SQL has it")
	if onIt {
		m.Eventually("Cy is back", func() bool {
			s := users[3].Session.Status()
			return s.Phase == client.Live && s.Node == string(m.Topology.Regions[0].Nodes[a].ID)
		})
	} else {
		<-time.After(5 * time.Second) // the links have noticed
	}
	last := geo.Point{Lat: 9, Lng: 9}
	require.NoError(t, rooms[0].Report(client.Fix{Point: last}))
	require.NoError(t, m.Restart(t.Context(), m.nodeAt(0, owner)))

	for i, r := range rooms {
		m.Eventually("everybody has the message at "+users[i].Name, func() bool { return len(r.Messages()) == 2 })
		require.Equal(t, []string{"before", "while the owner is away"}, bodies(r))
		m.Eventually("everybody is there for "+users[i].Name, func() bool { return len(r.Members()) == len(users) })
		m.Eventually("and where they were for "+users[i].Name, func() bool {
			f, ok := FixOf(r, ana.ID)
			return ok && f.Point == last && len(r.Fixes()) == len(users)
		})
	}
	require.Empty(t, atAna(), "nobody left who was there all the time")
	require.Empty(t, atFar())
	_, err = rooms[1].Send(t.Context(), "after")
	require.NoError(t, err)
	for _, r := range rooms {
		m.Eventually("everybody hears what comes now", func() bool { return len(r.Messages()) == 3 })
	}
	// A newcomer finds all of it, also where those are who have not moved.
	dee := m.Guest(1, "Dee")
	ana.admit(group, dee)
	atDee := dee.Connect(1, 2, client.Auto).Join(group)
	m.Eventually("Dee sees everybody, and all fixes", func() bool {
		return len(atDee.Members()) == len(users)+1 && len(atDee.Fixes()) == len(users)
	})
}

// A session that goes to another region takes its last fix along, though its
// user stays where they are.
func TestTheLastFixMovesAlong(t *testing.T) {
	t.Parallel()
	m := hasty(t, 3, 1)
	ana, bo := m.Guest(0, "Ana"), m.Guest(1, "Bo")
	ana.ConnectTo(client.Auto, m.Endpoint(0, 0), m.Endpoint(1, 0))
	group := m.Group(ana, bo)
	atAna := ana.Join(group)
	at := geo.Point{Lat: 46.05, Lng: 14.5}
	require.NoError(t, atAna.Report(client.Fix{Point: at}))
	m.Eventually("the node has the fix", func() bool { f, ok := FixOf(atAna, ana.ID); return ok && f.Point == at })
	m.Eventually("and it is confirmed", func() bool { return ana.Session.Counters().FixRepeats > 0 })

	m.Kill(0) // and with it all that knew
	m.Eventually("Ana is in Bo's region", func() bool {
		a, ok := Member(atAna, ana.ID)
		return ok && a.Live() && a.Devices[0].Region == m.Region(1)
	})
	atBo := bo.Connect(1, 0, client.Auto).Join(group)
	m.Eventually("who comes later sees where Ana is", func() bool { f, ok := FixOf(atBo, ana.ID); return ok && f.Point == at })
}

// Every datagram in five is lost between the regions; positions never go back,
// and the last one arrives.
func TestFixesOverALossyNetwork(t *testing.T) {
	t.Parallel()
	m := StartWith(t, node.MeshConfig{
		Regions: 2, Nodes: 2, Net: simnet.Config{Loss: 0.2, Jitter: 30 * time.Millisecond, Seed: 7},
	})
	ana, bo, late := m.Guest(0, "Ana").Connect(0, 0, client.Auto), m.Guest(1, "Bo").Connect(1, 0, client.Auto), m.Guest(1, "Late")
	group := m.Group(ana, bo, late)
	atAna, atBo := ana.Join(group), bo.Join(group)
	m.Eventually("Bo sees Ana", func() bool { return len(atBo.Members()) == 2 })

	var atLate *client.Room
	const fixes = 60
	for i := range fixes {
		require.NoError(t, atAna.Report(client.Fix{Point: geo.Point{Lat: 40, Lng: float64(i)}}))
		if i == fixes/2 {
			atLate = late.Connect(1, 1, client.Auto).Join(group)
		}
		<-time.After(30 * time.Millisecond)
	}
	for _, r := range []*client.Room{atBo, atLate} {
		m.Eventually("the last one arrives", func() bool { f, ok := FixOf(r, ana.ID); return ok && f.Point.Lng == fixes-1 })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		before := -1.0
		for e := range r.Events(ctx) {
			if f, ok := e.(client.FixChanged); ok && f.Fix.User == ana.ID {
				require.GreaterOrEqual(t, f.Fix.Point.Lng, before, "never backwards")
				before = f.Fix.Point.Lng
			}
		}
		cancel()
	}
	require.NotZero(t, m.Net.Stats().Lost)
}

// A mesh that was stopped leaves no goroutine behind.
func TestAStoppedMeshLeavesNothing(t *testing.T) {
	ours := func() (n int, all string) {
		buf := make([]byte, 4<<20)
		all = string(buf[:runtime.Stack(buf, true)])
		for g := range strings.SplitSeq(all, "\n\n") {
			if strings.Contains(g, "mustermesh/muster/") && !strings.Contains(g, "testing.") && !strings.Contains(g, "/client.") {
				n++
			}
		}
		return n, all
	}
	before, _ := ours()
	m := Start(t, 2, 2)
	ana, bo := m.Guest(0, "Ana").Connect(0, 0, client.WebSocketOnly), m.Guest(1, "Bo").Connect(1, 1, client.WebTransportOnly)
	group := m.Group(ana, bo)
	atAna := ana.Join(group)
	bo.Join(group)
	m.Eventually("they see each other", func() bool { return len(atAna.Members()) == 2 })
	m.Stop()
	deadline := time.Now().Add(5 * time.Second)
	for {
		after, all := ours()
		if after <= before {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after:\n%s", before, after, all)
		}
		runtime.Gosched()
		<-time.After(20 * time.Millisecond)
	}
}

// A node that is started again at once, as after a crash or a deploy, has its
// sessions back without a leave, but for those who don't come back: they are
// gone after the grace time, although the node is there.
func TestANodeThatIsStartedAgain(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(m *Mesh, i int){
		"after a crash": func(m *Mesh, i int) { m.Kill(i) },
		"after a stop":  func(m *Mesh, i int) { m.Nodes[i].Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			// A node starts again in a second, or in six on a machine that has others to
			// serve: the grace time is half of the one that is shipped, not a fifth of it.
			m := StartWith(t, node.MeshConfig{
				Regions: 2, Nodes: 2,
				Session: session.Config{Ping: 500 * time.Millisecond, Grace: 15 * time.Second},
			})
			watcher := m.Guest(0, "Watcher")
			group := m.Group(watcher)
			stays := m.owner(0, group)
			again := 1 - stays
			watcher.Connect(0, stays, client.Auto)
			far, back, gone := m.Guest(1, "Far").Connect(1, 1, client.Auto), m.Guest(0, "Back"), m.Guest(0, "Gone")
			watcher.admit(group, far, back, gone)
			back.ConnectTo(client.Auto, m.Endpoint(0, again))
			gone.ConnectTo(client.Auto, m.Endpoint(0, again))
			rooms := []*client.Room{watcher.Join(group), far.Join(group), back.Join(group)}
			gone.Join(group)
			for _, r := range rooms {
				m.Eventually("all are there", func() bool { return len(r.Members()) == 4 })
			}
			left := watchForLeaves(t, rooms[0], back.ID)
			epoch := back.Session.Status().Epoch

			end(m, m.nodeAt(0, again))
			m.Eventually("the connection is lost", func() bool { return gone.Session.Status().Phase == client.Reconnecting })
			gone.Session.Close()
			require.NoError(t, m.Restart(t.Context(), m.nodeAt(0, again)))
			m.Eventually("Back is back", func() bool {
				s := back.Session.Status()
				return s.Phase == client.Live && s.Epoch > epoch
			})
			_, err := rooms[2].Send(t.Context(), "back")
			require.NoError(t, err)
			for _, r := range rooms {
				m.Eventually("is heard", func() bool { return fmt.Sprint(bodies(r)) == "[back]" })
				m.Eventually("and the other is gone", func() bool {
					_, there := Member(r, gone.ID)
					b, ok := Member(r, back.ID)
					return !there && ok && b.Live() && len(r.Members()) == 3
				})
			}
			require.Empty(t, left(), "Back never left")
		})
	}
}
