// Package bwe estimates how much a receiver can get, from the transport-wide feedback
// that it sends (draft-holmer-rmcat-transport-wide-cc-extensions-01): numbers in, bit/s
// out. It knows no sockets, and time is what it is given.
//
// It is Google congestion control (draft-ietf-rmcat-gcc-02) with the trendline filter
// that browsers use, in two halves, of which the lower counts:
//
//   - delay: packets that leave within 5 ms are a group; how much later than the one
//     before a group comes, beyond how much later it left, is added up, smoothed and put
//     through a line of least squares over the last groups. A line that rises more steeply
//     than a threshold which adapts says that a queue fills: the estimate becomes 85 % of
//     what arrives. A level one lets it grow.
//   - loss: above 10 % it falls in proportion, below 2 % it grows; between it stays.
//
// An estimate only grows up to one and a half times what is really sent, since nothing is
// known beyond. To learn more a Probe is sent: padding at a higher rate for a moment. What
// arrives of it is known to fit.
package bwe

import (
	"math"
	"time"

	"github.com/pion/rtcp"
)

// Limits of an estimate, in bit/s.
const (
	Least = 60_000
	Most  = 50_000_000
	start = 1_000_000
)

const (
	history   = 4_096 // packets that are remembered; a power of two
	groupSpan = 5 * time.Millisecond
	window    = 20 // groups of the line
	smoothing = 0.9
	gain      = 4.0
	maxDeltas = 60
	overuse   = 10 * time.Millisecond // for so long, before it counts
	decrease  = 0.85
)

type packet struct {
	seq   uint16
	used  bool
	size  int32
	sent  time.Duration
	probe bool
}

// Estimator is for one connection; it is for one goroutine at a time.
type Estimator struct {
	sent  [history]packet
	known bool
	rate  float64 // by delay
	loss  float64 // by loss: a limit
	rtt   time.Duration

	// Arrival groups: the one that goes on and the one before.
	cur, prev group
	line      [window]struct{ x, y float64 }
	n, deltas int
	acc, avg  float64 // ms
	first     time.Duration
	threshold float64
	lastTrend float64
	over      time.Duration // since when
	overN     int
	adapted   time.Duration
	state     state
	held      time.Duration // when it was last lowered
	grew      time.Duration
	linkMax   float64 // at which rate the link was full; 0: unknown
	full      bool    // a queue filled, or much was lost, at some time

	acked          []arrival // of the last moments
	received       float64   // bit/s that arrives
	lossAt         time.Duration
	lossN, lossAll int

	base    time.Duration // of the receiver's clock
	baseRef uint32
	based   bool

	probe probe
}

type state int

const (
	normal state = iota
	overusing
	underusing
)

type group struct {
	firstSent, sent, arrived time.Duration
	used                     bool
}

type arrival struct {
	at   time.Duration // of the receiver's clock
	size int
}

type probe struct {
	on               bool
	first, last      uint16
	began            bool
	got              int
	from, to         time.Duration // receiver's clock
	sentFrom, sentTo time.Duration
	count            int
	size             int
	ends             time.Duration
}

// New starts with an estimate that carries a small picture.
func New() *Estimator {
	return &Estimator{rate: start, loss: Most, threshold: 12.5, rtt: 100 * time.Millisecond}
}

// Sent notes a packet with its transport-wide number.
func (e *Estimator) Sent(seq uint16, size int, now time.Duration) {
	e.sent[seq%history] = packet{seq: seq, used: true, size: int32(size), sent: now, probe: e.probe.on}
	if e.probe.on {
		if !e.probe.began {
			e.probe.began, e.probe.first, e.probe.sentFrom = true, seq, now
		}
		e.probe.last, e.probe.sentTo = seq, now
		e.probe.size += size
	}
}

// Known reports whether there was any feedback: without, nothing is known.
func (e *Estimator) Known() bool { return e.known }

// Rate is what the receiver can get, in bit/s.
func (e *Estimator) Rate() int { return int(max(Least, min(e.rate, e.loss, Most))) }

// Limited reports whether the link was ever seen to be full. Before that the estimate
// says what is known to fit, and not what does not.
func (e *Estimator) Limited() bool { return e.full }

// Received is what arrived lately, in bit/s.
func (e *Estimator) Received() int { return int(e.received) }

// RTT is the round-trip time, roughly.
func (e *Estimator) RTT() time.Duration { return e.rtt }

// BeginProbe has the packets from now on, until EndProbe, count as a probe.
func (e *Estimator) BeginProbe() { e.probe = probe{on: true} }

// EndProbe: the rest is not part of it. Its result comes with the feedback.
func (e *Estimator) EndProbe(now time.Duration) { e.probe.on, e.probe.ends = false, now }

