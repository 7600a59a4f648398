package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/roster"
)

// notices tells users what was changed about them: the outbox's events of a user
// become notices to all sessions that are live, in all regions.
//
//	outbox ─▶ notices ─▶ nodes of this region that have the user, by its roster
//	             ╚══ Notify(region) ══▶ one node of each other region, which does the same
//
// A notice is over when all regions have answered. One that can't be reached holds
// the user's next notice up for noticeWait at most, and when it is away for longer
// than that, not at all: who is there reads again when they connect, or when the
// number of a later notice says that they missed some. A notice is kept for nobody.
//
// It is an outbox.Sink.
type notices struct {
	region   regions.RegionID
	self     regions.NodeID
	current  func() bool                      // this node hears of its region
	read     func(ctx context.Context) error  // brings this node's copy of the roster up to date
	live     func(user string) []regions.Stay // of this region
	local    func(user string, list []*wire.Notice) (sessions int)
	others   func() []regions.RegionID
	standing func(regions.RegionID) regions.Standing
	call     func(ctx context.Context, to regions.NodeID, c *peer.Call) (*peer.Answer, error)
	log      *slog.Logger
	told     *prometheus.CounterVec

	ways ways
}

const (
	noticeWait   = 10 * time.Second // for how long a notice is tried, from when it was committed
	noticeCall   = 2 * time.Second  // a node has so long to answer
	noticeFar    = 4 * time.Second  // and nodes of another region, one after the other
	noticeRead   = time.Second      // the roster is waited for so long
	noticeBatch  = 64               // in one call
	noticeNodes  = 3                // of another region are asked
	noticeRounds = 3                // a session that moves meanwhile is looked for again
)

var errAlone = errs.New(errs.Unavailable, "alone", "this node has no contact to its region; ask another one").After(time.Second)

func newNotices(r *Realtime) *notices {
	n := &notices{
		region: r.region, self: r.cfg.ID, current: r.Cluster.Current, read: r.Cluster.Read,
		local: r.notify, others: r.Cluster.Others, standing: r.standingOf, call: r.call, log: r.log,
		live: func(user string) (list []regions.Stay) {
			r.Cluster.View(func(s *roster.State, _ uint64) {
				for _, x := range s.Sessions(user) {
					if x.State == roster.Live {
						list = append(list, regions.Stay{SessionID: regions.SessionID{User: x.User, Device: x.Device, Epoch: x.Epoch}, Node: x.Node})
					}
				}
			})
			return list
		},
		told: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_notices_total",
			Help: "Notices to users: told, and of them (or once more per region) given_up because nobody could be reached in time.",
		}, []string{"outcome"}),
	}
	if r.cfg.Metrics != nil {
		r.cfg.Metrics.MustRegister(n.told)
	}
	return n
}

// notify tells a user's sessions of this node, and has them heed what the user chose
// about conversations.
func (r *Realtime) notify(user string, list []*wire.Notice) (sessions int) {
	if slices.ContainsFunc(list, func(n *wire.Notice) bool {
		var e core.ConversationEvent // without a room it is of all of them
		return n.GetKind() == core.ConversationUpdated && json.Unmarshal([]byte(n.GetData()), &e) == nil && e.Room == ""
	}) {
		if c, ok := r.cfg.Discreet.(interface{ Chosen(user string) }); ok {
			c.Chosen(user)
		}
		r.Sessions.BlocksChanged(user)
	}
	return r.Sessions.Notify(user, list)
}

// Name satisfies outbox.Sink.
func (n *notices) Name() string { return "sessions" }

// AtOnce satisfies outbox.Wide: telling one user takes a round trip to the farthest
// region.
func (*notices) AtOnce() int { return 256 }

// Send satisfies outbox.Sink. An error has the events sent again, also where they
// were heard: clients know them by their ids.
func (n *notices) Send(ctx context.Context, events []outbox.Sent) error {
	user, ok := strings.CutPrefix(events[0].Key, "user:")
	if !ok {
		n.log.ErrorContext(ctx, "an event of no user", "key", events[0].Key)
		return nil
	}
	for len(events) > 0 {
		some := events[:min(len(events), noticeBatch)]
		list := make([]*wire.Notice, len(some))
		for i, e := range some {
			list[i] = &wire.Notice{
				Id: e.ID.String(), Kind: e.Kind, Data: liveData(e, n.log), At: timestamppb.New(e.At), N: uint64(e.N),
			}
		}
		outcome := "told"
		if err := n.everywhere(ctx, user, list); err != nil {
			if time.Since(some[0].At) < noticeWait || errors.Is(err, errAlone) || ctx.Err() != nil {
				return fmt.Errorf("tell a user: %w", err)
			}
			n.log.WarnContext(ctx, "a notice is given up", "kind", some[0].Kind, "err", err)
			outcome = "given_up"
		}
		n.told.WithLabelValues(outcome).Add(float64(len(some)))
		events = events[len(some):]
	}
	return nil
}

