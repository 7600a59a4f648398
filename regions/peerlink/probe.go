package peerlink

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/mustermesh/muster/regions"
)

// A peer that can't be reached is not dialled again and again: QUIC doubles the
// time between the packets of a handshake, so one that began in a cut would go
// on long after it, and a handshake is much to send to nobody. Instead it is
// probed: a packet of 17 bytes, which the peer sends back. So a link is dialled
// at most probeEvery and a round trip after the way is open again, in both
// directions, however long it was closed.
//
// A probe is no QUIC packet: the second bit of its first byte is 0 (RFC 9443
// tells them apart so). It proves nothing but that it is worth to dial: the
// answer is no longer than the question, and brings back the question's nonce.
//
//	kind (1 byte: 1 ping, 2 pong), nonce (8), when it was sent (8, ns, the sender's)
const (
	probePing byte = iota + 1
	probePong
	probeSize = 17

	probeEvery = 200 * time.Millisecond
	probeSlow  = 500 * time.Millisecond // of a peer that was silent for slowAfter
	slowAfter  = time.Minute
	// unanswered is when a dial is tried all the same: there may be a firewall
	// that knows QUIC.
	unanswered = 5 * time.Second
)

// probes are those that wait for an answer.
type probes struct {
	origin time.Time

	mu sync.Mutex
	of map[uint64]chan<- time.Duration // by nonce
}

func (p *probes) open() (nonce uint64, answer <-chan time.Duration) {
	ch := make(chan time.Duration, 1)
	nonce = rand.Uint64()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[nonce] = ch
	return nonce, ch
}

func (p *probes) close(nonce uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, nonce)
}

func (p *probes) ping(nonce uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{probePing}, nonce)
	return binary.BigEndian.AppendUint64(b, uint64(time.Since(p.origin)))
}

// pong takes an answer.
func (p *probes) pong(b []byte) {
	rtt := time.Since(p.origin) - time.Duration(binary.BigEndian.Uint64(b[9:]))
	p.mu.Lock()
	defer p.mu.Unlock()
	if ch := p.of[binary.BigEndian.Uint64(b[1:])]; ch != nil && rtt >= 0 {
		select {
		case ch <- rtt:
		default: // of an earlier ping: one is enough
		}
	}
}

// answerProbes serves all that comes to the port and is no QUIC.
func (l *Links) answerProbes(ctx context.Context) {
	b := make([]byte, probeSize+1)
	for {
		n, from, err := l.transport.ReadNonQUICPacket(ctx, b)
		switch {
		case err != nil:
			return // ctx has ended, or the transport
		case n != probeSize:
		case b[0] == probePing:
			b[0] = probePong
			_, _ = l.transport.WriteTo(b[:n], from)
		case b[0] == probePong:
			l.probes.pong(b[:n])
		}
	}
}

// reach waits until a peer answers, and returns the round trip; or until it is
// time to dial all the same. since is when it was last heard of. missed is told
// every so often that it does not answer.
func (l *Links) reach(ctx context.Context, node regions.NodeID, since time.Time, missed func()) (rtt time.Duration, ok bool) {
	var addr net.Addr
	nonce, answer := l.probes.open()
	defer l.probes.close(nonce)
	every := probeEvery
	if time.Since(since) > slowAfter {
		every = probeSlow
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	silent := time.NewTicker(redialTimeout)
	defer silent.Stop()
	over := time.After(unanswered)
	ping := func() {
		if addr == nil { // no such peer for now, or no such name
			addr = l.find(ctx, node)
		}
		if addr != nil {
			_, _ = l.transport.WriteTo(l.probes.ping(nonce), addr)
		}
	}
	ping()
	for {
		select {
		case rtt := <-answer:
			return rtt, true
		case <-tick.C:
			ping()
		case <-silent.C:
			missed()
		case <-over:
			return 0, false
		case <-ctx.Done():
			return 0, false
		}
	}
}

// find returns where a peer is, nil if that is not known now.
func (l *Links) find(ctx context.Context, node regions.NodeID) net.Addr {
	host, _, ok := l.cfg.Peers(node)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	addr, err := resolve(ctx, network(l.cfg.Conn.LocalAddr()), host)
	if err != nil {
		return nil
	}
	return addr
}
