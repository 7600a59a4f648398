package session

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

func TestTicket(t *testing.T) {
	key, now := []byte("key"), time.Unix(1_800_000_000, 0)
	want := ticket{epoch: math.MaxUint64, issued: now, region: "eu-west", user: "5f0c", device: "laptop"}
	sealed := want.seal(key)
	got, err := unseal(key, sealed, now.Add(23*time.Hour))
	require.NoError(t, err)
	require.Equal(t, want, *got)

	for i := range sealed { // any bit
		bad := append([]byte(nil), sealed...)
		bad[i] ^= 1
		_, err := unseal(key, bad, now)
		require.ErrorIs(t, err, errTicket)
	}
	for name, c := range map[string]struct {
		key, b []byte
		at     time.Time
	}{
		"another key":     {[]byte("kez"), sealed, now},
		"old":             {key, sealed, now.Add(25 * time.Hour)},
		"from tomorrow":   {key, sealed, now.Add(-25 * time.Hour)},
		"cut":             {key, sealed[:len(sealed)-1], now},
		"nothing but MAC": {key, ticketMAC(key, nil), now},
		"empty":           {key, []byte{0}, now},
		"huge":            {key, make([]byte, 1<<16), now},
		"another version": {key, append([]byte{2}, ticketMAC(key, []byte{2})...), now},
		"garbled":         {key, append([]byte{1, 5}, ticketMAC(key, []byte{1, 5})...), now},
	} {
		_, err := unseal(c.key, c.b, c.at)
		require.ErrorIs(t, err, errTicket, name)
	}
}

// FuzzTicket feeds bytes that are signed, as only a faulty node would.
func FuzzTicket(f *testing.F) {
	key, now := []byte("key"), time.Unix(1_800_000_000, 0)
	good := (&ticket{epoch: 7, issued: now, region: "r", user: "u", device: "d"}).seal(key)
	f.Add(good[:len(good)-32])
	f.Add([]byte{1, 7, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := unseal(key, append(body[:len(body):len(body)], ticketMAC(key, body)...), now)
		if err != nil {
			require.ErrorIs(t, err, errTicket)
			return
		}
		again, err := unseal(key, got.seal(key), now)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func TestTicketAtHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion()
		w := r.node(t, "n1", Config{})
		p := w.connect()
		p.ask(1, hello("ann l1", "phone", roomA))
		sealed := p.next(t).GetWelcome().Ticket
		require.NotNil(t, p.next(t).GetSnapshot())
		key := w.config.TicketKey
		was, err := unseal(key, sealed, time.Now())
		require.NoError(t, err)
		require.Equal(t, ticket{epoch: 1, issued: time.Now().Truncate(time.Millisecond), region: "r1", user: "ann", device: "phone"}, *was)
		p.cut()
		<-p.over

		with := func(token, device string, sealed []byte) *pipe {
			f := hello(token, device)
			f.GetHello().Ticket = sealed
			p := w.connect()
			p.ask(1, f)
			return p
		}
		sealedWith := func(f func(*ticket)) []byte {
			t := *was
			f(&t)
			return t.seal(key)
		}
		for name, c := range map[string]struct {
			token, device string
			sealed        []byte
		}{
			"forged":             {"ann l1", "phone", append([]byte{1}, sealed...)},
			"of another user":    {"bob l1", "phone", sealed},
			"of another of mine": {"ann l1", "tablet", sealed},
			"old":                {"ann l1", "phone", sealedWith(func(t *ticket) { t.issued = t.issued.Add(-25 * time.Hour) })},
		} {
			p := with(c.token, c.device, c.sealed)
			last := p.lastWord(t)
			require.Equal(t, wire.CodeBadTicket, last.Code, name)
			number, _ := wire.CloseNumber(last.Code)
			require.Equal(t, wire.Refresh, wire.PolicyOf(number))
			<-p.over
		}
		require.Equal(t, "suspended 1 n1 a", r.of("ann", "phone"), "nothing came of that")

		// A ticket vouches for what a client's word is not good for; on a node that
		// was started anew, and with that node's region lost.
		ahead := regions.ClockEpoch(time.Now().Add(48 * time.Hour))
		w.Stop()
		w = newRegion().node(t, "n1", Config{})
		q := with("ann l1", "phone", sealedWith(func(t *ticket) { t.epoch = ahead }))
		require.EqualValues(t, ahead+1, q.next(t).GetWelcome().Epoch)
		q.cut()
		<-q.over
		f := hello("ann l1", "phone")
		f.GetHello().Ticket, f.GetHello().Epoch = sealedWith(func(t *ticket) { t.epoch = ahead + 9 }), uint64(ahead)+5
		q = w.connect()
		q.ask(1, f)
		require.EqualValues(t, ahead+10, q.next(t).GetWelcome().Epoch, "the higher of the two")
		q.cut()
		w.Stop()
	})
}

// A ticket of another region is as good as one of this, and the region it is of
// is told, once the rooms show the session; so is where the device was by the
// region's own knowledge, which is looked for if there was no session here.
func TestArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion()
		w := r.node(t, "n1", Config{})
		var told []string
		w.deps.Arrived = func(id regions.SessionID, from regions.RegionID, rooms bool) {
			require.True(t, rooms)
			told = append(told, fmt.Sprintf("%s %d from %q", id.Device, id.Epoch, from))
		}
		take := func() []string {
			synctest.Wait()
			defer func() { told = nil }()
			return told
		}
		go1 := func(sealed []byte) (*pipe, *wire.Welcome) {
			f := hello("ann l1", "phone", roomA)
			f.GetHello().Ticket = sealed
			p := w.connect()
			p.ask(1, f)
			return p, p.next(t).GetWelcome()
		}
		of := func(region regions.RegionID, epoch regions.Epoch) []byte {
			return (&ticket{epoch: epoch, issued: time.Now(), region: string(region), user: "ann", device: "phone"}).seal(w.config.TicketKey)
		}
		p, welcome := go1(of("r2", 4000))
		require.EqualValues(t, 4001, welcome.Epoch)
		require.Equal(t, []string{`phone 4001 from "r2"`}, take())
		p.cut()
		<-p.over
		p, welcome = go1(welcome.Ticket)
		require.Empty(t, take(), "it was here")
		p.cut()
		<-p.over
		p, _ = go1(of("r3", regions.Epoch(welcome.Epoch)+9)) // there and back, faster than its region said so
		require.Equal(t, []string{`phone 4012 from "r3"`}, take())
		p.ask(2, &wire.ClientFrame{Body: &wire.ClientFrame_Bye{Bye: &wire.Bye{}}})
		<-p.over
		synctest.Wait()
		p, _ = go1(nil)
		require.Equal(t, []string{`phone 4013 from ""`}, take())
		p.cut()
		w.Stop()
	})
}
