package session

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

// Every pair of state and event, against the table as it is drawn in state.go.
func TestTransitions(t *testing.T) {
	drawn := map[State]string{
		Connecting:     "hello→authenticating lost→closed ended→closed",
		Authenticating: "welcomed→live resumed→live lost→closed fenced→closed ended→closed",
		Live:           "lost→suspended drain→draining replaced→closed fenced→closed ended→closed",
		Draining:       "lost→suspended replaced→closed fenced→closed ended→closed",
		Suspended:      "expired→closed replaced→closed fenced→closed ended→closed",
		Closed:         "",
	}
	for from := range states {
		var got []string
		for e := range events {
			to, ok := Next(from, e)
			if ok {
				got = append(got, e.String()+"→"+to.String())
			} else {
				require.Equal(t, from, to, "a refused event changes nothing")
			}
		}
		require.Equal(t, drawn[from], strings.Join(got, " "), from)
	}
}

// The same pairs on sessions: each transition is counted, and so is each that is
// refused, which changes nothing. What ends gives back its place.
func TestTransitionsAreCounted(t *testing.T) {
	w := newWorld(t, Config{})
	for from := range states {
		for e := range events {
			allowed, refused := w.count(t, "transitions_total"), w.count(t, "transitions_refused_total")
			require.True(t, w.gate.Enter())
			s := newSession(w.Registry, nil)
			s.state = from
			to, ok := Next(from, e)
			require.Equal(t, ok, s.move(e), "%s %s", from, e)
			require.Equal(t, to, s.current())
			if ok {
				allowed++
			} else {
				refused++
			}
			require.Equal(t, allowed, w.count(t, "transitions_total"), "%s %s", from, e)
			require.Equal(t, refused, w.count(t, "transitions_refused_total"), "%s %s", from, e)
			s.timer.Stop()
		}
	}
	var seen float64
	for from, to := range transitions {
		for e := range to {
			seen++
			require.EqualValues(t, 1, testutil.ToFloat64(w.deps.Metrics.transitions.WithLabelValues(State(from).String(), e.String())))
		}
	}
	require.Equal(t, seen, w.count(t, "transitions_total"))
	require.Equal(t, float64(int(states)*int(events))-seen, w.count(t, "transitions_refused_total"))
	w.Stop()
}

func TestWholeLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.connect()
		p.ask(1, hello("ann l1", "phone"))
		f := p.next(t)
		require.EqualValues(t, 1, f.Re)
		welcome := f.GetWelcome()
		require.Equal(t, "ann", welcome.User)
		require.EqualValues(t, 1, welcome.Epoch)
		require.EqualValues(t, 30_000, welcome.GraceMs)
		require.EqualValues(t, wire.MaxClientFrame, welcome.MaxFrame)

		p.ask(2, join(roomA))
		f = p.next(t)
		require.EqualValues(t, 2, f.Re)
		require.Equal(t, roomA, f.GetSnapshot().Room)

		p.ask(3, report(goodFix(1)))
		require.NotNil(t, p.next(t).GetDone())
		full := goodFix(2)
		full.Speed, full.Heading, full.Battery = new(float32(3)), new(float32(90)), new(float32(0.5))
		p.ask(4, report(full, roomA))
		require.NotNil(t, p.next(t).GetDone())
		own := grant.Own(w.hub.raw)
		require.Equal(t, geo.Point{Lat: full.Point.Lat, Lng: full.Point.Lng}, own.Point)
		require.Equal(t, []grant.Reading{grant.Read(3), grant.Read(90), grant.Read(0.5)}, []grant.Reading{own.Speed, own.Heading, own.Battery})
		require.True(t, full.Captured.AsTime().Equal(own.Captured))

		p.ask(5, send(roomA, "m1", "hi"))
		sent := p.next(t).GetSent().Message
		require.EqualValues(t, 1, sent.Number)
		require.Equal(t, "Name of ann", sent.SenderName)
		p.ask(5, send(roomA, "m1", "hi")) // a retry
		require.EqualValues(t, 1, p.next(t).GetSent().Message.Number)

		p.ask(6, &wire.ClientFrame{Body: &wire.ClientFrame_History{History: &wire.History{Room: roomA, After: 7, Limit: 3}}})
		require.EqualValues(t, 8, p.next(t).GetPage().Messages[0].Number)
		p.ask(7, &wire.ClientFrame{Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
		require.True(t, time.Now().Equal(p.next(t).GetPong().Now.AsTime()))
		p.ask(8, &wire.ClientFrame{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: roomA}}})
		require.NotNil(t, p.next(t).GetDone())
		p.ask(9, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
		require.NotNil(t, p.next(t).GetDone())
		require.Nil(t, p.lastWord(t))
		<-p.over
		require.Equal(t, []string{
			"ann/phone join a", "ann/phone fix", "ann/phone fix", "publish a hi", "ann/phone leave a BYE", "ann/phone gone BYE",
		}, w.hub.said())
		require.Zero(t, w.Len())
		require.Empty(t, p.out)
		require.Zero(t, w.count(t, "transitions_refused_total"))
		require.Zero(t, w.count(t, "current"))
		require.EqualValues(t, 3, w.count(t, "transitions_total"))
		w.Stop()
	})
}

