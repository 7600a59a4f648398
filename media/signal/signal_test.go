package signal

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// side is a machine with what a browser would have: the last description that each side
// agreed to, by the offer's name.
type side struct {
	Machine
	name    string
	offers  int
	pending string // own offer
	agreed  string
	wants   int // changes that it needs told
}

func (s *side) tick(send func(Description)) {
	if yes, _ := s.Due(); yes {
		s.offers++
		s.pending = fmt.Sprintf("%s%d:%d", s.name, s.offers, s.wants)
		send(s.Offered(s.pending))
	} else if d, ok := s.Outstanding(); ok {
		send(d)
	}
}

func (s *side) receive(t *testing.T, d Description, send func(Description)) {
	before, pending := s.State(), s.pending
	switch s.Receive(d) {
	case TakeAnswer:
		require.Equal(t, HaveLocalOffer, before)
		require.Equal(t, "re "+pending, d.SDP, "an answer was applied to another offer")
		s.agreed = pending
	case TakeOffer:
		require.True(t, before == Stable || s.RolledBack() && !s.Impolite, "in %s", before)
		s.agreed = d.SDP
		send(s.Answered("re " + d.SDP))
	case Repeat:
		require.Equal(t, "re "+d.SDP, s.Answer().SDP)
		send(s.Answer())
	case Ignore:
	}
}

// Two machines over a channel that loses, doubles and reorders always come to agree on
// the same offer, and never apply an answer to another one.
func TestConverges(t *testing.T) {
	for seed := range uint64(2_000) {
		rng := rand.New(rand.NewPCG(seed, 9))
		a, b := &side{name: "a"}, &side{name: "b"}
		b.Impolite = true
		onlyOne := seed%3 == 0 // as with an SFU: only b offers
		type letter struct {
			to *side
			d  Description
		}
		var way []letter
		loss := rng.Float64() * 0.6
		post := func(to *side) func(Description) {
			return func(d Description) {
				for range 1 + rng.IntN(2) {
					if rng.Float64() > loss {
						way = append(way, letter{to, d})
					}
				}
			}
		}
		other := map[*side]*side{a: b, b: a}
		for step := range 400 {
			if step < 200 && rng.IntN(8) == 0 {
				s := b
				if !onlyOne && rng.IntN(2) == 0 {
					s = a
				}
				s.wants++
				s.Need(rng.IntN(4) == 0)
			}
			if step == 300 {
				loss = 0
			}
			for _, s := range []*side{a, b} {
				if rng.IntN(3) == 0 {
					s.tick(post(other[s]))
				}
			}
			for range rng.IntN(4) {
				if len(way) > 0 {
					i := rng.IntN(len(way))
					l := way[i]
					way = append(way[:i], way[i+1:]...)
					l.to.receive(t, l.d, post(other[l.to]))
				}
			}
		}
		for range 40 {
			a.tick(post(b))
			b.tick(post(a))
			for len(way) > 0 {
				l := way[0]
				way = way[1:]
				l.to.receive(t, l.d, post(other[l.to]))
			}
		}
		for _, s := range []*side{a, b} {
			require.Equal(t, Stable, s.State(), "seed %d, side %s", seed, s.name)
			due, _ := s.Due()
			require.False(t, due, "seed %d, side %s", seed, s.name)
		}
		require.Equal(t, a.agreed, b.agreed, "seed %d", seed)
	}
}

func TestNeedWaitsUntilStable(t *testing.T) {
	var m Machine
	m.Need(false)
	due, restart := m.Due()
	require.True(t, due)
	require.False(t, restart)
	d := m.Offered("one")
	require.EqualValues(t, 1, d.N)
	m.Need(true)
	due, _ = m.Due()
	require.False(t, due)
	require.Equal(t, Ignore, m.Receive(Description{N: 7, SDP: "to nothing"}))
	require.Equal(t, TakeAnswer, m.Receive(Description{N: 1, SDP: "re one"}))
	require.Equal(t, Ignore, m.Receive(Description{N: 1, SDP: "re one"}))
	due, restart = m.Due()
	require.True(t, due)
	require.True(t, restart)
	require.EqualValues(t, 2, m.Offered("two").N)
}

func TestOfferThatCouldNotBeApplied(t *testing.T) {
	var m Machine
	require.Equal(t, TakeOffer, m.Receive(Description{N: 1, Offer: true, SDP: "bad"}))
	m.Failed()
	require.Equal(t, Ignore, m.Receive(Description{N: 1, Offer: true, SDP: "bad"}))
	require.Equal(t, TakeOffer, m.Receive(Description{N: 2, Offer: true, SDP: "good"}))
	m.Answered("re good")
	require.Equal(t, Repeat, m.Receive(Description{N: 2, Offer: true, SDP: "good"}))
}

// Whatever comes, a machine has one of three states, and numbers only grow.
func FuzzReceive(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0x81, 0x82, 0x41, 9}, true)
	f.Fuzz(func(t *testing.T, ops []byte, impolite bool) {
		m := Machine{Impolite: impolite}
		last := uint64(0)
		for _, op := range ops {
			switch {
			case op < 0x20:
				m.Need(op&1 == 0)
				if yes, _ := m.Due(); yes {
					d := m.Offered("mine")
					require.Greater(t, d.N, last)
					last = d.N
				}
			default:
				d := Description{N: uint64(op & 0x1f), Offer: op&0x80 != 0, SDP: "theirs"}
				if op&0x1f == 0x1f {
					d.N = ^uint64(0)
				}
				if m.Receive(d) == TakeOffer {
					if op&0x40 != 0 {
						m.Failed()
					} else {
						m.Answered("re")
					}
				}
			}
			require.Contains(t, []State{Stable, HaveLocalOffer}, m.State())
		}
	})
}
