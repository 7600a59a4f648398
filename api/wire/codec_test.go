package wire

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const room = "group:0b9e2c1e-7f5d-4b3a-9c55-1a2b3c4d5e6f"

func report(n uint64) *ClientFrame {
	return &ClientFrame{Id: n, Body: &ClientFrame_Report{Report: &Report{Fix: fix(n), Rooms: []string{room}}}}
}

func fix(n uint64) *Fix {
	return &Fix{Point: &Point{Lat: 52.5, Lng: 13.4}, Accuracy: 8, Captured: timestamppb.New(time.Unix(1_800_000_000, 0)), N: n}
}

func encode(t testing.TB, frames ...*ClientFrame) (b []byte) {
	for _, f := range frames {
		var err error
		b, err = AppendFrame(b, f)
		require.NoError(t, err)
	}
	return b
}

func TestFramesRoundTrip(t *testing.T) {
	long := &ClientFrame{Id: 3, Body: &ClientFrame_Send{Send: &Send{Room: room, ClientId: "c", Body: strings.Repeat("x", 40_000)}}}
	want := []*ClientFrame{report(1), report(2), long, {Id: 4, Body: &ClientFrame_Ping{Ping: &Ping{}}}}
	b := encode(t, want...)

	t.Run("message", func(t *testing.T) {
		rest := b
		for _, w := range want {
			body, after, err := Split(rest, MaxClientFrame)
			require.NoError(t, err)
			got, err := DecodeClient(body)
			require.NoError(t, err)
			require.True(t, proto.Equal(w, got))
			rest = after
		}
		require.Empty(t, rest)
	})
	t.Run("stream byte by byte", func(t *testing.T) {
		r := NewReader(iotest.OneByteReader(bytes.NewReader(b)), MaxClientFrame)
		for _, w := range want {
			body, err := r.Next()
			require.NoError(t, err)
			got, err := DecodeClient(body)
			require.NoError(t, err)
			require.True(t, proto.Equal(w, got))
		}
		_, err := r.Next()
		require.Equal(t, io.EOF, err)
	})
	t.Run("JSON lines", func(t *testing.T) {
		var text []byte
		for _, w := range want {
			line, err := EncodeJSON(w)
			require.NoError(t, err)
			require.NotContains(t, string(line), "\n")
			text = append(append(text, line...), "\r\n\n"...)
		}
		for _, w := range want {
			var line []byte
			line, text = SplitJSON(text)
			got, err := DecodeClientJSON(line)
			require.NoError(t, err)
			require.True(t, proto.Equal(w, got))
		}
		line, _ := SplitJSON(text)
		require.Empty(t, line)
	})
}

func TestDecodedFrameKeepsNoBuffer(t *testing.T) {
	b := encode(t, report(1))
	f, err := DecodeClient(b[1:])
	require.NoError(t, err)
	for i := range b {
		b[i] = 0xff
	}
	require.True(t, proto.Equal(report(1), f), "the buffer is used for the next frame")
}

func TestHostileFraming(t *testing.T) {
	tooLong := append([]byte{0x81, 0x80, 0x04}, make([]byte, 100)...) // 64 KiB + 1
	overlong := bytes.Repeat([]byte{0xff}, 12)
	for name, c := range map[string]struct {
		in            []byte
		split, stream error
	}{
		"longer than the limit": {tooLong, ErrTooLarge, ErrTooLarge},
		"overlong prefix":       {overlong, ErrTooLarge, ErrTooLarge},
		"cut in the prefix":     {[]byte{0x80}, ErrBadFrame, io.ErrUnexpectedEOF},
		"cut in the body":       {[]byte{5, 1, 2}, ErrBadFrame, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Split(c.in, MaxClientFrame)
			require.ErrorIs(t, err, c.split)
			_, err = NewReader(bytes.NewReader(c.in), MaxClientFrame).Next()
			require.ErrorIs(t, err, c.stream)
		})
	}
	for name, body := range map[string][]byte{
		"empty":                 {},
		"an id and no body":     {0x08, 7},
		"an unknown body":       {0x08, 7, 0xba, 0x3e, 0},
		"group end":             {0x0c},
		"a length beyond it":    {0x12, 0x7f},
		"negative length":       {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a string as the id":    {0x0a, 1, 'x'},
		"a hello cut inside":    {0x12, 3, 0x12, 0x09, 'x'},
		"field number 0":        {0x00, 0x00},
		"varint without an end": {0x08, 0x80, 0x80},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := DecodeClient(body)
			require.ErrorIs(t, err, ErrBadFrame)
			if name == "an unknown body" {
				require.EqualValues(t, 7, f.GetId(), "the refusal names the request")
			}
		})
	}
	for _, line := range []string{"", "{", "[]", "{}", `{"id":"7"}`, `{"nonsense":{}}`, `{"ping":{},"bye":{}}`, "\x00\xff", `{"report":{"fix":{"captured":"yesterday"}}}`} {
		_, err := DecodeClientJSON([]byte(line))
		require.ErrorIs(t, err, ErrBadFrame, line)
	}
	_, err := DecodeClientJSON(make([]byte, MaxClientFrame+1))
	require.ErrorIs(t, err, ErrTooLarge)
	f, err := DecodeServer([]byte{0x08, 7, 0xba, 0x3e, 0})
	require.NoError(t, err, "a client ignores what a later server says")
	require.Nil(t, f.Body)
}

