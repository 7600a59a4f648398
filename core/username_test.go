package core

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseUsername(t *testing.T) {
	for in, want := range map[string]Username{
		"Ana":          {"Ana", "ana"},
		"ＡＮＡ":          {"ANA", "ana"},
		"  Ana  Lima ": {"Ana Lima", "ana lima"},
		"j.r-r_t 2":    {"j.r-r_t 2", "j.r-r_t 2"},
		"Ольга":        {"Ольга", "ольга"},
		"田中":           {"田中", "田中"},
		"आरती":         {"आरती", "आरती"},
	} {
		got, err := ParseUsername(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, in := range []string{
		"", "a", " a ", "...", "a<b>c", "a\x00b", "a\nb", "a\u202eb", "a\u200bb", "ana@x", "\xff\xfe",
		strings.Repeat("a", 33), strings.Repeat("a ", 9999), "🙂🙂",
	} {
		_, err := ParseUsername(in)
		require.ErrorIs(t, err, ErrBadUsername, "%q", in)
	}
}

func TestParseIDs(t *testing.T) {
	const id = "6f1c2b1e-9a3f-4a77-8f0e-0d6b5f9a1c22"
	u, err := ParseUserID(id)
	require.NoError(t, err)
	require.Equal(t, id, u.String())
	for _, in := range []string{"", "x", "{" + id + "}", "urn:uuid:" + id, strings.ToUpper(id), strings.ReplaceAll(id, "-", "")} {
		_, err := ParseGroupID(in)
		require.Error(t, err, in)
	}
}
