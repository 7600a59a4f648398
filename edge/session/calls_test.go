package session

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
	"github.com/mustermesh/muster/edge/transport"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

const (
	callA = "00000000-0000-4000-8000-0000000000a0" // in roomA
	callC = "00000000-0000-4000-8000-0000000000c0" // in roomC
)

// phones are calls that write down what they are told.
type phones struct {
	mu     sync.Mutex
	log    []string
	looks  int           // how often it was asked for a room
	block  chan struct{} // Ask waits for it, if not nil
	under  int           // Asks under way
	most   int
	refuse error
}

func (c *phones) say(of edge.Client, what ...any) {
	m := of.Member()
	c.log = append(c.log, m.User+"/"+m.Device.Device+" "+strings.TrimSpace(fmt.Sprintln(what...)))
}

func (c *phones) Room(_ context.Context, call string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	switch call {
	case callA:
		return roomA, nil
	case callC:
		return roomC, nil
	}
	return "", errs.New(errs.NotFound, edge.CodeNoCall, "there is no such call")
}

func (c *phones) Ask(ctx context.Context, of edge.Client, room string, as edge.Membership, r *wire.CallRequest) (*wire.ServerFrame, error) {
	c.mu.Lock()
	c.under++
	c.most = max(c.most, c.under)
	wait, refuse := c.block, c.refuse
	c.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under--
	name := strings.TrimPrefix(fmt.Sprintf("%T", r.Body), "*wire.CallRequest_")
	if d := r.GetCandidate(); d != nil {
		name += d.Candidate
	}
	c.say(of, name, short(room), as.Role)
	if refuse != nil {
		return nil, refuse
	}
	if r.GetJoin() != nil {
		return &wire.ServerFrame{Body: &wire.ServerFrame_CallJoined{CallJoined: &wire.CallJoined{Place: 7}}}, nil
	}
	return &wire.ServerFrame{Body: &wire.ServerFrame_Done{Done: &wire.Done{}}}, nil
}

func (c *phones) told(of edge.Client, what ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.say(of, what...)
}

func (c *phones) Suspend(of edge.Client)                          { c.told(of, "suspend") }
func (c *phones) Resume(of edge.Client)                           { c.told(of, "resume", of.Member().Device.Epoch) }
func (c *phones) Gone(of edge.Client, r wire.Reason)              { c.told(of, "gone", r) }
func (c *phones) Left(of edge.Client, room string, r wire.Reason) { c.told(of, "left", short(room), r) }

func (c *phones) said() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

func callFrame(call string, body any) *wire.ClientFrame {
	r := &wire.CallRequest{Call: call}
	switch b := body.(type) {
	case *wire.CallJoin:
		r.Body = &wire.CallRequest_Join{Join: b}
	case *wire.CallLeave:
		r.Body = &wire.CallRequest_Leave{Leave: b}
	case *wire.CallSet:
		r.Body = &wire.CallRequest_Set{Set: b}
	case *wire.CallDescription:
		r.Body = &wire.CallRequest_Describe{Describe: b}
	case *wire.CallCandidate:
		r.Body = &wire.CallRequest_Candidate{Candidate: b}
	case *wire.CallWants:
		r.Body = &wire.CallRequest_Wants{Wants: b}
	case *wire.CallModerate:
		r.Body = &wire.CallRequest_Moderate{Moderate: b}
	}
	return &wire.ClientFrame{Body: &wire.ClientFrame_Call{Call: r}}
}

func candidate(n int) *wire.CallCandidate {
	return &wire.CallCandidate{Connection: wire.CallDescription_UP, Candidate: fmt.Sprint(n)}
}

func callWorld(t *testing.T, c Config) (*world, *phones) {
	w, calls := newWorld(t, c), &phones{}
	w.deps.Calls = calls
	return w, calls
}

func TestRequestsAboutCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, calls := callWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		epoch := w.Clients("ann")[0].Member().Device.Epoch
		p.ask(2, callFrame(callA, &wire.CallJoin{}))
		require.EqualValues(t, 7, p.next(t).GetCallJoined().GetPlace())
		p.ask(3, callFrame(callA, &wire.CallSet{MicMuted: new(true)}))
		require.NotNil(t, p.next(t).GetDone())
		p.ask(0, callFrame(callA, candidate(1)))
		synctest.Wait()
		require.Equal(t, []string{fmt.Sprint("ann/phone resume ", epoch), "ann/phone Join a member", "ann/phone Set a member", "ann/phone Candidate1 a member"}, calls.said())
		require.Equal(t, 1, calls.looks, "a call's room is remembered")

		for _, c := range []struct {
			f    *wire.ClientFrame
			code string
		}{
			{callFrame("00000000-0000-4000-8000-0000000000ff", &wire.CallJoin{}), wire.CodeNoCall},
			{callFrame(callC, &wire.CallJoin{}), wire.CodeNotJoined},
			{callFrame("no id", &wire.CallJoin{}), wire.CodeBadRequest},
			{callFrame(callA, nil), wire.CodeBadRequest},
			{callFrame(callA, &wire.CallSet{}), wire.CodeBadRequest},
			{callFrame(callA, &wire.CallDescription{Connection: wire.CallDescription_DOWN, Offer: true, N: 1, Sdp: "v=0"}), wire.CodeBadRequest},
		} {
			p.ask(9, c.f)
			require.Equal(t, c.code, p.next(t).GetError().GetCode())
		}
		require.Len(t, calls.said(), 4, "what is refused is asked of nobody")

		// What the call says by itself reaches exactly this session.
		id := regions.SessionID{User: "ann", Device: "phone", Epoch: regions.Epoch(epoch)}
		require.True(t, w.Tell(id, &wire.CallEvent{Call: callA, Place: 7}))
		require.EqualValues(t, 7, p.next(t).GetCallEvent().GetPlace())
		id.Epoch--
		require.False(t, w.Tell(id, &wire.CallEvent{Call: callA}))

		// Leaving is always possible; the rest is for who may write.
		w.core.mu.Lock()
		w.core.talk = edge.Listens
		w.core.mu.Unlock()
		p.ask(10, callFrame(callA, &wire.CallSet{MicMuted: new(false)}))
		require.Equal(t, wire.CodeEnded, p.next(t).GetError().GetCode())
		p.ask(11, callFrame(callA, &wire.CallLeave{}))
		require.NotNil(t, p.next(t).GetDone())
		p.cut()
		<-p.over
		require.False(t, w.Tell(regions.SessionID{User: "ann", Device: "phone", Epoch: regions.Epoch(epoch)}, &wire.CallEvent{}))
		w.Stop()
	})
}

func TestRequestsAboutCallsKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, calls := callWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		calls.mu.Lock()
		calls.block = make(chan struct{})
		calls.mu.Unlock()
		p.ask(2, callFrame(callA, &wire.CallJoin{}))
		for i := range callsWaiting {
			p.ask(uint64(100+i), callFrame(callA, candidate(i)))
		}
		full := p.next(t)
		require.EqualValues(t, 100+callsWaiting-1, full.Re)
		require.Equal(t, wire.CodeRateLimited, full.GetError().GetCode())
		p.ask(3, &wire.ClientFrame{Body: &wire.ClientFrame_History{History: &wire.History{Room: roomA, Limit: 1}}})
		require.NotNil(t, p.next(t).GetPage(), "other requests don't wait for calls")
		close(calls.block)
		synctest.Wait()
		said := calls.said()[1:]
		require.Len(t, said, callsWaiting)
		for i, s := range said[1:] {
			require.Equal(t, fmt.Sprintf("ann/phone Candidate%d a member", i), s)
		}
		require.Equal(t, 1, calls.most)
		require.EqualValues(t, 2, p.next(t).Re)

		// Too many at once, whatever they are.
		for range 300 {
			p.ask(0, callFrame(callA, candidate(0)))
		}
		synctest.Wait()
		require.Less(t, len(calls.said()), 1+callsWaiting+int(admit.Limits{}.Defaults().Calls.Burst)+10)
		w.Stop()
	})
}

