package host

import (
	"slices"
	"time"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/call"
	"github.com/mustermesh/muster/regions"
)

// attendee is a participant of this node at the SFU. Its fields belong to the goroutine
// of the call.
type attendee struct {
	l       *live
	k       call.Key
	peer    media.Peer
	sources map[string]media.Source
	gates   map[string]time.Time
	subs    []media.Subscription
	closed  bool

	offered uint64        // the offer that waits for its answer
	again   time.Time     // when the client is told it again
	pause   time.Duration // before that
}

const (
	offerAgain = time.Second // a client that did not answer an offer is told it again
	offerMost  = 10 * time.Second
)

// remind tells the client an offer again that it did not answer: it may have come before
// the client knew of the place, or not at all.
func (a *attendee) remind(now time.Time) {
	d := a.peer.Offer()
	switch {
	case d == nil:
		a.offered = 0
	case d.GetN() != a.offered:
		a.offered, a.pause = d.GetN(), offerAgain
		a.again = now.Add(a.pause)
	case !now.Before(a.again):
		a.pause = min(2*a.pause, offerMost)
		a.again = now.Add(a.pause)
		d.Place = uint64(a.l.m.Place())
		a.tell(&wire.CallEvent{Body: &wire.CallEvent_Describe{Describe: d}})
	}
}

// shut is a time that is over: a gate that is closed.
var shut = time.Unix(1, 0)

// attendee is a participant's place at the SFU, made when it is needed first.
func (l *live) attendee(k call.Key) (*attendee, error) {
	if a := l.attendees[k]; a != nil {
		return a, nil
	}
	a := &attendee{l: l, k: k, sources: map[string]media.Source{}, gates: map[string]time.Time{}}
	p, err := l.h.cfg.SFU.Join(media.PeerConfig{
		Name: string(l.id), Events: a,
		TrackID: func(s wire.CallSource) string { return media.TrackID(string(l.id), k.User, k.Device, s) },
	})
	if err != nil {
		return nil, err
	}
	a.peer = p
	l.attendees[k] = a
	l.dirty = true
	return a, nil
}

func (a *attendee) close() {
	a.closed = true
	a.peer.Close()
	for id := range a.sources {
		a.l.untap(a.k, id)
	}
}

// The following satisfies media.PeerEvents: it hands on to the goroutine of the call.

func (a *attendee) do(f func(now time.Time)) {
	a.l.do(func(now time.Time) {
		if !a.closed {
			f(now)
		}
	})
}

func (a *attendee) tell(e *wire.CallEvent) {
	e.Call, e.Place = string(a.l.id), uint64(a.l.m.Place())
	if who, ok := a.l.m.Session(a.k); ok {
		a.l.h.tell(who, e)
	}
}

func (a *attendee) Describe(d *wire.CallDescription) {
	a.do(func(time.Time) {
		d.Place = uint64(a.l.m.Place())
		a.tell(&wire.CallEvent{Body: &wire.CallEvent_Describe{Describe: d}})
	})
}

func (a *attendee) Published(s media.Source) {
	a.do(func(time.Time) {
		id := s.Track().ID
		if a.sources[id] != s {
			a.l.untap(a.k, id)
			delete(a.gates, id)
		}
		a.sources[id] = s
		a.l.m.Published(a.k, s.Track())
		a.l.dirty = true
	})
}

func (a *attendee) Unpublished(track string) {
	a.do(func(time.Time) {
		a.l.untap(a.k, track)
		delete(a.sources, track)
		delete(a.gates, track)
		a.l.m.Unpublished(a.k, track)
		a.l.dirty = true
	})
}

func (a *attendee) Quality(q *wire.CallQuality) {
	a.do(func(time.Time) { a.tell(&wire.CallEvent{Body: &wire.CallEvent_Quality{Quality: q}}) })
}

func (a *attendee) Connected(c wire.CallDescription_Connection, yes bool) {
	if c == wire.CallDescription_UP {
		a.do(func(time.Time) { a.l.m.Connected(a.k, yes) })
	}
}

// remote is a track of another node, as the SFU has it here.
type remote struct {
	l      *live
	at     trackAt
	media  media.Remote
	region regions.RegionID
	in     inlet
	flowed bool // guarded as in
}

// The following satisfies media.RemoteEvents.

func (r *remote) Wanted(layers media.Layers) {
	if r.media == nil || !r.media.Track().Video {
		return // who is heard is chosen here, so all are had
	}
	r.l.do(func(time.Time) { r.l.m.Needed(r.media.Track().ID, layers) })
}

func (r *remote) KeyFrame(layer int) {
	r.l.h.cfg.Links.Send(r.at.node, &peer.CallFrame{Call: string(r.l.id), Body: &peer.CallFrame_KeyFrame{
		KeyFrame: &peer.CallKeyFrame{Number: r.at.number, Layer: uint32(layer)},
	}})
}

