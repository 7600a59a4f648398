package grant_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo/grant"
)

func TestPrecisionsAreOrderedFromNothingToExact(t *testing.T) {
	before := grant.None
	for r := range grant.MaxResolution + 1 {
		p := grant.Cells(r)
		require.True(t, before.Coarser(p), "%v, %v", before, p)
		res, ok := p.Resolution()
		require.True(t, ok)
		require.Equal(t, r, res)
		before = p
	}
	require.True(t, before.Coarser(grant.Exact))
	require.False(t, grant.Exact.Coarser(grant.Exact))
	for _, p := range []grant.Precision{grant.None, grant.Exact, grant.Exact + 1, 255} {
		_, ok := p.Resolution()
		require.False(t, ok, "%d", p)
	}
	require.Equal(t, grant.None, grant.Cells(-1))
	require.Equal(t, grant.None, grant.Cells(grant.MaxResolution+1), "it would be Exact")
	require.Equal(t, "none", grant.None.String())
}

func TestPrecisionText(t *testing.T) {
	b, err := json.Marshal([]grant.Precision{grant.Exact, grant.Cells(0), grant.Cells(7), grant.Cells(10)})
	require.NoError(t, err)
	require.JSONEq(t, `["exact","r0","r7","r10"]`, string(b))
	for _, p := range []grant.Precision{grant.None, grant.Exact + 1} {
		_, err := json.Marshal(p)
		require.Error(t, err, "%d", p)
	}
	for _, s := range []string{"", "none", "Exact", "r", "r11", "r-1", "r+1", "r07", "r1 ", "7", "R7", "r99999999999999999999"} {
		_, err := grant.ParsePrecision(s)
		require.Error(t, err, "%q", s)
	}
	require.Error(t, json.Unmarshal([]byte("7"), new(grant.Precision)))
}

func FuzzParsePrecision(f *testing.F) {
	for _, s := range []string{"exact", "r0", "r7", "r10", "r11", "r07", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := grant.ParsePrecision(s)
		if err != nil {
			require.Equal(t, grant.None, p)
			return
		}
		require.Equal(t, s, p.String(), "one text for each")
	})
}
