package main

import (
	"cmp"

	"github.com/mustermesh/muster/internal/node"
)

// MediaFlags are for the roles media and turn.
type MediaFlags struct {
	MediaAddr        string   `help:"UDP address for packets of calls, of the role media." placeholder:"IP:PORT"`
	MediaTCP         bool     `help:"Take them over TCP on the same port number, too." name:"media-tcp"`
	MediaPublicIP    []string `help:"What clients are told instead of the machine's addresses." name:"media-public-ip" placeholder:"IP"`
	TURNListen       []string `help:"Addresses of the role turn for clients: udp://IP:PORT, tcp://IP:PORT or tls://IP:PORT." name:"turn-listen" placeholder:"URL"`
	TURNRelayIP      []string `help:"Addresses of this host that it speaks to peers from." name:"turn-relay-ip" placeholder:"IP"`
	TURNPublicIP     []string `help:"What clients are told in their place." name:"turn-public-ip" placeholder:"IP"`
	TURNAllowPrivate []string `help:"Networks that it relays to though they are refused otherwise." name:"turn-allow-private" placeholder:"NETWORK"`
	TURNSecretFile   string   `help:"Secrets that are shared with relays of their own, one a line. Default: derived from the nodes' secret." name:"turn-secret-file" placeholder:"FILE"`
}

// media puts the flags that are given in the place of what the file says.
func (f *MediaFlags) media(cfg *node.ServeConfig) {
	m, t := &cfg.Media, &cfg.TURN
	m.Addr, m.TCP = cmp.Or(f.MediaAddr, m.Addr), m.TCP || f.MediaTCP
	t.SecretFile = cmp.Or(f.TURNSecretFile, t.SecretFile)
	for to, given := range map[*[]string][]string{
		&m.PublicIPs: f.MediaPublicIP, &t.Listen: f.TURNListen, &t.RelayIPs: f.TURNRelayIP, &t.PublicIPs: f.TURNPublicIP, &t.AllowPrivate: f.TURNAllowPrivate,
	} {
		if len(given) > 0 {
			*to = given
		}
	}
}
