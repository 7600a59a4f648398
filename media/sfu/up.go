package sfu

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sdp"
	"github.com/mustermesh/muster/media/signal"
	"github.com/mustermesh/muster/media/udp"
)

// up is the connection on which a peer sends.
type up struct {
	s    *Server
	p    *peer
	conn *conn

	mu       sync.Mutex // guards the following
	machine  signal.Machine
	session  uint64
	remote   string // the ICE ufrag of the last offer
	sections map[string]*upSection
	closed   bool

	// What is received; under mediaMu.
	mediaMu  sync.Mutex
	byMid    map[string]*upSection
	streams  map[uint32]*inStream
	ssrc     uint32 // ours, in RTCP
	feedback *twcc.Recorder
	fed      time.Duration // when it was last sent
	toFeed   int           // packets since
	reported time.Duration
	tokens   float64 // bytes that may come, see Options.Bitrate
	tokensAt time.Duration
	ask      []uint16
}

// upSection is a media section that was accepted.
type upSection struct {
	sdp.Accepted
	src  *source
	ssrc [3]uint32 // of the layers; 0: not known yet
}

// inStream is one SSRC of a client.
type inStream struct {
	ssrc  uint32
	sec   *upSection
	layer int
	rtxOf *inStream // it repeats another one
	losses
}

const (
	feedEvery   = 70 * time.Millisecond
	feedPackets = 200
	reportEvery = time.Second
)

func newUp(p *peer) *up {
	u := &up{
		s: p.s, p: p, session: rand.Uint64(), sections: map[string]*upSection{}, byMid: map[string]*upSection{},
		streams: map[uint32]*inStream{}, ssrc: rand.Uint32(),
	}
	u.feedback = twcc.NewRecorder(u.ssrc)
	u.conn = newConn(p.s, u)
	return u
}

// describe takes an offer and returns the answer; nil: there is nothing to say.
func (u *up) describe(m *wire.CallDescription) (*wire.CallDescription, error) {
	if !m.GetOffer() {
		return nil, bad("the client offers for \"up\"")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, nil
	}
	switch u.machine.Receive(signal.Description{N: m.GetN(), Offer: true, SDP: m.GetSdp()}) {
	case signal.Repeat:
		return upAnswer(u.machine.Answer()), nil
	case signal.TakeOffer:
	default:
		return nil, nil
	}
	answer, err := u.take(m)
	if err != nil {
		u.machine.Failed()
		return nil, err
	}
	return upAnswer(u.machine.Answered(answer)), nil
}

func upAnswer(d signal.Description) *wire.CallDescription {
	return &wire.CallDescription{Connection: wire.CallDescription_UP, N: d.N, Sdp: d.SDP}
}

func (u *up) take(m *wire.CallDescription) (string, error) {
	desc, err := sdp.Parse(m.GetSdp())
	if err != nil {
		return "", bad("%w", err)
	}
	if len(desc.Sections) > maxSections {
		return "", bad("it has %d media sections; %d are allowed", len(desc.Sections), maxSections)
	}
	t, err := desc.Transport()
	if err != nil {
		return "", bad("%w", err)
	}
	sources := map[string]wire.CallSource{}
	for _, s := range m.GetMedia()[:min(len(m.GetMedia()), maxSections)] {
		sources[s.GetMid()] = s.GetSource()
	}
	if u.remote != "" && u.remote != t.ICE.Ufrag {
		u.conn.restart()
	}
	u.remote = t.ICE.Ufrag
	l := u.s.local(u.conn, u.session)
	l.Version, l.Setup = m.GetN(), "passive"
	if t.Setup == "passive" {
		l.Setup = "active"
	}
	answer, taken := sdp.Answer(desc, sources, maxTracks, l)
	u.publishLocked(taken)
	u.conn.know(t)
	return answer, nil
}

// publishLocked makes sources of what is new and ends those that are gone.
func (u *up) publishLocked(taken []sdp.Accepted) {
	last := map[string]int{} // by track
	for i, a := range taken {
		last[u.p.config.TrackID(a.Source)] = i
	}
	sections := map[string]*upSection{}
	var fresh []*upSection
	for i, a := range taken {
		id := u.p.config.TrackID(a.Source)
		if last[id] != i {
			continue
		}
		a.Rids = bySize(a.Rids)
		layers := max(len(a.Rids), len(a.SSRCs), 1)
		if old := u.sections[a.Mid]; old != nil && old.Source == a.Source && old.Codec == a.Codec && old.src.track.Layers == layers {
			sections[a.Mid] = &upSection{Accepted: a, src: old.src, ssrc: old.ssrc}
			continue
		}
		src := newSource(u.s, media.Track{ID: id, Source: a.Source, Video: a.Video, Layers: layers, Codec: a.Codec})
		src.ask = func(layer int) { u.keyFrame(src, layer) }
		sec := &upSection{Accepted: a, src: src}
		sections[a.Mid] = sec
		fresh = append(fresh, sec)
	}
	var gone []*source
	for mid, old := range u.sections {
		if now := sections[mid]; now == nil || now.src != old.src {
			gone = append(gone, old.src)
			old.src.close()
		}
	}
	u.sections = sections
	u.mediaMu.Lock()
	u.byMid = sections
	for ssrc, in := range u.streams {
		if sec := sections[in.sec.Mid]; sec != nil && sec.src == in.sec.src {
			in.sec = sec
		} else {
			delete(u.streams, ssrc)
		}
	}
	u.mediaMu.Unlock()
	replaced := map[string]bool{}
	for _, sec := range fresh {
		replaced[sec.src.track.ID] = true
	}
	for _, src := range gone {
		if id := src.track.ID; !replaced[id] {
			u.p.post(func(e media.PeerEvents) { e.Unpublished(id) })
		}
	}
	for _, sec := range fresh {
		u.p.post(func(e media.PeerEvents) { e.Published(sec.src) })
	}
}

