package steering

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// maxUDP is the most that is sent by UDP: it fits into what every path carries
// in one piece (DNS flag day 2020).
const maxUDP = 1232

// result is what became of a query, for the metrics.
type result struct {
	qtype     uint16
	rcode     int
	given     prometheus.Counter // of the region whose records it was; nil: none's
	subnet    bool
	truncated bool
}

// rrset is records without their owner's name: each begins with a pointer to
// the question.
type rrset struct {
	count uint16
	wire  []byte
}

// way is how a packet came, and so how much may go back.
type way uint8

const (
	byUDP    way = iota
	byTCP        // everything
	overRate     // by UDP, too often: nothing but that TCP be used
)

// answer writes the answer to a packet behind out[:0]; nil: there is none. turn
// chooses among answers that are equally good.
func (b *book) answer(packet []byte, from netip.Addr, by way, turn uint32, out []byte) ([]byte, result) {
	var r result
	var q query
	rcode, ok := q.parse(packet)
	if !ok {
		return nil, r
	}
	r.qtype, r.rcode, r.subnet = q.qtype, rcode, q.subnet.present
	if rcode != dns.RcodeSuccess {
		return b.write(&q, packet, out, by, reply{rcode: rcode}, &r), r
	}
	a := b.resolve(&q, from, turn, &r)
	r.rcode = a.rcode
	return b.write(&q, packet, out, by, a, &r), r
}

// reply is the content of an answer.
type reply struct {
	rcode int
	auth  bool  // ours to say
	set   rrset // nothing in it, and auth: there is no such record
	zone  int   // where in the packet the zone's name begins, for SOA
	scope uint8
}

// resolve finds what to answer.
func (b *book) resolve(q *query, from netip.Addr, turn uint32, r *result) reply {
	below, ok := b.under(q.name)
	switch {
	case q.qclass != dns.ClassINET, !ok:
		return reply{rcode: dns.RcodeRefused}
	case q.qtype >= dns.TypeTKEY && q.qtype < dns.TypeANY, q.qtype == dns.TypeOPT: // transfers and other meta types
		return reply{rcode: dns.RcodeRefused}
	}
	a := reply{auth: true, zone: headerLen + below}
	var lower [maxName]byte
	for i, c := range q.name[:below] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	n, ok := b.names[string(lower[:below])]
	if !ok {
		a.rcode = dns.RcodeNameError
		return a
	}
	if q.qtype == dns.TypeANY {
		a.set = b.any // RFC 8482 section 4.2
		return a
	}
	if set, ok := n.fixed[q.qtype]; ok {
		a.set = set
		return a
	}
	if n.region == noRegion || !n.has(q.qtype) {
		return a
	}
	at := n.region
	if at == nearest {
		at, a.scope = b.nearest(&q.subnet, from)
	}
	r.given = b.regions[at].given
	a.set = b.regions[at].set(n, q.qtype, turn)
	return a
}

// under returns how much of a name stands before the zone's; false: the name is
// outside.
func (b *book) under(name []byte) (before int, ok bool) {
	before = len(name) - len(b.zone)
	if before < 0 {
		return 0, false
	}
	for i, c := range name[before:] {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		// A length is never taken for a letter: it is below 64.
		if c != b.zone[i] {
			return 0, false
		}
	}
	// The zone's name must begin where a label does.
	i := 0
	for i < before {
		i += int(name[i]) + 1
	}
	return before, i == before
}

// write makes the packet.
func (b *book) write(q *query, packet, out []byte, by way, a reply, r *result) []byte {
	flags := uint16(flagQR) | binary.BigEndian.Uint16(packet[2:])&(0xf<<11)
	if q.rd {
		flags |= flagRD
	}
	if a.auth {
		flags |= flagAA
	}
	question := packet[headerLen:q.end]
	var soa []byte
	if a.auth && a.set.count == 0 {
		soa = b.soa
	}
	limit := dns.MaxMsgSize - 1
	if by == byUDP {
		limit = min(q.size, maxUDP)
	}
	opt := 0
	if q.edns {
		opt = 11
		if q.nsid {
			opt += 4 + len(b.nsid)
		}
		if q.subnet.present {
			opt += 8 + len(q.subnet.raw)
		}
	}
	set := a.set
	if by == overRate || headerLen+len(question)+len(set.wire)+len(soa)+opt > limit {
		flags |= flagTC
		set, soa, r.truncated = rrset{}, nil, true
	}
	out = binary.BigEndian.AppendUint16(out[:0], q.id)
	out = binary.BigEndian.AppendUint16(out, flags|uint16(a.rcode&0xf))
	out = binary.BigEndian.AppendUint16(out, uint16(min(len(question), 1)))
	out = binary.BigEndian.AppendUint16(out, set.count)
	out = binary.BigEndian.AppendUint16(out, uint16(min(len(soa), 1)))
	out = binary.BigEndian.AppendUint16(out, uint16(min(opt, 1)))
	out = append(out, question...)
	out = append(out, set.wire...)
	if len(soa) > 0 {
		at := len(out)
		out = append(out, soa...)
		binary.BigEndian.PutUint16(out[at:], 0xc000|uint16(a.zone))
	}
	if !q.edns {
		return out
	}
	out = append(out, 0, 0, byte(dns.TypeOPT), maxUDP>>8, maxUDP&0xff, byte(a.rcode>>4), 0, 0, 0)
	if q.do {
		out[len(out)-2] = 0x80 // RFC 3225 section 3
	}
	out = binary.BigEndian.AppendUint16(out, uint16(opt-11))
	if q.nsid {
		out = append(out, 0, dns.EDNS0NSID)
		out = binary.BigEndian.AppendUint16(out, uint16(len(b.nsid)))
		out = append(out, b.nsid...)
	}
	if s := &q.subnet; s.present {
		out = append(out, 0, dns.EDNS0SUBNET)
		out = binary.BigEndian.AppendUint16(out, uint16(4+len(s.raw)))
		out = binary.BigEndian.AppendUint16(out, s.family)
		out = append(out, s.source, a.scope)
		out = append(out, s.raw...)
	}
	return out
}
