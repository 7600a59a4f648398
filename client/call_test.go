package client

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

const callID = "00000000-0000-4000-8000-0000000000a0"

// exchange is a node that takes part in calls and writes down what it was asked.
type exchange struct {
	mu     sync.Mutex
	asked  []string
	place  uint64
	refuse string
}

func (x *exchange) handle() func(*fakeConn, *wire.ClientFrame, bool) {
	joined := joins(0, 3, nil)
	return func(c *fakeConn, f *wire.ClientFrame, dgram bool) {
		if f.GetLeave() != nil {
			c.send(&wire.ServerFrame{Re: f.GetId(), Body: &wire.ServerFrame_Done{Done: &wire.Done{}}})
			return
		}
		r := f.GetCall()
		if r == nil {
			joined(c, f, dgram)
			return
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.asked = append(x.asked, strings.TrimPrefix(fmt.Sprintf("%T", r.Body), "*wire.CallRequest_"))
		answer := &wire.ServerFrame{Re: f.GetId()}
		switch {
		case x.refuse != "":
			answer.Body = &wire.ServerFrame_Error{Error: &wire.Error{Code: x.refuse, RetryAfterMs: 100}}
			if x.refuse == wire.CodeNoMedia {
				x.refuse = ""
			}
		case r.GetJoin() != nil:
			answer.Body = &wire.ServerFrame_CallJoined{CallJoined: &wire.CallJoined{Place: x.place}}
		case r.GetFloor() != nil:
			answer.Body = &wire.ServerFrame_CallFloor{CallFloor: &wire.CallFloor{Mine: true}}
		default:
			answer.Body = &wire.ServerFrame_Done{Done: &wire.Done{}}
		}
		if f.GetId() != 0 {
			c.send(answer)
		}
	}
}

func (x *exchange) heard() []string {
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	out := x.asked
	x.asked = nil
	return out
}

func (c *Call) heard() (out []Event) {
	synctest.Wait()
	c.queue.mu.Lock()
	defer c.queue.mu.Unlock()
	out = append(out, c.queue.events...)
	c.queue.events = nil
	return out
}

func calling(t *testing.T, names ...string) (x *exchange, m *memory, r *Room, c *Call, a *fakeConn) {
	m, _, _, r, a = inRoom(t, names...)
	x = &exchange{place: 7}
	for _, f := range m.nodes {
		f.handle(x.handle())
	}
	c, joined, err := r.JoinCall(t.Context(), callID, &wire.CallJoin{MicMuted: true, Fresh: true})
	require.NoError(t, err)
	require.EqualValues(t, 7, joined.Place)
	require.Equal(t, []string{"Join"}, x.heard())
	return x, m, r, c, a
}

func says(place uint64, e *wire.CallEvent) *wire.ServerFrame {
	e.Call, e.Place = callID, place
	return &wire.ServerFrame{Body: &wire.ServerFrame_CallEvent{CallEvent: e}}
}

func TestACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _, r, c, a := calling(t, "a")
		ctx := t.Context()
		require.NoError(t, c.Set(ctx, &wire.CallSet{MicMuted: new(false)}))
		require.NoError(t, c.Describe(ctx, &wire.CallDescription{Connection: wire.CallDescription_UP, Offer: true, N: 1, Sdp: "v=0"}))
		require.NoError(t, c.Candidate(&wire.CallCandidate{Connection: wire.CallDescription_UP}))
		require.NoError(t, c.Wants(&wire.CallWant{Track: "abc", Height: 720}))
		require.NoError(t, c.Signal(&wire.CallSignal{User: "00000000-0000-4000-8000-000000000001", Device: "tab", Data: "{}"}))
		f, err := c.Floor(ctx, &wire.CallFloorAsk{Hold: true})
		require.NoError(t, err)
		require.True(t, f.Mine)
		require.NoError(t, c.Moderate(ctx, &wire.CallModerate{What: &wire.CallModerate_Lock{Lock: true}}))
		require.Equal(t, []string{"Set", "Describe", "Candidate", "Wants", "Signal", "Floor", "Moderate"}, x.heard())
		require.True(t, IsCode(c.Set(ctx, &wire.CallSet{}), wire.CodeBadRequest), "what makes no sense is not asked")
		require.Empty(t, x.heard())

		a.send(says(7, &wire.CallEvent{Version: 1, Body: &wire.CallEvent_Changed{Changed: &wire.CallChanged{}}}))
		a.send(says(8, &wire.CallEvent{Body: &wire.CallEvent_Joined{Joined: &wire.CallJoined{Place: 8}}}))
		a.send(says(7, &wire.CallEvent{Version: 2, Body: &wire.CallEvent_Changed{Changed: &wire.CallChanged{}}}))
		a.send(&wire.ServerFrame{Body: &wire.ServerFrame_CallEvent{CallEvent: &wire.CallEvent{Call: "another"}}})
		got := c.heard()
		require.Len(t, got, 2, "not of another call, nor of an earlier place")
		require.EqualValues(t, 8, got[1].(*CallEvent).Place)

		a.send(says(8, &wire.CallEvent{Body: &wire.CallEvent_Over{Over: &wire.CallOver{Reason: "kicked"}}}))
		got = c.heard()
		require.Equal(t, "kicked", got[0].(*CallEvent).GetOver().GetReason())
		require.True(t, IsCode(got[1].(Ended).Err, wire.CodeCallEnded))
		require.Error(t, c.Set(ctx, &wire.CallSet{Music: new(true)}))
		require.NoError(t, c.Leave(ctx))

		again, _, err := r.JoinCall(ctx, callID, nil)
		require.NoError(t, err)
		require.NoError(t, again.Leave(ctx))
		require.ErrorIs(t, again.Err(), ErrLeft)
		require.Equal(t, []string{"Join", "Leave"}, x.heard())
		third, _, err := r.JoinCall(ctx, callID, nil)
		require.NoError(t, err)
		require.NoError(t, r.Leave(ctx))
		require.ErrorIs(t, third.Err(), ErrLeft, "with its room")
	})
}

// Another connection joins the call again by itself, however often that takes, with what
// the participant does by then; what there is no way back to is over.
func TestACallOutlivesItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, m, _, c, a := calling(t, "a", "b")
		require.NoError(t, c.Set(t.Context(), &wire.CallSet{MicMuted: new(false)}))
		x.heard()
		x.mu.Lock()
		x.place, x.refuse = 9, wire.CodeNoMedia
		x.mu.Unlock()
		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		second := b.next()
		synctest.Wait()
		b.welcome(second, second.re)
		second.send(resumed())
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"Join", "Join"}, x.heard())
		got := c.heard()
		require.Len(t, got, 1)
		require.EqualValues(t, 9, got[0].(*CallEvent).GetJoined().GetPlace())
		require.False(t, c.how.MicMuted)
		require.False(t, c.how.Fresh, "its connections go on")

		x.mu.Lock()
		x.refuse = wire.CodeCallEnded
		x.mu.Unlock()
		second.close(4000)
		third := m.nodes["a"].next()
		third.send(resumed())
		synctest.Wait()
		require.True(t, IsCode(c.Err(), wire.CodeCallEnded), "%v", c.Err())
	})
}
