package simnet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echoServer sends every line back, and says bye to "quit".
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if lines.Text() == "quit" {
						_, _ = io.WriteString(c, "bye\n")
						return
					}
					_, _ = fmt.Fprintln(c, lines.Text())
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); work.Wait() })
	return l.Addr().String()
}

func linkTo(t *testing.T, oneWay time.Duration) (*Network, *Link, string) {
	t.Helper()
	addr := echoServer(t)
	n := New(Config{OneWay: fixed(oneWay)})
	l := n.Link("a", "b")
	t.Cleanup(l.Close) // before the server waits for its connections
	return n, l, addr
}

func TestALinkTakesItsTime(t *testing.T) {
	const oneWay = 20 * time.Millisecond
	_, l, addr := linkTo(t, oneWay)
	began := time.Now()
	c, err := l.Dial(t.Context(), "tcp", addr)
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), 2*oneWay)
	require.Equal(t, addr, c.RemoteAddr().String())
	in := bufio.NewReader(c)
	for i := range 3 {
		began := time.Now()
		// Two writes before an answer are one round trip.
		_, err = fmt.Fprintf(c, "one %d\n", i)
		require.NoError(t, err)
		_, err = fmt.Fprintf(c, "two %d\n", i)
		require.NoError(t, err)
		require.Less(t, time.Since(began), oneWay, "the writer does not wait for the way")
		for _, want := range []string{"one", "two"} {
			line, err := in.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("%s %d\n", want, i), line)
		}
		require.GreaterOrEqual(t, time.Since(began), 2*oneWay, "never early")
	}
	s := l.Stats()
	require.EqualValues(t, 1, s.Dials)
	require.EqualValues(t, 3, s.RoundTrips)
	require.EqualValues(t, 36, s.Sent.Bytes)
	require.EqualValues(t, 36, s.Received.Bytes)
	require.Zero(t, l.Stats().Less(s))

	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err = in.ReadString('\n')
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout())
}

func TestALinkKeepsOrderAndLosesNothing(t *testing.T) {
	addr := echoServer(t)
	n := New(Config{OneWay: fixed(2 * time.Millisecond), Jitter: 5 * time.Millisecond, Loss: 0.2, Seed: 7})
	l := n.Link("a", "b")
	t.Cleanup(l.Close)
	c, err := l.Dial(t.Context(), "tcp", addr)
	require.NoError(t, err)
	var sent strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&sent, "%d %s\n", i, strings.Repeat("x", i%200))
	}
	go func() {
		_, _ = io.WriteString(c, sent.String())
		_, _ = io.WriteString(c, "quit\n")
	}()
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, sent.String()+"bye\n", string(got), "to the last byte before the end")
}

func TestACutLinkWaits(t *testing.T) {
	n, l, addr := linkTo(t, time.Millisecond)
	c, err := l.Dial(t.Context(), "tcp", addr)
	require.NoError(t, err)
	n.CutBoth("a", "b")
	_, err = io.WriteString(c, "hello\n")
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = c.Read(make([]byte, 10))
	require.Error(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = l.Dial(ctx, "tcp", addr)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	require.NoError(t, c.SetReadDeadline(time.Time{}))
	n.Heal()
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
}

// Whoever ends first, nothing is left behind.
func TestALinkEnds(t *testing.T) {
	n, l, addr := linkTo(t, time.Millisecond)
	c, err := l.Dial(t.Context(), "tcp", addr)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	_, err = c.Write([]byte("x"))
	require.Error(t, err)
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.open) == 0
	}, 5*time.Second, time.Millisecond)

	held, err := l.Dial(t.Context(), "tcp", addr)
	require.NoError(t, err)
	n.CutBoth("a", "b")
	_, err = io.WriteString(held, "on the way\n")
	require.NoError(t, err)
	l.Close()
	_, err = held.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = l.Dial(t.Context(), "tcp", addr)
	require.Error(t, err)
	l.Close()
}

func TestNobodyAnswersThere(t *testing.T) {
	l := New(Config{OneWay: fixed(time.Millisecond)}).Link("a", "b")
	defer l.Close()
	_, err := l.Dial(t.Context(), "tcp", "127.0.0.1:1")
	require.Error(t, err)
}
