package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

// talker is a node that takes part in a conversation and writes down what it was
// asked.
type talker struct {
	mu       sync.Mutex
	receipts []*wire.Receipt
	typings  []bool
	sends    []*wire.Send
	asked    []*wire.History
	page     *wire.Page
	refuse   string
	silent   bool // messages get no answer
}

func (x *talker) handle(last uint64) func(*fakeConn, *wire.ClientFrame, bool) {
	joined := joins(0, 3, nil)
	return func(c *fakeConn, f *wire.ClientFrame, dgram bool) {
		x.mu.Lock()
		defer x.mu.Unlock()
		done := func() { c.send(&wire.ServerFrame{Re: f.GetId(), Body: &wire.ServerFrame_Done{Done: &wire.Done{}}}) }
		switch b := f.GetBody().(type) {
		case *wire.ClientFrame_Receipt:
			x.receipts = append(x.receipts, b.Receipt)
			if x.refuse != "" {
				c.send(&wire.ServerFrame{Re: f.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: x.refuse, Room: room}}})
				return
			}
			done()
		case *wire.ClientFrame_Leave:
			done()
		case *wire.ClientFrame_Typing:
			x.typings = append(x.typings, b.Typing.GetOn())
		case *wire.ClientFrame_Send:
			x.sends = append(x.sends, b.Send)
			if x.silent {
				return
			}
			c.send(&wire.ServerFrame{Re: f.GetId(), Body: &wire.ServerFrame_Sent{Sent: &wire.Sent{Message: &wire.Message{
				Number: last + uint64(len(x.sends)), ReplyTo: b.Send.ReplyTo, Mentions: b.Send.Mentions,
			}}}})
		case *wire.ClientFrame_History:
			x.asked = append(x.asked, b.History)
			c.send(&wire.ServerFrame{Re: f.GetId(), Body: &wire.ServerFrame_Page{Page: x.page}})
		default:
			joined(c, f, dgram)
		}
	}
}

func (x *talker) told() (out [][2]uint64) {
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.receipts {
		out = append(out, [2]uint64{r.Delivered, r.Read})
	}
	return out
}

// heard returns what was asked for, what was sent and who typed.
func (x *talker) heard() (asked []*wire.History, sends []*wire.Send, typings []bool) {
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked, x.sends, x.typings
}

func talking(t *testing.T, names ...string) (x *talker, m *memory, s *Session, r *Room, a *fakeConn) {
	m, s, _, r, a = inRoom(t, names...)
	x = &talker{}
	for _, f := range m.nodes {
		f.handle(x.handle(100))
	}
	return x, m, s, r, a
}

func drain(r *Room) (out []Event) {
	synctest.Wait()
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	out = append(out, r.queue.events...)
	r.queue.events = nil
	return out
}

// Receipts go together, follow what came in order, and are said again over another
// connection.
func TestReceiptsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, m, s, r, a := talking(t, "a", "b")
		for n := range uint64(20) {
			a.send(message(4+n, 1+n))
		}
		r.Read(3)
		r.Read(7)
		r.Read(5)
		time.Sleep(time.Second)
		told := x.told()
		require.NotEmpty(t, told)
		require.LessOrEqual(t, len(told), 2, "together")
		require.Equal(t, [2]uint64{20, 7}, told[len(told)-1])
		time.Sleep(time.Minute)
		require.Len(t, x.told(), len(told), "said once")

		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		synctest.Wait()
		b.welcome(c, c.re)
		c.send(resumed())
		time.Sleep(time.Second)
		again := x.told()
		require.Equal(t, [2]uint64{20, 7}, again[len(again)-1])
		require.Len(t, again, len(told)+1)

		x.mu.Lock()
		x.refuse = wire.CodeNotMember
		x.mu.Unlock()
		r.Read(9)
		time.Sleep(time.Minute)
		require.Len(t, x.told(), len(told)+2, "who is not to say so does not try again")
		require.NoError(t, r.Err(), "and stays in the room")
		s.Close()
	})
}

func TestTypingOfOthersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _, s, r, a := talking(t, "a")
		types := func(user string, on bool) {
			a.send(&wire.ServerFrame{Body: &wire.ServerFrame_Typing{Typing: &wire.Typing{Room: room, User: user, On: on}}})
			synctest.Wait()
		}
		drain(r)
		types("bo", true)
		types("ada", true)
		require.Equal(t, []string{"ada", "bo"}, r.Typers())
		types("bo", false)
		a.send(message(4, 1)) // ada's
		require.Equal(t, []Event{TypingChanged{"bo", true}, TypingChanged{"ada", true}, TypingChanged{"bo", false}}, drain(r)[:3])
		require.Empty(t, r.Typers())
		types("bo", true)
		time.Sleep(5 * time.Second)
		types("bo", true)
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"bo"}, r.Typers())
		time.Sleep(2 * time.Second)
		require.Empty(t, r.Typers())

		for range 5 { // keys
			r.Typing(true)
			time.Sleep(time.Second)
		}
		r.Typing(false)
		r.Typing(false)
		_, _, typings := x.heard()
		require.Equal(t, []bool{true, true, false}, typings)
		s.Close()
	})
}

func TestSendSaysMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _, s, r, _ := talking(t, "a")
		id := "0b9e3e3e-7d2c-4a0a-9a53-0a7c1b1a5f10"
		m, err := r.Send(t.Context(), "", ReplyTo(4), Mention(id), Attach(id))
		require.NoError(t, err)
		require.EqualValues(t, 4, m.ReplyTo)
		require.Equal(t, []string{id}, m.Mentions)
		_, sends, _ := x.heard()
		require.Equal(t, []string{id}, sends[0].Attachments)
		_, err = r.Send(t.Context(), "hi", Mention("bo"))
		require.True(t, IsCode(err, wire.CodeBadMessage))
		_, err = r.Send(t.Context(), "")
		require.Error(t, err)
		s.Close()
	})
}

// A revision that did not come is asked for.
func TestMissedRevisionsAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _, s, r, a := talking(t, "a")
		revise := func(seq, number, change uint64) {
			m := stored(number)
			m.Change = change
			a.send(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{
				Room: room, At: at(seq), Body: &wire.Event_Revised{Revised: &wire.Revised{Change: change, Message: m}},
			}}})
		}
		one, two := stored(1), stored(2)
		one.Change, two.Change = 4, 2
		x.mu.Lock()
		x.page = &wire.Page{Room: room, Messages: []*wire.Message{two, one}}
		x.mu.Unlock()
		a.send(message(4, 1), message(5, 2))
		drain(r)
		revise(6, 1, 4)
		require.EqualValues(t, 4, drain(r)[0].(Revised).Message.Change)
		time.Sleep(time.Second)
		asked, _, _ := x.heard()
		require.Len(t, asked, 1)
		require.NotNil(t, asked[0].ChangedAfter)
		require.Zero(t, asked[0].GetChangedAfter())
		events := drain(r)
		require.Len(t, events, 1)
		require.EqualValues(t, 2, events[0].(Revised).Message.Change)
		require.EqualValues(t, 4, r.Messages()[0].Change)
		time.Sleep(time.Minute)
		asked, _, _ = x.heard()
		require.Len(t, asked, 1)

		ms, _, err := r.Changes(context.Background(), 1, 10)
		require.NoError(t, err)
		require.Len(t, ms, 2)
		s.Close()
	})
}

