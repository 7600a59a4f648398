package core

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestSearch(t *testing.T) {
	finds := func(name, q string) bool {
		from, below, err := SearchRange(q)
		require.NoError(t, err, q)
		for _, term := range SearchTerms(name) {
			if bytes.Compare(from, term) <= 0 && bytes.Compare(term, below) < 0 {
				return true
			}
		}
		return false
	}
	for _, q := range []string{"an", "ANA", " ana ", "@ana", "ana-m", "Ana Maria", "maria", "ma", "maria lopez", "lo", "ｌｏ"} {
		require.True(t, finds("Ana Maria_Lopez", q), q)
	}
	for _, q := range []string{"na", "aria", "ana lopez", "mariah", "pez"} {
		require.False(t, finds("Ana Maria_Lopez", q), q)
	}
	require.True(t, finds("山田太郎", "山田"))
	require.Len(t, SearchTerms("go go go"), 3)
	require.Len(t, SearchTerms(strings.Repeat("ab ", 40)), maxTerms)
	require.Empty(t, SearchTerms(""))
	for _, q := range []string{"", "a", " a ", "@", "--", strings.Repeat("x", 65), "\xff\xff"} {
		_, _, err := SearchRange(q)
		require.ErrorIs(t, err, ErrBadQuery, q)
	}
}

func TestPlace(t *testing.T) {
	p := Place{Term: []byte("ana maria"), ID: uuid.New()}
	got, err := ParsePlace(p.Cursor())
	require.NoError(t, err)
	require.Equal(t, p, got)
	got, err = ParsePlace("")
	require.NoError(t, err)
	require.Equal(t, Place{Term: []byte{}}, got)
	for _, s := range []string{"x", "AAAA", "!!", strings.Repeat("A", 200)} {
		_, err = ParsePlace(s)
		require.ErrorIs(t, err, ErrBadCursor, s)
	}
}

func FuzzSearch(f *testing.F) {
	f.Add("Ana Maria")
	f.Fuzz(func(t *testing.T, s string) {
		for _, term := range SearchTerms(s) {
			require.LessOrEqual(t, len(term), maxTerm)
			require.NotEmpty(t, term)
		}
		if from, below, err := SearchRange(s); err == nil {
			require.True(t, utf8.Valid(from))
			require.Negative(t, bytes.Compare(from, below))
		}
	})
}
