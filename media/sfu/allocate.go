package sfu

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtcp"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media/bwe"
	"github.com/mustermesh/muster/media/choice"
)

// allocation shares what a receiver can get among its tracks.
type allocation struct {
	mu  sync.Mutex // guards est
	est *bwe.Estimator

	// The following are guarded by down.mu.
	next    time.Duration // when to look again
	probeAt time.Duration // when the next probe may begin
	probing time.Duration // until when one goes on; 0: none does
	padded  time.Duration // when padding was last sent
	speed   int           // of the probe, bit/s
	lacks   bool          // somebody gets less than what was asked for
	target  int           // what it would take to give the next one more, bit/s
	told    *wire.CallQuality
	toldAt  time.Duration
	waiting []*subscription
	changed []*source
	order   []*subscription
}

const (
	allocateEvery = 200 * time.Millisecond
	probeEvery    = 900 * time.Millisecond
	probeLong     = 120 * time.Millisecond
	padEvery      = 5 * time.Millisecond // while a probe goes on: bursts would fill a queue by themselves
	share         = 0.92                 // of the estimate, for what is always sent
)

func (a *allocation) sent(seq uint16, size int, now time.Duration) {
	a.mu.Lock()
	a.est.Sent(seq, size, now)
	a.mu.Unlock()
}

func (a *allocation) feedback(f *rtcp.TransportLayerCC, now time.Duration) {
	a.mu.Lock()
	a.est.Feedback(f, now)
	a.mu.Unlock()
}

// unlimited is for receivers that give no feedback of which it could be known.
const unlimited = 1_000_000_000

// allocateLocked chooses the layer of each subscription, if it is time to or something
// else than time calls for it. It returns what the receiver is to be told, if that
// changed.
func (d *down) allocateLocked(now time.Duration) *wire.CallQuality {
	a := &d.alloc
	a.next = now + allocateEvery
	a.mu.Lock()
	rate, known, limited := a.est.Rate(), a.est.Known(), a.est.Limited()
	a.mu.Unlock()
	budget := unlimited
	if known {
		budget = int(share * float64(rate))
	}
	a.order = a.order[:0]
	for _, sub := range d.subs {
		a.order = append(a.order, sub)
	}
	slices.SortFunc(a.order, func(x, y *subscription) int {
		return cmp.Or(cmp.Compare(y.height, x.height), cmp.Compare(x.track.ID, y.track.ID))
	})
	cs, subs := make([]*choice.Picture, 0, len(a.order)), make([]*subscription, 0, len(a.order))
	for _, sub := range a.order {
		src := sub.src.Load()
		sub.mu.Lock()
		if !sub.track.Video {
			sub.want = 0
			if sub.flow && src.flows(0, now) {
				budget -= int(src.layers[0].meter.rate.Load())
			}
			sub.usesLocked()
			sub.mu.Unlock()
			continue
		}
		c, height := &choice.Picture{Layers: max(src.track.Layers, 1), Now: sub.cur}, sub.height
		if sub.ready && sub.flow && sub.height > 0 {
			cs, subs = append(cs, c), append(subs, sub)
		} else {
			sub.want = -1
			sub.usesLocked()
		}
		sub.mu.Unlock()
		some := false
		for l := range c.Layers {
			if src.flows(l, now) {
				c.Rates[l] = max(int(src.layers[l].meter.rate.Load()), 30_000)
				some = true
			}
		}
		if !some {
			// Of another SFU nothing comes that was not asked for; of a client it may be about to.
			c.Rates[0] = 100_000
		}
		if src.wanted != nil {
			for l := range c.Layers {
				c.Rates[l] = max(c.Rates[l], 120_000<<(2*l))
			}
		}
		c.Most = src.enough(height)
	}
	lack := choice.Distribute(cs, budget, !limited)
	a.lacks, a.target = lack > 0, 0
	if lack > 0 {
		a.target = int(float64(lack) / share)
	}
	for i, sub := range subs {
		sub.mu.Lock()
		sub.want = cs[i].Got
		if sub.want < 0 {
			sub.cur = -1
		}
		sub.usesLocked()
		sub.mu.Unlock()
	}
	for _, sub := range a.order {
		if src := sub.src.Load(); src.wanted != nil {
			a.changed = append(a.changed, src)
		}
	}
	q := &wire.CallQuality{Quality: 3}
	if known {
		q.Available = uint32(rate)
	}
	for i, sub := range subs {
		src := sub.src.Load()
		s := &wire.CallShown{Track: sub.track.ID, Paused: cs[i].Got < 0}
		if cs[i].Got >= 0 {
			s.Height = src.height(cs[i].Got)
			if cs[i].Got < cs[i].Most {
				q.Quality = min(q.Quality, 2)
			}
		} else {
			q.Quality = 1
		}
		q.Shown = append(q.Shown, s)
	}
	if !a.worth(q, now) {
		return nil
	}
	a.told, a.toldAt = q, now
	return q
}

