package peerlink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

func withStream(f func(context.Context, Peer, io.ReadWriter) error) func(*Config) {
	return func(c *Config) { c.Stream = f }
}

func TestStreamsCarryBothWays(t *testing.T) {
	m := newMesh(t, nil)
	a := m.start("a-1", 1)
	m.start("b-1", 3, withStream(func(_ context.Context, from Peer, s io.ReadWriter) error {
		require.Equal(t, Peer{Node: "a-1", Region: "a", Incarnation: 1}, from)
		_, err := io.CopyN(s, s, 1<<20)
		return err
	}))
	s, err := a.Open(t.Context(), "b-1")
	require.NoError(t, err)
	sent := bytes.Repeat([]byte("muster"), 1<<20/6+1)[:1<<20]
	go func() { _, _ = s.Write(sent) }()
	got := make([]byte, len(sent))
	_, err = io.ReadFull(s, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
	_, err = s.Read(got)
	require.ErrorIs(t, err, io.EOF, "the handler's return ends it well")
	require.NoError(t, s.Close())
}

func TestStreamsEndWithTheirContext(t *testing.T) {
	m := newMesh(t, nil)
	a := m.start("a-1", 1)
	served := make(chan error, 1)
	m.start("b-1", 1, withStream(func(_ context.Context, _ Peer, s io.ReadWriter) error {
		_, _ = s.Write([]byte("x"))
		_, err := s.Read(make([]byte, 1))
		served <- err
		return err
	}))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := a.Open(ctx, "b-1")
	require.NoError(t, err)
	_, err = s.Read(make([]byte, 1))
	require.NoError(t, err)
	cancel()
	require.Error(t, <-served)
	_, err = s.Read(make([]byte, 1))
	require.Error(t, err)
	require.NoError(t, s.Close())
}

func TestAStreamThatNobodyServesIsGivenUp(t *testing.T) {
	m := newMesh(t, nil)
	a, b := m.start("a-1", 1), m.open("b-1", 1)
	b.onCall = echoCall
	require.NoError(t, b.Start(t.Context()))
	s, err := a.Open(t.Context(), "b-1")
	require.NoError(t, err)
	_, err = s.Read(make([]byte, 1))
	require.Error(t, err)
	got, err := a.Call(t.Context(), "b-1", []byte("still up"))
	require.NoError(t, err)
	require.Equal(t, "still up", string(got))
}

func TestUnsentIsToldApart(t *testing.T) {
	m := newMesh(t, nil)
	a := m.start("a-1", 1)
	b := m.open("b-1", 1)
	b.stop() // its address is known, but nobody is there
	_, err := a.Open(t.Context(), "b-1")
	require.ErrorIs(t, err, regions.ErrUnsent)
	require.ErrorIs(t, err, ErrDown)
	_, err = a.Call(t.Context(), "b-1", nil)
	require.ErrorIs(t, err, regions.ErrUnsent)
}

func TestControlLinkNoticesAKillSoon(t *testing.T) {
	t.Parallel()
	m := newMesh(t, nil)
	a, b := m.start("a-1", 1), m.open("b-1", 1)
	called := make(chan struct{})
	b.onCall = func(ctx context.Context, _ Peer, _ []byte) ([]byte, error) {
		close(called)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	require.NoError(t, b.Start(t.Context()))
	failed := make(chan error, 1)
	go func() {
		_, err := a.Call(t.Context(), "b-1", nil)
		failed <- err
	}()
	<-called
	began := time.Now()
	b.kill()
	err := <-failed
	took := time.Since(began)
	require.True(t, errors.Is(err, ErrDown) && !errors.Is(err, regions.ErrUnsent), "%v", err)
	require.Less(t, took, 3*controlIdle)
	t.Logf("noticed after %v", took)

	b = m.open("b-1", 2)
	b.onCall = echoCall
	require.NoError(t, b.Start(t.Context()))
	began = time.Now()
	eventually(t, func() bool { _, err := a.Call(t.Context(), "b-1", nil); return err == nil }, "not redialled")
	t.Logf("redialled after %v", time.Since(began))
}
