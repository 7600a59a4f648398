package allocation

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/turn/cred"
	"github.com/mustermesh/muster/turn/quota"
)

const (
	secret = "a secret of at least sixteen bytes"
	realm  = "example.org"
)

var (
	start  = time.Unix(1_800_000_000, 0)
	relay  = netip.MustParseAddr("198.18.0.1") // allowed below
	public = netip.MustParseAddrPort("8.8.8.8:53")
)

// relays counts what is open.
type relays struct {
	next uint16
	open map[*Allocation]bool
	full bool
}

func (r *relays) Open(a *Allocation, ip4, even bool) (netip.AddrPort, error) {
	if r.full {
		return netip.AddrPort{}, errors.New("full")
	}
	r.next++
	if even && r.next%2 == 1 {
		r.next++
	}
	r.open[a] = true
	return netip.AddrPortFrom(relay, 50_000+r.next), nil
}

func (r *relays) Close(a *Allocation) { delete(r.open, a) }

func machine(limits quota.Limits) (*Machine, *relays) {
	c := NewCommon()
	c.Realm, c.Users, c.Most, c.MaxAge = realm, quota.New(limits), 1000, 24*time.Hour
	c.Secrets.Store(&cred.Secrets{secret})
	c.Peers = Peers{Own: []netip.Addr{relay}, From: 50_000, To: 60_000}
	c.Families.IP4 = true
	r := &relays{open: map[*Allocation]bool{}}
	return New(c, r), r
}

// user is a client.
type user struct {
	t                  testing.TB
	m                  *Machine
	now                time.Time
	flow               Flow
	username, password string
	nonce              string
}

func newUser(t testing.TB, m *Machine, name string, port uint16) *user {
	u := &user{t: t, m: m, now: start, flow: Flow{Client: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), port)}}
	u.username, u.password = cred.Mint(secret, name, start, time.Hour)
	return u
}

func attribute(t stun.AttrType, v ...byte) stun.Setter { return stun.RawAttribute{Type: t, Value: v} }

// peerAttr is a XOR-PEER-ADDRESS, made by hand since the library has one form only for
// an IPv4 address and its mapped one.
func peerAttr(a netip.AddrPort) stun.Setter {
	return setter(func(m *stun.Message) error {
		v := []byte{0, 2, byte(a.Port() >> 8), byte(a.Port())}
		if a.Addr().Is4() {
			v[1] = 1
		}
		v = append(v, a.Addr().AsSlice()...)
		v[2], v[3] = v[2]^m.Raw[4], v[3]^m.Raw[5]
		for i := range v[4:] {
			v[4+i] ^= m.Raw[4+i]
		}
		m.Add(stun.AttrXORPeerAddress, v)
		return nil
	})
}

type setter func(*stun.Message) error

func (s setter) AddTo(m *stun.Message) error { return s(m) }

var udp = attribute(stun.AttrRequestedTransport, 17, 0, 0, 0)

// build makes a request as the user signs it.
func (u *user) build(method stun.Method, with ...stun.Setter) []byte {
	all := append([]stun.Setter{stun.TransactionID, stun.NewType(method, stun.ClassRequest)}, with...)
	all = append(all, stun.NewUsername(u.username), stun.NewRealm(realm), stun.NewNonce(u.nonce),
		stun.NewLongTermIntegrity(u.username, realm, u.password), stun.Fingerprint)
	m, err := stun.Build(all...)
	require.NoError(u.t, err)
	return m.Raw
}

// take gives a packet to the machine and returns the answer's code, 0 for success and
// -1 for none.
func (u *user) take(packet []byte) (int, *stun.Message) {
	e := u.m.FromClient(u.now, u.flow, packet)
	if !e.Answer {
		return -1, nil
	}
	m := &stun.Message{Raw: append([]byte{}, e.Data...)}
	require.NoError(u.t, m.Decode())
	require.Equal(u.t, packet[8:20], m.TransactionID[:])
	if n, err := m.Get(stun.AttrNonce); err == nil {
		u.nonce = string(n)
	}
	var code stun.ErrorCodeAttribute
	if m.Type.Class != stun.ClassErrorResponse {
		return 0, m
	}
	require.NoError(u.t, code.GetFrom(m))
	return int(code.Code), m
}