// worth reports whether the receiver should be told: what it gets changed, or how much
// it could get did by a lot; not more often than once a second for the latter.
func (a *allocation) worth(q *wire.CallQuality, now time.Duration) bool {
	t := a.told
	if t == nil || t.Quality != q.Quality || !slices.EqualFunc(t.Shown, q.Shown, func(x, y *wire.CallShown) bool {
		return x.Track == y.Track && x.Paused == y.Paused && x.Height == y.Height
	}) {
		return true
	}
	if now-a.toldAt < time.Second {
		return false
	}
	x, y := int(t.Available), int(q.Available)
	return x*5 < y*4 || y*5 < x*4
}

// height of a layer's picture; 0: unknown.
func (src *source) height(layer int) uint32 {
	if h := src.layers[layer].height.Load(); h != 0 {
		return h
	}
	for l := range src.track.Layers {
		if h := src.layers[l].height.Load(); h != 0 { // each is twice the one below, as is usual
			if l > layer {
				return h >> (l - layer)
			}
			return h << (layer - l)
		}
	}
	return 0
}

// enough is the smallest layer that fills a picture of a height.
func (src *source) enough(height uint32) int {
	top := max(src.track.Layers, 1) - 1
	for l := range top {
		h := src.height(l)
		if h == 0 {
			h = 720 >> (top - l)
		}
		// A picture that is shown a little bigger than it is looks no worse.
		if h*5 >= height*4 {
			return l
		}
	}
	return top
}

// probe finds out whether there is room for what is lacking.
func (a *allocation) probe(w *writer, d *down, now time.Duration) {
	if a.probing == 0 && (!a.lacks || now < a.probeAt) {
		return
	}
	a.mu.Lock()
	known, rate, held, rtt := a.est.Known(), a.est.Rate(), a.est.Held(), a.est.RTT()
	busy := a.est.Probing(now)
	a.mu.Unlock()
	switch {
	case a.probing != 0 && now >= a.probing:
		a.mu.Lock()
		a.est.EndProbe(now)
		a.mu.Unlock()
		a.probing = 0
		a.probeAt = now + probeEvery
	case a.probing != 0:
		d.padLocked(w, int(float64(a.speed)*(now-a.padded).Seconds()/8))
		a.padded = now
	case !known || busy || now-held < 2*rtt+time.Second && held != 0:
	default:
		a.speed = min(2*rate, max(a.target*11/10, rate*5/4), bwe.Most)
		a.mu.Lock()
		a.est.BeginProbe()
		a.mu.Unlock()
		a.probing, a.padded = now+probeLong, now
		d.padLocked(w, int(float64(a.speed)*padEvery.Seconds()/8))
	}
}

func (d *down) padLocked(w *writer, bytes int) {
	for _, sub := range d.subs {
		if sub.track.Video && sub.pad(w, bytes) > 0 {
			return
		}
	}
}
