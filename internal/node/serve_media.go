package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/mustermesh/muster/media/sfu"
	"github.com/mustermesh/muster/turn"
	"github.com/mustermesh/muster/turn/cred"
	"github.com/mustermesh/muster/turn/quota"
)

// MediaServeConfig is for the role media.
type MediaServeConfig struct {
	// Addr is the UDP address for packets of calls, such as 0.0.0.0:7882. TCP takes
	// connections on the same number, for clients whose UDP is blocked.
	Addr string `yaml:"addr"`
	TCP  bool   `yaml:"tcp"`
	// PublicIPs are what clients are told instead of the machine's addresses, behind a
	// translation that keeps ports.
	PublicIPs []string `yaml:"public_ips"`
	// Capacity is the node's share of its region's calls, beside the others'; default 100.
	Capacity uint32 `yaml:"capacity"`
}

func (c MediaServeConfig) config() (*MediaConfig, error) {
	at, err := netip.ParseAddrPort(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("media.addr (--media-addr) %q: the role media needs an address for UDP, such as 0.0.0.0:7882", c.Addr)
	}
	m := &MediaConfig{Options: sfu.Options{Listen: at, TCP: c.TCP}, Capacity: c.Capacity}
	for _, s := range c.PublicIPs {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("media.public_ips (--media-public-ip): %q is no IP address", s)
		}
		m.Public = append(m.Public, netip.AddrPortFrom(ip, at.Port()))
	}
	return m, nil
}

// TURNServeConfig is for the role turn, and its secret for all nodes.
type TURNServeConfig struct {
	// Listen are addresses for clients: udp://IP:PORT, tcp://IP:PORT or tls://IP:PORT.
	// The URLs under which clients find them stand in the topology.
	Listen []string `yaml:"listen"`
	// RelayIPs are addresses of this host to speak to peers from; PublicIPs what clients
	// are told in their place.
	RelayIPs  []string `yaml:"relay_ips"`
	PublicIPs []string `yaml:"public_ips"`
	// AllowPrivate are networks that may be relayed to though they are refused otherwise:
	// private, loopback, link-local ones.
	AllowPrivate []string `yaml:"allow_private"`
	// Ports to relay from; default 49152 to 65535.
	MinPort uint16 `yaml:"min_port"`
	MaxPort uint16 `yaml:"max_port"`
	// SecretFile has the secrets of credentials, one a line, the first mints: for relays
	// that run by themselves (`muster turn`) or are others' (coturn). Default: derived
	// from the nodes' secret.
	SecretFile string `yaml:"secret_file"`
	// Most allocations at a time, of all users and of one; bytes a second of one user.
	Most      int     `yaml:"most"`
	UserMost  int     `yaml:"user_most"`
	UserBytes float64 `yaml:"user_bytes"`
}

// secrets reads them; none: they are derived.
func (c TURNServeConfig) secrets() (cred.Secrets, error) {
	if c.SecretFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("turn.secret_file: %w", err)
	}
	s := cred.Secrets(strings.Fields(string(b)))
	return s, s.Validate()
}

func (c TURNServeConfig) options(web *tls.Config) (*turn.Options, error) {
	o := &turn.Options{
		TLS: web, MinPort: c.MinPort, MaxPort: c.MaxPort, MaxAllocations: c.Most,
		Quota: quota.Limits{Allocations: c.UserMost, Bytes: c.UserBytes},
	}
	if len(c.Listen) == 0 {
		return nil, errors.New("turn.listen (--turn-listen): the role turn needs an address, such as udp://0.0.0.0:3478")
	}
	for _, s := range c.Listen {
		transport, addr, _ := strings.Cut(s, "://")
		at, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, fmt.Errorf("turn.listen (--turn-listen) %q: say udp://IP:PORT, tcp://IP:PORT or tls://IP:PORT", s)
		}
		o.Listen = append(o.Listen, turn.Listen{Transport: turn.Transport(transport), Addr: at})
	}
	var err error
	if o.RelayIP, err = addrs("turn.relay_ips (--turn-relay-ip)", c.RelayIPs); err != nil {
		return nil, err
	}
	if o.PublicIP, err = addrs("turn.public_ips (--turn-public-ip)", c.PublicIPs); err != nil {
		return nil, err
	}
	for _, s := range c.AllowPrivate {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("turn.allow_private (--turn-allow-private) %q: a network is IP/BITS", s)
		}
		o.AllowPrivate = append(o.AllowPrivate, p)
	}
	return o, nil
}

func addrs(key string, list []string) (ips []netip.Addr, err error) {
	for _, s := range list {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no IP address", key, s)
		}
		ips = append(ips, ip)
	}
	return ips, nil
}

// calls fills in what the roles media and turn need.
func (c *ServeConfig) calls(cfg *Config) (err error) {
	if cfg.TURNSecrets, err = c.TURN.secrets(); err != nil {
		return err
	}
	if slices.Contains(c.Roles, "media") {
		if cfg.Media, err = c.Media.config(); err != nil {
			return err
		}
	}
	if slices.Contains(c.Roles, "turn") {
		if cfg.TURN, err = c.TURN.options(cfg.WebTransportTLS); err != nil {
			return err
		}
		if cfg.Media != nil { // the SFU beside it is a port of its own host, which is refused otherwise
			for _, ip := range slices.Concat(cfg.TURN.RelayIP, cfg.TURN.PublicIP) {
				cfg.TURN.AllowPeers = append(cfg.TURN.AllowPeers, netip.AddrPortFrom(ip, cfg.Media.Listen.Port()))
			}
		}
	}
	return nil
}