// ask does so with a request that is made anew once if the nonce is old.
func (u *user) ask(method stun.Method, with ...stun.Setter) int {
	code, _ := u.take(u.build(method, with...))
	if code == int(stun.CodeStaleNonce) {
		code, _ = u.take(u.build(method, with...))
	}
	return code
}

func (u *user) allocate() { require.Zero(u.t, u.ask(stun.MethodAllocate, udp)) }

func (u *user) permit(a netip.AddrPort) int {
	return u.ask(stun.MethodCreatePermission, peerAttr(a))
}

func (u *user) bind(number uint16, a netip.AddrPort) int {
	return u.ask(stun.MethodChannelBind, attribute(stun.AttrChannelNumber, byte(number>>8), byte(number), 0, 0), peerAttr(a))
}

func (u *user) send(a netip.AddrPort, data string) Effect {
	m, err := stun.Build(stun.TransactionID, sendIndication, peerAttr(a), attribute(stun.AttrData, []byte(data)...))
	require.NoError(u.t, err)
	return u.m.FromClient(u.now, u.flow, m.Raw)
}

func channelData(number uint16, data string) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

func (u *user) channel(number uint16, data string) Effect {
	return u.m.FromClient(u.now, u.flow, channelData(number, data))
}

func (u *user) fromPeer(a netip.AddrPort, data string) Effect {
	buf := make([]byte, Headroom+len(data)+Tailroom)
	copy(buf[Headroom:], data)
	return u.m.FromPeer(u.now, u.m.flows[u.flow], a, buf, len(data), true)
}

func TestLifeOfAnAllocation(t *testing.T) {
	m, r := machine(quota.Limits{})
	u := newUser(t, m, "anna", 1000)
	require.Equal(t, 401, func() int {
		b, err := stun.Build(stun.TransactionID, allocateRequest, udp)
		require.NoError(t, err)
		code, _ := u.take(b.Raw)
		return code
	}(), "first a challenge")
	request := u.build(stun.MethodAllocate, udp, attribute(stun.AttrLifetime, 0, 0, 0, 1))
	code, answer := u.take(request)
	require.Zero(t, code)
	require.NoError(t, stun.NewLongTermIntegrity(u.username, realm, u.password).Check(answer))
	life, err := answer.Get(stun.AttrLifetime)
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0, 2, 88}, life, "ten minutes at least")
	code, again := u.take(request)
	require.Zero(t, code, "the answer was lost")
	require.Equal(t, answer.Raw, again.Raw)
	require.Equal(t, 437, u.ask(stun.MethodAllocate, udp), "another one on the same 5-tuple")
	require.Len(t, r.open, 1)

	require.Equal(t, Drop, u.send(public, "x").Kind)
	require.Equal(t, Drop, u.fromPeer(public, "x").Kind)
	require.Zero(t, u.permit(public))
	e := u.send(public, "hello")
	require.Equal(t, ToPeer, e.Kind)
	require.Equal(t, public, e.Peer)
	require.Equal(t, "hello", string(e.Data))
	e = u.fromPeer(netip.AddrPortFrom(public.Addr(), 99), "from any port")
	require.Equal(t, ToClient, e.Kind)
	data := &stun.Message{Raw: e.Data}
	require.NoError(t, data.Decode())
	require.Equal(t, dataIndication, data.Type)
	var from stun.XORMappedAddress
	require.NoError(t, from.GetFromAs(data, stun.AttrXORPeerAddress))
	require.Equal(t, "8.8.8.8:99", from.String())
	text, err := data.Get(stun.AttrData)
	require.NoError(t, err)
	require.Equal(t, "from any port", string(text))

	require.Equal(t, Drop, u.channel(0x4000, "x").Kind)
	require.Zero(t, u.bind(0x4000, public))
	require.Zero(t, u.bind(0x4000, public), "refreshed")
	require.Equal(t, 400, u.bind(0x4001, public), "the peer has a number")
	require.Equal(t, 400, u.bind(0x4000, netip.MustParseAddrPort("8.8.4.4:53")), "the number has a peer")
	require.Equal(t, 400, u.bind(0x3fff, netip.MustParseAddrPort("8.8.4.4:53")))
	require.Equal(t, 400, u.bind(0x5000, netip.MustParseAddrPort("8.8.4.4:53")))
	e = u.channel(0x4000, "on the channel")
	require.Equal(t, ToPeer, e.Kind)
	require.Equal(t, "on the channel", string(e.Data))
	e = u.fromPeer(public, "five!")
	require.Equal(t, "\x40\x00\x00\x05five!\x00\x00\x00", string(e.Data), "in place, padded")

	u.now = start.Add(5*time.Minute - time.Second)
	require.Equal(t, ToClient, u.fromPeer(public, "x").Kind)
	u.now = start.Add(5 * time.Minute)
	require.Equal(t, Drop, u.fromPeer(public, "x").Kind, "the permission has ended")
	require.Equal(t, ToPeer, u.channel(0x4000, "x").Kind, "the channel not yet")
	require.Equal(t, Drop, u.send(public, "x").Kind)
	require.Zero(t, u.permit(public))
	require.Equal(t, ToClient, u.fromPeer(public, "x").Kind)
	require.Zero(t, u.ask(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0x0e, 0x10)))

	u.now = start.Add(10 * time.Minute)
	require.Equal(t, Drop, u.channel(0x4000, "x").Kind, "the channel has ended")
	m.Tick(u.now)
	require.Empty(t, m.flows[u.flow].channels)
	u.now = start.Add(64 * time.Minute)
	m.Tick(u.now)
	require.Equal(t, 1, m.Len(), "refreshed for an hour")
	u.now = start.Add(65 * time.Minute)
	require.Equal(t, Drop, u.channel(0x4000, "x").Kind)
	m.Tick(u.now)
	require.Zero(t, m.Len())
	require.Empty(t, r.open)
	require.Zero(t, m.Allocations.Load())
}

