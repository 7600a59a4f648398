package core

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckPicture(t *testing.T) {
	for _, s := range []string{"", "https://example.org/a.png", "https://例え.jp/絵?x=1"} {
		require.NoError(t, CheckPicture(s), s)
	}
	for _, s := range []string{
		"http://example.org/a.png", "javascript:alert(1)", "data:image/png;base64,AA", "//example.org/a", "https://",
		"https://user:secret@example.org/", "file:///etc/passwd", "x", "https://example.org/" + strings.Repeat("a", 2048),
	} {
		require.ErrorIs(t, CheckPicture(s), ErrBadPicture, s)
	}
}

func TestEncodeSettings(t *testing.T) {
	b, err := EncodeSettings(nil)
	require.NoError(t, err)
	require.Equal(t, "{}", string(b))
	b, err = EncodeSettings(map[string]any{"theme": "dark", "n": 1.0})
	require.NoError(t, err)
	require.JSONEq(t, `{"theme":"dark","n":1}`, string(b))
	_, err = EncodeSettings(map[string]any{"x": strings.Repeat("a", maxSettings)})
	require.ErrorIs(t, err, ErrBadSettings)
}

func TestCleanText(t *testing.T) {
	got, ok := CleanText("  Friday crew ", 1, 80, false)
	require.True(t, ok)
	require.Equal(t, "Friday crew", got)
	_, ok = CleanText("two\nlines", 1, 80, true)
	require.True(t, ok)
	for _, bad := range []string{"", "  ", "two\nlines", "bell\a", "\xff", "nul\x00", strings.Repeat("é", 81)} {
		_, ok := CleanText(bad, 1, 80, false)
		require.False(t, ok, "%q", bad)
	}
}