// The calls reach the operations that they are named after.
func TestConversationCalls(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		w.Header().Set("Content-Type", "application/json")
		if strings.HasSuffix(r.URL.Path, "/settings") {
			_ = json.NewEncoder(w).Encode(ConversationSettings{Receipts: "nobody", MessagesFrom: "friends"})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"room": "direct:a:b", "muted_until": "2026-01-02T03:04:05Z", "last_message": map[string]any{"number": 7, "edited_at": "2026-01-02T03:04:05Z"},
			"conversations": []any{map[string]any{"room": "group:g", "unread": 3}}, "number": 9, "change": 4,
			"messages": []any{map[string]any{"room": "group:g", "number": 5, "reactions": []any{map[string]any{"emoji": "👍", "count": 2}}}},
			"receipts": []any{map[string]any{"user": "u", "delivered": 4, "read": 3}}, "edits": []any{map[string]any{"body": "before"}},
		})
	}))
	defer server.Close()
	a, ctx := NewAPI(server.URL, APIConfig{Credentials: Credentials{UserID: "u", Token: "t", RefreshToken: "r"}}), t.Context()

	all, err := a.Conversations(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 3, all[0].Unread)
	c, err := a.OpenConversation(ctx, "u")
	require.NoError(t, err)
	require.Equal(t, "direct:a:b", c.Room)
	require.EqualValues(t, 7, c.LastMessage.Number)
	require.False(t, c.MutedUntil.IsZero() || c.LastMessage.EditedAt.IsZero())
	m, err := a.Edit(ctx, "group:g", 9, "now", nil, 0)
	require.NoError(t, err)
	require.EqualValues(t, 4, m.Change)
	_, err = a.React(ctx, "group:g", 9, "👍", true)
	require.NoError(t, err)
	_, err = a.Pin(ctx, "group:g", 9, false)
	require.NoError(t, err)
	seen, err := a.Receipts(ctx, "group:g")
	require.NoError(t, err)
	require.Equal(t, []Seen{{User: "u", Delivered: 4, Read: 3}}, seen)
	found, err := a.SearchMessages(ctx, "word", "group:g")
	require.NoError(t, err)
	require.Equal(t, "group:g", found[0].Room)
	require.Equal(t, 2, found[0].Reactions[0].Count)
	edits, err := a.Edits(ctx, "group:g", 9)
	require.NoError(t, err)
	require.Equal(t, "before", edits[0].Body)
	require.NoError(t, a.Hide(ctx, "group:g", 9))
	require.NoError(t, a.Delete(ctx, "group:g", 9))
	require.NoError(t, a.Mute(ctx, "group:g", time.Now()))
	require.NoError(t, a.SetReceipts(ctx, "group:g", "", 0, 4))
	require.NoError(t, a.LeaveConversation(ctx, "direct:a:b"))
	_, err = a.SetConversationSettings(ctx, ConversationSettings{Receipts: "nobody"})
	require.NoError(t, err)
	require.Equal(t, []string{
		"GET /api/v1/conversations?limit=100", "POST /api/v1/conversations", "PATCH /api/v1/conversations/group:g/messages/9",
		"PUT /api/v1/conversations/group:g/messages/9/reactions/%F0%9F%91%8D", "DELETE /api/v1/conversations/group:g/messages/9/pin",
		"GET /api/v1/conversations/group:g/receipts", "GET /api/v1/messages/search?limit=200&q=word&room=group%3Ag",
		"GET /api/v1/conversations/group:g/messages/9/edits", "DELETE /api/v1/conversations/group:g/messages/9?for=me",
		"DELETE /api/v1/conversations/group:g/messages/9", "PUT /api/v1/conversations/group:g/mute",
		"PUT /api/v1/conversations/group:g/receipts", "DELETE /api/v1/conversations/direct:a:b", "PUT /api/v1/conversations/settings",
	}, asked)
}

// However many messages wait for an outage to end, they come a few at a time: all at
// once they would be more than a session may send, and be refused again and again.
func TestMessagesOfAnOutageComeAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 100
		x, m, _, r, a := talking(t, "a", "b")
		x.mu.Lock()
		x.silent = true
		x.mu.Unlock()
		var all sync.WaitGroup
		for range messages {
			all.Go(func() {
				if _, err := r.Send(t.Context(), "hi"); err != nil {
					t.Errorf("send: %v", err)
				}
			})
		}
		_, sends, _ := x.heard()
		require.Len(t, sends, maxSends)
		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		synctest.Wait()
		x.mu.Lock()
		x.silent, x.sends = false, nil
		x.mu.Unlock()
		b.welcome(c, c.re)
		c.send(resumed())
		all.Wait()
		_, sends, _ = x.heard()
		seen := map[string]bool{}
		for _, m := range sends {
			seen[m.ClientId] = true
		}
		require.Len(t, seen, messages)
	})
}

// Who types is only heard over a connection: without one nobody is shown to, for as long
// as that lasts, nor in a room that was left.
func TestNobodyTypesWithoutAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, m, s, r, a := talking(t, "a")
		types := func(c *fakeConn) {
			c.send(&wire.ServerFrame{Body: &wire.ServerFrame_Typing{Typing: &wire.Typing{Room: room, User: "bo", On: true}}})
			synctest.Wait()
			require.Equal(t, []string{"bo"}, r.Typers())
		}
		types(a)
		drain(r)
		m.set("a", down)
		a.closing(0)
		time.Sleep(time.Minute)
		require.Equal(t, Reconnecting, s.Status().Phase)
		require.Empty(t, r.Typers())
		require.Contains(t, drain(r), TypingChanged{"bo", false})

		m.set("a", up)
		time.Sleep(2 * reconnectRetry.high)
		a = m.nodes["a"].next()
		a.send(resumed())
		types(a)
		require.NoError(t, r.Leave(t.Context()))
		require.Empty(t, r.Typers())
		r.Typing(true)
		_, _, typings := x.heard()
		require.Empty(t, typings, "nor does the user")
		s.Close()
	})
}

