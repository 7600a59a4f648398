package roster

import (
	"bytes"
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/regions"
)

// TestFloorIsNeverHeldByTwo plays people who press and let go, on SFUs that
// count leases as doc.go says, against a region whose commands and answers are
// late, lost or doubled, whose leaders change, and whose clocks differ in origin
// and speed. At no moment do two SFUs forward different sessions. Beside it a
// naive model of the queue says who is next, and when somebody has had enough.
func TestFloorIsNeverHeldByTwo(t *testing.T) {
	var total floorTotals
	for seed := range prove(t) {
		w := newFloorWorld(t, uint64(seed), &total)
		w.run(60 * second)
	}
	t.Logf("%d worlds of a minute: %+v", prove(t), total)
	require.NotZero(t, total.Renewals)
	for _, n := range []int{total.Grants, total.Waits, total.Overs, total.Heirs, total.Shared, total.Leaders, total.LostEntries, total.LostAnswers, total.Doubled, total.Taken, total.Releases} {
		require.Greater(t, n, prove(t)/10)
	}
}

type floorTotals struct {
	Grants, Renewals, Waits, Overs, Heirs, Shared, Releases, Taken int
	Leaders, LostEntries, LostAnswers, Doubled, Refused            int
	HandOvers                                                      int // the floor went to somebody else
	ShortestGapMs                                                  int64
}

const (
	ms     = int64(1000) // of the world's true time
	second = 1000 * ms
)

// ticker is somebody's monotonic clock.
type ticker struct {
	origin int64
	rate   float64
}

func (c ticker) at(now int64) int64 { return c.origin + int64(float64(now)*c.rate) }

type floorEvent struct {
	at, n int64
	do    func()
}

type floorEvents []floorEvent

func (h floorEvents) Len() int           { return len(h) }
func (h floorEvents) Less(i, j int) bool { return cmp.Or(h[i].at-h[j].at, h[i].n-h[j].n) < 0 }
func (h floorEvents) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *floorEvents) Push(x any)        { *h = append(*h, x.(floorEvent)) }
func (h *floorEvents) Pop() any {
	x := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return x
}

type floorWorld struct {
	t      *testing.T
	r      *rand.Rand
	now, n int64
	events floorEvents
	total  *floorTotals

	m       *Machine
	leaders []ticker
	leader  int // -1: none
	term    uint64
	began   int64 // of the term
	pending []*floorEntry
	index   uint64

	sfus    []ticker
	maxTalk uint64
	people  []*person
	streams []*stream
	last    *stream // that forwarded last
	naive   naiveFloor
}

// floorEntry is in the log of the leader, and not committed yet.
type floorEntry struct {
	stamp  regions.Stamp
	c      *peer.RosterCommand
	answer func(*peer.RosterAnswer)
}

// person is a device with a session.
type person struct {
	user     string
	epoch    uint64
	priority uint32
	at       *stream
}

// stream is a session at an SFU, which asks for the floor and forwards.
type stream struct {
	p        *person
	sfu      int
	epoch    uint64
	pressing bool
	since    int64  // asks sent before are void
	grant    uint64 // the last one
	released uint64
	until    int64  // it forwards until then, true time
	held     uint64 // the epoch to which that was granted
}

func newFloorWorld(t *testing.T, seed uint64, total *floorTotals) *floorWorld {
	w := &floorWorld{t: t, r: rand.New(rand.NewPCG(seed, 3)), m: NewMachine("eu"), total: total, term: 1}
	clock := func() ticker {
		return ticker{w.r.Int64N(1000 * second), 1 + (w.r.Float64()-0.5)/125} // ± 0.4 %
	}
	for range 3 {
		w.leaders = append(w.leaders, clock())
	}
	for range 3 {
		w.sfus = append(w.sfus, clock())
	}
	w.maxTalk = []uint64{1500, 4000, 60_000}[w.r.IntN(3)]
	w.naive = naiveFloor{w: w, maxTalk: w.maxTalk}
	for i := range 2 + w.r.IntN(4) {
		p := &person{user: fmt.Sprint("u", i), epoch: 100}
		if w.r.IntN(4) == 0 {
			p.priority = 1
		}
		w.people = append(w.people, p)
		w.connect(p, w.r.IntN(len(w.sfus)))
		w.after(w.upTo(2*second), func() { w.press(p) })
	}
	if w.r.IntN(3) > 0 {
		w.after(w.upTo(10*second), w.loseLeader)
	}
	w.after(second, w.expire)
	return w
}

