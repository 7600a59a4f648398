package host

import (
	"context"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/call"
	"github.com/mustermesh/muster/regions"
)

// floor answers who wants the floor, or wants it no more, after the call's home region
// was asked.
func (l *live) floor(ctx context.Context, who media.Session, r *wire.CallFloorAsk) (*wire.ServerFrame, error) {
	var err error
	var asked chan struct{}
	if e := l.ask(ctx, func(now time.Time) {
		l.m.Stands(who)
		if err = l.m.AskFloor(now, who.ID(), r); err == nil {
			l.m.Tick(now)
			l.carry(now)
			asked = l.ears.floorAsked
		}
	}); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	if asked != nil {
		select {
		case <-asked:
		case <-ctx.Done():
		}
	}
	var f *wire.CallFloor
	if e := l.ask(ctx, func(now time.Time) { f, err = l.m.FloorOf(now, who.ID()) }); e != nil {
		return nil, e
	}
	if err != nil {
		return nil, err
	}
	return &wire.ServerFrame{Body: &wire.ServerFrame_CallFloor{CallFloor: f}}, nil
}

// askFloor asks the call's home region, in a goroutine of its own.
func (l *live) askFloor(w call.FloorWish) {
	home := l.m.Record().Home
	answered := make(chan struct{})
	l.ears.floorAsked = answered
	asked := time.Now() // a lease counts from before it was asked for
	l.h.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, regions.FloorLease)
		defer cancel()
		var a regions.FloorAnswer
		err := error(media.ErrFloorUnavailable)
		if l.h.cfg.Floor != nil {
			if w.Release {
				a, err = l.h.cfg.Floor.Release(ctx, home, regions.FloorRelease{Call: l.id, Session: w.Who, Node: l.h.cfg.Self, Grant: w.Grant})
			} else {
				a, err = l.h.cfg.Floor.Ask(ctx, home, regions.FloorAsk{
					Call: l.id, Session: w.Who, Region: l.h.cfg.Region, Node: l.h.cfg.Self, Priority: w.Priority, MaxTalk: l.h.cfg.MaxTalk, Released: w.Released,
				})
			}
		}
		l.h.counts.floor(a, err)
		if err != nil {
			l.log.DebugContext(ctx, "the floor was not asked for", "home", home, "err", err)
		}
		l.do(func(now time.Time) {
			l.m.FloorAnswered(now, asked, w, a, err)
			close(answered)
		})
	})
}

func (l *live) takeFloor(ctx context.Context, grant uint64) (*wire.ServerFrame, error) {
	if l.h.cfg.Floor == nil {
		return nil, media.ErrFloorUnavailable
	}
	var home regions.RegionID
	if err := l.ask(ctx, func(time.Time) { home = l.m.Record().Home }); err != nil {
		return nil, err
	}
	if _, err := l.h.cfg.Floor.Take(ctx, home, l.id, grant); err != nil {
		return nil, err
	}
	return done(nil)
}
