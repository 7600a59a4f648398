package node

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"

	"github.com/mustermesh/muster/media/sfu"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/turn"
)

// mediaSockets are where a node of a Mesh listens for media. They are opened by the parts
// themselves; the ports were free a moment before.
type mediaSockets struct {
	sfu   netip.AddrPort
	relay []turn.Listen // of the first node of a region
}

// openMedia finds ports on a host.
func openMedia(host string, relay bool) (s *mediaSockets, err error) {
	s = &mediaSockets{}
	if s.sfu, err = freePort(host); err != nil || !relay {
		return s, err
	}
	plain, err := freePort(host)
	if err != nil {
		return nil, err
	}
	encrypted, err := freePort(host)
	if err != nil {
		return nil, err
	}
	s.relay = []turn.Listen{{Transport: turn.UDP, Addr: plain}, {Transport: turn.TCP, Addr: plain}, {Transport: turn.TLS, Addr: encrypted}}
	return s, nil
}

// portTries bounds the search for a number that is free for UDP and for TCP.
const portTries = 20

// freePort finds a port that nobody has, neither of UDP nor of TCP.
func freePort(host string) (netip.AddrPort, error) {
	var err error
	for range portTries {
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			break
		}
		at := l.Addr().(*net.TCPAddr).AddrPort()
		var c net.PacketConn
		c, err = net.ListenPacket("udp", at.String())
		_ = l.Close()
		if err == nil {
			_ = c.Close()
			return at, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("no port for media: %w", err)
}

// relays is how a region's topology names its relay.
func (s *mediaSockets) relays(node regions.NodeID) []regions.TURN {
	if len(s.relay) == 0 {
		return nil
	}
	t := regions.TURN{Node: node}
	for _, l := range s.relay {
		t.URLs = append(t.URLs, l.URL(""))
	}
	return []regions.TURN{t}
}

// config is what a node is made of. Everything is on this machine, so it relays to
// loopback addresses.
func (s *mediaSockets) config(cert tls.Certificate) (*MediaConfig, *turn.Options) {
	if s == nil {
		return nil, nil
	}
	m := &MediaConfig{Options: sfu.Options{Listen: s.sfu, TCP: true, Loopback: true, Sockets: 1}}
	if len(s.relay) == 0 {
		return m, nil
	}
	return m, &turn.Options{
		Listen: s.relay, TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		RelayIP: []netip.Addr{s.sfu.Addr()}, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowPeers: []netip.AddrPort{s.sfu}, Shards: 1,
	}
}