func TestGrace(t *testing.T) {
	t.Run("over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			p.cut()
			<-p.over
			time.Sleep(29 * time.Second)
			synctest.Wait()
			require.Equal(t, []string{"ann/phone join a", "ann/phone suspend"}, w.hub.said())
			require.Equal(t, 1, w.Len())
			time.Sleep(2 * time.Second)
			synctest.Wait()
			require.Equal(t, "ann/phone gone TIMED_OUT", w.hub.said()[2])
			require.Zero(t, w.Len())
			w.Stop()
		})
	})
	t.Run("resumed, with one room less", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA, roomB)
			p.cut()
			<-p.over
			time.Sleep(20 * time.Second)
			q := w.connect()
			again := hello("ann l1", "phone", roomB)
			again.GetHello().Epoch = 1
			q.ask(1, again)
			require.NotNil(t, q.next(t).GetWelcome())
			require.NotNil(t, q.next(t).GetSnapshot())
			time.Sleep(notFollowedFor)
			synctest.Wait()
			said := w.hub.said()
			require.Equal(t, []string{"ann/phone suspend", "ann/phone join b", "ann/phone gone MOVED", "ann/phone leave a BYE"}, said[2:])
			require.Equal(t, "live 2 n1 b", w.region.of("ann", "phone"))
			require.Equal(t, 1, w.hub.members(roomB))
			time.Sleep(20 * time.Second) // the old grace time would be over
			synctest.Wait()
			require.Len(t, w.hub.said(), len(said))
			require.EqualValues(t, 1, w.count(t, "transitions_total", "authenticating", "resumed"))
			require.Equal(t, 1, w.Len())
			q.cut()
			<-q.over
			w.Stop()
		})
	})
	t.Run("started anew, before it joins its room again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			p.cut()
			<-p.over
			q := w.live(t, "ann l1", "phone")
			synctest.Wait()
			require.Equal(t, []string{"ann/phone suspend", "ann/phone gone MOVED"}, w.hub.said()[1:], "a reload is no farewell")
			q.cut()
			<-q.over
			w.Stop()
		})
	})
	t.Run("a second connection supersedes the first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			other := w.live(t, "ann l1", "tablet", roomA)
			q := w.live(t, "ann l1", "phone", roomA)
			c := p.lastWord(t)
			require.Equal(t, wire.CodeSuperseded, c.Code)
			require.EqualValues(t, 3, c.Epoch)
			<-p.over
			synctest.Wait()
			require.NotContains(t, w.hub.said(), "ann/phone suspend", "it ended silently")
			require.Equal(t, 2, w.hub.members(roomA))
			require.Equal(t, 2, w.Len())
			other.cut()
			q.cut()
			w.Stop()
		})
	})
	t.Run("fenced by the room's owner", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			w.hub.last.Superseded(99)
			c := p.lastWord(t)
			require.EqualValues(t, 99, c.Epoch)
			<-p.over
			synctest.Wait()
			require.Equal(t, "ann/phone gone MOVED", w.hub.said()[1])
			require.Zero(t, w.Len())
			w.Stop()
		})
	})
	t.Run("a join that ends after the connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone")
			w.core.block = make(chan struct{})
			p.ask(2, join(roomA))
			synctest.Wait()
			p.cut()
			<-p.over
			close(w.core.block)
			synctest.Wait()
			require.Equal(t, []string{"ann/phone suspend", "ann/phone join a", "ann/phone suspend"}, w.hub.said())
			w.Stop()
		})
	})
}