// keyFrame asks a participant of this node for one, for another SFU.
func (l *live) keyFrame(f *peer.CallKeyFrame) {
	if k, id, ok := l.m.Numbered(f.GetNumber()); ok && f.GetLayer() < 8 {
		if a := l.attendees[k]; a != nil && a.sources[id] != nil {
			a.sources[id].KeyFrame(int(f.GetLayer()))
		}
	}
}

func (l *live) dropRemote(at trackAt) {
	r := l.remotes[at]
	delete(l.remotes, at)
	l.h.mu.Lock()
	delete(l.h.remotes, at)
	l.h.mu.Unlock()
	r.media.Close()
}

// tapAt is a track on its way to another node.
type tapAt struct {
	node   regions.NodeID
	number uint32
}

type tap struct {
	k      call.Key
	track  string
	layers media.Layers
	out    *outlet
	remove func()
}

// untap ends the way of a track to other nodes, since it has another source now.
func (l *live) untap(k call.Key, track string) {
	for at, t := range l.taps {
		if t.k == k && t.track == track {
			l.cutTap(at, t)
		}
	}
	l.dirty = true
}

// flow has the SFU do what the machine says, where that is another thing than before.
func (l *live) flow() {
	if l.m.Direct() {
		// There was nobody to hear them here, and both end these connections.
		for k, a := range l.attendees {
			for id := range a.sources {
				l.m.Unpublished(k, id)
			}
			l.m.Connected(k, false)
			a.close()
			delete(l.attendees, k)
		}
	}
	for _, a := range l.attendees { // before anybody gets a new track
		a.gate()
	}
	l.flowIn()
	l.flowOut()
	for _, who := range l.m.Locals() {
		k := call.Key{User: who.User, Device: who.Device}
		subs := l.m.Subscriptions(k)
		a := l.attendees[k]
		if a == nil {
			if len(subs) == 0 {
				continue
			}
			var err error
			if a, err = l.attendee(k); err != nil {
				l.log.InfoContext(l.h.ctx, "a participant is not taken by the SFU", "err", err)
				continue
			}
		}
		a.subscribe(subs)
	}
	l.dirty = false
}

// flowIn has the tracks of other nodes that are wanted.
func (l *live) flowIn() {
	keep := map[trackAt]bool{}
	for _, x := range l.m.Remotes() {
		at := trackAt{x.Node, x.Number}
		keep[at] = true
		if l.remotes[at] != nil {
			continue
		}
		r := &remote{l: l, at: at, region: x.Region}
		r.media = l.h.cfg.SFU.Remote(x.Track, r)
		l.remotes[at] = r
		l.h.mu.Lock()
		l.h.remotes[at] = r
		l.h.mu.Unlock()
		l.h.trunks()
	}
	for at := range l.remotes {
		if !keep[at] {
			l.dropRemote(at)
		}
	}
}

// flowOut sends other nodes the tracks that they want.
func (l *live) flowOut() {
	keep := map[tapAt]bool{}
	for _, x := range l.m.Taps() {
		a := l.attendees[x.Of]
		if a == nil || a.sources[x.Track] == nil {
			continue
		}
		at := tapAt{x.Node, x.Number}
		keep[at] = true
		t := l.taps[at]
		if t != nil && t.layers == x.Layers {
			continue
		}
		out := (*outlet)(nil)
		if t != nil {
			t.remove()
			out = t.out
		} else {
			out = newOutlet(l.h, trackAt{x.Node, x.Number}, x.Video)
		}
		l.taps[at] = &tap{x.Of, x.Track, x.Layers, out, a.sources[x.Track].Tap(x.Layers, out.send)}
	}
	for at, t := range l.taps {
		if !keep[at] {
			l.cutTap(at, t)
		}
	}
}

func (l *live) cutTap(at tapAt, t *tap) {
	t.remove()
	t.out.close()
	delete(l.taps, at)
}

// gate opens and closes what a participant sends.
func (a *attendee) gate() {
	for id, s := range a.sources {
		until, open := a.l.m.Open(a.k, s.Track())
		if !open {
			until = shut
		}
		if old, set := a.gates[id]; !set && !until.IsZero() || set && !old.Equal(until) {
			s.Gate(until)
			a.gates[id] = until
		}
	}
}

// subscribe has a participant get these.
func (a *attendee) subscribe(subs []call.Subscription) {
	list := make([]media.Subscription, 0, len(subs))
	for _, s := range subs {
		src := a.l.source(s)
		if src == nil {
			continue
		}
		list = append(list, media.Subscription{Source: src, Height: s.Height, Flow: s.Flow && a.l.ears.hears(a.k, s)})
	}
	if !slices.Equal(list, a.subs) {
		a.subs = list
		a.peer.Subscribe(list)
	}
}
