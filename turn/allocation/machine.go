package allocation

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v3"

	"github.com/mustermesh/muster/turn/cred"
	"github.com/mustermesh/muster/turn/quota"
)

// Lifetimes of RFC 8656: section 7.2 (allocations: as asked, within these), 9
// (permissions) and 12 (channels).
const (
	minLifetime        = 10 * time.Minute
	maxLifetime        = time.Hour
	permissionLifetime = 5 * time.Minute
	channelLifetime    = 10 * time.Minute
)

// Channel numbers (RFC 8656 section 12).
const (
	minChannel = 0x4000
	maxChannel = 0x4fff
)

// maxPeers is how many permissions, and how many channels, an allocation has. A call
// makes one for each candidate of the other side.
const maxPeers = 128

// Headroom is how many bytes FromPeer needs before a peer's data, and tailroom after
// it: the header is put there, in place.
const (
	Headroom = stunHeader + attrHeader + addressAttr6 + attrHeader
	Tailroom = 3

	// headers is what a packet costs beside its data: those of IPv4 and UDP.
	headers = 20 + 8

	stunHeader    = 20
	attrHeader    = 4
	addressAttr4  = 8
	addressAttr6  = 20
	channelHeader = 4
)

// Flow is the client's part of a 5-tuple (RFC 8656 section 3): its address as the
// server sees it, and on which listener.
type Flow struct {
	Client   netip.AddrPort
	Listener uint16
}

// Allocation is a relayed address and what belongs to it. All fields are the
// machine's but Socket.
type Allocation struct {
	Flow    Flow
	Relayed netip.AddrPort // as clients and peers know it

	// Socket is what Relays keeps with it.
	Socket any

	user        *quota.User
	id          string // the user's
	username    string
	key         cred.Key
	transaction [stun.TransactionIDSize]byte // that made it
	born, ends  time.Time
	permissions map[netip.Addr]*permission
	numbers     map[uint16]*Channel
	channels    map[netip.AddrPort]*Channel
}

type permission struct{ ends time.Time }

// Channel is a number that stands for a peer.
type Channel struct {
	Number uint16
	Peer   netip.AddrPort

	// Batch is the sockets' note of what waits to be sent to the peer.
	Batch Batch

	ends       time.Time
	permission *permission
}

// Batch is a place in a list of what is to be sent; it is valid in one round.
type Batch struct {
	Round uint64
	Place int32
}

// Relays opens the sockets that allocations speak to peers with.
type Relays interface {
	// Open returns a relayed address of the family, of an even port if that is asked,
	// or an error if there is none left. It may set a.Socket.
	Open(a *Allocation, ip4, even bool) (netip.AddrPort, error)
	Close(a *Allocation)
}

// Common is what the machines of one server share. It is safe for concurrent use.
type Common struct {
	Realm   string
	Secrets atomic.Pointer[cred.Secrets]
	Peers   Peers
	Users   *quota.Users
	Most    int64 // allocations
	MaxAge  time.Duration
	// Alternates are where clients go while Draining, by listener; none where it is
	// invalid or there are fewer.
	Alternates []netip.AddrPort
	// Connected are the listeners whose clients have connections: those get what is sent
	// to their address, so nobody else is hit by it.
	Connected []bool
	Families  struct{ IP4, IP6 bool }

	Draining    atomic.Bool
	Allocations atomic.Int64

	nonces *nonces
}

// NewCommon returns it with what nobody sets.
func NewCommon() *Common { return &Common{nonces: newNonces()} }

// Machine holds the allocations of a part of the clients. It is not safe for concurrent
// use.
type Machine struct {
	*Common
	Counts Counts

	relays  Relays
	flows   map[Flow]*Allocation
	sources *sources
	in, out stun.Message // the request and the answer at hand
	proven  bool         // the client gets what is sent to its address
	serial  uint64       // of Data indications
}

// New returns a machine without allocations.
func New(c *Common, r Relays) *Machine {
	return &Machine{Common: c, relays: r, flows: map[Flow]*Allocation{}, sources: newSources()}
}

// Kind is what is to be done with a packet.
type Kind uint8

// Dropped packets are counted already.
const (
	Drop Kind = iota
	ToPeer
	ToClient
)

// Effect is what comes of a packet. Data is part of the packet that went in, or of the
// machine's: then, and if Answer is set, it is valid until the next packet.
type Effect struct {
	Kind       Kind
	Answer     bool
	Allocation *Allocation    // nil for an answer to nobody's
	Channel    *Channel       // ToPeer and ToClient; nil without
	Peer       netip.AddrPort // ToPeer: where to
	Data       []byte
}

func (m *Machine) drop(r Reason) Effect {
	m.Counts.Refused[r]++
	return Effect{}
}

// Len is how many allocations there are.
func (m *Machine) Len() int { return len(m.flows) }

// IsChannelData reports whether a packet, or a frame of a stream, begins as ChannelData
// does (RFC 7983 section 7).
func IsChannelData(first byte) bool { return first&0xf0 == 0x40 }

