package peerlink

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/errs"
)

// FuzzFrames: whatever comes, the reader returns frames within the limit and
// ends with an error; what it accepts reads the same when written again.
func FuzzFrames(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, []byte("one")), nil))
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x80, 0x00})
	f.Add([]byte{5, 'x'})
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 100
		var again []byte
		var frames [][]byte
		r := newFrameReader(iotest.OneByteReader(bytes.NewReader(in)), 64)
		for {
			frame, err := r.next(limit)
			if err != nil {
				require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errProtocol), err)
				break
			}
			require.LessOrEqual(t, len(frame), limit)
			frames = append(frames, bytes.Clone(frame))
			again = appendFrame(again, frame)
		}
		r = newFrameReader(bytes.NewReader(again), 64)
		for _, want := range frames {
			got, err := r.next(limit)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		}
		_, err := r.next(limit)
		require.Equal(t, io.EOF, err)
	})
}

func FuzzHello(f *testing.F) {
	f.Add(hello{version, Peer{"eu-west-1", "eu-west", 1 << 40, Addrs{Peer: "10.0.0.1:7000", WT: "https://a.example/wt"}}, features}.encode())
	f.Add([]byte{1, 200})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := decodeHello(in)
		if err != nil {
			return
		}
		again, err := decodeHello(append(h.encode(), "later fields"...))
		require.NoError(t, err)
		require.Equal(t, h, again)
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(encodeAnswer([]byte("fine"), nil))
	f.Add(encodeAnswer(nil, errs.New(errs.NotFound, "gone", "look elsewhere")))
	f.Add(encodeAnswer(nil, io.EOF))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _ = decodeAnswer("eu-west-1", in)
	})
}