func TestDeadlines(t *testing.T) {
	t.Run("no hello", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.connect()
			start := time.Now()
			require.Equal(t, wire.CodeTimeout, p.lastWord(t).Code)
			require.Equal(t, 5*time.Second, time.Since(start))
			<-p.over
			w.Stop()
		})
	})
	t.Run("no ping", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone")
			for range 10 {
				time.Sleep(25 * time.Second)
				p.ask(0, &wire.ClientFrame{Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
			}
			start := time.Now()
			require.Equal(t, wire.CodeTimeout, p.lastWord(t).Code)
			require.Equal(t, 30*time.Second, time.Since(start))
			<-p.over
			require.Equal(t, 1, w.Len(), "the session is suspended")
			w.Stop()
		})
	})
	t.Run("the token runs out, and doesn't after a reauth", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{Ping: time.Hour})
			reauth := func(token string) *wire.ClientFrame {
				return &wire.ClientFrame{Body: &wire.ClientFrame_Reauth{Reauth: &wire.Reauth{Token: token}}}
			}
			w.core.expires["ann l1"] = time.Now().Add(time.Minute)
			w.core.expires["ann l1 again"] = time.Now().Add(2 * time.Minute)
			w.core.expires["ann l1 old"] = time.Now()
			p, q := w.live(t, "ann l1", "phone"), w.live(t, "ann l1", "tablet")
			for token, code := range map[string]string{
				"bob l1": wire.CodeUnauthenticated, "ann l2": wire.CodeUnauthenticated, "forged x": wire.CodeUnauthenticated,
				"": wire.CodeUnauthenticated, "ann l1 old": wire.CodeTokenExpired,
			} {
				q.ask(2, reauth(token))
				require.Equal(t, code, q.next(t).GetError().GetCode(), token)
			}
			q.ask(2, reauth("ann l1 again"))
			require.NotNil(t, q.next(t).GetDone())
			start := time.Now()
			require.Equal(t, wire.CodeTokenExpired, p.lastWord(t).Code)
			require.Equal(t, time.Minute, time.Since(start))
			require.Equal(t, wire.CodeTokenExpired, q.lastWord(t).Code)
			require.Equal(t, 2*time.Minute, time.Since(start))
			<-p.over
			<-q.over
			w.Stop()
		})
	})
}

// A room that can't be joined again right now was not left.
func TestResumedWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.live(t, "ann l1", "phone", roomA).cut()
		synctest.Wait()
		w.core.lastErr = errs.New(errs.Unavailable, edge.CodeRetry, "the database is away")
		p := w.connect()
		p.ask(1, hello("ann l1", "phone", roomA))
		require.NotNil(t, p.next(t).GetWelcome())
		require.Equal(t, wire.CodeRetry, p.next(t).GetError().Code)
		synctest.Wait()
		require.Equal(t, []string{"ann/phone join a", "ann/phone suspend", "ann/phone gone MOVED"}, w.hub.said())
		p.cut()
		w.Stop()
	})
}

// A sign-out that comes when the token was just checked.
func TestRevokeDuringHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		first := w.live(t, "ann l1", "phone", roomA)
		w.region.opening = func() { w.Revoke("l1") }
		second := w.connect()
		second.ask(1, hello("ann l1", "phone", roomA))
		require.Equal(t, wire.CodeSignedOut, second.lastWord(t).Code)
		require.Equal(t, wire.CodeSignedOut, first.lastWord(t).Code)
		<-second.over
		<-first.over
		require.Zero(t, w.Len())
	})
}

