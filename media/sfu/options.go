package sfu

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// DefaultBitrate is Options.Bitrate where it is not set.
const DefaultBitrate = 12_000_000

// Options say where an SFU listens and how clients find it. The zero value listens on
// any free port of all addresses.
type Options struct {
	// Listen is the UDP address; all peers share it.
	Listen netip.AddrPort
	// TCP also takes connections on the same port number (RFC 6544), for clients whose
	// UDP is blocked.
	TCP bool
	// Public are the addresses that clients are told, with the port of Listen unless they
	// have one (behind a translation). Empty: the address of Listen or, if that is
	// unspecified, those of the machine's interfaces.
	Public []netip.AddrPort
	// Loopback also tells clients of 127.0.0.1, when Public is empty: for development.
	Loopback bool
	// Sockets is how many share the port and the work (SO_REUSEPORT). 0: one per CPU, at
	// most 8; elsewhere than on Linux there is one.
	Sockets int
	// Silence is how long a connection may send nothing before it counts as disconnected
	// (RFC 7675 has clients check every 5 s or so). 0: 6 s.
	Silence time.Duration
	// Bitrate is what a client may send at most, in bit/s, for all its tracks. 0:
	// DefaultBitrate.
	Bitrate int
	Log     *slog.Logger // nil: the default one
}

// What a peer may have.
const (
	maxTracks        = 8      // that it sends
	maxSections      = 32     // of an offer
	maxSubscriptions = 400    // that it gets
	maxSDP           = 60_000 // bytes
	maxPacket        = 1_500  // bytes of a datagram
)

func (o Options) withDefaults() (Options, error) {
	if !o.Listen.IsValid() {
		o.Listen = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	if o.Silence == 0 {
		o.Silence = 6 * time.Second
	}
	if o.Bitrate == 0 {
		o.Bitrate = DefaultBitrate
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	for _, p := range o.Public {
		if !p.Addr().IsValid() || p.Addr().IsUnspecified() {
			return o, fmt.Errorf("media: %s can't be told to clients: give an address at which they reach this node", p)
		}
	}
	return o, nil
}