func TestEndOfCredentials(t *testing.T) {
	m, _ := machine(quota.Limits{})
	u := newUser(t, m, "anna", 1000)
	require.Zero(t, u.ask(stun.MethodAllocate, udp, attribute(stun.AttrLifetime, 0, 0, 0x0e, 0x10)))
	for range 23 { // refreshed every hour, long after the credentials ended
		u.now = u.now.Add(time.Hour - time.Minute)
		require.Zero(t, u.ask(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0x0e, 0x10)))
		m.Tick(u.now)
	}
	other := newUser(t, m, "anna", 1001)
	other.now = u.now
	require.Equal(t, 401, other.ask(stun.MethodAllocate, udp), "which is not for new ones")
	require.Positive(t, m.Counts.Refused[Expired])

	u.username, u.password = cred.Mint(secret, "anna", u.now, time.Hour)
	require.Zero(t, u.ask(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0x0e, 0x10)), "later credentials of the same user")
	u.username, u.password = cred.Mint(secret, "otto", u.now, time.Hour)
	require.Equal(t, 441, u.ask(stun.MethodRefresh), "of somebody else")
	require.Equal(t, 441, u.permit(public))
	require.Equal(t, 441, u.bind(0x4000, public))
	u.username, u.password = cred.Mint(secret, "anna", u.now, 2*time.Hour)
	u.now = start.Add(23*time.Hour + 30*time.Minute)
	require.Zero(t, u.ask(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0x0e, 0x10)))
	m.Tick(start.Add(24 * time.Hour))
	require.Zero(t, m.Len(), "a day is the most")
}

func TestNonces(t *testing.T) {
	m, _ := machine(quota.Limits{})
	u := newUser(t, m, "anna", 1000)
	code, _ := u.take(u.build(stun.MethodAllocate, udp))
	require.Equal(t, 438, code)
	theirs := newUser(t, m, "anna", 1001)
	theirs.nonce = u.nonce
	code, _ = theirs.take(theirs.build(stun.MethodAllocate, udp))
	require.Equal(t, 438, code, "another client's")
	u.now = start.Add(nonceLife)
	code, _ = u.take(u.build(stun.MethodAllocate, udp))
	require.Equal(t, 438, code, "an old one")
}

