package node

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
)

// links joins the hub, which speaks peer frames, and the peer links, which
// carry bytes.
type links struct {
	log     *slog.Logger
	peers   *peerlink.Links // set before anything starts
	hub     linkHub         // likewise
	revoke  func(login string)
	garbled atomic.Uint64 // frames that did not decode
}

// linkHub is what the links tell of other nodes; edge/hub is it.
type linkHub interface {
	HandleFrame(from regions.NodeID, f *peer.Frame)
	HandleFixes(from regions.NodeID, f *peer.Fixes)
	LinkUp(to regions.NodeID)
	LinkDown(to regions.NodeID)
	PeerJoined(from regions.NodeID)
	PeerLeft(from regions.NodeID)
}

// Send satisfies edge.Links. A frame that can't be queued is lost together with
// the link, of which Down tells.
func (l *links) Send(to regions.NodeID, f *peer.Frame) {
	b, err := f.MarshalVT()
	if err == nil {
		err = l.peers.Send(to, b)
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
		err = l.peers.SendDatagram(to, b)
	}
	switch {
	case errors.Is(err, peerlink.ErrTooLarge), errors.Is(err, peerlink.ErrDown):
		l.Send(to, &peer.Frame{Body: &peer.Frame_Fixes{Fixes: f}})
	case err != nil:
		l.log.Debug("fixes not sent", "to", to, "err", err)
	}
}

// The rest satisfies peerlink.Handler.

func (l *links) Up(to peerlink.Peer) { l.hub.LinkUp(to.Node) }

func (l *links) Down(to regions.NodeID, _ error) { l.hub.LinkDown(to) }

func (l *links) Joined(from peerlink.Peer) { l.hub.PeerJoined(from.Node) }

func (l *links) Left(from peerlink.Peer) { l.hub.PeerLeft(from.Node) }

func (l *links) Frame(from peerlink.Peer, b []byte) {
	f := new(peer.Frame)
	if err := f.UnmarshalVT(b); err != nil {
		l.garbled.Add(1)
		l.log.Warn("frame of a peer does not decode", "from", from.Node, "err", err)
		return
	}
	l.hub.HandleFrame(from.Node, f)
}

func (l *links) Datagram(from peerlink.Peer, b []byte) {
	var d peer.Datagram
	if err := d.UnmarshalVT(b); err != nil || d.GetFixes() == nil {
		l.garbled.Add(1)
		return
	}
	l.hub.HandleFixes(from.Node, d.GetFixes())
}

func (l *links) Call(_ context.Context, _ peerlink.Peer, b []byte) ([]byte, error) {
	var c peer.Call
	if err := c.UnmarshalVT(b); err != nil {
		l.garbled.Add(1)
		return nil, errs.New(errs.Invalid, "bad_frame", "the call does not decode")
	}
	switch body := c.Body.(type) {
	case *peer.Call_Revoke:
		l.revoke(body.Revoke.GetLogin())
	default:
		return nil, errs.New(errs.Invalid, "unknown_call", "this node does not know that call: are the versions too far apart?")
	}
	return (&peer.Answer{}).MarshalVT()
}
