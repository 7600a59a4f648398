package turn

import (
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mustermesh/muster/turn/allocation"
)

// sharePorts says whether sockets can share a port here.
const sharePorts = true

func newCarrier(sh *shard) (carrier, error) { return newEpoll(sh) }

// epoll is the carrier of Linux: one loop for all sockets of a shard. It waits until
// some are readable, reads batches of each (recvmmsg), and sends what comes of them in
// batches (see outbox). A socket costs no goroutine and no buffer.
type epoll struct {
	*shard
	fd, waker int
	file      *os.File           // fd, in Go's poller
	clients   map[uint16]*socket // by listener
	sockets   []*socket          // by descriptor
	out       outbox
	in        inbox
	ticked    time.Time
	stopping  bool
}

// socket is one that clients or peers send to.
type socket struct {
	fd         int
	ip4        bool
	listener   uint16
	allocation *allocation.Allocation // whose relay it is; nil for one of clients
	client     *socket                // of a relay: through which its client is sent to; nil if by a connection
	toClient   allocation.Batch

	first, last int32 // groups of the outbox, in round
	round       uint64
}

func newEpoll(sh *shard) (carrier, error) {
	e := &epoll{shard: sh, clients: map[uint16]*socket{}, waker: -1}
	var err error
	if e.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	_ = unix.SetNonblock(e.fd, true) // makes os.NewFile give it to the poller
	e.file = os.NewFile(uintptr(e.fd), "epoll")
	if e.waker, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, e.waker, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(e.waker)})
	}
	if err != nil {
		e.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	e.sockets = make([]*socket, e.waker+1)
	e.out.init()
	e.in.init()
	return e, nil
}

// bind opens a socket and adds it to the loop.
func (e *epoll) bind(addr netip.AddrPort, shared bool, buffer int) (*socket, error) {
	family, s := unix.AF_INET6, &socket{ip4: addr.Addr().Is4()}
	if s.ip4 {
		family = unix.AF_INET
	}
	var err error
	s.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if shared {
		err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil && !s.ip4 {
		err = unix.SetsockoptInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	for force, option := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, buffer) != nil { // needs a privilege
			_ = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, option, buffer)
		}
	}
	if err == nil {
		err = unix.Bind(s.fd, sockaddr(addr))
	}
	if err == nil {
		err = unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(s.fd)})
	}
	if err != nil {
		_ = unix.Close(s.fd)
		return nil, os.NewSyscallError("bind", err)
	}
	for len(e.sockets) <= s.fd {
		e.sockets = append(e.sockets, nil)
	}
	e.sockets[s.fd] = s
	return s, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func (e *epoll) listen(listener uint16, addr netip.AddrPort, shared bool) (netip.AddrPort, error) {
	s, err := e.bind(addr, shared, clientBuffer)
	if err != nil {
		return addr, err
	}
	s.listener = listener
	e.clients[listener] = s
	bound, err := unix.Getsockname(s.fd)
	if err != nil {
		return addr, os.NewSyscallError("getsockname", err)
	}
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(addr.Addr(), uint16(b.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(addr.Addr(), uint16(b.Port)), nil
	}
	return addr, fmt.Errorf("turn: a socket is bound to a %T", bound)
}

func (e *epoll) Open(a *allocation.Allocation, ip4, even bool) (netip.AddrPort, error) {
	ip := e.server.relayIP(ip4)
	var s *socket
	var addr netip.AddrPort
	err := e.server.port(even, func(port uint16) (err error) {
		addr = netip.AddrPortFrom(ip, port)
		s, err = e.bind(addr, false, relayBuffer)
		return err
	})
	if err != nil {
		return addr, err
	}
	s.allocation, a.Socket = a, s
	if e.streams[a.Flow] == nil {
		s.client = e.clients[a.Flow.Listener]
	}
	return e.server.outside(addr), nil
}

// Close flushes first: what waits names the socket by its descriptor, which may be
// another one's soon.
func (e *epoll) Close(a *allocation.Allocation) {
	e.flush()
	s := a.Socket.(*socket)
	e.sockets[s.fd] = nil
	_ = unix.Close(s.fd) // leaves the loop, too
}

func (e *epoll) stop() {
	e.mu.Lock()
	e.stopping = true
	e.mu.Unlock()
	e.wake()
}

// wake makes the loop go round. A timer calls it, perhaps when all has been closed and
// the descriptor is somebody else's.

func (e *epoll) wake() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waker < 0 {
		return
	}
	one := [8]byte{1}
	_, _ = unix.Write(e.waker, one[:])
}