// A call may be joined without waiting for the room.
func TestJoinsARoomAndItsCallAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, calls := callWorld(t, Config{})
		p := w.live(t, "ann l1", "phone")
		w.core.mu.Lock()
		w.core.block = make(chan struct{})
		w.core.mu.Unlock()
		p.ask(2, &wire.ClientFrame{Body: &wire.ClientFrame_Join{Join: &wire.Join{Room: roomA}}})
		p.ask(3, callFrame(callA, &wire.CallJoin{}))
		synctest.Wait()
		require.Len(t, calls.said(), 1)
		close(w.core.block)
		require.NotNil(t, p.next(t).GetSnapshot())
		require.NotNil(t, p.next(t).GetCallJoined())
		w.Stop()
	})
}

// speaker is a pipe to a client that knows of calls alone.
type speaker struct{ *pipe }

type dialect struct{ transport.Dialect }

func (speaker) Dialect() transport.Dialect { return dialect{} }

func (w *world) speaks(t *testing.T) *pipe {
	p := &pipe{world: w, in: make(chan func(transport.Handler)), out: make(chan *wire.ServerFrame, 100), broken: make(chan struct{}), closed: make(chan *wire.Close, 1), over: make(chan struct{})}
	handle, over := w.Accept(speaker{p})
	go func() {
		defer close(p.over)
		over(p.Serve(handle))
	}()
	p.ask(1, &wire.ClientFrame{Body: &wire.ClientFrame_Hello{Hello: &wire.Hello{Version: 1, Token: "ann l1", Device: "phone"}}})
	require.NotNil(t, p.next(t).GetWelcome())
	return p
}

// And no longer: not where the call does not take it, nor after it was put out.
func TestACallTakesItsRoomAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, calls := callWorld(t, Config{})
		p := w.speaks(t)
		calls.refuse = errs.New(errs.Forbidden, edge.CodeCallLocked, "locked")
		p.ask(2, callFrame(callA, &wire.CallJoin{}))
		synctest.Wait()
		require.Zero(t, w.hub.members(roomA), "the call is locked")
		calls.refuse = nil
		p.ask(3, callFrame(callA, &wire.CallJoin{}))
		synctest.Wait()
		require.Equal(t, 1, w.hub.members(roomA))
		calls.refuse = errs.New(errs.Unavailable, wire.CodeRetry, "busy")
		p.ask(4, callFrame(callA, &wire.CallJoin{}))
		synctest.Wait()
		require.Equal(t, 1, w.hub.members(roomA), "it is in the call still")
		calls.refuse = nil

		p.ask(5, callFrame(callA, &wire.CallLeave{}))
		p.ask(6, callFrame(callA, &wire.CallJoin{}))
		synctest.Wait()
		require.Equal(t, 1, w.hub.members(roomA), "it left and came again")
		said := calls.said()
		require.Equal(t, "ann/phone Join a member", said[len(said)-1])

		me := w.Clients("ann")[0].Member()
		id := regions.SessionID{User: "ann", Device: "phone", Epoch: regions.Epoch(me.Device.Epoch)}
		require.True(t, w.Tell(id, &wire.CallEvent{Call: callA, Body: &wire.CallEvent_Over{Over: &wire.CallOver{Reason: "kicked"}}}))
		synctest.Wait()
		require.Zero(t, w.hub.members(roomA), "it was put out")
		w.Stop()
	})
}

