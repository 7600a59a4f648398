package node

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/cluster"
	"github.com/mustermesh/muster/regions/peerlink"
	"github.com/mustermesh/muster/regions/roster"
)

// links joins the realtime side, which speaks peer frames, and the peer links,
// which carry bytes.
type links struct {
	log      *slog.Logger
	rt       *Realtime
	revoke   func(login string)
	presence func(ctx context.Context, user string, invisible bool)
	sharing  func(c *peer.SharingChanged)
	profile  func(user string, version uint64)
	store    func(ctx context.Context, s *peer.StoreMessage) (*peer.Stored, error)
	garbled  atomic.Uint64 // frames that did not decode
}

// Send satisfies edge.Links. A frame that can't be queued is lost together with
// the link, of which Down tells.
func (l *links) Send(to regions.NodeID, f *peer.Frame) {
	b, err := f.MarshalVT()
	if err == nil {
		err = l.rt.peers.Send(to, b)
	}
	if err != nil {
		l.log.Debug("frame not sent", "to", to, "err", err)
	}
}

// SendFixes satisfies edge.Links. Fixes that do not fit a datagram, or come
// before that link is up, go the ordered way: late is better than never.
func (l *links) SendFixes(to regions.NodeID, f *peer.Fixes) {
	d := peer.Datagram{Body: &peer.Datagram_Fixes{Fixes: f}}
	b, err := d.MarshalVT()
	if err == nil {
		err = l.rt.peers.SendDatagram(to, b)
	}
	switch {
	case errors.Is(err, peerlink.ErrTooLarge), errors.Is(err, peerlink.ErrDown):
		l.Send(to, &peer.Frame{Body: &peer.Frame_Fixes{Fixes: f}})
	case err != nil:
		l.log.Debug("fixes not sent", "to", to, "err", err)
	}
}

// The rest satisfies peerlink.Handler.

func (l *links) Up(to peerlink.Peer) {
	l.met(to)
	l.rt.Hub.LinkUp(to.Node)
	l.rt.Map.LinkUp(to.Node)
	l.rt.Cluster.LinkUp(to.Node)
	l.rt.calls.linkReset(to.Node)
}

func (l *links) Down(to regions.NodeID, _ error) {
	l.rt.Hub.LinkDown(to)
	l.rt.Map.LinkDown(to)
	l.rt.calls.linkReset(to)
}

func (l *links) Joined(from peerlink.Peer) {
	l.met(from)
	l.rt.Hub.PeerJoined(from.Node)
}

// met notes who has shown that it is a node of its region, though the topology
// may not name it.
func (l *links) met(p peerlink.Peer) {
	l.rt.cfg.Directory.Met(p.Region, regions.Node{ID: p.Node, Peer: p.Addrs.Peer, HTTP: p.Addrs.HTTP, WS: p.Addrs.WS, WT: p.Addrs.WT})
}

func (l *links) Left(from peerlink.Peer) { l.rt.Hub.PeerLeft(from.Node) }

func (l *links) Frame(from peerlink.Peer, b []byte) {
	f := new(peer.Frame)
	if err := f.UnmarshalVT(b); err != nil {
		l.garbled.Add(1)
		l.log.Warn("frame of a peer does not decode", "from", from.Node, "err", err)
		return
	}
	if slots := f.GetSlots(); slots != nil {
		if slots.GetRegion() == string(from.Region) { // a region speaks for itself
			l.rt.Cluster.HeardSlots(slots)
		}
		return
	}
	if standing := f.GetStanding(); standing != nil {
		if standing.GetRegion() == string(from.Region) {
			l.rt.Cluster.HeardStanding(standing)
		}
		return
	}
	if u := f.GetMapUpdate(); u != nil {
		l.rt.Map.HandleUpdate(from.Node, u)
		return
	}
	if c := f.GetCall(); c != nil {
		l.rt.calls.frame(from, c)
		return
	}
	if fixes := f.GetFixes(); fixes != nil && f.Epoch == 0 { // in a datagram's stead: SendFixes
		l.rt.Hub.HandleFixes(from.Node, fixes)
		return
	}
	l.rt.Hub.HandleFrame(from.Node, f)
}

func (l *links) Datagram(from peerlink.Peer, b []byte) {
	if m, ok := mediaOf(b); ok {
		l.rt.calls.media(from.Node, m)
		return
	}
	var d peer.Datagram
	if err := d.UnmarshalVT(b); err != nil || d.GetFixes() == nil {
		l.garbled.Add(1)
		return
	}
	l.rt.Hub.HandleFixes(from.Node, d.GetFixes())
}

