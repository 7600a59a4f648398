package udp

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const reusePort = true

// readBatch is how many datagrams one call reads.
const readBatch = 64

type raw struct{ rc syscall.RawConn }

// The system calls here never block (MSG_DONTWAIT), so the scheduler is not told of them
// (RawSyscall6): telling it wakes its monitor thread each time that the process was idle
// before, which was a fifth of all CPU time at a few hundred packets a second.

// mmsghdr is struct mmsghdr of <sys/socket.h>.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

func listen(a netip.AddrPort, shared bool) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if shared {
			if e := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}); e != nil {
				return e
			}
		}
		return err
	}}
	network := "udp4"
	if a.Addr().Is6() {
		network = "udp"
	}
	c, err := lc.ListenPacket(context.Background(), network, a.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func (s *Socket) init() (err error) {
	if s.rc, err = s.conn.SyscallConn(); err != nil {
		return err
	}
	return s.rc.Control(func(fd uintptr) {
		if s.v6 {
			// A socket of a certain IPv6 address has that family only.
			family, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
			s.v6 = err != nil || family == unix.AF_INET6
		}
		_, err := unix.GetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT)
		s.segments.Store(err == nil)
	})
}

// Read hands what comes to h until the socket is closed, and calls done after each
// batch.
func (s *Socket) Read(h Handler, done func()) error {
	const room = Headroom + Size
	bufs := make([]byte, readBatch*room)
	names := make([]unix.RawSockaddrInet6, readBatch)
	iovs := make([]unix.Iovec, readBatch)
	msgs := make([]mmsghdr, readBatch)
	for i := range msgs {
		iovs[i].Base = &bufs[i*room+Headroom]
		iovs[i].SetLen(Size)
		msgs[i].hdr.Name = (*byte)(unsafe.Pointer(&names[i]))
		msgs[i].hdr.Iov = &iovs[i]
		msgs[i].hdr.SetIovlen(1)
	}
	var n int
	var errno syscall.Errno
	read := func(fd uintptr) bool {
		r, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&msgs[0])), readBatch, unix.MSG_DONTWAIT, 0, 0)
		n, errno = int(r), e
		return e != unix.EAGAIN
	}
	for {
		for i := range msgs {
			msgs[i].hdr.Namelen = unix.SizeofSockaddrInet6
		}
		if err := s.rc.Read(read); err != nil {
			return err
		}
		if errno != 0 {
			// An ICMP error of an earlier packet, or a signal: not ours to end for.
			if errno == unix.EBADF {
				return errno
			}
			continue
		}
		s.reads.Add(1)
		s.in.Add(uint64(n))
		var bytes uint64
		for i := range n {
			l := int(msgs[i].len)
			bytes += uint64(l)
			h(address(&names[i]), bufs[i*room:i*room+Headroom+l:(i+1)*room])
		}
		s.inBytes.Add(bytes)
		done()
	}
}

func address(n *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&n.Port))[:])
	if n.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(n)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(n.Addr).Unmap(), port)
}

// platform is what a Batch needs to call the kernel.
type platform struct {
	iovs     []unix.Iovec
	names    []unix.RawSockaddrInet6
	hdrs     []mmsghdr
	controls []control
	write    func(fd uintptr) bool
	from, n  int // of hdrs: the next one, and how many there are
	errno    syscall.Errno
	waited   bool
}

// control is a cmsghdr with a uint16, padded.
type control struct {
	hdr unix.Cmsghdr
	val uint16
	_   [6]byte
}

func (b *Batch) init() {
	b.iovs = make([]unix.Iovec, maxPackets)
	b.names = make([]unix.RawSockaddrInet6, maxPackets)
	b.hdrs = make([]mmsghdr, maxPackets)
	b.controls = make([]control, maxPackets)
	b.write = func(fd uintptr) bool {
		r, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.hdrs[b.from])), uintptr(b.n-b.from), unix.MSG_DONTWAIT, 0, 0)
		b.errno = e
		if e == unix.EAGAIN {
			if !b.waited {
				b.waited = true
				_ = b.s.conn.SetWriteDeadline(time.Now().Add(Patience))
			}
			return false
		}
		if e == 0 {
			b.from += int(r)
		}
		return true
	}
}

func (b *Batch) flush() {
	b.lay(b.s.segments.Load())
	b.from, b.waited = 0, false
	for b.from < b.n {
		b.s.writes.Add(1)
		if err := b.s.rc.Write(b.write); err != nil {
			b.dropped(b.from, b.n)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			break
		}
		switch b.errno {
		case 0, unix.EINTR:
		case unix.EIO:
			// The device can't compute checksums for segments: one by one from now on.
			if b.s.segments.CompareAndSwap(true, false) {
				b.msgs = b.msgs[:copy(b.msgs, b.msgs[b.from:])]
				b.lay(false)
				b.from = 0
				continue
			}
			fallthrough
		default: // this one can't be sent, e.g. for want of a route
			b.dropped(b.from, b.from+1)
			b.from++
		}
	}
	if b.waited {
		_ = b.s.conn.SetWriteDeadline(time.Time{})
	}
}

// lay writes what the kernel reads: a header per message and a vector per packet, or,
// without segmentation, a header per packet.
func (b *Batch) lay(segments bool) {
	iov, h := 0, 0
	var packets, bytes uint64
	for i := range b.msgs {
		m := &b.msgs[i]
		length := sockaddr(&b.names[i], m.to, b.s.v6)
		start := iov
		for at := m.first + 1; at != 0; {
			p := &b.parts[at-1]
			b.iovs[iov].Base = &p.p[0]
			b.iovs[iov].SetLen(len(p.p))
			iov++
			at = p.next
		}
		packets += uint64(iov - start)
		bytes += uint64(m.bytes)
		step := iov - start
		if !segments {
			step = 1
		}
		for ; start < iov; start += step {
			hdr := &b.hdrs[h].hdr
			hdr.Name = (*byte)(unsafe.Pointer(&b.names[i]))
			hdr.Namelen = length
			hdr.Iov = &b.iovs[start]
			hdr.SetIovlen(step)
			hdr.Control, hdr.Controllen = nil, 0
			if step > 1 {
				c := &b.controls[h]
				c.hdr.Level, c.hdr.Type = unix.SOL_UDP, unix.UDP_SEGMENT
				c.hdr.SetLen(unix.CmsgLen(2))
				c.val = uint16(m.segment)
				hdr.Control = (*byte)(unsafe.Pointer(c))
				hdr.SetControllen(unix.CmsgSpace(2))
			}
			h++
		}
	}
	b.n = h
	b.s.out.Add(packets)
	b.s.outBytes.Add(bytes)
}

// dropped counts the packets of messages that were not sent.
func (b *Batch) dropped(from, to int) {
	var n uint64
	for i := from; i < to; i++ {
		n += uint64(b.hdrs[i].hdr.Iovlen)
	}
	b.s.droppeds.Add(n)
	b.s.out.Add(^(n - 1))
}

func sockaddr(n *unix.RawSockaddrInet6, a netip.AddrPort, v6 bool) uint32 {
	port := (*[2]byte)(unsafe.Pointer(&n.Port))
	binary.BigEndian.PutUint16(port[:], a.Port())
	if a.Addr().Is4() && !v6 {
		n4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(n))
		n4.Family, n4.Addr = unix.AF_INET, a.Addr().As4()
		return unix.SizeofSockaddrInet4
	}
	n.Family, n.Addr, n.Flowinfo, n.Scope_id = unix.AF_INET6, a.Addr().As16(), 0, 0
	return unix.SizeofSockaddrInet6
}