func (w *floorWorld) upTo(d int64) int64 { return w.r.Int64N(d) + 1 }

// often is small mostly, and long now and then.
func (w *floorWorld) often(d, long int64) int64 {
	if w.r.IntN(20) == 0 {
		return w.upTo(long)
	}
	return w.upTo(d)
}

func (w *floorWorld) after(d int64, do func()) {
	w.n++
	heap.Push(&w.events, floorEvent{w.now + d, w.n, do})
}

func (w *floorWorld) run(d int64) {
	for len(w.events) > 0 && w.events[0].at < d {
		e := heap.Pop(&w.events).(floorEvent)
		w.now = e.at
		e.do()
	}
}

// propose sends a command on its way to the leader; again, perhaps, though the
// first one arrived.
func (w *floorWorld) propose(c *peer.RosterCommand, answer func(*peer.RosterAnswer)) {
	w.after(w.often(100*ms, 5*second), func() { w.arrive(c, answer) })
	if w.r.IntN(10) == 0 {
		w.total.Doubled++
		w.after(w.upTo(5*second), func() { w.arrive(c, answer) })
	}
}

func (w *floorWorld) arrive(c *peer.RosterCommand, answer func(*peer.RosterAnswer)) {
	if w.leader < 0 {
		w.after(100*ms, func() { w.arrive(c, answer) })
		return
	}
	e := &floorEntry{c: c, answer: answer, stamp: regions.Stamp{
		Term: w.term, ClockMs: uint64(w.now/ms) + 1, UptimeMs: uint64(w.leaders[w.leader].at(w.now) / ms),
	}}
	w.after(w.upTo(20*ms), func() { // stamped, not yet in the log: others may overtake it
		if e.stamp.Term != w.term || w.leader < 0 {
			w.total.LostEntries++
			return
		}
		w.pending = append(w.pending, e)
		w.after(w.often(30*ms, second), func() { w.commit(e) })
	})
}

// commit commits an entry and all before it.
func (w *floorWorld) commit(e *floorEntry) {
	at := slices.Index(w.pending, e)
	for _, e := range w.pending[:at+1] {
		w.index++
		a := apply(w.t, w.m, w.index, seal(w.t, e.stamp, e.c))[0]
		w.naive.judge(e, a)
		switch {
		case e.answer == nil:
		case w.r.IntN(20) == 0:
			w.total.LostAnswers++
		default:
			w.after(w.often(100*ms, 3*second), func() { e.answer(a) })
		}
	}
	w.pending = w.pending[at+1:]
	if w.index%200 == 0 { // restarts from a snapshot
		check(w.t, w.m.state)
		b := image(w.t, w.m.state)
		w.m = NewMachine("eu")
		require.NoError(w.t, w.m.Restore(bytes.NewReader(b)))
		require.Equal(w.t, b, image(w.t, w.m.state))
	}
}

func (w *floorWorld) loseLeader() {
	w.total.Leaders++
	// What a majority has by chance is committed by the next one.
	kept := w.pending[:w.r.IntN(len(w.pending)+1)]
	w.total.LostEntries += len(w.pending) - len(kept)
	w.pending, w.leader = nil, -1
	w.after(w.upTo(1500*ms), func() {
		w.pending = kept
		if len(kept) > 0 {
			w.commit(kept[len(kept)-1])
		}
		w.term++
		w.leader, w.began = w.r.IntN(len(w.leaders)), w.now
		w.after(w.upTo(15*second), w.loseLeader)
	})
}

func (w *floorWorld) expire() {
	w.propose(command(&peer.CallExpire{Max: 100, KeepMs: 120_000}), nil)
	w.after(second, w.expire)
}