func (l *links) Call(ctx context.Context, from peerlink.Peer, b []byte) ([]byte, error) {
	l.met(from)
	var c peer.Call
	if err := c.UnmarshalVT(b); err != nil {
		l.garbled.Add(1)
		return nil, errs.New(errs.Invalid, "bad_frame", "the call does not decode")
	}
	answer := &peer.Answer{}
	switch body := c.Body.(type) {
	case *peer.Call_Revoke:
		l.revoke(body.Revoke.GetLogin())
	case *peer.Call_PresenceChanged:
		l.presence(ctx, body.PresenceChanged.GetUser(), body.PresenceChanged.GetInvisible())
	case *peer.Call_DeviceMoved:
		m := body.DeviceMoved
		id := regions.SessionID{User: m.GetUser(), Device: m.GetDevice(), Epoch: regions.Epoch(m.GetEpoch())}
		if err := l.rt.Cluster.Moved(ctx, id, from.Region); err != nil {
			return nil, err
		}
	case *peer.Call_HandOver:
		if from.Region != l.rt.region {
			return nil, errs.New(errs.Forbidden, "other_region", "rooms are handed over within a region")
		}
		if err := l.rt.Hub.TakeOver(from.Node, body.HandOver); err != nil {
			return nil, err
		}
	case *peer.Call_ListPeople:
		ask := body.ListPeople
		page, _, here := l.rt.Hub.People(ask.GetRoom(), ask.GetAfter(), int(ask.GetLimit()))
		if !here {
			return nil, errNoOwner
		}
		answer.Body = &peer.Answer_PeoplePage{PeoplePage: page}
	case *peer.Call_StoreMessage:
		stored, err := l.store(ctx, body.StoreMessage)
		if err != nil {
			return nil, err
		}
		answer.Body = &peer.Answer_Stored{Stored: stored}
	case *peer.Call_ListFixes:
		list, _, here := l.rt.Hub.Fixes(body.ListFixes.GetRoom())
		if !here {
			return nil, errNoOwner
		}
		answer.Body = &peer.Answer_FixList{FixList: list}
	case *peer.Call_SharingChanged:
		l.sharing(body.SharingChanged)
	case *peer.Call_ProfileChanged:
		l.profile(body.ProfileChanged.GetUser(), body.ProfileChanged.GetVersion())
	case *peer.Call_MapQuery:
		found, err := l.rt.mapQuery(body.MapQuery)
		if err != nil {
			return nil, err
		}
		answer = found
	case *peer.Call_Update:
		u := body.Update
		if err := l.rt.Hub.Update(u.GetRoom(), u.GetUpdates(), regions.Epoch(u.GetEpoch())); err != nil {
			return nil, err
		}
	case *peer.Call_Notify:
		notified, err := l.rt.notices.heard(ctx, body.Notify)
		if err != nil {
			return nil, err
		}
		answer.Body = &peer.Answer_Notified{Notified: notified}
	default:
		if answer, err := l.rt.calls.answer(ctx, from, &c); err != nil || answer != nil {
			if err != nil {
				return nil, err
			}
			return answer.MarshalVT()
		}
		return nil, errUnknownCall
	}
	return answer.MarshalVT()
}

var errNoOwner = errs.New(errs.Unavailable, edge.CodeRetry, "the room changes its owner right now; try again").After(time.Second)

// hooks are what the region's roster tells this node, in the order of its log.
func (r *Realtime) hooks() cluster.Hooks {
	self := r.cfg.ID
	return cluster.Hooks{
		SlotsMoved: func(moves []regions.SlotMove) {
			r.Hub.SlotsMoved(moves)
			r.Map.SlotsMoved(moves)
		},
		RegionMoved: func(region regions.RegionID, slots []int) {
			r.Hub.RegionMoved(region, slots)
			r.Map.RegionMoved(region, slots)
		},
		OthersChanged: func(others []regions.RegionID) { r.Hub.SetOthers(others) },
		Resync: func() {
			r.Hub.Resync()
			r.Map.Resync()
			r.Sessions.Reconcile(r.held())
			r.calls.resync()
			if r.draining() { // what said so may be among what was skipped
				r.leave()
			}
		},
		NodeChanged: func(n roster.NodeChanged) {
			if n.Node != self && n.State == roster.Down {
				r.Hub.NodeDown()
			}
			if n.Node == self && n.Incarnation == r.incarnation() && n.State == roster.Draining {
				r.leave()
			}
		},
		NodeLost: func() { r.Sessions.NodeLost() },
		SessionFenced: func(node regions.NodeID, id regions.SessionID, winning regions.Epoch) {
			if node == self {
				r.Sessions.Fenced(id, winning)
			}
			r.calls.fenced(id, winning)
		},
		SessionSuspended: func(_ regions.NodeID, id regions.SessionID, rooms []string) {
			r.Hub.SessionSuspended(id, rooms)
			r.calls.suspended(id)
		},
		CallMoved: func(m regions.CallMove) { r.calls.moved(m) },
		SessionEnded: func(node regions.NodeID, id regions.SessionID, rooms []string, reason wire.Reason) {
			r.Hub.SessionEnded(id, rooms, reason)
			if node == self {
				r.Sessions.Ended(id, reason)
			}
			r.calls.ended(id, reason)
		},
	}
}
