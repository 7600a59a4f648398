package hub

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

const (
	checkWorkers  = 4                      // rooms whose memberships are read at the same time
	checkParallel = 8                      // reads at the same time per room
	checkTimeout  = time.Second            // of one read
	checkTries    = 5                      // reads without an answer before those held up are put out
	checkPause    = 200 * time.Millisecond // between them
)

// checks is the list of feeds whose memberships are to be read. A feed is in it
// at most once, so it is bounded by the rooms of this node.
type checks struct {
	mu    sync.Mutex
	feeds []*feed
	more  chan struct{}
}

func (c *checks) init() { c.more = make(chan struct{}, checkWorkers) }

// check puts a feed on the list. The shard is locked.
func (h *Hub) check(fd *feed) {
	if fd.checking {
		return // its end drains the feed, which asks again if that was not enough
	}
	fd.checking = true
	h.checks.put(fd)
}

func (c *checks) put(fd *feed) {
	c.mu.Lock()
	c.feeds = append(c.feeds, fd)
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default: // every worker has been told
	}
}

func (c *checks) take() *feed {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.feeds) == 0 {
		return nil
	}
	fd := c.feeds[0]
	c.feeds[0] = nil
	c.feeds = c.feeds[1:]
	return fd
}

func (h *Hub) runChecks(ctx context.Context) {
	for {
		fd := h.checks.take()
		if fd == nil {
			select {
			case <-ctx.Done():
				return
			case <-h.checks.more:
			}
			continue
		}
		again := h.readMembers(ctx, fd)
		if ctx.Err() != nil {
			return
		}
		if again {
			select {
			case <-ctx.Done():
				return
			case <-time.After(checkPause):
			}
			h.checks.put(fd)
		}
	}
}

// verdict is core's answer about a user.
type verdict struct {
	version uint64
	name    string
	role    string
	talk    edge.Talk
	out     bool // no member
	unknown bool // core could not say
}

// readMembers asks core about the feed's users and acts on the answers. It
// reports whether it must be done again.
func (h *Hub) readMembers(ctx context.Context, fd *feed) bool {
	t := h.begin(fd.room)
	verdicts := map[string]*verdict{}
	need := max(fd.version, fd.need)
	for _, l := range fd.locals {
		if !fd.holding || l.version < need {
			verdicts[l.member.User] = &verdict{}
		}
	}
	for _, j := range fd.joins {
		if j.version < need {
			verdicts[j.req().Member.User] = &verdict{}
		}
	}
	t.end()

	var g errgroup.Group
	g.SetLimit(checkParallel)
	for user, v := range verdicts {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			m, err := h.cfg.Members.Member(ctx, user, fd.room, need)
			switch {
			case err == nil:
				v.version, v.name, v.role, v.talk = max(m.Version, need), m.Name, m.Role, m.Talk
			case errors.Is(err, errNotMember):
				v.out = true
			default:
				v.unknown = true
				h.log.DebugContext(ctx, "membership can't be read", "room", fd.room, "error", err)
			}
			return nil
		})
	}
	_ = g.Wait() // the answers are in the verdicts

	t = h.begin(fd.room)
	again := t.judge(fd, verdicts)
	t.end()
	if again {
		return true
	}
	// A turn of its own: those put out have been told before the feed goes on
	// and the owner hears Applied.
	t = h.begin(fd.room)
	fd.tries, fd.checking, fd.holding = 0, false, false
	t.end()
	return false
}

// judge puts out who is no member, and who could not be confirmed for too long.
func (t *turn) judge(fd *feed, verdicts map[string]*verdict) (again bool) {
	open, lapsed := false, false
	if fd.holding {
		fd.tries++
		lapsed = fd.tries >= checkTries
	}
	for _, l := range fd.locals {
		v := verdicts[l.member.User]
		switch {
		case v == nil:
		case v.out, v.unknown && (lapsed || t.now.Sub(l.verified) >= t.h.cfg.Lapse):
			t.putOut(fd, l, v.out)
		case v.unknown:
			open = true
		default:
			l.version, l.name, l.role, l.verified = max(l.version, v.version), v.name, v.role, t.now
			if l.talk != v.talk {
				l.stands(v.talk)
				fd.relist()
			}
			t.saw(l)
		}
	}
	for id, j := range fd.joins {
		v := verdicts[j.req().Member.User]
		switch {
		case v == nil:
		case v.out, v.unknown && lapsed:
			delete(fd.joins, id)
			t.refuse(j, v.out)
		case v.unknown:
			open = true
		default:
			j.version, j.name, j.role, j.talk, j.at = max(j.version, v.version), v.name, v.role, v.talk, t.now
		}
	}
	if open && fd.holding {
		return true
	}
	if fd.checked = t.now; open {
		fd.checked = t.now.Add(-t.h.cfg.Recheck + t.h.cfg.Recheck/4) // sooner than usual
	}
	return false
}