// connect has a person be at an SFU, with the session that it has.
func (w *floorWorld) connect(p *person, sfu int) {
	old := p.at
	i := slices.IndexFunc(w.streams, func(x *stream) bool { return x.p == p && x.sfu == sfu })
	if i < 0 {
		i = len(w.streams)
		w.streams = append(w.streams, &stream{p: p, sfu: sfu, since: w.now})
	}
	p.at = w.streams[i]
	p.at.epoch = p.epoch // of who is there already silently: the same participant
	if old == nil || old == p.at {
		return
	}
	// Who was there before is given up when the SFU hears of it.
	w.after(w.upTo(3*second), func() {
		if p.at != old {
			w.letGo(old)
		}
	})
	if old.pressing && !p.at.pressing {
		p.at.pressing = true
		w.ask(p.at)
	}
}

func (w *floorWorld) press(p *person) {
	switch w.r.IntN(8) {
	case 0: // another connection
		p.epoch += w.r.Uint64N(3)
		w.connect(p, w.r.IntN(len(w.sfus)))
	case 1: // it moves to another SFU as it is
		w.total.Shared++
		w.connect(p, w.r.IntN(len(w.sfus)))
	case 2:
		if h := w.naive.grant; h > 0 {
			w.propose(command(&peer.FloorTake{Call: "c", Grant: h}), nil)
		}
	default:
		if p.at.pressing {
			w.letGo(p.at)
		} else {
			p.at.pressing = true
			w.ask(p.at)
		}
	}
	w.after(w.upTo(4*second), func() { w.press(p) })
}

func (w *floorWorld) letGo(x *stream) {
	if !x.pressing {
		return
	}
	x.pressing, x.until, x.since, x.released = false, 0, w.now, x.grant
	w.total.Releases++
	w.propose(command(&peer.FloorRelease{
		Call: "c", User: x.p.user, Device: "d", Epoch: x.epoch, Node: fmt.Sprint("m", x.sfu), Grant: x.grant,
	}), nil)
}

// ask is what an SFU does every 500 ms.
func (w *floorWorld) ask(x *stream) {
	if !x.pressing {
		return
	}
	sent, since, epoch := w.now, x.since, x.epoch
	w.propose(command(&peer.FloorAsk{
		Call: "c", User: x.p.user, Device: "d", Epoch: x.epoch, Region: "eu", Node: fmt.Sprint("m", x.sfu),
		Priority: x.p.priority, MaxTalkMs: w.maxTalk, Released: x.released,
	}), func(a *peer.RosterAnswer) {
		if a.Floor.GetStanding() != peer.FloorStanding_FLOOR_YOURS || x.since != since || a.Floor.Grant <= x.released {
			return
		}
		require.Equal(w.t, uint64(2000), a.Floor.LeaseMs)
		x.grant = max(x.grant, a.Floor.Grant)
		// For so long, by its own clock, from before it asked.
		if until := sent + int64(2*float64(second)/w.sfus[x.sfu].rate); until > w.now && epoch == x.epoch {
			w.forward(x, max(x.until, until))
		}
	})
	w.after(500*ms, func() {
		if x.since == since {
			w.ask(x)
		}
	})
}

func (w *floorWorld) forward(x *stream, until int64) {
	for _, o := range w.streams {
		if o == x || o.until <= w.now {
			continue
		}
		same := o.p == x.p && (o.held == x.epoch || o.epoch == x.epoch) // it may have been renewed in place
		require.True(w.t, same, "at %d ms %s@%d is forwarded by SFU %d for %d ms, and %s@%d by SFU %d",
			w.now/ms, o.p.user, o.held, o.sfu, (o.until-w.now)/ms, x.p.user, x.epoch, x.sfu)
	}
	if w.last != nil && w.last.p != x.p {
		w.total.HandOvers++
		if gap := (w.now - w.last.until) / ms; w.last.until > 0 && (w.total.ShortestGapMs == 0 || gap < w.total.ShortestGapMs) {
			w.total.ShortestGapMs = gap
		}
	}
	w.last, x.until, x.held = x, until, x.epoch
}

// naiveFloor is what the log's commands and answers mean, read one by one.
type naiveFloor struct {
	w        *floorWorld
	maxTalk  uint64
	arrivals int
	waiting  []naiveWait
	// The floor as granted last.
	grant      uint64
	user       string
	epoch      uint64
	node       string
	asked      moment
	talked     uint64
	taken      bool
	free       bool   // given back
	most       uint64 // that it had talked when it ended: another leader can't know
	over       bool   // its lease was found to be
	otherAsked *moment
}

