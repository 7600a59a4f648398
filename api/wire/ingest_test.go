package wire

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func ingest(id uint64, n int) *ClientFrame {
	all := make([]*SubjectFix, n)
	for i := range all {
		f := fix(uint64(i))
		f.Point.Lat += float64(i) / 1000
		f.Speed, f.Heading = new(float32(i)), new(float32(2))
		all[i] = &SubjectFix{Subject: fmt.Sprintf("scooter-%d", i), Fix: f}
	}
	return &ClientFrame{Id: id, Body: &ClientFrame_Ingest{Ingest: &Ingest{Fixes: all}}}
}

func TestIngestDecodes(t *testing.T) {
	some := ingest(7, 3)
	some.GetIngest().Fixes[0].Fix.Battery = new(float32(0))
	some.GetIngest().Fixes[1].Fix = &Fix{Captured: &timestamppb.Timestamp{Seconds: -5, Nanos: 3}, Cell: 9}
	some.GetIngest().Fixes[2] = &SubjectFix{}
	d := new(Pool).Decoder()
	for name, f := range map[string]*ClientFrame{
		"some": some, "no id": ingest(0, 2), "none": ingest(1, 0), "all that fit": ingest(math.MaxUint64, MaxIngest),
		"long name": {Body: &ClientFrame_Ingest{Ingest: &Ingest{Fixes: []*SubjectFix{{Subject: strings.Repeat("x", 300)}}}}},
	} {
		b, err := f.MarshalVT()
		require.NoError(t, err)
		got, err := d.Client(b)
		require.NoError(t, err)
		require.NotZero(t, d.lent.frame.Body, name)
		for i := range b { // nothing of it is kept
			b[i] = 'z'
		}
		require.True(t, proto.Equal(f, got), name)
		d.Release()
	}
	other, err := report(4).MarshalVT()
	require.NoError(t, err)
	got, err := d.Client(other)
	require.NoError(t, err)
	d.Release()
	require.True(t, proto.Equal(report(4), got))
	b, err := ingest(1, MaxIngest*3).MarshalVT()
	require.NoError(t, err)
	got, err = d.Client(b)
	require.NoError(t, err)
	require.Len(t, got.GetIngest().Fixes, MaxIngest+1, "no more than to know that there are too many")
}

// However many fixes there are, only their names take new memory.
func TestIngestDecodesInOnePiece(t *testing.T) {
	b, err := ingest(1, 300).MarshalVT()
	require.NoError(t, err)
	d := new(Pool).Decoder()
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		if f, err := d.Client(b); err != nil || len(f.GetIngest().Fixes) != 300 {
			t.Error("not decoded")
		}
		d.Release()
	}), 16.0, "and not for each fix; the race detector has the pool lose some")
}

// What is taken apart here is what the generated code makes of it.
func FuzzIngest(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		b, err := ingest(uint64(n), n).MarshalVT()
		require.NoError(f, err)
		f.Add(b)
		f.Add(append(b, 0x78, 1))
	}
	f.Add([]byte("\x7a\x04\x0a\x02\x12\x00"))
	d := new(Pool).Decoder()
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := d.Client(b)
		defer d.Release()
		if d.lent == nil || d.lent.frame.Body == nil {
			return
		}
		want, wrong := DecodeClient(b)
		require.NoError(t, err)
		require.NoError(t, wrong)
		if all := want.GetIngest(); len(all.GetFixes()) > MaxIngest {
			all.Fixes = all.Fixes[:MaxIngest+1]
		}
		require.True(t, proto.Equal(want, got), "%v\n%v", want, got)
		now := time.Unix(1_800_000_000, 0)
		for _, s := range got.GetIngest().Fixes {
			if CheckSubjectFix(s, now) == nil {
				require.NotEmpty(t, s.Subject)
				require.LessOrEqual(t, len(s.Subject), MaxSubject)
				p := s.GetFix().GetPoint()
				require.True(t, p == nil || math.Abs(p.Lat) <= 90 && math.Abs(p.Lng) <= 180)
			}
		}
	})
}

func TestCheckSubjectFix(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(d)) }
	with := func(change func(*Fix)) *Fix { f := fix(0); change(f); return f }
	for name, c := range map[string]struct {
		subject string
		fix     *Fix
		code    string
	}{
		"fine":               {"bus-7.a_B", fix(0), ""},
		"as long as can be":  {strings.Repeat("x", MaxSubject), fix(0), ""},
		"too long":           {strings.Repeat("x", MaxSubject+1), fix(0), CodeBadSubject},
		"no name":            {"", fix(0), CodeBadSubject},
		"a colon":            {"a:b", fix(0), CodeBadSubject},
		"a space":            {"a b", fix(0), CodeBadSubject},
		"no UTF-8":           {"a\xff", fix(0), CodeBadSubject},
		"letters of others":  {"ä", fix(0), CodeBadSubject},
		"gone":               {"a", nil, ""},
		"gone at a time":     {"a", &Fix{Captured: at(0)}, ""},
		"gone in the future": {"a", &Fix{Captured: at(time.Minute)}, CodeFixInFuture},
		"gone long ago":      {"a", &Fix{Captured: at(-25 * time.Hour)}, CodeFixTooOld},
		"gone at no time":    {"a", &Fix{Captured: &timestamppb.Timestamp{Nanos: -1}}, CodeBadFix},
		"never":              {"a", with(func(f *Fix) { f.Captured = nil }), CodeBadFix},
		"nowhere":            {"a", with(func(f *Fix) { f.Point.Lat = math.NaN() }), CodeBadCoordinates},
		"too fast":           {"a", with(func(f *Fix) { f.Speed = new(float32(5000)) }), CodeBadFix},
		"in the future":      {"a", with(func(f *Fix) { f.Captured = at(time.Minute) }), CodeFixInFuture},
	} {
		p := CheckSubjectFix(&SubjectFix{Subject: c.subject, Fix: c.fix}, now)
		if c.code == "" {
			require.Nil(t, p, name)
			continue
		}
		require.NotNil(t, p, name)
		require.Equal(t, c.code, p.Code, name)
	}
	require.NotNil(t, CheckSubjectFix(nil, now))
	require.Nil(t, CheckFleet("0b9e2c1e-7f5d-4b3a-9c55-1a2b3c4d5e6f"))
	require.NotNil(t, CheckFleet("0B9E2C1E-7F5D-4B3A-9C55-1A2B3C4D5E6F"))
	require.NotNil(t, CheckFleet("x:y"))
}

func BenchmarkDecodeIngest(b *testing.B) {
	frame, err := ingest(1, 300).MarshalVT()
	require.NoError(b, err)
	d := new(Pool).Decoder()
	for name, decode := range map[string]func([]byte) (*ClientFrame, error){"ours": d.Client, "generated": DecodeClient} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = decode(frame)
				d.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/300, "ns/fix")
		})
	}
}
