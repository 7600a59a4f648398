package node

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/host"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/cluster"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/roster"
)

// CallsConfig is what a node needs for calls. Fields without "optional" are needed.
type CallsConfig struct {
	Book media.Book
	// SFU of this node; optional: it takes no calls, and its sessions are in those of
	// other nodes of the region. Capacity is its share of the region's calls; 100.
	SFU      media.SFU
	Capacity uint32
	ICE      media.ICE // optional: clients are told of no TURN servers
	// Times for tests; optional.
	Silence, Idle, DrainDeadline time.Duration
}

// capacity is what the region's roster is told.
func (c *CallsConfig) capacity() uint32 {
	switch {
	case c == nil || c.SFU == nil:
		return 0
	case c.Capacity == 0:
		return 100
	}
	return c.Capacity
}

// calls joins a node's part in calls (media/host) with its links, its region and its
// sessions. It is a run.Service, and satisfies edge.Calls. Without a configuration there
// are no calls.
type calls struct {
	rt   *Realtime
	book media.Book
	host *host.Host // nil: there are none
}

func newCalls(r *Realtime) (*calls, error) {
	c := &calls{rt: r}
	cfg := r.cfg.Calls
	if cfg == nil {
		return c, nil
	}
	c.book = cfg.Book
	var err error
	c.host, err = host.New(host.Config{
		Self: r.cfg.ID, Region: r.region, SFU: cfg.SFU, Book: cfg.Book, ICE: cfg.ICE,
		Places: callPlaces{r.Cluster}, Floor: callFloor{r}, Positions: callPositions{r}, Links: callLinks{r}, World: callWorld{r}, Tell: c.tell,
		Silence: cfg.Silence, Idle: cfg.Idle, DrainDeadline: cfg.DrainDeadline, Log: r.log, Metrics: r.cfg.Metrics,
	})
	return c, err
}

func (c *calls) Start(ctx context.Context) error {
	if c.host == nil {
		return nil
	}
	return c.host.Start(ctx)
}

func (c *calls) Stop() {
	if c.host != nil {
		c.host.Stop()
	}
}

// ---------------------------------------------------------------- sessions

func sessionOf(c edge.Client, as edge.Membership) media.Session {
	m := c.Member()
	name := as.Name
	if name == "" {
		name = m.GetName()
	}
	return media.Session{User: m.GetUser(), Device: m.GetDevice().GetDevice(), Epoch: regions.Epoch(m.GetDevice().GetEpoch()), Name: name, Role: as.Role}
}

// Room satisfies edge.Calls.
func (c *calls) Room(ctx context.Context, call string) (string, error) {
	if c.host == nil {
		return "", media.ErrNoCall
	}
	r, err := c.book.Record(ctx, call)
	return r.Room, err
}

// Ask satisfies edge.Calls.
func (c *calls) Ask(ctx context.Context, client edge.Client, room string, as edge.Membership, r *wire.CallRequest) (*wire.ServerFrame, error) {
	if c.host == nil {
		return nil, media.ErrNoMedia
	}
	return c.host.Ask(ctx, sessionOf(client, as), room, r)
}

// Suspend satisfies edge.Calls.
func (c *calls) Suspend(client edge.Client) {
	if c.host != nil {
		c.host.Suspend(sessionOf(client, edge.Membership{}).ID())
	}
}

// Resume satisfies edge.Calls.
func (c *calls) Resume(client edge.Client) {
	if c.host != nil {
		c.host.Resume(sessionOf(client, edge.Membership{}))
	}
}

// Gone satisfies edge.Calls.
func (c *calls) Gone(client edge.Client, reason wire.Reason) {
	if c.host != nil {
		c.host.Gone(sessionOf(client, edge.Membership{}).ID(), goneFor(reason))
	}
}

// Left satisfies edge.Calls.
func (c *calls) Left(client edge.Client, room string, reason wire.Reason) {
	if c.host != nil {
		c.host.Left(sessionOf(client, edge.Membership{}).ID(), room, goneFor(reason))
	}
}

