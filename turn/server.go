package turn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/turn/allocation"
	"github.com/mustermesh/muster/turn/cred"
	"github.com/mustermesh/muster/turn/quota"
)

const (
	// clientBuffer and relayBuffer are the sockets' buffers, as far as the system lets
	// us. A burst that they don't hold is lost: with the system's 208 KiB, one in ten at
	// 150,000 packets a second.
	clientBuffer = 4 << 20
	relayBuffer  = 1 << 20
)

// Server is a TURN server. It is a run.Service.
type Server struct {
	o      Options
	common *allocation.Common
	life   run.Lifecycle

	// What Start makes.
	shards    []*shard
	listening []Listen
	accepting []net.Listener
	loops     sync.WaitGroup
	serving   sync.WaitGroup

	connections connections
	turnedAway  atomic.Int64

	carrier func(*shard) (carrier, error) // in tests
}

// New returns a server that is not started yet, or says what is wrong with its
// options.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := allocation.NewCommon()
	c.Realm, c.Users = o.Realm, quota.New(o.Quota)
	c.Secrets.Store(&o.Secrets)
	c.Most, c.MaxAge = int64(o.MaxAllocations), o.MaxAge
	c.Alternates, c.Connected = make([]netip.AddrPort, len(o.Listen)), make([]bool, len(o.Listen))
	for i, l := range o.Listen {
		c.Connected[i] = l.Transport != UDP
		if l.Transport != TLS {
			c.Alternates[i] = o.Alternate
		}
	}
	c.Peers = allocation.Peers{
		Allow: o.AllowPrivate, Single: o.AllowPeers, Own: slices.Concat(o.RelayIP, o.PublicIP), From: o.MinPort, To: o.MaxPort,
	}
	s := &Server{o: o, common: c, carrier: newCarrier}
	s.connections.most, s.connections.from = 2*o.MaxAllocations, map[netip.Addr]int{}
	c.Families.IP4, c.Families.IP6 = s.relayIP(true).IsValid(), s.relayIP(false).IsValid()
	return s, nil
}

// Start serves. It returns once all addresses are listened on.
func (s *Server) Start(ctx context.Context) error {
	return s.life.Start(ctx, func(ctx context.Context) error {
		err := s.listen(ctx)
		if err == nil && s.o.Metrics != nil {
			err = s.o.Metrics.Register(collector{s})
		}
		if err != nil {
			s.release()
			return err
		}
		for _, sh := range s.shards {
			s.loops.Go(sh.carrier.serve)
		}
		at := 0
		for i, l := range s.o.Listen {
			if l.Transport != UDP {
				accepting := s.accepting[at]
				at++
				s.serving.Go(func() { s.accept(ctx, uint16(i), accepting) })
			}
		}
		s.o.Log.InfoContext(ctx, "turn: serving", "listen", s.listening, "relay", s.o.RelayIP, "public", s.o.PublicIP, "shards", len(s.shards))
		return nil
	})
}

// listen opens the sockets.
func (s *Server) listen(ctx context.Context) error {
	if !sharePorts {
		s.o.Shards = 1
	}
	for range s.o.Shards {
		sh := &shard{server: s, streams: map[allocation.Flow]*stream{}}
		c, err := s.carrier(sh)
		if err != nil {
			return err
		}
		sh.carrier, sh.machine = c, allocation.New(s.common, c)
		s.shards = append(s.shards, sh)
	}
	s.listening = slices.Clone(s.o.Listen)
	for i := range s.listening {
		l := &s.listening[i]
		if l.Transport == UDP {
			for _, sh := range s.shards {
				addr, err := sh.carrier.listen(uint16(i), l.Addr, len(s.shards) > 1)
				if err != nil {
					return fmt.Errorf("turn: listen on %v: %w", l.Addr, err)
				}
				l.Addr = addr // the others share the port that the first one got
			}
			continue
		}
		var lc net.ListenConfig
		network := "tcp6"
		if l.Addr.Addr().Is4() {
			network = "tcp4"
		}
		accepting, err := lc.Listen(ctx, network, l.Addr.String())
		if err != nil {
			return fmt.Errorf("turn: listen on %v: %w", l.Addr, err)
		}
		s.accepting = append(s.accepting, accepting)
		l.Addr = netip.AddrPortFrom(l.Addr.Addr(), addrPort(accepting.Addr()).Port())
	}
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// release closes all sockets, when nobody serves them any more.
func (s *Server) release() {
	for _, l := range s.accepting {
		_ = l.Close()
	}
	for _, sh := range s.shards {
		sh.mu.Lock()
		sh.machine.Close(time.Now())
		sh.mu.Unlock()
		sh.carrier.close()
	}
}

// Stop ends all allocations and closes everything.
func (s *Server) Stop() {
	s.life.Stop(func() {
		if s.o.Metrics != nil {
			s.o.Metrics.Unregister(collector{s})
		}
		for _, l := range s.accepting {
			_ = l.Close()
		}
		s.serving.Wait() // connections close with the context
		for _, sh := range s.shards {
			sh.carrier.stop()
		}
		s.loops.Wait()
		s.release()
	})
}

// Listening are the addresses that are listened on, with their ports, after Start.
func (s *Server) Listening() []Listen { return slices.Clone(s.listening) }

// Allocations is how many there are.
func (s *Server) Allocations() int { return int(s.common.Allocations.Load()) }

// SetSecrets puts others in the place of those that credentials are made of.
// Allocations go on with what they were made with.
func (s *Server) SetSecrets(secrets cred.Secrets) error {
	if err := secrets.Validate(); err != nil {
		return err
	}
	s.common.Secrets.Store(&secrets)
	return nil
}

// Drain refuses new allocations from now on, and returns when those there are have
// ended, or with ctx's error. Until then they go on and may be refreshed.
func (s *Server) Drain(ctx context.Context) error {
	s.common.Draining.Store(true)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for s.Allocations() > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("turn: %d allocations have not ended: %w", s.Allocations(), ctx.Err())
		}
	}
	return nil
}

// Draining reports whether Drain was called.
func (s *Server) Draining() bool { return s.common.Draining.Load() }

// Ready says why the server takes no new clients; nil if it does.
func (s *Server) Ready(context.Context) error {
	switch {
	case s.Draining():
		return errors.New("turn: draining")
	case s.Allocations() >= s.o.MaxAllocations:
		return errors.New("turn: all allocations are taken")
	}
	return nil
}
