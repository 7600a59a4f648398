package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/edge/room"
	"github.com/mustermesh/muster/regions"
)

const (
	handOvers = 32              // slots at the same time: the region takes their moves as one
	giveWait  = 2 * time.Second // for what is given while the slot stands still
	// stageLife is how long a whole slot that was given may be gone on with. If
	// nobody knows whether a move was made, its owner stands still for longer.
	stageLife = 3 * time.Second
	stageIdle = 30 * time.Second // half a slot is forgotten after
)

// ErrRefused is in the chain of commit's error (see HandOver) if the region
// will not make that move any more: it moved the slot before, or the node can't
// have it. After any other error it may still happen.
var ErrRefused = errors.New("the region refused the move")

// Give brings a part of a room to the TakeOver of the node that gets the slot.
type Give func(ctx context.Context, to regions.NodeID, part *peer.HandOver) error

// Commit has the region make a move.
type Commit func(ctx context.Context, m regions.SlotMove) error

// HandOver gives slots of this node, with all their rooms, to other nodes: the
// rooms as they are, then, while the slot stands still, what has changed since;
// then the region makes the move, and the new owner goes on under the next epoch
// where this one stopped. The epoch of a move is the one that the slot has. A
// slot that could not be moved stays, and the error says why.
func (h *Hub) HandOver(ctx context.Context, moves []regions.SlotMove, give Give, commit Commit) error {
	var g errgroup.Group
	g.SetLimit(handOvers)
	var mu sync.Mutex
	var failed []error
	for _, m := range moves {
		g.Go(func() error {
			if err := h.handOver(ctx, m, give, commit); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("hand over slot %d to %s: %w", m.Slot, m.To, err))
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in failed
	return errors.Join(failed...)
}

var errNotOurs = errors.New("the slot is not ours to give")

func (h *Hub) handOver(ctx context.Context, m regions.SlotMove, give Give, commit Commit) error {
	attempt := h.attempts.Add(1)
	send := func(part *peer.HandOver) error {
		part.Slot, part.Epoch, part.Attempt = uint32(m.Slot), uint64(m.Epoch), attempt
		return give(ctx, m.To, part)
	}
	firsts := map[string]*peer.HandOver{}
	for _, id := range h.roomsOf(m.Slot) {
		first := h.export(id, m)
		if first == nil {
			continue
		}
		if err := send(first); err != nil {
			return err
		}
		firsts[id] = first
	}

	late, tails, over := h.freeze(m, firsts)
	if over == nil {
		return errNotOurs
	}
	h.metrics.handovers.Inc()
	given := ctx
	ctx, cancel := context.WithTimeout(given, giveWait)
	defer cancel()
	for _, first := range late {
		if err := send(first); err != nil {
			h.thaw(m)
			return err
		}
	}
	for i, tail := range tails {
		tail.Last = i == len(tails)-1
		if err := send(tail); err != nil && !tail.Last {
			h.thaw(m)
			return err
		} else if err != nil {
			return h.recall(given, m, give, over, err)
		}
	}
	if err := commit(ctx, m); errors.Is(err, ErrRefused) {
		return h.recall(given, m, give, over, err)
	} else if err != nil {
		return h.doubt(given, m, over, err)
	}
	select { // so that the next plan doesn't have it again
	case <-over:
	case <-ctx.Done():
	}
	return nil // it stands still until the move is told
}

// recall has the other node forget what it was given, for a move that won't be.
func (h *Hub) recall(given context.Context, m regions.SlotMove, give Give, over <-chan struct{}, cause error) error {
	ctx, cancel := context.WithTimeout(given, giveWait)
	defer cancel()
	err := give(ctx, m.To, &peer.HandOver{Slot: uint32(m.Slot), Epoch: uint64(m.Epoch), Attempt: h.attempts.Add(1)})
	if err != nil {
		return h.doubt(given, m, over, cause)
	}
	h.thaw(m)
	return cause
}

// doubt waits until it is certain that nobody will go on with what was given.
// Were the slot to go on here before, what it numbers could be missed by those
// who hear of the new owner first, and nobody would know. When ctx ends before,
// the slot stays frozen: this node is on its way out.
func (h *Hub) doubt(ctx context.Context, m regions.SlotMove, over <-chan struct{}, cause error) error {
	timer := time.NewTimer(stageLife + stageLife/2)
	defer timer.Stop()
	select {
	case <-over: // it was made after all, or the slot is somebody else's
		return nil
	case <-ctx.Done():
		return cause
	case <-timer.C:
	}
	h.thaw(m)
	return cause
}

func (h *Hub) roomsOf(slot int) []string {
	sh, sl := h.slot(slot)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ids := make([]string, 0, len(sl.rooms))
	for id := range sl.rooms {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// export returns a room as it is; nil if it is not ours any more.
func (h *Hub) export(id string, m regions.SlotMove) *peer.HandOver {
	t := h.begin(id)
	defer t.end()
	if o := t.owned(); o != nil && t.sl.epoch == m.Epoch {
		return o.Export(nil)
	}
	return nil
}

// freeze brings a slot of ours to a halt and returns what has changed in its
// rooms since they were exported first; late are rooms that were not. The
// channel is closed when the slot has another epoch; nil: it is not ours.
func (h *Hub) freeze(m regions.SlotMove, firsts map[string]*peer.HandOver) (late, tails []*peer.HandOver, over chan struct{}) {
	sh, sl := h.slot(m.Slot)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := &turn{h: h, sh: sh, sl: sl, now: time.Now()}
	if sl.owner != h.cfg.Self || sl.epoch != m.Epoch || sl.over != nil || !t.current() {
		return nil, nil, nil
	}
	for id, o := range sl.rooms {
		first := firsts[id]
		if first == nil {
			first = o.Export(nil)
			late = append(late, first)
		}
		tails = append(tails, o.Export(first))
	}
	sl.over = make(chan struct{})
	return late, tails, sl.over
}

// thaw lets a slot go on that is still ours.
func (h *Hub) thaw(m regions.SlotMove) {
	sh, sl := h.slot(m.Slot)
	now := time.Now()
	sh.mu.Lock()
	if sl.over == nil || sl.epoch != m.Epoch {
		sh.mu.Unlock()
		return
	}
	held := sl.waiting
	sl.over, sl.waiting = nil, nil
	touched := map[string]bool{}
	for _, w := range held {
		touched[w.room] = true
		(&turn{h: h, sh: sh, sl: sl, room: w.room, now: now}).resume(w)
	}
	for id, o := range sl.rooms {
		t := &turn{h: h, sh: sh, sl: sl, room: id, now: now}
		if touched[id] = true; o.behind && t.owned() != nil {
			t.catchUp(o)
		}
	}
	sh.mu.Unlock()
	for id := range touched {
		h.begin(id).end()
	}
}

// stage is what another node gave us of a slot that it hands over.
type stage struct {
	from    regions.NodeID
	epoch   regions.Epoch
	attempt uint64
	rooms   map[string]*given
	whole   bool
	at      time.Time // the last part
}

type given struct{ first, tail *peer.HandOver }

// of returns the rooms that can be gone on with, when the slot is about to get
// its next epoch: its owner gave all of them, and just now.
func (s *stage) of(sl *slot, now time.Time) map[string]*given {
	if s == nil || !s.whole || s.from != sl.owner || s.epoch != sl.epoch || now.Sub(s.at) > stageLife {
		return nil
	}
	return s.rooms
}

// TakeOver takes a part of a room whose owner hands it over to this node.
func (h *Hub) TakeOver(from regions.NodeID, part *peer.HandOver) error {
	n, id, epoch := int(part.GetSlot()), part.GetRoom(), regions.Epoch(part.GetEpoch())
	if n >= regions.Slots || id != "" && regions.SlotOf(id) != n || h.cfg.Roster.RegionOf(from) != h.cfg.Region {
		return fmt.Errorf("room %q of slot %d is not %s's to give", id, n, from)
	}
	sh, sl := h.slot(n)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sl.stage
	switch {
	case epoch < sl.epoch, epoch == sl.epoch && from != sl.owner:
		return fmt.Errorf("slot %d is not %s's any more", n, from)
	case s == nil, epoch > s.epoch, from != s.from, part.Attempt > s.attempt:
		s = &stage{from: from, epoch: epoch, attempt: part.Attempt, rooms: map[string]*given{}}
		sl.stage = s
	case epoch < s.epoch, part.Attempt < s.attempt:
		return fmt.Errorf("slot %d was given again since", n)
	}
	s.at = time.Now()
	switch g := s.rooms[id]; {
	case id == "": // what came before is void
	case !part.Tail:
		s.rooms[id] = &given{first: part}
	case g == nil:
		return fmt.Errorf("room %q of slot %d has no beginning", id, n)
	default:
		g.tail = part
		s.whole = part.Last
	}
	return nil
}

// expireStages forgets what was given for moves that never came.
func expireStages(s *shard, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.slots {
		if st := s.slots[i].stage; st != nil && now.Sub(st.at) > stageIdle {
			s.slots[i].stage = nil
		}
	}
}

// goOn continues a room that was given to us under the slot's new epoch.
func (t *turn) goOn(g *given) {
	if g.tail == nil {
		return // it was forgotten there meanwhile
	}
	stays := t.h.cfg.Roster.Stays(t.room)
	r, effects, err := room.Import(t.h.room.Load(), g.first, g.tail, t.sl.epoch, stays, t.now)
	if err != nil {
		t.h.log.Warn("a room that was handed over begins anew", "room", t.room, "err", err)
		return
	}
	o := t.own(r)
	t.apply(o, 0, effects)
	t.h.metrics.continued.Inc()
}