// goneFor is a reason as participants of a call are told it.
func goneFor(r wire.Reason) string {
	switch r {
	case wire.Reason_TIMED_OUT:
		return "timed_out"
	case wire.Reason_MOVED:
		return "moved"
	case wire.Reason_REMOVED:
		return "removed"
	case wire.Reason_REGION_LOST:
		return "region_lost"
	}
	return "left"
}

// tell gives a session of this node an event of a call.
func (c *calls) tell(to regions.SessionID, e *wire.CallEvent) { c.rt.Sessions.Tell(to, e) }

// ---------------------------------------------------------------- the region's roster

func (c *calls) moved(m regions.CallMove) {
	if c.host != nil {
		c.host.Moved(m)
	}
}

func (c *calls) resync() {
	if c != nil && c.host != nil {
		c.host.Resync()
	}
}

func (c *calls) suspended(id regions.SessionID) {
	if c.host != nil {
		c.host.Suspended(id)
	}
}

func (c *calls) fenced(id regions.SessionID, winning regions.Epoch) {
	if c.host != nil {
		c.host.Fenced(id, winning)
	}
}

func (c *calls) ended(id regions.SessionID, reason wire.Reason) {
	if c.host != nil {
		c.host.Ended(id, goneFor(reason))
	}
}

// changed has all nodes read a call's record anew. It doesn't block.
func (c *calls) changed(ctx context.Context, others *tell, call string) {
	c.reread(call)
	others.later(ctx, "a call", &peer.Call{Body: &peer.Call_CallChange{CallChange: &peer.CallChange{Call: call}}})
}

func (c *calls) reread(call string) {
	if c.host != nil {
		c.host.Reread(call)
	}
}

// callPlaces are the region's, as media/host wants them.
type callPlaces struct{ *cluster.Cluster }

// Hosts satisfies media.Places.
func (p callPlaces) Hosts() (nodes []regions.NodeID) {
	p.View(func(s *roster.State, _ uint64) {
		if s.Calls() == 0 {
			return
		}
		for _, n := range s.Nodes() {
			if n.State != roster.Down && (n.Media > 0 || s.Hosted(n.ID) > 0) {
				nodes = append(nodes, n.ID)
			}
		}
	})
	return nodes
}

// ---------------------------------------------------------------- other nodes

// callLinks carries the frames of calls.
type callLinks struct{ *Realtime }

func (l callLinks) Send(to regions.NodeID, f *peer.CallFrame) {
	l.links.Send(to, &peer.Frame{Body: &peer.Frame_Call{Call: f}})
}

// mediaTag is the head of a peer.Datagram that holds media: field 2, length-delimited.
const mediaTag = 2<<3 | 2

// SendMedia encodes the peer.Datagram by hand: this is done for every packet.
func (l callLinks) SendMedia(to regions.NodeID, b []byte) {
	var frame [1500]byte
	d := append(binary.AppendUvarint(append(frame[:0], mediaTag), uint64(len(b))), b...)
	_ = l.peers.SendDatagram(to, d) // it may be lost, and is asked for again
}

// mediaOf is the media in a datagram; false if it holds something else.
func mediaOf(b []byte) ([]byte, bool) {
	if len(b) < 2 || b[0] != mediaTag {
		return nil, false
	}
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n != uint64(len(b)-1-size) {
		return nil, false
	}
	return b[1+size:], true
}

func (l callLinks) Call(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error) {
	return l.call(ctx, to, c)
}

func (c *calls) linkReset(node regions.NodeID) {
	if c.host != nil {
		c.host.LinkReset(node)
	}
}

func (c *calls) media(from regions.NodeID, b []byte) {
	if c.host != nil {
		c.host.HandleMedia(from, b)
	}
}

// callWorld is what there is of other regions.
type callWorld struct{ *Realtime }

func (w callWorld) Others() []regions.RegionID { return w.Cluster.Others() }

