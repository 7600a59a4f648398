package host

import (
	"context"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/call"
	"github.com/mustermesh/muster/media/choice"
)

// ears is who speaks and who is heard in a call, by the goroutine of the call.
type ears struct {
	floorAsked chan struct{} // closed when the floor's last answer has come; nil: none was asked

	meters   map[string]*choice.Meter // by track
	speakers choice.Speakers
	told     time.Time // of who speaks
	news     bool

	of        map[call.Key]*ear
	headings  map[call.Key]float32
	positions map[string]geo.Point // by user
	looked    time.Time
	looking   bool
}

// ear is of one listener.
type ear struct {
	choice choice.Ear
	heard  []choice.Heard
	flows  map[string]bool // by track, of those that are chosen among
	sounds []*wire.CallSound
	told   time.Time
}

const (
	speakersEvery  = 300 * time.Millisecond // at most
	soundsEvery    = 500 * time.Millisecond
	positionsEvery = time.Second
)

func (e *ears) turn(k call.Key, degrees float32) {
	if e.headings == nil {
		e.headings = map[call.Key]float32{}
	}
	e.headings[k] = degrees
}

// hears reports whether a participant hears a track.
func (e *ears) hears(k call.Key, s call.Subscription) bool {
	if x := e.of[k]; x != nil && s.Source == wire.CallSource_MIC {
		if flow, chosen := x.flows[s.Track]; chosen {
			return flow
		}
	}
	return true
}

// voice is a microphone in the call.
type voice struct {
	call.Sound
	level uint8
}

// hear looks who speaks, and chooses whom everybody hears.
func (l *live) hear(now time.Time) {
	var voices []voice
	if !l.m.Direct() {
		voices = l.listen(now)
	}
	l.speak(now, voices)
	if l.m.Record().Hearing.On() && !l.m.Record().PushToTalk && !l.m.Direct() {
		l.locate(now)
		l.choose(now, voices)
	} else if l.ears.of != nil {
		l.ears.of = nil
		l.dirty = true
		for _, who := range l.m.Locals() {
			l.h.tell(who, l.event(&wire.CallEvent{Body: &wire.CallEvent_Sounds{Sounds: &wire.CallSounds{}}}))
		}
	}
	if l.dirty {
		l.flow()
	}
}

func (l *live) event(e *wire.CallEvent) *wire.CallEvent {
	e.Call, e.Place = string(l.id), uint64(l.m.Place())
	return e
}

// listen measures how loud everybody is.
func (l *live) listen(now time.Time) (voices []voice) {
	e := &l.ears
	if e.meters == nil {
		e.meters = map[string]*choice.Meter{}
	}
	sounds := l.m.Sounds()
	for _, s := range sounds {
		m := e.meters[s.Track]
		if m == nil {
			m = &choice.Meter{}
			e.meters[s.Track] = m
		}
		level := uint8(choice.Silence)
		if src := l.source(s.Subscription); src != nil && !s.Muted {
			level = src.Level()
		}
		m.Observe(level, now)
		voices = append(voices, voice{s, m.Level(now)})
	}
	if len(e.meters) > 2*len(sounds)+16 { // of who has gone
		for id := range e.meters {
			if !slices.ContainsFunc(sounds, func(s call.Sound) bool { return s.Track == id }) {
				delete(e.meters, id)
			}
		}
	}
	return voices
}

// source is a track as the SFU has it here.
func (l *live) source(s call.Subscription) media.Source {
	if s.Node != "" {
		if r := l.remotes[trackAt{s.Node, s.Number}]; r != nil {
			return r.media
		}
		return nil
	}
	if a := l.attendees[s.Of]; a != nil && a.sources[s.Track] != nil {
		return a.sources[s.Track]
	}
	return nil
}