type naiveWait struct {
	user     string
	epoch    uint64
	rank     uint32
	arrival  int
	heard    moment
	talkedMs uint64
}

func (f *naiveFloor) since(m moment) uint64 { return f.w.m.state.since(m) }

func (f *naiveFloor) leased() bool {
	if f.grant == 0 || f.over || f.since(f.asked) > 2020 {
		return false
	}
	return !f.free || (f.otherAsked != nil && f.since(*f.otherAsked) <= 2020)
}

func (f *naiveFloor) talk() uint64 { return f.talked + min(f.since(f.asked), 2000) }

// live sorts who waits, without those that were not heard of for 3 s.
func (f *naiveFloor) live() []naiveWait {
	f.waiting = slices.DeleteFunc(f.waiting, func(x naiveWait) bool { return f.since(x.heard) > 3000 })
	slices.SortFunc(f.waiting, func(a, b naiveWait) int { return cmp.Or(cmp.Compare(b.rank, a.rank), a.arrival-b.arrival) })
	return f.waiting
}

// enough has who talked all their time, or was stopped, not be next again.
func (f *naiveFloor) enough() {
	f.most = f.talk()
	if f.taken || f.most >= f.maxTalk {
		f.drop(f.user, 1<<60)
	}
}

func (f *naiveFloor) gaveBack(user string, epoch uint64, node string, grant uint64) {
	if !f.free && !f.over && grant == f.grant && user == f.user && epoch >= f.epoch && node == f.node {
		f.free = true
		f.enough()
	}
}

// look notes what time has brought about, as of a command that does so.
func (f *naiveFloor) look() {
	if f.grant > 0 && !f.free && !f.over {
		if f.over = !f.leased(); f.over {
			f.enough()
		}
	}
	if f.otherAsked != nil && f.since(*f.otherAsked) > 2020 {
		f.otherAsked = nil
	}
}

func (f *naiveFloor) drop(user string, epoch uint64) {
	f.waiting = slices.DeleteFunc(f.waiting, func(x naiveWait) bool { return x.user == user && x.epoch <= epoch })
}

func (f *naiveFloor) judge(e *floorEntry, a *peer.RosterAnswer) {
	t, total := f.w.t, f.w.total
	switch {
	case e.c.GetCallExpire() != nil:
		if f.w.m.state.Floors() == 0 {
			require.True(t, !f.leased() && len(f.live()) == 0, "nobody's floor, they say")
			f.look()
		}
	case e.c.GetFloorTake() != nil:
		if c := e.c.GetFloorTake(); c.Grant == f.grant && f.leased() && !f.free {
			f.live()
			f.look()
			total.Taken++
			f.taken = true
			f.drop(f.user, 1<<60)
		}
	case e.c.GetFloorRelease() != nil:
		c := e.c.GetFloorRelease()
		if a.Code != 0 {
			require.Equal(t, peer.RosterCode_ROSTER_SUPERSEDED, a.Code)
			return
		}
		f.live()
		f.look()
		f.drop(c.User, c.Epoch)
		f.gaveBack(c.User, c.Epoch, c.Node, c.Grant)
	case e.c.GetFloorAsk() != nil:
		f.asks(e.c.GetFloorAsk(), a)
	}
}