// Nodes are those of a region that are up, else all.
func (w callWorld) Nodes(r regions.RegionID) (nodes []regions.NodeID) {
	standing := w.standingOf(r)
	for _, n := range standing.Nodes {
		if n.State == regions.NodeUp {
			nodes = append(nodes, n.Node.ID)
		}
	}
	for _, n := range standing.Nodes {
		if !slices.Contains(nodes, n.Node.ID) {
			nodes = append(nodes, n.Node.ID)
		}
	}
	return nodes
}

// callPositions are where people are, as the room's members may see them.
type callPositions struct{ *Realtime }

func (p callPositions) Positions(ctx context.Context, room string) (map[string]geo.Point, error) {
	fixes, err := p.Fixes(ctx, room)
	if err != nil {
		return nil, err
	}
	at := map[string]geo.Point{}
	newest := map[string]time.Time{}
	for _, f := range fixes {
		point, t := f.GetFix().GetPoint(), f.GetFix().GetCaptured().AsTime()
		if point == nil || !t.After(newest[f.GetUser()]) {
			continue
		}
		at[f.GetUser()], newest[f.GetUser()] = geo.Point{Lat: point.GetLat(), Lng: point.GetLng()}, t
	}
	return at, nil
}

// callFloor asks a call's home region, which may be this one.
type callFloor struct{ *Realtime }

func (f callFloor) Ask(ctx context.Context, home regions.RegionID, a regions.FloorAsk) (regions.FloorAnswer, error) {
	if home == f.region {
		return f.Cluster.AskFloor(ctx, a)
	}
	return f.there(ctx, home, &peer.Call{Body: &peer.Call_FloorAsk{FloorAsk: &peer.FloorAsk{
		Call: string(a.Call), User: a.Session.User, Device: a.Session.Device, Epoch: uint64(a.Session.Epoch),
		Region: string(a.Region), Node: string(a.Node), Priority: uint32(a.Priority), MaxTalkMs: uint64(a.MaxTalk.Milliseconds()), Released: a.Released,
	}}})
}

func (f callFloor) Release(ctx context.Context, home regions.RegionID, r regions.FloorRelease) (regions.FloorAnswer, error) {
	if home == f.region {
		return f.Cluster.ReleaseFloor(ctx, r)
	}
	return f.there(ctx, home, &peer.Call{Body: &peer.Call_FloorRelease{FloorRelease: &peer.FloorRelease{
		Call: string(r.Call), User: r.Session.User, Device: r.Session.Device, Epoch: uint64(r.Session.Epoch), Node: string(r.Node), Grant: r.Grant,
	}}})
}

func (f callFloor) Take(ctx context.Context, home regions.RegionID, call regions.CallID, grant uint64) (regions.FloorAnswer, error) {
	if home == f.region {
		return f.Cluster.TakeFloor(ctx, call, grant)
	}
	return f.there(ctx, home, &peer.Call{Body: &peer.Call_FloorTake{FloorTake: &peer.FloorTake{Call: string(call), Grant: grant}}})
}

// floorTry is how long one node of the home region may take, before another is asked:
// two attempts fit into a lease.
const floorTry = regions.FloorLease / 2

func (f callFloor) there(ctx context.Context, home regions.RegionID, c *peer.Call) (regions.FloorAnswer, error) {
	err := error(media.ErrFloorUnavailable)
	nodes := callWorld(f).Nodes(home)
	for _, node := range nodes[:min(len(nodes), 2)] {
		ctx, cancel := context.WithTimeout(ctx, floorTry)
		var a *peer.Answer
		a, err = f.call(ctx, node, c)
		cancel()
		if err == nil && a.GetFloor() != nil {
			return floorAnswer(a.GetFloor()), nil
		}
		if _, known := errs.From(err); known && !errors.Is(err, cluster.ErrNoFloor) {
			return regions.FloorAnswer{}, err
		}
	}
	return regions.FloorAnswer{}, errors.Join(media.ErrFloorUnavailable, err)
}

