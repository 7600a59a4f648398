package turn

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/mustermesh/muster/turn/allocation"
)

// shard is a part of the clients: those that the kernel gives to one of the sockets that
// share a port, and some of those with connections. What it holds is touched by its own
// loop and by the readers of its connections, under its lock, which is taken once for
// a batch.
type shard struct {
	server  *Server
	carrier carrier

	mu      sync.Mutex // guards the following, and the carrier's lists
	machine *allocation.Machine
	streams map[allocation.Flow]*stream
}

// carrier is the sockets of a shard. Its methods but listen, serve, stop and close are called under
// the shard's lock.
type carrier interface {
	allocation.Relays
	// listen opens a socket for clients, shared with the other shards if there are any.
	// It returns its address.
	listen(listener uint16, addr netip.AddrPort, shared bool) (netip.AddrPort, error)
	// serve works until stop, which doesn't wait for it.
	serve()
	stop()
	// carry takes what is to be sent by UDP. It may wait for flush, which comes before the
	// packet's memory is used again.
	carry(e *allocation.Effect)
	flush()
	// close closes all sockets, when serve has returned.
	close()
}

var errNoPort = errors.New("turn: no port is left to relay from")

// port draws ports of the relay's range until open takes one.
func (s *Server) port(even bool, open func(port uint16) error) error {
	const tries = 64 // at 90 % taken, one in a thousand asks in vain
	n := int(s.o.MaxPort) - int(s.o.MinPort) + 1
	for range min(tries, 4*n) {
		port := s.o.MinPort + uint16(rand.IntN(n))
		if even && port%2 == 1 {
			continue
		}
		if open(port) == nil {
			return nil
		}
	}
	return errNoPort
}

// relayIP is the address of the family to relay from.
func (s *Server) relayIP(ip4 bool) netip.Addr {
	for _, ip := range s.o.RelayIP {
		if ip.Is4() == ip4 {
			return ip
		}
	}
	return netip.Addr{}
}

// outside is an address as the world knows it, inside as the host does: they differ
// for the relay's own behind a NAT, where two clients of one server meet.
func (s *Server) outside(a netip.AddrPort) netip.AddrPort {
	for i, ip := range s.o.PublicIP {
		if a.Addr() == s.o.RelayIP[i] {
			return netip.AddrPortFrom(ip, a.Port())
		}
	}
	return a
}

func (s *Server) inside(a netip.AddrPort) netip.AddrPort {
	for i, ip := range s.o.PublicIP {
		if a.Addr() == ip {
			return netip.AddrPortFrom(s.o.RelayIP[i], a.Port())
		}
	}
	return a
}

// tick is to be called about once a second. It ends what has to end, and connections
// that have had no allocation for too long.
func (sh *shard) tick(now time.Time) {
	sh.machine.Tick(now)
	for f, st := range sh.streams {
		switch {
		case sh.machine.Has(f):
			st.alone = time.Time{}
		case st.alone.IsZero():
			st.alone = now
		case now.Sub(st.alone) > hello:
			_ = st.conn.Close()
		}
	}
}

// unsent counts packets that a socket did not take.
func (sh *shard) unsent(n int) { sh.machine.Counts.Refused[allocation.Unsent] += uint64(n) }

// toStream sends to a client on its connection, if it has one.
func (sh *shard) toStream(f allocation.Flow, data []byte) bool {
	st := sh.streams[f]
	if st == nil {
		return false
	}
	if !st.send(data) {
		sh.unsent(1)
	}
	return true
}