// Feedback takes a report. Nothing in it is trusted to make sense.
func (e *Estimator) Feedback(f *rtcp.TransportLayerCC, now time.Duration) {
	if f == nil || f.PacketStatusCount == 0 {
		return
	}
	at := e.reference(f.ReferenceTime)
	seq := f.BaseSequenceNumber
	left := int(f.PacketStatusCount)
	deltas := f.RecvDeltas
	var newest time.Duration
	each := func(status uint16) {
		if left == 0 {
			return
		}
		left--
		p := &e.sent[seq%history]
		mine := p.used && p.seq == seq
		switch status {
		case rtcp.TypeTCCPacketReceivedSmallDelta, rtcp.TypeTCCPacketReceivedLargeDelta:
			if len(deltas) == 0 {
				left = 0
				return
			}
			at += time.Duration(deltas[0].Delta) * time.Microsecond
			deltas = deltas[1:]
			if mine {
				p.used = false
				newest = max(newest, p.sent)
				e.lossAll++
				e.arrived(p, at)
			}
		default:
			if mine {
				// It may come in a later report, as it was overtaken: then it was lost once.
				e.lossAll++
				e.lossN++
			}
		}
		seq++
	}
	for _, c := range f.PacketChunks {
		switch c := c.(type) {
		case *rtcp.RunLengthChunk:
			for range min(int(c.RunLength), left) {
				each(c.PacketStatusSymbol)
			}
		case *rtcp.StatusVectorChunk:
			for _, s := range c.SymbolList {
				each(s)
			}
		}
	}
	if newest != 0 {
		e.known = true
		e.rtt = max(time.Millisecond, (7*e.rtt+min(now-newest, time.Second))/8)
	}
	e.measure()
	e.control(now)
	e.losses(now)
	e.probed(now)
}

// reference turns 24 bits of 64 ms into a time that goes on.
func (e *Estimator) reference(ref uint32) time.Duration {
	if !e.based {
		e.based, e.baseRef, e.base = true, ref, time.Hour
	}
	diff := int32((ref-e.baseRef)<<8) >> 8
	e.base += time.Duration(diff) * 64 * time.Millisecond
	e.baseRef = ref
	return e.base
}

func (e *Estimator) arrived(p *packet, at time.Duration) {
	e.acked = append(e.acked, arrival{at, int(p.size)})
	if p.probe && e.probe.began && p.seq-e.probe.first < 0x8000 {
		if e.probe.got == 0 {
			e.probe.from = at
		} else {
			e.probe.count += int(p.size)
		}
		e.probe.to = max(e.probe.to, at)
		e.probe.got++
	}
	switch {
	case !e.cur.used:
		e.cur = group{firstSent: p.sent, sent: p.sent, arrived: at, used: true}
	case p.sent-e.cur.firstSent <= groupSpan && p.sent >= e.cur.firstSent:
		e.cur.sent, e.cur.arrived = max(e.cur.sent, p.sent), max(e.cur.arrived, at)
	case p.sent > e.cur.sent:
		if e.prev.used {
			e.delta(e.cur.sent-e.prev.sent, e.cur.arrived-e.prev.arrived, e.cur.arrived)
		}
		e.prev, e.cur = e.cur, group{firstSent: p.sent, sent: p.sent, arrived: at, used: true}
	}
}

// delta takes how much later than the group before a group was sent and came.
func (e *Estimator) delta(sent, came, at time.Duration) {
	if came < 0 || came > 3*time.Second || sent > 3*time.Second { // a pause, or nonsense
		e.n, e.deltas, e.acc, e.avg = 0, 0, 0, 0
		return
	}
	d := ms(came - sent)
	if e.deltas == 0 {
		e.first = at
	}
	e.deltas = min(e.deltas+1, 1_000)
	e.acc += d
	e.avg = smoothing*e.avg + (1-smoothing)*e.acc
	if e.n == window {
		copy(e.line[:], e.line[1:])
		e.n--
	}
	e.line[e.n].x, e.line[e.n].y = ms(at-e.first), e.avg
	e.n++
	trend := e.lastTrend
	if e.n == window {
		trend = e.slope()
	}
	e.detect(trend, max(came, sent), at)
}

func (e *Estimator) slope() float64 {
	var sx, sy float64
	for _, p := range e.line {
		sx += p.x
		sy += p.y
	}
	mx, my := sx/window, sy/window
	var num, den float64
	for _, p := range e.line {
		num += (p.x - mx) * (p.y - my)
		den += (p.x - mx) * (p.x - mx)
	}
	if den == 0 {
		return 0
	}
	return num / den
}

