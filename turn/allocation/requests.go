package allocation

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"

	"github.com/mustermesh/muster/turn/cred"
)

var (
	bindingRequest    = stun.NewType(stun.MethodBinding, stun.ClassRequest)
	allocateRequest   = stun.NewType(stun.MethodAllocate, stun.ClassRequest)
	refreshRequest    = stun.NewType(stun.MethodRefresh, stun.ClassRequest)
	permissionRequest = stun.NewType(stun.MethodCreatePermission, stun.ClassRequest)
	channelRequest    = stun.NewType(stun.MethodChannelBind, stun.ClassRequest)
	sendIndication    = stun.NewType(stun.MethodSend, stun.ClassIndication)
	dataIndication    = stun.NewType(stun.MethodData, stun.ClassIndication)
)

// message takes a STUN message.
func (m *Machine) message(now time.Time, f Flow, packet []byte) Effect {
	if !stun.IsMessage(packet) || packet[0]&0xc0 != 0 {
		return m.drop(Malformed)
	}
	m.in.Raw = packet
	if m.in.Decode() != nil {
		return m.drop(Malformed)
	}
	if m.in.Type == sendIndication {
		return m.send(now, f)
	}
	m.proven = int(f.Listener) < len(m.Connected) && m.Connected[f.Listener]
	src := m.sources.of(now, f.Client.Addr())
	src.sent(len(packet))
	switch m.in.Type {
	case bindingRequest:
		m.begin(stun.ClassSuccessResponse)
		m.address(stun.AttrXORMappedAddress, f.Client)
		m.Counts.Bindings++
		return m.finish(nil, src)
	case allocateRequest, refreshRequest, permissionRequest, channelRequest:
		return m.request(now, f, src)
	default:
		return m.drop(Malformed)
	}
}

// request takes one that needs credentials.
func (m *Machine) request(now time.Time, f Flow, src *source) Effect {
	username, realm, nonce := m.attr(stun.AttrUsername), m.attr(stun.AttrRealm), m.attr(stun.AttrNonce)
	switch {
	case m.attr(stun.AttrMessageIntegrity) == nil:
		return m.challenge(now, f, src, stun.CodeUnauthorized, Challenged)
	case username == nil || realm == nil || nonce == nil:
		return m.stranger(src, stun.CodeBadRequest, Malformed)
	}
	known, fresh := m.nonces.check(now, f.Client, nonce)
	if !known || !fresh {
		return m.challenge(now, f, src, stun.CodeStaleNonce, StaleNonce)
	}
	a := m.flows[f]
	if a != nil && !now.Before(a.ends) {
		m.end(now, a)
		a = nil
	}
	if a == nil && src.deaf() {
		return m.drop(Throttled)
	}
	user, expiry, err := cred.Parse(string(username))
	if err != nil || string(realm) != m.Realm {
		src.fail()
		return m.challenge(now, f, src, stun.CodeUnauthorized, WrongPassword)
	}
	var key cred.Key
	switch {
	case a != nil && a.username == string(username):
		key = a.key
		if !m.signed(key) {
			src.fail()
			return m.challenge(now, f, src, stun.CodeUnauthorized, WrongPassword)
		}
	default:
		ok := false
		for _, k := range m.Secrets.Load().Keys(string(username), m.Realm) {
			if m.signed(k) {
				key, ok = k, true
			}
		}
		if !ok {
			src.fail()
			return m.challenge(now, f, src, stun.CodeUnauthorized, WrongPassword)
		}
		if !now.Before(expiry) {
			src.fail()
			return m.challenge(now, f, src, stun.CodeUnauthorized, Expired)
		}
	}
	m.onlySigned()
	if unknown := m.unknown(); len(unknown) > 0 {
		m.fail(stun.CodeUnknownAttribute, Unsupported)
		_ = unknown.AddTo(&m.out)
		return m.finish(key[:], nil)
	}
	switch {
	case m.in.Type == allocateRequest:
		return m.allocate(now, f, a, user, string(username), key)
	case a == nil && m.in.Type == refreshRequest && m.lifetime(now, time.Time{}) == 0:
		// It is over already, as was asked; an answer that was lost is asked for again.
		m.begin(stun.ClassSuccessResponse)
		m.addUint32(stun.AttrLifetime, 0)
		return m.finish(key[:], nil)
	case a == nil:
		return m.refuse(key, stun.CodeAllocMismatch, Mismatch)
	case a.id != user:
		return m.refuse(key, stun.CodeWrongCredentials, WrongUser)
	}
	switch m.in.Type {
	case refreshRequest:
		return m.refresh(now, a, key)
	case permissionRequest:
		return m.createPermission(now, a, key)
	default:
		return m.bindChannel(now, a, key)
	}
}

