package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/interest"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/regions"
)

// regionWait is how long another region may take to say who is where.
const regionWait = 2 * time.Second

// Fixes returns the last fix of each device, and each user's last post, in a
// room, as its members may know them, without what lapsed or was withdrawn. This
// region's owner has those of the regions that it follows; the others are asked
// by themselves. Of a region that does not answer nothing is there.
func (r *Realtime) Fixes(ctx context.Context, room string) ([]*wire.MemberFix, error) {
	fixes, _, err := r.locate(ctx, room)
	return fixes, err
}

// locate is Fixes that says which regions did not answer.
func (r *Realtime) locate(ctx context.Context, room string) (fixes []*wire.MemberFix, unreached []string, err error) {
	list, err := r.listFixes(ctx, room)
	if err != nil {
		return nil, nil, err
	}
	all := newest{}
	all.add(list)
	var mu sync.Mutex
	var far sync.WaitGroup
	for _, region := range r.Cluster.Others() {
		owner := r.Hub.OwnerIn(region, room)
		if slices.Contains(list.Regions, string(region)) {
			continue
		}
		if owner == "" {
			mu.Lock()
			unreached = append(unreached, string(region))
			mu.Unlock()
			continue
		}
		far.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, regionWait)
			defer cancel()
			list, err := r.askFixes(ctx, owner, room)
			if err != nil {
				r.log.DebugContext(ctx, "a region does not say where its people are", "to", owner, "err", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if all.add(list); err != nil {
				unreached = append(unreached, string(region))
			}
		})
	}
	far.Wait()
	slices.Sort(unreached)
	return all.list(), unreached, nil
}

// listFixes asks this region's owner of a room.
func (r *Realtime) listFixes(ctx context.Context, room string) (*peer.FixList, error) {
	list, owner, here := r.Hub.Fixes(room)
	switch {
	case here:
		return list, nil
	case owner == "":
		return nil, errNoOwner
	}
	list, err := r.askFixes(ctx, owner, room)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoOwner, err)
	}
	return list, nil
}

func (r *Realtime) askFixes(ctx context.Context, owner regions.NodeID, room string) (*peer.FixList, error) {
	a, err := r.call(ctx, owner, &peer.Call{Body: &peer.Call_ListFixes{ListFixes: &peer.ListFixes{Room: room}}})
	if err != nil {
		return nil, err
	}
	if a.GetFixList() == nil {
		return nil, errNoOwner
	}
	return a.GetFixList(), nil
}

// newest keeps the newest fix of each device.
type newest map[[2]string]*wire.MemberFix

func (all newest) add(list *peer.FixList) {
	for _, f := range list.GetFixes() {
		k := [2]string{f.GetUser(), f.GetDevice()}
		if old := all[k]; f.GetFix().GetPoint() != nil && (old == nil || f.Epoch > old.Epoch || f.Epoch == old.Epoch && f.Fix.N > old.Fix.N) {
			all[k] = f
		}
	}
}

func (all newest) list() []*wire.MemberFix {
	var out []*wire.MemberFix
	for _, f := range all {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *wire.MemberFix) int {
		return cmp.Or(strings.Compare(a.User, b.User), strings.Compare(a.Device, b.Device))
	})
	return out
}

var _ interest.Rooms = (*Realtime)(nil)

// ---------------------------------------------------------------- core asks the edge

// live is the realtime side as core/location sees it.
type live struct {
	rt      *Realtime
	changes *sharingChanges
}

var _ location.Live = live{}

func (l live) Report(_ context.Context, user core.UserID, name string, raw grant.Raw, groups []core.GroupID) error {
	rooms := make([]string, len(groups))
	for i, g := range groups {
		rooms[i] = g.Room()
	}
	return l.rt.Sharer.Post(user.String(), name, raw, rooms)
}

func (l live) Withdraw(ctx context.Context, user core.UserID) error {
	return l.changes.withdraw(ctx, user.String())
}

// Room returns where people are; of each the newest that one of their devices
// said.
func (l live) Room(ctx context.Context, room string) (location.Found, error) {
	fixes, unreached, err := l.rt.locate(ctx, room)
	if err != nil {
		return location.Found{}, err
	}
	var out []location.Sight
	now := time.Now()
	for _, f := range fixes {
		user, err := core.ParseUserID(f.User)
		until := edge.Lapses(f.Fix)
		if err != nil || !now.Before(until) {
			continue
		}
		s := location.Sight{User: user, View: viewOf(f.Fix), Until: until}
		if n := len(out); n == 0 || out[n-1].User != user {
			out = append(out, s)
		} else if s.View.Captured.After(out[n-1].View.Captured) {
			out[n-1] = s
		}
	}
	return location.Found{Sights: out, Unreached: unreached}, nil
}

