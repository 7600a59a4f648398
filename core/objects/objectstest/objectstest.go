// Package objectstest is what every objects.Store must do, as tests.
package objectstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/objects"
)

// Run tests a store. Its keys begin with "test/" and a random part.
func Run(t *testing.T, s objects.Store) {
	key := func() string { return "test/" + uuid.NewString() }
	put := func(t *testing.T, key string, data []byte) {
		t.Helper()
		require.NoError(t, s.Put(t.Context(), key, bytes.NewReader(data), int64(len(data)), "image/jpeg"))
	}
	requireIs := func(t *testing.T, key string, want []byte) {
		t.Helper()
		o, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		defer o.Body.Close()
		got, err := io.ReadAll(o.Body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%d bytes, want %d", len(got), len(want))
		require.EqualValues(t, len(want), o.Size)
		require.Equal(t, "image/jpeg", o.Type)
	}
	requireNone := func(t *testing.T, key string) {
		t.Helper()
		_, err := s.Get(t.Context(), key)
		require.ErrorIs(t, err, objects.ErrNotFound)
	}

	t.Run("what is put is there until it is deleted", func(t *testing.T) {
		for _, size := range []int{0, 1, 4096, 1<<20 + 1, 11 << 20} { // the last in several parts
			k, data := key(), noise(size)
			requireNone(t, k)
			put(t, k, data)
			requireIs(t, k, data)
			require.NoError(t, s.Delete(t.Context(), k))
			requireNone(t, k)
			require.NoError(t, s.Delete(t.Context(), k), "twice")
		}
	})
	t.Run("the last one put is there", func(t *testing.T) {
		k := key()
		for i := range 5 {
			data := noise(1000 * (5 - i))
			put(t, k, data)
			requireIs(t, k, data)
		}
	})
	t.Run("a body of another length is refused", func(t *testing.T) {
		for _, size := range []int{0, 1000, 6 << 20} {
			k, old := key(), noise(10)
			for _, by := range []int{-1, 1, 5000} {
				if size+by < 0 {
					continue
				}
				body := noise(size + by)
				requireRefused := func() {
					t.Helper()
					err := s.Put(t.Context(), k, bytes.NewReader(body), int64(size), "image/jpeg")
					require.ErrorIs(t, err, objects.ErrSize, "%d bytes for %d", size+by, size)
				}
				requireRefused()
				requireNone(t, k)
				put(t, k, old)
				requireRefused()
				requireIs(t, k, old)
				require.NoError(t, s.Delete(t.Context(), k))
			}
		}
	})
	t.Run("a body that breaks off leaves what there was", func(t *testing.T) {
		broken := errors.New("broken")
		for _, size := range []int{1000, 6 << 20} {
			k, old := key(), noise(10)
			put(t, k, old)
			err := s.Put(t.Context(), k, io.MultiReader(bytes.NewReader(noise(size/2)), failing{broken}), int64(size), "image/jpeg")
			require.ErrorIs(t, err, broken)
			requireIs(t, k, old)
		}
	})
	t.Run("a context that ends leaves the old one or the new one", func(t *testing.T) {
		k, old, data := key(), noise(10), noise(2000)
		put(t, k, old)
		ctx, cancel := context.WithCancel(t.Context())
		half := &calling{cancel}
		err := s.Put(ctx, k, io.MultiReader(bytes.NewReader(data[:1000]), half, bytes.NewReader(data[1000:])), 2000, "image/jpeg")
		require.ErrorIs(t, err, context.Canceled)
		// Read once: the old one may still give way to the new one, which a
		// server had in full when the context ended.
		o, err := s.Get(t.Context(), k)
		require.NoError(t, err)
		defer o.Body.Close()
		got, err := io.ReadAll(o.Body)
		require.NoError(t, err)
		require.True(t, bytes.Equal(old, got) || bytes.Equal(data, got), "%d bytes", len(got))
		require.EqualValues(t, len(got), o.Size)
		require.Equal(t, "image/jpeg", o.Type)
	})
	t.Run("who gets an object has one or the other, never a part", func(t *testing.T) {
		k := key()
		versions := map[string]bool{}
		var all [][]byte
		for i := range 4 {
			data := bytes.Repeat([]byte{byte('a' + i)}, 50_000*(i+1))
			versions[string(data)], all = true, append(all, data)
		}
		put(t, k, all[0])
		var wg sync.WaitGroup
		for _, data := range all {
			wg.Go(func() {
				for range 10 {
					put(t, k, data)
				}
			})
			wg.Go(func() {
				for range 10 {
					o, err := s.Get(t.Context(), k)
					if !assertNoError(t, err) {
						return
					}
					got, err := io.ReadAll(o.Body)
					o.Body.Close()
					if !assertNoError(t, err) {
						return
					}
					if !versions[string(got)] {
						t.Errorf("%d bytes that were never put", len(got))
					}
				}
			})
		}
		wg.Wait()
	})
	t.Run("keys", func(t *testing.T) {
		long := "test/" + strings.Repeat("a/", 90) + "a"
		for _, k := range []string{key() + ".jpg", key() + "/a-b_c.d/0", long} {
			put(t, k, []byte(k))
			requireIs(t, k, []byte(k))
			require.NoError(t, s.Delete(t.Context(), k))
		}
		put(t, "test/folder/object", []byte("x"))
		requireNone(t, "test/folder")
		requireNone(t, "test/folder/object2")
		for _, k := range []string{"", "/", "/a", "a/", "a//b", "..", "a/../b", "./a", ".a", "a/.b", "A", "a b", "ä", "a\\b", "a\x00", "a?b", strings.Repeat("a", 201)} {
			require.ErrorIs(t, s.Put(t.Context(), k, strings.NewReader("x"), 1, "text/plain"), objects.ErrBadKey, "%q", k)
			_, err := s.Get(t.Context(), k)
			require.ErrorIs(t, err, objects.ErrBadKey, "%q", k)
			require.ErrorIs(t, s.Delete(t.Context(), k), objects.ErrBadKey, "%q", k)
		}
	})
}

func noise(size int) []byte {
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	_, _ = r.Read(data) // never fails
	return data
}

// failing is a body that breaks off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// calling is an empty body that calls something.
type calling struct{ call func() }

func (c *calling) Read([]byte) (int, error) {
	c.call()
	return 0, io.EOF
}

// assertNoError is require.NoError for goroutines.
func assertNoError(t *testing.T, err error) bool {
	if err != nil {
		t.Error(fmt.Errorf("get: %w", err))
	}
	return err == nil
}
