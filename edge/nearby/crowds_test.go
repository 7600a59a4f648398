package nearby

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

func TestCrowd(t *testing.T) {
	m := soleMap(nil)
	now := time.Now()
	at := geo.Point{Lat: 45, Lng: 13}
	for i := range MaxCrowd + 2 {
		m.Put(fmt.Sprintf("%08x-0000-4000-8000-000000000000", i), "x", grant.View{Point: geo.Destination(at, float64(i), float64(i)), Precision: grant.Exact, Captured: now}, now.Add(time.Hour))
	}
	got, err := m.Crowd(t.Context(), fmt.Sprintf("%08x-0000-4000-8000-000000000000", 0), at, MaxRadius)
	require.NoError(t, err)
	require.Len(t, got.People, MaxCrowd)
	require.True(t, got.More)
	got, err = m.Crowd(t.Context(), "somebody", at, 99.5)
	require.NoError(t, err)
	require.Len(t, got.People, 100)
	require.False(t, got.More)
	_, err = m.Crowd(t.Context(), "somebody", at, MaxRadius+1)
	require.ErrorIs(t, err, errNear)
}
