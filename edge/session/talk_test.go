package session

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/admit"
)

// readers note receipts, and who tells nobody.
type readers struct {
	mu       sync.Mutex
	advanced []string
	discreet bool
}

func (r *readers) Advance(room, user, device string, delivered, read uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advanced = append(r.advanced, fmt.Sprint(short(room), user, device, delivered, read))
}

func (*readers) Lately(context.Context, string) ([]*wire.Seen, error) { return nil, nil }

func (r *readers) Discreet(context.Context, string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.discreet, nil
}

func (r *readers) said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.advanced
}

func receipt(room string, delivered, read uint64) *wire.ClientFrame {
	return &wire.ClientFrame{Body: &wire.ClientFrame_Receipt{Receipt: &wire.Receipt{Room: room, Delivered: delivered, Read: read}}}
}

func typing(room string, on bool) *wire.ClientFrame {
	return &wire.ClientFrame{Body: &wire.ClientFrame_Typing{Typing: &wire.Typing{Room: room, On: on, User: "eve"}}}
}

func TestReceiptsAndTyping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newWorld(t, Config{}), &readers{}
		w.deps.Progress = r
		p := w.live(t, "ann l1", "phone", roomA)
		p.ask(2, receipt(roomA, 3, 0))
		require.NotNil(t, p.next(t).GetDone())
		p.ask(3, receipt(roomA, 3, 5))
		require.NotNil(t, p.next(t).GetDone())
		p.ask(4, typing(roomA, true))
		require.NotNil(t, p.next(t).GetDone())
		require.Equal(t, []string{fmt.Sprint(short(roomA), "ann", "phone", 3, 0), fmt.Sprint(short(roomA), "ann", "phone", 5, 5)}, r.said(), "what is read is delivered")
		require.Contains(t, strings.Join(w.hub.said(), "\n"), "typing "+short(roomA)+" true")

		for id, bad := range map[uint64]*wire.ClientFrame{
			11: receipt(roomA, 0, 0), 12: receipt(roomA, 1<<63, 0), 13: receipt(roomB, 1, 1), 14: receipt("nowhere", 1, 1), 15: typing(roomB, true),
		} {
			p.ask(id, bad)
			f := p.next(t)
			require.Equal(t, id, f.Re)
			require.Contains(t, []string{wire.CodeBadRequest, wire.CodeNotJoined, wire.CodeBadRoom}, f.GetError().GetCode())
		}

		for _, talk := range []edge.Talk{edge.Listens, edge.Looks} {
			w.core.mu.Lock()
			w.core.talk = talk
			w.core.mu.Unlock()
			want := map[uint64]string{20: wire.CodeEnded, 21: wire.CodeEnded}
			if talk == edge.Looks {
				want = map[uint64]string{20: wire.CodeNotMember, 21: wire.CodeNotMember, 22: wire.CodeNotMember, 23: wire.CodeNotMember}
			}
			for id, f := range map[uint64]*wire.ClientFrame{
				20: send(roomA, "c", "hi"), 21: typing(roomA, true), 22: receipt(roomA, 9, 9),
				23: {Body: &wire.ClientFrame_History{History: &wire.History{Room: roomA, Limit: 1}}},
			} {
				p.ask(id, f)
				f := p.next(t)
				require.Equal(t, id, f.Re)
				require.Equal(t, want[id], f.GetError().GetCode(), "%d", id)
			}
		}
		p.ask(0, typing(roomA, true))
		require.Empty(t, p.next(t).GetError().GetRoom(), "or the client would take it for the room's end")
		p.cut()
		<-p.over
		w.Stop()
	})
}