func TestRefusals(t *testing.T) {
	m, r := machine(quota.Limits{Allocations: 2})
	ask := func(with ...stun.Setter) int { return newUser(t, m, "anna", 1000).ask(stun.MethodAllocate, with...) }
	require.Equal(t, 400, ask())
	require.Equal(t, 442, ask(attribute(stun.AttrRequestedTransport, 6, 0, 0, 0)))
	require.Equal(t, 440, ask(udp, attribute(stun.AttrRequestedAddressFamily, 2, 0, 0, 0)))
	require.Equal(t, 508, ask(udp, attribute(stun.AttrEvenPort, 0x80)))
	require.Equal(t, 508, ask(udp, attribute(stun.AttrReservationToken, 1, 2, 3, 4, 5, 6, 7, 8)))
	require.Equal(t, 420, ask(udp, attribute(stun.AttrDontFragment)))
	require.Equal(t, 437, newUser(t, m, "anna", 1000).ask(stun.MethodRefresh), "without an allocation")
	require.Equal(t, 0, newUser(t, m, "anna", 1000).ask(stun.MethodRefresh, attribute(stun.AttrLifetime, 0, 0, 0, 0)), "it is over, as asked")
	r.full = true
	require.Equal(t, 508, ask(udp), "no port is left")
	r.full = false
	require.Zero(t, m.Allocations.Load())
	require.Zero(t, newUser(t, m, "anna", 1000).ask(stun.MethodAllocate, udp, attribute(stun.AttrEvenPort, 0)))
	require.Zero(t, newUser(t, m, "anna", 1001).ask(stun.MethodAllocate, udp))
	require.Equal(t, 486, newUser(t, m, "anna", 1002).ask(stun.MethodAllocate, udp))
	m.Most = 2
	require.Equal(t, 508, newUser(t, m, "otto", 1003).ask(stun.MethodAllocate, udp))
	m.Most = 3
	m.Draining.Store(true)
	require.Equal(t, 508, newUser(t, m, "otto", 1003).ask(stun.MethodAllocate, udp))
	m.Alternates = []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::2]:3478")}
	require.Equal(t, 508, newUser(t, m, "otto", 1003).ask(stun.MethodAllocate, udp), "of another family")
	m.Alternates = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:3478")}
	require.Equal(t, 300, newUser(t, m, "otto", 1003).ask(stun.MethodAllocate, udp))
	require.Equal(t, int64(2), m.Allocations.Load())
}

func TestPermissionsAndChannelsAreBounded(t *testing.T) {
	m, _ := machine(quota.Limits{})
	u := newUser(t, m, "anna", 1000)
	u.allocate()
	for i := range maxPeers {
		require.Zero(t, u.bind(minChannel+uint16(i), netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 8, 8, byte(i)}), 1)))
	}
	require.Equal(t, 508, u.bind(0x4fff, netip.AddrPortFrom(netip.AddrFrom4([4]byte{8, 8, 8, 0}), 2)))
	require.Equal(t, 508, u.permit(netip.MustParseAddrPort("8.8.9.9:1")))
	require.Zero(t, u.permit(netip.MustParseAddrPort("8.8.8.0:1")), "refreshed")
}

// Whatever is not the internet is refused, in all ways to name it.
func TestPrivatePeersAreRefused(t *testing.T) {
	m, _ := machine(quota.Limits{})
	u := newUser(t, m, "anna", 1000)
	u.allocate()
	six := newUser(t, m, "otto", 1001)
	m.Families.IP6 = true
	six.allocate()
	m.flows[six.flow].Relayed = netip.MustParseAddrPort("[2001:4860::1]:50000")
	for _, ip := range strings.Fields(`0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 172.31.255.255
		192.0.0.1 192.168.0.1 198.19.0.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255
		::  ::1 ::7f00:1 ::ffff:0:7f00:1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 64:ff9b::a00:1 64:ff9b:1::1 100::1 2001::1 2002:a00:1::1 fc00::1 fd12::1 fe80::1 fec0::1 ff02::1`) {
		a := netip.AddrPortFrom(netip.MustParseAddr(ip), 80)
		who := u
		if a.Addr().Is6() {
			who = six
		}
		require.Equal(t, 403, who.permit(a), ip)
		require.Equal(t, 403, who.bind(0x4000, a), ip)
		require.Equal(t, Drop, who.send(a, "x").Kind, ip)
		require.Nil(t, m.flows[who.flow].permissions)
	}
	require.Zero(t, six.permit(netip.MustParseAddrPort("[2606:4700::1111]:1")))
	require.Equal(t, 443, six.permit(public))
	require.Equal(t, 443, u.permit(netip.MustParseAddrPort("[2606:4700::1111]:1")))
	// The relay's own address: its relayed ports, and nothing else.
	own := netip.AddrPortFrom(relay, 22)
	require.Zero(t, u.permit(own))
	require.Equal(t, 403, u.bind(0x4001, own))
	require.Equal(t, Drop, u.send(own, "x").Kind)
	require.Equal(t, 403, u.bind(0x4001, netip.AddrPortFrom(relay, 0)))
	require.Zero(t, u.bind(0x4001, netip.AddrPortFrom(relay, 50_001)))
	// What is configured.
	sfu := netip.MustParseAddrPort("10.0.0.5:7000")
	m.Peers.Single = []netip.AddrPort{sfu}
	require.Zero(t, u.bind(0x4002, sfu))
	require.Equal(t, 403, u.bind(0x4003, netip.AddrPortFrom(sfu.Addr(), 7001)))
	m.Peers.Allow = []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}
	require.Zero(t, u.bind(0x4003, netip.MustParseAddrPort("192.168.3.4:22")))
}