func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p, q := w.live(t, "ann l1", "phone", roomA), w.live(t, "ann l2", "tablet", roomA)
		w.Revoke("l1")
		require.Equal(t, wire.CodeSignedOut, p.lastWord(t).Code)
		<-p.over
		require.Equal(t, "ann/phone gone SIGNED_OUT", w.hub.said()[2])
		require.Equal(t, 1, w.Len())
		again := w.connect()
		again.ask(1, hello("ann l1", "phone")) // the token itself is still valid
		require.Equal(t, wire.CodeSignedOut, again.lastWord(t).Code)
		time.Sleep(revokedFor + time.Minute)
		w.live(t, "ann l1", "phone").cut()
		q.cut()
		w.Stop()
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		w.Close()
		c := p.lastWord(t)
		require.Equal(t, wire.CodeDraining, c.Code)
		require.NotZero(t, c.RetryAfterMs)
		<-p.over
		require.Equal(t, "ann/phone suspend", w.hub.said()[1], "no leave: the device comes back elsewhere")
		late := w.connect()
		require.Equal(t, wire.CodeDraining, late.lastWord(t).Code)
		w.Stop()
		w.Stop()
	})
}

func TestRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		w.hub.last.Removed(roomA, wire.Reason_REMOVED)
		e := p.next(t).GetError()
		require.Equal(t, wire.CodeNotMember, e.Code)
		require.Equal(t, roomA, e.Room)
		p.ask(2, send(roomA, "1", "hi"))
		require.Equal(t, wire.CodeNotJoined, p.next(t).GetError().Code)
		w.hub.last.Refused(7, roomB, errs.New(errs.Unavailable, edge.CodeRetry, "again").After(1500*time.Microsecond))
		f := p.next(t)
		require.EqualValues(t, 7, f.Re)
		require.EqualValues(t, 2, f.GetError().RetryAfterMs)
		p.cut()
		<-p.over
		w.Stop()
	})
}

