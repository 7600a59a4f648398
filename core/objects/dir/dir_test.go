package dir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/objectstest"
)

func opened(t *testing.T, path string) *Store {
	s, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestStore(t *testing.T) { objectstest.Run(t, opened(t, t.TempDir())) }

// What failed leaves no files, and what was put outlives the process.
func TestFiles(t *testing.T) {
	path := t.TempDir()
	s := opened(t, path)
	require.NoError(t, s.Put(t.Context(), "a/b", strings.NewReader("hello"), 5, "text/plain"))
	require.Error(t, s.Put(t.Context(), "a/c", strings.NewReader("hello"), 6, "text/plain"))
	require.Error(t, s.Put(t.Context(), "a/d", strings.NewReader("hello"), 5, "text/plain\nx"))
	files, err := os.ReadDir(filepath.Join(path, "a"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	o, err := opened(t, path).Get(t.Context(), "a/b")
	require.NoError(t, err)
	require.NoError(t, o.Body.Close())
	require.Equal(t, "text/plain", o.Type)
}

// A Put that was killed leaves a part, which goes with its key.
func TestKilledPut(t *testing.T) {
	for _, folder := range []string{"", "a/"} {
		path := t.TempDir()
		s := opened(t, path)
		require.NoError(t, s.Put(t.Context(), folder+"b", strings.NewReader("hello"), 5, "text/plain"))
		require.NoError(t, s.Put(t.Context(), folder+"bc", strings.NewReader("hello"), 5, "text/plain"))
		require.NoError(t, os.WriteFile(filepath.Join(path, folder, ".put-b-123"), []byte("secret"), 0o600))
		require.NoError(t, s.Delete(t.Context(), folder+"b"))
		files, err := os.ReadDir(filepath.Join(path, folder))
		require.NoError(t, err)
		require.Len(t, files, 1)
		require.Equal(t, "bc", files[0].Name())
		require.NoError(t, s.Delete(t.Context(), "never/was"))
	}
}

// A link that somebody put into the directory leads nowhere.
func TestNothingOutside(t *testing.T) {
	path, outside := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("text/plain\nx"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(path, "out")))
	s := opened(t, path)
	_, err := s.Get(t.Context(), "out/secret")
	require.Error(t, err)
	require.NotErrorIs(t, err, objects.ErrNotFound)
	require.Error(t, s.Put(t.Context(), "out/new", strings.NewReader("x"), 1, "text/plain"))
}