func viewOf(f *wire.Fix) grant.View {
	v := grant.View{
		Point: geo.Point{Lat: f.GetPoint().GetLat(), Lng: f.GetPoint().GetLng()}, Precision: grant.Exact,
		Accuracy: f.GetAccuracy(), Captured: f.GetCaptured().AsTime(), Cell: geo.Cell(f.GetCell()),
	}
	if v.Cell != 0 {
		v.Precision = grant.Cells(v.Cell.Resolution())
	}
	for to, from := range map[*grant.Reading]*float32{&v.Speed: f.Speed, &v.Heading: f.Heading, &v.Battery: f.Battery} {
		if from != nil {
			*to = grant.Read(*from)
		}
	}
	return v
}

func (l live) Own(user core.UserID) (grant.Raw, bool) { return l.rt.Sharer.Own(user.String()) }

func (l live) Near(ctx context.Context, viewer core.UserID, fleet core.FleetID, center geo.Point, radius float64, limit int) (out location.Found, err error) {
	layer := ""
	if fleet != (core.FleetID{}) {
		layer = fleet.String()
	}
	found, err := l.rt.Map.Near(ctx, viewer.String(), layer, center, radius, limit)
	if err != nil {
		return out, err
	}
	out.More = found.More
	for _, r := range found.Unreached {
		out.Unreached = append(out.Unreached, string(r))
	}
	for _, p := range found.People {
		s := location.Sight{Name: p.Name, View: p.View, Until: p.View.Captured.Add(edge.FixLife)}
		if p.View.Cell != 0 {
			s.Until = s.Until.Add(edge.CoarseLife)
		}
		if layer == "" {
			s.User, err = core.ParseUserID(p.User)
		} else {
			s.Subject = edge.SubjectOf(p.User)
		}
		if err == nil {
			out.Sights = append(out.Sights, s)
		}
	}
	return out, nil
}

// ---------------------------------------------------------------- the edge asks core

// sharing is core/location, and for the subjects of fleets core/fleets, as the edge
// sees it. Of subjects nothing is kept or noted.
type sharing struct {
	store    *location.Store
	recorder *location.Recorder
	fleets   fleetChoices
}

func (s sharing) Sharing(ctx context.Context, user string, min uint64) (edge.Choices, error) {
	if fleet := edge.FleetOf(user); fleet != "" {
		return s.fleets.of(ctx, fleet, min)
	}
	id, err := core.ParseUserID(user)
	if err != nil {
		return edge.Choices{}, err
	}
	c, err := s.store.Sharing(ctx, id, min)
	if err != nil {
		return edge.Choices{}, err
	}
	return edge.Choices{Set: c.Grants, Version: c.Version, Track: c.Track, Withdrawn: c.Withdrawn, Memory: c.Memory, Memories: c.Memories}, nil
}

func (s sharing) Keep(user string, raw grant.Raw) {
	if id, err := core.ParseUserID(user); err == nil {
		s.recorder.Keep(id, raw)
	}
}

func (s sharing) Remember(user string, memory []byte, version uint64) {
	if id, err := core.ParseUserID(user); err == nil {
		s.recorder.Remember(id, memory, version)
	}
}

func (s sharing) Told(room, subject string, p grant.Precision, from, until time.Time) {
	if id, err := core.ParseUserID(subject); err == nil {
		s.recorder.Told(room, id, p, from, until)
	}
}

func (s sharing) Saw(room, viewer string, from, until time.Time) {
	if id, err := core.ParseUserID(viewer); err == nil {
		s.recorder.Saw(room, id, from, until)
	}
}

func (s sharing) Read(viewer, subject, how string, p grant.Precision, at time.Time) {
	who, err := core.ParseUserID(viewer)
	whom, other := core.ParseUserID(subject)
	if err == nil && other == nil {
		s.recorder.Read(who, whom, how, p, at)
	}
}

// blocks is core/friends as the edge sees it. Answers are kept for a moment, and
// until a block is told.
type blocks struct {
	friends *friends.Store

	mu      sync.Mutex // guards the following
	kept    map[string]blocked
	changes uint64 // that were told
}

type blocked struct {
	at    time.Time
	users map[string]bool
}

const (
	blocksFor  = 10 * time.Second
	blocksMost = 10_000
)

func newBlocks(f *friends.Store) *blocks { return &blocks{friends: f, kept: map[string]blocked{}} }

