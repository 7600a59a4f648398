package sfu

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/transport/v4/packetio"

	"github.com/mustermesh/muster/media/ice"
	"github.com/mustermesh/muster/media/sdp"
	"github.com/mustermesh/muster/media/udp"
)

// profiles of SRTP, the cheapest first.
var profiles = []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80}

const (
	maxAddrs    = 8   // from which a client may check at a time
	maxKeyed    = 64  // SSRCs whose keys are kept
	tagSpace    = 24  // the most that SRTP adds, with its index for SRTCP
	replayAfter = 512 // packets
)

// header is what the SRTP library parses headers into: kept, so that it allocates once.
type header = rtp.Header

// route is where packets of a connection go.
type route struct {
	addr netip.AddrPort
	tcp  *stream // nil: UDP
}

// media of a connection, decrypted, by the goroutine that read it.
type receiver interface {
	// rtp: room[udp.Headroom:] is the packet.
	rtp(w *writer, room []byte)
	rtcp(w *writer, b []byte)
	// keyed: packets can be sent and received from now on.
	keyed()
	// ended by the other side, or never began.
	ended(err error)
}

// conn is one connection with a client: ICE, DTLS and SRTP.
type conn struct {
	s    *Server
	to   receiver
	path atomic.Pointer[route]
	last atomic.Int64 // time.Duration since the server's start when something true came

	mu       sync.Mutex // guards the following
	closed   bool
	local    [2]ice.Credentials // now, and those before until a restart is through
	remote   sdp.Transport
	addrs    []netip.AddrPort
	dtlsRead *packetio.Buffer
	dtls     *dtls.Conn
	cancel   context.CancelFunc

	inMu   sync.Mutex // guards the following
	in     *srtp.Context
	inHead header
	known  map[uint32]struct{}

	outMu sync.Mutex // guards the following
	out   *srtp.Context
	seq   uint16 // transport-wide, of the next packet
	sent  func(seq uint16, bytes int, now time.Duration)
}

func newConn(s *Server, to receiver) *conn {
	c := &conn{s: s, to: to, known: map[uint32]struct{}{}}
	c.local[0] = ice.New()
	c.last.Store(int64(s.now()))
	return c
}

// restart makes new credentials of ICE; those before hold until the client has come
// with the new ones.
func (c *conn) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	old := c.local[1]
	c.local[1], c.local[0] = c.local[0], ice.New()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	delete(c.s.byUfrag, old.Ufrag)
	c.s.byUfrag[c.local[0].Ufrag] = c
}

func (c *conn) credentials() ice.Credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.local[0]
}

// know says who the other side is, by its description. The certificate can't change
// afterwards.
func (c *conn) know(t sdp.Transport) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.remote.Fingerprints) == 0 {
		c.remote = t
	}
	c.shakeLocked()
}

// check answers one of ICE, and learns from it where the client is.
func (c *conn) check(r *ice.Request, from route) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false
	}
	at := 0
	if r.Local() == c.local[1].Ufrag {
		at = 1
	}
	answer, nominated, err := r.Answer(c.local[at], from.addr)
	if err != nil {
		return nil, false
	}
	c.last.Store(int64(c.s.now()))
	if from.tcp != nil {
		from.tcp.owner.Store(c)
	} else if len(c.addrs) == 0 || c.addrs[len(c.addrs)-1] != from.addr {
		c.addrLocked(from.addr)
	}
	if p := c.path.Load(); p == nil || nominated && *p != from {
		c.path.Store(&from)
	}
	if nominated && at == 0 && c.local[1].Ufrag != "" {
		c.s.mu.Lock()
		delete(c.s.byUfrag, c.local[1].Ufrag)
		c.s.mu.Unlock()
		c.local[1] = ice.Credentials{}
	}
	c.shakeLocked()
	return answer, true
}

// addrLocked notes an address of the client; the one that said nothing for longest is
// forgotten when there are many.
func (c *conn) addrLocked(a netip.AddrPort) {
	for i, known := range c.addrs {
		if known == a {
			copy(c.addrs[i:], c.addrs[i+1:])
			c.addrs[len(c.addrs)-1] = a
			return
		}
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.addrs) == maxAddrs {
		if c.s.byAddr[c.addrs[0]] == c {
			delete(c.s.byAddr, c.addrs[0])
		}
		c.addrs = append(c.addrs[:0], c.addrs[1:]...)
	}
	c.addrs = append(c.addrs, a)
	c.s.byAddr[a] = c
}