// putOut removes a session whose user is no member any more, or whose
// membership has lapsed.
func (t *turn) putOut(fd *feed, l *local, known bool) {
	reason := wire.Reason_REMOVED
	if !known {
		reason = wire.Reason_TIMED_OUT
	}
	t.takeOut(fd, l)
	t.change(l.member, wire.State_LEFT, reason)
	room := t.room
	t.after = append(t.after, func() { l.client.Removed(room, reason) })
}

// refuse answers a Join that the owner has granted already.
func (t *turn) refuse(j *join, known bool) {
	err, reason := error(errNotMember), wire.Reason_REMOVED
	if !known {
		err, reason = errRetry, wire.Reason_TIMED_OUT
	}
	t.forgetStay(j.client)
	t.change(j.req().Member, wire.State_LEFT, reason)
	t.after = append(t.after, func() { j.client.Refused(j.re, j.req().Room, err) })
}

// Membership returns a client's standing in a room, as checked at its join or
// since; see edge.Hub.
func (h *Hub) Membership(c edge.Client, room string) (edge.Membership, bool) {
	sh, sl := h.slot(regions.SlotOf(room))
	sh.mu.Lock()
	defer sh.mu.Unlock()
	fd := sl.feeds[room]
	if fd == nil {
		return edge.Membership{}, false
	}
	m := c.Member()
	l := fd.locals[device{m.User, m.Device.Device}]
	if l == nil || l.client != c || time.Since(l.verified) >= h.cfg.Lapse || fd.holding && l.version < fd.need {
		return edge.Membership{}, false
	}
	return edge.Membership{Role: l.role, Name: l.name, Version: l.version, Talk: l.talk}, true
}

// sweep has memberships read again that were not for a while, and forgets what
// was said long ago.
func (h *Hub) sweep(s *shard, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.slots {
		sl := &s.slots[i]
		sl.expirePosts(now)
		maps.DeleteFunc(sl.said, func(_ string, at time.Time) bool { return now.Sub(at) >= saidKeep })
		for _, fd := range sl.feeds {
			if len(fd.locals) > 0 && now.Sub(fd.checked) >= h.cfg.Recheck {
				h.check(fd)
			}
		}
	}
}

// waiter waits until the region has applied a membership version of a room.
type waiter struct {
	version uint64
	done    chan struct{}
}

// MembershipChanged tells the region that a room's membership has a new
// version, and returns when all its nodes have put out who is no member any
// more. It gives up after 2 s: a node that could not be reached lets its
// memberships lapse. Other regions hear of it through the room's feed.
func (h *Hub) MembershipChanged(ctx context.Context, room string, version uint64) error {
	t := h.begin(room)
	w := &waiter{version, make(chan struct{})}
	t.sl.waiters[room] = append(t.sl.waiters[room], w)
	t.toOwner(membershipChanged(room, version))
	now := t.now
	t.end()
	h.cfg.Activity.Touch(room, now)

	timer := time.NewTimer(applyWait)
	defer timer.Stop()
	var err error
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		h.log.WarnContext(ctx, "membership change was not applied in time", "room", room, "version", version)
	}
	t = h.begin(room)
	t.dropWaiters(func(other *waiter) bool { return other == w })
	t.end()
	return err
}

func membershipChanged(room string, version uint64) *peer.Frame {
	return &peer.Frame{Body: &peer.Frame_MembershipChanged{
		MembershipChanged: &peer.MembershipChanged{Room: room, Version: version},
	}}
}

// wake ends the waits that a version satisfies.
func (t *turn) wake(version uint64) {
	t.dropWaiters(func(w *waiter) bool {
		if w.version > version {
			return false
		}
		close(w.done)
		return true
	})
}

func (t *turn) dropWaiters(which func(*waiter) bool) {
	if left := slices.DeleteFunc(t.sl.waiters[t.room], which); len(left) > 0 {
		t.sl.waiters[t.room] = left
	} else {
		delete(t.sl.waiters, t.room)
	}
}