// speak tells who speaks.
func (l *live) speak(now time.Time, voices []voice) {
	e := &l.ears
	list := make([]choice.Voice, 0, len(voices))
	for _, v := range voices {
		list = append(list, choice.Voice{ID: v.Track, Level: v.level, Talking: e.meters[v.Track].Talking(now)})
	}
	ids, changed := e.speakers.Update(now, list)
	e.news = e.news || changed
	if !e.news || now.Sub(e.told) < speakersEvery {
		return
	}
	e.news, e.told = false, now
	out := &wire.CallSpeakers{}
	for _, id := range ids {
		for _, v := range voices {
			if v.Track == id {
				out.Speakers = append(out.Speakers, &wire.CallWho{User: v.Of.User, Device: v.Of.Device})
			}
		}
	}
	event := l.event(&wire.CallEvent{Body: &wire.CallEvent_Speakers{Speakers: out}})
	for _, who := range l.m.Locals() {
		if _, connected := l.m.Session(call.Key{User: who.User, Device: who.Device}); connected {
			l.h.tell(who, event)
		}
	}
}

// locate asks now and then where everybody is, if that matters.
func (l *live) locate(now time.Time) {
	e, h := &l.ears, l.m.Record().Hearing
	if h.Nearness <= 0 && h.Radius <= 0 || e.looking || now.Sub(e.looked) < positionsEvery || l.h.cfg.Positions == nil {
		return
	}
	e.looking, e.looked = true, now
	l.h.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		where, err := l.h.cfg.Positions.Positions(ctx, l.room)
		if err != nil {
			l.log.DebugContext(ctx, "it is not known where those in a call are", "err", err)
		}
		l.do(func(time.Time) {
			e.looking = false
			if err == nil {
				e.positions = where
			}
		})
	})
}

func (e *ears) place(user string) choice.Place {
	at, known := e.positions[user]
	return choice.Place{At: at, Known: known}
}

// choose has everybody hear those whom the weights say.
func (l *live) choose(now time.Time, voices []voice) {
	e, h := &l.ears, l.m.Record().Hearing
	if e.of == nil {
		e.of = map[call.Key]*ear{}
	}
	w := choice.Weights{Most: int(h.Most), Loudness: float64(h.Loudness), Nearness: float64(h.Nearness), Radius: float64(h.Radius)}
	seen := map[call.Key]bool{}
	for _, who := range l.m.Locals() {
		k := call.Key{User: who.User, Device: who.Device}
		seen[k] = true
		x := e.of[k]
		if x == nil {
			x = &ear{}
			e.of[k] = x
		}
		var sounds []choice.Sound
		for _, v := range voices {
			if v.Of != k {
				sounds = append(sounds, choice.Sound{ID: v.Track, Level: v.level, Place: e.place(v.Of.User)})
			}
		}
		heading, turned := e.headings[k]
		x.heard = x.choice.Choose(x.heard[:0], now, w, choice.Listener{Place: e.place(k.User), Heading: float64(heading), HasHeading: turned}, sounds)
		l.play(now, who, k, x, sounds)
	}
	for k := range e.of {
		if !seen[k] {
			delete(e.of, k)
			delete(e.headings, k)
		}
	}
}

// play has a listener get what was chosen, and tells how it is to be played.
func (l *live) play(now time.Time, who media.Session, k call.Key, x *ear, sounds []choice.Sound) {
	flows := map[string]bool{}
	var list []*wire.CallSound
	for i, s := range sounds {
		if i >= len(x.heard) {
			break
		}
		heard := x.heard[i]
		flows[s.ID] = heard.Yes
		if old, was := x.flows[s.ID]; (!was || old != heard.Yes) && l.attendees[k] != nil {
			l.dirty = true
		}
		if heard.Yes {
			list = append(list, &wire.CallSound{Track: s.ID, Gain: heard.Gain, Pan: heard.Pan})
		}
	}
	x.flows = flows
	if now.Sub(x.told) < soundsEvery || slices.EqualFunc(list, x.sounds, sounding) {
		return
	}
	x.sounds, x.told = list, now
	if _, connected := l.m.Session(k); connected {
		l.h.tell(who, l.event(&wire.CallEvent{Body: &wire.CallEvent_Sounds{Sounds: &wire.CallSounds{Sounds: list}}}))
	}
}

// sounding reports whether nobody would hear the difference.
func sounding(a, b *wire.CallSound) bool {
	near := func(x, y float32) bool { return x-y < 0.02 && y-x < 0.02 }
	return a.Track == b.Track && near(a.Gain, b.Gain) && near(a.Pan, b.Pan)
}
