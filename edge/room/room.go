package room

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// Config is shared by all rooms of a node. The zero value of everything but
// Region works.
type Config struct {
	Region regions.RegionID
	Others []regions.RegionID // the other regions, in a fixed order

	Tick       time.Duration // fixes are merged per tick; 100 ms
	Settle     time.Duration // still for so long: the last fix is repeated; 2 s
	Merge      time.Duration // presence that follows so soon goes into one event; 50 ms, none if negative
	Page       int           // a Part with more people is cut; 256
	Linger     time.Duration // an empty room is remembered so long; 1 min
	ApplyWait  time.Duration // nodes have so long to apply a membership version; 2 s
	Resend     time.Duration // an unanswered Subscribe is repeated after; 5 s
	Unknown    time.Duration // a region that was not heard for so long is told as unreached; 4 s
	RegionLost time.Duration // and after so long its members are dropped; 15 min
	Hold       time.Duration // a Join waits so long for the regions it has positions of; 1.5 s
	RingEvents int           // events kept per region; 256
	RingBytes  int           // and at most so many bytes of frames; 256 KiB
	Orphan     time.Duration // a post is kept so long when the node that keeps it is lost; 30 s
	Observed   bool          // Room.Taken is to be filled
}

// WithDefaults returns the config with zero values replaced.
func (c Config) WithDefaults() Config {
	c.Tick = cmp.Or(c.Tick, 100*time.Millisecond)
	c.Settle = cmp.Or(c.Settle, 2*time.Second)
	c.Merge = cmp.Or(c.Merge, 50*time.Millisecond)
	c.Page = cmp.Or(c.Page, 256)
	c.Linger = cmp.Or(c.Linger, time.Minute)
	c.ApplyWait = cmp.Or(c.ApplyWait, 2*time.Second)
	c.Resend = cmp.Or(c.Resend, 5*time.Second)
	c.Unknown = cmp.Or(c.Unknown, 4*time.Second)
	c.RegionLost = cmp.Or(c.RegionLost, 15*time.Minute)
	c.Hold = cmp.Or(c.Hold, 1500*time.Millisecond)
	c.RingEvents = cmp.Or(c.RingEvents, 256)
	c.RingBytes = cmp.Or(c.RingBytes, 256<<10)
	c.Orphan = cmp.Or(c.Orphan, 30*time.Second)
	return c
}

// Effect is one thing to send. Frames and Fixes are shared between effects and
// with the room's rings: they must not be changed.
type Effect struct {
	Node   regions.NodeID   // to a node of this region, or
	Region regions.RegionID // to the room's owner in another region
	Frame  *peer.Frame      // on the ordered link, or
	Fixes  *peer.Fixes      // by datagram
}

// Stats counts what happened since the counts were last taken.
type Stats struct {
	Events       int // numbered here
	Relayed      int // events of other regions passed on
	FixesIn      int // reports taken
	FixesSent    int // entries in merged frames, once per frame
	Resubscribes int // gaps met in another region's feed
	Lost         int // members dropped with their region
	Dropped      int // inputs that were stale, duplicate or made no sense
}

// Elsewhere is a session of another region.
type Elsewhere struct {
	regions.SessionID
	Region regions.RegionID
	Left   bool
}

// Room is one room. Make it with New.
type Room struct {
	cfg     *Config
	id      string
	version uint64    // of the group's membership, the highest heard of
	last    uint64    // message number, the highest heard of
	change  uint64    // and that of revisions
	raised  time.Time // when one of the three rose last
	roll    roll
	own     *region
	regions []*region // own first, then the others that we follow or that follow us
	hurry   int       // of those that we begin to follow
	nodes   []*node   // of this region, with members here

	fixes    fixes
	posts    []*post   // by user
	lapsing  time.Time // when the first of them may lapse
	typed    typed
	news     news
	applying []applying
	held     []held
	departed map[key]departed // of this region, lately
	used     time.Time        // the last input: an empty room lingers from there

	Stats Stats
	// Elsewhere are sessions that other regions told of since the list was last
	// emptied: where clocks differ this region could else issue a lower epoch for
	// the same device.
	Elsewhere []Elsewhere
	// Taken are fixes that were accepted since the list was last emptied, if
	// Config.Observed says so.
	Taken []Taken
	out   []Effect
}

// Taken is a fix that the room accepted.
type Taken struct {
	Fix *wire.MemberFix
	Own bool // of this region
}