// shakeLocked begins the handshake as soon as there is somebody to do it with.
func (c *conn) shakeLocked() {
	if c.closed || c.dtlsRead != nil || c.path.Load() == nil || len(c.remote.Fingerprints) == 0 {
		return
	}
	c.dtlsRead = packetio.NewBuffer()
	c.dtlsRead.SetLimitSize(64_000)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	c.cancel = cancel
	c.s.work.Go(func() {
		defer cancel()
		if err := c.shake(ctx); err != nil {
			c.to.ended(err)
		}
	})
}

func (c *conn) shake(ctx context.Context) error {
	// The other side says what it is, or lets us choose: we are the server.
	client := c.remote.Setup == "passive"
	d, err := c.open(client)
	if err != nil {
		return err
	}
	if err := d.HandshakeContext(ctx); err != nil {
		_ = d.Close()
		return err
	}
	if err := c.key(d, client); err != nil {
		_ = d.Close()
		return err
	}
	c.mu.Lock()
	c.dtls = d
	closed := c.closed
	c.mu.Unlock()
	if closed {
		_ = d.Close()
		return nil
	}
	c.to.keyed()
	// Nothing is sent inside DTLS; it is read to hear the end, and so that the last flight
	// is repeated when it was lost.
	buf := make([]byte, 256)
	for {
		if _, err := d.Read(buf); err != nil {
			return err
		}
	}
}

// open makes the DTLS side of the connection.
func (c *conn) open(client bool) (*dtls.Conn, error) {
	both := []dtls.Option{
		dtls.WithCertificates(c.s.cert),
		dtls.WithSRTPProtectionProfiles(profiles...),
		// The fingerprint says who it is.
		dtls.WithInsecureSkipVerify(true),
		dtls.WithVerifyPeerCertificate(func(raw [][]byte, _ [][]*x509.Certificate) error { return c.verify(raw) }),
		dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret),
		dtls.WithFlightInterval(200 * time.Millisecond),
	}
	pipe := dtlsPipe{c}
	if client {
		options := make([]dtls.ClientOption, len(both))
		for i, o := range both {
			options[i] = o
		}
		return dtls.ClientWithOptions(pipe, pipe.RemoteAddr(), options...)
	}
	options := []dtls.ServerOption{
		dtls.WithClientAuth(dtls.RequireAnyClientCert),
		// The check of ICE has shown that the client is where it says.
		dtls.WithInsecureSkipVerifyHello(true),
	}
	for _, o := range both {
		options = append(options, o)
	}
	return dtls.ServerWithOptions(pipe, pipe.RemoteAddr(), options...)
}

var errFingerprint = errors.New("the certificate is not the one of the description")

func (c *conn) verify(raw [][]byte) error {
	if len(raw) == 0 {
		return errFingerprint
	}
	for _, f := range c.remote.Fingerprints {
		var sum []byte
		switch f.Hash {
		case "sha-256":
			s := sha256.Sum256(raw[0])
			sum = s[:]
		case "sha-384":
			s := sha512.Sum384(raw[0])
			sum = s[:]
		case "sha-512":
			s := sha512.Sum512(raw[0])
			sum = s[:]
		default:
			continue // weaker ones are no proof (RFC 8122 section 5)
		}
		if bytes.Equal(sum, f.Value) {
			return nil
		}
		return errFingerprint
	}
	return errFingerprint
}

// key derives the keys of SRTP (RFC 5764).
func (c *conn) key(d *dtls.Conn, client bool) error {
	state, ok := d.ConnectionState()
	profile, chosen := d.SelectedSRTPProtectionProfile()
	if !ok || !chosen {
		return errors.New("no protection profile of SRTP was agreed on")
	}
	config := srtp.Config{Profile: srtp.ProtectionProfile(profile)}
	if err := config.ExtractSessionKeysFromDTLS(&state, client); err != nil {
		return err
	}
	in, err := srtp.CreateContext(config.Keys.RemoteMasterKey, config.Keys.RemoteMasterSalt, config.Profile,
		srtp.SRTPReplayProtection(replayAfter), srtp.SRTCPReplayProtection(64))
	if err != nil {
		return err
	}
	out, err := srtp.CreateContext(config.Keys.LocalMasterKey, config.Keys.LocalMasterSalt, config.Profile)
	if err != nil {
		return err
	}
	c.inMu.Lock()
	c.in = in
	c.inMu.Unlock()
	c.outMu.Lock()
	c.out = out
	c.outMu.Unlock()
	return nil
}

// dtlsIn takes a record of the handshake.
func (c *conn) dtlsIn(b []byte) {
	c.mu.Lock()
	buf := c.dtlsRead
	c.mu.Unlock()
	if buf != nil {
		_, _ = buf.Write(b)
	}
}

