package simnet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// diary writes down what a host is told.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lines
	d.lines = nil
	return l
}

func (d *diary) Up(to Peer)                { d.add("up %s%d", to.Name, to.Incarnation) }
func (d *diary) Down(to string, _ error)   { d.add("down %s", to) }
func (d *diary) Joined(from Peer)          { d.add("joined %s%d", from.Name, from.Incarnation) }
func (d *diary) Frame(from Peer, b []byte) { d.add("%s: %s", from.Name, b) }
func (d *diary) Left(from Peer)            { d.add("left %s%d", from.Name, from.Incarnation) }
func (d *diary) Datagram(_ Peer, b []byte) { d.add("datagram %s", b) }
func (d *diary) Accept(c *Pipe) {
	for {
		b, err := c.Receive(context.Background())
		if err != nil {
			d.add("client gone: %v", err)
			return
		}
		c.Send(append([]byte("re "), b...))
	}
}

func (d *diary) Call(_ context.Context, from Peer, b []byte) ([]byte, error) {
	if string(b) == "fail" {
		return nil, errors.New("no")
	}
	return append([]byte(from.Name+" "), b...), nil
}

func (d *diary) Stream(_ context.Context, _ Peer, s io.ReadWriter) error {
	r := bufio.NewReader(s)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		if _, err := s.Write([]byte("re " + line)); err != nil {
			return err
		}
	}
}

func twoHosts(t *testing.T) (f *Fabric, a, b *Host, at, bt *diary) {
	f = NewFabric(FabricConfig{})
	at, bt = &diary{}, &diary{}
	a = f.Host(Peer{"a", "eu-west", 1}, at)
	b = f.Host(Peer{"b", "eu-west", 1}, bt)
	return f, a, b, at, bt
}

func TestFabricEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, b, at, bt := twoHosts(t)
		for i := range 3 {
			require.NoError(t, a.Send("b", fmt.Append(nil, i)))
		}
		time.Sleep(time.Second)
		require.Equal(t, []string{"up b1"}, at.take())
		require.Equal(t, []string{"joined a1", "a: 0", "a: 1", "a: 2"}, bt.take())

		// What is sent into a short cut arrives late.
		f.Cut("a", "b")
		require.NoError(t, a.Send("b", []byte("late")))
		time.Sleep(2 * time.Second)
		require.Empty(t, bt.take())
		f.Heal()
		synctest.Wait()
		require.Equal(t, []string{"a: late"}, bt.take())

		// A long one, even of the way back, breaks the link; then it is redialled.
		f.Cut("b", "a")
		require.NoError(t, a.Send("b", []byte("arrives")))
		time.Sleep(6 * time.Second)
		require.Equal(t, []string{"down b"}, at.take())
		require.ErrorIs(t, a.Send("b", nil), ErrDown)
		require.Equal(t, []string{"a: arrives", "left a1"}, bt.take())
		f.Heal()
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"up b1"}, at.take())
		require.Equal(t, []string{"joined a1"}, bt.take())

		// What was held is released at once.
		f.Hold("b")
		require.NoError(t, a.Send("b", []byte("held")))
		time.Sleep(time.Second)
		require.Empty(t, bt.take())
		f.Release("b")
		synctest.Wait()
		require.Equal(t, []string{"a: held"}, bt.take())

		// A process that is gone is noticed by silence, its successor at once.
		b.Kill()
		time.Sleep(2 * time.Second)
		require.Empty(t, at.take())
		b = f.Host(Peer{"b", "eu-west", 2}, bt)
		time.Sleep(time.Second)
		require.Equal(t, []string{"down b", "up b2"}, at.take())
		require.Equal(t, []string{"joined a1"}, bt.take())
		a.Kill()
		a = f.Host(Peer{"a", "eu-west", 2}, at)
		require.NoError(t, a.Send("b", []byte("again")))
		time.Sleep(time.Second)
		require.Equal(t, []string{"left a1", "joined a2", "a: again"}, bt.take())
		b.Kill()
		time.Sleep(6 * time.Second)
		require.Equal(t, []string{"up b2", "down b"}, at.take())
		a.Kill()
	})
}

func TestFabricControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a, b, _, _ := twoHosts(t)
		got, err := a.Call(t.Context(), "b", []byte("hello"))
		require.NoError(t, err)
		require.Equal(t, "a hello", string(got))
		_, err = a.Call(t.Context(), "b", []byte("fail"))
		require.EqualError(t, err, "no")
		_, err = a.Call(t.Context(), "nobody", nil)
		require.ErrorIs(t, err, ErrUnsent)

		s, err := a.Open(t.Context(), "b")
		require.NoError(t, err)
		r := bufio.NewReader(s)
		for range 2 {
			_, err = s.Write([]byte("line\n"))
			require.NoError(t, err)
			line, err := r.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "re line\n", line)
		}
		f.Cut("b", "a")
		_, err = s.Write([]byte("line\n"))
		require.NoError(t, err)
		began := time.Now()
		_, err = r.ReadString('\n')
		require.ErrorIs(t, err, ErrDown)
		require.Equal(t, time.Second, time.Since(began).Round(time.Second))
		f.Heal()
		s, err = a.Open(t.Context(), "b")
		require.NoError(t, err)
		require.NoError(t, s.Close())
		b.Kill()
		a.Kill()
	})
}

func TestFabricClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, b, _, bt := twoHosts(t)
		phone := f.Host(Peer{Name: "phone", Place: "eu-west"}, nil)
		c, err := phone.Dial(t.Context(), "b")
		require.NoError(t, err)
		require.True(t, c.Send([]byte("x")))
		got, err := c.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, "re x", string(got))
		c.Finish(io.EOF)
		time.Sleep(time.Second)
		require.Equal(t, []string{"client gone: EOF"}, bt.take())

		// A phone that lost its network leaves without a word.
		c, err = phone.Dial(t.Context(), "b")
		require.NoError(t, err)
		c.Abandon(ErrDown)
		time.Sleep(time.Minute)
		require.Empty(t, bt.take())

		c, err = phone.Dial(t.Context(), "b")
		require.NoError(t, err)
		b.Kill()
		_, err = c.Receive(t.Context())
		require.ErrorIs(t, err, ErrReset)
		_, err = phone.Dial(t.Context(), "b")
		require.ErrorIs(t, err, ErrReset)
		f.find("a").Kill()
	})
}