// FromClient takes a packet of a client, or a frame of its stream.
func (m *Machine) FromClient(now time.Time, f Flow, packet []byte) Effect {
	if len(packet) < channelHeader {
		return m.drop(Malformed)
	}
	if !IsChannelData(packet[0]) {
		return m.message(now, f, packet[:len(packet):len(packet)])
	}
	size := int(packet[2])<<8 | int(packet[3])
	if size > len(packet)-channelHeader {
		return m.drop(Malformed)
	}
	a := m.flows[f]
	if a == nil {
		return m.drop(Mismatch)
	}
	ch := a.numbers[uint16(packet[0])<<8|uint16(packet[1])]
	if ch == nil || !now.Before(ch.ends) {
		return m.drop(NoChannel)
	}
	return m.toPeer(now, a, ch, ch.Peer, packet[channelHeader:channelHeader+size])
}

func (m *Machine) toPeer(now time.Time, a *Allocation, ch *Channel, peer netip.AddrPort, data []byte) Effect {
	if !now.Before(a.ends) {
		return m.drop(Mismatch)
	}
	if !a.user.Take(now, headers+len(data)) {
		return m.drop(Bandwidth)
	}
	m.Counts.PacketsOut++
	m.Counts.BytesOut += uint64(len(data))
	return Effect{Kind: ToPeer, Allocation: a, Channel: ch, Peer: peer, Data: data}
}

// FromPeer takes n bytes of a peer that came to an allocation, at buf[Headroom:]; buf
// has Tailroom behind them. Data of the effect has padding to four bytes if padded says
// so, which streams need.
func (m *Machine) FromPeer(now time.Time, a *Allocation, peer netip.AddrPort, buf []byte, n int, padded bool) Effect {
	if !now.Before(a.ends) {
		return m.drop(Mismatch)
	}
	ch := a.channels[peer]
	var p *permission
	if ch != nil && now.Before(ch.ends) {
		p = ch.permission
	} else {
		ch, p = nil, a.permissions[peer.Addr()]
	}
	if p == nil || !now.Before(p.ends) {
		return m.drop(NoPermission)
	}
	if !a.user.Take(now, headers+n) {
		return m.drop(Bandwidth)
	}
	m.Counts.PacketsIn++
	m.Counts.BytesIn += uint64(n)
	e := Effect{Kind: ToClient, Allocation: a, Channel: ch}
	if ch == nil {
		e.Data = m.indication(peer, buf, n)
		return e
	}
	buf = buf[Headroom-channelHeader:]
	buf[0], buf[1], buf[2], buf[3] = byte(ch.Number>>8), byte(ch.Number), byte(n>>8), byte(n)
	end := channelHeader + n
	if padded {
		end = pad(buf, end)
	}
	e.Data = buf[:end]
	return e
}

// pad puts zeros behind end, up to a multiple of four, and returns the new end.
func pad(b []byte, end int) int {
	for ; end%4 != 0; end++ {
		b[end] = 0
	}
	return end
}

// Each calls f with each allocation.
func (m *Machine) Each(f func(*Allocation)) {
	for _, a := range m.flows {
		f(a)
	}
}

// Gone ends the allocation of a flow, if there is one: its connection was closed.
func (m *Machine) Gone(now time.Time, f Flow) {
	if a := m.flows[f]; a != nil {
		m.end(now, a)
	}
}

// Tick ends what has to end. It is to be called about once a second.
func (m *Machine) Tick(now time.Time) {
	m.sources.forget(now)
	for _, a := range m.flows {
		if !now.Before(a.ends) {
			m.end(now, a)
			continue
		}
		for ip, p := range a.permissions {
			if !now.Before(p.ends) {
				delete(a.permissions, ip)
			}
		}
		for peer, ch := range a.channels {
			if !now.Before(ch.ends) {
				delete(a.channels, peer)
				delete(a.numbers, ch.Number)
			}
		}
	}
}

// Close ends all allocations.
func (m *Machine) Close(now time.Time) {
	for _, a := range m.flows {
		m.end(now, a)
	}
}

func (m *Machine) end(now time.Time, a *Allocation) {
	delete(m.flows, a.Flow)
	a.ends = now // for what is on its way in
	m.relays.Close(a)
	m.Users.Release(now, a.user)
	m.Allocations.Add(-1)
	m.Counts.Ended++
}

func (m *Machine) permit(now time.Time, a *Allocation, ip netip.Addr) *permission {
	p := a.permissions[ip]
	if p == nil {
		p = &permission{}
		if a.permissions == nil {
			a.permissions = map[netip.Addr]*permission{}
		}
		a.permissions[ip] = p
	}
	p.ends = now.Add(permissionLifetime)
	return p
}

// Has reports whether the flow has an allocation.
func (m *Machine) Has(f Flow) bool { return m.flows[f] != nil }