// region is what the room knows of one region's feed.
type region struct {
	id    regions.RegionID
	known bool // the rest is filled in and followed
	epoch uint64
	seq   uint64
	ring  ring
	asked time.Time      // a Subscribe is unanswered since then; zero if none is
	hurry int            // so often it is repeated sooner: the region may not know us yet
	goal  uint64         // the answer goes on up to this seq
	hint  *wire.Position // of a session that joins, while the region is not known
	round uint64         // of the digest that asks instead of a Subscribe
	cut   bool           // the link is down: nothing was asked since
	since time.Time      // it is waited for since then; zero: heard
	told  bool           // as one that can't be reached
	lost  bool           // and its members were dropped
	fresh bool           // it was none of ours until lately, and may have been told as lost

	listens bool      // the owner there follows our own events
	broke   time.Time // when its link broke last, if it listened and has not asked since
}

// node is a node of this region that has members in the room.
type node struct {
	id      regions.NodeID
	members int
	ready   bool   // was answered: gets the feed
	lost    bool   // its link to us is down: not waited for
	applied uint64 // membership version
}

// New returns an empty room. Epoch is the slot's; seq is where its numbering
// begins: above all numbers that an earlier Room of the same id and epoch gave,
// or one position would stand for two events.
func New(cfg *Config, id string, epoch regions.Epoch, seq uint64, now time.Time) *Room {
	r := &Room{cfg: cfg, id: id, used: now, roll: roll{index: map[key]*member{}}}
	r.own = &region{id: cfg.Region, known: true, epoch: uint64(epoch), seq: seq}
	r.regions = append(r.regions, r.own)
	return r
}

// Epoch returns the slot epoch under which the room numbers its events.
func (r *Room) Epoch() regions.Epoch { return regions.Epoch(r.own.epoch) }

// Seq returns the number of the last event of this region.
func (r *Room) Seq() uint64 { return r.own.seq }

// Version returns the highest membership version heard of.
func (r *Room) Version() uint64 { return r.version }

// Len returns the number of members of all regions.
func (r *Room) Len() int { return len(r.roll.sorted) }

// Idle reports whether the room can be forgotten: nobody of this region is in
// it, no other region follows it, and it lingered.
func (r *Room) Idle(now time.Time) bool {
	return r.empty() && !now.Before(r.used.Add(r.cfg.Linger))
}

func (r *Room) empty() bool {
	if r.roll.own > 0 || len(r.nodes) > 0 || len(r.posts) > 0 {
		return false
	}
	for _, g := range r.regions[1:] {
		if g.listens {
			return false
		}
	}
	return true
}

// Publish numbers and spreads a stored message.
func (r *Room) Publish(now time.Time, m *wire.Message) []Effect {
	r.used = now
	if m == nil {
		r.Stats.Dropped++
		return r.take()
	}
	r.raise(now, 0, m.Number, 0)
	r.tell(now)
	r.emit(&wire.Event{Body: &wire.Event_Message{Message: m}})
	return r.take()
}

// Revise numbers and spreads what became of a message, which is stored.
func (r *Room) Revise(now time.Time, v *wire.Revised) []Effect {
	r.used = now
	if v.GetMessage() == nil {
		r.Stats.Dropped++
		return r.take()
	}
	r.raise(now, 0, v.Message.Number, v.Change)
	r.tell(now)
	r.emit(&wire.Event{Body: &wire.Event_Revised{Revised: v}})
	return r.take()
}

// Receive numbers and spreads how far members have got, which is stored.
func (r *Room) Receive(now time.Time, c *wire.Receipts) []Effect {
	r.used = now
	if len(c.GetSeen()) == 0 {
		r.Stats.Dropped++
		return r.take()
	}
	r.emit(&wire.Event{Body: &wire.Event_Receipts{Receipts: c}})
	return r.take()
}

// Cross numbers and spreads a fence's or a meeting's crossing, which is stored.
func (r *Room) Cross(now time.Time, c *wire.Crossing) []Effect {
	r.used = now
	if c == nil {
		r.Stats.Dropped++
		return r.take()
	}
	r.tell(now)
	r.emit(&wire.Event{Body: &wire.Event_Crossing{Crossing: c}})
	return r.take()
}

// Update numbers and spreads something about the group that was changed, and is
// stored.
func (r *Room) Update(now time.Time, u *wire.Update) []Effect {
	r.used = now
	if u == nil {
		r.Stats.Dropped++
		return r.take()
	}
	r.tell(now)
	r.emit(&wire.Event{Body: &wire.Event_Update{Update: u}})
	return r.take()
}

// Last takes the numbers of the room's last stored message and revision, when some
// may have been lost on their way here, and tells everybody.
func (r *Room) Last(now time.Time, l edge.Last) []Effect {
	if r.raise(now, 0, l.Number, l.Change); r.last > 0 {
		r.hint()
	}
	return r.take()
}

// raise takes what somebody knows of the numbers that only grow.
func (r *Room) raise(now time.Time, version, last, change uint64) {
	if version > r.version || last > r.last || change > r.change {
		r.version, r.last, r.change, r.raised = max(r.version, version), max(r.last, last), max(r.change, change), now
	}
}

