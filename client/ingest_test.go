package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
)

func TestIngest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, s, _, _, _ := inRoom(t, "a")
		var mu sync.Mutex
		got := map[string]*wire.Fix{}
		refuse := ""
		frames := 0
		m.nodes["a"].handle(func(c *fakeConn, cf *wire.ClientFrame, _ bool) {
			mu.Lock()
			defer mu.Unlock()
			if n := cf.GetNearby(); n != nil {
				c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Neighbours{Neighbours: &wire.Neighbours{
					People: []*wire.Neighbour{{User: "fleet:" + n.GetFleet() + ":s1", Fix: &wire.Fix{Point: n.GetCenter()}}},
				}}})
				return
			}
			require.LessOrEqual(t, cf.SizeVT(), wire.MaxClientFrame)
			require.LessOrEqual(t, len(cf.GetIngest().GetFixes()), wire.MaxIngest)
			frames++
			if refuse != "" {
				c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Error{Error: &wire.Error{Code: refuse, RetryAfterMs: 80}}})
				refuse = ""
				return
			}
			out := &wire.Ingested{}
			for i, f := range cf.GetIngest().GetFixes() {
				if strings.HasSuffix(f.GetSubject(), "7") {
					out.Refused = append(out.Refused, &wire.Refusal{Index: uint32(i), Code: wire.CodeFixTooOld, RetryAfterMs: 0})
					continue
				}
				got[f.GetSubject()] = f.GetFix()
				out.Taken++
			}
			c.send(&wire.ServerFrame{Re: cf.GetId(), Body: &wire.ServerFrame_Ingested{Ingested: out}})
		})

		var all []SubjectFix
		for i := range 3000 {
			f := SubjectFix{Subject: fmt.Sprintf("%s-%04d", strings.Repeat("x", i%50), i), Fix: Fix{Point: geo.Point{Lat: 1, Lng: 2}, Speed: new(1.0)}}
			all = append(all, f)
		}
		all[1].Gone, all[2].Subject = true, "a b"
		out, err := s.Ingest(t.Context(), all)
		require.NoError(t, err)
		require.Equal(t, 3000-300-1, out.Taken)
		mu.Lock()
		require.Len(t, got, out.Taken)
		require.Greater(t, frames, 3)
		require.Nil(t, got[all[1].Subject])
		require.Equal(t, float32(1), got[all[3].Subject].GetSpeed())
		require.NotNil(t, got[all[3].Subject].GetCaptured())
		mu.Unlock()
		for _, r := range out.Refused {
			require.True(t, r.Index == 2 && r.Err.Code == wire.CodeBadSubject || r.Index%10 == 7 && r.Err.Code == wire.CodeFixTooOld, r)
		}
		require.True(t, slices.ContainsFunc(out.Refused, func(r IngestRefusal) bool { return r.Index == 2997 }))

		next := func(code string) {
			mu.Lock()
			defer mu.Unlock()
			refuse = code
		}
		next(wire.CodeRateLimited)
		out, err = s.Ingest(t.Context(), all[3:5])
		require.NoError(t, err)
		require.Zero(t, out.Taken)
		require.Len(t, out.Refused, 2)
		require.Equal(t, 80*time.Millisecond, out.Refused[1].Err.RetryAfter)
		next(wire.CodeForbidden)
		_, err = s.Ingest(t.Context(), all[3:5])
		require.True(t, IsCode(err, wire.CodeForbidden))
		out, err = s.Ingest(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, Ingested{}, out)

		near, err := s.NearbyFleet(context.Background(), "f", geo.Point{Lat: 1}, 5, 1)
		require.NoError(t, err)
		require.Equal(t, "s1", near.People[0].Subject)
		require.Equal(t, "fleet:f:s1", near.People[0].User)
	})
}