func (e *Estimator) detect(trend float64, span, at time.Duration) {
	if e.deltas < 2 {
		return
	}
	m := float64(min(e.deltas, maxDeltas)) * trend * gain
	switch {
	case m > e.threshold:
		e.over += span
		e.overN++
		if e.over > overuse && e.overN > 1 && trend >= e.lastTrend {
			e.over, e.overN = 0, 0
			e.state = overusing
		}
	case m < -e.threshold:
		e.over, e.overN = 0, 0
		e.state = underusing
	default:
		e.over, e.overN = 0, 0
		e.state = normal
	}
	e.lastTrend = trend
	// The threshold follows what is usual here, so that a flow beside ours that fills
	// queues does not starve us.
	if a := math.Abs(m); a <= e.threshold+15 {
		k := 0.0087
		if a < e.threshold {
			k = 0.039
		}
		dt := 0.0
		if e.adapted != 0 {
			dt = min(ms(at-e.adapted), 100)
		}
		e.threshold = min(max(e.threshold+k*(a-e.threshold)*dt, 6), 600)
	}
	e.adapted = at
}

// measure says what arrived within the last half second.
func (e *Estimator) measure() {
	if len(e.acked) == 0 {
		return
	}
	last := e.acked[len(e.acked)-1].at
	i := 0
	for i < len(e.acked) && (last-e.acked[i].at > 500*time.Millisecond || len(e.acked)-i > history) {
		i++
	}
	e.acked = append(e.acked[:0], e.acked[i:]...)
	bytes := 0
	for _, a := range e.acked {
		bytes += a.size
	}
	span := max(last-e.acked[0].at, 100*time.Millisecond)
	e.received = float64(bytes*8) / span.Seconds()
}

func (e *Estimator) control(now time.Duration) {
	switch e.state {
	case overusing:
		if e.received > 0 && now-e.held > e.rtt+100*time.Millisecond {
			// What arrives is what the link carries, whatever was thought before.
			e.rate = max(decrease*e.received, Least)
			e.linkMax = e.received
			e.held = now
			e.full = true
		}
		e.state = normal
		e.grew = now
	case underusing: // the queue empties: let it
		e.grew = now
	case normal:
		dt := min(now-e.grew, time.Second).Seconds()
		e.grew = now
		if e.received > 1.5*e.linkMax {
			e.linkMax = 0
		}
		grown := e.rate
		if e.linkMax != 0 && e.rate > 0.8*e.linkMax {
			// About a packet per round trip, near where the link was full.
			grown += max(1_000, 9_600*dt/(e.rtt.Seconds()+0.1))
		} else {
			grown *= math.Pow(1.08, dt)
		}
		if limit := 1.5*e.received + 10_000; grown > limit {
			grown = max(e.rate, limit)
		}
		// What arrives without a queue has been shown to fit.
		e.rate = min(max(grown, e.received), Most)
	}
}

func (e *Estimator) losses(now time.Duration) {
	if e.lossAll < 20 || now-e.lossAt < 300*time.Millisecond {
		return
	}
	share := float64(e.lossN) / float64(e.lossAll)
	e.lossAt, e.lossN, e.lossAll = now, 0, 0
	switch {
	case share > 0.1:
		e.full = true
		e.loss = max(min(e.loss, e.rate, max(e.received, 2*Least))*(1-0.5*share), 2*Least)
	case share < 0.02:
		e.loss = min(max(e.loss*1.08, e.received), Most)
	}
}

// probed looks at what came of a probe, once most of it can have.
func (e *Estimator) probed(now time.Duration) {
	p := &e.probe
	if p.on || !p.began || p.got == 0 || now-p.ends < e.rtt+100*time.Millisecond {
		return
	}
	began := *p
	*p = probe{}
	sent := float64(began.size*8) / max(began.sentTo-began.sentFrom, 10*time.Millisecond).Seconds()
	came := float64(began.count*8) / max(began.to-began.from, 10*time.Millisecond).Seconds()
	if began.count*10 < began.size*7 {
		return // too much of it was lost: it did not fit
	}
	if fits := min(sent, came); fits > e.rate {
		if came < 0.9*sent {
			fits *= 0.9 // that was the link's own pace
		}
		e.rate = min(fits, Most)
		e.linkMax = 0
	}
	if came >= 0.85*sent {
		e.loss = max(e.loss, min(sent, came))
	}
}

// Probing reports whether a probe is under way, or its result is.
func (e *Estimator) Probing(now time.Duration) bool {
	if e.probe.began && !e.probe.on && now-e.probe.ends > time.Second {
		e.probe = probe{}
	}
	return e.probe.on || e.probe.began
}

// Held is when the estimate was last lowered because a queue filled.
func (e *Estimator) Held() time.Duration { return e.held }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