// Who tells nobody how far they have read is told nobody's, but for that of their
// own other devices.
func TestDiscreet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r, b := newWorld(t, Config{}), &readers{}, &blocks{}
		b.set()
		w.deps.Discreet, w.deps.Blocks = r, b
		p := w.live(t, "ann l1", "phone", roomA)
		c := w.Clients("ann")[0]
		seq := uint64(0)
		told := func(users ...string) (out []string) {
			t.Helper()
			seq++
			e := &wire.Event{Room: roomA, At: &wire.Position{Seq: seq}, Body: &wire.Event_Receipts{Receipts: &wire.Receipts{}}}
			for _, u := range users {
				e.GetReceipts().Seen = append(e.GetReceipts().Seen, &wire.Seen{User: u, Read: 4})
			}
			c.Deliver(edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: e}}))
			got := p.next(t).GetEvent()
			require.Equal(t, seq, got.At.Seq, "no gap")
			for _, s := range got.GetReceipts().GetSeen() {
				out = append(out, s.User)
			}
			return out
		}
		types := func(user string) {
			c.Deliver(edge.NewFrame(&wire.ServerFrame{Body: &wire.ServerFrame_Typing{Typing: &wire.Typing{Room: roomA, User: user, On: true}}}))
		}
		require.Equal(t, []string{"ann", "bob"}, told("ann", "bob"))
		r.mu.Lock()
		r.discreet = true
		r.mu.Unlock()
		w.BlocksChanged("ann")
		synctest.Wait()
		require.Equal(t, []string{"ann"}, told("ann", "bob"))
		require.Empty(t, told("bob"))
		types("bob")
		require.Equal(t, "bob", p.next(t).GetTyping().GetUser(), "that one is of now")

		b.set("eve")
		w.BlocksChanged("ann")
		synctest.Wait()
		require.NotNil(t, p.next(t).GetSnapshot())
		r.mu.Lock()
		r.discreet = false
		r.mu.Unlock()
		w.BlocksChanged("ann")
		synctest.Wait()
		require.Equal(t, []string{"bob"}, told("bob", "eve"), "nor of those whom they must not see")
		types("eve")
		types("bob")
		require.Equal(t, "bob", p.next(t).GetTyping().GetUser())
		p.cut()
		<-p.over
		w.Stop()
	})
}

// What nobody types is not sent on at any rate.
func TestTypingIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{})
		p := w.live(t, "ann l1", "phone", roomA)
		refused := 0
		for id := range uint64(30) {
			p.ask(id+10, typing(roomA, true))
			if p.next(t).GetError().GetCode() == wire.CodeRateLimited {
				refused++
			}
		}
		require.Equal(t, 20, refused)
		p.cut()
		<-p.over
		w.Stop()
	})
}

// What nobody asked an answer for is refused without its room, whyever: else the client
// would take it for the room's end, and join again.
func TestRefusalsThatNobodyAskedForNameNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Config{InFlight: 1})
		p := w.live(t, "ann l1", "phone", roomA)
		p.ask(0, receipt(roomA, 0, 0))
		e := p.next(t).GetError()
		require.Equal(t, wire.CodeBadRequest, e.GetCode())
		require.Empty(t, e.GetRoom())

		block := make(chan struct{})
		w.core.mu.Lock()
		w.core.block = block
		w.core.mu.Unlock()
		p.ask(5, join(roomB))
		synctest.Wait()
		p.ask(0, typing(roomA, true))
		e = p.next(t).GetError()
		require.Equal(t, wire.CodeRateLimited, e.GetCode())
		require.Empty(t, e.GetRoom())
		p.ask(6, typing(roomA, true))
		require.Equal(t, roomA, p.next(t).GetError().GetRoom(), "who asks is told")
		close(block)
		require.EqualValues(t, 5, p.next(t).Re)
		p.cut()
		<-p.over
		w.Stop()
	})
}

// A client that says a thousand times a second how far it has got is heard at the rate
// that it may, and told to say less; it keeps no more waiting than others.
func TestAFloodOfReceipts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, r := newWorld(t, Config{}), &readers{}
		w.deps.Progress = r
		p := w.live(t, "ann l1", "phone", roomA)
		const seconds = 5
		refused := 0
		for n := range uint64(seconds * 1000) {
			p.ask(n+10, receipt(roomA, n+1, 0))
			if p.next(t).GetError().GetCode() == wire.CodeRateLimited {
				refused++
			}
			time.Sleep(time.Millisecond)
		}
		l := admit.Limits{}.Defaults().Receipts
		require.LessOrEqual(t, len(r.said()), int(l.Burst+seconds*l.PerSecond)+1)
		require.Equal(t, seconds*1000, refused+len(r.said()))
		s := w.Clients("ann")[0].(*Session)
		s.mu.Lock()
		require.Empty(t, s.lanes)
		require.Zero(t, s.inFlight)
		s.mu.Unlock()
		p.cut()
		<-p.over
		w.Stop()
	})
}