func (b *blocks) Blocked(ctx context.Context, viewer string) (map[string]bool, error) {
	if edge.FleetOf(viewer) != "" { // there are no terms with those
		return nil, nil
	}
	now := time.Now()
	b.mu.Lock()
	k, ok := b.kept[viewer]
	changes := b.changes
	b.mu.Unlock()
	if ok && now.Sub(k.at) < blocksFor {
		return k.users, nil
	}
	id, err := core.ParseUserID(viewer)
	if err != nil {
		return nil, err
	}
	ids, err := b.friends.Hidden(ctx, id)
	if err != nil {
		return nil, err
	}
	k = blocked{now, make(map[string]bool, len(ids))}
	for _, id := range ids {
		k.users[id.String()] = true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changes != changes { // it may be the older answer
		return k.users, nil
	}
	for other := range b.kept { // any: it is asked for again
		if len(b.kept) < blocksMost {
			break
		}
		delete(b.kept, other)
	}
	b.kept[viewer] = k
	return k.users, nil
}

func (b *blocks) forget(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.kept, user)
	b.changes++
}

// sharingChanges satisfies core/location's Announcer: all nodes hear what a user
// changed about who may see them.
type sharingChanges struct {
	tell   *tell
	rt     *Realtime
	blocks *blocks
	rooms  groups.Announcer
	// withdrawn stores that somebody took their position back.
	withdrawn func(ctx context.Context, user core.UserID, at time.Time) error
}

var _ location.Announcer = (*sharingChanges)(nil)

func (s *sharingChanges) SharingChanged(ctx context.Context, user core.UserID, version uint64) {
	s.all(ctx, &peer.SharingChanged{User: user.String(), Version: version})
}

func (s *sharingChanges) MembershipChanged(ctx context.Context, room string, version uint64) {
	s.rooms.MembershipChanged(ctx, room, version)
}

// withdraw has all nodes forget where a user is: those that can be told do it
// before it is stored, the others once they read it.
func (s *sharingChanges) withdraw(ctx context.Context, user string) error {
	at := time.Now()
	s.all(ctx, &peer.SharingChanged{User: user, Withdrawn: timestamppb.New(at)})
	id, err := core.ParseUserID(user)
	if err != nil {
		return err
	}
	return s.withdrawn(ctx, id, at)
}

// limited bounds how often a user's sessions have all nodes called, as the API
// bounds its callers.
func limited(withdraw func(ctx context.Context, user string) error) func(ctx context.Context, user string) error {
	limit := auth.NewLimiter(auth.Limit{Burst: 20, Every: time.Second}, time.Now)
	return func(ctx context.Context, user string) error {
		if err := limit.Allow(user); err != nil {
			return err
		}
		return withdraw(ctx, user)
	}
}

// forget has the other nodes forget where subjects of a fleet were. One that can't
// be told shows them until they lapse.
func (s *sharingChanges) forget(ctx context.Context, fleet string, subjects []string, at time.Time) {
	s.tell.all(ctx, "what a fleet took back", &peer.Call{Body: &peer.Call_SharingChanged{SharingChanged: &peer.SharingChanged{
		User: edge.FleetUser(fleet), Subjects: subjects, Withdrawn: timestamppb.New(at),
	}}})
}

func (s *sharingChanges) all(ctx context.Context, c *peer.SharingChanged) {
	s.heard(c)
	s.tell.all(ctx, "what somebody shares", &peer.Call{Body: &peer.Call_SharingChanged{SharingChanged: c}})
}

// heard applies it on this node.
func (s *sharingChanges) heard(c *peer.SharingChanged) {
	if fleet := edge.FleetOf(c.GetUser()); fleet != "" {
		for _, name := range c.GetSubjects() {
			s.rt.Sharer.Forget(edge.Subject(fleet, name), c.GetWithdrawn().AsTime())
		}
		if len(c.GetSubjects()) > 0 {
			return
		}
		s.rt.Sharer.FleetChanged(fleet, c.GetVersion())
		return
	}
	s.blocks.forget(c.GetUser())
	s.rt.Sessions.BlocksChanged(c.GetUser())
	if c.GetWithdrawn() != nil {
		s.rt.Sharer.Withdraw(c.User, c.Withdrawn.AsTime())
	} else {
		s.rt.Sharer.Changed(c.GetUser(), c.GetVersion())
	}
}

// noChoices is what users share who can choose nothing: what their fixes name.
type noChoices struct{}

func (noChoices) Sharing(context.Context, string, uint64) (edge.Choices, error) {
	set, err := grant.NewSet(nil, nil, false)
	return edge.Choices{Set: set}, err
}

func (noChoices) Keep(string, grant.Raw)          {}
func (noChoices) Remember(string, []byte, uint64) {}
