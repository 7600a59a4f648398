// Package signal is the offer/answer machine of one connection (RFC 3264, RFC 8829
// section 3.2), as pure decisions: it makes and applies nothing itself.
//
//	           Offered                     Receive(answer n) = TakeAnswer
//	┌────────┐ ───────▶ ┌────────────────┐ ─────────────────────────────▶ stable
//	│ stable │          │ have-local-offer │ Receive(offer) = TakeOffer, if polite
//	└────────┘ ───────▶ ├────────────────┤ ─────────┐
//	           Receive  │have-remote-offer│◀────────┘    Answered, Failed ─▶ stable
//	           (offer)  └────────────────┘
//
// Every offer has a number that is above all that its maker has seen, and an answer has
// the number of its offer. So descriptions may be lost, doubled and overtaken on their
// way: an answer is only ever applied to its offer, an old offer never undoes a newer
// one, and a side that is asked twice says again what it said. Whoever has an offer
// outstanding sends it again (Outstanding) when its message may be lost: after a new
// connection of the client, or a while.
//
// What needs a new offer meanwhile waits (Need) and is due once stable (Due).
//
// Of the two sides of a call of two, which may both offer, one is polite (WebRTC 1.0
// section 10.7, "perfect negotiation"): when offers cross it drops its own, takes the
// other's, and offers anew after that; the impolite one ignores what crosses its offer.
// Between a participant and an SFU offers never cross: each connection has one side that
// offers.
package signal

import "fmt"

// State is that of a connection, by the names of RFC 8829.
type State int

// States.
const (
	Stable State = iota
	HaveLocalOffer
	HaveRemoteOffer
)

func (s State) String() string {
	switch s {
	case Stable:
		return "stable"
	case HaveLocalOffer:
		return "have-local-offer"
	case HaveRemoteOffer:
		return "have-remote-offer"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Description is an offer or an answer.
type Description struct {
	N     uint64 // of the offer, from 1
	Offer bool   // else an answer
	SDP   string
}

// Verdict says what to do with a description that came.
type Verdict int

// Verdicts.
const (
	// Ignore: it is old, or crossed ours.
	Ignore Verdict = iota
	// TakeAnswer: apply it to the offer that is outstanding. The state is stable.
	TakeAnswer
	// TakeOffer: apply it, make an answer and call Answered; or Failed. If Rolledback, the
	// own offer is to be dropped first.
	TakeOffer
	// Repeat: it was answered before; send Answer again.
	Repeat
)

// Machine is one side of one connection. The zero value is the polite side, stable. It
// is for one goroutine at a time.
type Machine struct {
	Impolite bool

	state    State
	n        uint64 // the highest number seen, of either side: the next own offer is above it
	settled  uint64 // the highest number that was agreed on or taken: what is not above it is old
	local    Description
	answer   Description // the last that was given
	need     bool
	restart  bool // what is needed includes a restart of ICE
	rolled   bool
	restarts bool // the outstanding offer has one
}

// State returns the present one.
func (m *Machine) State() State { return m.state }

// Need notes that a new offer is needed, with a restart of ICE or not. It is due at once
// if the connection is stable.
func (m *Machine) Need(restart bool) {
	m.need = true
	m.restart = m.restart || restart
}

// Due reports whether an offer is to be made now, and whether with a restart of ICE.
func (m *Machine) Due() (yes, restart bool) {
	return m.need && m.state == Stable, m.restart
}

// Offered gives the offer that was made, because it was Due, its number.
func (m *Machine) Offered(sdp string) Description {
	m.n++
	m.state = HaveLocalOffer
	m.local = Description{N: m.n, Offer: true, SDP: sdp}
	m.restarts = m.restart
	m.need, m.restart = false, false
	return m.local
}

// Outstanding is the offer that waits for its answer; ok is false if none does.
func (m *Machine) Outstanding() (d Description, ok bool) {
	return m.local, m.state == HaveLocalOffer
}

// Receive decides about a description of the other side.
func (m *Machine) Receive(d Description) Verdict {
	m.rolled = false
	switch {
	case !d.Offer:
		if m.state != HaveLocalOffer || d.N != m.local.N {
			return Ignore
		}
		m.state, m.settled = Stable, d.N
		return TakeAnswer
	case d.N == m.answer.N && d.N == m.settled && d.N != 0 && m.state != HaveRemoteOffer:
		return Repeat
	case m.state == HaveLocalOffer:
		// They crossed. Of the same number the impolite one's counts; a lower one was made
		// before its maker knew of what we offered upon.
		if m.Impolite || d.N < m.local.N {
			m.see(d.N)
			return Ignore
		}
		m.rolled, m.need = true, true
		m.restart = m.restart || m.restarts
	case d.N <= m.settled:
		return Ignore
	}
	m.see(d.N)
	m.settled = d.N
	m.state = HaveRemoteOffer
	m.answer = Description{N: d.N}
	return TakeOffer
}

// see keeps numbers growing. One that leaves no room above it is not followed.
func (m *Machine) see(n uint64) {
	if n > m.n && n < 1<<62 {
		m.n = n
	}
}

// RolledBack reports whether the last Receive dropped the own offer.
func (m *Machine) RolledBack() bool { return m.rolled }

// Answered gives the answer to the offer that was taken its number.
func (m *Machine) Answered(sdp string) Description {
	m.state = Stable
	m.answer.SDP = sdp
	return m.answer
}

// Answer is the last one that was given, for Repeat.
func (m *Machine) Answer() Description { return m.answer }

// Failed: the offer that was taken could not be applied. The next one may.
func (m *Machine) Failed() {
	m.state = Stable
	m.answer = Description{}
}
