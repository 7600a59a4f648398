package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

const fleet = "7c1f2c1e-7f5d-4b3a-9c55-1a2b3c4d5e6f"

// Post takes fixes of subjects for the hub's log. A subject called busy has sent
// too many.
func (s sharer) Post(user, name string, raw grant.Raw, rooms []string) error {
	h := s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasSuffix(user, ":busy") {
		return errs.New(errs.RateLimited, edge.CodeRateLimited, "send fewer positions").After(70 * time.Millisecond)
	}
	if name != "" || len(rooms) > 0 {
		panic("a subject is in no room")
	}
	h.log = append(h.log, "post "+user)
	h.raw = raw
	return nil
}

func ingest(fixes ...*wire.SubjectFix) *wire.ClientFrame {
	return &wire.ClientFrame{Body: &wire.ClientFrame_Ingest{Ingest: &wire.Ingest{Fixes: fixes}}}
}

func subject(name string) *wire.SubjectFix { return &wire.SubjectFix{Subject: name, Fix: goodFix(0)} }

func gateway(token string) string { return edge.FleetUser(fleet) + " " + token }

func TestGatewayIngests(t *testing.T) {
	w := newWorld(t, Config{})
	p := w.live(t, gateway("key"), "g1")
	nowhere := subject("b")
	nowhere.Fix.Point.Lat = 91
	late := subject("c")
	late.Fix.Captured = timestamppb.New(time.Now().Add(time.Hour))
	p.ask(2, ingest(subject("a"), nowhere, late, subject("b:c"), subject("busy"), &wire.SubjectFix{Subject: "gone"}, nil, subject("z.1_-")))
	got := p.next(t)
	require.EqualValues(t, 2, got.Re)
	require.EqualValues(t, 3, got.GetIngested().Taken)
	var refused []string
	for _, r := range got.GetIngested().Refused {
		refused = append(refused, fmt.Sprint(r.Index, " ", r.Code, " ", r.RetryAfterMs))
	}
	require.Equal(t, []string{
		"1 " + wire.CodeBadCoordinates + " 0", "2 " + wire.CodeFixInFuture + " 0", "3 " + wire.CodeBadSubject + " 0",
		"4 " + wire.CodeRateLimited + " 70", "6 " + wire.CodeBadSubject + " 0",
	}, refused)
	name := "fleet:" + fleet + ":"
	require.Equal(t, []string{"post " + name + "a", name + "gone withdraws", "post " + name + "z.1_-"}, w.hub.said())

	p.ask(3, ingest())
	require.EqualValues(t, 3, p.next(t).Re)
	p.ask(4, ingest(make([]*wire.SubjectFix, wire.MaxIngest+1)...))
	require.Equal(t, wire.CodeBadRequest, p.next(t).GetError().GetCode())

	// Nobody asked: only refusals are answered, and not all of them.
	p.ask(0, ingest(subject("a")))
	for range 40 {
		p.ask(0, ingest(subject("a"), subject(""), subject("busy")))
	}
	p.ask(5, &wire.ClientFrame{Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
	n := 0
	for f := p.next(t); f.GetPong() == nil; f = p.next(t) {
		require.Equal(t, wire.CodeBadSubject, f.GetError().GetCode())
		n++
	}
	require.InDelta(t, 20, n, 2)
}

// What a gateway takes back, all nodes are told of, much of it at a time.
func TestGatewayWithdraws(t *testing.T) {
	w := newWorld(t, Config{})
	calls, open := make(chan []string, 10), make(chan struct{})
	w.Registry.deps.Forget = func(_ context.Context, of string, subjects []string, at time.Time) {
		if of != fleet || time.Since(at) > time.Minute {
			t.Error("not what was withdrawn", of, at)
		}
		calls <- subjects
		<-open
	}
	p := w.live(t, gateway("key"), "g1")
	for id := range uint64(5) {
		p.ask(2+id, ingest(&wire.SubjectFix{Subject: fmt.Sprint("a", id)}, subject("b"), &wire.SubjectFix{Subject: "c", Fix: &wire.Fix{Captured: timestamppb.Now()}}))
		require.EqualValues(t, 3, p.next(t).GetIngested().GetTaken())
	}
	all, n := <-calls, 1 // as many as there were when it began
	close(open)
	for ; len(all) < 10; n++ {
		all = append(all, <-calls...)
	}
	require.Equal(t, []string{"a0", "c", "a1", "c", "a2", "c", "a3", "c", "a4", "c"}, all)
	require.LessOrEqual(t, n, 2)
	require.Eventually(t, func() bool {
		p.ask(9, ingest(&wire.SubjectFix{Subject: "d"}))
		p.next(t)
		return slices.Equal([]string{"d"}, <-calls)
	}, time.Minute, time.Millisecond)
}

// What a gateway is not: a user.
func TestGatewayIsNobody(t *testing.T) {
	w := newWorld(t, Config{})
	w.core.settingsErr = fmt.Errorf("nobody asks what a gateway chose")
	p := w.connect()
	p.ask(1, hello(gateway("key"), "g1", roomA, roomB))
	require.Equal(t, edge.FleetUser(fleet), p.next(t).GetWelcome().GetUser())
	require.Equal(t, wire.CodeForbidden, p.next(t).GetError().GetCode(), "it follows no rooms")
	id := uint64(10)
	for _, f := range []*wire.ClientFrame{
		join(roomA), send(roomA, "a", "b"), report(goodFix(1)),
		{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: roomA}}},
		{Body: &wire.ClientFrame_History{History: &wire.History{Room: roomA}}},
		{Body: &wire.ClientFrame_ListPeople{ListPeople: &wire.ListPeople{Room: roomA}}},
		{Body: &wire.ClientFrame_Watch{Watch: &wire.Watch{Watch: 1, Area: &wire.Box{North: 1, East: 1}}}},
		{Body: &wire.ClientFrame_Unwatch{Unwatch: &wire.Unwatch{Watch: 1}}},
		{Body: &wire.ClientFrame_Withdraw{Withdraw: &wire.Withdraw{}}},
		{Body: &wire.ClientFrame_Nearby{Nearby: &wire.Nearby{Center: &wire.Point{}, Radius: 1}}},
	} {
		id++
		p.ask(id, f)
		got := p.next(t)
		require.Equal(t, id, got.Re)
		require.Equal(t, wire.CodeForbidden, got.GetError().GetCode(), "%T", f.Body)
	}
	p.ask(50, &wire.ClientFrame{Body: &wire.ClientFrame_Nearby{Nearby: &wire.Nearby{Center: &wire.Point{}, Radius: 1, Fleet: fleet}}})
	require.NotNil(t, p.next(t).GetNeighbours())
	p.ask(51, &wire.ClientFrame{Body: &wire.ClientFrame_Nearby{Nearby: &wire.Nearby{Center: &wire.Point{}, Radius: 1, Fleet: "x"}}})
	require.Equal(t, wire.CodeBadRequest, p.next(t).GetError().GetCode())
	p.ask(52, &wire.ClientFrame{Body: &wire.ClientFrame_Reauth{Reauth: &wire.Reauth{Token: gateway("key 2")}}})
	require.NotNil(t, p.next(t).GetDone())
	p.ask(53, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
	require.NotNil(t, p.next(t).GetDone())
	p.lastWord(t)
	<-p.over
	require.Empty(t, w.core.wasHere)
	for _, said := range w.hub.said() {
		require.Contains(t, said, " gone BYE")
	}

	// Nor is a subject, and a user is no gateway.
	p = w.connect()
	p.ask(1, hello(edge.Subject(fleet, "a")+" key", "g1"))
	require.Equal(t, wire.CodeUnauthenticated, p.lastWord(t).GetCode())
	u := w.live(t, "ana login", "phone")
	u.ask(2, ingest(subject("a")))
	require.Equal(t, wire.CodeForbidden, u.next(t).GetError().GetCode())

	// A key that ends is a login that ends.
	p = w.live(t, gateway("key"), "g1")
	w.Revoke("key")
	require.Equal(t, wire.CodeSignedOut, p.lastWord(t).GetCode())
}

func TestGatewayLimits(t *testing.T) {
	w := newWorld(t, Config{Gateways: admit.Limits{Fixes: admit.Rate{PerSecond: 10, Burst: 5}}})
	p := w.live(t, gateway("key"), "g1")
	p.ask(2, ingest(subject("a"), subject("b"), subject("c"), subject("d")))
	require.EqualValues(t, 4, p.next(t).GetIngested().GetTaken())
	p.ask(3, ingest(subject("a"), subject("b"), subject("c")))
	e := p.next(t).GetError()
	require.Equal(t, wire.CodeRateLimited, e.GetCode())
	require.InDelta(t, 200, e.GetRetryAfterMs(), 100)
	for id := range uint64(1000) { // far more than a user may send
		p.ask(id+4, &wire.ClientFrame{Body: &wire.ClientFrame_Ping{Ping: &wire.Ping{}}})
		require.NotNil(t, p.next(t).GetPong())
	}
}

// silent is a sharer, and a connection, that cost nothing.
type silent struct{ edge.Sharer }

func (silent) Post(string, string, grant.Raw, []string) error { return nil }

func ingesting(tb testing.TB, n int) (do func()) {
	w := newWorld(tb, Config{Gateways: admit.Limits{Fixes: admit.Rate{PerSecond: 1e12, Burst: 1e12}, Frames: admit.Rate{PerSecond: 1e12, Burst: 1e12}, Bytes: admit.Rate{PerSecond: 1e12, Burst: 1e12}}})
	w.Registry.deps.Sharer, w.Registry.deps.Roster, w.Registry.deps.Hub = silent{}, nowhere{seat{w.region, "n1"}}, nobody{w.hub}
	q := &quiet{sent: make(chan struct{}, 1)}
	handle, _ := w.Accept(q)
	first := hello(gateway("key"), "g1")
	handle(first, first.SizeVT(), nil)
	<-q.sent
	var fixes []*wire.SubjectFix
	for i := range n {
		f := subject(fmt.Sprintf("scooter-%d", i))
		f.Fix.Speed, f.Fix.Heading = new(float32(2)), new(float32(90))
		fixes = append(fixes, f)
	}
	frame := ingest(fixes...)
	frame.Id = 2
	b, err := frame.MarshalVT()
	require.NoError(tb, err)
	pool := new(wire.Pool)
	return func() {
		d := pool.Decoder()
		f, err := d.Client(b)
		handle(f, len(b), err)
		d.Release()
		<-q.sent
	}
}

// A fix costs the name of its subject, as all others know it, and what hides
// where that is: the rest of a frame is for all of them.
func TestIngestAllocates(t *testing.T) {
	const n = 300
	require.LessOrEqual(t, testing.AllocsPerRun(50, ingesting(t, n)), 2.0*n+20)
}

func BenchmarkIngest(b *testing.B) {
	for _, n := range []int{1, 10, 300} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			do := ingesting(b, n)
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/fix")
		})
	}
}

// What is still to be told when the node ends, it tells before that.
func TestGatewayWithdrawsAtTheEnd(t *testing.T) {
	w := newWorld(t, Config{})
	var told []string
	first := make(chan struct{}, 10)
	w.Registry.deps.Forget = func(_ context.Context, _ string, subjects []string, _ time.Time) {
		told = append(told, subjects...)
		first <- struct{}{}
	}
	p := w.live(t, gateway("key"), "g1")
	p.ask(2, ingest(&wire.SubjectFix{Subject: "a"}))
	require.EqualValues(t, 1, p.next(t).GetIngested().GetTaken())
	<-first
	p.ask(3, ingest(&wire.SubjectFix{Subject: "b"}))
	require.EqualValues(t, 1, p.next(t).GetIngested().GetTaken())
	p.cut()
	<-p.over
	w.Stop()
	require.Equal(t, []string{"a", "b"}, told)
}