func (m *Machine) allocate(now time.Time, f Flow, a *Allocation, user, username string, key cred.Key) Effect {
	if a != nil {
		if a.transaction == m.in.TransactionID && a.username == username { // the answer was lost
			return m.allocated(now, a)
		}
		return m.refuse(key, stun.CodeAllocMismatch, Mismatch)
	}
	ip4, even, code := m.wanted()
	if code != 0 {
		if code == stun.CodeInsufficientCapacity {
			return m.refuse(key, code, Capacity)
		}
		return m.refuse(key, code, Unsupported)
	}
	if m.Draining.Load() {
		return m.elsewhere(f, key)
	}
	if m.Allocations.Add(1) > m.Most {
		m.Allocations.Add(-1)
		return m.refuse(key, stun.CodeInsufficientCapacity, Capacity)
	}
	held, ok := m.Users.Acquire(now, user)
	if !ok {
		m.Allocations.Add(-1)
		return m.refuse(key, stun.CodeAllocQuotaReached, UserQuota)
	}
	a = &Allocation{
		Flow: f, user: held, id: user, username: username, key: key, transaction: m.in.TransactionID, born: now,
	}
	a.ends = now.Add(m.lifetime(now, now.Add(m.MaxAge)))
	relayed, err := m.relays.Open(a, ip4, even)
	if err != nil {
		m.Users.Release(now, held)
		m.Allocations.Add(-1)
		return m.refuse(key, stun.CodeInsufficientCapacity, Capacity)
	}
	a.Relayed = relayed
	m.flows[f] = a
	m.Counts.Created++
	return m.allocated(now, a)
}

// elsewhere refuses an allocation because the server drains (RFC 8489 section 10).
func (m *Machine) elsewhere(f Flow, key cred.Key) Effect {
	if int(f.Listener) < len(m.Alternates) {
		if to := m.Alternates[f.Listener]; to.IsValid() && to.Addr().Is4() == f.Client.Addr().Is4() {
			m.fail(stun.CodeTryAlternate, Draining)
			m.plainAddress(stun.AttrAlternateServer, to)
			return m.finish(key[:], nil)
		}
	}
	return m.refuse(key, stun.CodeInsufficientCapacity, Draining)
}

// wanted reads what kind of allocation is asked for; code is 0 if there is that kind.
func (m *Machine) wanted() (ip4, even bool, code stun.ErrorCode) {
	const udp = 17
	switch t := m.attr(stun.AttrRequestedTransport); {
	case len(t) != 4:
		return false, false, stun.CodeBadRequest
	case t[0] != udp:
		return false, false, stun.CodeUnsupportedTransProto
	}
	family := m.attr(stun.AttrRequestedAddressFamily)
	switch {
	case family == nil || len(family) == 4 && family[0] == 1:
		ip4 = true
	case len(family) != 4 || family[0] != 2:
		return false, false, stun.CodeAddrFamilyNotSupported
	}
	if ip4 && !m.Families.IP4 || !ip4 && !m.Families.IP6 {
		return false, false, stun.CodeAddrFamilyNotSupported
	}
	if e := m.attr(stun.AttrEvenPort); e != nil {
		if len(e) != 1 {
			return false, false, stun.CodeBadRequest
		}
		if even = true; e[0]&0x80 != 0 { // and the next one reserved: there are no reservations
			return false, false, stun.CodeInsufficientCapacity
		}
	}
	if m.attr(stun.AttrReservationToken) != nil {
		return false, false, stun.CodeInsufficientCapacity
	}
	return ip4, even, 0
}

func (m *Machine) allocated(now time.Time, a *Allocation) Effect {
	m.begin(stun.ClassSuccessResponse)
	m.address(stun.AttrXORRelayedAddress, a.Relayed)
	m.addUint32(stun.AttrLifetime, uint32(a.ends.Sub(now)/time.Second))
	m.address(stun.AttrXORMappedAddress, a.Flow.Client)
	return m.finish(a.key[:], nil)
}

// lifetime is what a request asks for, within what is given, until most; the zero
// value of most is no bound.
func (m *Machine) lifetime(now, most time.Time) time.Duration {
	d := minLifetime
	if l := m.attr(stun.AttrLifetime); len(l) == 4 {
		asked := binary.BigEndian.Uint32(l)
		if asked == 0 && m.in.Type == refreshRequest {
			return 0
		}
		d = max(minLifetime, min(maxLifetime, time.Duration(asked)*time.Second))
	}
	if !most.IsZero() {
		d = max(0, min(d, most.Sub(now)))
	}
	return d
}