// bySize sorts the names of layers that are usual, the smallest first; others are in
// the order of the offer.
func bySize(rids []string) []string {
	for _, names := range []string{"qhf", "lmh", "012"} {
		if !slices.ContainsFunc(rids, func(r string) bool { return len(r) != 1 || !strings.Contains(names, r) }) {
			sorted := slices.Clone(rids)
			slices.SortFunc(sorted, func(a, b string) int { return strings.Index(names, a) - strings.Index(names, b) })
			return sorted
		}
	}
	return rids
}

// rtp takes a packet of the client.
func (u *up) rtp(w *writer, room []byte) {
	b := room[udp.Headroom:]
	h, ok := parse(b)
	if !ok {
		u.s.counts.refused.Add(1)
		return
	}
	now := u.s.now()
	u.mediaMu.Lock()
	defer u.mediaMu.Unlock()
	if !u.allowed(len(b), now) {
		u.s.counts.limited.Add(1)
		return
	}
	in := u.streams[h.ssrc]
	if in == nil {
		if in = u.recognize(&h); in == nil {
			u.s.counts.refused.Add(1)
			return
		}
	}
	if e := h.element(in.sec.Exts[sdp.URITransportSeq]); len(e) == 2 {
		u.feedback.Record(h.ssrc, uint16(e[0])<<8|uint16(e[1]), int64(now/time.Microsecond))
		u.toFeed++
		if now-u.fed >= feedEvery || u.toFeed >= feedPackets {
			u.feed(w, now)
		}
	}
	clock := in.sec.Codec.ClockRate
	if in.rtxOf != nil {
		in.add(h.seq, h.ts, clock, now)
		if len(h.payload) < 2 {
			return // padding, by which the client probes
		}
		h.seq = uint16(h.payload[0])<<8 | uint16(h.payload[1])
		h.payload = h.payload[2:]
		in = in.rtxOf
		if !in.begun || !slices.ContainsFunc(in.missing, func(m missing) bool { return m.seq == h.seq }) {
			return
		}
		h.pt = in.sec.PT
	}
	if h.pt != in.sec.PT || !in.add(h.seq, h.ts, clock, now) || len(h.payload) == 0 {
		return
	}
	p := packet{layer: in.layer, seq: h.seq, ts: h.ts, marker: h.marker, level: noLevel, payload: h.payload, at: now}
	if !in.sec.Video {
		if e := h.element(in.sec.Exts[sdp.URILevel]); len(e) == 1 {
			p.level = e[0]
		}
	}
	p.describe(in.sec.src.format)
	// The payload ends the slice that it is cut from: its place follows from capacities.
	at := cap(room) - cap(h.payload)
	in.sec.src.deliver(w, &p, room[:at+len(h.payload)], at)
}

// allowed takes from what the client may send.
func (u *up) allowed(n int, now time.Duration) bool {
	rate := float64(u.s.opts.Bitrate) / 8
	u.tokens = min(u.tokens+rate*(now-u.tokensAt).Seconds(), rate/2)
	u.tokensAt = now
	if u.tokens < float64(n) {
		return false
	}
	u.tokens -= float64(n)
	return true
}

// recognize finds out what a new SSRC is, by what the packet says (RFC 8843 section
// 9.2, RFC 8852) or the offer said.
func (u *up) recognize(h *rawHeader) *inStream {
	for _, sec := range u.byMid {
		for layer, ssrc := range sec.SSRCs {
			if ssrc == h.ssrc {
				return u.stream(sec, layer, h.ssrc, nil)
			}
			if r, ok := sec.Repairs[ssrc]; ok && r == h.ssrc && u.streams[ssrc] != nil {
				return u.stream(sec, layer, h.ssrc, u.streams[ssrc])
			}
		}
	}
	var sec *upSection
	for _, s := range u.byMid {
		if e := h.element(s.Exts[sdp.URIMid]); e != nil {
			sec = u.byMid[string(e)]
			break
		}
	}
	if sec == nil { // the one that has the payload type, if it is one
		for _, s := range u.byMid {
			if s.PT == h.pt || s.RTX == h.pt {
				if sec != nil {
					return nil
				}
				sec = s
			}
		}
	}
	if sec == nil {
		return nil
	}
	repair := sec.RTX != 0 && h.pt == sec.RTX
	layer := 0
	if len(sec.Rids) > 0 {
		uri := sdp.URIRid
		if repair {
			uri = sdp.URIRepairedRid
		}
		if layer = slices.Index(sec.Rids, string(h.element(sec.Exts[uri]))); layer < 0 {
			return nil
		}
	}
	if repair {
		of := u.streams[sec.ssrc[layer]]
		if of == nil {
			return nil
		}
		return u.stream(sec, layer, h.ssrc, of)
	}
	return u.stream(sec, layer, h.ssrc, nil)
}