// What stands behind the signature is not read.
func TestNothingBehindTheSignatureCounts(t *testing.T) {
	m, _ := machine(quota.Limits{})
	u := newUser(t, m, "anna", 1000)
	u.allocate()
	b, err := stun.Build(stun.TransactionID, permissionRequest, stun.NewUsername(u.username), stun.NewRealm(realm), stun.NewNonce(u.nonce),
		stun.NewLongTermIntegrity(u.username, realm, u.password), peerAttr(public))
	require.NoError(t, err)
	code, _ := u.take(b.Raw)
	require.Equal(t, 400, code)
	require.Empty(t, m.flows[u.flow].permissions)
}

// A stranger gets no more bytes than it sent, but for the allowance.
func TestNoAmplification(t *testing.T) {
	m, _ := machine(quota.Limits{})
	binding, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	require.NoError(t, err)
	bare, err := stun.Build(stun.TransactionID, allocateRequest, udp)
	require.NoError(t, err)
	u := newUser(t, m, "anna", 1000)
	u.nonce = "0123456789abcdef"
	for name, packet := range map[string][]byte{"binding": binding.Raw, "allocate": bare.Raw, "old nonce": u.build(stun.MethodAllocate, udp)} {
		sent, got, most := 0, 0, 0
		for i := range 50_000 {
			f := Flow{Client: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.99"), uint16(i))}
			e := m.FromClient(start.Add(time.Duration(i)*time.Millisecond), f, packet)
			sent += len(packet)
			if e.Answer {
				got += len(e.Data)
				most = max(most, len(e.Data))
			}
		}
		require.LessOrEqual(t, got, sent+2*allowance, name) // 50 s of it
		require.Less(t, most, 100, name)
		require.Positive(t, got)
	}
	require.LessOrEqual(t, len(m.sources.table), 1)
	m.Tick(start.Add(time.Hour))
	require.Empty(t, m.sources.table, "nobody is remembered for ever")
}

// However many sources there are, what is remembered of them is bounded.
func TestManySources(t *testing.T) {
	m, _ := machine(quota.Limits{})
	binding, err := stun.Build(stun.TransactionID, stun.BindingRequest)
	require.NoError(t, err)
	for i := range 2 * maxSources {
		ip := netip.AddrFrom4([4]byte{9, byte(i >> 16), byte(i >> 8), byte(i)})
		m.FromClient(start, Flow{Client: netip.AddrPortFrom(ip, 1)}, binding.Raw)
	}
	require.Len(t, m.sources.table, maxSources)
	a, b := netip.MustParseAddr("2001:db8:1:2::1"), netip.MustParseAddr("2001:db8:1:2:ffff::9")
	m.sources = newSources()
	require.Same(t, m.sources.of(start, a), m.sources.of(start, b), "a /64 is one source")
}

// A source that guesses is not listened to; what it holds goes on.
func TestGuessing(t *testing.T) {
	m, _ := machine(quota.Limits{})
	good := newUser(t, m, "anna", 1000)
	good.allocate()
	bad := newUser(t, m, "otto", 1001)
	bad.password = "wrong"
	answered := 0
	for range 10_000 {
		if bad.ask(stun.MethodAllocate, udp) == 401 {
			answered++
		}
	}
	require.LessOrEqual(t, answered, failures)
	require.Greater(t, m.Counts.Refused[Throttled], uint64(9_000))
	require.Equal(t, 1, m.Len())
	require.Zero(t, good.ask(stun.MethodRefresh))
	next := newUser(t, m, "anna", 1002)
	next.now = start.Add(11 * time.Second)
	next.allocate()
}

// The path of a relayed packet does not allocate, in any of its forms.
func TestRelayingDoesNotAllocate(t *testing.T) {
	m, _ := machine(quota.Limits{Bytes: -1})
	u := newUser(t, m, "anna", 1000)
	u.allocate()
	require.Zero(t, u.bind(0x4000, public))
	other := netip.MustParseAddrPort("8.8.4.4:53")
	require.Zero(t, u.permit(other))
	packet := channelData(0x4000, strings.Repeat("x", 1200))
	indication, err := stun.Build(stun.TransactionID, sendIndication, peerAttr(other), attribute(stun.AttrData, make([]byte, 1200)...))
	require.NoError(t, err)
	buf := make([]byte, Headroom+1200+Tailroom)
	a := m.flows[u.flow]
	for name, f := range map[string]func() Effect{
		"channel out":    func() Effect { return m.FromClient(start, u.flow, packet) },
		"indication out": func() Effect { return m.FromClient(start, u.flow, indication.Raw) },
		"channel in":     func() Effect { return m.FromPeer(start, a, public, buf, 1200, false) },
		"indication in":  func() Effect { return m.FromPeer(start, a, other, buf, 1200, false) },
		"nobody's":       func() Effect { return m.FromPeer(start, a, netip.MustParseAddrPort("9.9.9.9:9"), buf, 1200, false) },
	} {
		require.Equal(t, name == "nobody's", f().Kind == Drop, name)
		require.Zero(t, testing.AllocsPerRun(1000, func() { f() }), name)
	}
}

// Whatever comes from a client: no panic, nothing without credentials, no answer
// that is longer than the largest challenge.
func FuzzFromClient(f *testing.F) {
	m, _ := machine(quota.Limits{})
	u := newUser(f, m, "anna", 1000)
	f.Add(u.build(stun.MethodAllocate, udp), false)
	f.Add(u.build(stun.MethodRefresh), true)
	f.Add(u.build(stun.MethodCreatePermission, peerAttr(public)), true)
	f.Add(channelData(0x4000, "data"), true)
	f.Add([]byte{0x40, 0, 0xff, 0xff}, true)
	b, err := stun.Build(stun.TransactionID, sendIndication, peerAttr(public), attribute(stun.AttrData, 1, 2, 3))
	require.NoError(f, err)
	f.Add(b.Raw, true)
	f.Fuzz(func(t *testing.T, packet []byte, allocated bool) {
		m, r := machine(quota.Limits{})
		u := newUser(t, m, "anna", 1000)
		if allocated {
			u.allocate()
			require.Zero(t, u.bind(0x4000, public))
		}
		e := m.FromClient(start, u.flow, packet)
		switch {
		case e.Answer && len(e.Data) > 200:
			t.Fatalf("an answer of %d bytes", len(e.Data))
		case e.Kind == ToPeer && (!allocated || e.Peer != public && e.Peer.Addr() != public.Addr()):
			t.Fatalf("sent to %v", e.Peer)
		case !allocated && len(r.open) > 0:
			t.Fatal("an allocation without credentials")
		}
	})
}

// Whatever comes from a peer is handed over whole, or not at all.
func FuzzFromPeer(f *testing.F) {
	f.Add([]byte("x"), uint16(53), true)
	f.Add([]byte{}, uint16(1), false)
	f.Fuzz(func(t *testing.T, data []byte, port uint16, padded bool) {
		if len(data) > 9000 {
			return
		}
		m, _ := machine(quota.Limits{})
		u := newUser(t, m, "anna", 1000)
		u.allocate()
		require.Zero(t, u.bind(0x4000, public))
		buf := make([]byte, Headroom+len(data)+Tailroom)
		copy(buf[Headroom:], data)
		from := netip.AddrPortFrom(public.Addr(), port)
		e := m.FromPeer(start, m.flows[u.flow], from, buf, len(data), padded)
		require.Equal(t, ToClient, e.Kind)
		if from == public {
			require.Equal(t, uint16(0x4000), binary.BigEndian.Uint16(e.Data))
			require.Equal(t, data, e.Data[4:][:binary.BigEndian.Uint16(e.Data[2:])])
			return
		}
		in := &stun.Message{Raw: e.Data}
		require.NoError(t, in.Decode())
		got, err := in.Get(stun.AttrData)
		require.NoError(t, err)
		require.Equal(t, string(data), string(got))
	})
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reasons {
		name := Reason(r).String()
		require.NotEmpty(t, name, fmt.Sprint(r))
		require.False(t, seen[name])
		seen[name] = true
	}
}