// everywhere tells the sessions of all regions at the same time. Its error is of
// those that should be tried again.
func (n *notices) everywhere(ctx context.Context, user string, list []*wire.Notice) error {
	if !n.current() { // another node's relay does better, and does by and by
		return errAlone
	}
	others := n.others()
	failed := make([]error, len(others)+1)
	var wait sync.WaitGroup
	for i, region := range others {
		wait.Go(func() { failed[i] = n.there(ctx, region, user, list) })
	}
	_, failed[len(others)] = n.near(ctx, user, list)
	wait.Wait()
	return errors.Join(failed...)
}

// near tells the user's sessions of this region. Where they are is as of now, or
// later: who connects after the change reads it. One that moves while its node is
// told is told again.
func (n *notices) near(ctx context.Context, user string, list []*wire.Notice) (sessions int, err error) {
	told := map[regions.SessionID]bool{}
	for range noticeRounds {
		if err := n.bringUpToDate(ctx); err != nil {
			return sessions, err
		}
		on := map[regions.NodeID][]regions.SessionID{}
		for _, s := range n.live(user) {
			if !told[s.SessionID] {
				on[s.Node] = append(on[s.Node], s.SessionID)
			}
		}
		if len(on) == 0 {
			return sessions, nil
		}
		var wait sync.WaitGroup
		var mu sync.Mutex // guards the following
		err = nil
		for node, ids := range on {
			wait.Go(func() {
				got, failed := n.on(ctx, node, user, list)
				mu.Lock()
				defer mu.Unlock()
				if sessions += got; failed != nil {
					err = errors.Join(err, failed)
					return
				}
				for _, id := range ids {
					told[id] = true
				}
			})
		}
		wait.Wait()
	}
	return sessions, err
}

func (n *notices) bringUpToDate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, noticeRead)
	defer cancel()
	if err := n.read(ctx); err != nil {
		return fmt.Errorf("read the roster: %w", err)
	}
	return nil
}

// on tells the sessions of a node of this region.
func (n *notices) on(ctx context.Context, node regions.NodeID, user string, list []*wire.Notice) (sessions int, err error) {
	if node == n.self {
		return n.local(user, list), nil
	}
	return n.notify(ctx, node, &peer.Notify{User: user, Notices: list})
}

func (n *notices) notify(ctx context.Context, node regions.NodeID, what *peer.Notify) (sessions int, err error) {
	ctx, cancel := context.WithTimeout(ctx, noticeCall)
	defer cancel()
	a, err := n.call(ctx, node, &peer.Call{Body: &peer.Call_Notify{Notify: what}})
	if err != nil {
		return 0, err
	}
	return int(a.GetNotified().GetSessions()), nil
}

// there tells the sessions of another region. nil also if it has been away for so
// long that nobody waits for it.
func (n *notices) there(ctx context.Context, region regions.RegionID, user string, list []*wire.Notice) error {
	err := fmt.Errorf("region %s can't be reached", region)
	if n.ways.open(region) {
		what := &peer.Notify{User: user, Notices: list, Region: true}
		reached, failed := n.through(ctx, region, what)
		if failed == nil || ctx.Err() == nil { // else it says nothing of the region
			n.ways.reached(region, reached)
		}
		if reached || ctx.Err() != nil {
			return failed
		}
		err = failed
	}
	if n.ways.lostFor(region) > noticeWait {
		n.told.WithLabelValues("given_up").Add(float64(len(list)))
		return nil
	}
	return err
}

// through has one of a region's nodes tell its sessions. reached: there was one that
// could, or that tried and did not get to all nodes of its own.
func (n *notices) through(ctx context.Context, region regions.RegionID, what *peer.Notify) (reached bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, noticeFar)
	defer cancel()
	err = fmt.Errorf("no node of region %s can be reached", region)
	nodes, asked := n.standing(region).Nodes, 0
	for _, i := range rand.Perm(len(nodes)) {
		if nodes[i].State == regions.NodeDown || asked == noticeNodes {
			continue
		}
		asked++
		_, failed := n.notify(ctx, nodes[i].Node.ID, what)
		if failed == nil {
			return true, nil
		}
		_, tried := errors.AsType[*peerlink.RemoteError](failed)
		reached = reached || tried
		err = errors.Join(err, failed)
	}
	return reached, err
}

// heard takes a Notify of another node.
func (n *notices) heard(ctx context.Context, what *peer.Notify) (*peer.Notified, error) {
	if !what.GetRegion() {
		return &peer.Notified{Sessions: uint32(n.local(what.GetUser(), what.GetNotices()))}, nil
	}
	if !n.current() {
		return nil, errAlone
	}
	sessions, err := n.near(ctx, what.GetUser(), what.GetNotices())
	if err != nil {
		return nil, err
	}
	return &peer.Notified{Sessions: uint32(sessions)}, nil
}
