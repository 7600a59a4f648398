package sfu

import (
	"context"
	"net/netip"

	"github.com/mustermesh/muster/media"
)

// Server is a node's SFU.
type Server struct {
	opts Options
}

var _ media.SFU = (*Server)(nil)

// New checks the options; Start opens the sockets.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Server{opts: o}, nil
}

// Start opens the sockets. An error says which address could not be had.
func (s *Server) Start(ctx context.Context) error { return nil }

// Stop closes all peers and the sockets, and waits. It may be called at any time.
func (s *Server) Stop() {}

// Addr is the UDP address that it listens on, after Start.
func (s *Server) Addr() netip.AddrPort { return s.opts.Listen }

// Join makes a peer's place (media.SFU).
func (s *Server) Join(c media.PeerConfig) (media.Peer, error) { return nil, media.ErrNoMedia }

// Remote makes a track that comes from another SFU (media.SFU).
func (s *Server) Remote(t media.Track, e media.RemoteEvents) media.Remote { return nil }

// Stats counts what an SFU did since its start. Its fields are what /metrics shows.
type Stats struct {
	Peers, Sources, Subscriptions int    // now
	PacketsIn, PacketsForwarded   uint64 // RTP
	BytesIn, BytesOut             uint64 // of UDP payloads
	Repeated                      uint64 // packets sent again because they were asked for
	Dropped                       uint64 // packets that a full socket did not take
	Refused                       uint64 // datagrams and packets that made no sense or had wrong keys
	Limited                       uint64 // packets above a client's rate
	KeyFramesAsked                uint64 // of clients
}

// Stats returns what was counted.
func (s *Server) Stats() Stats { return Stats{} }