func (f *naiveFloor) asks(c *peer.FloorAsk, a *peer.RosterAnswer) {
	t, total := f.w.t, f.w.total
	if a.Code != 0 {
		require.Equal(t, peer.RosterCode_ROSTER_SUPERSEDED, a.Code)
		require.Greater(t, a.Epoch, c.Epoch)
		total.Refused++
		return
	}
	now := f.w.m.state.moment()
	f.look()
	f.gaveBack(c.User, c.Epoch, c.Node, c.Released)
	live := f.live()
	holds := f.leased() && !f.free && f.user == c.User
	others := slices.ContainsFunc(live, func(x naiveWait) bool { return x.user != c.User })
	switch s := a.Floor; s.Standing {
	case peer.FloorStanding_FLOOR_YOURS:
		if s.Grant == f.grant {
			total.Renewals++
			require.True(t, holds && !f.taken, "renewed, and not theirs")
			require.True(t, !others || f.talk() < f.maxTalk, "renewed after its time")
			f.talked = f.talk()
			if f.node != c.Node {
				was := f.asked
				f.otherAsked = &was
			}
		} else {
			total.Grants++
			require.Greater(t, s.Grant, f.grant)
			require.False(t, f.leased(), "granted while another lease runs")
			f.talked = 0
			if len(live) > 0 && live[0].user == c.User {
				f.talked = live[0].talkedMs
			} else {
				require.True(t, len(live) == 0 || live[0].rank < c.Priority, "%s got it before %v", c.User, live)
			}
			f.grant, f.otherAsked, f.taken, f.free, f.over, f.most = s.Grant, nil, false, false, false, 0
		}
		f.user, f.epoch, f.node, f.asked = c.User, c.Epoch, c.Node, now
		f.drop(c.User, 1<<60)
	case peer.FloorStanding_FLOOR_OVER:
		total.Overs++
		require.True(t, f.taken || f.most >= f.maxTalk || (holds && f.talk() >= f.maxTalk), "over before its time")
		require.True(t, f.taken || others, "over, though nobody else wants it")
		require.Equal(t, f.user, c.User)
		f.drop(c.User, 1<<60)
	case peer.FloorStanding_FLOOR_WAITING:
		total.Waits++
		rank := c.Priority
		x := naiveWait{user: c.User, epoch: c.Epoch, rank: rank, arrival: f.arrivals}
		if i := slices.IndexFunc(live, func(o naiveWait) bool { return o.user == c.User }); i >= 0 {
			require.LessOrEqual(t, live[i].epoch, c.Epoch)
			x.rank, x.arrival, x.talkedMs = live[i].rank, live[i].arrival, live[i].talkedMs
		} else if holds {
			require.Greater(t, c.Epoch, f.epoch)
			total.Heirs++
			x.rank, x.talkedMs = 1000, f.talk()
		}
		x.heard = now
		f.arrivals++
		f.drop(c.User, 1<<60)
		f.waiting = append(f.waiting, x)
		at := slices.IndexFunc(f.live(), func(o naiveWait) bool { return o.user == c.User })
		require.Equal(t, at+1, int(s.Position), "%+v", f.waiting)
		require.True(t, f.leased() || at > 0, "waits for nobody")
	default:
		require.Fail(t, "asked, and has no claim")
	}
	require.Equal(t, len(f.live()), int(a.Floor.Waiting))
}

// With everybody pressing all the time, each of one priority has the floor in
// its turn, and nobody waits longer than all the others may talk.
func TestNobodyWaitsForTheFloorForever(t *testing.T) {
	const people, talk, every = 5, 4000, 500
	s := New("eu")
	stamp := regions.Stamp{Term: 1, ClockMs: 1}
	last := map[string]uint64{}
	var turns []string
	for now := uint64(0); now < 600_000; now += 10 {
		stamp.UptimeMs = now
		for i := range people {
			if now%every != uint64(i)*70 {
				continue
			}
			user := fmt.Sprint("u", i)
			c := &peer.FloorAsk{Call: "c", User: user, Device: "d", Epoch: 1, Region: "eu", Node: "m", MaxTalkMs: talk}
			if i == 0 {
				c.Priority = 9 // even who goes before all others has an end
			}
			a, _ := s.Apply(stamp, command(c))
			if a.Floor.Standing != peer.FloorStanding_FLOOR_YOURS {
				continue
			}
			if len(turns) == 0 || turns[len(turns)-1] != user {
				turns = append(turns, user)
			}
			last[user] = now
		}
		for user, at := range last {
			// A turn: talk, the rest of the last renewal, its lease, the next ask.
			if user != "u0" {
				require.Less(t, now-at, uint64(2*people*(talk+every+2020+every)), user)
			}
		}
	}
	// The first of the queue goes before the others, but not twice in a row.
	require.Equal(t, []string{"u0", "u1", "u0", "u2", "u0", "u3", "u0", "u4", "u0", "u1"}, turns[:10])
}
