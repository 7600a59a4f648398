package sfu

import (
	"context"
	"sync"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sdp"
)

// peer is a participant's two connections.
type peer struct {
	s      *Server
	config media.PeerConfig
	up     *up
	down   *down

	mu      sync.Mutex // guards the following
	closed  bool
	events  []func(media.PeerEvents)
	telling bool
	states  [3]connState // by wire.CallDescription_Connection
}

// connState is what the host was told about a connection.
type connState struct {
	keyed, there bool
}

var _ media.Peer = (*peer)(nil)

func newPeer(s *Server, c media.PeerConfig) *peer {
	p := &peer{s: s, config: c}
	p.up = newUp(p)
	p.down = newDown(p)
	return p
}

// local is what descriptions of ours say.
func (s *Server) local(c *conn, session uint64) sdp.Local {
	return sdp.Local{Session: session, ICE: c.credentials(), Fingerprint: s.fingerprint, UDP: s.udpAddrs, TCP: s.tcpAddrs}
}

// post has the host told something, after what it was told before.
func (p *peer) post(f func(media.PeerEvents)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.events = append(p.events, f)
	if !p.telling {
		p.telling = true
		p.s.work.Go(p.tell)
	}
}

func (p *peer) tell() {
	for {
		p.mu.Lock()
		if len(p.events) == 0 || p.closed {
			p.telling, p.events = false, nil
			p.mu.Unlock()
			return
		}
		f := p.events[0]
		p.events = p.events[1:]
		p.mu.Unlock()
		f(p.config.Events)
	}
}

func (p *peer) say(d *wire.CallDescription) {
	if d != nil {
		p.post(func(e media.PeerEvents) { e.Describe(d) })
	}
}

// Describe takes the client's offer for "up", its answer for "down", or its wish for a
// restart.
func (p *peer) Describe(d *wire.CallDescription) error {
	var answer *wire.CallDescription
	var err error
	switch d.GetConnection() {
	case wire.CallDescription_UP:
		answer, err = p.up.describe(d)
	case wire.CallDescription_DOWN:
		answer, err = p.down.describe(d)
	default:
		err = bad("it is for no connection: up or down")
	}
	p.say(answer)
	return err
}

// Candidate: a lite agent learns where the client is from its checks.
func (p *peer) Candidate(*wire.CallCandidate) error { return nil }

// Subscribe says, wholly, which tracks the participant gets.
func (p *peer) Subscribe(list []media.Subscription) { p.say(p.down.subscribe(list)) }

// Flow pauses or resumes a track.
func (p *peer) Flow(track string, flow bool) { p.down.flow(track, flow) }

// Offer is the offer for "down" that waits for its answer.
func (p *peer) Offer() *wire.CallDescription { return p.down.outstanding() }

// Close ends both connections.
func (p *peer) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.mu.Unlock()
	p.s.mu.Lock()
	delete(p.s.peers, p)
	p.s.mu.Unlock()
	p.up.close()
	p.down.close()
}

func (p *peer) keyed(c wire.CallDescription_Connection) {
	p.mu.Lock()
	p.states[c] = connState{keyed: true, there: true}
	p.mu.Unlock()
	p.post(func(e media.PeerEvents) { e.Connected(c, true) })
}

func (p *peer) ended(c wire.CallDescription_Connection, err error) {
	p.mu.Lock()
	was := p.states[c]
	p.states[c] = connState{}
	closed := p.closed
	p.mu.Unlock()
	if closed {
		return
	}
	p.s.opts.Log.DebugContext(context.Background(), "a media connection ended", "peer", p.config.Name, "connection", c.String(), "why", err)
	if was.there {
		p.post(func(e media.PeerEvents) { e.Connected(c, false) })
	}
}

// tick looks after both connections. probing: it wants to be called every padEvery.
func (p *peer) tick(w *writer, now time.Duration) (probing bool) {
	p.up.tick(w, now)
	probing = p.down.tick(w, now)
	p.watch(wire.CallDescription_UP, p.up.conn, now)
	p.watch(wire.CallDescription_DOWN, p.down.conn, now)
	return probing
}

// watch tells when a client is not heard of any more, and when it is again.
func (p *peer) watch(c wire.CallDescription_Connection, conn *conn, now time.Duration) {
	there := now-time.Duration(conn.last.Load()) < p.s.opts.Silence
	p.mu.Lock()
	st := &p.states[c]
	changed := st.keyed && st.there != there
	st.there = st.keyed && there
	p.mu.Unlock()
	if changed {
		p.post(func(e media.PeerEvents) { e.Connected(c, there) })
	}
}
