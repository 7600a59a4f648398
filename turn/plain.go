package turn

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mustermesh/muster/turn/allocation"
)

// maxPacket is the largest packet that is relayed: a jumbo frame's.
const maxPacket = 9216

// slotSize is what a packet needs that may get a header before it and padding after.
const slotSize = allocation.Headroom + maxPacket + allocation.Tailroom

// plain is the carrier of any system: a goroutine for each socket, a system call for
// each packet.
type plain struct {
	*shard
	sockets map[uint16]*net.UDPConn // for clients, by listener
	readers sync.WaitGroup
	done    chan struct{}
}

func newPlain(sh *shard) (carrier, error) {
	return &plain{shard: sh, sockets: map[uint16]*net.UDPConn{}, done: make(chan struct{})}, nil
}

func (p *plain) listen(listener uint16, addr netip.AddrPort, shared bool) (netip.AddrPort, error) {
	if shared {
		return addr, errors.New("turn: this system does not let sockets share a port: use one shard")
	}
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return addr, err
	}
	_, _ = c.SetReadBuffer(clientBuffer), c.SetWriteBuffer(clientBuffer)
	p.sockets[listener] = c
	return c.LocalAddr().(*net.UDPAddr).AddrPort(), nil
}

func (p *plain) serve() {
	for listener, c := range p.sockets {
		p.read(c, func(now time.Time, from netip.AddrPort, buf []byte, n int) {
			f := allocation.Flow{Client: from, Listener: listener}
			e := p.machine.FromClient(now, f, buf[allocation.Headroom:][:n])
			if e.Answer {
				p.write(c, e.Data, from)
				return
			}
			p.carry(&e)
		})
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			p.mu.Lock()
			p.tick(now)
			p.mu.Unlock()
		case <-p.done:
			return
		}
	}
}

// read hands over what comes to a socket, under the shard's lock, until it is closed.
func (p *plain) read(c *net.UDPConn, take func(now time.Time, from netip.AddrPort, buf []byte, n int)) {
	p.readers.Go(func() {
		buf := make([]byte, slotSize)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf[allocation.Headroom : slotSize-allocation.Tailroom])
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // an ICMP error for what was sent before
			}
			p.mu.Lock()
			take(time.Now(), netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf, n)
			p.mu.Unlock()
		}
	})
}

func (p *plain) write(c *net.UDPConn, data []byte, to netip.AddrPort) {
	if _, err := c.WriteToUDPAddrPort(data, to); err != nil {
		p.unsent(1)
	}
}

func (p *plain) Open(a *allocation.Allocation, ip4, even bool) (addr netip.AddrPort, err error) {
	ip := p.server.relayIP(ip4)
	var c *net.UDPConn
	err = p.server.port(even, func(port uint16) (err error) {
		addr = netip.AddrPortFrom(ip, port)
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		return addr, err
	}
	_ = c.SetReadBuffer(relayBuffer)
	a.Socket = c
	_, padded := p.streams[a.Flow]
	p.read(c, func(now time.Time, from netip.AddrPort, buf []byte, n int) {
		e := p.machine.FromPeer(now, a, p.server.outside(from), buf, n, padded)
		p.carry(&e)
	})
	return p.server.outside(addr), nil
}

func (p *plain) Close(a *allocation.Allocation) { _ = a.Socket.(*net.UDPConn).Close() }

func (p *plain) carry(e *allocation.Effect) {
	switch e.Kind {
	case allocation.ToPeer:
		p.write(e.Allocation.Socket.(*net.UDPConn), e.Data, p.server.inside(e.Peer))
	case allocation.ToClient:
		f := e.Allocation.Flow
		if !p.toStream(f, e.Data) && p.sockets[f.Listener] != nil {
			p.write(p.sockets[f.Listener], e.Data, f.Client)
		}
	}
}

func (p *plain) flush() {}

func (p *plain) stop() { close(p.done) }

func (p *plain) close() {
	for _, c := range p.sockets {
		_ = c.Close()
	}
	p.readers.Wait()
}