func TestReaderBelievesBytesNotLengths(t *testing.T) {
	r := NewReader(bytes.NewReader([]byte{0x80, 0x80, 0x40}), MaxServerFrame) // 1 MiB, and then nothing
	_, err := r.Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, cap(r.body), 2*readChunk)
}

func TestCloseTable(t *testing.T) {
	seen := map[uint16]bool{}
	for _, c := range closes {
		require.False(t, seen[c.number])
		seen[c.number] = true
		n, ok := CloseNumber(c.code)
		require.True(t, ok)
		require.Equal(t, c.number, n)
		require.Equal(t, c.code, CloseCode(n))
	}
	for code, want := range map[string]Policy{
		CodeDraining: Reconnect, CodeSlow: Reconnect, CodeTimeout: Reconnect, CodeRateLimited: Reconnect, CodeInternal: Reconnect,
		CodeSuperseded: Final, CodeSignedOut: Final, CodeBadVersion: Final, CodeTooLarge: Final, CodeBadFrame: Final,
		CodeTokenExpired: Refresh, CodeUnauthenticated: Refresh,
	} {
		n, _ := CloseNumber(code)
		require.Equal(t, want, PolicyOf(n), code)
	}
	_, ok := CloseNumber(CodeNotMember)
	require.False(t, ok)
	require.Equal(t, Reconnect, PolicyOf(1006))
	require.Equal(t, Final, PolicyOf(4199))
	require.Empty(t, CloseCode(4199))
}

func TestChecks(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	change := func(f func(*Fix)) *Fix { x := fix(1); f(x); return x }
	f32 := func(v float64) *float32 { x := float32(v); return &x }
	for name, c := range map[string]struct {
		fix  *Fix
		code string
	}{
		"good":            {fix(1), ""},
		"poles":           {change(func(f *Fix) { f.Point = &Point{Lat: -90, Lng: 180} }), ""},
		"none":            {nil, CodeBadCoordinates},
		"no point":        {change(func(f *Fix) { f.Point = nil }), CodeBadCoordinates},
		"NaN":             {change(func(f *Fix) { f.Point.Lat = math.NaN() }), CodeBadCoordinates},
		"infinite":        {change(func(f *Fix) { f.Point.Lng = math.Inf(-1) }), CodeBadCoordinates},
		"north of north":  {change(func(f *Fix) { f.Point.Lat = 90.000001 }), CodeBadCoordinates},
		"round the world": {change(func(f *Fix) { f.Point.Lng = -180.5 }), CodeBadCoordinates},
		"n 0":             {change(func(f *Fix) { f.N = 0 }), CodeBadFix},
		"negative error":  {change(func(f *Fix) { f.Accuracy = -1 }), CodeBadFix},
		"NaN error":       {change(func(f *Fix) { f.Accuracy = float32(math.NaN()) }), CodeBadFix},
		"NaN speed":       {change(func(f *Fix) { f.Speed = f32(math.NaN()) }), CodeBadFix},
		"infinite speed":  {change(func(f *Fix) { f.Speed = f32(math.Inf(1)) }), CodeBadFix},
		"heading 361":     {change(func(f *Fix) { f.Heading = f32(361) }), CodeBadFix},
		"no time":         {change(func(f *Fix) { f.Captured = nil }), CodeBadFix},
		"impossible time": {change(func(f *Fix) { f.Captured = &timestamppb.Timestamp{Nanos: -1} }), CodeBadFix},
		"a little ahead":  {change(func(f *Fix) { f.Captured = timestamppb.New(now.Add(9 * time.Second)) }), ""},
		"future":          {change(func(f *Fix) { f.Captured = timestamppb.New(now.Add(11 * time.Second)) }), CodeFixInFuture},
		"yesterday":       {change(func(f *Fix) { f.Captured = timestamppb.New(now.Add(-25 * time.Hour)) }), CodeFixTooOld},
	} {
		t.Run(name, func(t *testing.T) { expect(t, CheckFix(c.fix, now), c.code) })
	}
	for id, code := range map[string]string{
		room: "", "booking:" + room[6:]: "", "direct:0" + room[7:] + ":f" + room[7:]: "",
		"direct:f" + room[7:] + ":0" + room[7:]: CodeBadRoom, "direct:" + room[6:]: CodeBadRoom, "group:0" + room[7:] + ":f" + room[7:]: CodeBadRoom,
		"": CodeBadRoom, "group": CodeBadRoom, "group:": CodeBadRoom, ":" + room[6:]: CodeBadRoom,
		strings.ToUpper(room): CodeBadRoom, "group:" + strings.ToUpper(room[6:]): CodeBadRoom, room + "0": CodeBadRoom, "group:' OR 1=1 --": CodeBadRoom,
	} {
		expect(t, CheckRoom(id), code)
	}
	for id, code := range map[string]string{"a": "", "Tab_1-x": "", "": CodeBadDevice, "http": CodeBadDevice, "a b": CodeBadDevice, "ä": CodeBadDevice, strings.Repeat("x", 65): CodeBadDevice} {
		expect(t, CheckDevice(id), code)
	}
	for _, c := range []struct{ id, body, code string }{
		{"1", "hi", ""}, {"1", strings.Repeat("ä", MaxBody), ""},
		{"1", strings.Repeat("ä", MaxBody+1), CodeBadMessage}, {"", "hi", CodeBadMessage}, {strings.Repeat("x", 65), "hi", CodeBadMessage},
		{"1", " \n", CodeBadMessage}, {"1", "\xff", CodeBadMessage}, {"1", "a\x00", CodeBadMessage}, {"\xff", "hi", CodeBadMessage},
	} {
		expect(t, CheckSend(&Send{ClientId: c.id, Body: c.body}), c.code)
	}
	expect(t, CheckPositions([]*Position{{Region: "eu-west"}}), "")
	expect(t, CheckPositions([]*Position{{Region: "e\xff"}}), CodeBadRequest)
	expect(t, CheckPositions(make([]*Position, MaxPositions+1)), CodeBadRequest)
}