// Each bad hello closes with its own code; each bad request is answered with
// its own; and nobody else notices.
func TestBadInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{Limits: admit.Limits{Errors: admit.Rate{PerSecond: 1000, Burst: 1000}}})
		w.core.expires["old l1"] = time.Now().Add(-time.Second)
		bystander := w.live(t, "bob l9", "phone", roomA)
		change := func(f func(h *wire.Hello)) *wire.ClientFrame {
			c := hello("ann l1", "phone")
			f(c.GetHello())
			return c
		}
		for name, c := range map[string]struct {
			frame *wire.ClientFrame
			err   error
			code  string
		}{
			"version 2":          {change(func(h *wire.Hello) { h.Version = 2 }), nil, wire.CodeBadVersion},
			"version 0":          {change(func(h *wire.Hello) { h.Version = 0 }), nil, wire.CodeBadVersion},
			"no token":           {change(func(h *wire.Hello) { h.Token = "" }), nil, wire.CodeUnauthenticated},
			"forged token":       {change(func(h *wire.Hello) { h.Token = "forged x" }), nil, wire.CodeUnauthenticated},
			"expired token":      {change(func(h *wire.Hello) { h.Token = "old l1" }), nil, wire.CodeTokenExpired},
			"no device":          {change(func(h *wire.Hello) { h.Device = "" }), nil, wire.CodeBadDevice},
			"odd device":         {change(func(h *wire.Hello) { h.Device = "a/b" }), nil, wire.CodeBadDevice},
			"a made-up epoch":    {change(func(h *wire.Hello) { h.Epoch = math.MaxUint64 }), nil, wire.CodeBadRequest},
			"a hello of nothing": {&wire.ClientFrame{Body: &wire.ClientFrame_Hello{}}, nil, wire.CodeBadRequest},
			"not a hello":        {join(roomA), nil, wire.CodeBadRequest},
			"a frame of nothing": {nil, wire.ErrBadFrame, wire.CodeBadFrame},
			"a huge frame":       {nil, wire.ErrTooLarge, wire.CodeTooLarge},
		} {
			p := w.connect()
			p.give(c.frame, c.err)
			last := p.lastWord(t)
			require.Equal(t, c.code, last.Code, name)
			require.NotEmpty(t, last.Message)
			<-p.over
		}

		p := w.live(t, "ann l1", "phone", roomA)
		fix := func(f func(*wire.Fix)) *wire.ClientFrame {
			x := goodFix(1)
			f(x)
			return report(x)
		}
		many := make([]string, 65)
		for name, c := range map[string]struct {
			frame *wire.ClientFrame
			err   error
			code  string
		}{
			"second hello":      {hello("ann l1", "phone"), nil, wire.CodeBadRequest},
			"unknown frame":     {&wire.ClientFrame{}, wire.ErrBadFrame, wire.CodeBadFrame},
			"bad room":          {join("lobby"), nil, wire.CodeBadRoom},
			"no room":           {&wire.ClientFrame{Body: &wire.ClientFrame_Join{}}, nil, wire.CodeBadRoom},
			"not member":        {join(roomC), nil, wire.CodeNotMember},
			"odd position":      {&wire.ClientFrame{Body: &wire.ClientFrame_Join{Join: &wire.Join{Room: roomA, Positions: []*wire.Position{{}}}}}, nil, wire.CodeBadRequest},
			"people elsewhere":  {&wire.ClientFrame{Body: &wire.ClientFrame_ListPeople{ListPeople: &wire.ListPeople{Room: roomB}}}, nil, wire.CodeNotJoined},
			"fix elsewhere":     {report(goodFix(1), roomA, roomB), nil, wire.CodeNotJoined},
			"65 rooms":          {report(goodFix(1), many...), nil, wire.CodeTooManyRooms},
			"no fix":            {&wire.ClientFrame{Body: &wire.ClientFrame_Report{}}, nil, wire.CodeBadCoordinates},
			"NaN":               {fix(func(f *wire.Fix) { f.Point.Lat = math.NaN() }), nil, wire.CodeBadCoordinates},
			"out of range":      {fix(func(f *wire.Fix) { f.Point.Lng = 181 }), nil, wire.CodeBadCoordinates},
			"bad accuracy":      {fix(func(f *wire.Fix) { f.Accuracy = -1 }), nil, wire.CodeBadFix},
			"future":            {fix(func(f *wire.Fix) { f.Captured = timestamppb.New(time.Now().Add(time.Hour)) }), nil, wire.CodeFixInFuture},
			"long ago":          {fix(func(f *wire.Fix) { f.Captured = timestamppb.New(time.Now().Add(-25 * time.Hour)) }), nil, wire.CodeFixTooOld},
			"empty message":     {send(roomA, "1", ""), nil, wire.CodeBadMessage},
			"long message":      {send(roomA, "1", strings.Repeat("x", 4001)), nil, wire.CodeBadMessage},
			"no client id":      {send(roomA, "", "x"), nil, wire.CodeBadMessage},
			"message nowhere":   {send(roomB, "1", "x"), nil, wire.CodeNotJoined},
			"history both":      {&wire.ClientFrame{Body: &wire.ClientFrame_History{History: &wire.History{Room: roomA, Before: 1, After: 1}}}, nil, wire.CodeBadRequest},
			"history elsewhere": {&wire.ClientFrame{Body: &wire.ClientFrame_History{History: &wire.History{Room: roomC}}}, nil, wire.CodeNotMember},
			"nearby nowhere":    {nearby(&wire.Nearby{Radius: 10}), nil, wire.CodeBadCoordinates},
			"nearby too far":    {nearby(&wire.Nearby{Radius: 50_001, Center: &wire.Point{}}), nil, wire.CodeBadRequest},
			"a broken core":     {send(roomA, "9", "crash"), nil, wire.CodeInternal},
		} {
			for _, id := range []uint64{7, 0} { // asked for, and not
				c.frame.Id = id
				p.give(c.frame, c.err)
				f := p.next(t)
				require.Equal(t, id, f.Re, name)
				require.Equal(t, c.code, f.GetError().GetCode(), name)
				require.NotEmpty(t, f.GetError().Message, name)
				require.NotContains(t, f.GetError().Message, "burns", "details are ours")
			}
			time.Sleep(20 * time.Second) // not so often as to be closed
			bystander.ask(5, &wire.ClientFrame{Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
			require.NotNil(t, bystander.next(t).GetPong(), name)
		}
		require.Empty(t, bystander.out)
		bystander.cut()
		<-bystander.over
		p.cut()
		<-p.over
		w.Stop()
	})
}

func TestRepeatedGarbageCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p, other := w.live(t, "ann l1", "phone"), w.live(t, "bob l2", "phone")
		for range 11 {
			p.give(nil, wire.ErrBadFrame)
		}
		require.Equal(t, wire.CodeBadFrame, p.lastWord(t).Code)
		other.ask(1, &wire.ClientFrame{Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
		require.NotNil(t, other.next(t).GetPong())
		other.cut()
		<-other.over
		w.Stop()
	})
}

func nearby(n *wire.Nearby) *wire.ClientFrame {
	return &wire.ClientFrame{Body: &wire.ClientFrame_Nearby{Nearby: n}}
}

func TestNearbyAndWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		p.ask(5, nearby(&wire.Nearby{Center: &wire.Point{Lat: 1, Lng: 2}, Radius: 100}))
		f := p.next(t)
		require.EqualValues(t, 5, f.Re)
		require.Len(t, f.GetNeighbours().People, 20)
		require.True(t, f.GetNeighbours().More)
		p.ask(6, &wire.ClientFrame{Body: &wire.ClientFrame_Withdraw{Withdraw: &wire.Withdraw{}}})
		require.NotNil(t, p.next(t).GetDone())
		require.Contains(t, w.hub.said(), "ann withdraws")
		p.cut()
		w.Stop()
	})
}

// A fix that is sent behind a withdrawal is told after it.
func TestReportBehindWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		w.deps.Withdraw = func(_ context.Context, user string) error {
			time.Sleep(time.Second)
			w.hub.mu.Lock()
			defer w.hub.mu.Unlock()
			w.hub.log = append(w.hub.log, "withdrawn")
			return nil
		}
		p := w.live(t, "ann l1", "phone", roomA)
		p.ask(5, &wire.ClientFrame{Body: &wire.ClientFrame_Withdraw{Withdraw: &wire.Withdraw{}}})
		p.ask(6, report(goodFix(1), roomA))
		p.ask(7, report(goodFix(2)))
		for re := range uint64(3) {
			f := p.next(t)
			require.NotNil(t, f.GetDone())
			require.Equal(t, 5+re, f.Re)
		}
		said := w.hub.said()
		require.Less(t, slices.Index(said, "withdrawn"), slices.Index(said, "ann/phone fix"))
		require.Contains(t, said, "withdrawn")
		p.cut()
		<-p.over
		w.Stop()
	})
}