func floorAnswer(f *peer.FloorState) regions.FloorAnswer {
	return regions.FloorAnswer{
		Standing: regions.FloorStanding(f.GetStanding()), Lease: time.Duration(f.GetLeaseMs()) * time.Millisecond,
		Position: int(f.GetPosition()), Waiting: int(f.GetWaiting()), Region: regions.RegionID(f.GetRegion()), Grant: f.GetGrant(),
		Holder: regions.SessionID{User: f.GetUser(), Device: f.GetDevice(), Epoch: regions.Epoch(f.GetEpoch())},
	}
}

// frame takes a frame of another node.
func (c *calls) frame(from peerlink.Peer, f *peer.CallFrame) {
	if c.host != nil {
		c.host.HandleFrame(from.Node, from.Region, f)
	}
}

// answer answers another node's question about calls; nil: it is about something else.
func (c *calls) answer(ctx context.Context, from peerlink.Peer, q *peer.Call) (*peer.Answer, error) {
	var floor regions.FloorAnswer
	var err error
	switch b := q.Body.(type) {
	case *peer.Call_CallAsk:
		if from.Region != c.rt.region || c.host == nil {
			return nil, media.ErrNoMedia
		}
		answer, err := c.host.HandleAsk(ctx, from.Node, b.CallAsk)
		return &peer.Answer{Body: &peer.Answer_CallAnswer{CallAnswer: answer}}, err
	case *peer.Call_CallMeet:
		met := &peer.CallMet{}
		if c.host != nil {
			met = c.host.HandleMeet(ctx, from.Node, b.CallMeet)
		}
		return &peer.Answer{Body: &peer.Answer_CallMet{CallMet: met}}, nil
	case *peer.Call_CallList:
		state := &wire.CallState{}
		if c.host != nil {
			state = c.host.HandleList(ctx, b.CallList)
		}
		return &peer.Answer{Body: &peer.Answer_CallState{CallState: state}}, nil
	case *peer.Call_CallChange:
		c.reread(b.CallChange.GetCall())
		return &peer.Answer{}, nil
	case *peer.Call_FloorAsk:
		a := b.FloorAsk
		floor, err = c.rt.Cluster.AskFloor(ctx, regions.FloorAsk{
			Call: regions.CallID(a.GetCall()), Session: regions.SessionID{User: a.GetUser(), Device: a.GetDevice(), Epoch: regions.Epoch(a.GetEpoch())},
			Region: from.Region, Node: from.Node, Priority: uint8(min(a.GetPriority(), 255)), MaxTalk: time.Duration(min(a.GetMaxTalkMs(), 3_600_000)) * time.Millisecond,
			Released: a.GetReleased(),
		})
	case *peer.Call_FloorRelease:
		r := b.FloorRelease
		floor, err = c.rt.Cluster.ReleaseFloor(ctx, regions.FloorRelease{
			Call: regions.CallID(r.GetCall()), Session: regions.SessionID{User: r.GetUser(), Device: r.GetDevice(), Epoch: regions.Epoch(r.GetEpoch())},
			Node: from.Node, Grant: r.GetGrant(),
		})
	case *peer.Call_FloorTake:
		floor, err = c.rt.Cluster.TakeFloor(ctx, regions.CallID(b.FloorTake.GetCall()), b.FloorTake.GetGrant())
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &peer.Answer{Body: &peer.Answer_Floor{Floor: &peer.FloorState{
		Standing: peer.FloorStanding(floor.Standing), LeaseMs: uint64(floor.Lease.Milliseconds()), Position: uint32(floor.Position), Waiting: uint32(floor.Waiting),
		Grant: floor.Grant, User: floor.Holder.User, Device: floor.Holder.Device, Epoch: uint64(floor.Holder.Epoch), Region: string(floor.Region),
	}}}, nil
}

// participants are who is in a call now, in all regions that answer.
func (c *calls) participants(ctx context.Context, call string) []*wire.CallParticipant {
	if c.host == nil {
		return nil
	}
	return c.host.Participants(ctx, call)
}
