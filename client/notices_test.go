package client

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
)

func notice(n uint64) *wire.ServerFrame {
	return &wire.ServerFrame{Body: &wire.ServerFrame_Notice{Notice: &wire.Notice{
		Id: fmt.Sprint("id", n), Kind: "friend.requested", Data: `{"user_id":"bo"}`, N: n,
	}}}
}

// noticed drains the notices: their numbers, and 0 for Missed.
func noticed(s *Session) (out []uint64) {
	synctest.Wait()
	s.notices.mu.Lock()
	defer s.notices.mu.Unlock()
	for _, e := range s.notices.events {
		switch e := e.(type) {
		case Noticed:
			out = append(out, e.Notice.N)
		case Missed:
			out = append(out, 0)
		}
	}
	s.notices.events = nil
	return out
}

func TestNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, _, _, a := inRoom(t, "a", "b")
		a.send(notice(4))
		synctest.Wait() // nobody asked for it
		all := s.Notices(t.Context())
		a.send(notice(5), notice(5), notice(6))
		require.Equal(t, []uint64{5, 6}, noticed(s), "each once")
		a.send(notice(8), notice(7))
		require.Equal(t, []uint64{0, 8, 7}, noticed(s), "a hole says that it is one")

		// A move loses nothing, and both connections are heard.
		b := m.hold("b")
		m.goaway(a, 10*time.Second, "b")
		c := b.next()
		b.welcome(c, c.re)
		synctest.Wait()
		a.send(notice(9))
		c.send(notice(9), notice(10))
		require.Equal(t, []uint64{9, 10}, noticed(s))
		c.send(resumed())
		synctest.Wait()

		// Whoever was away may have missed some.
		c.closing(0)
		c = b.next()
		b.welcome(c, c.re)
		require.Equal(t, []uint64{0}, noticed(s))
		c.send(notice(11))
		synctest.Wait()
		s.Close()
		var got []Event
		for e := range all {
			got = append(got, e)
		}
		require.Len(t, got, 2)
		require.Equal(t, Notice{ID: "id11", Kind: "friend.requested", Data: []byte(`{"user_id":"bo"}`), At: time.Unix(0, 0).UTC(), N: 11}, got[0].(Noticed).Notice)
		require.Equal(t, Ended{ErrClosed}, got[1])
		for e := range s.Notices(t.Context()) {
			t.Fatal(e)
		}
	})
}

// One that is silent may have been told what never came.
func TestNoticesOfASilentConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWAN(t, "eu", "us")
		s, seen, _ := w.enter(nil)
		s.Notices(t.Context())
		time.Sleep(20 * time.Second)
		w.hold("eu-1", both)
		s.until(elsewhere("eu-1"))
		require.Equal(t, []uint64{0}, noticed(s))
		require.Equal(t, []Phase{Live, Live}, seen.phases())
	})
}
