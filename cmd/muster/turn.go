package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mustermesh/muster/internal/obs"
	"github.com/mustermesh/muster/turn"
	"github.com/mustermesh/muster/turn/cred"
	"github.com/mustermesh/muster/turn/quota"
)

// TurnCmd is a TURN relay and nothing else.
type TurnCmd struct {
	Listen       []string      `help:"Addresses for clients: udp://IP:PORT, tcp://IP:PORT or tls://IP:PORT." default:"udp://127.0.0.1:3478,tcp://127.0.0.1:3478" placeholder:"URL"`
	Realm        string        `help:"Realm of the credentials." default:"muster"`
	SecretFile   string        `help:"File with the secrets that are shared with those who mint credentials, one a line; the first one mints." type:"existingfile" required:"" placeholder:"FILE"`
	RelayIP      []netip.Addr  `help:"Addresses of this host to speak to peers from, at most one of each family." name:"relay-ip" default:"127.0.0.1" placeholder:"IP"`
	PublicIP     []netip.Addr  `help:"What clients are told in their place: the outside of a one-to-one NAT." name:"public-ip" placeholder:"IP"`
	Ports        string        `help:"Ports to relay from." default:"49152-65535" placeholder:"FROM-TO"`
	AllowPrivate []string      `help:"Private, loopback and other networks that may be relayed to though they are refused otherwise." placeholder:"NETWORK"`
	AllowPeer    []string      `help:"Single addresses that may be, such as that of an SFU on this host." placeholder:"IP:PORT"`
	TLSCert      string        `help:"Certificate of tls addresses, PEM; read again for each connection." name:"tls-cert" type:"existingfile" placeholder:"FILE"`
	TLSKey       string        `help:"Its key, PEM." name:"tls-key" type:"existingfile" placeholder:"FILE"`
	Most         int           `help:"Allocations at a time, of all users." default:"10000"`
	UserMost     int           `help:"Allocations of one user at a time; -1: any number." default:"12"`
	UserBytes    float64       `help:"Bytes a second of one user; -1: any number." default:"2000000"`
	Shards       int           `help:"Sockets and threads for each UDP address. Default: one for every two CPUs." placeholder:"N"`
	Alternate    string        `help:"Where clients are sent while this relay drains." placeholder:"IP:PORT"`
	MaxDrain     time.Duration `help:"How long a drain may take." default:"5m"`
	Admin        string        `help:"Address for /healthz, /readyz, /metrics and /debug/pprof. It knows no passwords." default:"127.0.0.1:9478" placeholder:"ADDR"`
}

// options reads the flags.
func (c *TurnCmd) options() (o turn.Options, err error) {
	o = turn.Options{
		Realm: c.Realm, RelayIP: c.RelayIP, PublicIP: c.PublicIP, MaxAllocations: c.Most, Shards: c.Shards,
		Quota: quota.Limits{Allocations: c.UserMost, Bytes: c.UserBytes},
	}
	if o.Secrets, err = c.secrets(); err != nil {
		return o, err
	}
	if _, err := fmt.Sscanf(c.Ports, "%d-%d", &o.MinPort, &o.MaxPort); err != nil {
		return o, fmt.Errorf("--ports %q: two port numbers, such as 49152-65535", c.Ports)
	}
	for _, s := range c.Listen {
		transport, addr, _ := strings.Cut(s, "://")
		a, err := netip.ParseAddrPort(addr)
		if err != nil {
			return o, fmt.Errorf("--listen %q: say udp://IP:PORT, tcp://IP:PORT or tls://IP:PORT", s)
		}
		o.Listen = append(o.Listen, turn.Listen{Transport: turn.Transport(transport), Addr: a})
	}
	for _, s := range c.AllowPrivate {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return o, fmt.Errorf("--allow-private %q: a network is IP/BITS", s)
		}
		o.AllowPrivate = append(o.AllowPrivate, p)
	}
	for _, s := range c.AllowPeer {
		p, err := netip.ParseAddrPort(s)
		if err != nil {
			return o, fmt.Errorf("--allow-peer %q: say IP:PORT", s)
		}
		o.AllowPeers = append(o.AllowPeers, p)
	}
	if c.Alternate != "" {
		if o.Alternate, err = netip.ParseAddrPort(c.Alternate); err != nil {
			return o, fmt.Errorf("--alternate %q: say IP:PORT", c.Alternate)
		}
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return o, errors.New("--tls-cert and --tls-key come together")
	}
	if c.TLSCert != "" {
		load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
			return &cert, err
		}
		if _, err := load(nil); err != nil {
			return o, fmt.Errorf("--tls-cert: %w", err)
		}
		o.TLS = &tls.Config{GetCertificate: load, MinVersion: tls.VersionTLS12}
	}
	return o, nil
}

func (c *TurnCmd) secrets() (cred.Secrets, error) {
	b, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	return strings.Fields(string(b)), nil
}

// reload reads the secrets again.
func (c *TurnCmd) reload(ctx context.Context, s *turn.Server, log *slog.Logger) {
	secrets, err := c.secrets()
	if err == nil {
		err = s.SetSecrets(secrets)
	}
	if err != nil {
		log.ErrorContext(ctx, "the secrets stay as they were", "err", err)
		return
	}
	log.InfoContext(ctx, "the secrets were read again", "secrets", len(secrets))
}

// Run relays until a signal, then drains. SIGHUP makes it read the secrets again.
func (c *TurnCmd) Run(ctx context.Context, log *slog.Logger) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	reg := obs.ProcessRegistry()
	o.Log, o.Metrics = log, reg
	s, err := turn.New(o)
	if err != nil {
		return err
	}
	defer s.Stop()
	admin, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Admin)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	life := context.WithoutCancel(ctx) // a signal begins a drain, and allocations go on
	if err := s.Start(life); err != nil {
		_ = admin.Close()
		return err
	}
	web := &http.Server{Handler: obs.Admin(reg, s.Ready), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(admin) }()
	defer func() {
		_ = web.Close()
		<-ended
	}()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for ctx.Err() == nil {
		select {
		case <-hup:
			c.reload(life, s, log)
		case <-ctx.Done():
		}
	}
	drain, cancel := context.WithTimeout(life, cmp.Or(c.MaxDrain, maxDrain))
	defer cancel()
	if err := s.Drain(drain); err != nil {
		log.WarnContext(life, "not everybody left in time", "err", err)
	}
	return nil
}
