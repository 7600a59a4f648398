package client

import "time"

const (
	leastPatience   = 750 * time.Millisecond
	unknownPatience = 3 * time.Second // while the round trip is unknown
	attentive       = time.Second     // between pings while somebody looks at nothing
	probes          = 3               // pings after what was not answered, before that is the end
	defaultPing     = 10 * time.Second
	// tardy is how late a look at the clock may be. A process that was stopped
	// for longer first takes the time to read what came meanwhile.
	tardy = 50 * time.Millisecond
	// maxAlarms bounds how often patience doubles.
	maxAlarms = 3
)

// doubt is what is wrong with a connection that is suspect.
type doubt int

const (
	trusted doubt = iota
	mute          // nothing is heard
	deaf          // things are heard, but not one answer
)

// pulse judges from what was asked and what was heard whether the node at the
// other end still answers: where UDP is the transport, and in a black hole, a
// dead node looks like a silent one. docs/protocol.md has the rules ("When
// nothing is heard"). It has no clock of its own.
type pulse struct {
	every time.Duration // between pings, if nothing asks for more

	heard  time.Time // anything
	said   time.Time // anything that has no answer
	asked  time.Time // since when an answer is due; zero: none is
	urgent bool      // it is not only due to keep an idle connection
	waits  bool      // there are requests without an answer, though not without a sign of life
	pinged time.Time // last
	open   time.Time // the first ping without an answer; zero: none
	nudged bool      // ping at once

	doubt   doubt
	excused time.Time // the suspicion that was looked at too late, and was put off
	silence time.Time // the end of this silent interval; zero: there is none
	missed  int       // intervals before it
}

// beat is what is to be done now.
type beat struct {
	ping  bool
	alarm bool // the connection has become suspect
	dead  bool
	next  time.Time // when to look again
}

// hear notes that something came.
func (p *pulse) hear(now time.Time) {
	p.heard, p.silence = now, time.Time{}
	if p.doubt == mute {
		p.doubt = trusted
	}
}

// answer notes that an answer came. Others may take their time, then: whether
// the node is still there is asked by ping.
func (p *pulse) answer(more bool) {
	p.asked, p.open, p.doubt, p.waits = time.Time{}, time.Time{}, trusted, more
}

// ask notes that a request goes out.
func (p *pulse) ask(now time.Time) {
	if p.asked.IsZero() || !p.urgent {
		p.asked, p.urgent = now, true
	}
}

// patienceFor is how long an answer may take: longer after each alarm, so that a
// network that stutters does not make a client wander.
func patienceFor(rtt time.Duration, alarms int) time.Duration {
	most := max(leastPatience, 3*rtt)
	if rtt == 0 {
		most = unknownPatience
	}
	return most << min(alarms, maxAlarms)
}

// interval is a quarter of the time after which a silent node is dead.
func interval(rtt time.Duration) time.Duration {
	if rtt == 0 {
		return 2 * time.Second
	}
	return min(max(4*rtt, time.Second), 3*time.Second)
}

// tick looks at the clock.
func (p *pulse) tick(now time.Time, rtt time.Duration, foreground bool, alarms int) beat {
	patience := patienceFor(rtt, alarms)
	b := beat{next: now.Add(idle)}
	due := func(t time.Time) bool {
		if now.Before(t) {
			b.next = earlier(b.next, t)
			return false
		}
		return true
	}
	b.ping = p.nudged || due(p.pinged.Add(p.every))
	urgent := p.nudged || foreground
	switch again := p.pinged.Add(attentive); {
	case !p.asked.IsZero() && p.urgent:
		b.ping = due(later(p.asked.Add(patience/3), again)) || b.ping
	case foreground && due(later(p.heard.Add(attentive), again)),
		!foreground && (p.waits || p.said.After(p.heard)) && due(again):
		b.ping, urgent = true, true
	case p.asked.IsZero():
		b.ping = due(p.heard.Add(p.every/2)) || b.ping
	}
	switch {
	case p.asked.IsZero() && !b.ping:
	case p.silence.IsZero():
		p.missed, p.silence = 0, now.Add(interval(rtt))
	case now.Before(p.silence):
	case p.missed == probes:
		b.dead = true
	default:
		b.ping = true
		p.missed, p.silence = p.missed+1, now.Add(interval(rtt))
	}
	if !p.silence.IsZero() {
		due(p.silence)
	}
	if b.ping {
		p.ping(now, urgent)
		b.next = earlier(b.next, now.Add(p.every))
		if p.urgent {
			b.next = earlier(b.next, now.Add(attentive))
		}
	}
	if p.doubt == trusted && !p.asked.IsZero() && p.urgent {
		quiet := later(p.asked, p.heard).Add(patience)
		if due(quiet) && !p.excuse(now, quiet, &b) {
			p.doubt, b.alarm = mute, true
		} else if deafAt := p.open.Add(2 * patience); !p.open.IsZero() && due(deafAt) && !p.excuse(now, deafAt, &b) {
			p.doubt, b.alarm = deaf, true
		}
	}
	return b
}

func (p *pulse) ping(now time.Time, urgent bool) {
	p.pinged, p.nudged = now, false
	if p.open.IsZero() {
		p.open = now
	}
	if urgent {
		p.ask(now)
	} else if p.asked.IsZero() {
		p.asked, p.urgent = now, false
	}
}

// excuse puts a suspicion off once, by as much as it is looked at too late.
func (p *pulse) excuse(now, at time.Time, b *beat) bool {
	if late := now.Sub(at); late >= tardy && p.excused.Before(at) {
		p.excused = now.Add(min(late, leastPatience))
	}
	if now.Before(p.excused) {
		b.next = earlier(b.next, p.excused)
		return true
	}
	return false
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