// rtpIn decrypts a packet in place and hands it on.
func (c *conn) rtpIn(w *writer, room []byte) {
	b := room[udp.Headroom:]
	c.inMu.Lock()
	defer c.inMu.Unlock()
	if c.in == nil {
		return
	}
	// Keys of an SSRC are kept for good by the library: how many there may be is limited
	// before it makes them.
	ssrc := uint32(b[8])<<24 | uint32(b[9])<<16 | uint32(b[10])<<8 | uint32(b[11])
	_, known := c.known[ssrc]
	if !known && len(c.known) >= maxKeyed {
		c.s.counts.refused.Add(1)
		return
	}
	p, err := c.in.DecryptRTP(b[:0], b, &c.inHead)
	if err != nil {
		c.s.counts.refused.Add(1)
		return
	}
	if !known {
		c.known[ssrc] = struct{}{}
	}
	c.last.Store(int64(c.s.now()))
	c.s.counts.in.Add(1)
	c.to.rtp(w, room[:udp.Headroom+len(p)])
}

func (c *conn) rtcpIn(w *writer, b []byte) {
	c.inMu.Lock()
	defer c.inMu.Unlock()
	if c.in == nil {
		return
	}
	p, err := c.in.DecryptRTCP(nil, b, nil)
	if err != nil {
		c.s.counts.refused.Add(1)
		return
	}
	c.last.Store(int64(c.s.now()))
	c.to.rtcp(w, p)
}

// sendRTP encrypts a packet, which has to be a beginning of w's last Space with
// tagSpace behind it, and sends it. at is where its transport-wide number goes, which
// it returns; 0: it has one.
func (c *conn) sendRTP(w *writer, p []byte, at int) (seq uint16, ok bool) {
	path := c.path.Load()
	if path == nil {
		return 0, false
	}
	c.outMu.Lock()
	if c.out == nil {
		c.outMu.Unlock()
		return 0, false
	}
	if at != 0 {
		seq = c.seq
		c.seq++
		p[at], p[at+1] = byte(seq>>8), byte(seq)
		if c.sent != nil {
			c.sent(seq, len(p), c.s.now())
		}
	}
	out, err := c.out.EncryptRTP(p[:0], p, &w.h)
	c.outMu.Unlock()
	if err != nil {
		return seq, false
	}
	path.send(w, out)
	return seq, true
}

// sendRTCP encrypts and sends.
func (c *conn) sendRTCP(w *writer, b []byte) {
	path := c.path.Load()
	if path == nil {
		return
	}
	p := w.b.Space(len(b) + tagSpace)
	c.outMu.Lock()
	if c.out == nil {
		c.outMu.Unlock()
		return
	}
	out, err := c.out.EncryptRTCP(p[:0], b, nil)
	c.outMu.Unlock()
	if err == nil {
		path.send(w, out)
	}
}

func (r *route) send(w *writer, p []byte) {
	if r.tcp != nil {
		r.tcp.write(p)
		return
	}
	w.b.Send(r.addr, p)
}

func (c *conn) close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	d, buf, cancel := c.dtls, c.dtlsRead, c.cancel
	c.s.mu.Lock()
	for _, l := range c.local {
		delete(c.s.byUfrag, l.Ufrag)
	}
	for _, a := range c.addrs {
		if c.s.byAddr[a] == c {
			delete(c.s.byAddr, a)
		}
	}
	c.s.mu.Unlock()
	c.mu.Unlock()
	if d != nil {
		_ = d.Close()
	}
	if cancel != nil {
		cancel()
	}
	if buf != nil {
		_ = buf.Close()
	}
	if p := c.path.Load(); p != nil && p.tcp != nil {
		p.tcp.c.Close()
	}
}

// dtlsPipe is the connection as the DTLS library sees it.
type dtlsPipe struct{ *conn }

var _ net.PacketConn = dtlsPipe{}

func (p dtlsPipe) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := p.dtlsRead.Read(b)
	return n, p.RemoteAddr(), err
}

func (p dtlsPipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	path := p.path.Load()
	p.s.write(func(w *writer) { path.send(w, append(w.b.Space(len(b))[:0], b...)) })
	return len(b), nil
}

func (p dtlsPipe) RemoteAddr() net.Addr              { return net.UDPAddrFromAddrPort(p.path.Load().addr) }
func (p dtlsPipe) LocalAddr() net.Addr               { return &net.UDPAddr{} }
func (p dtlsPipe) Close() error                      { return p.dtlsRead.Close() }
func (p dtlsPipe) SetDeadline(t time.Time) error     { return p.dtlsRead.SetReadDeadline(t) }
func (p dtlsPipe) SetReadDeadline(t time.Time) error { return p.dtlsRead.SetReadDeadline(t) }
func (p dtlsPipe) SetWriteDeadline(time.Time) error  { return nil }
