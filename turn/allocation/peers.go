package allocation

import (
	"net/netip"
	"slices"
)

// Peers decides whom packets may be relayed to. A relay stands inside its operator's
// network and speaks with its address: what would be reachable from there and from
// nowhere else is refused (CVE-2020-26262 and its kin). So are the ports of the relay's
// own addresses, other than those it relays from: two clients of one server meet
// there.
type Peers struct {
	Allow    []netip.Prefix   // though it is refused otherwise
	Single   []netip.AddrPort // as Allow, one port of an address
	Own      []netip.Addr     // of the relay, from within and from outside
	From, To uint16           // ports it relays from
}

// refused are the networks of the IANA special-purpose registries (RFC 6890) that are
// not the internet, or that lead back into such a network.
var refused = prefixes(
	"0.0.0.0/8",       // this network, unspecified
	"10.0.0.0/8",      // private
	"100.64.0.0/10",   // carriers' NAT
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link-local, and clouds' metadata
	"172.16.0.0/12",   // private
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays
	"192.168.0.0/16",  // private
	"198.18.0.0/15",   // benchmarks of networks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, broadcast
	"::/96",           // unspecified, loopback, IPv4-compatible
	"::ffff:0:0/96",   // IPv4-mapped
	"::ffff:0:0:0/96", // IPv4-translated
	"64:ff9b::/96",    // NAT64: any of the above
	"64:ff9b:1::/48",  // NAT64 of a network
	"100::/64",        // discard
	"2001::/23",       // protocol assignments, Teredo
	"2001:db8::/32",   // documentation
	"2002::/16",       // 6to4: any of the above
	"3fff::/20",       // documentation
	"5f00::/16",       // segment routing
	"fc00::/7",        // unique local
	"fe80::/10",       // link-local
	"fec0::/10",       // site-local
	"ff00::/8",        // multicast
)

func prefixes(all ...string) (list []netip.Prefix) {
	for _, p := range all {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func within(list []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// Permits reports whether any port of the address may be relayed to.
func (p *Peers) Permits(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	return within(p.Allow, ip) || slices.Contains(p.Own, ip) || !within(refused, ip) ||
		slices.ContainsFunc(p.Single, func(a netip.AddrPort) bool { return a.Addr() == ip })
}

// PermitsPort reports whether the address and port may be relayed to.
func (p *Peers) PermitsPort(peer netip.AddrPort) bool {
	ip := peer.Addr()
	switch {
	case peer.Port() == 0 || !p.Permits(ip):
		return false
	case within(p.Allow, ip) || slices.Contains(p.Single, peer):
		return true
	case slices.Contains(p.Own, ip):
		return p.From <= peer.Port() && peer.Port() <= p.To
	}
	return !within(refused, ip)
}
