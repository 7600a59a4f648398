package turn

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/turn/cred"
	"github.com/mustermesh/muster/turn/quota"
)

// Transport is how a client reaches the server. What goes on to peers is UDP always.
type Transport string

// The transports. DTLS is not among them: no browser speaks it to TURN.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls"
)

// Listen is an address that clients are served on. Port 0 takes a free one.
type Listen struct {
	Transport Transport
	Addr      netip.AddrPort
}

// URL is the listener in the form of RFC 7065, as an ICE server's URL. host takes the
// place of its address, for TLS and for servers behind a NAT; it may be empty.
func (l Listen) URL(host string) string {
	scheme, transport := "turn", "tcp"
	switch l.Transport {
	case UDP:
		transport = "udp"
	case TLS:
		scheme = "turns"
	}
	addr := l.Addr.String()
	if host != "" {
		addr = fmt.Sprintf("%s:%d", host, l.Addr.Port())
	}
	return scheme + ":" + addr + "?transport=" + transport
}

// Options are the settings of a server. Realm, Secrets, Listen and RelayIP have to be
// given; the zero value of everything else works.
type Options struct {
	// Realm of the credentials. Any name; the same for all servers of a deployment.
	Realm   string
	Secrets cred.Secrets
	Listen  []Listen
	TLS     *tls.Config // for listeners of that kind

	// RelayIP are the addresses of this host from which peers are spoken to: at most
	// one of each family. PublicIP, if given, is what clients are told in their place,
	// in the same order: the outside of a one-to-one NAT.
	RelayIP  []netip.Addr
	PublicIP []netip.Addr
	// Ports of relayed addresses, from and to. Default: 49152 to 65535 (RFC 8656
	// section 7.2).
	MinPort, MaxPort uint16

	// AllowPrivate are destinations that may be relayed to though they are refused
	// otherwise, see Peers. AllowPeers are single ones, such as the address of an SFU on
	// this host.
	AllowPrivate []netip.Prefix
	AllowPeers   []netip.AddrPort

	Quota quota.Limits
	// MaxAllocations at a time, of all users. Default: 10,000.
	MaxAllocations int
	// MaxAge of an allocation, however often it is refreshed. Default: 24 h. The end of
	// its credentials does not end it: browsers have no way to put new ones in the place
	// of those a call began with.
	MaxAge time.Duration

	// Shards is over how many sockets and threads each UDP address is spread
	// (SO_REUSEPORT). Default: one for every two CPUs; the others are busy with what the
	// kernel does for these, and fewer shards have larger batches.
	Shards int
	// Alternate is where clients of UDP and TCP are sent while the server drains (300 Try
	// Alternate): a server with the same secrets and realm. Default, and for those of
	// TLS: they are refused, and ask the next server of their list.
	Alternate netip.AddrPort

	Metrics prometheus.Registerer // default: none
	Log     *slog.Logger          // default: slog.Default()
}

func (o *Options) validate() error {
	if err := o.Secrets.Validate(); err != nil {
		return err
	}
	o.MinPort, o.MaxPort = cmp.Or(o.MinPort, 49152), cmp.Or(o.MaxPort, 65535)
	o.MaxAllocations, o.MaxAge = cmp.Or(o.MaxAllocations, 10_000), cmp.Or(o.MaxAge, 24*time.Hour)
	o.Shards = cmp.Or(o.Shards, (runtime.GOMAXPROCS(0)+1)/2)
	o.Log = cmp.Or(o.Log, slog.Default())
	switch {
	case o.Realm == "" || len(o.Realm) > 128:
		return errors.New("turn: the realm is a name of 1 to 128 bytes")
	case len(o.Listen) == 0:
		return errors.New("turn: there is no address to listen on")
	case len(o.RelayIP) == 0:
		return errors.New("turn: there is no address to relay from: name one of this host's")
	case len(o.PublicIP) > 0 && len(o.PublicIP) != len(o.RelayIP):
		return errors.New("turn: there are as many public addresses as there are to relay from, or none")
	case o.MaxPort < o.MinPort:
		return errors.New("turn: the first port for relaying is above the last one")
	case o.Shards < 0 || o.MaxAllocations < 0 || o.MaxAge < 0:
		return errors.New("turn: shards, allocations and their age are not negative")
	}
	seen := map[bool]bool{}
	for i, ip := range o.RelayIP {
		if !ip.IsValid() || ip.IsUnspecified() || ip.Is4In6() || ip.IsMulticast() {
			return fmt.Errorf("turn: relaying from %v: name one address of this host", ip)
		}
		if seen[ip.Is4()] {
			return errors.New("turn: there is at most one address of each family to relay from")
		}
		seen[ip.Is4()] = true
		if len(o.PublicIP) > 0 && o.PublicIP[i].Is4() != ip.Is4() {
			return fmt.Errorf("turn: %v is of another family than %v, which it stands for", o.PublicIP[i], ip)
		}
	}
	for _, l := range o.Listen {
		switch {
		case !l.Addr.IsValid() || l.Addr.Addr().Is4In6():
			return fmt.Errorf("turn: %v is no address to listen on", l.Addr)
		case !slices.Contains([]Transport{UDP, TCP, TLS}, l.Transport):
			return fmt.Errorf("turn: transport %q: use udp, tcp or tls", l.Transport)
		case l.Transport == TLS && o.TLS == nil:
			return fmt.Errorf("turn: %v is for TLS, and there is no certificate", l.Addr)
		}
	}
	return nil
}