func expect(t *testing.T, p *Problem, code string) {
	t.Helper()
	if code == "" {
		require.Nil(t, p)
		return
	}
	require.NotNil(t, p)
	require.Equal(t, code, p.Code)
	require.NotEmpty(t, p.Message)
}

// What decodes encodes to something that decodes to the same.
func FuzzClientFrame(f *testing.F) {
	f.Add(encode(f, report(1))[1:])
	f.Add([]byte{0x08, 7, 0xba, 0x3e, 0})
	f.Add([]byte{0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := DecodeClient(b)
		if err != nil {
			require.ErrorIs(t, err, ErrBadFrame)
			return
		}
		_ = CheckFix(frame.GetReport().GetFix(), time.Now())
		again, err := DecodeClient(encode(t, frame)[len(encode(t, frame))-frame.SizeVT():])
		require.NoError(t, err)
		require.True(t, sameClient(frame, again))
	})
}

// NaN is not equal to itself: compare bytes.
func sameClient(a, b *ClientFrame) bool {
	x, err1 := a.MarshalVT()
	y, err2 := b.MarshalVT()
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

func FuzzServerFrame(f *testing.F) {
	s := &ServerFrame{Re: 1, Body: &ServerFrame_Fixes{Fixes: &Fixes{Room: room, Fixes: []*MemberFix{{User: "u", Device: "d", Epoch: 3, Fix: fix(1)}}}}}
	b, err := s.MarshalVT()
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte{0x08, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := DecodeServer(b)
		if err != nil {
			return
		}
		x, err := frame.MarshalVT()
		require.NoError(t, err)
		again, err := DecodeServer(x)
		require.NoError(t, err)
		y, err := again.MarshalVT()
		require.NoError(t, err)
		require.Equal(t, x, y)
		_, _ = EncodeJSON(frame) // may refuse, must not panic
	})
}

func FuzzJSON(f *testing.F) {
	line, err := EncodeJSON(report(1))
	require.NoError(f, err)
	f.Add(line)
	f.Add([]byte(`{"report":{"fix":{"point":{"lat":"NaN","lng":1e308}}}}`))
	f.Add([]byte("\n\n{}\r\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			var line []byte
			if line, b = SplitJSON(b); len(line) == 0 {
				return
			}
			if frame, err := DecodeClientJSON(line); err == nil {
				again, err := DecodeClient(encode(t, frame)[len(encode(t, frame))-frame.SizeVT():])
				require.NoError(t, err)
				require.True(t, sameClient(frame, again))
				_, err = EncodeJSON(frame)
				require.NoError(t, err)
			}
			_, _ = DecodeServerJSON(line)
		}
	})
}

// A stream and a message of the same bytes hold the same frames.
func FuzzStream(f *testing.F) {
	f.Add(encode(f, report(1), report(2)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(iotest.HalfReader(bytes.NewReader(b)), MaxClientFrame)
		for len(b) > 0 {
			want, rest, err := Split(b, MaxClientFrame)
			got, err2 := r.Next()
			if err != nil || err2 != nil {
				require.Equal(t, err != nil, err2 != nil)
				require.Equal(t, errors.Is(err, ErrTooLarge), errors.Is(err2, ErrTooLarge))
				return
			}
			require.True(t, bytes.Equal(want, got))
			b = rest
		}
		_, err := r.Next()
		require.Equal(t, io.EOF, err)
	})
}