func (e *epoll) close() {
	for _, s := range e.sockets {
		if s != nil {
			_ = unix.Close(s.fd)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waker >= 0 {
		_ = unix.Close(e.waker)
		e.waker = -1
	}
	_ = e.file.Close()
}

// serve is the loop. It waits in Go's poller for the epoll descriptor itself, and its
// system calls, none of which waits, are hidden from the scheduler (RawSyscall): a
// thread that waits in epoll_wait, or merely enters system calls, keeps the runtime's
// monitor awake, which took a third of the processor at 20,000 packets a second. The
// price is that a garbage collection may have to wait for a batch to be sent, a tenth
// of a millisecond.
func (e *epoll) serve() {
	raw, err := e.file.SyscallConn()
	if err != nil {
		return // closed
	}
	ticker := time.AfterFunc(time.Second, e.wake)
	defer ticker.Stop()
	var events [64]unix.EpollEvent
	stopped := false
	_ = raw.Read(func(fd uintptr) bool {
		for {
			n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
			if errno == unix.EINTR {
				continue
			}
			if errno != 0 || n == 0 {
				return errno != 0 // waits, or ends with what has been closed
			}
			now := time.Now()
			e.mu.Lock()
			for _, ev := range events[:n] {
				switch s := e.sockets[ev.Fd]; {
				case int(ev.Fd) == e.waker:
					var count [8]byte
					_, _ = unix.Read(e.waker, count[:])
					stopped = e.stopping
				case s != nil:
					e.receive(now, s)
				}
			}
			e.flush()
			e.in.used = 0
			if now.Sub(e.ticked) >= time.Second {
				e.ticked = now
				e.tick(now)
				ticker.Reset(time.Second)
			}
			e.mu.Unlock()
			if stopped {
				return true
			}
		}
	})
}

// receive reads one batch of a socket. What is left comes after the others' turn.
func (e *epoll) receive(now time.Time, s *socket) {
	if slots-e.in.used < slots/2 {
		e.flush()
		e.in.used = 0
	}
	first := e.in.used
	n := e.in.receive(s.fd)
	for i := first; i < first+n; i++ {
		size := int(e.in.headers[i].len)
		if e.in.headers[i].hdr.Flags&unix.MSG_TRUNC != 0 {
			e.machine.Counts.Refused[allocation.Malformed]++
			continue
		}
		buf, from := e.in.buffers[i][:], e.in.sender(i)
		if s.allocation != nil {
			effect := e.machine.FromPeer(now, s.allocation, e.server.outside(from), buf, size, s.client == nil)
			e.carry(&effect)
			continue
		}
		f := allocation.Flow{Client: from, Listener: s.listener}
		effect := e.machine.FromClient(now, f, buf[allocation.Headroom:][:size])
		if effect.Answer {
			if unix.Sendto(s.fd, effect.Data, unix.MSG_DONTWAIT, sockaddr(from)) != nil {
				e.unsent(1)
			}
			continue
		}
		e.carry(&effect)
	}
}

func (e *epoll) carry(effect *allocation.Effect) {
	if effect.Kind == allocation.Drop {
		return
	}
	s := effect.Allocation.Socket.(*socket)
	switch {
	case effect.Kind == allocation.ToPeer && effect.Channel != nil:
		e.put(s, &effect.Channel.Batch, e.server.inside(effect.Peer), effect.Data)
	case effect.Kind == allocation.ToPeer:
		e.put(s, nil, e.server.inside(effect.Peer), effect.Data)
	case s.client != nil:
		e.put(s.client, &s.toClient, effect.Allocation.Flow.Client, effect.Data)
	default:
		e.toStream(effect.Allocation.Flow, effect.Data)
	}
}

func (e *epoll) put(s *socket, b *allocation.Batch, to netip.AddrPort, data []byte) {
	if !e.out.put(s, b, to, data) {
		e.flush()
		e.out.put(s, b, to, data)
	}
}

func (e *epoll) flush() { e.unsent(e.out.flush()) }

// slots is how many packets are in memory at a time.
const slots = 128

// mmsghdr is struct mmsghdr, recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// inbox is the memory of what was received and is not sent on yet.
type inbox struct {
	headers [slots]mmsghdr
	vectors [slots]unix.Iovec
	from    [slots]unix.RawSockaddrInet6 // large enough for IPv4, too
	buffers [slots][slotSize]byte
	used    int
}

func (b *inbox) init() {
	for i := range slots {
		b.vectors[i].Base = &b.buffers[i][allocation.Headroom]
		b.vectors[i].SetLen(maxPacket)
		b.headers[i].hdr.Iov = &b.vectors[i]
		b.headers[i].hdr.SetIovlen(1)
		b.headers[i].hdr.Name = (*byte)(unsafe.Pointer(&b.from[i]))
		b.headers[i].hdr.Namelen = unix.SizeofSockaddrInet6
	}
}

// receive reads as many packets as there are and as have room, and returns how many.
func (b *inbox) receive(fd int) int {
	free := b.headers[b.used:]
	n, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&free[0])), uintptr(len(free)), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0 // nothing there, or an error of what was sent before
	}
	for i := range int(n) {
		free[i].hdr.Namelen = unix.SizeofSockaddrInet6 // as it was
	}
	b.used += int(n)
	return int(n)
}

// sender is who sent packet i.
func (b *inbox) sender(i int) netip.AddrPort {
	sa := &b.from[i]
	if sa.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(four.Addr), swap(four.Port))
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), swap(sa.Port))
}

// swap turns a port from the network's order into the machine's, and back.
func swap(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}
