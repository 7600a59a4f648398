package steering

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reusePort says whether several sockets can share a port: the kernel spreads
// what comes over them.
const reusePort = true

func sharePort(share bool) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		if share {
			if e := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}); e != nil {
				return e
			}
		}
		return err
	}
}

// batch is how many packets a system call takes.
const batch = 32

// mmsghdr is struct mmsghdr, recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// packets is the memory of a batch: what came, from whom, and the answers.
type packets struct {
	in, out  [batch]mmsghdr
	inVec    [batch]unix.Iovec
	outVec   [batch]unix.Iovec
	from     [batch]unix.RawSockaddrInet6 // large enough for IPv4, too
	queries  [batch][maxQuery]byte
	answers  [batch][maxUDP]byte
	received int
}

func newPackets() *packets {
	p := &packets{}
	for i := range batch {
		p.inVec[i].Base = &p.queries[i][0]
		p.inVec[i].SetLen(maxQuery)
		p.in[i].hdr.Iov = &p.inVec[i]
		p.in[i].hdr.SetIovlen(1)
		p.in[i].hdr.Name = (*byte)(unsafe.Pointer(&p.from[i]))
		p.out[i].hdr.Iov = &p.outVec[i]
		p.out[i].hdr.SetIovlen(1)
	}
	return p
}

// sender is who sent packet i.
func (p *packets) sender(i int) netip.Addr {
	sa := &p.from[i]
	if sa.Family == unix.AF_INET {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrFrom4(four.Addr)
	}
	return netip.AddrFrom16(sa.Addr).Unmap()
}

// serveUDP answers what comes to one socket, as many packets a system call as
// there are. (Waiting in the kernel instead of in Go's poller was tried: the
// scheduler takes the processor away from a blocked thread and gives it back, which
// costs as much at 20,000 packets a second, and more beside other work.)
func (s *Server) serveUDP(ctx context.Context, c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "dns: UDP", "err", err)
		return
	}
	l := newLimiter(s.cfg.Rate)
	p := newPackets()
	var errno syscall.Errno
	receive := func(fd uintptr) bool {
		for i := range batch {
			p.in[i].hdr.Namelen = unix.SizeofSockaddrInet6
		}
		n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&p.in[0])), batch, unix.MSG_DONTWAIT, 0, 0)
		p.received, errno = int(n), e
		return e != unix.EAGAIN
	}
	var first, last int
	send := func(fd uintptr) bool {
		n, _, e := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&p.out[first])), uintptr(last-first), unix.MSG_DONTWAIT, 0, 0)
		if e != 0 {
			n = 1 // the first could not be sent, say because its receiver is unreachable
		}
		first += int(n)
		return true // what does not fit into the socket's buffer is lost, as on any wire
	}
	for turn := uint32(0); ; {
		if err := raw.Read(receive); err != nil {
			return // closed
		}
		switch {
		case errno == 0:
		case ctx.Err() != nil:
			return
		case errno == unix.EINTR:
			continue
		default: // an ICMP error for an earlier answer; or no memory, which may last
			time.Sleep(time.Millisecond)
			continue
		}
		now := time.Since(s.origin)
		first, last = 0, 0
		for i := range p.received {
			turn++
			answer := s.respond(l, p.queries[i][:p.in[i].len], p.sender(i), now, turn, p.answers[last][:0])
			if answer == nil {
				continue
			}
			o := &p.out[last]
			p.outVec[last].Base = &answer[0]
			p.outVec[last].SetLen(len(answer))
			o.hdr.Name, o.hdr.Namelen = p.in[i].hdr.Name, p.in[i].hdr.Namelen
			last++
		}
		for first < last {
			if raw.Write(send) != nil {
				return
			}
		}
	}
}
