package turn

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mustermesh/muster/turn/allocation"
)

const (
	maxSegments = 64    // of one message, UDP_MAX_SEGMENTS of older kernels
	maxMessage  = 65000 // bytes of all of them, less than an IP packet holds
)

// outbox gathers packets that are to be sent, and sends them with as few trips through
// the kernel as there can be: one system call for each socket (sendmmsg), in which
// packets of one size to one address are one message that the kernel, or the network
// card, cuts up (UDP_SEGMENT, "GSO"). Packets to one address stay in their order.
// Nothing is copied: the memory of packets is used until flush.
type outbox struct {
	packets [slots]outPacket
	groups  [slots]group
	used    int // of packets
	grouped int // of groups
	sockets []*socket
	round   uint64 // one more after each flush

	headers [slots]mmsghdr
	vectors [slots]unix.Iovec
	control [slots]segment
	whole   bool // the system doesn't cut up messages
}

type outPacket struct {
	data []byte
	next int32 // of the group; -1: none
}

// group is packets to one address of the same size, or whose last one is shorter.
type group struct {
	to          unix.RawSockaddrInet6
	first, last int32
	count       int
	size, bytes int  // of the first packet, and of all
	full        bool // one that is shorter was put in
	next        int32
}

// segment is the control message that says how large the parts are.
type segment struct {
	unix.Cmsghdr
	size uint16
	_    [6]byte
}

func (o *outbox) init() {
	o.round = 1
	for i := range o.control {
		c := &o.control[i]
		c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
		c.SetLen(unix.CmsgLen(2))
	}
}

// put takes a packet, or reports that flush has to come before. b is the note of who
// gets several in a round; nil: nobody does.
func (o *outbox) put(s *socket, b *allocation.Batch, to netip.AddrPort, data []byte) bool {
	if o.used == slots {
		return false
	}
	i := int32(o.used)
	o.used++
	o.packets[i] = outPacket{data, -1}
	if b != nil && b.Round == o.round {
		g := &o.groups[b.Place]
		if !g.full && len(data) <= g.size && len(data) > 0 && g.count < maxSegments && g.bytes+len(data) <= maxMessage {
			o.packets[g.last].next = i
			g.last = i
			g.count++
			g.bytes += len(data)
			g.full = len(data) < g.size
			return true
		}
	}
	place := int32(o.grouped)
	o.grouped++
	g := &o.groups[place]
	g.first, g.last, g.count, g.size, g.bytes, g.full, g.next = i, i, 1, len(data), len(data), o.whole, -1
	address(&g.to, to)
	if s.round != o.round {
		s.round, s.first = o.round, place
		o.sockets = append(o.sockets, s)
	} else {
		o.groups[s.last].next = place
	}
	s.last = place
	if b != nil {
		*b = allocation.Batch{Round: o.round, Place: place}
	}
	return true
}

func address(sa *unix.RawSockaddrInet6, to netip.AddrPort) {
	if to.Addr().Is4() {
		four := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		*four = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: swap(to.Port()), Addr: to.Addr().As4()}
		return
	}
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: swap(to.Port()), Addr: to.Addr().As16()}
}

// flush sends all, and returns how many packets were not taken.
func (o *outbox) flush() (unsent int) {
	for _, s := range o.sockets {
		unsent += o.send(s)
	}
	clear(o.packets[:o.used]) // hold nobody's memory
	o.sockets = o.sockets[:0]
	o.used, o.grouped = 0, 0
	o.round++
	return unsent
}

// send sends what waits for one socket.
func (o *outbox) send(s *socket) (unsent int) {
	messages, vectors := 0, 0
	for place := s.first; place >= 0; place = o.groups[place].next {
		g := &o.groups[place]
		h := &o.headers[messages].hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&g.to)), unix.SizeofSockaddrInet6
		if g.to.Family == unix.AF_INET {
			h.Namelen = unix.SizeofSockaddrInet4
		}
		h.Iov = &o.vectors[vectors]
		h.SetIovlen(g.count)
		for i := g.first; i >= 0; i = o.packets[i].next {
			v := &o.vectors[vectors]
			data := o.packets[i].data
			v.Base = unsafe.SliceData(data)
			v.SetLen(len(data))
			vectors++
		}
		h.Control, h.Controllen = nil, 0
		if g.count > 1 {
			c := &o.control[messages]
			c.size = uint16(g.size)
			h.Control = (*byte)(unsafe.Pointer(c))
			h.SetControllen(unix.CmsgSpace(2))
		}
		messages++
	}
	for at := 0; at < messages; {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&o.headers[at])), uintptr(messages-at), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case e == 0:
			at += int(n)
		case e == unix.EINTR:
		default: // that of the first one
			unsent += o.single(s.fd, &o.headers[at].hdr, e)
			at++
		}
	}
	return unsent
}

// single sends the parts of a message that was not taken one by one, if that may help:
// a card may not be able to cut up messages, or a part may be larger than its packets.
func (o *outbox) single(fd int, h *unix.Msghdr, e unix.Errno) (unsent int) {
	count := int(h.Iovlen)
	if count == 1 {
		return 1
	}
	switch e {
	case unix.EIO, unix.EOPNOTSUPP, unix.ENOPROTOOPT:
		o.whole = true
	case unix.EINVAL, unix.EMSGSIZE:
	default:
		return count
	}
	h.Control, h.Controllen = nil, 0
	for _, v := range unsafe.Slice(h.Iov, count) {
		h.Iov = &v
		h.SetIovlen(1)
		if _, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(h)), unix.MSG_DONTWAIT); e != 0 {
			unsent++
		}
	}
	return unsent
}