// A server that fails is told again, later. One that refuses is told again when it gives
// a message: who could only see positions has become somebody who reads.
func TestReceiptsOutlastAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _, s, r, a := talking(t, "a")
		refuse := func(code string) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.refuse = code
		}
		refuse(wire.CodeInternal)
		r.Read(4)
		time.Sleep(20 * time.Second)
		told := len(x.told())
		require.Greater(t, told, 1)
		require.LessOrEqual(t, told, 20, "once a second at most")
		refuse("")
		time.Sleep(20 * time.Second)
		require.Equal(t, [2]uint64{4, 4}, x.told()[told])
		require.Len(t, x.told(), told+1)

		refuse(wire.CodeNotMember)
		r.Read(5)
		time.Sleep(time.Minute)
		require.Len(t, x.told(), told+2)
		refuse("")
		a.send(message(4, 1))
		time.Sleep(time.Second)
		require.Equal(t, [2]uint64{5, 5}, x.told()[told+2])
		s.Close()
	})
}

// What the user deleted for themself is told to everybody else's devices as it is, and
// to their own, too: there it stays deleted.
func TestHiddenStaysHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, _, s, r, a := talking(t, "a")
		revise := func(seq, number, change uint64) Message {
			m := stored(number)
			m.Change = change
			a.send(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{
				Room: room, At: at(seq), Body: &wire.Event_Revised{Revised: &wire.Revised{Change: change, Message: m}},
			}}})
			all := drain(r)
			require.Len(t, all, 1)
			return all[0].(Revised).Message
		}
		hidden := func(data string) {
			a.send(&wire.ServerFrame{Body: &wire.ServerFrame_Notice{Notice: &wire.Notice{Id: data, Kind: "message.hidden", Data: data, N: 1}}})
		}
		a.send(message(4, 1), message(5, 2))
		drain(r)
		hidden(`{"room":"group:other","number":2}`)
		hidden(`{"room":7}`)
		require.Empty(t, drain(r))
		hidden(`{"room":"` + room + `","number":1}`)
		require.True(t, drain(r)[0].(Revised).Message.Deleted)
		m := revise(6, 1, 1)
		require.True(t, m.Deleted)
		require.Empty(t, m.Body)
		require.False(t, revise(7, 2, 2).Deleted)

		gone := stored(2)
		gone.Deleted, gone.Body = true, ""
		x.mu.Lock()
		x.page = &wire.Page{Room: room, Messages: []*wire.Message{gone}}
		x.mu.Unlock()
		_, _, err := r.History(t.Context(), 0, 1, 0)
		require.NoError(t, err)
		require.True(t, drain(r)[0].(Revised).Message.Deleted, "hidden while this device was away")
		require.True(t, revise(8, 2, 3).Deleted)
		s.Close()
	})
}

// Who joined an empty room, and was away for its first messages, gets all of them, also
// when they are more than a page holds and nothing is said after them.
func TestAnEmptyRoomsFirstMessagesAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages = 2*wire.MaxHistory + 100
		_, m, s, r, a := talking(t, "a", "b")
		for _, f := range m.nodes {
			f.handle(func(c *fakeConn, f *wire.ClientFrame, _ bool) {
				if h := f.GetHistory(); h != nil {
					c.send(&wire.ServerFrame{Re: f.GetId(), Body: &wire.ServerFrame_Page{Page: pageOf(h, messages)}})
				}
			})
		}
		require.Empty(t, numbers(r))
		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		synctest.Wait()
		b.welcome(c, c.re)
		c.send(&wire.ServerFrame{Body: &wire.ServerFrame_Snapshot{Snapshot: &wire.Snapshot{Room: room, LastNumber: messages}}})
		time.Sleep(time.Minute)
		got := numbers(r)
		require.Len(t, got, messages)
		for i, n := range got {
			require.EqualValues(t, i+1, n)
		}
		s.Close()
	})
}

// pageOf answers as a server does whose room has messages 1 to last.
func pageOf(h *wire.History, last uint64) *wire.Page {
	p, limit := &wire.Page{Room: room}, uint64(h.GetLimit())
	from, to := h.GetAfter()+1, last
	if h.GetAfter() == 0 { // the newest of all, or of those before
		if h.GetBefore() > 0 {
			to = min(last, h.GetBefore()-1)
		}
		from = to - min(to, limit) + 1
	}
	for n := from; n <= min(to, from+limit-1); n++ {
		p.Messages = append(p.Messages, stored(n))
	}
	return p
}