// Who knows of calls alone is in a room while it is in its call.
func TestACallBringsItsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, calls := callWorld(t, Config{})
		p := w.speaks(t)
		p.ask(2, callFrame(callC, &wire.CallJoin{}))
		require.Equal(t, wire.CodeNotMember, p.next(t).GetError().GetCode(), "why it can't be in the room, not that it isn't")
		p.ask(3, callFrame(callA, &wire.CallSet{MicMuted: new(true)}))
		require.Equal(t, wire.CodeNotJoined, p.next(t).GetError().GetCode())
		p.ask(4, callFrame(callA, &wire.CallJoin{}))
		require.NotNil(t, p.next(t).GetSnapshot())
		require.NotNil(t, p.next(t).GetCallJoined())
		require.Equal(t, 1, w.hub.members(roomA))
		p.ask(5, callFrame(callA, &wire.CallLeave{}))
		require.EqualValues(t, 5, p.next(t).Re)
		synctest.Wait()
		require.Zero(t, w.hub.members(roomA))
		said := calls.said()
		require.Equal(t, []string{"ann/phone Join a member", "ann/phone Leave a member", "ann/phone left a BYE"}, said[1:])
		w.Stop()
	})
}

// Whatever happens to a session, its calls hear of it.
func TestCallsHearOfTheSession(t *testing.T) {
	type story struct {
		what string
		do   func(w *world, p *pipe)
		want []string
	}
	for _, s := range []story{
		{"left the room", func(w *world, p *pipe) {
			p.ask(5, &wire.ClientFrame{Body: &wire.ClientFrame_Leave{Leave: &wire.Leave{Room: roomA}}})
		}, []string{"ann/phone left a BYE"}},
		{"removed from the group", func(w *world, p *pipe) { w.Clients("ann")[0].Removed(roomA, wire.Reason_REMOVED) }, []string{"ann/phone left a REMOVED"}},
		{"signed out", func(w *world, p *pipe) { w.Revoke("l1") }, []string{"ann/phone gone SIGNED_OUT"}},
		{"said bye", func(w *world, p *pipe) {
			p.ask(5, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
		}, []string{"ann/phone gone BYE"}},
		{"lost", func(w *world, p *pipe) { p.cut() }, []string{"ann/phone suspend"}},
		{"live elsewhere", func(w *world, p *pipe) { w.Clients("ann")[0].Superseded(1 << 60) }, []string{"ann/phone gone MOVED"}},
	} {
		t.Run(s.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, calls := callWorld(t, Config{})
				p := w.live(t, "ann l1", "phone", roomA)
				p.ask(2, callFrame(callA, &wire.CallJoin{}))
				require.NotNil(t, p.next(t).GetCallJoined())
				n := len(calls.said())
				s.do(w, p)
				synctest.Wait()
				require.Equal(t, s.want, calls.said()[n:])

				// And while it joins: it is said again, after the answer.
				w2, calls := callWorld(t, Config{})
				p = w2.live(t, "ann l1", "phone", roomA)
				calls.block = make(chan struct{})
				p.ask(2, callFrame(callA, &wire.CallJoin{}))
				synctest.Wait()
				s.do(w2, p)
				synctest.Wait()
				close(calls.block)
				synctest.Wait()
				said := calls.said()
				last := said[len(said)-1]
				require.NotContains(t, last, "Join")
				require.Equal(t, strings.Fields(s.want[0])[1], strings.Fields(last)[1])
				w.Stop()
				w2.Stop()
			})
		})
	}
}

func TestCallsOfASessionThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, calls := callWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		p.cut()
		synctest.Wait()
		q := w.live(t, "ann l1", "phone", roomA)
		synctest.Wait()
		epoch := w.Clients("ann")[0].Member().Device.Epoch
		said := calls.said()
		require.Contains(t, said, fmt.Sprint("ann/phone resume ", epoch))
		for _, s := range said {
			require.NotContains(t, s, "left")
			require.False(t, strings.Contains(s, "gone") && !strings.Contains(s, "MOVED"), s)
		}
		q.cut()
		synctest.Wait()
		time.Sleep(5 * time.Minute)
		said = calls.said()
		require.Equal(t, "ann/phone gone TIMED_OUT", said[len(said)-1])
		w.Stop()
	})
}

func TestANodeWithoutCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		p.ask(2, callFrame(callA, &wire.CallJoin{}))
		require.Equal(t, wire.CodeNoMedia, p.next(t).GetError().GetCode())
		w.Stop()
	})
}
