package allocation

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v3"

	"github.com/mustermesh/muster/turn/cred"
)

// attr is the value of an attribute of the request; nil without.
func (m *Machine) attr(t stun.AttrType) []byte {
	for _, a := range m.in.Attributes {
		if a.Type == t {
			if a.Value == nil {
				return []byte{}
			}
			return a.Value
		}
	}
	return nil
}

// signed reports whether the request is signed with the key.
func (m *Machine) signed(key cred.Key) bool {
	i := slices.IndexFunc(m.in.Attributes, func(a stun.RawAttribute) bool { return a.Type == stun.AttrMessageIntegrity })
	return i >= 0 && len(m.in.Attributes[i].Value) == 20 && stun.MessageIntegrity(key[:]).Check(&m.in) == nil
}

// onlySigned forgets what stands behind the signature: anybody may have put it there
// (RFC 8489 section 14.5).
func (m *Machine) onlySigned() {
	i := slices.IndexFunc(m.in.Attributes, func(a stun.RawAttribute) bool { return a.Type == stun.AttrMessageIntegrity })
	m.in.Attributes = m.in.Attributes[:i+1]
}

// unknown are the attributes that have to be understood and are not (RFC 8489 section
// 14: those below 0x8000).
func (m *Machine) unknown() (list stun.UnknownAttributes) {
	for _, a := range m.in.Attributes {
		if a.Type >= 0x8000 {
			continue
		}
		switch a.Type {
		case stun.AttrUsername, stun.AttrRealm, stun.AttrNonce, stun.AttrMessageIntegrity,
			stun.AttrRequestedTransport, stun.AttrRequestedAddressFamily, stun.AttrEvenPort, stun.AttrReservationToken,
			stun.AttrLifetime, stun.AttrXORPeerAddress, stun.AttrChannelNumber, stun.AttrData:
		default:
			list = append(list, a.Type)
		}
	}
	return list
}

// peer decodes a XOR-PEER-ADDRESS (RFC 8489 section 14.2). It does not allocate, since
// each Send indication has one.
func (m *Machine) peer(v []byte) (netip.AddrPort, bool) {
	var mask [16]byte
	copy(mask[:], m.in.Raw[4:stunHeader]) // cookie and transaction
	if len(v) < 4 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(v[2:]) ^ binary.BigEndian.Uint16(mask[:])
	switch {
	case v[1] == 1 && len(v) == addressAttr4:
		var ip [4]byte
		for i := range ip {
			ip[i] = v[4+i] ^ mask[i]
		}
		return netip.AddrPortFrom(netip.AddrFrom4(ip), port), true
	case v[1] == 2 && len(v) == addressAttr6:
		for i := range mask {
			mask[i] ^= v[4+i]
		}
		return netip.AddrPortFrom(netip.AddrFrom16(mask), port), true
	}
	return netip.AddrPort{}, false
}

// begin begins an answer to the request at hand.
func (m *Machine) begin(class stun.MessageClass) {
	m.out.Reset()
	m.out.Type = stun.NewType(m.in.Type.Method, class)
	m.out.TransactionID = m.in.TransactionID
	m.out.WriteHeader()
}

// finish ends it. It is signed with the key, or, without one, goes to a stranger.
func (m *Machine) finish(key []byte, stranger *source) Effect {
	if key != nil {
		_ = stun.MessageIntegrity(key).AddTo(&m.out) // there is no fingerprint before it
	} else if !m.proven && !stranger.answer(len(m.out.Raw)) {
		return m.drop(Throttled)
	}
	return Effect{Kind: ToClient, Answer: true, Data: m.out.Raw}
}

// fail begins an error. Its reason phrase is empty: the code says it all, and what is
// sent to strangers is short.
func (m *Machine) fail(code stun.ErrorCode, r Reason) {
	m.Counts.Refused[r]++
	m.begin(stun.ClassErrorResponse)
	m.out.Add(stun.AttrErrorCode, []byte{0, 0, byte(code / 100), byte(code % 100)})
}

// refuse is an error for somebody who showed who they are.
func (m *Machine) refuse(key cred.Key, code stun.ErrorCode, r Reason) Effect {
	m.fail(code, r)
	return m.finish(key[:], nil)
}

// stranger is an error for somebody who did not.
func (m *Machine) stranger(src *source, code stun.ErrorCode, r Reason) Effect {
	m.fail(code, r)
	return m.finish(nil, src)
}

// challenge is stranger with what is needed to try again.
func (m *Machine) challenge(now time.Time, f Flow, src *source, code stun.ErrorCode, r Reason) Effect {
	m.fail(code, r)
	nonce := m.nonces.make(now, f.Client)
	m.out.Add(stun.AttrRealm, []byte(m.Realm))
	m.out.Add(stun.AttrNonce, nonce[:])
	return m.finish(nil, src)
}

func (m *Machine) addUint32(t stun.AttrType, v uint32) {
	m.out.Add(t, binary.BigEndian.AppendUint32(nil, v))
}

func (m *Machine) address(t stun.AttrType, a netip.AddrPort) {
	x := stun.XORMappedAddress{IP: net.IP(a.Addr().AsSlice()), Port: int(a.Port())}
	_ = x.AddToAs(&m.out, t) // an address of 4 or 16 bytes
}

func (m *Machine) plainAddress(t stun.AttrType, a netip.AddrPort) {
	x := stun.MappedAddress{IP: net.IP(a.Addr().AsSlice()), Port: int(a.Port())}
	_ = x.AddToAs(&m.out, t)
}

// indication puts the header of a Data indication before a peer's n bytes at
// buf[Headroom:], and returns it all.
func (m *Machine) indication(peer netip.AddrPort, buf []byte, n int) []byte {
	address := addressAttr4
	if peer.Addr().Is6() {
		address = addressAttr6
	}
	b := buf[Headroom-stunHeader-attrHeader-address-attrHeader:]
	head := stunHeader + attrHeader + address + attrHeader
	end := pad(b, head+n)
	m.serial++
	binary.BigEndian.PutUint16(b, dataIndication.Value())
	binary.BigEndian.PutUint16(b[2:], uint16(end-stunHeader))
	binary.BigEndian.PutUint32(b[4:], magicCookie)
	binary.BigEndian.PutUint32(b[8:], 0)
	binary.BigEndian.PutUint64(b[12:], m.serial)
	at := b[stunHeader:]
	binary.BigEndian.PutUint16(at, uint16(stun.AttrXORPeerAddress))
	binary.BigEndian.PutUint16(at[2:], uint16(address))
	at[4], at[5] = 0, 1
	binary.BigEndian.PutUint16(at[6:], peer.Port()^uint16(magicCookie>>16))
	if ip := peer.Addr(); ip.Is4() {
		v := ip.As4()
		copy(at[8:], v[:])
	} else {
		v := ip.As16()
		at[5] = 2
		copy(at[8:], v[:])
	}
	for i := range address - 4 {
		at[8+i] ^= b[4+i]
	}
	at = at[attrHeader+address:]
	binary.BigEndian.PutUint16(at, uint16(stun.AttrData))
	binary.BigEndian.PutUint16(at[2:], uint16(n))
	return b[:end]
}

const magicCookie = 0x2112a442 // RFC 8489 section 5