func TestLimits(t *testing.T) {
	t.Run("refused, then closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{Limits: admit.Limits{Fixes: admit.Rate{PerSecond: 1, Burst: 2}}})
			p := w.live(t, "ann l1", "phone", roomA)
			for n := range 3 {
				p.ask(uint64(n+1), report(goodFix(uint64(n+1))))
			}
			require.NotNil(t, p.next(t).GetDone())
			require.NotNil(t, p.next(t).GetDone())
			e := p.next(t).GetError()
			require.Equal(t, wire.CodeRateLimited, e.Code)
			require.NotZero(t, e.RetryAfterMs)
			for n := range 3500 {
				p.ask(0, report(goodFix(uint64(n+10))))
			}
			require.Equal(t, wire.CodeRateLimited, p.lastWord(t).Code)
			require.Less(t, len(p.out), 30, "refusals that nobody asked for are few")
			<-p.over
			w.Stop()
		})
	})
	t.Run("devices of one user", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{Devices: 2})
			w.live(t, "ann l1", "phone")
			tablet := w.live(t, "ann l2", "tablet")
			third := w.connect()
			third.ask(1, hello("ann l3", "watch"))
			c := third.lastWord(t)
			require.Equal(t, wire.CodeRateLimited, c.Code)
			require.NotZero(t, c.RetryAfterMs)
			w.live(t, "bob l4", "phone") // others are not concerned
			w.live(t, "ann l1", "phone") // nor is a device that comes again
			tablet.ask(1, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
			<-tablet.over
			w.live(t, "ann l3", "watch")
			w.Stop()
		})
	})
	t.Run("requests in flight", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone")
			w.core.block = make(chan struct{})
			for i := range 17 {
				p.ask(uint64(i+1), join(roomA))
			}
			f := p.next(t)
			require.EqualValues(t, 17, f.Re)
			require.Equal(t, wire.CodeRateLimited, f.GetError().Code)
			synctest.Wait()
			require.Equal(t, 1, w.core.blocking, "one at a time for a room")
			close(w.core.block)
			for i := range 16 {
				require.EqualValues(t, i+1, p.next(t).Re, "in order")
			}
			p.cut()
			<-p.over
			w.Stop()
		})
	})
	t.Run("core is stuck", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{Ping: time.Hour})
			p := w.live(t, "ann l1", "phone")
			w.core.block = make(chan struct{})
			p.ask(1, join(roomA))
			require.Equal(t, wire.CodeRetry, p.next(t).GetError().Code)
			p.cut()
			<-p.over
			w.Stop()
		})
	})
	t.Run("the node is full, or has no epoch", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{Gate: admit.GateConfig{Sessions: 1}})
			w.region.openErr = errs.New(errs.Unavailable, edge.CodeRetry, "no leader")
			p := w.connect()
			p.ask(1, hello("ann l1", "phone"))
			require.Equal(t, wire.CodeRetry, p.lastWord(t).Code)
			<-p.over
			w.region.openErr = nil
			p = w.live(t, "ann l1", "phone")
			require.Equal(t, wire.CodeRetry, w.connect().lastWord(t).Code)
			p.cut()
			<-p.over
			w.Stop()
		})
	})
	t.Run("a page fits a frame", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.live(t, "ann l1", "phone", roomA)
			p.ask(2, &wire.ClientFrame{Body: &wire.ClientFrame_History{History: &wire.History{Room: roomA, After: 1, Limit: 1 << 30}}})
			f := p.next(t)
			require.Less(t, f.SizeVT(), wire.MaxServerFrame)
			require.True(t, f.GetPage().More)
			require.EqualValues(t, 2, f.GetPage().Messages[0].Number)
			p.ask(3, &wire.ClientFrame{Body: &wire.ClientFrame_History{History: &wire.History{Room: roomA, Before: 300, Limit: 200}}})
			ms := p.next(t).GetPage().Messages
			require.EqualValues(t, 200, ms[len(ms)-1].Number, "the newest are kept")
			p.cut()
			<-p.over
			w.Stop()
		})
	})
	t.Run("more follows than rooms", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, Config{})
			p := w.connect()
			var all []string
			for i := range 70 {
				all = append(all, roomA[:len(roomA)-2]+string(rune('0'+i/16))+string("0123456789abcdef"[i%16]))
			}
			p.ask(1, hello("ann l1", "phone", all...))
			require.NotNil(t, p.next(t).GetWelcome())
			synctest.Wait()
			snapshots, refused := 0, map[string]int{}
			for len(p.out) > 0 {
				if f := p.next(t); f.GetSnapshot() != nil {
					snapshots++
				} else {
					refused[f.GetError().Code]++
				}
			}
			require.Equal(t, 63, snapshots) // one of the 64 is roomC
			require.Equal(t, map[string]int{wire.CodeTooManyRooms: 6, wire.CodeNotMember: 1}, refused)
			p.cut()
			<-p.over
			w.Stop()
		})
	})
}

// Every code that closes a connection has a number of its own; see
// wire.CloseNumber for the others' fate.
func TestCodesThatClose(t *testing.T) {
	for _, code := range []errs.Code{
		edge.CodeBadFrame, edge.CodeTooLarge, edge.CodeBadVersion, edge.CodeUnauthenticated, edge.CodeTokenExpired,
		edge.CodeSignedOut, edge.CodeBadDevice, edge.CodeBadRequest, edge.CodeRateLimited, edge.CodeRetry, edge.CodeSuperseded,
		edge.CodeDraining, edge.CodeSlow, edge.CodeTimeout, edge.CodeInternal,
	} {
		n, ok := wire.CloseNumber(string(code))
		require.True(t, ok, code)
		require.Equal(t, string(code), wire.CloseCode(n))
	}
}