func (m *Machine) refresh(now time.Time, a *Allocation, key cred.Key) Effect {
	if family := m.attr(stun.AttrRequestedAddressFamily); family != nil {
		if len(family) != 4 || (family[0] == 1) != a.Relayed.Addr().Is4() {
			return m.refuse(key, stun.CodePeerAddrFamilyMismatch, Unsupported)
		}
	}
	d := m.lifetime(now, a.born.Add(m.MaxAge))
	if d <= 0 {
		m.end(now, a)
	} else {
		a.ends = now.Add(d)
	}
	m.begin(stun.ClassSuccessResponse)
	m.addUint32(stun.AttrLifetime, uint32(d/time.Second))
	return m.finish(key[:], nil)
}

func (m *Machine) createPermission(now time.Time, a *Allocation, key cred.Key) Effect {
	var ips []netip.Addr
	for _, at := range m.in.Attributes {
		if at.Type != stun.AttrXORPeerAddress {
			continue
		}
		peer, ok := m.peer(at.Value)
		switch {
		case !ok || len(ips) >= maxPeers:
			return m.refuse(key, stun.CodeBadRequest, Malformed)
		case peer.Addr().Is4() != a.Relayed.Addr().Is4():
			return m.refuse(key, stun.CodePeerAddrFamilyMismatch, Unsupported)
		case !m.Peers.Permits(peer.Addr()):
			return m.refuse(key, stun.CodeForbidden, ForbiddenPeer)
		}
		ips = append(ips, peer.Addr())
	}
	if len(ips) == 0 {
		return m.refuse(key, stun.CodeBadRequest, Malformed)
	}
	more := 0
	for _, ip := range ips {
		if a.permissions[ip] == nil {
			more++
		}
	}
	if len(a.permissions)+more > maxPeers {
		return m.refuse(key, stun.CodeInsufficientCapacity, Capacity)
	}
	for _, ip := range ips {
		m.permit(now, a, ip)
	}
	m.Counts.Permissions++
	m.begin(stun.ClassSuccessResponse)
	return m.finish(key[:], nil)
}

func (m *Machine) bindChannel(now time.Time, a *Allocation, key cred.Key) Effect {
	n, peer := m.attr(stun.AttrChannelNumber), netip.AddrPort{}
	ok := len(n) == 4
	if ok {
		peer, ok = m.peer(m.attr(stun.AttrXORPeerAddress))
	}
	if !ok {
		return m.refuse(key, stun.CodeBadRequest, Malformed)
	}
	number := binary.BigEndian.Uint16(n)
	byNumber, byPeer := a.numbers[number], a.channels[peer]
	switch {
	case number < minChannel || number > maxChannel || byNumber != byPeer:
		return m.refuse(key, stun.CodeBadRequest, Malformed)
	case peer.Addr().Is4() != a.Relayed.Addr().Is4():
		return m.refuse(key, stun.CodePeerAddrFamilyMismatch, Unsupported)
	case !m.Peers.PermitsPort(peer):
		return m.refuse(key, stun.CodeForbidden, ForbiddenPeer)
	case byPeer == nil && len(a.channels) >= maxPeers, a.permissions[peer.Addr()] == nil && len(a.permissions) >= maxPeers:
		return m.refuse(key, stun.CodeInsufficientCapacity, Capacity)
	}
	if byPeer == nil {
		byPeer = &Channel{Number: number, Peer: peer}
		if a.numbers == nil {
			a.numbers, a.channels = map[uint16]*Channel{}, map[netip.AddrPort]*Channel{}
		}
		a.numbers[number], a.channels[peer] = byPeer, byPeer
	}
	byPeer.ends, byPeer.permission = now.Add(channelLifetime), m.permit(now, a, peer.Addr())
	m.Counts.ChannelsSet++
	m.begin(stun.ClassSuccessResponse)
	return m.finish(key[:], nil)
}

// send takes a Send indication, which nobody answers.
func (m *Machine) send(now time.Time, f Flow) Effect {
	a := m.flows[f]
	if a == nil {
		return m.drop(Mismatch)
	}
	peer, ok := m.peer(m.attr(stun.AttrXORPeerAddress))
	data := m.attr(stun.AttrData)
	if !ok || data == nil || len(m.unknown()) > 0 {
		return m.drop(Malformed)
	}
	if p := a.permissions[peer.Addr()]; p == nil || !now.Before(p.ends) {
		return m.drop(NoPermission)
	}
	if !m.Peers.PermitsPort(peer) {
		return m.drop(ForbiddenPeer)
	}
	return m.toPeer(now, a, nil, peer, data)
}