// stream takes an SSRC up. A layer has one: a new one replaces the one before.
func (u *up) stream(sec *upSection, layer int, ssrc uint32, of *inStream) *inStream {
	if len(u.streams) >= maxTracks*sdp.MaxRids*2 || layer > 2 {
		return nil
	}
	in := &inStream{ssrc: ssrc, sec: sec, layer: layer, rtxOf: of}
	if of == nil {
		if old := sec.ssrc[layer]; old != 0 && old != ssrc {
			delete(u.streams, old)
			for id, s := range u.streams {
				if s.rtxOf != nil && s.rtxOf.ssrc == old {
					delete(u.streams, id)
				}
			}
			sec.src.layers[layer].gate.Restart()
			sec.src.restarted(layer)
		}
		sec.ssrc[layer] = ssrc
	}
	u.streams[ssrc] = in
	return in
}

// restarted: the numbers of a layer begin anew.
func (src *source) restarted(layer int) {
	for _, sub := range *src.subs.Load() {
		sub.mu.Lock()
		if sub.cur == layer {
			sub.out.Replace()
		}
		sub.mu.Unlock()
	}
}

// keyFrame asks the client for one.
func (u *up) keyFrame(src *source, layer int) {
	u.mediaMu.Lock()
	var ssrc uint32
	for _, sec := range u.byMid {
		if sec.src == src {
			ssrc = sec.ssrc[layer]
		}
	}
	u.mediaMu.Unlock()
	if ssrc == 0 {
		return
	}
	pli := rtcp.PictureLossIndication{SenderSSRC: u.ssrc, MediaSSRC: ssrc}
	if b, err := pli.Marshal(); err == nil {
		u.s.work.Go(func() { u.s.write(func(w *writer) { u.conn.sendRTCP(w, b) }) })
	}
}

// feed sends what came when, for the client's own estimate.
func (u *up) feed(w *writer, now time.Duration) {
	u.fed, u.toFeed = now, 0
	for _, p := range u.feedback.BuildFeedbackPacket() {
		if b, err := p.Marshal(); err == nil {
			u.conn.sendRTCP(w, b)
		}
	}
}

// rtcp takes what the client says about what it sends.
func (u *up) rtcp(_ *writer, b []byte) {
	packets, err := rtcp.Unmarshal(b)
	if err != nil {
		u.s.counts.refused.Add(1)
		return
	}
	u.mediaMu.Lock()
	defer u.mediaMu.Unlock()
	for _, p := range packets {
		if sr, ok := p.(*rtcp.SenderReport); ok {
			if in := u.streams[sr.SSRC]; in != nil {
				in.senderNTP, in.senderAt = uint32(sr.NTPTime>>16), u.s.now()
			}
		}
	}
}

// tick asks for what is missing and reports.
func (u *up) tick(w *writer, now time.Duration) {
	u.mediaMu.Lock()
	defer u.mediaMu.Unlock()
	if u.toFeed > 0 && now-u.fed >= feedEvery {
		u.feed(w, now)
	}
	for ssrc, in := range u.streams {
		if len(in.missing) == 0 || in.rtxOf != nil {
			continue
		}
		if u.ask = in.due(now, u.ask[:0]); len(u.ask) > 0 {
			nack := rtcp.TransportLayerNack{SenderSSRC: u.ssrc, MediaSSRC: ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(u.ask)}
			if b, err := nack.Marshal(); err == nil {
				u.conn.sendRTCP(w, b)
			}
		}
	}
	if now-u.reported < reportEvery || len(u.streams) == 0 {
		return
	}
	u.reported = now
	rr := rtcp.ReceiverReport{SSRC: u.ssrc}
	for ssrc, in := range u.streams {
		if !in.begun || len(rr.Reports) == 31 {
			continue
		}
		r := rtcp.ReceptionReport{SSRC: ssrc, Jitter: uint32(in.jitter), LastSenderReport: in.senderNTP}
		r.FractionLost, r.TotalLost, r.LastSequenceNumber = in.report()
		if in.senderNTP != 0 {
			r.Delay = uint32((now - in.senderAt).Seconds() * 65_536)
		}
		rr.Reports = append(rr.Reports, r)
	}
	if b, err := rr.Marshal(); err == nil {
		u.conn.sendRTCP(w, b)
	}
}

func (u *up) keyed()          { u.p.keyed(wire.CallDescription_UP) }
func (u *up) ended(err error) { u.p.ended(wire.CallDescription_UP, err) }

func (u *up) close() {
	u.conn.close()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, sec := range u.sections {
		sec.src.close()
	}
}