// hint tells everybody the numbers that stand in no event.
func (r *Room) hint() {
	f := r.numbers()
	r.toNodes(f)
	r.toRegions(f)
}

func (r *Room) numbers() *peer.Frame {
	return &peer.Frame{Body: &peer.Frame_Parts{Parts: &peer.Parts{
		Room: r.id, Version: r.version, LastNumber: r.last, LastChange: r.change, Alone: true,
	}}}
}

// Next returns when Tick has something to do; zero if never.
func (r *Room) Next() time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	sooner(r.news.due())
	sooner(r.fixes.due())
	sooner(r.lapsing)
	for _, a := range r.applying {
		sooner(a.until)
	}
	for _, g := range r.regions[1:] {
		if !g.asked.IsZero() {
			sooner(g.again(r.cfg))
		}
		sooner(g.unheard(r.cfg))
	}
	for _, h := range r.held {
		sooner(h.until)
	}
	if next.IsZero() && r.empty() {
		sooner(r.used.Add(r.cfg.Linger))
	}
	return next
}

// Tick does what is due.
func (r *Room) Tick(now time.Time) []Effect {
	if due(r.news.due(), now) {
		r.tell(now)
	}
	r.lapse(now)
	r.flushFixes(now)
	r.giveUpApplying(now)
	for _, g := range r.regions[1:] {
		if !g.asked.IsZero() && due(g.again(r.cfg), now) {
			g.hurry = max(0, g.hurry-1)
			r.subscribe(now, g)
		}
	}
	r.giveUp(now)
	r.answerHeld(now)
	return r.take()
}

// emit numbers an event of this region and sends it to everyone who follows.
func (r *Room) emit(e *wire.Event) {
	r.own.seq++
	r.Stats.Events++
	e.Room, e.At = r.id, r.own.position()
	f := &peer.Frame{Body: &peer.Frame_Event{Event: &peer.Event{
		Room: r.id, At: e.At, Version: r.version, PriorEpoch: e.PriorEpoch,
		Frame: encode(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: e}}),
	}}}
	r.own.ring.push(f, r.cfg)
	r.toNodes(f)
	r.toRegions(f)
}

func (r *Room) toNode(n regions.NodeID, f *peer.Frame) {
	r.out = append(r.out, Effect{Node: n, Frame: f})
}

func (r *Room) toRegion(g regions.RegionID, f *peer.Frame) {
	r.out = append(r.out, Effect{Region: g, Frame: f})
}

func (r *Room) toNodes(f *peer.Frame) {
	for _, n := range r.nodes {
		if n.ready {
			r.toNode(n.id, f)
		}
	}
}

func (r *Room) toRegions(f *peer.Frame) {
	for _, g := range r.regions[1:] {
		if g.listens {
			r.toRegion(g.id, f)
		}
	}
}

// take returns the effects; they are valid until the next input.
func (r *Room) take() []Effect {
	out := r.out
	r.out = r.out[:0]
	return out
}

// region returns what the room has of a region; nil if it has nothing to do with
// it.
func (r *Room) region(id regions.RegionID) *region {
	for _, g := range r.regions {
		if g.id == id {
			return g
		}
	}
	return nil
}

// other returns another region, of which there may be hundreds: the room knows
// those that it has to do with. nil: there is none of that name.
func (r *Room) other(id regions.RegionID) *region {
	g := r.region(id)
	switch {
	case g == r.own:
		return nil
	case g == nil && slices.Contains(r.cfg.Others, id):
		g = &region{id: id, hurry: r.hurry}
		r.regions = append(r.regions, g)
	}
	return g
}

// others returns all other regions.
func (r *Room) others() []*region {
	if len(r.regions)-1 < len(r.cfg.Others) {
		for _, id := range r.cfg.Others {
			r.other(id)
		}
	}
	return r.regions[1:]
}

func (r *Room) node(id regions.NodeID) *node {
	for _, n := range r.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

func (g *region) position() *wire.Position {
	return &wire.Position{Region: string(g.id), Epoch: g.epoch, Seq: g.seq}
}

// again returns when an unanswered Subscribe is repeated.
func (g *region) again(cfg *Config) time.Time {
	switch {
	case g.round != 0:
		return g.asked.Add(cfg.Resend)
	case g.hurry > 0:
		return g.asked.Add(cfg.Resend / 10)
	case g.cut, g.told: // we are told when it is there again
		return g.asked.Add(cfg.Resend * 6)
	default:
		return g.asked.Add(cfg.Resend)
	}
}

func due(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

func stamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

// encode marshals a frame of our own making, which can't fail.
func encode(f *wire.ServerFrame) []byte {
	b, err := f.MarshalVT()
	if err != nil {
		panic("room: encode frame: " + err.Error())
	}
	return b
}
