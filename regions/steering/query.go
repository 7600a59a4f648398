package steering

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

const (
	headerLen = 12
	maxName   = 255 // bytes, RFC 1035 section 2.3.4
	maxExtra  = 4   // records beside the question; one is OPT, there may be a TSIG
)

// query is what a packet asks. Its slices are of the packet.
type query struct {
	id     uint16
	rd     bool
	end    int    // of the question, from the packet's start
	name   []byte // the name as it was sent, in wire form; empty: none could be read
	qtype  uint16
	qclass uint16

	edns    bool
	size    int // that the client can take by UDP
	do      bool
	version uint8
	nsid    bool
	subnet  subnet
}

// subnet is the client subnet option.
type subnet struct {
	present bool
	family  uint16
	source  uint8
	raw     []byte // the address's bytes, as they were sent
	addr    netip.Addr
}

const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
)

// parse reads a packet. ok is false for what must not be answered: what is too
// short to have an id, and answers (or two servers could keep each other busy).
// Otherwise rcode says what is wrong with it; NOERROR: nothing.
func (q *query) parse(p []byte) (rcode int, ok bool) {
	*q = query{size: dns.MinMsgSize}
	if len(p) < headerLen {
		return 0, false
	}
	flags := binary.BigEndian.Uint16(p[2:])
	if flags&flagQR != 0 {
		return 0, false
	}
	q.id, q.rd, q.end = binary.BigEndian.Uint16(p), flags&flagRD != 0, headerLen
	if flags>>11&0xf != dns.OpcodeQuery {
		return dns.RcodeNotImplemented, true
	}
	extra := int(binary.BigEndian.Uint16(p[10:]))
	if binary.BigEndian.Uint16(p[4:]) != 1 || binary.BigEndian.Uint32(p[6:]) != 0 || extra > maxExtra {
		return dns.RcodeFormatError, true
	}
	name := nameLen(p[headerLen:], false)
	at := headerLen + name
	if name == 0 || at+4 > len(p) {
		return dns.RcodeFormatError, true
	}
	q.name = p[headerLen:at]
	q.qtype, q.qclass = binary.BigEndian.Uint16(p[at:]), binary.BigEndian.Uint16(p[at+2:])
	q.end = at + 4
	rest := p[q.end:]
	for range extra {
		owner := nameLen(rest, true)
		if owner == 0 || len(rest) < owner+10 {
			return dns.RcodeFormatError, true
		}
		fixed := rest[owner:]
		data := int(binary.BigEndian.Uint16(fixed[8:]))
		if len(fixed) < 10+data {
			return dns.RcodeFormatError, true
		}
		if binary.BigEndian.Uint16(fixed) == dns.TypeOPT {
			if q.edns || owner != 1 { // RFC 6891 section 6.1.1: one, of the root
				return dns.RcodeFormatError, true
			}
			q.edns = true
			q.size = max(q.size, int(binary.BigEndian.Uint16(fixed[2:])))
			q.version, q.do = fixed[5], fixed[6]&0x80 != 0
			if q.version == 0 && !q.options(fixed[10:10+data]) {
				return dns.RcodeFormatError, true
			}
		}
		rest = fixed[10+data:]
	}
	if len(rest) != 0 {
		return dns.RcodeFormatError, true
	}
	if q.version != 0 {
		return dns.RcodeBadVers, true
	}
	return dns.RcodeSuccess, true
}

// nameLen is the length of a name in wire form; 0: it is none. A pointer is
// allowed only where the name is of no interest.
func nameLen(p []byte, pointer bool) int {
	for i := 0; i < len(p) && i < maxName; {
		switch n := int(p[i]); {
		case n == 0:
			return i + 1
		case n < 64:
			i += n + 1
		case n >= 192 && pointer && i+1 < len(p):
			return i + 2
		default:
			return 0
		}
	}
	return 0
}

func (q *query) options(p []byte) bool {
	for len(p) > 0 {
		if len(p) < 4 {
			return false
		}
		code, n := binary.BigEndian.Uint16(p), int(binary.BigEndian.Uint16(p[2:]))
		if len(p) < 4+n {
			return false
		}
		switch code {
		case dns.EDNS0NSID:
			q.nsid = true
		case dns.EDNS0SUBNET:
			if q.subnet.present || !q.subnet.parse(p[4:4+n]) {
				q.subnet = subnet{}
				return false
			}
		}
		p = p[4+n:]
	}
	return true
}

// parse reads the option's data; false: it is malformed (RFC 7871 section 6).
func (s *subnet) parse(p []byte) bool {
	if len(p) < 4 {
		return false
	}
	s.present, s.family, s.source = true, binary.BigEndian.Uint16(p), p[2]
	s.raw = p[4:]
	bits := 0
	switch s.family {
	case 0: // as some resolvers say that they have none
	case 1:
		bits = 32
	case 2:
		bits = 128
	default:
		return false
	}
	source := int(s.source)
	if p[3] != 0 || source > bits || len(s.raw) != (source+7)/8 {
		return false
	}
	if spare := len(s.raw)*8 - source; spare > 0 && s.raw[len(s.raw)-1]&(1<<spare-1) != 0 {
		return false
	}
	var b [16]byte
	copy(b[:], s.raw)
	switch s.family {
	case 1:
		s.addr = netip.AddrFrom4([4]byte(b[:4]))
	case 2:
		s.addr = netip.AddrFrom16(b)
	}
	return true
}
